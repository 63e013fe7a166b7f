//! From claims to a diagnosis: roots, the symptoms they explain, what is masked, what is refuted.
//!
//! The engine knows no cause by name. It merges the claims of all classifiers about one service,
//! drops roots that another root explains better, and decides the verdict from what the service
//! was seen to do.

use std::collections::{BTreeMap, BTreeSet};

use shakedown_core::attempt::{AttemptEnd, RequestKind};
use shakedown_core::case::seen;
use shakedown_core::classify::{Claim, ClaimStatus, Claimed, FailureClassifier};
use shakedown_core::diagnosis::{
    ChangeSeen, EvidenceLine, HealthVerdict, Masked, Refuted, Root, ServiceDiagnosis, Startup,
    SymptomSeen, Window,
};
use shakedown_core::evidence::Body;
use shakedown_core::{Case, Evidence, Observation};

use crate::corroborate::corroborate;
use crate::facts::time_of;
use crate::follow::follow;

/// Lines quoted per root.
const MOST_LINES: usize = 8;
/// Start-ups listed per service: the first and the last.
const MOST_STARTUPS: usize = 200;
/// Another root stands beside the first from this confidence on.
const BESIDE: f64 = 0.4;
/// An undetermined root is never surer than this.
const HIDDEN: f64 = 0.55;
/// An undetermined root is told from this confidence on.
const WORTH: f64 = 0.3;
/// Fewer errors that nothing explains are in every log.
const FEW_ERRORS: u64 = 5;
/// From so many failed requests on, none served, a function is down beside others that work.
const FUNCTION: u64 = 3;

/// Diagnoses every service of `evidence`. The order of `classifiers` does not matter.
pub fn diagnose_evidence(
    evidence: &Evidence,
    classifiers: &[Box<dyn FailureClassifier>],
) -> Vec<ServiceDiagnosis> {
    let mut claims: Vec<Claim> = Vec::new();
    for classifier in classifiers {
        claims.extend(classifier.classify(evidence));
    }
    claims.sort_by_cached_key(|claim| {
        (
            claim.service.clone(),
            claim.claimed.clone(),
            serde_json::to_string(claim).unwrap_or_default(),
        )
    });
    let services = Case::all(evidence).into_iter().filter(|case| {
        // Calls about nothing in particular are no service, nor is what was only connected to, nor an
        // environment as a whole of which findings claim nothing.
        let nobody = case.service.is_empty() && case.held.own == 0;
        let passed_by = case.held.entries == 0
            && case.probed.is_empty()
            && case.attempts.is_empty()
            && claims.iter().all(|claim| claim.service != case.service);
        !nobody && !passed_by
    });
    let mut services: Vec<ServiceDiagnosis> = services
        .map(|case| {
            let own = claims.iter().filter(|claim| claim.service == case.service);
            diagnose(&case, own.collect())
        })
        .collect();
    corroborate(&mut services);
    follow(&mut services);
    services
}

fn diagnose(case: &Case<'_>, claims: Vec<&Claim>) -> ServiceDiagnosis {
    let symptoms = symptoms(&claims);
    let mut roots = roots(&claims);
    let names: BTreeSet<String> = symptoms.iter().map(|s| s.symptom.clone()).collect();
    let verdict = verdict(case, &roots, &symptoms);
    if verdict == HealthVerdict::Healthy {
        roots.clear();
    }
    explain(&mut roots, &names);
    for root in &mut roots {
        if let Some(at) = case.over_since(&root.cause) {
            root.summary.push_str(&format!(
                " It is over: since {} nothing of it is seen, nothing fails and requests are served.",
                at.strftime("%F %T UTC")
            ));
        }
    }
    let refuted = claims
        .iter()
        .filter(|claim| claim.status == ClaimStatus::Refuted)
        .filter(|claim| roots.iter().all(|root| root.cause != name(claim)))
        .map(|claim| Refuted {
            cause: name(claim),
            summary: claim.summary.clone(),
            evidence: lines(&claim.supporting, 3),
        });
    let masked = claims
        .iter()
        .filter(|claim| claim.status == ClaimStatus::Masked)
        .filter(|claim| roots.iter().all(|root| root.cause != name(claim)))
        .map(|claim| Masked {
            cause: name(claim),
            summary: claim.summary.clone(),
            next: claim.next.clone(),
        });
    ServiceDiagnosis {
        service: case.service.to_owned(),
        window: window(case),
        verdict,
        refuted: refuted.collect(),
        masked: masked.collect(),
        roots,
        symptoms,
        startups: startups(case),
        changes: changes(case),
        follows: None,
    }
}

