//! The monitor `cloudsql.instance`: what the server is doing, asked of the server itself.
//!
//! One connection is opened at the first sample and kept, so that it still sees when logins are
//! refused. When it breaks it is given up, and the next sample opens another. What only Google's
//! API knows is reported as unavailable with that reason, never filled in.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::Draw;
use shakedown_core::environment::Database;
use shakedown_core::id::{Metric, resource};
use shakedown_core::monitor::{MetricMeta, Reading};
use shakedown_core::{
    Fault, Monitor, MonitorError, MonitorMeta, MonitorSpec, ProbeCtx, Sample, async_trait,
};
use shakedown_wire::pg::statements::{LOCKS, LONGEST_RUNNING, PING};
use shakedown_wire::pg::{self, Logins, PgConnection, PgTarget};
use tokio::sync::Mutex;

use crate::pool_use;
use crate::section::CloudSql;
use crate::server::{self, Group, Sessions, column, only};

/// Client sessions in any state; ours are among them.
pub const ACTIVE_CONNECTIONS: Metric = Metric::new("cloudsql.active_connections");
/// The application's sessions over what its pools may hold together.
pub const POOL_UTILIZATION: Metric = Metric::new("cloudsql.connection_pool_utilization");
/// An application's busy sessions over all it has, where those fill a pool.
pub const POOL_BUSY: Metric = Metric::new(crate::classify::POOL_BUSY);
/// Round trip of a constant.
pub const QUERY_LATENCY: Metric = Metric::new("cloudsql.query_latency");
/// Share of the run's own logins that failed.
pub const CONNECTION_ERRORS: Metric = Metric::new("cloudsql.connection_errors");
/// CPU of the instance.
pub const RESOURCE_UTILIZATION: Metric = Metric::new("cloudsql.resource_utilization");
/// Sessions that wait for a lock.
pub const LOCK_CONTENTION: Metric = Metric::new(crate::classify::LOCK_CONTENTION);
/// Client sessions by state.
pub const SESSIONS_BY_STATE: Metric = Metric::new("cloudsql.sessions_by_state");
/// Client sessions by application.
pub const SESSIONS_BY_APPLICATION: Metric = Metric::new("cloudsql.sessions_by_application");
/// Client sessions that wait, by what for.
pub const WAITS: Metric = Metric::new("cloudsql.waits");
/// Age of the longest running statement.
pub const LONGEST_QUERY: Metric = Metric::new("cloudsql.longest_query");
/// Age of the longest open transaction.
pub const LONGEST_TRANSACTION: Metric = Metric::new("cloudsql.longest_transaction");

/// Why there is never a value of it.
const NO_UTILIZATION: &str = "CPU and memory need Google's API";

const CONNECTIONS: &str = "connections";
pub(crate) const RATIO: &str = "1";

const fn metric(
    id: &'static str,
    strategy_name: Option<&'static str>,
    unit: &'static str,
    definition: &'static str,
) -> MetricMeta {
    MetricMeta { id, strategy_name, definition, unit, no_source: None }
}

const fn without_source(metric: MetricMeta, why: &'static str) -> MetricMeta {
    MetricMeta { no_source: Some(why), ..metric }
}

/// The monitor `cloudsql.instance`; see the module.
#[derive(Debug)]
pub struct Instance {
    config: InstanceConfig,
    connection: Mutex<Option<PgConnection>>,
}

/// `[monitors."cloudsql.instance"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct InstanceConfig {
    /// The `application_name`s the application's sessions have. Default none: then every session
    /// that is not of shakedown counts as the application's.
    pub application_names: Vec<String>,
    /// How many applications are reported one by one; the rest is summed up as `(others)`.
    /// Default 20.
    pub applications: usize,
}

impl Default for InstanceConfig {
    fn default() -> Self {
        Self { application_names: Vec::new(), applications: 20 }
    }
}

