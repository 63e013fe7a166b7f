//! Who hears the events of a run.

use std::io;

use shakedown_core::record::JournalLine;

/// Hears every event of a run, in order, before the run takes its next step.
///
/// What the caller promises: `line.seq` counts 1, 2, 3, ..; a
/// [`ProbeProgress`](shakedown_core::record::RunEvent::ProbeProgress) carries the number of the line
/// before it. What you must do: return quickly, the run waits; hide secrets with a
/// [`Redactor`](shakedown_core::Redactor) before anything leaves the process, the lines are raw.
pub trait EventSink: Send {
    /// Takes one event.
    ///
    /// # Errors
    ///
    /// When the event could not be kept. The run goes on, tells it once as a remark and ends with
    /// [`Condition::Internal`](shakedown_core::record::Condition::Internal).
    fn emit(&mut self, line: &JournalLine) -> io::Result<()>;
}

impl<S: EventSink + ?Sized> EventSink for Box<S> {
    fn emit(&mut self, line: &JournalLine) -> io::Result<()> {
        (**self).emit(line)
    }
}

impl<S: EventSink + ?Sized> EventSink for &mut S {
    fn emit(&mut self, line: &JournalLine) -> io::Result<()> {
        (**self).emit(line)
    }
}

/// A sink that calls a function and cannot fail.
pub struct FnSink<F>(pub F);

impl<F: FnMut(&JournalLine) + Send> EventSink for FnSink<F> {
    fn emit(&mut self, line: &JournalLine) -> io::Result<()> {
        (self.0)(line);
        Ok(())
    }
}

/// Several sinks as one. All hear every event, also after one of them failed.
pub struct Tee<'s>(pub Vec<Box<dyn EventSink + 's>>);

impl EventSink for Tee<'_> {
    fn emit(&mut self, line: &JournalLine) -> io::Result<()> {
        let mut result = Ok(());
        for sink in &mut self.0 {
            result = result.and(sink.emit(line));
        }
        result
    }
}
