//! Asks whether our own sessions are as harmless as we say. Good: they cannot write, end by
//! themselves, and leave nothing behind.
//!
//! **How.** Three sessions, one after the other. The first reads its own limits from the server and
//! what its role may do, and tries to create a table in a transaction that is always rolled back:
//! the server must refuse with SQLSTATE 25006. The second, with a short statement timeout, sleeps
//! at the server until that timeout ends it with 57014. The third waits for the first two to vanish
//! from `pg_stat_activity`.
//!
//! **Verdicts.** *Fail*: the write was done (and undone); a limit is not in force; a statement
//! outlived its timeout; a session stayed behind. *Degraded*: the write was refused for another
//! reason than a read-only session; the timeout fired late; or the role could write if it asked to,
//! since a read-only session is a default and not a fence. *Pass*: none of these.
//!
//! **Draws** one database connection. **Needs** `database-session`.
//!
//! **Configuration**: see [`SessionSafetyConfig`].
//!
//! **Cannot tell** what the role may do in other databases of the instance.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::id::{capability, resource};
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, RunPhase, Span,
    Step, async_trait, clock,
};
use shakedown_wire::pg::statements::{ROLE, SESSIONS_NAMED, SETTING, SLEEP};
use shakedown_wire::pg::{PgConnection, PgTarget, WriteAttempt, write_attempt};

use crate::login;
use crate::server::{column, only};

/// SQLSTATE of a write in a read-only transaction.
const READ_ONLY: &str = "25006";
/// SQLSTATE of a statement that its timeout ended.
const STATEMENT_TIMEOUT: &str = "57014";
/// How long the statement that is to be ended would sleep, as a multiple of the timeout.
const SLEEP_TIMEOUTS: f64 = 10.0;
/// How often it looks whether the earlier sessions are gone.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The limits that must be in force, as settings of the session.
const LIMITS: [&str; 3] =
    ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];

/// See the module.
#[derive(Debug)]
pub struct SessionSafety(SessionSafetyConfig);

/// `[probes."cloudsql.session-safety"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SessionSafetyConfig {
    /// The statement timeout of the session that is to be ended by it. Default 1 s: long enough to
    /// be told from a round trip, short enough not to matter.
    pub statement_timeout: Span,
    /// How late the timeout may fire, way back included. Default 2 s.
    pub late_limit: Span,
    /// How long a session may stay in `pg_stat_activity` after we closed it. Default 5 s, as
    /// `safety.linger`.
    pub gone_limit: Span,
}

impl Default for SessionSafetyConfig {
    fn default() -> Self {
        Self {
            statement_timeout: Span::secs(1),
            late_limit: Span::secs(2),
            gone_limit: Span::secs(5),
        }
    }
}

impl ProbeSpec for SessionSafety {
    type Config = SessionSafetyConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        needs: &[capability::DATABASE_SESSION],
        draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
        expected: Duration::from_secs(3),
        timeout: Duration::from_secs(120),
        ..ProbeMeta::new(
            "cloudsql.session-safety",
            RunPhase::Database,
            "our sessions cannot write, end by themselves, and leave nothing behind",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(SessionSafety);

/// What the role may do by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Role {
    superuser: bool,
    sees_all_sessions: bool,
    creates: bool,
    writable_tables: i64,
}

/// What the first session found.
#[derive(Clone, Debug)]
struct Session {
    /// Name and value in the setting's unit; `None` where the server does not know it.
    settings: Vec<(&'static str, Option<String>)>,
    role: Role,
    write: WriteAttempt,
}

#[async_trait]
impl Probe for SessionSafety {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let target = PgTarget::of(ctx)?.named(Self::META.id);
        let (mut connection, steps) = match login::open(ctx, &target).await? {
            Ok(opened) => opened,
            Err(outcome) => return Ok(outcome),
        };
        let session = inspect(&mut connection).await;
        connection.close().await;
        let session = match session {
            Ok(session) => session,
            Err(fault) => return login::broken(ctx, "inspecting our session", fault),
        };

        ctx.progress("waiting for a statement timeout");
        let statement_timeout = self.0.statement_timeout.get();
        let hasty = PgTarget { statement_timeout, ..target.clone() };
        let (mut connection, _) = match login::open(ctx, &hasty).await? {
            Ok(opened) => opened,
            Err(outcome) => return Ok(outcome),
        };
        let seconds = statement_timeout.as_secs_f64() * SLEEP_TIMEOUTS;
        let (step, _) = connection.timed(SLEEP, &[&seconds]).await;
        connection.close().await;
        login::uninterrupted(ctx)?;

        let (mut connection, _) = match login::open(ctx, &target).await? {
            Ok(opened) => opened,
            Err(outcome) => return Ok(outcome),
        };
        let left = self.wait_until_gone(ctx, &mut connection, &target.application_name).await;
        connection.close().await;
        let outcome = judge(&self.0, &session, &step);
        match left? {
            Ok(gone) => Ok(behind(outcome, gone, self.0.gone_limit).steps(steps)),
            Err(fault) => login::broken(ctx, "counting our sessions", fault),
        }
    }
}

/// Sessions still there, and how long it took until there were none.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gone {
    After(f64),
    Never(i64),
}