impl MonitorSpec for Instance {
    type Config = InstanceConfig;

    const META: MonitorMeta = MonitorMeta {
        id: "cloudsql.instance",
        summary: "sessions, waits, locks and the longest query of the database, asked of itself",
        draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
        metrics: &[
            metric(
                "cloudsql.active_connections",
                Some("active_connections"),
                CONNECTIONS,
                "client sessions of the instance in any state, ours included, from pg_stat_activity",
            ),
            metric(
                "cloudsql.connection_pool_utilization",
                Some("connection_pool_utilization"),
                RATIO,
                "sessions of the application (configured names, else all that are not ours) over \
                 database.pool_limit x cloudsql.application_instances; only where both were stated",
            ),
            metric(
                crate::classify::POOL_BUSY,
                None,
                RATIO,
                "sessions of an application that are not idle over all it has open, of applications that \
                 have as many open as one pool may hold (database.pool_limit, where it was stated)",
            ),
            metric(
                "cloudsql.query_latency",
                Some("query_latency"),
                "ms",
                "round trip of a constant over the kept connection: network and server, no data",
            ),
            metric(
                "cloudsql.connection_errors",
                Some("connection_errors"),
                RATIO,
                "share of the run's own last 20 logins that failed, from 20 on; PostgreSQL keeps no \
                 count of others' (Cloud SQL's connection_attempt_count needs Google's API)",
            ),
            without_source(
                metric(
                    "cloudsql.resource_utilization",
                    Some("resource_utilization"),
                    RATIO,
                    "CPU utilisation of the instance",
                ),
                NO_UTILIZATION,
            ),
            metric(
                crate::classify::LOCK_CONTENTION,
                Some("lock_contention"),
                "sessions",
                "sessions that wait for a lock that another holds, from pg_locks",
            ),
            metric(
                "cloudsql.sessions_by_state",
                None,
                CONNECTIONS,
                "client sessions of the instance by state, from pg_stat_activity",
            ),
            metric(
                "cloudsql.sessions_by_application",
                None,
                CONNECTIONS,
                "client sessions of the instance by application_name, ours together as `shakedown`, from \
                 pg_stat_activity",
            ),
            metric(
                "cloudsql.waits",
                None,
                "sessions",
                "client sessions by the type of event they wait for, from pg_stat_activity; `Client` \
                 waits for us or the application to go on",
            ),
            metric(
                "cloudsql.longest_query",
                None,
                "s",
                "age of the longest running statement of the other sessions, 0 when none runs",
            ),
            metric(
                "cloudsql.longest_transaction",
                None,
                "s",
                "age of the longest open transaction of the other sessions, 0 when none is open",
            ),
        ],
        period: Duration::ZERO,
        delay: Duration::ZERO,
    };

    fn from_config(config: Self::Config) -> Self {
        Self { config, connection: Mutex::new(None) }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_monitor!(Instance);

#[async_trait]
impl Monitor for Instance {
    fn meta(&self) -> &'static MonitorMeta {
        &Self::META
    }

    async fn sample(&self, ctx: &ProbeCtx) -> Result<Vec<Sample>, MonitorError> {
        let asked = self.ask(ctx).await;
        // After the monitor's own login, which counts.
        let errors = connection_errors(Logins::of(ctx).failed_of());
        let mut samples = match asked {
            Ok(samples) => samples,
            // That logins fail is known best when the monitor's does.
            Err(error) if matches!(errors.value, Reading::Value(_)) => {
                let rest = Self::META.metrics.iter().filter(|m| m.id != CONNECTION_ERRORS.as_str());
                let why = |metric: &MetricMeta| {
                    Sample::unavailable(Metric::new(metric.id), metric.unit, &*error.what)
                };
                rest.map(why).collect()
            }
            Err(error) => return Err(error),
        };
        samples.push(errors);
        Ok(samples)
    }

    async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            connection.close().await;
        }
    }
}

