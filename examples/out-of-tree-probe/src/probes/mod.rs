//! Acme's probes, one file each.

mod ledger_lag;

pub use ledger_lag::{LedgerLag, LedgerLagConfig};
