//! The probes of run phase 3, one file each.

pub mod timeout_budget;

pub use timeout_budget::TimeoutBudget;
