//! Asks whether the limits of a start-up can all hold at once. Good: no limit makes another one
//! pointless, and all attempts together end before the platform gives up.
//!
//! **How.** Arithmetic on `[application]` alone; no network is touched and nothing is drawn. A limit
//! that runs inside another one (`inside`) must be the shorter of the two, or it never fires; where
//! it is, the finding says what that means: raising the outer limit changes nothing for a wait in the
//! inner one. Every attempt of `[application.retries]` with its wait is added up and compared with
//! `startup_ceiling`, after which the platform stops the instance. A limit that is longer here than in
//! an environment of `limits_elsewhere` lets a start-up pass here that fails there. Every value is
//! printed with its key and whether an operator stated it or somebody assumed it.
//!
//! **Verdicts.** *Fail*: values that were all stated contradict each other. *Degraded*: they do so
//! only with assumed values. *Pass*: they do not. *Skip*: no limits are configured.
//!
//! **Draws** nothing. **Configuration**: none of its own.
//!
//! **Cannot tell** which limit fires in a real start-up: that is `smd.phase3-timeout`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::{
    Category, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance,
    RunPhase, Setting, SkipReason, Span, async_trait,
};

use crate::application::{Application, Retries};

/// See the module.
#[derive(Debug, Default)]
pub struct TimeoutBudget;

/// `[probes."smd.timeout-budget"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct TimeoutBudgetConfig {}

impl ProbeSpec for TimeoutBudget {
    type Config = TimeoutBudgetConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::Unit,
        markers: &["staging", "issue_1278"],
        expected: Duration::from_millis(1),
        timeout: Duration::from_secs(5),
        aliases: &[
            "tests/integration/test_issue_1278_fastapi_lifespan_behavior.py::TestFastAPILifespanBehavior::test_lifespan_timeout_behavior",
        ],
        ..ProbeMeta::new(
            "smd.timeout-budget",
            RunPhase::Startup,
            "no limit of the start-up makes another one pointless",
        )
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(TimeoutBudget);

#[async_trait]
impl Probe for TimeoutBudget {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        Ok(assess(&ctx.section()?, &ctx.environment().identity.name))
    }
}

/// A limit with the key it stands at.
#[derive(Clone, Debug)]
struct Limit<'a> {
    key: String,
    setting: &'a Setting<Span>,
}

impl Limit<'_> {
    fn seconds(&self) -> f64 {
        self.setting.value.get().as_secs_f64()
    }

    /// Value and source, for people.
    fn said(&self) -> String {
        let Setting { value, assumed } = self.setting;
        match assumed {
            None => format!("{value} ({})", self.key),
            Some(why) => format!("{value} ({}, assumed: {why})", self.key),
        }
    }
}

fn assess(section: &Application, environment: &str) -> Outcome {
    if section.limits.is_empty() {
        let key = "no limits to compare: set [application.limits]".to_owned();
        return Outcome::skip(SkipReason::NotConfigured(key));
    }
    let mut outcome = nested(section, Outcome::pass());
    outcome = against_the_platform(section, outcome);
    outcome = elsewhere(section, environment, outcome);
    for (name, setting) in &section.limits {
        let (value, from) = (setting.value.get().as_secs_f64(), provenance(setting));
        outcome = outcome.number(&format!("limit_{name}"), value, "s", from, None);
    }
    let ceiling = &section.startup_ceiling;
    let seconds = ceiling.value.get().as_secs_f64();
    outcome.number("startup_ceiling", seconds, "s", provenance(ceiling), None)
}

fn limit<'a>(section: &'a Application, name: &str) -> Option<Limit<'a>> {
    let setting = section.limits.get(name)?;
    Some(Limit { key: format!("application.limits.{name}"), setting })
}

fn ceiling(section: &Application) -> Limit<'_> {
    Limit { key: "application.startup_ceiling".into(), setting: &section.startup_ceiling }
}

