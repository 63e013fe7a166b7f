//! From what was collected to evidence: observations that classifiers of any crate can read.

use std::collections::BTreeMap;

use jiff::Timestamp;
use shakedown_core::attempt::{Attempt, AttemptEnd, Quote, RequestKind, Traffic};
use shakedown_core::evidence::{Body, Change, ClockSource, Fact, Moment};
use shakedown_core::id::ObservationKind;
use shakedown_core::{Observation, Provenance, StartupConfig, Subject, Vantage};

use crate::signals::Search;
use crate::store::{Collected, Line, SourceName, source};

/// The kind of fact a failed start-up phase states, by the configuration's `phase_causes`.
const PHASE_FAILURE: &str = "startup.phase-failure";
/// How much a phase that timed out speaks for its cause: it names where, not why.
const TIMED_OUT: f64 = 0.55;
/// How much a phase that failed otherwise does.
const FAILED: f64 = 0.3;

/// Whoever exits later than this did not wait for a connection, in seconds: Linux gives up opening one
/// after 127.
const WAITS_S: i64 = 150;
/// The exit code of a process that ends as it is asked to.
const TERMINATED: i32 = 143;

/// The observations of one service.
pub(crate) fn observations(
    collected: &Collected,
    search: &Search,
    names: &SourceName<'_>,
    config: &StartupConfig,
) -> Vec<Observation> {
    let service = collected.service.as_str();
    let about = |revision: &str, instance: &str| Subject {
        service: service.to_owned(),
        revision: revision.to_owned(),
        instance: instance.to_owned(),
    };
    let mut out = Vec::new();
    let mut push = |at: Option<Timestamp>, order: u64, subject: Subject, body: Body| {
        out.push(Observation {
            moment: moment(at, order),
            subject,
            vantage: Vantage::Unknown,
            provenance: Provenance::Quoted,
            body,
        });
    };
    push(collected.held.from, 0, about("", ""), Body::Held(collected.held.clone()));
    for (index, instance, lines) in &collected.lines {
        for line in lines {
            let signal = search.signal(*index);
            let mut attributes = vec![
                ("signal".to_owned(), signal.id.to_owned()),
                ("quote".to_owned(), line.text.clone()),
                ("source".to_owned(), source(names, line)),
                ("severity".to_owned(), line.severity.as_str().to_owned()),
            ];
            if let Some(cause) = signal.speaks_for {
                attributes.push(("cause".to_owned(), cause.to_owned()));
                attributes.push(("weight".to_owned(), signal.weight.to_string()));
            }
            if line.tolerated {
                attributes.push(("tolerated".to_owned(), "true".to_owned()));
            }
            let constant = signal.attributes.iter();
            attributes.extend(constant.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
            attributes.extend(line.captured.iter().cloned());
            let fact = Fact { fact: signal.observation(), attributes };
            push(line.at, line.order, about(&line.revision, instance), Body::Fact(fact));
        }
    }
    for (_, tally) in &collected.tallies {
        push(tally.first, 0, about("", ""), Body::Tally(tally.clone()));
    }
    for traffic in &collected.traffic {
        push(traffic.first, 0, about("", ""), Body::Traffic(traffic.clone()));
    }
    let works = |traffic: &&Traffic| traffic.served() && traffic.request != RequestKind::Static;
    let served = collected.traffic.iter().filter(works).filter_map(|traffic| traffic.last).max();
    for (revision, instance, timeline) in &collected.timelines {
        for mut attempt in timeline.clone().attempts(config) {
            fail_if_for_nothing(&mut attempt, served);
            if let Some(fact) = phase_failure(&attempt, config) {
                let at = attempt.failed_at;
                push(at, 0, about(revision, instance), Body::Fact(fact));
            }
            push(attempt.began, 0, about(revision, instance), Body::Attempt(Box::new(attempt)));
        }
    }
    let mut earlier: BTreeMap<String, usize> = BTreeMap::new();
    for (index, (line, call)) in collected.calls.iter().enumerate() {
        let before = earlier.get(&kind_of(call)).map(|at| &collected.calls[*at].1);
        let mut change = call.to_change(before);
        change.fields = told(change.fields, call, before.is_none());
        if !call.fields.is_empty() {
            earlier.insert(kind_of(call), index);
        }
        let body = Body::Change(Change { method: method(line, &change.method), ..change });
        push(line.at, line.order, about(&revision_of(&call.resource), ""), body);
    }
    out
}

/// Settings that decide over the way to the database and over start-ups: told even when nobody
/// changed them within the window.
const TELLING: [&str; 6] = [
    "vpc-access-egress",
    "vpc-access-connector",
    "cloudsql-instances",
    "network-interfaces",
    "startup-cpu-boost",
    "containers.image",
];

/// What changed, and of the first call held what stands.
fn told(
    changed: Vec<(String, String, String)>,
    call: &crate::read::audit::Audit,
    first: bool,
) -> Vec<(String, String, String)> {
    if !first {
        // `True` and `true` are one setting, written by two clients.
        return changed.into_iter().filter(|(_, a, b)| !a.eq_ignore_ascii_case(b)).collect();
    }
    let telling = call.fields.iter().filter(|(key, _)| TELLING.iter().any(|t| key.ends_with(t)));
    telling.map(|(key, value)| (key.clone(), String::new(), value.clone())).collect()
}

/// Services and revisions have settings of their own, and so has every method: only calls of one
/// kind are compared with each other.
fn kind_of(call: &crate::read::audit::Audit) -> String {
    let kind = call.resource.split('/').rev().nth(1).unwrap_or_default();
    format!("{} {kind}", call.method)
}

fn revision_of(resource: &str) -> String {
    match resource.rsplit_once("/revisions/") {
        Some((_, revision)) => revision.to_owned(),
        None => String::new(),
    }
}

fn method(line: &Line, method: &str) -> String {
    if line.text.is_empty() { method.to_owned() } else { format!("{method}: {}", line.text) }
}

/// What listens, waits for what it needs and exits of itself did not come up, where nothing was
/// served since.
fn fail_if_for_nothing(attempt: &mut Attempt, served: Option<Timestamp>) {
    let exited = attempt.exit_code.is_some_and(|code| !matches!(code, 0 | TERMINATED));
    let (Some(up), Some(ended)) = (attempt.completed_at, attempt.ended) else { return };
    let lived = ended.as_second() - up.as_second();
    if exited && attempt.end == AttemptEnd::Completed && served < Some(up) && lived <= WAITS_S {
        attempt.end = AttemptEnd::Failed;
        attempt.failed_at = Some(ended);
        attempt.silent = true;
    }
}

fn phase_failure(attempt: &Attempt, config: &StartupConfig) -> Option<Fact> {
    // That it ended in a phase, and nobody says that the phase failed, is where and not what.
    let said = attempt.failed() && !attempt.silent;
    let cause = config.phase_causes.get(&attempt.failed_phase).filter(|_| said)?;
    let weight = if attempt.timed_out { TIMED_OUT } else { FAILED };
    let words = attempt.words.iter().find(|words| words.text.contains(&attempt.failed_phase));
    let Quote { source, text, .. } = words.or(attempt.words.first()).cloned().unwrap_or_default();
    // What was cut off may have said why.
    let cut = text.ends_with('…') || text.ends_with("...");
    if cut && !attempt.timed_out {
        return None;
    }
    let attributes = [
        ("signal", format!("{PHASE_FAILURE}.{}", attempt.failed_phase.to_ascii_lowercase())),
        ("quote", text),
        ("source", source),
        ("cause", cause.clone()),
        ("weight", weight.to_string()),
        ("phase", attempt.failed_phase.clone()),
    ];
    let attributes = attributes.map(|(key, value)| (key.to_owned(), value)).to_vec();
    Some(Fact { fact: ObservationKind::new(PHASE_FAILURE), attributes })
}

/// A moment by the log's clock. A line without a time gets a place before all that have one, in
/// the order of its lines, and a resolution that says so.
fn moment(at: Option<Timestamp>, order: u64) -> Moment {
    let (resolution_ms, at) = match at {
        Some(at) => (1, at),
        None => {
            let order = i64::try_from(order).unwrap_or(i64::MAX).min(10_i64.pow(12));
            (u32::MAX, Timestamp::from_microsecond(order).unwrap_or(Timestamp::UNIX_EPOCH))
        }
    };
    Moment { at, clock: ClockSource::Google, resolution_ms, skew_ms: 500 }
}

/// The time of a moment, `None` where the line had none.
pub(crate) fn time_of(moment: &Moment) -> Option<Timestamp> {
    (moment.resolution_ms != u32::MAX).then_some(moment.at)
}
