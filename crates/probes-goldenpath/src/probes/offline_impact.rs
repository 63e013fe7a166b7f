//! Asks what users lose. Good: every session is established and every agent run answers.
//!
//! **How.** Opens `sessions` sessions one after the other (login, WebSocket, greeting) and closes them.
//! If no message has been sent in this run, the last session sends it, as
//! `goldenpath.login-to-response` does; otherwise that probe's run counts. What the other probes of
//! this run have seen of sessions, agent runs and health answers is counted in: the window is the
//! run.
//!
//! **Measures** `session_establishment`, `agent_success` and, where `goldenpath.availability` ran,
//! `availability`, each as a share with the number it is a share of. With `[business] arr_usd`, and
//! never without it, `at_risk` in dollars an hour: revenue an hour x share at risk x the share of
//! users that got no answer. It is `assumed`: the assumptions stand beside it, and staging stands for
//! production.
//!
//! **Verdicts.** *Fail*: no session was established, or no agent run answered. *Degraded*: some were
//! not. *Pass*: all were. *Skip (no credentials)*: names the keys to set.
//!
//! **Draws** one HTTP connection and one WebSocket.
//!
//! **Configuration**: see [`OfflineImpactConfig`], `[goldenpath]` and `[business]`.
//!
//! **Cannot tell** how many deployments succeed: that is no matter of requests. The start-ups that the
//! run's diagnosis has put together are counted beside these figures in the impact section
//! (`--business-impact-analysis`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::resource;
use shakedown_core::units::Provenance;
use shakedown_core::{
    Category, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Span,
    async_trait,
};

use super::login_to_response::ask;
use crate::causes::GOLDEN_PATH_OFFLINE;
use crate::section::{Business, UserPath};
use crate::user::{self, uninterrupted};
use crate::window::{Count, Seen, Window};

/// See the module.
#[derive(Debug)]
pub struct OfflineImpact(OfflineImpactConfig);

/// `[probes."goldenpath.offline-impact"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OfflineImpactConfig {
    /// How many sessions are tried. Default 3: enough to tell "none" from "some".
    pub sessions: u32,
    /// The time between two of them. Default 2 s.
    pub pause: Span,
}

impl Default for OfflineImpactConfig {
    fn default() -> Self {
        Self { sessions: 3, pause: Span::secs(2) }
    }
}

impl ProbeSpec for OfflineImpact {
    type Config = OfflineImpactConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::E2e,
        markers: &["staging", "issue_1278"],
        draws: &[Draw::new(resource::HTTP_CONNECTION, 1), Draw::new(resource::WEBSOCKET, 1)],
        expected: Duration::from_secs(20),
        timeout: Duration::from_secs(300),
        aliases: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_500k_arr_pipeline_offline_validation",
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_pipeline_failure_business_impact_measurement",
            "tests/e2e/test_smd_phase3_timeout_staging_gcp.py::TestSMDPhase3TimeoutStagingGCP::test_business_impact_measurement_integration",
        ],
        leaves: Some(
            "the same one message, when goldenpath.login-to-response has not sent it in this run",
        ),
        ..ProbeMeta::new(
            "goldenpath.offline-impact",
            RunPhase::Impact,
            "every session is established and every agent run answers: no user loses anything",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(OfflineImpact);

#[async_trait]
impl Probe for OfflineImpact {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let path: UserPath = ctx.section()?;
        let business: Business = ctx.section()?;
        let ready =
            user::places(ctx, &path).and_then(|places| Ok((places, user::identity(ctx, &path)?)));
        let (places, identity) = match ready {
            Ok(ready) => ready,
            Err(reason) => return Ok(Outcome::skip(reason)),
        };
        let window = Window::of(ctx);
        let mut broken: Option<Finding> = None;
        let sessions = self.0.sessions.max(1);
        let mut steps = Vec::new();
        for session in 1..=sessions {
            if session > 1 {
                ctx.sleep(self.0.pause.get()).await?;
            }
            ctx.progress(format!("session {session} of {sessions}"));
            let opened = user::open(ctx, &path, &places, &identity).await?;
            window.change(|seen| seen.sessions.add(opened.is_ok()));
            match opened {
                Ok(mut opened) => {
                    if session == sessions {
                        // Why none was sent is told by who sent it, or by the configuration.
                        if let Ok(talk) = ask(ctx, &path, &mut opened).await
                            && let Some((stage, fault)) = talk.broken
                        {
                            let words = format!("after {} events", talk.transcript.events.len());
                            let steps = talk.steps;
                            let found = user::Broken { stage, steps, fault, words };
                            broken.get_or_insert(found.finding());
                        }
                    }
                    opened.socket.close().await;
                    uninterrupted(ctx)?;
                }
                Err(found) => {
                    steps = found.steps.clone();
                    broken.get_or_insert(found.finding());
                }
            }
        }
        let seen = window.seen();
        Ok(judge(&seen, broken, path.send_message, &business).steps(steps))
    }
}

