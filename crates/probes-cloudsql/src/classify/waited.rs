//! Whoever gives up waiting for a database cannot tell a slow one from none: who says why.

use shakedown_core::attempt::Attempt;
use shakedown_core::case::{Argument, Effect, PROBE_FINDING};
use shakedown_core::clock::Timestamp;
use shakedown_core::id::Cause;
use shakedown_core::monitor::{Reading, Sample};
use shakedown_core::{Case, Observation};

use super::WHO_HOLDS_IT_UP;
use super::signals::TOO_SLOW;
use crate::causes::{SLOW, UNREACHABLE};

/// The cause that another crate describes: the way into the network has no room.
const NO_ROOM: Cause = Cause::new("vpc_connector_capacity");
/// The monitor's metric: sessions that wait for a lock.
pub(crate) const LOCK_CONTENTION: &str = "cloudsql.lock_contention";
/// How far apart two start-ups may lie and still fail for one reason, in seconds.
const REACH_S: i64 = 600;
/// Lines and samples that are quoted.
const MOST: usize = 3;

/// What was measured that decides between readings of a log.
pub(super) struct Measured<'e> {
    /// A probe reaches the database and finds it slow.
    slow: Option<&'e Observation>,
    /// A probe does not reach it.
    unreachable: bool,
    /// The way to it has no room.
    pub(super) no_room: Option<&'e Observation>,
}

/// Who says why a wait was given up.
pub(super) struct Says<'e> {
    /// What they say.
    pub(super) why: &'static str,
    /// Where.
    pub(super) says: Vec<&'e Observation>,
    /// What tells more.
    pub(super) next: &'static str,
}

impl<'e> Measured<'e> {
    pub(super) fn of(cases: &[Case<'e>]) -> Self {
        let suggested = |cause: &Cause| {
            let findings = cases.iter().flat_map(|case| case.of_kind(PROBE_FINDING));
            findings.filter(|hit| hit.cause == cause.as_str()).map(|hit| hit.observation).next()
        };
        Self {
            slow: suggested(&SLOW),
            unreachable: suggested(&UNREACHABLE).is_some(),
            no_room: suggested(&NO_ROOM),
        }
    }

    /// Who tells that the database was reached and slow, where `argument` holds no more than that a
    /// wait for it was given up and no probe says that it is not reached.
    pub(super) fn who_says_why(
        &self,
        case: &Case<'e>,
        argument: &Argument<'e>,
    ) -> Option<Says<'e>> {
        if self.unreachable || !argument.signals.iter().all(|signal| only_waited(signal)) {
            return None;
        }
        if let Some(probe) = self.slow {
            return Some(Says {
                why: "a probe that waits longer reaches it",
                says: vec![probe],
                next: "`shakedown run cloudsql.connect-timing`: how long a login takes, rung by rung",
            });
        }
        let (why, says) = if let Some(lines) = told_nearby(case, argument) {
            ("start-ups beside say that the database answers, and too late", lines)
        } else {
            let samples = lock_waits(case, argument)?;
            ("sessions waited for locks meanwhile, by the database's own count", samples)
        };
        Some(Says { why, says, next: WHO_HOLDS_IT_UP })
    }
}

/// Signals that say no more than that a wait was given up.
fn only_waited(signal: &str) -> bool {
    signal.contains("timeout")
        || signal.starts_with("cloudsql.said-")
        || signal.starts_with("startup.phase-failure")
        || signal == "cloudsql.cancelled-connect"
}

/// The lines in which the server itself ended what took too long, where one stands near every wait
/// that was given up and a start-up failed of it.
fn told_nearby<'e>(case: &Case<'e>, argument: &Argument<'e>) -> Option<Vec<&'e Observation>> {
    let fatal = |index: usize| matches!(case.effect(index), Effect::Death(_) | Effect::Before(_));
    let hits = case.hits.iter().enumerate();
    let lines: Vec<&Observation> = hits
        .filter(|(index, hit)| hit.fact.fact.as_str() == TOO_SLOW && fatal(*index))
        .map(|(_, hit)| hit.observation)
        .collect();
    let near = |wait: &&Observation| {
        lines.iter().any(|line| apart_s(line.moment.at, wait.moment.at) <= REACH_S)
    };
    let every = argument.observations.iter().flatten().all(near);
    (every && !lines.is_empty()).then(|| lines.into_iter().take(MOST).collect())
}

/// The samples that count sessions waiting for locks, where every start-up that samples looked at has
/// one.
fn lock_waits<'e>(case: &Case<'e>, argument: &Argument<'e>) -> Option<Vec<&'e Observation>> {
    let mut found = Vec::new();
    for (_, attempt) in &argument.attempts {
        let mut seen = case
            .samples
            .iter()
            .filter(|(_, sample)| sample.metric.as_str() == LOCK_CONTENTION)
            .filter(|(_, sample)| during(attempt, sample.taken_at))
            .peekable();
        if seen.peek().is_none() {
            continue;
        }
        let (waiting, _) = seen.find(|(_, sample)| waits(sample))?;
        found.push(*waiting);
    }
    found.truncate(MOST);
    (!found.is_empty()).then_some(found)
}

