//! The platform's words about the connector, and words that are no facts, kept so that a diagnosis can
//! say why they prove nothing.

use shakedown_core::signal::{Emitter, LogSignal, SignalTable};

/// The word without a figure.
pub(crate) const CAPACITY_WORD: &str = "vpc.capacity-word";

/// The platform does not find the connector that a revision names.
pub(crate) const NO_CONNECTOR: &str = "vpc.no-connector";

/// A line that states the connector's processor, near its end.
pub(crate) const CONNECTOR_BUSY: &str = "vpc.connector-busy";

/// A line that says that a connector is well again.
pub(crate) const CONNECTOR_NORMAL: &str = "vpc.connector-normal";

/// A firewall's log says that it turned a connection away.
pub(crate) const DENIED: &str = "vpc.firewall-denied";

/// The log signals of this crate.
pub const TABLE: SignalTable = SignalTable { name: "vpc", signals: SIGNALS };

#[rustfmt::skip]
const SIGNALS: &[LogSignal] = &[
    LogSignal::new("vpc.capacity-word", CAPACITY_WORD, &["VPC Connector Capacity", "VPC connector capacity", "vpc connector capacity", "VPC capacity", "apacity pressure", "apacity constraint", "Capacity Awareness", "VPC_CONNECTOR_CAPACITY", "connector capacity", "connector scaling"]).from(Emitter::Any).any_level(),
    // Whoever watches the connector and writes its figures down: from the share on that samples count as full.
    LogSignal::new("vpc.connector-busy", CONNECTOR_BUSY, &["onnector"]).capture(r"(?i)(?:vpc\S{0,12}[ _-](?:access )?connector|vpcaccess|connector[ =:/]+[\w-]+)[^\n]*?\bcpu\w*(?:(?: (?:utili[sz]ations?|usage|load|percent|p\d\d|max|mean|avg|now|of|is)){0,3}[ =:]{1,3}|[^\n]{0,120}?(?:(?:utili[sz]ation|usage|load|p\d\d) (?:is|was|at|reached)|value of) )(?P<cpu>0?\.[89]\d*|1\.0+|[89]\d(?:\.\d+)? ?%|100(?:\.0+)? ?%)").from(Emitter::Any).any_level(),
    // An alert about it is over.
    LogSignal::new("vpc.connector-normal", CONNECTOR_NORMAL, &["onnector"]).capture(r"(?i)(?:vpc\S{0,12}[ _-](?:access )?connector|vpcaccess|connector[ =:/]+[\w-]+)[^\n]*?\b(?:(?:returned|back) to normal|recovered|resolved|incident (?:is )?closed)").from(Emitter::Any).any_level(),
    LogSignal::new("vpc.firewall-denied", DENIED, &["\"DENIED\""]).with(&["\"disposition\""]).capture(r#"(?s)"dest_ip":\s*"(?P<target>[\d.]+)"(?:.*firewall:(?P<rule>[^"]+))?"#).from(Emitter::Any).any_level(),
    LogSignal::new("vpc.no-connector", NO_CONNECTOR, &["/connectors/"]).with(&["does not exist"]).speaks("configuration_error", 0.85).from(Emitter::Any).any_level(),
    LogSignal::new("vpc.connector-not-ready", NO_CONNECTOR, &["/connectors/"]).with(&["not ready"]).speaks("configuration_error", 0.75).from(Emitter::Any).any_level(),
    // Cloud Run about instances of the service: an autoscaling notice.
    LogSignal::new("vpc.autoscaling-notice", CAPACITY_WORD, &["no existing capacity for current traffic", "no available capacity"]).from(Emitter::Any).any_level(),
];
