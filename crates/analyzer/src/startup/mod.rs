//! Start-up reconstruction: from marker lines to attempts.

mod attempts;
mod markers;

pub use attempts::{Sign, Timeline};
pub use markers::{Marker, Markers, Role};
