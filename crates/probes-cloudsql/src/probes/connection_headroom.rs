//! Asks how many connections the server has to give, and to whom they went. Good: the application's
//! pools fit at their limit, and some slots are free now.
//!
//! **How.** One session reads the live `max_connections` with its source, the reserved slots, the
//! limits of database and role, and counts the client sessions by application and by state. The
//! application's demand (`database.pool_limit` times `cloudsql.application_instances`) is set
//! against what the server really has.
//!
//! **Verdicts.** *Fail*: no ordinary slot is free now; or the stated demand is above the live
//! capacity. *Degraded*: at least `alert_share` of the slots are taken now; or the server's limit is
//! not the configured one, in which case both are named. *Pass*: none of these. A demand with an
//! assumed factor is printed and establishes nothing.
//!
//! **Draws** one database connection. **Needs** `database-session`.
//!
//! **Configuration**: see [`ConnectionHeadroomConfig`].
//!
//! **Cannot tell** the state of other roles' sessions without pg_monitor: it is then reported as
//! unavailable, never as zero. What it shows is one moment.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::environment::Database;
use shakedown_core::id::{capability, resource};
use shakedown_core::{
    Fault, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance,
    RunPhase, Setting, async_trait,
};
use shakedown_wire::pg::statements::SETTING;
use shakedown_wire::pg::{PgConnection, PgTarget};

use crate::causes;
use crate::login;
use crate::section::CloudSql;
use crate::server::{self, Group, Limits, Sessions, column};

/// How many applications and states a sentence names.
const NAMED: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct ConnectionHeadroom(ConnectionHeadroomConfig);

/// `[probes."cloudsql.connection-headroom"]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct ConnectionHeadroomConfig {
    /// From this share of the ordinary slots on (0 to 1) it is worth a look. Default 0.9, the
    /// strategy's alert threshold for pool utilisation.
    pub alert_share: f64,
}

impl Default for ConnectionHeadroomConfig {
    fn default() -> Self {
        Self { alert_share: 0.9 }
    }
}

impl ProbeSpec for ConnectionHeadroom {
    type Config = ConnectionHeadroomConfig;

    const META: ProbeMeta = ProbeMeta {
        markers: &["staging", "issue_1278"],
        needs: &[capability::DATABASE_SESSION],
        draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
        expected: Duration::from_secs(1),
        aliases: &[
            "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_connection_pool_metrics_monitoring",
            "tests/integration/test_issue_1278_cloud_sql_pool_behavior.py::TestCloudSQLPoolBehavior::test_pool_size_optimization_validation",
            "tests/e2e/test_issue_1278_smd_sequence_staging_validation.py::TestSMDSequenceStagingValidation::test_staging_cloud_sql_connection_patterns",
        ],
        ..ProbeMeta::new(
            "cloudsql.connection-headroom",
            RunPhase::Database,
            "the server has slots for every pool of the application at its limit, and some are free",
        )
    };