fn waits(sample: &Sample) -> bool {
    matches!(sample.value, Reading::Value(sessions) if sessions > 0.0)
}

/// Whether `at` lies in the phase that the start-up failed in.
fn during(attempt: &Attempt, at: Timestamp) -> bool {
    let from = attempt.phase_began.or(attempt.began);
    from.is_some_and(|from| from <= at) && attempt.failed_at.is_some_and(|until| at <= until)
}

fn apart_s(one: Timestamp, other: Timestamp) -> i64 {
    (one.as_second() - other.as_second()).abs()
}

#[cfg(test)]
mod tests {
    use shakedown_core::attempt::AttemptEnd;
    use shakedown_core::classify::{Claim, Claimed, FailureClassifier as _};
    use shakedown_core::evidence::{Body, Fact, Moment, Subject};
    use shakedown_core::id::{Metric, ObservationKind};
    use shakedown_core::{Evidence, Provenance, Vantage};

    use super::super::Database;
    use super::*;

    const BEGAN: i64 = 1_700_000_000;

    fn observed(service: &str, second: i64, body: Body) -> Observation {
        let at = Timestamp::from_second(BEGAN + second).expect("a time");
        Observation {
            moment: Moment::ours(at),
            subject: Subject { instance: "i".into(), ..Subject::service(service) },
            vantage: Vantage::CloudRun,
            provenance: Provenance::Quoted,
            body,
        }
    }

    fn line(second: i64, signal: &str, cause: &Cause) -> Observation {
        let attributes = [("signal", signal), ("cause", cause.as_str()), ("weight", "0.7")];
        let attributes = attributes.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let kind = if *cause == SLOW { TOO_SLOW } else { "cloudsql.cannot-connect" };
        observed("app", second, Body::Fact(Fact { fact: ObservationKind::new(kind), attributes }))
    }

    /// A start-up that fails `second` seconds on, 10 s after its database phase began.
    fn failed(second: i64) -> Observation {
        let at = |second| Timestamp::from_second(BEGAN + second).ok();
        let attempt = Attempt {
            began: at(second - 11),
            phase_began: at(second - 10),
            failed_at: at(second),
            ended: at(second),
            end: AttemptEnd::Failed,
            ..Attempt::default()
        };
        observed("app", second, Body::Attempt(Box::new(attempt)))
    }

    fn sampled(second: i64, sessions: f64) -> Observation {
        let mut sample = Sample::measured(Metric::new(LOCK_CONTENTION), sessions, "sessions");
        sample.taken_at = Timestamp::from_second(BEGAN + second).expect("a time");
        observed("", second, Body::Sample(sample))
    }

    fn causes(observations: Vec<Observation>) -> Vec<String> {
        let claims: Vec<Claim> = Database.classify(&Evidence::new(observations));
        let cause = |claim: Claim| match claim.claimed {
            Claimed::Cause(cause) => Some(cause.to_string()),
            Claimed::Symptom(_) => None,
        };
        let mut causes: Vec<String> = claims.into_iter().filter_map(cause).collect();
        causes.dedup();
        causes
    }

    fn waited(second: i64) -> [Observation; 2] {
        [line(second, "cloudsql.engine-connect-timeout", &UNREACHABLE), failed(second)]
    }

    #[test]
    fn a_wait_given_up_is_nobodys_word_beside_who_says_why() {
        let lock = || [line(60, "cloudsql.lock-timeout", &SLOW), failed(60)];
        let unreachable = [UNREACHABLE.to_string()];
        let slow = [SLOW.to_string()];
        let with = |more: Vec<Observation>| causes(waited(20).into_iter().chain(more).collect());

        assert_eq!(with(vec![]), unreachable);
        assert_eq!(with(lock().into()), slow, "a start-up beside says it");
        assert_eq!(with(vec![sampled(15, 0.0), sampled(19, 1.0)]), slow, "the database counts it");
        assert_eq!(with(vec![sampled(15, 0.0)]), unreachable, "nobody waited for a lock");
        assert_eq!(with(vec![sampled(40, 3.0)]), unreachable, "not in this start-up");
    }

    #[test]
    fn a_drivers_word_and_a_lock_wait_of_another_day_leave_it_unreachable() {
        let refused = line(20, "cloudsql.libpq-refused", &UNREACHABLE);
        let seen = causes(waited(20).into_iter().chain([refused, sampled(19, 1.0)]).collect());
        assert_eq!(seen, [UNREACHABLE.to_string()]);
        let later = [line(5000, "cloudsql.lock-timeout", &SLOW), failed(5000)];
        let seen = causes(waited(20).into_iter().chain(later).collect());
        assert_eq!(seen, [UNREACHABLE.to_string(), SLOW.to_string()]);
    }
}
