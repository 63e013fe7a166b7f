//! Asks how long the golden path takes to come back once a fault is over. Good: it was never gone.
//!
//! **How.** Each round, every `every`: does the database let us in (where `[database]` is configured:
//! the infrastructure), does the backend answer its health path, and, where there are credentials, is
//! a session established? When the first round is good the question does not arise. Otherwise
//! rounds go on until `stable` good ones came in a row, or `patience` is over.
//!
//! **Measures.** `recovery_first`: from the end of the fault to the first good round, and
//! `recovery_stable`: to the first of the `stable` good rounds that lasted. The fault is over when the
//! database lets us in again; where it let us in all along, or is not configured, the fault lay
//! elsewhere and its end is the first good health answer. Both figures begin between two rounds and
//! are therefore known to within `every`; a `relapses` count says how often it went bad again.
//! `outage_seen` is from our first look to the first good round: a lower bound of the whole.
//!
//! **Verdicts.** *Skip (not exercised)*: nothing was down. *Degraded*: it was down and came back.
//! *Fail*: it did not within `patience`.
//!
//! **Draws** one HTTP connection, one WebSocket and, where the budget has one, one database
//! connection.
//!
//! **Configuration**: see [`RecoveryConfig`].
//!
//! **Cannot tell** when a fault ended before its first look.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::attempt::RequestKind;
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::id::resource;
use shakedown_core::{
    Category, Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase,
    SkipReason, Span, Step, Subject, async_trait,
};
use shakedown_wire::{http, pg};

use crate::causes::GOLDEN_PATH_OFFLINE;
use crate::section::UserPath;
use crate::user::{self, Identity, Places};
use crate::window::Window;

/// See the module.
#[derive(Debug)]
pub struct Recovery(RecoveryConfig);

/// `[probes."goldenpath.recovery"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RecoveryConfig {
    /// The time from one round to the next. Default 5 s: three connects a round stay well within the
    /// budget's 60 a minute.
    pub every: Span,
    /// How many good rounds in a row count as stable. Default 3.
    pub stable: u32,
    /// How long to wait for it. Default 60 s: a run is not the place to wait for a repair. To time
    /// one, run this probe alone with more patience while it goes on; the strategy expects 5 to 10
    /// minutes.
    pub patience: Span,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self { every: Span::secs(5), stable: 3, patience: Span::secs(60) }
    }
}

