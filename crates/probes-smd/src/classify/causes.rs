//! Causes that a start-up's own words name.

use shakedown_core::Case;
use shakedown_core::case::{Argument, Hit, PROBE_FINDING};
use shakedown_core::classify::{Claim, ClaimStatus, Claimed};
use shakedown_core::evidence::Body;
use shakedown_core::id::Cause;

use super::signals::{DEFECT, EXCEPTION, MEMORY, SETTING, WORKER_TIMEOUT};
use crate::causes::{CODE_DEFECT, CONFIGURATION_ERROR, DEPENDENCY_UNAVAILABLE, OUT_OF_MEMORY};

/// How sure it is that what is raised while modules are imported, and names nothing outside them, is
/// theirs: two of three.
const AT_IMPORT: f64 = 0.66;
/// Whoever cuts messages for a summary leaves less than this, in bytes.
const CUT: usize = 160;

pub(super) fn claims(case: &Case<'_>) -> Vec<Claim> {
    let mut claims = Vec::new();
    claims.extend(defect(case));
    claims.extend(setting(case));
    claims.extend(super::port::elsewhere(case));
    claims.extend(dependency(case));
    claims.extend(memory(case));
    claims.extend(masked(case));
    claims
}

/// The words of the first hit of a kind, short.
fn first_words(case: &Case<'_>, kind: &str) -> Option<String> {
    let quote = case.of_kind(kind).next()?.fact.get("quote");
    let short: String = quote.chars().take(160).collect();
    Some(short)
}

fn defect(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&CODE_DEFECT, |_| true)?;
    // An exception that names nothing matters only where it ended a start-up, and where it is told.
    if !argument.decisive && (argument.attempts.is_empty() || !says_what(&argument)) {
        return None;
    }
    let at_import = argument.attempts.iter().any(|(_, attempt)| attempt.at_import);
    let place = if at_import { " while the worker boots" } else { "" };
    let summary = match (argument.decisive, first_words(case, DEFECT)) {
        (true, Some(words)) => format!(
            "{} that a programming error was met{place} (\"{words}\"); {}.",
            argument.say(),
            argument.effect()
        ),
        _ => format!(
            "an exception that names no infrastructure ends the start-up{place}; {}.",
            argument.effect()
        ),
    };
    let of_the_code = argument.decisive || (at_import && names_no_setting(case));
    let next = if of_the_code {
        "fix the import or the call in the image named by the revision; deploying again or waiting does not help"
    } else {
        "read the last exception of the traceback in full, with the revision's image at hand"
    };
    let mut claim = argument.claim(case.service, summary, next);
    if of_the_code && claim.status != ClaimStatus::Supported {
        claim.status = ClaimStatus::Supported;
        claim.confidence = AT_IMPORT;
    }
    Some(claim)
}

/// Whether one of the lines says what failed: not where somebody cut it before it did, nor where all it
/// says is what it guesses.
fn says_what(argument: &Argument<'_>) -> bool {
    const GUESSES: [&str; 6] = [
        "may indicate",
        "might indicate",
        "could indicate",
        "may be caused",
        "possibly",
        "probably",
    ];
    argument.observations.iter().flatten().any(|line| match &line.body {
        Body::Fact(fact) => {
            let quote = fact.get("quote");
            let cut = quote.len() < CUT && (quote.ends_with("...") || quote.ends_with('\u{2026}'));
            // What was below the head of a traceback is not held.
            let head = quote.ends_with("(most recent call last):");
            !cut && !head && !GUESSES.iter().any(|words| quote.contains(words))
        }
        _ => false,
    })
}

/// Whether the exceptions that are held name their type and nothing from outside the code.
fn names_no_setting(case: &Case<'_>) -> bool {
    const OUTSIDE: [&str; 20] = [
        "environment",
        "config",
        "setting",
        "secret",
        "credential",
        "variable",
        "permission",
        "denied",
        "not found",
        "no such file",
        "dsn",
        "url",
        "host",
        "address",
        "connect",
        "timeout",
        "timed out",
        "database",
        "password",
        "_key",
    ];
    let mut named = case.of_kind(EXCEPTION).map(|hit| hit.fact.get("quote")).peekable();
    named.peek().is_some()
        && named.all(|quote| {
            let kind = quote.split(':').next().unwrap_or_default();
            let words = quote.to_ascii_lowercase();
            let upper = |word: &str| {
                word.contains('_') && word.chars().all(|c| c.is_ascii_uppercase() || c == '_')
            };
            let names_variable =
                quote.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(upper);
            (kind.ends_with("Error") || kind.ends_with("Exception"))
                && !kind.contains(' ')
                && !names_variable
                && !OUTSIDE.iter().any(|outside| words.contains(outside))
        })
}