impl Instance {
    /// Everything that is asked of the database itself.
    async fn ask(&self, ctx: &ProbeCtx) -> Result<Vec<Sample>, MonitorError> {
        let mut kept = self.connection.lock().await;
        // Taken out: a sample that is dropped or fails half-way leaves no broken session behind.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => connect(ctx).await?,
        };
        match read(&mut connection).await {
            Ok(seen) => {
                *kept = Some(connection);
                let section =
                    ctx.section::<CloudSql>().map_err(|error| failed("[cloudsql]", error))?;
                let database = ctx.environment().database.clone().unwrap_or_default();
                Ok(samples(&self.config, &seen, &section, &database))
            }
            Err(fault) => {
                connection.close().await;
                Err(failed("the kept connection broke", fault))
            }
        }
    }
}

/// Of fewer than are remembered one mishap would be more than the 5 % somebody waits for.
fn connection_errors((failed, of): (usize, usize)) -> Sample {
    if of < Logins::REMEMBERED {
        let why = format!(
            "{of} logins of this run so far, {failed} of them failed; a share takes {}",
            Logins::REMEMBERED
        );
        return Sample::unavailable(CONNECTION_ERRORS, RATIO, why);
    }
    Sample::measured(CONNECTION_ERRORS, failed as f64 / of as f64, RATIO)
}

fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> MonitorError {
    MonitorError { what: format!("{what}: {error}"), source: Some(Box::new(error)) }
}

async fn connect(ctx: &ProbeCtx) -> Result<PgConnection, MonitorError> {
    let target = PgTarget::of(ctx).map_err(|error| failed("[database]", error))?;
    let lease = ctx.lease(&resource::DATABASE_CONNECTION).await;
    let lease = lease.map_err(|error| failed("no connection left in the budget", error))?;
    let climb = pg::connect(ctx, lease, &target.named(Instance::META.id)).await;
    let rung = climb.failed_step().map_or("connect", |step| step.rung.as_str()).to_owned();
    climb.result.map_err(|fault| failed(&format!("the login failed at `{rung}`"), fault))
}

/// What one sample reads.
#[derive(Clone, Debug)]
struct Seen {
    latency_ms: f64,
    sessions: Sessions,
    waiting_for_locks: i64,
    /// `None` when nothing runs.
    longest_query_s: Option<f64>,
    /// `None` when none is open.
    longest_transaction_s: Option<f64>,
    /// Sessions whose times are hidden.
    hidden_times: i64,
}

async fn read(connection: &mut PgConnection) -> Result<Seen, Fault> {
    let (ping, answer) = connection.timed(PING, &[]).await;
    answer?;
    let sessions = Sessions::read(connection).await?;
    let locks = connection.query(LOCKS, &[]).await?;
    let longest = connection.query(LONGEST_RUNNING, &[]).await?;
    let longest = only(&longest)?;
    Ok(Seen {
        latency_ms: ping.elapsed_ms,
        sessions,
        waiting_for_locks: column(only(&locks)?, "waiting_sessions")?,
        longest_query_s: column(longest, "query_s")?,
        longest_transaction_s: column(longest, "transaction_s")?,
        hidden_times: column(longest, "hidden")?,
    })
}

fn samples(
    config: &InstanceConfig,
    seen: &Seen,
    section: &CloudSql,
    database: &Database,
) -> Vec<Sample> {
    let sessions = &seen.sessions;
    let mut samples = vec![
        Sample::measured(ACTIVE_CONNECTIONS, sessions.total().into(), CONNECTIONS),
        pool_use::utilization(&config.application_names, sessions, section, database),
        Sample::measured(QUERY_LATENCY, seen.latency_ms, "ms"),
        Sample::unavailable(RESOURCE_UTILIZATION, RATIO, NO_UTILIZATION),
        Sample::measured(LOCK_CONTENTION, seen.waiting_for_locks as f64, "sessions"),
    ];
    samples.extend(pool_use::busy(sessions, database));
    samples.extend(by_application(config, sessions));
    samples.extend(by_state_and_wait(sessions));
    samples.extend(longest(seen));
    samples
}

