//! The safety check `cloudsql.guard`: may we load this database, and did we leave anything behind?
//!
//! Before the first probe it opens one connection, which it keeps for the whole run, and asks: is it
//! the database and the instance we mean, is nobody else running, are slots free beyond our draw, is
//! maintenance due. A sick target is never refused, since a sick target is what we came for: what
//! cannot be asked because the database is down is unknown, cuts the database budget to one, and
//! gives the connection back so that a probe can use it.
//!
//! After each phase it compares the sessions the server counts of us with what the budget says is
//! out, and looks for transactions of ours that were left open.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::budget::{Draw, Usage};
use shakedown_core::clock::{self, Timestamp};
use shakedown_core::id::resource::{self, DATABASE_CONNECTION};
use shakedown_core::safety::Check;
use shakedown_core::{
    Environment, Fault, ProbeCtx, SafetyCheck, SafetyMeta, SafetySpec, Span, async_trait,
};
use shakedown_wire::pg::statements::{IDENTITY, LOCK_HOLDER, TRY_LOCK, UNLOCK};
use shakedown_wire::pg::{self, PgConnection, PgTarget};
use tokio::sync::Mutex;

use crate::section::CloudSql;
use crate::server::{self, Group, Limits, Sessions, column, only};

/// The advisory lock of a run: "shakedow" in ASCII. One run per database at a time.
pub const RUN_LOCK: i64 = i64::from_be_bytes(*b"shakedow");

/// What is held for the whole run: this check's connection and the monitor's.
const HELD_FOR_THE_RUN: u32 = 2;

/// How often it looks again whether sessions of ours have gone.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The safety check `cloudsql.guard`; see the module.
#[derive(Debug)]
pub struct CloudSqlGuard {
    config: CloudSqlGuardConfig,
    held: Mutex<Option<Held>>,
}

/// What is kept from the gate on.
#[derive(Debug)]
struct Held {
    connection: PgConnection,
    /// Sessions that bear our name and were there before us.
    others: u32,
}

/// `[safety_checks."cloudsql.guard"]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CloudSqlGuardConfig {
    /// How many ordinary slots must stay free for others once our whole budget is drawn. Default 5,
    /// as many as we take ourselves: a choice of ours, no figure is documented.
    pub spare_connections: u32,
    /// How long sessions we closed may stay in `pg_stat_activity` before they count as left behind.
    /// Default 5 s, as `safety.linger`.
    pub settle_limit: Span,
}

impl Default for CloudSqlGuardConfig {
    fn default() -> Self {
        Self { spare_connections: 5, settle_limit: Span::secs(5) }
    }
}

impl SafetySpec for CloudSqlGuard {
    type Config = CloudSqlGuardConfig;

    const META: SafetyMeta = SafetyMeta {
        id: "cloudsql.guard",
        summary: "the right database, one run at a time, slots to spare, nothing left behind",
        draws: &[Draw::new(resource::DATABASE_CONNECTION, 1)],
    };

    fn from_config(config: Self::Config) -> Self {
        Self { config, held: Mutex::new(None) }
    }
}

#[cfg(feature = "register")]
shakedown_core::register_safety_check!(CloudSqlGuard);

#[async_trait]
impl SafetyCheck for CloudSqlGuard {
    fn meta(&self) -> &'static SafetyMeta {
        &Self::META
    }

    async fn gate(&self, ctx: &ProbeCtx) -> Vec<Check> {
        let section = match ctx.section::<CloudSql>() {
            Ok(section) => section,
            Err(error) => return vec![Check::refused("configuration", error.to_string())],
        };
        let mut checks = vec![
            right_instance(ctx.environment(), &section),
            maintenance(&section, ctx, clock::wall()),
            Check::unknown("SQL operations", "whether one is under way needs Google's API"),
        ];
        match self.ask(ctx).await {
            Ok(asked) => checks.extend(asked),
            Err(check) => checks.push(check),
        }
        checks
    }

    async fn stability(&self, ctx: &ProbeCtx) -> Vec<Check> {
        let mut kept = self.held.lock().await;
        let Some(mut held) = kept.take() else {
            let why = "no connection to ask over since the gate, or since it broke";
            return vec![Check::unknown("our sessions", why)];
        };
        match self.settle(ctx, &mut held).await {
            Ok(checks) => {
                *kept = Some(held);
                checks
            }
            Err(fault) => {
                held.connection.close().await;
                let why = format!(
                    "the connection kept since the gate broke, and the run lock went with it: {fault}"
                );
                vec![Check::unknown("our sessions", why).healthy(false)]
            }
        }
    }

    async fn finish(&self, _: &ProbeCtx) {
        if let Some(Held { mut connection, .. }) = self.held.lock().await.take() {
            // The lock goes with the session in any case; this gives it back a little sooner.
            let _ = connection.query(UNLOCK, &[&RUN_LOCK]).await;
            connection.close().await;
        }
    }
}