fn setting(case: &Case<'_>) -> Option<Claim> {
    let argument = case.argue(&CONFIGURATION_ERROR, |hit| hit.signal.starts_with("smd."))?;
    let setting = case.of_kind(SETTING).find_map(|hit| {
        ["setting", "other"].map(|name| hit.fact.get(name)).into_iter().find(|s| !s.is_empty())
    });
    let what =
        setting.map_or_else(|| "a setting".to_owned(), |setting| format!("the setting {setting}"));
    let summary = format!(
        "{} that {what} is missing or not accepted (\"{}\"); {}.",
        argument.say(),
        first_words(case, SETTING).unwrap_or_default(),
        argument.effect()
    );
    let next = "compare the environment and secrets of this revision (`gcloud run revisions describe REVISION`) with the last one that started";
    Some(argument.claim(case.service, summary, next))
}

fn dependency(case: &Case<'_>) -> Option<Claim> {
    // What a user meets at a service that does not start says nothing about what that one needs.
    let starts = case.failures().next().is_none();
    let met = |hit: &Hit<'_>| hit.fact.fact.as_str() == PROBE_FINDING;
    // What has a classifier of its own says so.
    let own = |hit: &Hit<'_>| hit.fact.get("claimed").is_empty();
    let argument = case.argue(&DEPENDENCY_UNAVAILABLE, |hit| {
        own(hit) && !hit.tolerated && (starts || !met(hit))
    })?;
    let target = case
        .of_kind(super::signals::DEPENDENCY)
        .flat_map(|hit| ["target", "host"].map(|name| hit.fact.get(name)))
        .find(|target| !target.is_empty());
    let summary = format!(
        "{} that something the service needs{} does not answer; {}.",
        argument.say(),
        target.map(|target| format!(" ({target})")).unwrap_or_default(),
        argument.effect()
    );
    let next = "ask the dependency itself, from the service's network";
    Some(argument.claim(case.service, summary, next))
}

fn memory(case: &Case<'_>) -> Option<Claim> {
    // "Perhaps out of memory?" is gunicorn's guess about any SIGKILL, its own after a timeout too.
    let unanswered = case.of_kind(WORKER_TIMEOUT).next().is_some();
    let only_killed = |hit: &Hit<'_>| ["smd.sigkill", "smd.signal-9"].contains(&hit.signal);
    let argument = case.argue(&OUT_OF_MEMORY, |hit| !(unanswered && only_killed(hit)))?;
    let figures = case.of_kind(MEMORY).find_map(|hit| {
        let (limit, used) = (hit.fact.get("limit"), hit.fact.get("used"));
        (!limit.is_empty()).then(|| format!(" (limit {limit}, used {used})"))
    });
    let summary = format!(
        "{} that an instance was killed for its memory{}.",
        argument.say(),
        figures.unwrap_or_default()
    );
    let next = "run.googleapis.com/container/memory/utilizations of the revision, and what grew";
    Some(argument.claim(case.service, summary, next))
}

/// When every start-up dies before it needs the database, the database is not fine: it is unknown.
fn masked(case: &Case<'_>) -> Option<Claim> {
    let failures: Vec<_> = case.failures().map(|(_, _, attempt)| attempt).collect();
    let before = |attempt: &&shakedown_core::Attempt| attempt.reached_database == Some(false);
    let served = case.traffic.iter().any(|(_, traffic)| traffic.served());
    let reached = case.attempts.iter().any(|(_, attempt)| {
        attempt.reached_database == Some(true)
            || attempt.end == shakedown_core::AttemptEnd::Completed
    });
    if failures.is_empty() || !failures.iter().all(before) || served || reached {
        return None;
    }
    let cause = Cause::new("cloud_sql_unreachable");
    let mut claim = Claim::new(Claimed::Cause(cause), case.service, ClaimStatus::Masked);
    claim.summary = format!(
        "{} start-ups died before the database phase: whether the database can be reached is unknown, not fine.",
        failures.len()
    );
    claim.next =
        "start an image without the defect, or `shakedown run cloudsql.connect-timing`".to_owned();
    Some(claim)
}
