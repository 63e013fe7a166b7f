//! Run phase 3 of shakedown: the start-up of an application, phase by phase.
//!
//! - [`Startup`]: the table `[startup]` of an environment file: phases, marker lines, limits.
//! - [`causes`]: why a start-up may fail, and what is seen of it.
//! - [`classify`]: what in a log says so, on core alone.

pub mod causes;
pub mod classify;
mod section;

pub use section::Startup;
