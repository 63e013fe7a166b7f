//! Whoever gives up waiting for a database cannot tell a slow one from none: who says why.

use shakedown_core::attempt::Attempt;
use shakedown_core::case::{Argument, Effect, PROBE_FINDING};
use shakedown_core::clock::Timestamp;
use shakedown_core::id::Cause;
use shakedown_core::monitor::{Reading, Sample};
use shakedown_core::{Case, Observation};

use super::WHO_HOLDS_IT_UP;
use super::signals::{LONG, SESSION, TOO_SLOW};
use crate::causes::{SLOW, UNREACHABLE};

/// The cause that another crate describes: the way into the network has no room.
const NO_ROOM: Cause = Cause::new("vpc_connector_capacity");
/// The monitor's metric: sessions that wait for a lock.
pub(crate) const LOCK_CONTENTION: &str = "cloudsql.lock_contention";
/// How far apart two start-ups may lie and still fail for one reason, in seconds.
const REACH_S: i64 = 600;
/// How far a statement's end by the server may lie from when its caller gave up, and its duration from
/// the wait, in seconds.
const SAME_S: f64 = 2.0;
/// Both sides tell of the same seconds: three of four.
const BOTH_SIDES: f64 = 0.75;
/// A session that came about and was then left without an answer: two of three, for its way may have
/// died meanwhile.
const ONE_SIDE: f64 = 0.66;
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
    /// The server's own lines about long statements, in seconds, and those whose caller left, without.
    statements: Vec<(&'e Observation, Option<f64>)>,
}

/// Who says why a wait was given up.
pub(super) struct Says<'e> {
    /// What they say.
    pub(super) why: &'static str,
    /// Where.
    pub(super) says: Vec<&'e Observation>,
    /// How sure it is by itself, where it is.
    pub(super) sure: Option<f64>,
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
            statements: cases.iter().flat_map(statements).collect(),
        }
    }

    /// The lines of the server about the very statements that were waited for: as long as the wait, or
    /// cancelled, when the wait was given up.
    fn told_by_server(&self, argument: &Argument<'e>) -> Option<Vec<&'e Observation>> {
        let of = |attempt: &Attempt| {
            let (failed, waited) = (attempt.failed_at?, attempt.measured_s?);
            let same = |(line, took): &&(&'e Observation, Option<f64>)| {
                let apart_ms = line.moment.at.as_millisecond() - failed.as_millisecond();
                #[expect(clippy::cast_precision_loss, reason = "milliseconds of a wait")]
                let at_once = (apart_ms as f64 / 1e3).abs() <= SAME_S;
                at_once && took.is_none_or(|took| (took - waited).abs() <= SAME_S)
            };
            self.statements.iter().find(same).map(|(line, _)| *line)
        };
        most(argument, |(_, attempt)| of(attempt))
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
                sure: None,
                next: "`shakedown run cloudsql.connect-timing`: how long a login takes, rung by rung",
            });
        }
        if let Some(mut says) = self.told_by_server(argument) {
            says.truncate(MOST);
            let why = "the server's own log has the statements that were waited for";
            return Some(Says { why, says, sure: Some(BOTH_SIDES), next: WHO_HOLDS_IT_UP });
        }
        if let Some(mut says) = session_there(case, argument) {
            says.truncate(MOST);
            let why =
                "the sessions were there by then, and what was asked in them was not answered";
            return Some(Says { why, says, sure: Some(ONE_SIDE), next: WHO_HOLDS_IT_UP });
        }
        let (why, says) = if let Some(lines) = told_nearby(case, argument) {
            ("start-ups beside say that the database answers, and too late", lines)
        } else {
            let samples = lock_waits(case, argument)?;
            ("sessions waited for locks meanwhile, by the database's own count", samples)
        };
        Some(Says { why, says, sure: None, next: WHO_HOLDS_IT_UP })
    }
}

/// What a server says about statements that took long, and about those whose caller left.
fn statements<'e>(case: &Case<'e>) -> Vec<(&'e Observation, Option<f64>)> {
    let long = case.of_kind(LONG).filter_map(|hit| {
        let ms: f64 = hit.fact.get("ms").parse().ok()?;
        Some((hit.observation, Some(ms / 1e3)))
    });
    let left = case.of_kind(TOO_SLOW).filter(|hit| hit.signal == "cloudsql.statement-cancelled");
    long.chain(left.map(|hit| (hit.observation, None))).collect()
}

/// Signals that say no more than that a wait was given up.
fn only_waited(signal: &str) -> bool {
    signal.contains("timeout")
        || signal.starts_with("cloudsql.said-")
        || signal.starts_with("startup.phase-failure")
        || signal == "cloudsql.cancelled-connect"
}

/// The application's lines about a session that came about in the phase that each start-up failed in.
fn session_there<'e>(case: &Case<'e>, argument: &Argument<'e>) -> Option<Vec<&'e Observation>> {
    let of = |(observation, attempt): &(&'e Observation, &'e Attempt)| {
        let instance = &observation.subject.instance;
        let lines = case.of_kind(SESSION).map(|hit| hit.observation);
        let mut lines = lines.filter(|line| line.subject.instance == *instance);
        lines.find(|line| during(attempt, line.moment.at))
    };
    most(argument, of)
}

/// The lines that `of` finds, where it finds one for at least every second start-up: of some a line may
/// not be held.
fn most<'e>(
    argument: &Argument<'e>,
    of: impl Fn(&(&'e Observation, &'e Attempt)) -> Option<&'e Observation>,
) -> Option<Vec<&'e Observation>> {
    let lines: Vec<_> = argument.attempts.iter().filter_map(of).collect();
    (!lines.is_empty() && lines.len() * 2 >= argument.attempts.len()).then_some(lines)
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
    fn the_server_tells_of_the_statement_that_was_waited_for() {
        let failed = |second: i64| {
            let mut attempt = failed(second);
            let Body::Attempt(body) = &mut attempt.body else { unreachable!("it is one") };
            body.measured_s = Some(10.1);
            [line(second, "cloudsql.engine-connect-timeout", &UNREACHABLE), attempt]
        };
        let long = |second: i64, ms: &str| {
            let attributes = [("signal", "cloudsql.statement-long"), ("ms", ms)];
            let attributes = attributes.map(|(key, value)| (key.into(), value.into())).into();
            let body = Body::Fact(Fact { fact: ObservationKind::new(LONG), attributes });
            observed("server", second, body)
        };
        let with = |more: Vec<Observation>| causes(failed(20).into_iter().chain(more).collect());
        assert_eq!(with(vec![long(20, "10021")]), [SLOW.to_string()]);
        let others = [long(20, "69246"), long(90, "10021")];
        assert_eq!(with(others.into()), [UNREACHABLE.to_string()], "statements of somebody else");
        let more = failed(60).into_iter().chain(failed(120));
        let three = [long(20, "10021")].into_iter().chain(more).collect();
        assert_eq!(with(three), [UNREACHABLE.to_string()], "for less than half of the start-ups");
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
