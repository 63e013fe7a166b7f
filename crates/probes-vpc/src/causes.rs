//! The causes of the network path.
//!
//! Where Google has a name of its own for why a packet is dropped (`DropInfo.Cause` of the Network
//! Management API, what a Connectivity Test answers), the cause carries it: a Connectivity Test that
//! answers one of [`VPC_EGRESS_DROPS`] confirms the cause.

shakedown_core::terms! {
    /// The connector has no room: connections queue or time out until it has scaled out.
    VPC_CONNECTOR_CAPACITY: Cause = "vpc_connector_capacity", VPC_CONNECTOR_CAPACITY_META,
        "VPC connector at its capacity (no DropInfo.Cause: Google has no name for it)",
        "the connector carries the offered connections and bytes without queueing";
    /// The way from the service into the VPC network does not carry its packets: no connector, a
    /// connector that does not run, egress that is not set up (yet), a firewall, a missing route.
    VPC_EGRESS: Cause = "vpc_egress", VPC_EGRESS_META,
        "no way from the service into the VPC network (DropInfo.Cause VPC_CONNECTOR_NOT_SET, \
         VPC_CONNECTOR_NOT_RUNNING, VPC_CONNECTOR_SERVERLESS_TRAFFIC_BLOCKED, \
         VPC_CONNECTOR_HEALTH_CHECK_TRAFFIC_BLOCKED, FIREWALL_RULE, NO_ROUTE)",
        "packets of the service reach the database's network from its first second on";
}

/// Google's own names of drops that confirm [`VPC_EGRESS`].
pub const VPC_EGRESS_DROPS: &[&str] = &[
    "VPC_CONNECTOR_NOT_SET",
    "VPC_CONNECTOR_NOT_RUNNING",
    "VPC_CONNECTOR_SERVERLESS_TRAFFIC_BLOCKED",
    "VPC_CONNECTOR_HEALTH_CHECK_TRAFFIC_BLOCKED",
    "FIREWALL_RULE",
    "NO_ROUTE",
];

/// Causes that other crates own and phase 1 meets: its findings only point at them.
#[cfg(feature = "live")]
pub(crate) mod elsewhere {
    use shakedown_core::id::Cause;

    pub(crate) const CLOUD_SQL_MAX_CONNECTIONS: Cause = Cause::new("cloud_sql_max_connections");
    pub(crate) const CLOUD_SQL_SLOW: Cause = Cause::new("cloud_sql_slow");
    pub(crate) const CLOUD_SQL_UNREACHABLE: Cause = Cause::new("cloud_sql_unreachable");
    pub(crate) const CONFIGURATION_ERROR: Cause = Cause::new("configuration_error");
    pub(crate) const DEPENDENCY_UNAVAILABLE: Cause = Cause::new("dependency_unavailable");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_belong_to_their_causes_and_name_every_drop() {
        assert_eq!(VPC_CONNECTOR_CAPACITY_META.id, VPC_CONNECTOR_CAPACITY.as_str());
        assert_eq!(VPC_EGRESS_META.id, VPC_EGRESS.as_str());
        for drop in VPC_EGRESS_DROPS {
            assert!(VPC_EGRESS_META.title.contains(drop), "{drop}");
        }
    }
}
