//! The probes of run phase 3, one file each.

mod about;
pub mod capacity_during_failure;
pub mod circuit_breaker;
pub mod cleanup_after_failure;
pub mod error_propagation;
pub mod exit_code;
pub mod lifespan;
pub mod phase3_timeout;
pub mod phase_dependencies;
pub mod restart_loop;
pub mod sequence_under_load;
pub mod timeout_budget;

pub use capacity_during_failure::CapacityDuringFailure;
pub use circuit_breaker::CircuitBreaker;
pub use cleanup_after_failure::CleanupAfterFailure;
pub use error_propagation::ErrorPropagation;
pub use exit_code::ExitCode;
pub use lifespan::Lifespan;
pub use phase_dependencies::PhaseDependencies;
pub use phase3_timeout::Phase3Timeout;
pub use restart_loop::RestartLoop;
pub use sequence_under_load::SequenceUnderLoad;
pub use timeout_budget::TimeoutBudget;