/// Limits that run inside others.
fn nested(section: &Application, mut outcome: Outcome) -> Outcome {
    for (inner_name, outer_name) in &section.inside {
        let both = limit(section, inner_name).zip(limit(section, outer_name));
        let Some((inner, outer)) = both else { continue };
        let (inner_said, outer_said) = (inner.said(), outer.said());
        if inner.seconds() >= outer.seconds() {
            let summary = format!(
                "`{inner_name}` never fires: {inner_said} runs inside `{outer_name}` of {outer_said}"
            );
            let next = "set the inner limit below the outer one";
            outcome = judge(outcome, Finding::new(summary).next(next), &[&inner, &outer]);
        } else {
            outcome = outcome.find(Finding::new(format!(
                "a wait in `{inner_name}` ends after {inner_said}, not after `{outer_name}` of \
                 {outer_said}: raising `{outer_name}` changes nothing there"
            )));
        }
    }
    outcome
}

/// What the application allows itself, and what the platform allows it.
fn against_the_platform(section: &Application, mut outcome: Outcome) -> Outcome {
    let ceiling = ceiling(section);
    for name in section.limits.keys() {
        let Some(own) = limit(section, name).filter(|own| own.seconds() >= ceiling.seconds())
        else {
            continue;
        };
        let summary = format!(
            "`{name}` never fires: {} is no less than the start-up's {}",
            own.said(),
            ceiling.said()
        );
        let next = "lower the limit, or give the start-up more time";
        outcome = judge(outcome, Finding::new(summary).next(next), &[&own, &ceiling]);
    }
    let Some(retries) = &section.retries else { return outcome };
    let Some(each) = limit(section, &retries.of) else {
        let summary = format!(
            "application.retries repeats `{}`, which application.limits does not have: the attempts \
             cannot be added up",
            retries.of
        );
        return outcome.find(Finding::new(summary));
    };
    let attempts = f64::from(retries.attempts);
    let waits = retries.waits_s();
    let all = attempts.mul_add(each.seconds(), waits);
    let sum = format!(
        "{} attempts of {} and {waits} s of waits are {all} s",
        retries.attempts,
        each.said()
    );
    outcome = outcome.number("all_attempts", all, "s", provenance(each.setting), None);
    if all <= ceiling.seconds() {
        return outcome.find(Finding::new(format!("{sum}, within {}", ceiling.said())));
    }
    let last = last_attempt(retries, each.seconds(), ceiling.seconds());
    let summary = format!(
        "the attempts do not fit: {sum}, and the platform stops the start-up after {}, in attempt \
         {last}",
        ceiling.said()
    );
    let base = Limit { key: "application.retries.base".into(), setting: &retries.base };
    let next = "fewer attempts, shorter ones, or a longer start-up probe: what is after the ceiling \
                never runs";
    judge(outcome, Finding::new(summary).next(next), &[&each, &ceiling, &base])
}

/// The attempt that runs when `ceiling_s` is over, if every attempt takes `each_s`.
fn last_attempt(retries: &Retries, each_s: f64, ceiling_s: f64) -> u32 {
    let begins = |attempt: u32| {
        let before = Retries { attempts: attempt, ..retries.clone() };
        f64::from(attempt - 1).mul_add(each_s, before.waits_s())
    };
    (1..=retries.attempts).rev().find(|attempt| begins(*attempt) < ceiling_s).unwrap_or(1)
}

/// What is longer here than where users are.
fn elsewhere(section: &Application, environment: &str, mut outcome: Outcome) -> Outcome {
    for (other, limits) in &section.limits_elsewhere {
        for (name, setting) in limits {
            let there =
                Limit { key: format!("application.limits_elsewhere.{other}.{name}"), setting };
            let Some(here) = limit(section, name) else { continue };
            if here.seconds() <= there.seconds() {
                continue;
            }
            let summary = format!(
                "`{name}` is longer in {environment} than in {other}: {} and {}; a start-up that \
                 passes here may fail there",
                here.said(),
                there.said()
            );
            outcome = judge(outcome, Finding::new(summary), &[&here, &there]);
        }
    }
    outcome
}

