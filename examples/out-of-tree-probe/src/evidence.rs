//! Names for what is observed and for what is wrong. Both are open sets: registering a name is all
//! it takes.

use shakedown_core::classify::CauseMeta;
use shakedown_core::evidence::ObservationMeta;
use shakedown_core::id::{Cause, ObservationKind};
use shakedown_core::{register_cause, register_observation};

/// How far the replica was behind when it was asked.
pub const LEDGER_POSITION: ObservationKind = ObservationKind::new("acme-ledger-position");

/// The description of [`LEDGER_POSITION`].
pub const LEDGER_POSITION_META: ObservationMeta = ObservationMeta {
    kind: LEDGER_POSITION,
    summary: "how far the ledger's replica was behind: behind_ms, tolerance_ms, entries_behind",
};
register_observation!(LEDGER_POSITION_META);

/// The replica does not keep up with the primary.
pub const LEDGER_REPLICA_BEHIND: Cause = Cause::new("acme_ledger_replica_behind");

/// The description of [`LEDGER_REPLICA_BEHIND`].
pub const LEDGER_REPLICA_BEHIND_META: CauseMeta = CauseMeta {
    id: "acme_ledger_replica_behind",
    symptom: false,
    title: "The ledger's replica does not keep up",
    good_state: "a balance is readable from the replica within the promised time",
};
register_cause!(LEDGER_REPLICA_BEHIND_META);
