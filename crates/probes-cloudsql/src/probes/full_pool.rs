//! A pool of ours filled to its limit, and a session beside it that counts.

use std::time::Duration;

use shakedown_core::budget::Draw;
use shakedown_core::id::resource;
use shakedown_core::{Fault, Finding, Outcome, ProbeCtx, ProbeError, Step, clock};
use shakedown_wire::pg::statements::SESSIONS_NAMED;
use shakedown_wire::pg::{PgConnection, PgTarget, Pool, PoolFault, Pooled};

use crate::login;
use crate::server::{column, only};

/// What a probe of a pool draws: two for the pool, one that counts.
pub(crate) const DRAW: u32 = 3;
/// The same as a probe declares it.
pub(crate) const DRAWS: &[Draw] = &[Draw::new(resource::DATABASE_CONNECTION, DRAW)];

/// A pool with all its connections out, and the session that counts them at the server.
#[derive(Debug)]
pub(crate) struct FullPool {
    pub(crate) pool: Pool,
    /// All of the pool's connections.
    pub(crate) held: Vec<Pooled>,
    pub(crate) witness: PgConnection,
    /// The rungs of the witness: the ladder that passed before the pool was opened.
    pub(crate) steps: Vec<Step>,
    /// How long filling took, in milliseconds.
    pub(crate) fill_ms: f64,
}

/// Fills a pool. One of the draw logs in first, rung by rung, and stays to count; the rest is the
/// pool's. It has as many connections as `wanted` (or as `database.pool_limit` when that is `None`)
/// and the draw allow. `Err` inside is the outcome of a pool that cannot be filled.
pub(crate) async fn fill(
    ctx: &ProbeCtx,
    probe: &str,
    wanted: Option<u32>,
    acquire_timeout: Duration,
) -> Result<Result<FullPool, Outcome>, ProbeError> {
    let target = PgTarget::of(ctx)?.named(probe);
    let (mut witness, steps) = match login::open(ctx, &target).await? {
        Ok(opened) => opened,
        Err(outcome) => return Ok(Err(outcome)),
    };
    // The witness's backend makes the name this pool's alone.
    let target = target.named(&format!("{probe}/{}", witness.backend_pid()));
    let size = size(ctx, wanted);
    let mut leases = Vec::new();
    for _ in 0..size {
        leases.push(ctx.lease(&resource::DATABASE_CONNECTION).await?);
    }
    let pool = match Pool::open(ctx, leases, &target, acquire_timeout).await {
        Ok(pool) => pool,
        Err(fault) => {
            witness.close().await;
            return Ok(Err(Outcome::fail(refused(&fault))));
        }
    };
    let since = clock::now();
    let mut held = Vec::new();
    for number in 1..=size {
        ctx.progress(format!("filling the pool: {number} of {size}"));
        match pool.acquire().await {
            Ok(connection) => held.push(connection),
            Err(fault) => {
                let got = held.len();
                drop(held);
                pool.close_seen_by(&mut witness).await;
                let outcome = not_filled(ctx, &target, got, size, &fault).await;
                witness.close().await;
                return outcome.map(Err);
            }
        }
    }
    let fill_ms = clock::millis(since.elapsed());
    Ok(Ok(FullPool { pool, held, witness, steps, fill_ms }))
}

impl FullPool {
    /// How many connections the pool has at most.
    pub(crate) fn size(&self) -> u32 {
        u32::try_from(self.pool.max()).unwrap_or(u32::MAX)
    }

    /// Closes everything; whether the server was seen to have let go of the pool's sessions.
    pub(crate) async fn close(self) -> bool {
        let Self { pool, held, mut witness, .. } = self;
        drop(held);
        let gone = pool.close_seen_by(&mut witness).await;
        witness.close().await;
        gone
    }
}

/// The pool's sessions as the server counts them.
pub(crate) async fn count(witness: &mut PgConnection, pool: &Pool) -> Result<u32, Fault> {
    let rows = witness.query(SESSIONS_NAMED, &[&pool.application_name()]).await?;
    Ok(u32::try_from(column::<i64>(only(&rows)?, "sessions")?).unwrap_or(u32::MAX))
}

fn drawn(ctx: &ProbeCtx) -> u32 {
    match ctx.drawn(&resource::DATABASE_CONNECTION) {
        // Without an allotment (embedded use) what was declared is taken.
        0 => DRAW,
        drawn => drawn,
    }
}