/// Stated values that contradict each other fail, assumed ones only degrade. They decide which limit
/// fires, not that anything is slow: no cause is suggested.
fn judge(outcome: Outcome, finding: Finding, of: &[&Limit<'_>]) -> Outcome {
    if of.iter().any(|limit| limit.setting.is_assumed()) {
        outcome.but(finding)
    } else {
        outcome.failing(finding)
    }
}

/// What an operator stated is his word; nobody measured either.
fn provenance<T>(setting: &Setting<T>) -> Provenance {
    if setting.is_assumed() { Provenance::Assumed } else { Provenance::Quoted }
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    #[track_caller]
    fn check(text: &str, verdict: Verdict, says: &str) {
        let section: Application = toml::from_str(text).expect("a table");
        let outcome = assess(&section, "staging");
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
    }

    const STATED: &str = "startup_ceiling = \"240s\"\n";

    #[test]
    fn limits_that_fit_pass_and_say_which_one_fires() {
        check(
            &format!("{STATED}limits = {{ initialization = \"75s\", table_setup = \"25s\" }}"),
            Verdict::Pass,
            "a wait in `table_setup` ends after 25s (application.limits.table_setup), not after \
             `initialization` of 75s",
        );
    }

    #[test]
    fn an_inner_limit_that_never_fires_fails() {
        let text = "limits = { initialization = \"20s\", table_setup = \"20s\" }";
        check(text, Verdict::Fail, "`table_setup` never fires");
        let guessed = "limits = { initialization = \"20s\", table_setup = { value = \"25s\", assumed = \"a note\" } }";
        check(guessed, Verdict::Degraded, "assumed: a note");
    }

    #[test]
    fn attempts_beyond_the_platforms_patience_name_the_last_one_that_runs() {
        let retries = "retries = { attempts = 5, base = \"2s\", most = \"30s\" }\n";
        let limits = "limits = { initialization = \"75s\" }\n";
        // 75 + 2 + 75 + 4 + 75 = 231 s: the fourth attempt begins at 239 s and is cut.
        check(
            &format!("{STATED}{retries}{limits}"),
            Verdict::Fail,
            "5 attempts of 75s (application.limits.initialization) and 30 s of waits are 405 s, and \
             the platform stops the start-up after 4min (application.startup_ceiling), in attempt 4",
        );
        check(&format!("{retries}{limits}"), Verdict::Degraded, "assumed: the start-up probe");
        let fits = "retries = { attempts = 3, base = \"2s\" }\n";
        check(&format!("{STATED}{fits}{limits}"), Verdict::Pass, "are 231 s, within 4min");
        let other = "retries = { attempts = 3, base = \"2s\", of = \"boot\" }\n";
        check(&format!("{STATED}{other}{limits}"), Verdict::Pass, "cannot be added up");
    }

    #[test]
    fn the_strategys_staging_allows_itself_more_than_its_platform_does() {
        let file = include_str!("../../../../environments/staging-gcp.toml");
        let file: toml::Table = file.parse().expect("TOML");
        let section: Application = file["application"].clone().try_into().expect("a section");
        let outcome = assess(&section, "staging-gcp");
        assert_eq!(outcome.verdict, Verdict::Degraded, "nobody stated these values");
        let text = format!("{:?}", outcome.findings);
        assert!(text.contains("are 405 s, and the platform stops the start-up"), "{text}");
        assert!(text.contains("a wait in `table_setup` ends after 25s"), "{text}");
    }

    #[test]
    fn longer_than_production_is_a_contradiction() {
        let text = "limits = { initialization = \"95s\" }\nlimits_elsewhere = { production = { initialization = \"90s\" } }";
        check(text, Verdict::Fail, "longer in staging than in production");
        let text = "limits = { initialization = \"300s\" }";
        check(text, Verdict::Degraded, "`initialization` never fires: 5min");
    }

    #[test]
    fn nothing_configured_is_skipped_with_the_key() {
        let outcome = assess(&Application::default(), "staging");
        let Verdict::Skip { reason } = outcome.verdict else { panic!("{outcome:?}") };
        assert!(reason.to_string().contains("[application.limits]"), "{reason}");
    }
}