fn by_application(config: &InstanceConfig, sessions: &Sessions) -> Vec<Sample> {
    let name = |group: &Group| {
        // One series for all of ours: their names hold process ids.
        let ours = group.is_shakedown().then(|| PgTarget::APPLICATION.to_owned());
        Some(ours.unwrap_or_else(|| group.application.clone()))
    };
    let mut counts = sessions.by(name);
    let rest: u32 = counts.iter().skip(config.applications).map(|(_, sessions)| sessions).sum();
    counts.truncate(config.applications);
    if rest > 0 {
        counts.push(("(others)".into(), rest));
    }
    let sample = |(application, sessions): (String, u32)| {
        Sample::measured(SESSIONS_BY_APPLICATION, sessions.into(), CONNECTIONS)
            .label("application", application)
    };
    counts.into_iter().map(sample).collect()
}

fn by_state_and_wait(sessions: &Sessions) -> Vec<Sample> {
    let hidden = sessions.hidden();
    if hidden > 0 {
        let why = server::hidden_reason(hidden);
        return vec![
            Sample::unavailable(SESSIONS_BY_STATE, CONNECTIONS, why.clone()),
            Sample::unavailable(WAITS, "sessions", why),
        ];
    }
    let states = sessions.by(|group: &Group| group.state.clone()).into_iter();
    let states = states.map(|(state, sessions)| {
        Sample::measured(SESSIONS_BY_STATE, sessions.into(), CONNECTIONS).label("state", state)
    });
    let waits = sessions.by(|group: &Group| group.wait.clone()).into_iter();
    let waits = waits.map(|(wait, sessions)| {
        Sample::measured(WAITS, sessions.into(), "sessions").label("type", wait)
    });
    states.chain(waits).collect()
}

fn longest(seen: &Seen) -> Vec<Sample> {
    let ages =
        [(LONGEST_QUERY, seen.longest_query_s), (LONGEST_TRANSACTION, seen.longest_transaction_s)];
    let sample = |(metric, age): (Metric, Option<f64>)| match u32::try_from(seen.hidden_times) {
        Ok(0) => Sample::measured(metric, age.unwrap_or(0.0), "s"),
        hidden => {
            let why = server::hidden_reason(hidden.unwrap_or(u32::MAX));
            Sample::unavailable(metric, "s", why)
        }
    };
    ages.into_iter().map(sample).collect()
}

#[cfg(test)]
mod tests {
    use shakedown_core::Setting;

    use super::*;

    fn group(application: &str, state: Option<&str>, sessions: u32) -> Group {
        let (application, state) = (application.into(), state.map(Into::into));
        Group { application, hidden: state.is_none(), state, wait: None, sessions }
    }

    fn seen(groups: Vec<Group>) -> Seen {
        Seen {
            latency_ms: 1.5,
            sessions: Sessions(groups),
            waiting_for_locks: 2,
            longest_query_s: Some(4.0),
            longest_transaction_s: None,
            hidden_times: 0,
        }
    }

    fn taken(seen: &Seen, section: &CloudSql, database: &Database) -> Vec<Sample> {
        samples(&InstanceConfig::default(), seen, section, database)
    }

