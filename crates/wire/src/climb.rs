//! Rungs: one after the other, each timed, all within one limit.

use std::sync::Arc;
use std::time::Duration;

use shakedown_core::clock::{self, Instant};
use shakedown_core::redact::sanitize;
use shakedown_core::{Fault, Interrupted, Lease, ProbeCtx, ProbeError, Span, Step};

use crate::bounds::LONGEST;
use crate::wire::Wire;

/// How long we wait for a peer to close its end before its lease lingers instead.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// What came of climbing to the target: the rungs taken, and the connection or why there is none.
#[derive(Debug)]
pub struct Climb<T> {
    /// The rungs, in order. When the climb failed, the last is the one it failed at; there is none
    /// when it was interrupted while waiting for the budget's rate.
    pub steps: Vec<Step>,
    /// What was climbed to, or the fault of the last step.
    pub result: Result<T, Fault>,
    /// Set when the climb ended because the probe was cancelled or its time was up. The fault is
    /// then a [`Fault::Timeout`] with the time the climb was given until then: true, but no news
    /// about the target. See [`Climb::uninterrupted`].
    pub interrupted: Option<Interrupted>,
}

impl<T> Climb<T> {
    /// The step it failed at.
    pub fn failed_step(&self) -> Option<&Step> {
        self.steps.last().filter(|step| !step.is_ok())
    }

    /// How long `rung` took, in milliseconds; `None` when it was not reached.
    pub fn elapsed_ms(&self, rung: &str) -> Option<f64> {
        self.steps.iter().find(|step| step.rung == rung).map(|step| step.elapsed_ms)
    }

    /// All rungs together, in milliseconds.
    pub fn total_ms(&self) -> f64 {
        self.steps.iter().map(|step| step.elapsed_ms).sum()
    }

    /// The climb, unless it was cut short by our own side.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Interrupted`]: there is no verdict then.
    pub fn uninterrupted(self) -> Result<Self, ProbeError> {
        match self.interrupted {
            None => Ok(self),
            Some(interrupted) => Err(interrupted.into()),
        }
    }
}

/// Climbs: runs one rung after the other and notes each.
pub(crate) struct Ladder<'a> {
    ctx: &'a ProbeCtx,
    limit: Duration,
    deadline: Instant,
    started: Instant,
    pub(crate) steps: Vec<Step>,
    interrupted: Option<Interrupted>,
}

impl<'a> Ladder<'a> {
    /// A ladder of at most `limit` and the environment's `safety.connect_timeout`.
    pub(crate) fn new(ctx: &'a ProbeCtx, limit: Duration) -> Self {
        let limit = limit.min(ctx.environment().safety.connect_timeout.get()).min(LONGEST);
        let started = clock::now();
        Self {
            ctx,
            limit,
            deadline: started + limit,
            started,
            steps: Vec::with_capacity(6),
            interrupted: None,
        }
    }

    /// Waits until the budget's rates allow the acts of `kinds`; the clock starts afterwards.
    pub(crate) async fn pace(
        &mut self,
        lease: &Lease,
        kinds: &[shakedown_core::id::ResourceKind],
    ) -> Result<(), Fault> {
        let paced = self.ctx.guard(async {
            for kind in kinds {
                lease.pace(kind).await;
            }
        });
        let paced = paced.await;
        let outcome = paced.map_err(|interrupted| self.interrupt(interrupted));
        self.started = clock::now();
        self.deadline = self.started + self.limit;
        outcome
    }

    /// The run's wire. Its configuration error is booked to the first rung.
    pub(crate) fn wire(&mut self) -> Result<Arc<Wire>, Fault> {
        Wire::of(self.ctx).map_err(|error| {
            let message = error.to_string();
            self.book("resolve", Fault::Resolve { message })
        })
    }

    /// Whether our own side cut it short.
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupted.is_some()
    }

    /// How long all rungs together may take.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Until when all rungs must be done.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Books a fault to a rung that was not even begun.
    pub(crate) fn book(&mut self, rung: &str, fault: Fault) -> Fault {
        let step = Step::ended(rung, clock::wall(), clock::now(), Some(fault.clone()));
        self.steps.push(step);
        fault
    }

    /// How much of the limit is left.
    pub(crate) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(clock::now())
    }

    /// Runs `work` within what is left of the limit, without noting a step.
    pub(crate) async fn bounded<T>(
        &mut self,
        work: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let limited = tokio::time::timeout_at(self.deadline, work);
        match self.ctx.guard(limited).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(Fault::Timeout { limit: Span(self.limit) }),
            Err(interrupted) => Err(self.interrupt(interrupted)),
        }
    }

    /// Runs `work` as one rung; what it found becomes the step's detail.
    pub(crate) async fn rung<T>(
        &mut self,
        rung: &str,
        work: impl Future<Output = Result<(T, Option<String>), Fault>>,
    ) -> Result<T, Fault> {
        let (at, since) = (clock::wall(), clock::now());
        let outcome = self.bounded(work).await;
        let mut step = Step::ended(rung, at, since, None);
        let outcome = match outcome {
            Ok((value, detail)) => {
                step.detail = detail;
                Ok(value)
            }
            Err(fault) => {
                step.fault = Some(fault.clone());
                Err(fault)
            }
        };
        self.steps.push(step);
        outcome
    }

    fn interrupt(&mut self, interrupted: Interrupted) -> Fault {
        self.interrupted = Some(interrupted);
        Fault::Timeout { limit: Span(self.started.elapsed()) }
    }

    /// Ends the climb.
    pub(crate) fn end<T>(self, result: Result<T, Fault>) -> Climb<T> {
        Climb { steps: self.steps, result, interrupted: self.interrupted }
    }
}

/// A stranger's words: without control characters, at most `cap` characters.
pub(crate) fn quoted(text: &str, cap: usize) -> String {
    let text = text.trim();
    match text.char_indices().nth(cap) {
        Some((end, _)) => format!("{}...", sanitize(&text[..end])),
        None => sanitize(text).into_owned(),
    }
}

/// Whether the peer is known not to hold a connection of ours after `fault`.
pub(crate) fn peer_is_gone(fault: &Fault) -> bool {
    matches!(fault, Fault::Closed | Fault::Reset | Fault::Refused)
}
