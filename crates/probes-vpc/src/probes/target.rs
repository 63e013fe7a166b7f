//! The ways to the database that the probes here take.

use shakedown_core::evidence::Body;
use shakedown_core::{Interrupted, Outcome, ProbeCtx, ProbeError, SkipReason, Step, Subject};
use shakedown_wire::pg::PgTarget;

use crate::path::{Dial, NetworkPath, Way};
use crate::section::Vpc;

/// One way to the database.
#[derive(Debug)]
pub(crate) struct DatabaseTarget {
    pub(crate) pg: PgTarget,
    pub(crate) path: NetworkPath,
}

/// What the database is called in observations.
pub(crate) fn database() -> Subject {
    Subject::service("database")
}

/// The ways to the database, at least one: `[database]`, and `[database.tcp]` where given. Or the outcome of a
/// probe that has none to take.
pub(crate) fn targets(
    ctx: &ProbeCtx,
    vpc: &Vpc,
    name: &str,
) -> Result<Result<Vec<DatabaseTarget>, Outcome>, ProbeError> {
    let environment = ctx.environment();
    let Some(database) = &environment.database else {
        let why = "set [database]".to_owned();
        return Ok(Err(Outcome::skip(SkipReason::NotConfigured(why))));
    };
    let mut targets = vec![DatabaseTarget {
        pg: PgTarget::of(ctx)?.named(name),
        path: Dial::of(environment, vpc, &database.host, database.port).path(),
    }];
    if let (Some(pg), Some(tcp)) = (PgTarget::tcp_of(ctx)?, &database.tcp) {
        targets.push(DatabaseTarget {
            pg: pg.named(name),
            path: Dial::of(environment, vpc, &tcp.host, tcp.port).path(),
        });
    }
    Ok(Ok(targets))
}

/// The way that crosses the connector, else one of which nobody knows; a direct one before a proxy's.
/// Or the skip of a probe that has only ways past the connector.
pub(crate) fn across_connector(targets: Vec<DatabaseTarget>) -> Result<DatabaseTarget, Outcome> {
    let past = targets.iter().map(|target| target.path.statement()).collect::<Vec<_>>().join("; ");
    let target = across_connector_if_any(targets);
    if target.path.route.crosses_connector() == Some(false) {
        let why = format!("no path from here crosses the connector: {past}");
        return Err(Outcome::skip(SkipReason::Unavailable(why)));
    }
    Ok(target)
}

/// As [`across_connector`], else the application's own way.
pub(crate) fn across_connector_if_any(mut targets: Vec<DatabaseTarget>) -> DatabaseTarget {
    let preference = |target: &DatabaseTarget| {
        let crosses = match target.path.route.crosses_connector() {
            Some(true) => 0,
            None => 1,
            Some(false) => return (2, false),
        };
        (crosses, target.path.way == Way::Socket)
    };
    // Stable: among equals the application's way is first.
    targets.sort_by_key(preference);
    targets.swap_remove(0)
}

/// States the path before the first packet: as progress and as an observation.
pub(crate) fn state(ctx: &ProbeCtx, path: &NetworkPath) {
    ctx.progress(path.statement());
    ctx.observe(database(), path.observation());
}

/// Puts steps into the record.
pub(crate) fn observe_steps(ctx: &ProbeCtx, subject: &Subject, steps: &[Step]) {
    for step in steps {
        ctx.observe(subject.clone(), Body::Step(step.clone()));
    }
}

/// What a step showed after the run was cancelled, or its time was up, is no news about the target.
pub(crate) fn not_interrupted(ctx: &ProbeCtx) -> Result<(), ProbeError> {
    if ctx.cancelled().is_cancelled() {
        return Err(Interrupted::Cancelled.into());
    }
    if ctx.remaining().is_some_and(|remaining| remaining.is_zero()) {
        return Err(Interrupted::Deadline.into());
    }
    Ok(())
}

/// Whether a connect that uses up the environment's limit would still end before our time is up.
pub(crate) fn time_for_a_connect(ctx: &ProbeCtx) -> bool {
    let limit = ctx.environment().safety.connect_timeout.get();
    ctx.remaining().is_none_or(|remaining| remaining > limit)
}

/// Puts `whose` before the detail of each step, for outcomes that climb to several targets.
pub(crate) fn name_steps(steps: &mut [Step], whose: &str) {
    for step in steps {
        step.detail = Some(match step.detail.take() {
            Some(detail) => format!("{whose}: {detail}"),
            None => whose.to_owned(),
        });
    }
}
