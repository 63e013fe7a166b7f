//! The probes of phase 1. A file with a public type is one probe; its module page is the user's
//! page.

mod connector_capacity;
mod direct_connectivity;
mod limits;
mod network_requirements;
mod reading;
mod scaling_delay;
mod service_endpoints;
mod stage;
mod step;
pub(crate) mod target;
mod throughput;

pub use connector_capacity::{ConnectorCapacity, ConnectorCapacityConfig};
pub use direct_connectivity::{DirectConnectivity, DirectConnectivityConfig};
pub use network_requirements::{NetworkRequirements, NetworkRequirementsConfig};
pub use scaling_delay::{ScalingDelay, ScalingDelayConfig};
pub use service_endpoints::{ServiceEndpoints, ServiceEndpointsConfig};
pub use throughput::{Throughput, ThroughputConfig};

pub use stage::{CONNECTOR_STAGE, CONNECTOR_STAGE_META};
pub use step::{SCALING_STEP, SCALING_STEP_META};
