//! Run phase 4 of shakedown: from login to answer.
//!
//! - [`UserPath`]: the table `[goldenpath]`, how a user gets there; [`Business`]: the table
//!   `[business]`, what an outage costs.
//! - [`causes`]: why a user does not get an answer, and what is seen of it.
//! - [`classify`]: what in a log says so, on core alone.
//! - `probes` (feature `live`): availability, login to answer, what an outage costs, recovery,
//!   close codes.

pub mod causes;
pub mod classify;
#[cfg(feature = "live")]
pub mod probes;
mod section;
#[cfg(feature = "live")]
mod talk;
#[cfg(feature = "live")]
mod user;
#[cfg(feature = "live")]
mod window;

pub use section::{Business, Events, TokenPlace, UserPath};
