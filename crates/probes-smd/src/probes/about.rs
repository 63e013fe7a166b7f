//! What the probes about start-ups have in common.

use std::time::Duration;

use shakedown_core::budget::Draw;
use shakedown_core::id::resource;
use shakedown_core::{
    Category, Outcome, ProbeCtx, ProbeError, ProbeMeta, Provenance, RunPhase, SkipReason,
};

use crate::startup::{Observed, Origin, Start, Startups};

/// Each may be the one that starts the application, and asks its health meanwhile. What the
/// application draws from the database's budget is configured: `application.draws`.
const DRAWS: &[Draw] = &[Draw::new(resource::HTTP_CONNECTION, 1)];

/// The description of a probe that looks at start-ups: it may have to wait for one to end, which the
/// platform gives up after 240 s.
pub(super) const fn meta(id: &'static str, summary: &'static str) -> ProbeMeta {
    ProbeMeta {
        category: Category::E2e,
        markers: &["staging", "issue_1278"],
        draws: DRAWS,
        expected: Duration::from_secs(5),
        timeout: Duration::from_secs(300),
        ..ProbeMeta::new(id, RunPhase::Startup, summary)
    }
}

/// The outcome of `judge` about what the run's sources saw; a skip where they saw no start-up.
pub(super) async fn about(
    ctx: &ProbeCtx,
    judge: impl FnOnce(&Observed) -> Outcome + Send,
) -> Result<Outcome, ProbeError> {
    Ok(match Startups::of(ctx).observe(ctx).await? {
        Ok(observed) => observed.noted(judge(&observed)),
        Err(skipped) => skipped,
    })
}

/// The question needs a failed start-up, and every one that was seen is well.
pub(super) fn nothing_failed(observed: &Observed) -> Outcome {
    let (all, completed) = (observed.starts.len(), observed.completed().count());
    let why = format!("no start-up failed: {completed} of {all} seen completed");
    Outcome::skip(SkipReason::NotExercised(why))
}

/// Which start-up, for people.
pub(super) fn which(start: &Start) -> String {
    // Cloud Run's ids have some hundred characters.
    let instance = start.subject.instance.get(..12).unwrap_or(&start.subject.instance);
    let name = if instance.is_empty() { String::new() } else { format!(" of {instance}") };
    let began = start.attempt.began;
    let at = began.map(|at| format!(" at {}", at.strftime("%H:%M:%S UTC"))).unwrap_or_default();
    format!("the start-up{name}{at} (seen in {})", start.origin.as_str())
}

/// Our own clock measured what a process of ours did; a log's times are somebody else's word.
pub(super) fn provenance(start: &Start) -> Provenance {
    match start.origin {
        Origin::Process => Provenance::Measured,
        Origin::Logs => Provenance::Quoted,
    }
}

/// Seconds, for people.
pub(super) fn s(seconds: f64) -> String {
    format!("{seconds:.1} s")
}
