//! Words that are no facts, kept so that a diagnosis can say why they prove nothing.

use shakedown_core::signal::{Emitter, LogSignal, SignalTable};

/// The word without a figure.
pub(crate) const CAPACITY_WORD: &str = "vpc.capacity-word";

/// The log signals of this crate.
pub const TABLE: SignalTable = SignalTable { name: "vpc", signals: SIGNALS };

#[rustfmt::skip]
const SIGNALS: &[LogSignal] = &[
    LogSignal::new("vpc.capacity-word", CAPACITY_WORD, &["VPC Connector Capacity", "VPC connector capacity", "vpc connector capacity", "VPC capacity", "apacity pressure", "apacity constraint", "Capacity Awareness", "VPC_CONNECTOR_CAPACITY", "connector capacity", "connector scaling"]).from(Emitter::Any).any_level(),
    // Cloud Run about instances of the service: an autoscaling notice.
    LogSignal::new("vpc.autoscaling-notice", CAPACITY_WORD, &["no existing capacity for current traffic", "no available capacity"]).from(Emitter::Any).any_level(),
];
