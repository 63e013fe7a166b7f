//! `[ledger]`

use serde::{Deserialize, Serialize};
use shakedown_core::{SectionSpec, Span};

/// `[ledger]`: where the ledger says how far its replica is, and how far it may be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ledger {
    /// The replica's position page. Default none: the probe then has nothing to ask.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub position_url: String,
    /// How far the replica may be behind. Default 2 s: what Acme promises the readers of a balance.
    pub lag_tolerance: Span,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { position_url: String::new(), lag_tolerance: Span::secs(2) }
    }
}

impl SectionSpec for Ledger {
    const NAME: &'static str = "ledger";
    const SUMMARY: &'static str = "the ledger and how far its replica may be behind";
}

shakedown_core::register_section!(Ledger);