/// What is held of the service: the span of its entries, else that of the probes that looked at it.
fn window(case: &Case<'_>) -> Window {
    let probed = || case.probed.iter().map(|(observation, _)| observation.moment.at);
    Window {
        from: case.held.from.or_else(|| probed().min()),
        to: case.held.to.or_else(|| probed().max()),
    }
}

fn name(claim: &Claim) -> String {
    match &claim.claimed {
        Claimed::Cause(cause) => cause.to_string(),
        Claimed::Symptom(symptom) => symptom.to_string(),
    }
}

/// The claims about causes, one root per cause, the surest first.
fn roots(claims: &[&Claim]) -> Vec<Root> {
    let mut by_cause: BTreeMap<String, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        let told = matches!(claim.status, ClaimStatus::Supported | ClaimStatus::Undetermined);
        if matches!(claim.claimed, Claimed::Cause(_)) && told && claim.confidence >= WORTH {
            by_cause.entry(name(claim)).or_default().push(claim);
        }
    }
    let mut roots: Vec<Root> =
        by_cause.into_iter().map(|(cause, claims)| root(cause, claims)).collect();
    hide(&mut roots, claims);
    let rank = |root: &Root| (is_supported(root), root.confidence);
    roots.sort_by(|a, b| {
        let ((a_supported, a_confidence), (b_supported, b_confidence)) = (rank(a), rank(b));
        let confidence = b_confidence.total_cmp(&a_confidence);
        b_supported.cmp(&a_supported).then(confidence).then_with(|| a.cause.cmp(&b.cause))
    });
    if roots.first().is_some_and(is_supported) {
        roots.retain(|root| is_supported(root) || root.confidence >= BESIDE);
    }
    roots
}

/// What another root hides is not known, whatever speaks for it.
fn hide(roots: &mut [Root], claims: &[&Claim]) {
    let hidden = |root: &Root| {
        let same = |claim: &&&Claim| name(claim) == root.cause;
        claims.iter().filter(same).any(|claim| claim.status == ClaimStatus::Masked)
    };
    let (behind, before): (Vec<&mut Root>, Vec<_>) = roots.iter_mut().partition(|r| hidden(r));
    if before.iter().any(|root| is_supported(root)) {
        for root in behind {
            root.status = ClaimStatus::Undetermined;
            root.confidence = root.confidence.min(HIDDEN);
        }
    }
}

fn is_supported(root: &Root) -> bool {
    root.status == ClaimStatus::Supported
}

fn root(cause: String, mut claims: Vec<&Claim>) -> Root {
    claims.sort_by(|a, b| {
        let supported = |claim: &Claim| claim.status == ClaimStatus::Supported;
        supported(b)
            .cmp(&supported(a))
            .then(b.confidence.total_cmp(&a.confidence))
            .then_with(|| a.summary.cmp(&b.summary))
    });
    let first = claims[0];
    let mut supporting: Vec<Observation> = Vec::new();
    let mut against = Vec::new();
    let mut explains = BTreeSet::new();
    let mut summaries: Vec<&str> = Vec::new();
    for claim in &claims {
        supporting.extend(claim.supporting.iter().cloned());
        against.extend(claim.against.iter().cloned());
        explains.extend(claim.explains.iter().map(ToString::to_string));
        if !summaries.contains(&claim.summary.as_str()) {
            summaries.push(&claim.summary);
        }
    }
    Root {
        cause,
        status: first.status,
        confidence: first.confidence,
        summary: summaries.join(" "),
        evidence: lines(&supporting, MOST_LINES),
        against: lines(&against, MOST_LINES),
        explains: explains.into_iter().collect(),
        next: first.next.clone(),
    }
}

/// Symptoms that no claim says it explains belong to the surest root.
fn explain(roots: &mut [Root], symptoms: &BTreeSet<String>) {
    let mut claimed = BTreeSet::new();
    for root in roots.iter_mut() {
        root.explains.retain(|symptom| symptoms.contains(symptom));
        claimed.extend(root.explains.iter().cloned());
    }
    if let Some(first) = roots.first_mut() {
        first.explains.extend(symptoms.difference(&claimed).cloned());
        first.explains.sort();
    }
}

fn symptoms(claims: &[&Claim]) -> Vec<SymptomSeen> {
    let mut by_name: BTreeMap<String, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        if matches!(claim.claimed, Claimed::Symptom(_)) && claim.status == ClaimStatus::Supported {
            by_name.entry(name(claim)).or_default().push(claim);
        }
    }
    by_name
        .into_iter()
        .filter_map(|(symptom, claims)| {
            let parts = claims.iter().filter_map(|claim| claim.seen);
            let seen = seen(parts.map(|seen| (seen.count, seen.first, seen.last)))?;
            Some(SymptomSeen { symptom, count: seen.count, first: seen.first, last: seen.last })
        })
        .collect()
}

