//! From log exports and run evidence to root causes that hold.
//!
//! This crate reads what operators really have: saved Cloud Logging exports, container output,
//! test results, run directories. It reads files and standard input, prints nothing and contacts
//! nobody; the command line crate shows what it found.

mod corroborate;
pub mod coverage;
mod dedup;
pub mod diagnosis;
pub mod engine;
pub mod entry;
mod facts;
mod follow;
mod literals;
pub mod read;
pub mod run;
pub mod series;
pub mod severity;
pub mod signals;
pub mod signature;
pub mod store;
pub mod template;

pub use diagnosis::{DiagnoseError, Diagnosed, Reasoning, diagnose, diagnose_run, strategy_report};
