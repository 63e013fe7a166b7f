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
use shakedown_core::budget::Draw;
use shakedown_core::clock;
use shakedown_core::id::resource::{self, DATABASE_CONNECTION};
use shakedown_core::safety::Check;
use shakedown_core::{Fault, ProbeCtx, SafetyCheck, SafetyMeta, SafetySpec, Span, async_trait};
use shakedown_wire::pg::statements::UNLOCK;
use shakedown_wire::pg::{self, PgConnection, PgTarget};
use tokio::sync::Mutex;

use crate::section::CloudSql;
use crate::server::{Group, Limits, Sessions};

mod checks;

use checks::{
    Count, Identity, down, free_slots, maintenance, primary, right_database, right_instance,
    run_lock, usage,
};

/// The advisory lock of a run: "shakedow" in ASCII. One run per database at a time.
pub const RUN_LOCK: i64 = i64::from_be_bytes(*b"shakedow");

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
