//! From facts about the database to causes: on core alone, without a socket.

mod attachment;
mod busy;
mod signals;
mod waited;

use shakedown_core::case::Effect;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::id::{Cause, Symptom};
use shakedown_core::{Case, Evidence};

use crate::causes::{MAX_CONNECTIONS, POOL_EXHAUSTION, SLOW, UNREACHABLE};
#[cfg(feature = "live")]
pub(crate) use busy::POOL_BUSY;
use signals::{
    CANNOT_CONNECT, LONG, NO_POOLED, NO_SLOT, NO_SPACE, REFUSED, RESTARTING, SESSION, TOO_SLOW,
};
#[cfg(feature = "live")]
pub(crate) use waited::LOCK_CONTENTION;
use waited::Measured;

/// The symptom that another crate describes: somebody is not let in, here the service itself.
const LOGIN_REFUSED: Symptom = Symptom::new("auth_failure");
/// The symptom that another crate describes: the start-up phase that needs the database timed out.
const DATABASE_PHASE: Symptom = Symptom::new("smd_phase3_timeout");
/// The cause that another crate describes: wrong credentials and names are configuration.
const CONFIGURATION_ERROR: Cause = Cause::new("configuration_error");
/// The cause that another crate describes: what the service needs is there and cannot do its part.
const DEPENDENCY_UNAVAILABLE: Cause = Cause::new("dependency_unavailable");

/// How sure anybody can be that a database cannot be reached behind a way without room.
const BEHIND_A_QUEUE: f64 = 0.7;

/// What tells who holds a database up that answers late.
const WHO_HOLDS_IT_UP: &str = "`shakedown run cloudsql.connect-timing --infrastructure-monitoring`, and locks and longest query among its samples";

/// From this weight on a signal is a driver's or server's word, not the application's about itself.
const DRIVERS_WORD: f64 = 0.62;

shakedown_core::observation_kinds! {
    CANNOT_CONNECT_META, CANNOT_CONNECT, "a driver, the proxy or the platform says that no session came about; target";
    NO_SLOT_META, NO_SLOT, "the server (53300) or the proxy says that it has no slot left";
    NO_POOLED_META, NO_POOLED, "a pool says that it has no connection to give; size, overflow, timeout";
    TOO_SLOW_META, TOO_SLOW, "the server ended a statement that took too long, or waited for a lock";
    LONG_META, LONG, "the server says that a statement took five seconds or more; ms";
    SESSION_META, SESSION, "the application says that a session came about, with the server's version or how long it took";
    REFUSED_META, REFUSED, "server, proxy or Google refused who asked, or what was asked for does not exist";
    REFUSES_CLIENT_META, shakedown_core::case::REFUSES_CLIENT, "a server's own log says that it sent a client away";
    NO_SPACE_META, NO_SPACE, "the server (53100) says that its disk is full";
    RESTARTING_META, RESTARTING, "the server says that it is going down or coming up";
}

pub use signals::TABLE as SIGNALS;

#[cfg(feature = "register")]
shakedown_core::register_signal!(SIGNALS);

shakedown_core::classifier! {
    /// What the database did to a service.
    pub struct Database;
    id: "cloudsql.database",
    summary: "tells an unreachable database from full slots, an empty pool, slow answers and wrong credentials",
    causes: [UNREACHABLE, MAX_CONNECTIONS, POOL_EXHAUSTION, SLOW, CONFIGURATION_ERROR, DEPENDENCY_UNAVAILABLE],
    symptoms: [LOGIN_REFUSED],
    classify: all,
}

/// What the database did to each service.
fn all(evidence: &Evidence) -> Vec<Claim> {
    let cases = Case::all(evidence);
    let measured = Measured::of(&cases);
    cases.iter().flat_map(|case| classify(case, &measured)).collect()
}

fn classify(case: &Case<'_>, measured: &Measured<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    claims.extend(unreachable(case, measured));
    claims.extend(slots(case));
    claims.extend(pool(case));
    claims.extend(busy::taken(case));
    claims.extend(slow(case));
    claims.extend(full(case));
    claims.extend(identity(case));
    claims.extend(attachment::lost(case));
    claims.extend(login_refused(case));
    claims
}

