//! The probes of run phase 2, one file each.

pub mod acquire_timeout;
pub mod budget_check;
pub mod connect_timing;
pub mod connection_headroom;
pub mod exhaustion_recovery;
pub mod pool_limit;
pub mod progressive_retry;
pub mod session_safety;

mod full_pool;
mod spread;

pub use acquire_timeout::AcquireTimeout;
pub use budget_check::BudgetCheck;
pub use connect_timing::ConnectTiming;
pub use connection_headroom::ConnectionHeadroom;
pub use exhaustion_recovery::ExhaustionRecovery;
pub use pool_limit::PoolLimit;
pub use progressive_retry::ProgressiveRetry;
pub use session_safety::SessionSafety;
