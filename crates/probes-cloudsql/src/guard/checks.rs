//! The answers of the guard, from what was read.

use shakedown_core::budget::Usage;
use shakedown_core::clock::Timestamp;
use shakedown_core::id::resource::DATABASE_CONNECTION;
use shakedown_core::safety::Check;
use shakedown_core::{Environment, Fault, ProbeCtx, Span, Tier};
use shakedown_wire::pg::statements::{IDENTITY, LOCK_HOLDER, TRY_LOCK};
use shakedown_wire::pg::{PgConnection, PgTarget};

use super::{CloudSqlGuardConfig, RUN_LOCK};
use crate::section::CloudSql;
use crate::server::{self, Limits, Sessions, column, only};

/// What is held for the whole run: the guard's connection and the monitor's.
const HELD_FOR_THE_RUN: u32 = 2;

/// The answer of a database that could not be asked.
pub(super) fn down(why: &str) -> Check {
    Check::unknown("database", why).limiting(DATABASE_CONNECTION, 1).healthy(false)
}

pub(super) fn usage(ctx: &ProbeCtx) -> Usage {
    let all = ctx.budget().usage();
    let database = all.into_iter().find(|usage| usage.resource == DATABASE_CONNECTION);
    database.unwrap_or(Usage { resource: DATABASE_CONNECTION, in_use: 1, peak: 1, ceiling: 1 })
}

/// One connection for probes beside those that are held for the whole run.
fn one_more(usage: &Usage) -> u32 {
    usage.in_use.max(HELD_FOR_THE_RUN) + 1
}

/// Who and where the server says we are.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    database: String,
    role: String,
    version: i32,
    in_recovery: bool,
}

impl Identity {
    pub(super) async fn read(connection: &mut PgConnection) -> Result<Self, Fault> {
        let rows = connection.query(IDENTITY, &[]).await?;
        let row = only(&rows)?;
        Ok(Self {
            database: column(row, "database")?,
            role: column(row, "role")?,
            version: column(row, "version")?,
            in_recovery: column(row, "in_recovery")?,
        })
    }
}

pub(super) fn right_database(target: &PgTarget, identity: &Identity) -> Check {
    let Identity { database, role, version, .. } = identity;
    if *database == target.database && *role == target.user {
        let (major, minor) = (version / 10_000, version % 10_000);
        let detail = format!("database {database} as role {role}, PostgreSQL {major}.{minor}");
        return Check::ok("right database", detail).healthy(true);
    }
    let why = format!(
        "the server says database {database} and role {role}, the environment {} and {}: a pooler \
         or a wrong address answers",
        target.database, target.user
    );
    Check::refused("right database", why)
}

pub(super) fn primary(usage: &Usage, identity: &Identity) -> Check {
    if !identity.in_recovery {
        return Check::ok("primary server", "not in recovery").healthy(true);
    }
    let why = "the server is in recovery: a standby, or a primary that is coming up";
    Check::unknown("primary server", why)
        .limiting(DATABASE_CONNECTION, one_more(usage))
        .healthy(false)
}

pub(super) async fn run_lock(connection: &mut PgConnection) -> Result<Check, Fault> {
    let rows = connection.query(TRY_LOCK, &[&RUN_LOCK]).await?;
    if column(only(&rows)?, "taken")? {
        return Ok(Check::ok("run lock", "no other run on this database"));
    }
    let rows = connection.query(LOCK_HOLDER, &[&RUN_LOCK]).await?;
    let Some(row) = rows.first() else {
        return Ok(Check::refused("run lock", "another run had it a moment ago: try again"));
    };
    let (pid, application): (i32, String) = (column(row, "pid")?, column(row, "application")?);
    let since: Option<f64> = column(row, "since")?;
    Ok(Check::refused("run lock", lock_holder(pid, &application, since)))
}

fn lock_holder(pid: i32, application: &str, since: Option<f64>) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "seconds of this century")]
    let since = since.and_then(|seconds| Timestamp::from_second(seconds as i64).ok());
    let since = since.map_or_else(
        || "since when is hidden without pg_monitor".to_owned(),
        |since| format!("logged in since {since}"),
    );
    format!(
        "another run holds it: {application} (backend {pid}), {since}. Wait for it to end; a run that \
         was killed loses it as soon as the server notices"
    )
}

