//! From refused tokens and failed requests to why users get no answer: on core alone.

mod browsers;
mod elsewhere;
mod origins;
mod passed_on;
mod signals;

use shakedown_core::attempt::{RequestKind, Traffic};
use shakedown_core::case::{
    ANONYMOUS, Argument, CHECKER_SILENT, GUEST, Hit, PROBE_FINDING, SOCKET_BROKEN, SOCKET_CLOSED,
    TOKEN_ACCEPTED as ACCEPTED, TOKEN_REFUSED as REFUSED, TOKEN_UNFIT as SIGNATURE, WORK_FAILED,
    seen,
};
use shakedown_core::classify::{Claim, ClaimStatus, Claimed, Seen};
use shakedown_core::id::{Cause, Symptom};
use shakedown_core::{AttemptEnd, Case, Evidence, Observation};

use crate::causes::{AUTH_FAILURE, GOLDEN_PATH_OFFLINE, REQUESTS_FAIL, TOKENS_REFUSED};
use signals::{BROWSER, CLIENT_LEFT};

/// The cause that another crate describes: who should open WebSockets does not.
const DEPENDENCY_UNAVAILABLE: Cause = Cause::new("dependency_unavailable");
/// The cause that another crate describes: two services that disagree are configured wrongly.
const CONFIGURATION_ERROR: Cause = Cause::new("configuration_error");

/// The signals about credentials of services, not of users.
const BETWEEN_SERVICES: [&str; 2] = ["goldenpath.oauth", "goldenpath.service-secret"];

shakedown_core::observation_kinds! {
    SIGNATURE_META, SIGNATURE, "a token does not fit the secret, key or audience of whoever checks it";
    REFUSED_META, REFUSED, "a token was refused for another reason";
    ANONYMOUS_META, ANONYMOUS, "a request came without a token";
    CHECKER_SILENT_META, CHECKER_SILENT, "whoever checks tokens does not answer this service";
    ACCEPTED_META, ACCEPTED, "a token was accepted";
    BROWSER_META, BROWSER, "a browser says that a WebSocket did not come about; target";
    GUEST_META, GUEST, "whoever came without a token was let in to look around";
    CLIENT_LEFT_META, CLIENT_LEFT, "a client left while something was sent to it";
    WORK_FAILED_META, WORK_FAILED, "an agent's run that somebody asked for failed";
    SOCKET_BROKEN_META, SOCKET_BROKEN, "a WebSocket was opened and closed with 1011: the service could not go on";
    SOCKET_CLOSED_META, SOCKET_CLOSED, "a WebSocket was opened and closed with 1008: its user may not come in";
}

pub use signals::TABLE as SIGNALS;

#[cfg(feature = "register")]
shakedown_core::register_signal!(SIGNALS);

shakedown_core::classifier! {
    /// Whether users get in and get answers.
    pub struct GoldenPath;
    id: "goldenpath.users",
    summary: "tells services that disagree about tokens from refused strangers, and counts users without an answer",
    causes: [AUTH_FAILURE, CONFIGURATION_ERROR, DEPENDENCY_UNAVAILABLE],
    symptoms: [GOLDEN_PATH_OFFLINE, TOKENS_REFUSED, REQUESTS_FAIL],
    classify: all,
}

fn all(evidence: &Evidence) -> Vec<Claim> {
    let cases = Case::all(evidence);
    cases.iter().flat_map(|case| classify(case, &cases)).collect()
}

fn classify(case: &Case<'_>, all: &[Case<'_>]) -> Vec<Claim> {
    let mut claims = Vec::new();
    let passed_on = || passed_on::not_passed_on(case, &CONFIGURATION_ERROR);
    claims.extend(disagreement(case).or_else(passed_on));
    let elsewhere = || elsewhere::refused(case, all, &CONFIGURATION_ERROR);
    let elsewhere = if claims.is_empty() { elsewhere() } else { None };
    let unknown = elsewhere.is_some() || case.of_kind(CHECKER_SILENT).next().is_some();
    claims.extend(elsewhere);
    claims.extend(refusals(case, claims.first()));
    claims.extend(origins::refused(case, &CONFIGURATION_ERROR));
    claims.extend(credentials(case));
    claims.extend(browsers::complain(case, all));
    let auth = claims.iter().any(|claim| claim.status == ClaimStatus::Supported);
    if auth && let Some(part) = together([case.seen_kind(SIGNATURE), case.seen_kind(REFUSED)]) {
        claims.push(symptom(case, TOKENS_REFUSED, part, Vec::new()));
    } else if unknown {
        // Users with good tokens are refused all the same.
        let refused = counted(case, |traffic| case.turned_away(traffic));
        claims.extend(refused.map(|part| symptom(case, TOKENS_REFUSED, part, Vec::new())));
    }
    claims.extend(requests(case));
    claims.extend(offline(case));
    claims
}