/// The database lets the service's own role not in, and something followed from it.
fn login_refused(case: &Case<'_>) -> Option<Claim> {
    const LOGIN: [&str; 3] = ["cloudsql.password", "cloudsql.hba", "cloudsql.no-role"];
    let refused =
        case.hits.iter().enumerate().filter(|(index, hit)| {
            LOGIN.contains(&hit.signal) && case.effect(*index) != Effect::None
        });
    let refused: Vec<_> = refused.map(|(_, hit)| hit.observation).collect();
    let at = |o: &&shakedown_core::Observation| (1, Some(o.moment.at), Some(o.moment.at));
    let seen = shakedown_core::case::seen(refused.iter().map(at))?;
    let claimed = Claimed::Symptom(LOGIN_REFUSED);
    let mut claim = Claim::new(claimed, case.service, ClaimStatus::Supported);
    claim.confidence = 1.0;
    claim.seen = Some(seen);
    claim.supporting = refused.into_iter().take(3).cloned().collect();
    Some(claim)
}

/// "n lines say what; what followed".
fn because(argument: &shakedown_core::case::Argument<'_>, what: &str) -> String {
    format!("{} {what}; {}.", argument.say(), argument.effect())
}

fn unreachable(case: &Case<'_>, measured: &Measured<'_>) -> Option<Claim> {
    let argument = case.argue(&UNREACHABLE, |_| true)?;
    // Whoever gives up waiting cannot tell a slow database from none. Others can.
    if let Some(slow) = measured.who_says_why(case, &argument) {
        let what = format!("that waiting for the database was given up; {}", slow.why);
        let mut claim = argument.claim(case.service, because(&argument, &what), slow.next);
        claim.claimed = Claimed::Cause(SLOW);
        claim.supporting.extend(slow.says.into_iter().cloned());
        if let Some(sure) = slow.sure {
            claim.status = ClaimStatus::Supported;
            claim.confidence = claim.confidence.max(sure);
        }
        return Some(claim);
    }
    let target =
        case.of_kind(CANNOT_CONNECT).map(|hit| hit.fact.get("target")).find(|t| !t.is_empty());
    let restarts = case.of_kind(RESTARTING).next().is_some();
    let what = match (argument.decisive, restarts) {
        (true, true) => "that the server was going down or coming up".to_owned(),
        (true, false) => format!(
            "that no session with the database came about{}",
            target.map(|target| format!(" ({target})")).unwrap_or_default()
        ),
        (false, _) => {
            "that the phase that needs the database did not end in time; no driver says why"
                .to_owned()
        }
    };
    let next = if argument.decisive {
        "`shakedown run vpc.direct-connectivity cloudsql.connect-timing` from inside the network: the rung that fails says where it breaks"
    } else {
        "the driver's own error of the same instance (its ERROR lines and tracebacks), or `shakedown run cloudsql.connect-timing` from inside the network"
    };
    let mut summary = because(&argument, &what);
    let waits: Vec<(f64, f64)> = argument
        .attempts
        .iter()
        .filter_map(|(_, attempt)| attempt.measured_s.zip(attempt.claimed_timeout_s))
        .collect();
    if let Some((_, claimed)) = waits.first() {
        let (low, high) = waits.iter().fold((f64::MAX, 0.0_f64), |(low, high), (measured, _)| {
            (low.min(*measured), high.max(*measured))
        });
        let (low, high) = (format!("{low:.1}"), format!("{high:.1}"));
        let measured = if low == high { low } else { format!("{low} to {high}") };
        summary.push_str(&format!(" The message claims {claimed} s, measured are {measured} s"));
        let limit = argument.attempts.iter().map(|(_, a)| a.limit.as_str()).find(|l| !l.is_empty());
        match limit {
            Some(limit) => summary.push_str(&format!(": the limit that fired is {limit}.")),
            None => summary.push('.'),
        }
    }
    let mut claim = argument.claim(case.service, summary, next);
    if argument.attempts.iter().any(|(_, attempt)| attempt.failed_in_database) {
        claim.explains = vec![DATABASE_PHASE];
    }
    if let Some(probe) = measured.no_room {
        // Whoever queues on the way has not asked the database yet.
        claim.confidence = claim.confidence.min(BEHIND_A_QUEUE);
        claim.against.push(probe.clone());
    }
    Some(claim)
}