impl ProbeSpec for Recovery {
    type Config = RecoveryConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::E2e,
        markers: &["staging", "issue_1278"],
        draws: &[
            Draw::new(resource::HTTP_CONNECTION, 1),
            Draw::new(resource::WEBSOCKET, 1),
            Draw::between(resource::DATABASE_CONNECTION, 0, 1),
        ],
        expected: Duration::from_secs(5),
        timeout: Duration::from_secs(1200),
        aliases: &[
            "tests/e2e/test_issue_1278_golden_path_pipeline_validation.py::TestGoldenPathPipelineValidation::test_golden_path_recovery_after_infrastructure_resolution",
            "tests/e2e/test_smd_phase3_timeout_staging_gcp.py::TestSMDPhase3TimeoutStagingGCP::test_recovery_scenarios_after_timeout_resolution",
        ],
        ..ProbeMeta::new(
            "goldenpath.recovery",
            RunPhase::Impact,
            "the golden path is up, or comes back for good soon after a fault is over",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(Recovery);

/// What one round found.
#[derive(Clone, Debug, Default, PartialEq)]
struct Round {
    /// Since the first, in milliseconds, at its end.
    at_ms: f64,
    /// Whether the database let us in; `None` when it was not asked.
    database: Option<bool>,
    /// Whether the health path answered well.
    health: bool,
    /// Whether a session was established; `None` when it was not tried.
    session: Option<bool>,
    /// What failed, the last step first asked.
    broken: Option<(Step, Fault)>,
}

impl Round {
    fn good(&self) -> bool {
        self.health && self.session != Some(false)
    }
}

/// Who is asked.
struct Targets {
    health: String,
    backend: Subject,
    database: Option<pg::PgTarget>,
    user: Option<(Places, Identity)>,
}

#[async_trait]
impl Probe for Recovery {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let path: UserPath = ctx.section()?;
        let key = "goldenpath.backend_service";
        let backend = match user::service(ctx, &path.backend_service, key) {
            Ok(backend) => backend,
            Err(reason) => return Ok(Outcome::skip(reason)),
        };
        let user = user::places(ctx, &path)
            .and_then(|places| Ok((places, user::identity(ctx, &path)?)))
            .ok();
        let asks_database = ctx.environment().database.is_some() && may_ask_database(ctx);
        let targets = Targets {
            health: format!("{}{}", backend.url.trim_end_matches('/'), backend.health_path),
            backend: Subject::service(path.backend_service.as_str()),
            database: asks_database.then(|| pg::PgTarget::of(ctx)).transpose()?,
            user,
        };
        let since = clock::now();
        let mut rounds: Vec<Round> = Vec::new();
        loop {
            let mut round = look(ctx, &path, &targets).await?;
            round.at_ms = clock::millis(since.elapsed());
            let good = round.good();
            rounds.push(round);
            if rounds.len() == 1 && good {
                let asked = asked(&targets);
                let why = format!("nothing was down at the first look ({asked})");
                return Ok(Outcome::skip(SkipReason::NotExercised(why)));
            }
            let in_a_row = rounds.iter().rev().take_while(|round| round.good()).count();
            if in_a_row >= self.0.stable.max(1) as usize || since.elapsed() > self.0.patience.get()
            {
                return Ok(self.judge(&rounds));
            }
            ctx.progress(format!("round {}, {in_a_row} good in a row", rounds.len()));
            ctx.sleep(self.0.every.get()).await?;
        }
    }
}

/// Embedded without an allotment the budget itself decides.
fn may_ask_database(ctx: &ProbeCtx) -> bool {
    let usage = ctx.budget().usage();
    let room = usage.iter().any(|usage| usage.resource == resource::DATABASE_CONNECTION);
    let allotted = ctx.drawn(&resource::HTTP_CONNECTION) > 0;
    room && (!allotted || ctx.drawn(&resource::DATABASE_CONNECTION) > 0)
}

fn asked(targets: &Targets) -> String {
    let database = targets.database.as_ref().map(|_| "database");
    let session = targets.user.as_ref().map(|_| "session");
    let asked = [database, Some("health"), session];
    asked.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

async fn look(ctx: &ProbeCtx, path: &UserPath, targets: &Targets) -> Result<Round, ProbeError> {
    let mut round = Round::default();
    if let Some(database) = &targets.database {
        let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
        let climb = pg::connect(ctx, lease, database).await.uninterrupted()?;
        round.database = Some(climb.result.is_ok());
        if let Ok(connection) = climb.result {
            connection.close().await;
        }
    }
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await?;
    let climb = http::get(ctx, lease, &targets.health, &[]).await.uninterrupted()?;
    let step = climb.steps.last().cloned();
    let fault = match climb.result {
        Ok(response) => {
            let (kind, status) = (RequestKind::Health, response.status);
            user::observe_answer(ctx, &targets.backend, kind, &targets.health, status);
            (!response.is_success()).then_some(Fault::Http { status })
        }
        Err(fault) => Some(fault),
    };
    round.health = fault.is_none();
    round.broken = step.zip(fault);
    if let Some((places, identity)) = targets.user.as_ref().filter(|_| round.health) {
        match user::open(ctx, path, places, identity).await? {
            Ok(session) => {
                session.socket.close().await;
                round.session = Some(true);
            }
            Err(broken) => {
                round.session = Some(false);
                round.broken = broken.steps.last().cloned().map(|step| (step, broken.fault));
            }
        }
        Window::of(ctx).change(|seen| seen.sessions.add(round.session == Some(true)));
    }
    Ok(round)
}

/// When the fault was over, and by what that is told.
fn fault_end(rounds: &[Round]) -> Option<(f64, &'static str)> {
    let after = |index: Option<usize>| index.map(|index| rounds[index].at_ms);
    if rounds.first().is_some_and(|round| round.database == Some(false)) {
        let again = rounds.iter().position(|round| round.database == Some(true));
        return after(again).map(|at| (at, "the database let us in again"));
    }
    let again = rounds.iter().position(|round| round.health);
    after(again).map(|at| (at, "the health path answered again"))
}

impl Recovery {
    fn judge(&self, rounds: &[Round]) -> Outcome {
        let stable = self.0.stable.max(1) as usize;
        let first = rounds.iter().find(|round| round.good()).map(|round| round.at_ms);
        let tail = rounds.iter().rev().take_while(|round| round.good()).count();
        let settled = (tail >= stable).then(|| rounds[rounds.len() - tail].at_ms);
        let relapses = rounds.windows(2).filter(|pair| pair[0].good() && !pair[1].good()).count();
        let looked_ms = rounds.last().map_or(0.0, |round| round.at_ms);
        let end = fault_end(rounds);
        let mut outcome = match settled {
            Some(at) => Outcome::degraded(Finding::new(format!(
                "the golden path was down at our first look and is back for good: {tail} good \
                 rounds in a row from {at:.0} ms on"
            ))),
            None => {
                let what =
                    format!("the golden path did not come back for good within {looked_ms:.0} ms");
                let broken = rounds.iter().rev().find_map(|round| round.broken.clone());
                let mut finding = match broken {
                    Some((step, fault)) => Finding::at(&Step { fault: Some(fault), ..step }, what),
                    None => Finding::new(what),
                };
                finding.symptom = Some(GOLDEN_PATH_OFFLINE);
                Outcome::fail(
                    finding.next("what is broken now is what goldenpath.login-to-response says"),
                )
            }
        };
        outcome = match end {
            Some((at, why)) => outcome.find(Finding::new(format!(
                "the fault was over after {at:.0} ms, as told by: {why} (to within {})",
                self.0.every
            ))),
            None => outcome.find(Finding::new("the end of the fault was not seen")),
        };
        if let Some(first) = first {
            outcome = outcome.measure("outage_seen", first, "ms");
        }
        if let Some((end, _)) = end {
            let since_end = |at: f64| (at - end).max(0.0);
            if let Some(first) = first {
                outcome = outcome.measure("recovery_first", since_end(first), "ms");
            }
            if let Some(settled) = settled {
                outcome = outcome.measure("recovery_stable", since_end(settled), "ms");
            }
        }
        outcome.measure("relapses", relapses as f64, "1").measure(
            "rounds",
            rounds.len() as f64,
            "1",
        )
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    /// `d` database, `h` health, `s` session; a capital letter is good.
    fn rounds(said: &[&str]) -> Vec<Round> {
        let round = |(index, letters): (usize, &&str)| Round {
            at_ms: index as f64 * 1000.0,
            database: letters.chars().find(|c| "dD".contains(*c)).map(|c| c == 'D'),
            health: letters.contains('H'),
            session: letters.chars().find(|c| "sS".contains(*c)).map(|c| c == 'S'),
            broken: None,
        };
        said.iter().enumerate().map(round).collect()
    }

    fn judge(said: &[&str]) -> Outcome {
        Recovery::from_config(RecoveryConfig::default()).judge(&rounds(said))
    }

    fn of(outcome: &Outcome, name: &str) -> Option<f64> {
        outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value)
    }

    #[test]
    fn recovery_counts_from_the_end_of_the_fault() {
        let outcome = judge(&["dh", "dh", "Dh", "DHs", "DHS", "DHS", "DHS"]);
        assert_eq!(outcome.verdict, Verdict::Degraded);
        assert_eq!(of(&outcome, "recovery_first"), Some(2000.0));
        assert_eq!(of(&outcome, "recovery_stable"), Some(2000.0));
        assert_eq!(of(&outcome, "outage_seen"), Some(4000.0));
    }

    #[test]
    fn a_relapse_separates_first_from_stable() {
        let outcome = judge(&["dh", "DHS", "Dh", "DHS", "DHS", "DHS"]);
        assert_eq!(of(&outcome, "recovery_first"), Some(0.0));
        assert_eq!(of(&outcome, "recovery_stable"), Some(2000.0));
        assert_eq!(of(&outcome, "relapses"), Some(1.0));
    }

    #[test]
    fn a_database_that_was_up_all_along_ends_no_fault() {
        let outcome = judge(&["Dh", "Dh", "DHs", "DHS", "DHS", "DHS"]);
        assert_eq!(of(&outcome, "recovery_first"), Some(1000.0), "from the health path's return");
    }

    #[test]
    fn what_does_not_come_back_fails_and_claims_no_recovery() {
        let outcome = judge(&["dh", "dh", "dh"]);
        assert_eq!(outcome.verdict, Verdict::Fail);
        assert_eq!(outcome.findings[0].symptom, Some(GOLDEN_PATH_OFFLINE));
        assert_eq!(of(&outcome, "recovery_first"), None);
    }
}