/// Whether it is up. What does not start, and is served all the same, turns everybody away.
fn is_up(case: &Case<'_>) -> bool {
    case.serves() || case.failures().next().is_none()
}

/// Whoever checks tokens refuses all of them although they are good elsewhere.
fn disagreement(case: &Case<'_>) -> Option<Claim> {
    let refused = turned_away(case);
    let is_up = is_up(case);
    let about_tokens = |hit: &Hit<'_>| {
        let met = hit.fact.fact.as_str() == PROBE_FINDING;
        hit.signal.starts_with("goldenpath.") && !passed_on::is_plain(hit) && (is_up || !met)
    };
    let mut argument = case.argue(&CONFIGURATION_ERROR, about_tokens)?;
    if refused.is_none() && argument.attempts.is_empty() {
        // Users with bad tokens are no failure. Services that do not let each other in are one.
        let between = |hit: &Hit<'_>| BETWEEN_SERVICES.contains(&hit.signal);
        argument = case.argue(&CONFIGURATION_ERROR, between)?;
    }
    let accepted = case.of_kind(ACCEPTED).next();
    let mut summary = format!(
        "{} that tokens do not fit the secret or key of this service; {}.",
        argument.say(),
        refused.map_or_else(|| argument.effect(), ToOwned::to_owned)
    );
    if case.answers(RequestKind::Health).any(Traffic::served) {
        summary
            .push_str(" Health checks are answered meanwhile: it runs, it does not let users in.");
    }
    if accepted.is_some() {
        summary.push_str(" The issuer accepts tokens in the same window.");
    }
    let next = "compare the signing secret's version (not its text) in both services' revisions, then probe the login-to-WebSocket path with one fresh token";
    let mut claim = argument.claim(case.service, summary, next);
    claim.supporting.extend(accepted.map(|hit| hit.observation.clone()));
    claim.supporting.extend(refused_answers(case));
    claim.explains = vec![TOKENS_REFUSED, GOLDEN_PATH_OFFLINE];
    Some(claim)
}

fn refused_answers(case: &Case<'_>) -> Vec<Observation> {
    let refused = case.traffic.iter().filter(|(_, traffic)| case.turned_away(traffic));
    refused.map(|(observation, _)| (*observation).clone()).take(2).collect()
}

