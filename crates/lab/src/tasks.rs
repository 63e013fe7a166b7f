//! The lab's background tasks: ended together, missed when a vital one ends by itself.

use std::io;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::error::LabError;

/// Spawns tasks that end with the lab. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failures: mpsc::UnboundedSender<LabError>,
}

impl Tasks {
    /// The receiver gets what ended vital tasks.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<LabError>) {
        let (failures, receiver) = mpsc::unbounded_channel();
        (Self { tracker: TaskTracker::new(), stop: CancellationToken::new(), failures }, receiver)
    }

    /// Runs it until it or the lab ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.spawn_abortable(task);
    }

    /// Runs it until it, the lab or the handle ends it.
    pub(crate) fn spawn_abortable(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortHandle {
        let stop = self.stop.clone();
        let task = self.tracker.spawn(async move {
            stop.run_until_cancelled(task).await;
        });
        task.abort_handle()
    }

    /// Runs what the lab cannot do without.
    pub(crate) fn spawn_vital(
        &self,
        what: &'static str,
        task: impl Future<Output = io::Error> + Send + 'static,
    ) {
        let tasks = self.clone();
        self.spawn(async move {
            let source = task.await;
            tasks.fail(LabError::Listen { what, source });
        });
    }

    /// Ends the lab with this error.
    pub(crate) fn fail(&self, error: LabError) {
        // Nobody listens any more when the lab is ending already.
        let _ = self.failures.send(error);
    }

    /// Ends all tasks and waits for them.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Ends all tasks without waiting, when the lab is dropped instead of stopped.
#[derive(Debug)]
pub(crate) struct StopOnDrop(pub(crate) Tasks);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop.cancel();
    }
}