impl SessionSafety {
    async fn wait_until_gone(
        &self,
        ctx: &ProbeCtx,
        connection: &mut PgConnection,
        name: &str,
    ) -> Result<Result<Gone, Fault>, ProbeError> {
        let since = clock::now();
        loop {
            let sessions = match named(connection, name).await {
                Ok(sessions) => sessions,
                Err(fault) => return Ok(Err(fault)),
            };
            if sessions == 0 {
                return Ok(Ok(Gone::After(clock::millis(since.elapsed()))));
            }
            if since.elapsed() > self.0.gone_limit.get() {
                return Ok(Ok(Gone::Never(sessions)));
            }
            ctx.sleep(LOOK_EVERY).await?;
        }
    }
}

async fn named(connection: &mut PgConnection, name: &str) -> Result<i64, Fault> {
    let rows = connection.query(SESSIONS_NAMED, &[&name]).await?;
    column(only(&rows)?, "sessions")
}

async fn inspect(connection: &mut PgConnection) -> Result<Session, Fault> {
    let mut settings = Vec::new();
    for name in LIMITS.into_iter().chain(["client_connection_check_interval"]) {
        let rows = connection.query(SETTING, &[&name]).await?;
        let value = rows.first().map(|row| column::<Option<String>>(row, "setting")).transpose()?;
        settings.push((name, value.flatten()));
    }
    let rows = connection.query(ROLE, &[]).await?;
    let row = only(&rows)?;
    let role = Role {
        superuser: column(row, "superuser")?,
        sees_all_sessions: column(row, "sees_all_sessions")?,
        creates: column::<bool>(row, "creates_in_database")? || column(row, "creates_in_public")?,
        writable_tables: column(row, "writable_tables")?,
    };
    Ok(Session { settings, role, write: write_attempt(connection).await? })
}

/// What the first session found, and how the statement that slept in the second one ended.
fn judge(config: &SessionSafetyConfig, session: &Session, slept: &Step) -> Outcome {
    let outcome = write(Outcome::pass(), &session.write);
    let outcome = limits(outcome, &session.settings);
    let outcome = timeout(outcome, config, slept);
    role(outcome, session.role)
}

fn write(outcome: Outcome, write: &WriteAttempt) -> Outcome {
    match write {
        WriteAttempt::Refused { sqlstate } if sqlstate == READ_ONLY => outcome
            .find(Finding::new("a write in our session is refused with 25006: it is read-only")),
        WriteAttempt::Refused { sqlstate } => outcome.but(
            Finding::new(format!(
                "a write in our session is refused with {sqlstate}, not with 25006: the role may \
                 not, but the session is not read-only"
            ))
            .next("a pooler in between may drop start-up options; connect without it"),
        ),
        WriteAttempt::Allowed => outcome.failing(
            Finding::new("our session wrote (a table, rolled back): it is not read-only")
                .next("a pooler in between may drop start-up options; connect without it"),
        ),
    }
}