pub(super) fn free_slots(
    config: &CloudSqlGuardConfig,
    usage: &Usage,
    limits: &Limits,
    sessions: &Sessions,
) -> Check {
    let name = "free slots";
    let free = limits.usable().saturating_sub(sessions.total());
    let wanted = usage.ceiling.saturating_sub(usage.in_use);
    let by_application = sessions.by(|group| Some(group.application.clone()));
    let detail = format!(
        "{free} of {} ordinary slots are free, we may want {wanted} more and leave {} to others: {}",
        limits.usable(),
        config.spare_connections,
        server::list(&by_application, 5),
    );
    if free >= wanted + config.spare_connections {
        return Check::ok(name, detail).healthy(true);
    }
    let check = if free == 0 {
        Check::unknown(name, format!("none is free, the slots are taken: {detail}"))
    } else {
        Check::ok(name, detail)
    };
    check.limiting(DATABASE_CONNECTION, one_more(usage)).healthy(false)
}

pub(super) fn right_instance(environment: &Environment, section: &CloudSql) -> Check {
    let name = "right instance";
    let Some(database) = &environment.database else {
        return Check::unknown(name, "the environment has no [database]");
    };
    let Some(expected) = section.connection_name(environment) else {
        let why =
            "set environment.project, environment.region and cloudsql.instance to have it checked";
        return Check::unknown(name, why);
    };
    if !database.is_socket() {
        let why = format!(
            "which instance answers at {}:{} needs Google's API",
            database.host, database.port
        );
        return Check::unknown(name, why);
    }
    let folder = database.host.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if folder == expected {
        return Check::ok(name, format!("the socket's folder is {folder}"));
    }
    let why = format!(
        "the socket's folder is {folder}, the environment says {expected}: correct one of them"
    );
    Check::refused(name, why)
}

pub(super) fn maintenance(section: &CloudSql, ctx: &ProbeCtx, now: Timestamp) -> Check {
    let name = "maintenance window";
    let Some(window) = section.maintenance_window else {
        if ctx.environment().identity.tier == Tier::Lab {
            return Check::ok(name, "a lab has none");
        }
        return Check::unknown(name, "not known: set cloudsql.maintenance_window");
    };
    if window.contains(now) {
        let why = format!("we are inside it ({window}): Google may take the instance down now");
        return Check::unknown(name, why).limiting(DATABASE_CONNECTION, one_more(&usage(ctx)));
    }
    Check::ok(name, format!("{window}; the next begins {}", window.next_start(now)))
}

/// Our sessions after a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    /// As the server counts them, without those that were there before us.
    pub(super) counted: u32,
    /// As the budget has them.
    pub(super) in_use: u32,
    /// Of ours, with an open transaction in which nothing happens.
    pub(super) open_transactions: u32,
}

impl Count {
    pub(super) fn is_settled(self) -> bool {
        self.counted <= self.in_use && self.open_transactions == 0
    }