    fn from_config(config: Self::Config) -> Self {
        Self(config)
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(ConnectionHeadroom);

/// What was read.
#[derive(Clone, Debug)]
struct Seen {
    limits: Limits,
    /// Where `max_connections` comes from, in the server's words.
    source: String,
    sessions: Sessions,
}

#[async_trait]
impl Probe for ConnectionHeadroom {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let section: CloudSql = ctx.section()?;
        let target = PgTarget::of(ctx)?.named(Self::META.id);
        let (mut connection, steps) = match login::open(ctx, &target).await? {
            Ok(opened) => opened,
            Err(outcome) => return Ok(outcome),
        };
        let seen = read(&mut connection).await;
        connection.close().await;
        let seen = match seen {
            Ok(seen) => seen,
            Err(fault) => return login::broken(ctx, "reading the server's limits", fault),
        };
        let database = ctx.environment().database.clone().unwrap_or_default();
        Ok(judge(&self.0, &seen, &section, &database).steps(steps))
    }
}

async fn read(connection: &mut PgConnection) -> Result<Seen, Fault> {
    let limits = Limits::read(connection).await?;
    let rows = connection.query(SETTING, &[&"max_connections"]).await?;
    let source = match rows.first() {
        Some(row) => column(row, "source")?,
        None => "not told".to_owned(),
    };
    Ok(Seen { limits, source, sessions: Sessions::read(connection).await? })
}

fn judge(
    config: &ConnectionHeadroomConfig,
    seen: &Seen,
    section: &CloudSql,
    database: &Database,
) -> Outcome {
    let Seen { limits, source, sessions } = seen;
    let (used, usable) = (sessions.total(), limits.usable());
    let free = usable.saturating_sub(used);
    let ours = sessions.count(Group::is_shakedown);
    let by_application = sessions.by(|group| Some(group.application.clone()));
    let taken = format!(
        "{used} of {usable} ordinary slots are taken ({ours} by us): {}",
        server::list(&by_application, NAMED)
    );

    let mut outcome = Outcome::pass();
    if free == 0 {
        outcome = outcome.failing(full(&taken));
    } else if f64::from(used) >= config.alert_share * f64::from(usable) {
        outcome = outcome.but(full(&taken));
    } else {
        outcome = outcome.find(Finding::new(taken));
    }
    outcome = demand(outcome, limits, section, database);
    outcome = compare(outcome, "max_connections", limits.max, &section.max_connections, source);
    let from = "superuser_reserved_connections and reserved_connections";
    outcome = compare(
        outcome,
        "reserved_connections",
        limits.reserved,
        &section.reserved_connections,
        from,
    );
    outcome = states(outcome, sessions);
    let count = |outcome: Outcome, name: &str, value: u32| {
        outcome.measure(name, f64::from(value), "connections")
    };
    outcome = count(outcome, "max_connections", limits.max);
    outcome = count(outcome, "reserved_connections", limits.reserved);
    outcome = count(outcome, "usable", usable);
    outcome = count(outcome, "used", used);
    outcome = count(outcome, "used_by_us", ours);
    count(outcome, "free", free)
}

fn full(taken: &str) -> Finding {
    Finding::new(taken).suggesting(causes::MAX_CONNECTIONS).next(
        "see whether the application with the most sessions needs them all; idle ones hold slots",
    )
}

/// The application's pools at their limit against what the server has.
fn demand(outcome: Outcome, limits: &Limits, section: &CloudSql, database: &Database) -> Outcome {
    let (pool, instances) = (&database.pool_limit, &section.application_instances);
    let demand = u64::from(pool.value) * u64::from(instances.value);
    let capacity = limits.capacity();
    let arithmetic = format!(
        "{} instances with pools of {} may ask for {demand} of {capacity} connections{}",
        instances.value,
        pool.value,
        own_limits(limits)
    );
    let assumed: Vec<&str> = [
        ("database.pool_limit", pool.is_assumed()),
        ("cloudsql.application_instances", instances.is_assumed()),
    ]
    .into_iter()
    .filter_map(|(key, assumed)| assumed.then_some(key))
    .collect();
    if !assumed.is_empty() {
        let keys = assumed.join(" and ");
        let why = format!("not established, because {keys} is only assumed: {arithmetic}");
        return outcome.find(Finding::new(why).next(format!("state {keys}")));
    }
    let provenance = Provenance::Quoted;
    let baseline = Some(f64::from(capacity));
    let outcome = outcome.number("demand", demand as f64, "connections", provenance, baseline);
    if demand > u64::from(capacity) {
        let finding = Finding::new(arithmetic)
            .suggesting(causes::MAX_CONNECTIONS)
            .next("lower database.pool_limit or the number of instances, or raise max_connections");
        outcome.failing(finding)
    } else {
        outcome.find(Finding::new(arithmetic))
    }
}

fn own_limits(limits: &Limits) -> String {
    let own = [("database", limits.database), ("role", limits.role)];
    own.into_iter()
        .filter_map(|(what, limit)| {
            limit.map(|limit| format!("; the {what} has a limit of {limit}"))
        })
        .collect()
}

/// The live value beside the configured one.
fn compare(
    outcome: Outcome,
    key: &str,
    live: u32,
    configured: &Setting<u32>,
    source: &str,
) -> Outcome {
    if live == configured.value {
        return outcome;
    }
    let word = match &configured.assumed {
        Some(reason) => format!("assumed ({reason})"),
        None => "stated".to_owned(),
    };
    let summary = format!(
        "{key} is {live} on the server (source: {source}) and {} in the environment, {word}",
        configured.value
    );
    outcome.but(Finding::new(summary).next(format!("set cloudsql.{key} = {live}")))
}

fn states(outcome: Outcome, sessions: &Sessions) -> Outcome {
    let hidden = sessions.hidden();
    if hidden > 0 {
        let why = format!("sessions by state: unavailable, {}", server::hidden_reason(hidden));
        return outcome.find(Finding::new(why).next("grant pg_monitor to database.user"));
    }
    let by_state = sessions.by(|group| group.state.clone());
    let outcome = by_state.iter().fold(outcome, |outcome, (state, count)| {
        let name = format!("state_{}", state.replace(|c: char| !c.is_ascii_alphanumeric(), "_"));
        outcome.measure(name.trim_end_matches('_'), f64::from(*count), "connections")
    });
    outcome.find(Finding::new(format!("sessions by state: {}", server::list(&by_state, NAMED))))
}

#[cfg(test)]
mod tests {
    use shakedown_core::Verdict;