impl CloudSqlGuard {
    /// Everything that needs the database. `Err` is the one answer of a database that is down.
    async fn ask(&self, ctx: &ProbeCtx) -> Result<Vec<Check>, Check> {
        let target = PgTarget::of(ctx).map_err(|error| down(&error.to_string()))?;
        let target = target.named(&format!("{}/{}", Self::META.id, std::process::id()));
        let lease = ctx.lease(&DATABASE_CONNECTION).await;
        let lease = lease.map_err(|error| down(&error.to_string()))?;
        let climb = pg::connect(ctx, lease, &target).await;
        let rung = climb.failed_step().map_or("connect", |step| step.rung.as_str()).to_owned();
        let mut connection =
            climb.result.map_err(|fault| down(&format!("the login fails at `{rung}`: {fault}")))?;
        match self.questions(ctx, &target, &mut connection).await {
            Ok((checks, others)) => {
                *self.held.lock().await = Some(Held { connection, others });
                Ok(checks)
            }
            Err(fault) => {
                connection.close().await;
                Err(down(&format!("the session broke while it was asked: {fault}")))
            }
        }
    }

    async fn questions(
        &self,
        ctx: &ProbeCtx,
        target: &PgTarget,
        connection: &mut PgConnection,
    ) -> Result<(Vec<Check>, u32), Fault> {
        let usage = usage(ctx);
        let identity = Identity::read(connection).await?;
        let lock = run_lock(connection).await?;
        let limits = Limits::read(connection).await?;
        let sessions = Sessions::read(connection).await?;
        let others = sessions.count(Group::is_shakedown).saturating_sub(usage.in_use);
        let checks = vec![
            right_database(target, &identity),
            primary(&usage, &identity),
            lock,
            free_slots(&self.config, &usage, &limits, &sessions),
        ];
        Ok((checks, others))
    }

    /// Looks until our sessions are as many as the budget says, or time is up.
    async fn settle(&self, ctx: &ProbeCtx, held: &mut Held) -> Result<Vec<Check>, Fault> {
        let since = clock::now();
        loop {
            let sessions = Sessions::read(&mut held.connection).await?;
            let count = Count {
                counted: sessions.count(Group::is_shakedown).saturating_sub(held.others),
                in_use: usage(ctx).in_use,
                open_transactions: sessions
                    .count(|group| group.is_shakedown() && group.is_idle_in_transaction()),
            };
            if count.is_settled() || since.elapsed() > self.config.settle_limit.get() {
                return Ok(count.checks(self.config.settle_limit));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The answer of a database that could not be asked.
fn down(why: &str) -> Check {
    Check::unknown("database", why).limiting(DATABASE_CONNECTION, 1).healthy(false)
}

fn usage(ctx: &ProbeCtx) -> Usage {
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
struct Identity {
    database: String,
    role: String,
    version: i32,
    in_recovery: bool,
}

impl Identity {
    async fn read(connection: &mut PgConnection) -> Result<Self, Fault> {
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

fn right_database(target: &PgTarget, identity: &Identity) -> Check {
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

fn primary(usage: &Usage, identity: &Identity) -> Check {
    if !identity.in_recovery {
        return Check::ok("primary server", "not in recovery").healthy(true);
    }
    let why = "the server is in recovery: a standby, or a primary that is coming up";
    Check::unknown("primary server", why)
        .limiting(DATABASE_CONNECTION, one_more(usage))
        .healthy(false)
}

async fn run_lock(connection: &mut PgConnection) -> Result<Check, Fault> {
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

fn free_slots(
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

fn right_instance(environment: &Environment, section: &CloudSql) -> Check {
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

fn maintenance(section: &CloudSql, ctx: &ProbeCtx, now: Timestamp) -> Check {
    let name = "maintenance window";
    let Some(window) = section.maintenance_window else {
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
struct Count {
    /// As the server counts them, without those that were there before us.
    counted: u32,
    /// As the budget has them.
    in_use: u32,
    /// Of ours, with an open transaction in which nothing happens.
    open_transactions: u32,
}

impl Count {
    fn is_settled(self) -> bool {
        self.counted <= self.in_use && self.open_transactions == 0
    }

    fn checks(self, limit: Span) -> Vec<Check> {
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
    use shakedown_core::environment::Database;
    use shakedown_core::safety::CheckState;

    use super::*;

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
            endpoint: pg::Endpoint::Unix { path: "/x".into() },
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
