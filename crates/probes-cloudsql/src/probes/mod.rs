//! The probes of run phase 2, one file each.

pub mod budget_check;
pub mod connect_timing;
pub mod connection_headroom;
pub mod session_safety;

mod spread;

pub use budget_check::BudgetCheck;
pub use connect_timing::ConnectTiming;
pub use connection_headroom::ConnectionHeadroom;
pub use session_safety::SessionSafety;
