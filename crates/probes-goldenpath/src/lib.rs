//! Run phase 4 of shakedown: from login to answer.
//!
//! - [`causes`]: why a user does not get an answer, and what is seen of it.
//! - [`classify`]: what in a log says so, on core alone.

pub mod causes;
pub mod classify;
