//! The one home of "now".
//!
//! Wall-clock time is a [`jiff::Timestamp`] and only ever labels a record. Durations are measured on
//! tokio's monotonic clock, so that a paused test clock governs every timeout.

use std::time::Duration;

pub use jiff::Timestamp;
pub use tokio::time::Instant;

/// The wall clock, for stamping records. Never subtract two of these to measure a duration.
pub fn wall() -> Timestamp {
    Timestamp::now()
}

/// The monotonic clock, for measuring and for deadlines.
pub fn now() -> Instant {
    Instant::now()
}

/// `duration` in milliseconds with microsecond resolution, the form records carry.
pub fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