    use super::*;

    fn group(application: &str, state: Option<&str>, sessions: u32) -> Group {
        let (application, state) = (application.into(), state.map(Into::into));
        Group { application, hidden: state.is_none(), state, wait: None, sessions }
    }

    fn stated() -> (Seen, CloudSql, Database) {
        let seen = Seen {
            limits: Limits { max: 100, reserved: 3, database: None, role: None },
            source: "configuration file".into(),
            sessions: Sessions(vec![
                group("web", Some("idle"), 10),
                group("web", Some("active"), 2),
                group("shakedown/cloudsql.connection-headroom", Some("active"), 1),
            ]),
        };
        let section = CloudSql {
            max_connections: Setting::stated(100),
            reserved_connections: Setting::stated(3),
            application_instances: Setting::stated(3),
            ..CloudSql::default()
        };
        (seen, section, Database { pool_limit: Setting::stated(25), ..Database::default() })
    }

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut Seen, &mut CloudSql, &mut Database),
        verdict: Verdict,
        says: &str,
    ) -> Outcome {
        let (mut seen, mut section, mut database) = stated();
        change(&mut seen, &mut section, &mut database);
        let outcome = judge(&ConnectionHeadroomConfig::default(), &seen, &section, &database);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
        outcome
    }

    fn of(outcome: &Outcome, name: &str) -> Option<f64> {
        outcome.measurements.iter().find(|m| m.name == name).map(|m| m.value)
    }

    #[test]
    fn slots_by_application_and_state_are_counted() {
        let outcome =
            check(|_, _, _| {}, Verdict::Pass, "13 of 97 ordinary slots are taken (1 by us)");
        assert_eq!((of(&outcome, "free"), of(&outcome, "used")), (Some(84.0), Some(13.0)));
        assert_eq!(
            (of(&outcome, "state_idle"), of(&outcome, "state_active")),
            (Some(10.0), Some(3.0))
        );
    }

    #[test]
    fn taken_slots_alert_and_then_fail() {
        let more = |n: u32| {
            move |seen: &mut Seen, _: &mut CloudSql, _: &mut Database| {
                seen.sessions.0[0].sessions = n;
            }
        };
        check(more(90), Verdict::Degraded, "93 of 97");
        let outcome = check(more(94), Verdict::Fail, "97 of 97");
        assert_eq!(outcome.findings[0].suggests, Some(causes::MAX_CONNECTIONS));
    }

    #[test]
    fn a_limit_other_than_configured_names_both() {
        let says = "max_connections is 400 on the server (source: configuration file) and 100 in the \
                    environment, stated";
        check(|seen, _, _| seen.limits.max = 400, Verdict::Degraded, says);
        let assume = |_: &mut Seen, section: &mut CloudSql, _: &mut Database| {
            section.max_connections = CloudSql::default().max_connections;
        };
        check(assume, Verdict::Degraded, "162 in the environment, assumed");
    }

    #[test]
    fn only_a_stated_demand_is_judged() {
        let many = |_: &mut Seen, section: &mut CloudSql, _: &mut Database| {
            section.application_instances = Setting::stated(4);
        };
        let outcome = check(many, Verdict::Fail, "may ask for 100 of 97");
        assert_eq!(of(&outcome, "demand"), Some(100.0));
        let guess = |_: &mut Seen, section: &mut CloudSql, _: &mut Database| {
            section.application_instances = Setting::assumed(400, "a guess");
        };
        let outcome = check(guess, Verdict::Pass, "not established");
        assert_eq!(of(&outcome, "demand"), None);
        let role =
            |seen: &mut Seen, _: &mut CloudSql, _: &mut Database| seen.limits.role = Some(20);
        check(role, Verdict::Fail, "75 of 20 connections; the role has a limit of 20");
    }

    #[test]
    fn hidden_states_are_unavailable_not_zero() {
        let hide = |seen: &mut Seen, _: &mut CloudSql, _: &mut Database| {
            seen.sessions.0[0] = group("web", None, 10);
        };
        let outcome =
            check(hide, Verdict::Pass, "unavailable, the role may not see the state of 10");
        assert!(outcome.measurements.iter().all(|m| !m.name.starts_with("state_")), "{outcome:?}");
        assert_eq!(of(&outcome, "used"), Some(13.0), "the sessions themselves are visible");
    }
}
