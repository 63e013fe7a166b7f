//! What Acme looks at beyond what shakedown brings: the ledger, whose replica serves the balances
//! that users read.
//!
//! - [`Ledger`]: the table `[ledger]` of an environment file.
//! - [`probes::LedgerLag`]: the probe `acme.ledger-lag`, which asks the replica how far it is behind.
//! - [`evidence`]: the observation kind and the cause, names that any other crate may use too.
//! - [`classify::LedgerReplication`]: the classifier that turns the one into the other.
//!
//! Everything registers itself; a binary that says `use acme_probes as _;` has it all.

pub mod classify;
pub mod evidence;
pub mod probes;
mod section;

pub use section::Ledger;