fn judge(seen: &Seen, broken: Option<Finding>, sends: bool, business: &Business) -> Outcome {
    let counts = [("sessions", seen.sessions), ("agent runs", seen.agents)];
    let lost = |(_, count): &(&str, Count)| count.tried > 0 && count.good < count.tried;
    let none = |(_, count): &(&str, Count)| count.tried > 0 && count.good == 0;
    let sentence = |(what, count): &(&str, Count)| match count.tried {
        0 => format!("{what}: not tried"),
        _ => format!("{} of {} {what}", count.good, count.tried),
    };
    let summary = counts.iter().map(sentence).collect::<Vec<_>>().join(", ");
    let mut finding = Finding::new(format!("in this run's window worked: {summary}"));
    let mut outcome = if counts.iter().any(none) {
        finding.symptom = Some(GOLDEN_PATH_OFFLINE);
        Outcome::fail(finding)
    } else if counts.iter().any(lost) {
        Outcome::degraded(finding)
    } else {
        Outcome::pass().find(finding)
    };
    if let Some(broken) = broken {
        outcome = outcome.find(broken);
    }
    if !sends {
        let why = "agent runs were not tried: goldenpath.send_message is false";
        outcome = outcome.find(Finding::new(why));
    }
    let shares = [
        ("session_establishment", "sessions", seen.sessions),
        ("agent_success", "agent_runs", seen.agents),
        ("availability", "health_answers", seen.answers),
    ];
    for (name, of, count) in shares {
        if let Some(share) = count.share() {
            outcome = outcome.measure(name, share, "1").measure(of, count.tried.into(), "1");
        }
    }
    at_risk(outcome, seen, business)
}

/// The money, only where somebody has said how much there is.
fn at_risk(outcome: Outcome, seen: &Seen, business: &Business) -> Outcome {
    // A user needs both a session and an answer.
    let shares = [seen.sessions.share(), seen.agents.share()];
    let served: Vec<f64> = shares.into_iter().flatten().collect();
    let Some(arr_usd) = business.arr_usd.filter(|_| !served.is_empty()) else { return outcome };
    if business.hours_per_year <= 0.0 {
        return outcome;
    }
    let lost = 1.0 - served.into_iter().fold(1.0, f64::min);
    let usd_an_hour = arr_usd / business.hours_per_year * business.share_at_risk * lost;
    outcome.number("at_risk", usd_an_hour, "USD/h", Provenance::Assumed, None).find(Finding::new(
        format!(
            "{usd_an_hour:.2} USD an hour at risk, assuming: {arr_usd} USD a year, earned evenly in \
             {} hours, {:.0} % of it through the golden path, {:.0} % of users without an answer as \
             seen here, and that staging stands for production",
            business.hours_per_year,
            business.share_at_risk * 100.0,
            lost * 100.0
        ),
    ))
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    fn seen(sessions: (u32, u32), agents: (u32, u32)) -> Seen {
        let count = |(good, tried)| Count { good, tried };
        Seen { sessions: count(sessions), agents: count(agents), ..Seen::default() }
    }

    fn of(outcome: &Outcome, name: &str) -> Option<f64> {
        outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value)
    }

    #[test]
    fn none_fails_some_degrades_all_pass_and_what_was_not_tried_counts_for_nothing() {
        let verdict = |seen| judge(&seen, None, true, &Business::default()).verdict;
        assert_eq!(verdict(seen((3, 3), (1, 1))), Verdict::Pass);
        assert_eq!(verdict(seen((3, 3), (0, 0))), Verdict::Pass);
        assert_eq!(verdict(seen((2, 3), (1, 1))), Verdict::Degraded);
        assert_eq!(verdict(seen((3, 3), (0, 1))), Verdict::Fail);
        assert_eq!(verdict(seen((0, 3), (0, 0))), Verdict::Fail);
    }

    #[test]
    fn an_amount_needs_a_stated_revenue_and_shows_its_assumptions() {
        let none = seen((0, 3), (0, 0));
        assert_eq!(of(&judge(&none, None, true, &Business::default()), "at_risk"), None);
        let business = Business { arr_usd: Some(876_000.0), ..Business::default() };
        let outcome = judge(&none, None, true, &business);
        assert_eq!(of(&outcome, "at_risk"), Some(100.0));
        let measured = outcome.measurements.iter().find(|m| m.name == "at_risk");
        assert_eq!(measured.map(|m| m.provenance), Some(Provenance::Assumed));
        let told = &outcome.findings.last().unwrap().summary;
        assert!(told.contains("100.00 USD an hour") && told.contains("8760 hours"), "{told}");
        let untried = judge(&seen((0, 0), (0, 0)), None, true, &business);
        assert_eq!(of(&untried, "at_risk"), None, "nothing was seen, nothing is claimed");
    }

    #[test]
    fn half_the_sessions_are_half_the_money() {
        let business =
            Business { arr_usd: Some(876_000.0), share_at_risk: 0.5, ..Business::default() };
        let outcome = judge(&seen((1, 2), (1, 1)), None, true, &business);
        assert_eq!(of(&outcome, "at_risk"), Some(25.0));
        assert_eq!(of(&outcome, "session_establishment"), Some(0.5));
    }
}