fn verdict(case: &Case<'_>, roots: &[Root], symptoms: &[SymptomSeen]) -> HealthVerdict {
    let supported = roots.iter().any(|root| root.status == ClaimStatus::Supported);
    let state = state(case);
    match state {
        State::Down if roots.is_empty() => HealthVerdict::InsufficientEvidence,
        State::Down => HealthVerdict::Failing,
        State::Mixed if roots.is_empty() && few_failures(case) => HealthVerdict::Healthy,
        State::Mixed if roots.is_empty() && unexplained(case) => {
            HealthVerdict::InsufficientEvidence
        }
        State::Mixed => HealthVerdict::Degraded,
        State::Up if supported => HealthVerdict::Degraded,
        // It started; whether it does what it is for while such errors are written is not held.
        State::Up if !roots.is_empty() && case.traffic.is_empty() => {
            HealthVerdict::InsufficientEvidence
        }
        State::Up if (symptoms.is_empty() || is_over(case, symptoms)) && enough(case) => {
            HealthVerdict::Healthy
        }
        State::Up if symptoms.is_empty() => HealthVerdict::InsufficientEvidence,
        State::Up => HealthVerdict::Degraded,
        State::Untold if supported => HealthVerdict::Failing,
        State::Untold => HealthVerdict::InsufficientEvidence,
    }
}

enum State {
    /// Some function it was asked for was never served, or is no more, or its last start-ups failed.
    Down,
    /// It failed and served.
    Mixed,
    /// It served, and nothing that is held failed.
    Up,
    /// Neither.
    Untold,
}

fn state(case: &Case<'_>) -> State {
    let mut failed = case.probe_doubted() || case.work_fails();
    let mut down = case.probe_failed() || case.is_unready();
    let kinds = [
        RequestKind::Health,
        RequestKind::Websocket,
        RequestKind::Preflight,
        RequestKind::Static,
        RequestKind::Other,
    ];
    for request in kinds {
        let bad: u64 = case
            .answers(request)
            .filter(|traffic| case.answer_failed(traffic))
            .map(|traffic| traffic.count)
            .sum();
        failed |= bad > 0;
        // Pages that are served while every health check fails are no service; one request that
        // failed beside others that were served is no function that is down.
        let enough = bad >= FUNCTION || !case.serves();
        let ever = case.answers(request).any(|traffic| case.was_served(traffic));
        down |=
            bad > 0 && enough && (!ever || case.has_ended(request) || case.mostly_fails(request));
    }
    let last_failure =
        case.failures().filter_map(|(_, _, attempt)| attempt.failed_at.max(attempt.ended)).max();
    if case.failures().next().is_some() {
        failed = true;
        let completed = case
            .attempts
            .iter()
            .filter(|(_, attempt)| attempt.end == AttemptEnd::Completed)
            .filter_map(|(_, attempt)| attempt.completed_at.or(attempt.began))
            .max();
        let served = case
            .traffic
            .iter()
            .filter(|(_, traffic)| traffic.served())
            .filter_map(|(_, traffic)| traffic.last)
            .max();
        // Lines without times are in the order they were written.
        let last = |end: AttemptEnd| {
            let ended = case.attempts.iter().filter(|(_, attempt)| attempt.end == end);
            ended.filter_map(|(_, attempt)| Some(attempt.places?.ended)).max()
        };
        down |= match last_failure {
            None => last(AttemptEnd::Completed) <= last(AttemptEnd::Failed),
            failed => completed.max(served) <= failed,
        };
    }
    match () {
        () if down => State::Down,
        () if failed => State::Mixed,
        () if case.serves() || case.probe_passed() || case.goes_on() => State::Up,
        () => State::Untold,
    }
}

fn few_failures(case: &Case<'_>) -> bool {
    case.works() && !case.probe_doubted()
}

/// Whether work or more than a few requests failed, and not because the platform had no instance to ask.
fn unexplained(case: &Case<'_>) -> bool {
    let failed = case.traffic.iter().filter(|(_, t)| case.answer_failed(t) && t.status != 429);
    case.work_fails() || failed.map(|(_, traffic)| traffic.count).sum::<u64>() >= FUNCTION
}

/// Whether each symptom was seen once, and requests were served after it: nothing came of it.
fn is_over(case: &Case<'_>, symptoms: &[SymptomSeen]) -> bool {
    let served = case.last_served();
    symptoms.iter().all(|seen| seen.count == 1 && seen.last.is_some() && seen.last < served)
}

