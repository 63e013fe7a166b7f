//! What one login at the database tells, and what it is consistent with.

use shakedown_core::environment::Database;
use shakedown_core::id::Cause;
use shakedown_core::id::resource;
use shakedown_core::{Fault, Finding, Interrupted, Outcome, ProbeCtx, ProbeError, Step, Subject};
use shakedown_wire::pg::{self, PgConnection, PgTarget};

use crate::causes;
use crate::section::CloudSql;

/// What observations of the database are about.
pub(crate) fn subject(section: &CloudSql) -> Subject {
    Subject { instance: section.instance.clone(), ..Subject::service("database") }
}

/// From where and which way, for people.
pub(crate) fn path(ctx: &ProbeCtx) -> String {
    let vantage = ctx.environment().identity.vantage.as_str();
    let way = ctx.environment().database.as_ref().map(|database| match database.socket_path() {
        Some(path) => format!(
            "the Unix socket {path}, where a proxy on this side accepts before it dials: trouble \
             between proxy and server shows at the startup rung, not at connect"
        ),
        None => {
            let Database { host, port, .. } = database;
            format!("TCP to {host}:{port}")
        }
    });
    format!("seen from {vantage} through {}", way.as_deref().unwrap_or("no database"))
}

/// Whether a fault just seen is the target's: not when the probe was cancelled or its time is up.
///
/// # Errors
///
/// [`Interrupted`].
pub(crate) fn uninterrupted(ctx: &ProbeCtx) -> Result<(), Interrupted> {
    if ctx.cancelled().is_cancelled() {
        Err(Interrupted::Cancelled)
    } else if ctx.remaining().is_some_and(|left| left.is_zero()) {
        Err(Interrupted::Deadline)
    } else {
        Ok(())
    }
}

/// Logs in over one lease; the outcome of a login that failed otherwise.
pub(crate) async fn open(
    ctx: &ProbeCtx,
    target: &PgTarget,
) -> Result<Result<(PgConnection, Vec<Step>), Outcome>, ProbeError> {
    let lease = ctx.lease(&resource::DATABASE_CONNECTION).await?;
    let climb = pg::connect(ctx, lease, target).await.uninterrupted()?;
    Ok(match climb.result {
        Ok(connection) => Ok((connection, climb.steps)),
        Err(fault) => Err(Outcome::fail(failed(climb.steps.last(), &fault)).steps(climb.steps)),
    })
}

/// The outcome of a session that broke while `what` was asked.
///
/// # Errors
///
/// [`Interrupted`] when our own side broke it.
pub(crate) fn broken(ctx: &ProbeCtx, what: &str, fault: Fault) -> Result<Outcome, ProbeError> {
    uninterrupted(ctx)?;
    let mut finding = Finding::new(format!("{what} failed: {fault}"));
    finding.rung = Some("query".into());
    finding.suggests = cause("query", &fault);
    finding.fault = Some(fault);
    Ok(Outcome::fail(finding.next("run it again; if it stays, read the server's log")))
}

/// The cause a login that ended with `fault` at `rung` is consistent with, if it is one of the
/// database's own.
pub(crate) fn cause(rung: &str, fault: &Fault) -> Option<Cause> {
    match fault {
        Fault::Sql { sqlstate, .. } => match sqlstate.as_str() {
            "53300" => Some(causes::MAX_CONNECTIONS),
            // Starting up, shutting down, in recovery; ended by an administrator or a crash.
            "57P01" | "57P02" | "57P03" => Some(causes::UNREACHABLE),
            _ => None,
        },
        // Somebody answered before: it is there, and slow.
        Fault::Timeout { .. } if matches!(rung, "auth" | "ready" | "query") => Some(causes::SLOW),
        Fault::Timeout { .. }
        | Fault::Closed
        | Fault::Reset
        | Fault::Refused
        | Fault::Os { .. } => Some(causes::UNREACHABLE),
        _ => None,
    }
}

/// What a person does next about `fault`.
fn next(rung: &str, fault: &Fault) -> &'static str {
    match fault {
        Fault::Sql { sqlstate, .. } => match sqlstate.as_str() {
            "53300" => {
                "see who holds the slots: cloudsql.connection-headroom, or pg_stat_activity \
                        as a superuser, who has reserved ones"
            }
            "28P01" | "28000" => "check database.user and the password its credential names",
            "3D000" => "check database.name",
            "57P03" => {
                "the server is starting, stopping or recovering: look at the instance's \
                        operations"
            }
            _ => "look the SQLSTATE up in the server's log",
        },
        Fault::Timeout { .. } if matches!(rung, "auth" | "ready" | "query") => {
            "the server answered and then took too long: look at its CPU and at what it waits for"
        }
        Fault::Closed if rung == "startup" => {
            "the socket accepts and the way behind it fails: read the Auth Proxy's log, and compare \
             vpc.direct-connectivity, which also dials without the proxy"
        }
        Fault::Resolve { .. } | Fault::Refused | Fault::Os { .. } => {
            "check database.host and database.port, and that the Auth Proxy runs where a socket is \
             used"
        }
        _ => "compare vpc.direct-connectivity, which tells how far the network carries",
    }
}

/// The finding of a login that failed at `step`.
pub(crate) fn failed(step: Option<&Step>, fault: &Fault) -> Finding {
    let rung = step.map_or("connect", |step| step.rung.as_str());
    let mut finding = Finding::new(format!("the login fails at `{rung}`: {fault}"));
    finding.rung = Some(rung.to_owned());
    finding.fault = Some(fault.clone());
    finding.suggests = cause(rung, fault);
    finding.next(next(rung, fault))
}

#[cfg(test)]
mod tests {
    use shakedown_core::Span;

    use super::*;

    fn sql(state: &str) -> Fault {
        Fault::Sql { sqlstate: state.into(), message: "no".into() }
    }

    #[test]
    fn a_fault_is_consistent_with_the_cause_of_its_rung() {
        let timeout = Fault::Timeout { limit: Span::secs(3) };
        for (rung, fault, expected) in [
            ("ready", sql("53300"), Some(causes::MAX_CONNECTIONS)),
            ("startup", sql("57P03"), Some(causes::UNREACHABLE)),
            ("auth", sql("28P01"), None),
            ("auth", timeout.clone(), Some(causes::SLOW)),
            ("startup", timeout.clone(), Some(causes::UNREACHABLE)),
            ("connect", timeout, Some(causes::UNREACHABLE)),
            ("startup", Fault::Closed, Some(causes::UNREACHABLE)),
            ("connect", Fault::Refused, Some(causes::UNREACHABLE)),
            ("resolve", Fault::Resolve { message: "x".into() }, None),
        ] {
            assert_eq!(cause(rung, &fault), expected, "{rung} {fault}");
            let finding = failed(None, &fault);
            assert!(finding.next.is_some() && finding.fault == Some(fault));
        }
    }
}