fn size(ctx: &ProbeCtx, wanted: Option<u32>) -> u32 {
    let limit = ctx.environment().database.as_ref().map(|database| database.pool_limit.value);
    let most = drawn(ctx).saturating_sub(1).max(1);
    wanted.or(limit).unwrap_or(most).clamp(1, most)
}

/// What was tested beside what the application has: nothing is extrapolated.
pub(crate) fn tested(ctx: &ProbeCtx, size: u32) -> Finding {
    let limit = ctx.environment().database.as_ref().map(|database| &database.pool_limit);
    let tested = format!("a pool of {size} was tested");
    match limit {
        Some(limit) if limit.value != size => Finding::new(format!(
            "{tested}; the application's limit of {}{}: not established (budget {}, one of which \
             counts)",
            limit.value,
            if limit.is_assumed() { " (assumed)" } else { "" },
            drawn(ctx)
        ))
        .next("run it against the lab with a larger budget for the full ramp"),
        _ => Finding::new(format!("{tested}, which is the application's limit")),
    }
}

/// A fault of the pool, which does not tell the rung.
fn refused(fault: &Fault) -> Finding {
    let mut finding = Finding::new(format!("the pool could not connect: {fault}"));
    finding.suggests = login::cause("connect", fault);
    finding.fault = Some(fault.clone());
    finding.next("compare cloudsql.connect-timing, which tells the rung")
}

/// A pool hides why it was not given a connection. As many single logins at once tell.
async fn not_filled(
    ctx: &ProbeCtx,
    target: &PgTarget,
    got: usize,
    size: u32,
    fault: &PoolFault,
) -> Result<Outcome, ProbeError> {
    login::uninterrupted(ctx)?;
    let after = match fault {
        PoolFault::Fault(fault) => return Ok(Outcome::fail(refused(fault))),
        PoolFault::TimedOut { after } => clock::millis(*after),
    };
    let gave_up =
        format!("the pool got {got} of {size} connections and gave up after {after:.0} ms");
    let mut singles = Vec::new();
    let mut outcome = None;
    for _ in 0..size {
        match login::open(ctx, target).await? {
            Ok((single, _)) => singles.push(single),
            Err(failed) => {
                outcome = Some(failed.find(Finding::new(gave_up.clone())));
                break;
            }
        }
    }
    for single in singles {
        single.close().await;
    }
    Ok(outcome.unwrap_or_else(|| {
        let finding = Finding::new(format!("{gave_up}, while {size} single logins pass now"));
        Outcome::fail(
            finding.next("run it again: what stood in the way has passed, or comes and goes"),
        )
    }))
}

#[cfg(test)]
mod tests {
    use shakedown_core::environment::{Database, Safety};
    use shakedown_core::{Environment, Setting};

    use super::*;

    fn environment(pool_limit: Setting<u32>) -> Environment {
        let database = Some(Database { pool_limit, ..Database::default() });
        let safety = Safety { database_connections: 40, ..Safety::default() };
        Environment { database, safety, ..Environment::default() }
    }

    #[tokio::test]
    async fn the_pool_leaves_one_of_the_draw_to_the_witness() {
        let ctx = ProbeCtx::builder(environment(Setting::stated(25))).build();
        assert_eq!(size(&ctx, None), 2, "what is declared, without an allotment");
        assert_eq!(size(&ctx, Some(1)), 1);
        let budget = ctx.budget().clone();
        let of = async |draw: u32| {
            let draws = [Draw::new(resource::DATABASE_CONNECTION, draw)];
            let allotment = budget.reserve(&draws).await.expect("fits");
            ProbeCtx::builder(environment(Setting::stated(25))).allotment(allotment).build()
        };
        assert_eq!(size(&of(10).await, None), 9);
        assert_eq!(size(&of(30).await, None), 25, "the application's limit");
        assert_eq!(size(&of(30).await, Some(4)), 4);
    }

    #[test]
    fn only_what_was_tested_is_said_to_hold() {
        let says = |limit: Setting<u32>, size: u32| {
            tested(&ProbeCtx::builder(environment(limit)).build(), size).summary
        };
        assert_eq!(
            says(Setting::assumed(25, "a guess"), 2),
            "a pool of 2 was tested; the application's limit of 25 (assumed): not established \
             (budget 3, one of which counts)"
        );
        assert!(says(Setting::stated(2), 2).ends_with("which is the application's limit"));
    }
}