    fn value<'a>(samples: &'a [Sample], metric: &Metric, label: &str) -> &'a Reading {
        let found = samples.iter().find(|sample| {
            sample.metric == *metric && sample.labels.iter().all(|(_, value)| value == label)
        });
        &found.unwrap_or_else(|| panic!("{metric} {label}: {samples:?}")).value
    }

    fn stated() -> (CloudSql, Database) {
        let section = CloudSql { application_instances: Setting::stated(2), ..CloudSql::default() };
        (section, Database { pool_limit: Setting::stated(10), ..Database::default() })
    }

    #[test]
    fn every_metric_is_declared_and_every_declared_metric_is_sampled() {
        let (section, database) = stated();
        let mut busy = seen(vec![group("web", Some("active"), 3)]);
        busy.sessions.0[0].wait = Some("Lock".into());
        let mut sampled = taken(&busy, &section, &database);
        sampled.push(connection_errors((2, Logins::REMEMBERED)));
        for meta in Instance::META.metrics {
            let of = sampled.iter().find(|sample| sample.metric.as_str() == meta.id);
            let sample = of.unwrap_or_else(|| panic!("{} is not sampled", meta.id));
            assert_eq!(sample.unit, meta.unit, "{}", meta.id);
        }
        for sample in &sampled {
            let id = sample.metric.as_str();
            assert!(
                Instance::META.metrics.iter().any(|meta| meta.id == id),
                "{id} is not declared"
            );
        }
    }

    #[test]
    fn a_share_of_failed_logins_takes_enough_of_them() {
        assert_eq!(connection_errors((2, 20)).value, Reading::Value(0.1));
        let Reading::Unavailable(why) = connection_errors((1, 7)).value else { panic!("too few") };
        assert_eq!(why, "7 logins of this run so far, 1 of them failed; a share takes 20");
    }

    #[test]
    fn the_pool_is_measured_against_stated_numbers_only() {
        let groups = vec![group("web", Some("idle"), 9), group("shakedown/x", Some("active"), 2)];
        let (section, database) = stated();
        let sampled = taken(&seen(groups.clone()), &section, &database);
        assert_eq!(*value(&sampled, &POOL_UTILIZATION, ""), Reading::Value(0.45));
        let sampled = taken(&seen(groups), &CloudSql::default(), &database);
        let Reading::Unavailable(why) = value(&sampled, &POOL_UTILIZATION, "") else {
            panic!("{sampled:?}");
        };
        assert!(why.contains("cloudsql.application_instances is only assumed"), "{why}");
    }

    #[test]
    fn what_is_hidden_is_unavailable_not_zero() {
        let (section, database) = stated();
        let mut blind = seen(vec![group("web", None, 9), group("shakedown/x", Some("active"), 1)]);
        blind.hidden_times = 9;
        let sampled = taken(&blind, &section, &database);
        for metric in [POOL_BUSY, SESSIONS_BY_STATE, WAITS, LONGEST_QUERY, LONGEST_TRANSACTION] {
            let Reading::Unavailable(why) = value(&sampled, &metric, "") else {
                panic!("{metric}");
            };
            assert!(why.contains("pg_monitor"), "{why}");
        }
        assert_eq!(*value(&sampled, &ACTIVE_CONNECTIONS, ""), Reading::Value(10.0));
        assert_eq!(*value(&sampled, &SESSIONS_BY_APPLICATION, "web"), Reading::Value(9.0));
        assert_eq!(*value(&sampled, &LOCK_CONTENTION, ""), Reading::Value(2.0));
    }

    #[test]
    fn applications_beyond_the_limit_are_summed_up() {
        let groups = (0..30).map(|n| group(&format!("app{n:02}"), Some("idle"), 2)).collect();
        let sampled = by_application(&InstanceConfig::default(), &Sessions(groups));
        assert_eq!(sampled.len(), 21);
        assert_eq!(*value(&sampled, &SESSIONS_BY_APPLICATION, "(others)"), Reading::Value(20.0));
        let ours = ["shakedown", "shakedown/a", "shakedown/b/7/pool"];
        let ours = ours.map(|name| group(name, Some("idle"), 2)).to_vec();
        let sampled = by_application(&InstanceConfig::default(), &Sessions(ours));
        assert_eq!(*value(&sampled, &SESSIONS_BY_APPLICATION, "shakedown"), Reading::Value(6.0));
    }
}
