//! One attempt of one probe: reserve, spawn, time out, cancel, abort, clean up.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shakedown_core::budget::Allotment;
use shakedown_core::cleanup::{CleanupLedger, CleanupRecord};
use shakedown_core::clock::{self, Instant, millis};
use shakedown_core::context::{Interrupted, Note};
use shakedown_core::evidence::Observation;
use shakedown_core::outcome::{Finding, Outcome};
use shakedown_core::probe::{Probe, ProbeError};
use shakedown_core::record::{NoVerdict, PlannedProbe, ProbeRecord, ProbeResult, RunEvent};
use shakedown_core::units::Span;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::wait::{Heed, Message, Waited};
use super::{Run, not_started};
use crate::isolate::{ABORT_PATIENCE, abort, chain, join_text};

/// The most observations kept of one attempt, so that a probe in a loop cannot fill the memory.
const OBSERVATIONS: usize = 10_000;

type Answer = Result<Outcome, ProbeError>;
type Joined = Result<Answer, JoinError>;

/// How the task of a probe ended.
enum Ended {
    /// By itself, in time.
    InTime(Joined),
    /// After it was cancelled, within the grace period.
    Late(Cut, Joined),
    /// Only when it was aborted; with a panic of it, if it had one.
    Aborted(Cut, Option<String>),
    /// Not even then: it blocks its thread.
    Stuck(Cut),
}

/// Why it was cancelled.
enum Cut {
    Timeout,
    Halted(String),
}

impl Run<'_> {
    pub(super) async fn attempt(&mut self, planned: &PlannedProbe, attempt: u32) -> ProbeRecord {
        let not_started = |result| not_started(planned, attempt, result);
        let no_verdict = |error: String| ProbeResult::NoVerdict { how: NoVerdict::Error, error };
        let Some(entry) = self.registry.probe(&planned.id) else {
            return not_started(no_verdict("the registry does not have it".to_owned()));
        };
        let probe = match (entry.build)(&self.world.environment) {
            Ok(probe) => probe,
            Err(error) => {
                return not_started(no_verdict(format!("its configuration: {}", error.message())));
            }
        };
        let allotment = match self.reserve(planned).await {
            Ok(allotment) => allotment,
            Err(why) => return not_started(ProbeResult::NotRun { why }),
        };
        self.started(planned, attempt, probe, allotment).await
    }

    /// Sets aside what the probe draws.
    async fn reserve(&mut self, planned: &PlannedProbe) -> Result<Allotment, String> {
        let budget = self.world.budget.clone();
        let draws = self.granted(planned);
        let reserve = std::pin::pin!(async move { budget.reserve(&draws).await });
        // What earlier probes held comes back within the time it lingers.
        let linger = self.world.environment.safety.linger.get() + self.world.grace();
        match self.wait(reserve, clock::now() + linger, Heed::Halt).await {
            Waited::Done(Ok(allotment)) => Ok(allotment),
            Waited::Done(Err(error)) => Err(error.to_string()),
            Waited::Due => Err(format!("what it draws did not come free within {}", Span(linger))),
            Waited::Halted | Waited::Aborted => Err(self.why_halted()),
        }
    }

    async fn started(
        &mut self,
        planned: &PlannedProbe,
        attempt: u32,
        probe: Box<dyn Probe>,
        allotment: Allotment,
    ) -> ProbeRecord {
        let timeout = Duration::from_secs_f64(planned.timeout_ms / 1e3);
        let observations = Observations::default();
        let cleanup = CleanupLedger::default();
        let cancel = CancellationToken::new();
        let at = clock::wall();
        let started = clock::now();
        let ctx = self
            .world
            .context()
            .allotment(allotment)
            .cancel(cancel.clone())
            .deadline(started + timeout)
            .cleanup(cleanup.clone())
            .listener(observations.listener(&planned.id, self.outbox.clone()))
            .build();
        self.stage.send_modify(|stage| stage.probe = Some(Arc::from(planned.id.as_str())));
        self.log.emit(RunEvent::ProbeStarted {
            id: planned.id.clone(),
            phase: planned.phase,
            attempt,
            timeout_ms: planned.timeout_ms,
        });
        let mut task = tokio::spawn(async move { probe.run(&ctx).await });
        let ended = self.see_to_its_end(&mut task, &cancel, started + timeout).await;
        let elapsed_ms = millis(started.elapsed());
        self.drain();
        let result = result(ended, timeout);
        let cleanup = self.clean_up(&cleanup).await;
        self.stage.send_modify(|stage| stage.probe = None);
        ProbeRecord {
            id: planned.id.clone(),
            phase: planned.phase,
            attempt,
            at,
            elapsed_ms,
            result,
            observations: observations.take(),
            cleanup,
        }
    }

    /// Waits for the probe; cancels it when its time is up or the run halts; aborts it after the
    /// grace period.
    async fn see_to_its_end(
        &mut self,
        task: &mut JoinHandle<Answer>,
        cancel: &CancellationToken,
        due: Instant,
    ) -> Ended {
        let cut = match self.wait(Pin::new(&mut *task), due, Heed::Halt).await {
            Waited::Done(joined) => return Ended::InTime(joined),
            Waited::Due => Cut::Timeout,
            Waited::Halted | Waited::Aborted => Cut::Halted(self.why_halted()),
        };
        cancel.cancel();
        let grace = clock::now() + self.world.grace();
        match self.wait(Pin::new(&mut *task), grace, Heed::Abort).await {
            Waited::Done(joined) => Ended::Late(cut, joined),
            _ => match abort(task).await {
                Some(Ok(answer)) => Ended::Late(cut, Ok(answer)),
                Some(Err(error)) if error.is_panic() => Ended::Aborted(cut, Some(join_text(error))),
                Some(Err(_)) => Ended::Aborted(cut, None),
                None => Ended::Stuck(cut),
            },
        }
    }

    pub(super) fn why_halted(&self) -> String {
        let why = self.halt.as_ref().map(|halt| halt.why.clone());
        why.unwrap_or_else(|| "the run was interrupted".to_owned())
    }

    /// Runs what is registered in `ledger`, all of it within one grace period.
    pub(super) async fn clean_up(&mut self, ledger: &CleanupLedger) -> Vec<CleanupRecord> {
        let mut records = Vec::new();
        let grace = self.world.grace();
        let grace = if self.is_aborted() { ABORT_PATIENCE.min(grace) } else { grace };
        let due = clock::now() + grace;
        while let Some(what) = ledger.pending().pop() {
            let failed = |why: String| CleanupRecord { what, failed: Some(why) };
            let undo = ledger.clone();
            let mut task = tokio::spawn(async move { undo.run_latest().await });
            match self.wait(Pin::new(&mut task), due, Heed::Nothing).await {
                Waited::Done(Ok(record)) => records.extend(record),
                Waited::Done(Err(error)) => records.push(failed(join_text(error))),
                _ => {
                    abort(&mut task).await;
                    records.push(failed(format!("not done within {}", Span(grace))));
                    let rest = ledger.pending().into_iter().rev();
                    let failed = Some("no time was left for it".to_owned());
                    records.extend(rest.map(|what| CleanupRecord { what, failed: failed.clone() }));
                    break;
                }
            }
        }
        records
    }
}

