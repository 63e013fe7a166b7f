//! Runs probes: plan, gate, phases, monitors beside them, guards, cleanup, journal.
//!
//! The runner emits [events](shakedown_core::record::RunEvent) and knows nobody who reads them: the
//! [`Journal`] is one [`EventSink`], a progress line on a terminal another. What a run leaves behind
//! is the fold of its events, the [`RunRecord`](shakedown_core::record::RunRecord).
//!
//! ```text
//! select(registry, selection) -> plan(...) -> run(plan, ...) -> RunRecord
//! ```
//!
//! # What it guarantees
//!
//! - An error, a panic or a hang of a probe, a monitor or a safety check stops none of the others
//!   and loses no finished result. (Something that blocks its thread without ever awaiting cannot be
//!   stopped by anybody; on a runtime with several threads the run goes on without it.)
//! - What draws on the target draws on one budget; a probe starts with all it declared or not at all.
//! - Every way out of a run passes the cleanup ledger, the monitors' `close` and the safety checks'
//!   `finish`.
//!
//! # Absent on purpose
//!
//! Printing, the process environment, exit codes, and every cloud product.

mod interrupt;
mod isolate;
mod journal;
mod order;
mod plan;
mod run;
mod selection;
mod sink;

pub use interrupt::Interrupt;
pub use journal::{Journal, JournalError};
pub use plan::{Ceiling, PlanError, PlanOptions, plan, session_id};
pub use run::{RunOptions, run};
pub use selection::{Selection, SelectionError, select};
pub use sink::{EventSink, FnSink, Tee};
