//! What ends an exchange on an open connection, long after the climb.

use std::time::Duration;

use shakedown_core::clock::{self, Instant};
use shakedown_core::{Fault, ProbeCtx, Span};
use tokio_util::sync::CancellationToken;

/// Longer than any run; keeps sums of times in range.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The end of the probe that a connection belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    cancel: CancellationToken,
    deadline: Option<Instant>,
}

impl Bounds {
    pub(crate) fn of(ctx: &ProbeCtx) -> Self {
        let deadline = ctx.remaining().map(|remaining| clock::now() + remaining);
        Self { cancel: ctx.cancelled().clone(), deadline }
    }

    /// Runs `work` for at most `limit`, or until the probe is cancelled or out of time.
    ///
    /// # Errors
    ///
    /// [`Fault::Timeout`] with `limit`, or with the time there was when the probe's end came first.
    pub(crate) async fn run<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Fault> {
        let since = clock::now();
        let until = since + limit.min(LONGEST);
        let until = self.deadline.map_or(until, |deadline| deadline.min(until));
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {}
            done = tokio::time::timeout_at(until, work) => {
                if let Ok(output) = done {
                    return Ok(output);
                }
            }
        }
        Err(Fault::Timeout { limit: Span(limit.min(since.elapsed())) })
    }
}