/// Whether enough is held to call a service healthy: most entries have their words, and there are
/// no more errors that nobody understands than requests that were served.
fn enough(case: &Case<'_>) -> bool {
    let held = &case.held;
    let served = case.traffic.iter().filter(|(_, traffic)| traffic.served());
    let served: u64 = served.map(|(_, traffic)| traffic.count).sum();
    let understood = held.unclassified < FEW_ERRORS || held.unclassified <= served;
    held.without_payload * 2 <= held.entries && understood
}

fn startups(case: &Case<'_>) -> Vec<Startup> {
    let all = case.attempts.iter().map(|(observation, attempt)| {
        let tail = |id: &str| {
            let skip = id.chars().count().saturating_sub(12);
            id.chars().skip(skip).collect::<String>()
        };
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let to_exit = attempt.exit_code.and(attempt.began).zip(attempt.ended);
        Startup {
            instance: tail(&observation.subject.instance),
            revision: observation.subject.revision.clone(),
            at: attempt.began,
            phases: attempt.phases.clone(),
            failed_phase: some(&attempt.failed_phase),
            claimed_timeout_s: attempt.claimed_timeout_s,
            measured_s: attempt.measured_s,
            limit: some(&attempt.limit),
            exit_code: attempt.exit_code,
            exit_source: some(&attempt.exit_source),
            after_s: None,
            outcome: attempt.end,
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of a start-up")]
            to_exit_s: to_exit.map(|(began, ended)| {
                (ended.as_millisecond() - began.as_millisecond()) as f64 / 1e3
            }),
        }
    });
    let mut all: Vec<Startup> = all.collect();
    for index in 1..all.len() {
        let (before, after) = (all[index - 1].at, all[index].at);
        #[expect(clippy::cast_precision_loss, reason = "milliseconds between start-ups")]
        let apart = before
            .zip(after)
            .map(|(before, after)| (after.as_millisecond() - before.as_millisecond()) as f64 / 1e3);
        all[index].after_s = apart;
    }
    let surplus = all.len().saturating_sub(MOST_STARTUPS);
    if surplus > 0 {
        all.drain(MOST_STARTUPS / 2..MOST_STARTUPS / 2 + surplus);
    }
    all
}

fn changes(case: &Case<'_>) -> Vec<ChangeSeen> {
    let changes = case.changes.iter().map(|(observation, change)| ChangeSeen {
        at: time_of(&observation.moment),
        actor: change.actor.clone(),
        method: change.method.clone(),
        revision: observation.subject.revision.clone(),
        fields: change.fields.clone(),
    });
    changes.collect()
}

/// The lines of observations, each once, the first `most`, in time order.
fn lines(observations: &[Observation], most: usize) -> Vec<EvidenceLine> {
    let mut seen = BTreeSet::new();
    let mut lines: Vec<EvidenceLine> = observations
        .iter()
        .filter_map(line)
        .filter(|line| seen.insert(line.clone()))
        .take(most)
        .collect();
    lines.sort();
    lines
}

fn line(observation: &Observation) -> Option<EvidenceLine> {
    let at = time_of(&observation.moment);
    let provenance = observation.provenance;
    let line = |source: &str, quote: &str| EvidenceLine {
        at,
        source: source.to_owned(),
        quote: quote.to_owned(),
        provenance,
    };
    match &observation.body {
        Body::Fact(fact) if !fact.get("quote").is_empty() => {
            Some(line(fact.get("source"), fact.get("quote")))
        }
        Body::Fact(fact) => {
            let attributes: Vec<String> =
                fact.attributes.iter().map(|(key, value)| format!("{key} {value}")).collect();
            let quote = format!("{}: {}", fact.fact, attributes.join(", "));
            Some(line("probe", &shakedown_core::redact::quotable(&quote)))
        }
        Body::Traffic(traffic) => Some(EvidenceLine {
            at: traffic.quote.at,
            ..line(&traffic.quote.source, &traffic.quote.text)
        }),
        Body::Attempt(attempt) => {
            let words = attempt.words.last()?;
            Some(EvidenceLine { at: words.at, ..line(&words.source, &words.text) })
        }
        Body::Change(change) => {
            let fields: Vec<String> = change
                .fields
                .iter()
                .map(|(key, from, to)| match from.as_str() {
                    "" => format!("{key}: {to}"),
                    from => format!("{key}: {from} -> {to}"),
                })
                .collect();
            let quote = format!("{} {}", change.method, fields.join("; "));
            Some(line("audit log", &shakedown_core::redact::quotable(&quote)))
        }
        Body::Sample(sample) => {
            Some(line("monitor", &format!("{} {:?} {}", sample.metric, sample.value, sample.unit)))
        }
        _ => None,
    }
}