fn result(ended: Ended, timeout: Duration) -> ProbeResult {
    let no_verdict = |how, error| ProbeResult::NoVerdict { how, error };
    let limit = Span(timeout);
    match ended {
        Ended::InTime(Ok(Ok(outcome))) => ProbeResult::Finished(finite(outcome)),
        Ended::InTime(Ok(Err(ProbeError::Interrupted(Interrupted::Deadline)))) => {
            no_verdict(NoVerdict::Timeout, format!("no verdict within its {limit}"))
        }
        Ended::InTime(Ok(Err(error))) => no_verdict(NoVerdict::Error, chain(&error)),
        Ended::InTime(Err(error)) | Ended::Late(_, Err(error)) => {
            no_verdict(NoVerdict::Panic, join_text(error))
        }
        Ended::Aborted(_, Some(panic)) => no_verdict(NoVerdict::Panic, panic),
        Ended::Late(cut, Ok(answer)) => {
            let late = match answer {
                Ok(outcome) => {
                    format!("; its late verdict `{}` does not count", outcome.verdict.as_str())
                }
                Err(ProbeError::Interrupted(_)) => String::new(),
                Err(error) => format!("; it ended with: {}", chain(&error)),
            };
            match cut {
                Cut::Timeout => {
                    no_verdict(NoVerdict::Timeout, format!("no verdict within its {limit}{late}"))
                }
                Cut::Halted(why) => no_verdict(NoVerdict::Cancelled, format!("{why}{late}")),
            }
        }
        Ended::Aborted(cut, None) => no_verdict(
            NoVerdict::Aborted,
            format!("{}; it did not end when cancelled and was aborted", why(cut, limit)),
        ),
        Ended::Stuck(cut) => no_verdict(
            NoVerdict::Aborted,
            format!("{}; it blocks its thread and could not even be aborted", why(cut, limit)),
        ),
    }
}

fn why(cut: Cut, limit: Span) -> String {
    match cut {
        Cut::Timeout => format!("no verdict within its {limit}"),
        Cut::Halted(why) => why,
    }
}

/// JSON has no word for what is not a number, and a record that cannot be read back is lost: such
/// measurements become findings.
fn finite(mut outcome: Outcome) -> Outcome {
    let is_finite = |value: &f64| value.is_finite();
    for measurement in &mut outcome.measurements {
        measurement.baseline = measurement.baseline.filter(is_finite);
    }
    let (good, bad): (Vec<_>, Vec<_>) =
        outcome.measurements.drain(..).partition(|measurement| measurement.value.is_finite());
    outcome.measurements = good;
    for measurement in bad {
        let summary = format!("the probe measured no number for `{}`", measurement.name);
        outcome.findings.push(Finding::new(summary));
    }
    outcome
}

/// Where the observations of an attempt are kept, so that they survive an abort.
#[derive(Clone, Default)]
struct Observations(Arc<Mutex<Vec<Observation>>>);

impl Observations {
    fn listener(
        &self,
        id: &str,
        outbox: mpsc::Sender<Message>,
    ) -> impl Fn(Note) + Send + Sync + 'static {
        let observations = self.clone();
        let id = id.to_owned();
        move |note| match note {
            Note::Observed(observation) => {
                let mut kept = observations.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < OBSERVATIONS {
                    kept.push(*observation);
                }
            }
            // Whoever watches can do without what does not fit.
            Note::Progress(text) => {
                _ = outbox.try_send(Message::Progress { id: id.clone(), text });
            }
        }
    }

    fn take(&self) -> Vec<Observation> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
