//! Run phase 3 of shakedown: the start-up of an application, phase by phase.
//!
//! - [`Application`]: the table `[application]`: where a start-up can be seen, and its limits.
//! - [`Startup`]: the table `[startup]`: phases, marker lines, limits by version.
//! - [`causes`]: why a start-up may fail, and what is seen of it.
//! - [`classify`]: what in a log says so, on core alone.
//! - `startup` (feature `live`): the sources start-ups are seen by.
//! - `probes` (feature `live`): one question each about start-ups that were seen.
//! - `monitor` (feature `live`): times of the latest start-up, memory and threads of the process.
//!
//! # Features
//!
//! `live` brings everything that connects, reads files or runs a process, `register` the registration
//! at link time and JSON Schemas. Without both, the tables, the causes and the classifiers remain, on
//! core alone.

mod application;
pub mod causes;
pub mod classify;
#[cfg(feature = "live")]
pub mod monitor;
#[cfg(feature = "live")]
pub mod probes;
mod section;
#[cfg(feature = "live")]
pub mod startup;

pub use application::{Application, Retries, Template};
pub use section::Startup;
