//! Where events go: the record, and whoever listens.

use std::collections::BTreeSet;

use shakedown_core::budget::Usage;
use shakedown_core::clock::{self, Instant, millis};
use shakedown_core::record::{Condition, JournalLine, Plan, RUN_SCHEMA, RunEvent, RunRecord};

use crate::sink::EventSink;

/// Numbers events, gives them to the sink and folds them into the record.
pub(super) struct Log<'s> {
    sink: &'s mut dyn EventSink,
    record: RunRecord,
    seq: u64,
    started: Instant,
    /// A sink failed; said once.
    broken: bool,
}

impl<'s> Log<'s> {
    /// Emits the start of the run. Also returns the plan.
    pub(super) fn begin(plan: Plan, sink: &'s mut dyn EventSink) -> (Self, Plan) {
        let at = clock::wall();
        let started = clock::now();
        let record = RunRecord::new(plan.clone(), at);
        let event = RunEvent::RunStarted { schema: RUN_SCHEMA.to_owned(), plan: Box::new(plan) };
        let line = JournalLine { seq: 1, at, event };
        let mut log = Self { sink, record, seq: 1, started, broken: false };
        log.send(&line);
        let plan = match line.event {
            RunEvent::RunStarted { plan, .. } => *plan,
            _ => log.record.plan.clone(),
        };
        (log, plan)
    }

    pub(super) fn emit(&mut self, event: RunEvent) {
        // Progress is not journaled and must leave no gap in the journal's numbers.
        if !matches!(event, RunEvent::ProbeProgress { .. }) {
            self.seq += 1;
        }
        let line = JournalLine { seq: self.seq, at: clock::wall(), event };
        self.send(&line);
        self.record.apply(line.event);
    }

    pub(super) fn remark(&mut self, text: impl Into<String>) {
        self.emit(RunEvent::Remark { text: text.into() });
    }

    pub(super) fn record(&self) -> &RunRecord {
        &self.record
    }

    /// Emits the end of the run.
    pub(super) fn end(
        mut self,
        mut conditions: BTreeSet<Condition>,
        usage: Vec<Usage>,
    ) -> RunRecord {
        if self.broken {
            conditions.insert(Condition::Internal);
        }
        let elapsed_ms = millis(self.started.elapsed());
        self.emit(RunEvent::RunFinished { conditions, usage, elapsed_ms });
        if self.broken {
            self.record.conditions.insert(Condition::Internal);
        }
        self.record
    }

    fn send(&mut self, line: &JournalLine) {
        if let Err(error) = self.sink.emit(line)
            && !self.broken
        {
            self.broken = true;
            let text = format!("an event could not be written down: {error}");
            self.record.apply(RunEvent::Remark { text });
        }
    }
}
