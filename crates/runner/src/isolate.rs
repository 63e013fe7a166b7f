//! Running code of others in a task of its own, so that neither its panic nor its hang spreads.

use std::any::Any;
use std::error::Error;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};

/// How long an aborted task is waited for. A future is dropped at its next await, so only a task
/// that blocks its thread takes longer.
pub(crate) const ABORT_PATIENCE: Duration = Duration::from_millis(500);

/// Aborts `task` and waits until it is gone. `None` when it is not: it blocks its thread.
///
/// # Cancel safety
///
/// The task stays aborted when the future is dropped.
pub(crate) async fn abort<T>(task: &mut JoinHandle<T>) -> Option<Result<T, JoinError>> {
    task.abort();
    tokio::time::timeout(ABORT_PATIENCE, task).await.ok()
}

/// The words of a panic.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic without words")
        .to_owned()
}

/// Why a task gave no answer.
pub(crate) fn join_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panicked: {}", panic_text(&*panic)),
        Err(error) => error.to_string(),
    }
}

/// An error with all its causes, each said once.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