    pub(super) fn checks(self, limit: Span) -> Vec<Check> {
        let Self { counted, in_use, open_transactions } = self;
        let sessions = if counted <= in_use {
            let detail = format!("the server counts {counted}, the budget has {in_use} in use");
            Check::ok("our sessions", detail)
        } else {
            let why = format!(
                "the server counts {counted} sessions of shakedown and the budget has {in_use} in use, \
                 {limit} after the phase: we left some behind, or another run began elsewhere on this \
                 server"
            );
            Check::refused("our sessions", why)
        };
        let transactions = match open_transactions {
            0 => Check::ok("our transactions", "none is left open"),
            open => {
                let why = format!("{open} of our sessions sit idle in a transaction");
                Check::refused("our transactions", why)
            }
        };
        vec![sessions, transactions]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use shakedown_core::clock;
    use shakedown_core::environment::Database;
    use shakedown_core::safety::CheckState;
    use shakedown_wire::pg::Endpoint;

    use super::*;
    use crate::server::Group;

    fn database_usage(in_use: u32) -> Usage {
        Usage { resource: DATABASE_CONNECTION, in_use, peak: in_use, ceiling: 5 }
    }

    fn sessions(count: u32) -> Sessions {
        Sessions(vec![Group {
            application: "web".into(),
            state: Some("idle".into()),
            wait: None,
            hidden: false,
            sessions: count,
        }])
    }

    fn refused(check: &Check) -> bool {
        matches!(check.state, CheckState::Refused { .. })
    }

    #[test]
    fn few_free_slots_limit_and_never_refuse() {
        let config = CloudSqlGuardConfig::default();
        let limits = Limits { max: 50, reserved: 3, database: None, role: None };
        let usage = database_usage(1);
        // Four more of ours and five for others.
        let enough = free_slots(&config, &usage, &limits, &sessions(38));
        assert_eq!((enough.state, enough.limit), (CheckState::Ok, None));
        let few = free_slots(&config, &usage, &limits, &sessions(39));
        assert_eq!(few.limit, Some((DATABASE_CONNECTION, 3)));
        assert_eq!((few.state, few.healthy), (CheckState::Ok, Some(false)));
        let none = free_slots(&config, &usage, &limits, &sessions(47));
        assert_eq!(none.limit, Some((DATABASE_CONNECTION, 3)));
        assert!(matches!(none.state, CheckState::Unknown { .. }), "{none:?}");
        assert_eq!(one_more(&database_usage(4)), 5, "one beyond what is out");
    }

    #[test]
    fn a_database_that_is_down_is_unknown_and_leaves_one_connection() {
        let check = down("the login fails at `startup`: the peer closed the connection");
        assert!(matches!(check.state, CheckState::Unknown { .. }));
        assert_eq!((check.limit, check.healthy), (Some((DATABASE_CONNECTION, 1)), Some(false)));
    }

    fn environment(host: &str) -> Environment {
        let mut environment = Environment::default();
        environment.identity.project = "p".into();
        environment.identity.region = "r".into();
        environment.database = Some(Database { host: host.into(), ..Database::default() });
        environment
    }

    #[test]
    fn the_socket_must_be_the_configured_instances() {
        let section = CloudSql { instance: "i".into(), ..CloudSql::default() };
        let at = |host: &str| right_instance(&environment(host), &section);
        assert_eq!(at("/cloudsql/p:r:i").state, CheckState::Ok);
        assert_eq!(at("/cloudsql/p:r:i/").state, CheckState::Ok);
        assert!(refused(&at("/cloudsql/p:r:other")));
        assert!(refused(&at("/cloudsql/p:r:an-i")));
        assert!(matches!(at("10.0.0.3").state, CheckState::Unknown { .. }));
        let nameless = right_instance(&environment("/cloudsql/p:r:i"), &CloudSql::default());
        assert!(matches!(nameless.state, CheckState::Unknown { .. }));
    }

    #[test]
    fn inside_the_maintenance_window_one_probe_connection_remains() {
        let window = Some("Sunday 06:00-07:00 UTC".parse().expect("valid"));
        let section = CloudSql { maintenance_window: window, ..CloudSql::default() };
        let ctx = ProbeCtx::builder(environment("/cloudsql/p:r:i")).build();
        let at = |text: &str| maintenance(&section, &ctx, text.parse().expect(text));
        assert_eq!(at("2025-09-14T05:00:00Z").state, CheckState::Ok);
        let inside = at("2025-09-14T06:30:00Z");
        assert!(matches!(inside.state, CheckState::Unknown { .. }), "{inside:?}");
        assert_eq!(inside.limit, Some((DATABASE_CONNECTION, 3)));
        let unknown = maintenance(&CloudSql::default(), &ctx, clock::wall());
        assert_eq!(unknown.limit, None);
    }

    #[test]
    fn another_database_than_configured_is_refused() {
        let identity = |database: &str| Identity {
            database: database.into(),
            role: "app".into(),
            version: 150_013,
            in_recovery: false,
        };
        let target = PgTarget {
            endpoint: Endpoint::Unix { path: "/x".into() },
            database: "staging".into(),
            user: "app".into(),
            password: None,
            ssl_mode: Default::default(),
            connect_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_secs(1),
            application_name: PgTarget::APPLICATION.into(),
            read_only: true,
        };
        let right = right_database(&target, &identity("staging"));
        assert_eq!(right.state, CheckState::Ok);
        assert!(right.detail.ends_with("PostgreSQL 15.13"), "{}", right.detail);
        assert!(refused(&right_database(&target, &identity("production"))));
        let standby = Identity { in_recovery: true, ..identity("staging") };
        let check = primary(&database_usage(1), &standby);
        assert!(matches!(check.state, CheckState::Unknown { .. }) && check.limit.is_some());
    }

    #[test]
    fn the_lock_holder_is_named() {
        let text = lock_holder(42, "shakedown/cloudsql.guard/7", Some(1_757_972_252.4));
        assert!(text.contains("shakedown/cloudsql.guard/7 (backend 42)"), "{text}");
        assert!(text.contains("since 2025-09-15T21:37:32Z"), "{text}");
        assert!(lock_holder(42, "x", None).contains("hidden without pg_monitor"));
    }

    #[test]
    fn more_sessions_than_the_budget_has_out_are_refused() {
        let count =
            |counted, in_use, open_transactions| Count { counted, in_use, open_transactions };
        let limit = Span::secs(5);
        assert!(count(2, 2, 0).is_settled() && !count(2, 2, 1).is_settled());
        assert!(count(1, 3, 0).checks(limit).iter().all(|check| !refused(check)));
        assert!(refused(&count(3, 2, 0).checks(limit)[0]));
        assert!(refused(&count(2, 2, 1).checks(limit)[1]));
    }
}