/// Who is turned away, if everybody is.
fn turned_away(case: &Case<'_>) -> Option<&'static str> {
    let turned = |kind| case.answers(kind).any(|traffic| case.turned_away(traffic));
    if turned(RequestKind::Websocket) {
        let ever = case.answers(RequestKind::Websocket).any(|traffic| case.was_served(traffic));
        Some(if ever { "no WebSocket is let in any more" } else { "not one WebSocket was let in" })
    } else if turned(RequestKind::Other) {
        Some("not one call of this API was let in")
    } else {
        None
    }
}

/// Tokens are refused, and nothing says why.
fn refusals(case: &Case<'_>, known: Option<&Claim>) -> Option<Claim> {
    let refused = turned_away(case)?;
    if known.is_some_and(|claim| claim.status == ClaimStatus::Supported) || !is_up(case) {
        return None;
    }
    // Who is not checked is not refused for a token.
    let said = |kind| case.of_kind(kind).next().is_some();
    if said(CHECKER_SILENT) && !said(SIGNATURE) && !said(REFUSED) {
        return None;
    }
    let argument: Option<Argument<'_>> = case.argue(&AUTH_FAILURE, |_| true);
    let next = "one fresh token of the issuer against this service, with the reason it gives";
    let summary = format!(
        "{refused} while others than anonymous ones asked; no line says that a signature, secret or key does not fit."
    );
    let mut claim = match &argument {
        Some(argument) => argument.claim(case.service, summary, next),
        None => {
            let claimed = Claimed::Cause(AUTH_FAILURE);
            let mut claim = Claim::new(claimed, case.service, ClaimStatus::Undetermined);
            claim.confidence = 0.4;
            claim.summary = summary;
            claim.next = next.to_owned();
            claim
        }
    };
    claim.supporting.extend(refused_answers(case));
    claim.explains = vec![GOLDEN_PATH_OFFLINE];
    Some(claim)
}

/// A probe that logs in is refused: whoever it asked was reached and knows better.
fn credentials(case: &Case<'_>) -> Option<Claim> {
    let probed = |hit: &Hit<'_>| hit.fact.fact.as_str() == PROBE_FINDING;
    let argument = case.argue(&AUTH_FAILURE, probed)?;
    let summary =
        format!("{} that credentials are refused; {}.", argument.say(), argument.effect());
    let next = "compare user and password, token or key of the environment file with what the other side has";
    Some(argument.claim(case.service, summary, next))
}

fn symptom(case: &Case<'_>, symptom: Symptom, part: Seen, supporting: Vec<Observation>) -> Claim {
    let mut claim = Claim::new(Claimed::Symptom(symptom), case.service, ClaimStatus::Supported);
    claim.confidence = 1.0;
    claim.seen = Some(part);
    claim.supporting = supporting;
    claim
}

fn together(parts: [Option<Seen>; 2]) -> Option<Seen> {
    seen(parts.into_iter().flatten().map(|part| (part.count, part.first, part.last)))
}

/// The answers that `wanted` lets through; the platform and the server count the same requests.
fn counted(case: &Case<'_>, wanted: impl Fn(&Traffic) -> bool) -> Option<Seen> {
    let by = |access: bool| {
        let traffic = case.traffic.iter().map(|(_, traffic)| *traffic);
        let traffic = traffic.filter(|traffic| traffic.access == access && wanted(traffic));
        seen(traffic.map(|traffic| (traffic.count, traffic.first, traffic.last)))
    };
    by(false).or_else(|| by(true))
}

fn requests(case: &Case<'_>) -> Option<Claim> {
    let part = counted(case, Traffic::failed)?;
    Some(symptom(case, REQUESTS_FAIL, part, Vec::new()))
}

/// No user gets an answer: no WebSocket is let in, or nothing but 5xx is answered, or no start-up
/// of the service completes and nothing is served.
fn offline(case: &Case<'_>) -> Option<Claim> {
    let kinds = [RequestKind::Websocket, RequestKind::Health, RequestKind::Other];
    let dark = |kind: &RequestKind| {
        case.answers(*kind).any(|traffic| case.answer_failed(traffic))
            && !case.answers(*kind).any(|traffic| traffic.served() && !case.answer_failed(traffic))
    };
    let socket = dark(&RequestKind::Websocket);
    let let_in = case.answers(RequestKind::Websocket).any(Traffic::served);
    let blocked = case.answers(RequestKind::Preflight).any(|traffic| case.turned_away(traffic));
    let browsers = !let_in && (blocked || dark(&RequestKind::Preflight));
    let all = kinds.iter().any(dark) && !case.serves();
    let part = if socket || browsers || all {
        counted(case, |traffic| {
            let kind = match traffic.request {
                RequestKind::Websocket => socket,
                RequestKind::Preflight => browsers,
                _ => false,
            };
            case.answer_failed(traffic) && (all || kind)
        })
    } else {
        None
    };
    let unstarted = || {
        let completed =
            case.attempts.iter().any(|(_, attempt)| attempt.end == AttemptEnd::Completed);
        let failures: Vec<_> = case.failures().map(|(_, _, attempt)| attempt).collect();
        if completed || case.serves() || failures.len() < 2 {
            return None;
        }
        let at = |attempt: &shakedown_core::Attempt| attempt.failed_at.or(attempt.ended);
        seen(failures.iter().map(|attempt| (1, at(attempt), at(attempt))))
    };
    let (found, mut lines) = case.symptom_found(&GOLDEN_PATH_OFFLINE);
    let part = part.or_else(unstarted).or(found)?;
    lines.extend(refused_answers(case));
    Some(symptom(case, GOLDEN_PATH_OFFLINE, part, lines))
}
