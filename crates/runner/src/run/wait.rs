//! The one place where a run waits: for a task, for messages, for an interrupt, for its time to be up.

use std::pin::Pin;

use shakedown_core::clock::Instant;
use shakedown_core::monitor::Recent;
use shakedown_core::record::{Condition, RunEvent, StampedSample};
use shakedown_core::units::Span;

use super::Run;
use crate::interrupt::Urgency;

/// What monitors and probes send while the run waits.
pub(super) enum Message {
    /// A probe tells where it is.
    Progress { id: String, text: String },
    /// A monitor was sampled.
    Sampled(Vec<StampedSample>),
    /// A monitor could not be sampled.
    MonitorFailed { monitor: String, error: String },
}

/// Why nothing more is started.
#[derive(Debug)]
pub(super) struct Halt {
    /// The sentence for the probes that are not run.
    pub(super) why: String,
    /// Whether the next phase starts afresh.
    pub(super) only_this_phase: bool,
}

/// What ends a wait before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Heed {
    /// Nothing: what is waited for must have its chance.
    Nothing,
    /// The second interrupt.
    Abort,
    /// Also a halt of the run: the first interrupt, a guard, a deadline.
    Halt,
}

/// How a wait ended.
pub(super) enum Waited<T> {
    /// What was waited for is there.
    Done(T),
    /// `due` has come.
    Due,
    /// The run has halted.
    Halted,
    /// The run is aborted.
    Aborted,
}

enum Woken<T> {
    Done(T),
    Message(Message),
    Interrupt,
    Time,
}

impl Run<'_> {
    /// Waits for `future`, at most until `due`, while the run goes on hearing messages.
    pub(super) async fn wait<F: Future>(
        &mut self,
        mut future: Pin<&mut F>,
        due: Instant,
        heed: Heed,
    ) -> Waited<F::Output> {
        loop {
            let limit = if heed == Heed::Halt { due.min(self.deadline().0) } else { due };
            if heed >= Heed::Abort && self.is_aborted() {
                return Waited::Aborted;
            }
            if heed == Heed::Halt && self.halt.is_some() {
                return Waited::Halted;
            }
            let woken = tokio::select! {
                biased;
                output = future.as_mut() => Woken::Done(output),
                Some(message) = self.inbox.recv() => Woken::Message(message),
                Ok(()) = self.urgency.changed() => Woken::Interrupt,
                () = until(limit) => Woken::Time,
            };
            match woken {
                Woken::Done(output) => return Waited::Done(output),
                Woken::Message(message) => self.receive(message),
                Woken::Interrupt => self.heed_interrupt(),
                Woken::Time if limit == due => return Waited::Due,
                Woken::Time => self.halt_at_deadline(),
            }
        }
    }

    /// Handles every message that is there.
    pub(super) fn drain(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.receive(message);
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Progress { id, text } => self.log.emit(RunEvent::ProbeProgress { id, text }),
            Message::MonitorFailed { monitor, error } => {
                self.monitor_failed(monitor, error);
                self.overdue();
            }
            Message::Sampled(samples) => {
                let notices = self.guards.observe(&samples);
                let recent = Recent::of(&self.world.shared);
                recent.push(samples.iter().map(|stamped| stamped.sample.clone()));
                self.log.emit(RunEvent::Sampled { samples });
                self.heed_guards(notices);
                self.overdue();
            }
        }
    }

    /// Stops the start of anything more. The first reason stays.
    pub(super) fn stop(&mut self, condition: Condition, why: impl Into<String>) {
        self.conditions.insert(condition);
        if self.halt.as_ref().is_none_or(|halt| halt.only_this_phase) {
            self.halt = Some(Halt { why: why.into(), only_this_phase: false });
        }
    }

    pub(super) fn is_aborted(&self) -> bool {
        self.options.interrupt.urgency() == Urgency::Abort
    }

    /// Notices an interrupt that came while nobody waited.
    pub(super) fn heed_interrupt(&mut self) {
        if self.options.interrupt.is_raised() {
            self.stop(Condition::Interrupted, "the run was interrupted");
        }
    }

    /// The next deadline of run or phase, and whether it is the phase's.
    fn deadline(&self) -> (Instant, bool) {
        let run = self.started + self.run_limit;
        match self.phase_deadline {
            Some(phase) if phase < run => (phase, true),
            _ => (run, false),
        }
    }

    /// Halts when a deadline has come.
    pub(super) fn halt_at_deadline(&mut self) {
        let (deadline, of_phase) = self.deadline();
        if shakedown_core::clock::now() < deadline {
            return;
        }
        if !of_phase {
            let limit = Span(self.run_limit);
            return self.stop(Condition::DeadlineReached, format!("the run's {limit} were up"));
        }
        self.conditions.insert(Condition::DeadlineReached);
        let why = "the time allowed for the phase was up".to_owned();
        self.halt.get_or_insert(Halt { why, only_this_phase: true });
        self.phase_deadline = None;
    }
}

/// Sleeps until `limit`. Lets others run first: setting a timer wakes a thread, and most of what is
/// waited for is there at once.
async fn until(limit: Instant) {
    tokio::task::yield_now().await;
    tokio::time::sleep_until(limit).await;
}