fn slots(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&MAX_CONNECTIONS, |_| true)?;
    let summary = because(&argument, "that the server has no connection slot left (53300)");
    let next = "`shakedown run cloudsql.connection-headroom`: max_connections against the sum of all pools, and who holds the slots";
    Some(argument.claim(case.service, summary, next))
}

fn pool(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&POOL_EXHAUSTION, |_| true)?;
    let size = case.of_kind(NO_POOLED).map(|hit| hit.fact.get("size")).find(|s| !s.is_empty());
    let what = match size {
        Some(size) => {
            format!("that the application's pool (size {size}) had no connection to give")
        }
        None => "that the application's pool had no connection to give".to_owned(),
    };
    let mut claim = argument.claim(
        case.service,
        because(&argument, &what),
        "`shakedown run cloudsql.acquire-timeout`, and idle-in-transaction sessions in the database monitor: who holds the pool's connections",
    );
    // A pool that cannot open connections says the same as one whose connections are all taken.
    let elsewhere = case
        .hits
        .iter()
        .filter(|hit| [CANNOT_CONNECT, NO_SLOT, REFUSED].contains(&hit.fact.fact.as_str()))
        // Somebody's words about the database are as true of an empty pool.
        .filter(|hit| hit.weight >= DRIVERS_WORD);
    let elsewhere: Vec<_> = elsewhere.map(|hit| hit.observation.clone()).take(3).collect();
    // A fresh process holds no connections: what fails before anything was served is the opening.
    let fresh = !argument.attempts.is_empty() && !argument.requests && !case.serves();
    if !elsewhere.is_empty() || fresh {
        claim.status = ClaimStatus::Undetermined;
        claim.confidence = claim.confidence.min(0.35);
        claim.against = elsewhere;
    }
    Some(claim)
}

fn slow(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&SLOW, |_| true)?;
    let summary = because(&argument, "that the database answered later than its caller waits");
    Some(argument.claim(case.service, summary, WHO_HOLDS_IT_UP))
}

fn full(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&DEPENDENCY_UNAVAILABLE, |hit| hit.fact.fact.as_str() == NO_SPACE)?;
    let what = "that the database's disk is full (53100): it is reached, it cannot write";
    let next = "`gcloud sql instances describe INSTANCE`: dataDiskSizeGb, storageAutoResize and its limit; then what grew (bloat, write-ahead log of an unused replication slot, temporary files)";
    Some(argument.claim(case.service, because(&argument, what), next))
}

fn identity(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&CONFIGURATION_ERROR, |hit| {
        hit.signal.starts_with("cloudsql.") || hit.signal.starts_with("vpc.")
    })?;
    let what = match argument.signals.iter().all(|id| id.starts_with("cloudsql.no-socket")) {
        true => {
            "that the instance's socket is not there: the revision is not connected to it, or asks for another name"
        }
        false => {
            "that the database or Google refuses who asks, or that what is asked for does not exist: it is reached, its settings are wrong"
        }
    };
    let summary = because(&argument, what);
    let next = "compare user, password, database name and instance connection name of the revision (`gcloud run revisions describe REVISION`) with the instance's own (`gcloud sql instances describe INSTANCE`)";
    let mut claim = argument.claim(case.service, summary, next);
    claim.claimed = Claimed::Cause(CONFIGURATION_ERROR);
    Some(claim)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use shakedown_core::case::REFUSES_CLIENT;
    use shakedown_core::classify::ClassifierSpec as _;

    use super::*;

    #[test]
    fn signals_have_ids_of_their_own_and_speak_for_causes_this_crate_may_claim() {
        let ids: BTreeSet<_> = signals::TABLE.signals.iter().map(|signal| signal.id).collect();
        assert_eq!(ids.len(), signals::TABLE.signals.len());
        for signal in signals::TABLE.signals {
            let claimed = |cause| Database::META.causes.contains(&cause);
            let beside = [LONG, SESSION, REFUSES_CLIENT].contains(&signal.kind);
            assert_eq!(signal.cause().is_none(), beside, "{}", signal.id);
            assert!(signal.cause().is_none_or(claimed), "{}", signal.id);
            assert!(signal.any.iter().all(|literal| literal.len() >= 9), "{}", signal.id);
        }
    }
}