fn limits(mut outcome: Outcome, settings: &[(&'static str, Option<String>)]) -> Outcome {
    for (name, value) in settings {
        let milliseconds = value.as_deref().and_then(|value| value.parse::<f64>().ok());
        outcome = match milliseconds {
            Some(value) if value > 0.0 => outcome.measure(name, value, "ms"),
            _ if LIMITS.contains(name) => outcome.failing(
                Finding::new(format!("{name} is not in force in our session"))
                    .next("a pooler in between may drop start-up options; connect without it"),
            ),
            _ => outcome.find(Finding::new(format!(
                "{name} is not known to this server: a backend notices a lost client only when it \
                 writes to it"
            ))),
        };
    }
    outcome
}

fn timeout(outcome: Outcome, config: &SessionSafetyConfig, step: &Step) -> Outcome {
    let limit_ms = clock::millis(config.statement_timeout.get());
    let late_ms = step.elapsed_ms - limit_ms;
    match &step.fault {
        Some(Fault::Sql { sqlstate, .. }) if sqlstate == STATEMENT_TIMEOUT => {
            let outcome = outcome.against("statement_ended_after", step.elapsed_ms, "ms", limit_ms);
            if late_ms > clock::millis(config.late_limit.get()) {
                outcome.but(
                    Finding::new(format!(
                        "the statement timeout of {} fired {late_ms:.0} ms late",
                        config.statement_timeout
                    ))
                    .next("compare query_latency: the way back counts too"),
                )
            } else {
                outcome
            }
        }
        Some(fault) => {
            let mut finding = Finding::at(step, "a statement was not ended by its timeout (57014)");
            finding.suggests = login::cause("query", fault);
            outcome.failing(finding)
        }
        None => outcome.failing(Finding::new(format!(
            "a statement ran for {:.0} ms with a statement timeout of {}",
            step.elapsed_ms, config.statement_timeout
        ))),
    }
}

fn role(outcome: Outcome, role: Role) -> Outcome {
    let outcome = outcome.measure("writable_tables", role.writable_tables as f64, "1");
    let mut may = Vec::new();
    if role.superuser {
        may.push("is a superuser".to_owned());
    }
    if role.creates {
        may.push("may create objects".to_owned());
    }
    if role.writable_tables > 0 {
        may.push(format!("may write to {} tables", role.writable_tables));
    }
    let outcome = if may.is_empty() {
        outcome.find(Finding::new("the role could not write if it wanted to"))
    } else {
        outcome.but(
            Finding::new(format!(
                "the role could write if it asked to, it {}: a read-only session is a default, not \
                 a fence",
                may.join(", ")
            ))
            .next("use a role with CONNECT and pg_monitor only"),
        )
    };
    if role.sees_all_sessions {
        return outcome;
    }
    outcome.find(
        Finding::new("the role may not see the state of other roles' sessions")
            .next("grant it pg_monitor; until then those numbers are unavailable"),
    )
}

fn behind(outcome: Outcome, gone: Gone, limit: Span) -> Outcome {
    match gone {
        Gone::After(ms) => outcome.measure("sessions_gone_after", ms, "ms"),
        Gone::Never(sessions) => outcome.failing(
            Finding::new(format!(
                "{sessions} sessions of this probe are still in pg_stat_activity {limit} after they \
                 were closed"
            ))
            .next("a pooler or proxy in between keeps them open; count them in the budget"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    fn harmless() -> (Session, Step) {
        let limits = LIMITS.into_iter().map(|name| (name, Some("1000".to_owned()))).collect();
        let session = Session {
            settings: limits,
            role: Role { sees_all_sessions: true, ..Role::default() },
            write: WriteAttempt::Refused { sqlstate: READ_ONLY.into() },
        };
        (session, ended(1_004.0, STATEMENT_TIMEOUT))
    }

    fn ended(elapsed_ms: f64, sqlstate: &str) -> Step {
        let fault = Fault::Sql { sqlstate: sqlstate.into(), message: "ended".into() };
        Step { elapsed_ms, ..Step::ended("query", clock::wall(), clock::now(), Some(fault)) }
    }

    #[track_caller]
    fn check(change: impl FnOnce(&mut Session, &mut Step), verdict: Verdict, says: &str) {
        let (mut session, mut slept) = harmless();
        change(&mut session, &mut slept);
        let outcome = judge(&SessionSafetyConfig::default(), &session, &slept);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
    }

    #[tokio::test]
    async fn harmless_sessions_pass() {
        check(|_, _| {}, Verdict::Pass, "read-only");
        check(|s, _| s.role.sees_all_sessions = false, Verdict::Pass, "may not see the state");
    }

    #[tokio::test]
    async fn a_write_that_is_done_fails_and_one_refused_otherwise_degrades() {
        check(|s, _| s.write = WriteAttempt::Allowed, Verdict::Fail, "it is not read-only");
        let denied = |s: &mut Session, _: &mut Step| {
            s.write = WriteAttempt::Refused { sqlstate: "42501".into() };
        };
        check(denied, Verdict::Degraded, "refused with 42501");
    }

    #[tokio::test]
    async fn a_role_that_could_write_degrades() {
        check(|s, _| s.role.writable_tables = 4, Verdict::Degraded, "may write to 4 tables");
        check(|s, _| s.role.creates = true, Verdict::Degraded, "may create objects");
    }

    #[tokio::test]
    async fn a_limit_that_is_not_in_force_fails() {
        check(
            |s, _| s.settings[1].1 = Some("0".into()),
            Verdict::Fail,
            "lock_timeout is not in force",
        );
        check(|s, _| s.settings[0].1 = None, Verdict::Fail, "statement_timeout is not in force");
        let old = |s: &mut Session, _: &mut Step| {
            s.settings.push(("client_connection_check_interval", None));
        };
        check(old, Verdict::Pass, "not known to this server");
    }

    #[tokio::test]
    async fn a_statement_must_end_by_its_timeout_and_in_time() {
        check(|_, s| s.elapsed_ms = 3_100.0, Verdict::Degraded, "fired 2100 ms late");
        check(|_, s| s.fault = None, Verdict::Fail, "a statement ran for");
        check(|_, s| *s = ended(10.0, "57P01"), Verdict::Fail, "not ended by its timeout");
    }

    #[tokio::test]
    async fn sessions_left_behind_fail() {
        let (session, slept) = harmless();
        let config = SessionSafetyConfig::default();
        let outcome = judge(&config, &session, &slept);
        let clean = behind(outcome.clone(), Gone::After(12.0), config.gone_limit);
        assert_eq!(clean.verdict, Verdict::Pass);
        let left = behind(outcome, Gone::Never(2), config.gone_limit);
        assert_eq!(left.verdict, Verdict::Fail);
        assert!(left.findings.iter().any(|f| f.summary.contains("2 sessions")), "{left:?}");
    }
}
