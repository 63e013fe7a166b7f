//! What the lab knows to be true, for comparison with what a tester finds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `truth.json` in a lab's directory. Times are milliseconds of real time since the lab's start.
/// Rewritten within 50 ms after a change and at least once a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// When the lab was ready; `None` in a truth taken before.
    pub ready_at_ms: Option<u64>,
    /// The connector.
    pub connector: ConnectorTruth,
    /// The database, as it counts itself.
    pub postgres: PostgresTruth,
    /// The Auth Proxy.
    pub proxy: ProxyTruth,
    /// Faults that have begun, in that order.
    pub faults: Vec<FaultTruth>,
}

/// What the connector counted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ConnectorTruth {
    /// Instances now.
    pub instances: u32,
    /// Connections these instances carry at most.
    pub capacity: u32,
    /// Megabits per second these instances carry at most, both directions together, in lab time.
    pub throughput_mbps: f64,
    /// Connections open now, neighbours' included.
    pub open: u32,
    /// Of these, the neighbours'.
    pub neighbours: u32,
    /// Connections accepted since the start.
    pub accepted: u64,
    /// Of these, reset by a fault.
    pub rejected: u64,
    /// Clients whose SYN is unanswered now, as the kernel has them; `None` where it does not tell.
    pub waiting: Option<u32>,
    /// The most that waited at a time.
    pub waiting_max: Option<u32>,
    /// Whether new connections are left unanswered now.
    pub held: bool,
    /// How many times that began.
    pub holds_total: u64,
    /// The last hundred times.
    pub holds: Vec<Hold>,
    /// Bytes carried from clients to the database or sink.
    pub bytes_to_server: u64,
    /// Bytes carried to clients.
    pub bytes_to_client: u64,
    /// Every change of the number of instances.
    pub scale_events: Vec<ScaleEvent>,
}

/// A time in which the connector left new connections unanswered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: HoldReason,
    /// Start.
    pub from_ms: u64,
    /// End; `None` while it lasts.
    pub until_ms: Option<u64>,
}

/// Why the connector leaves new connections unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldReason {
    /// All connections of all instances are in use.
    Capacity,
    /// The connection rate is exceeded.
    Rate,
    /// The fault `connector-drop`.
    Drop,
    /// The fault `connector-no-egress`.
    NoEgress,
}

/// A change of the number of instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScaleEvent {
    /// When.
    pub at_ms: u64,
    /// Instances from then on.
    pub instances: u32,
}

/// What PostgreSQL counted in `pg_stat_activity`, sampled every 50 ms, the lab's own superuser
/// left out. A session is there from the end of its authentication.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostgresTruth {
    /// `max_connections`, from the server.
    pub max_connections: u32,
    /// Slots of these that only superusers get, from the server.
    pub reserved_connections: u32,
    /// Samples taken so far.
    pub samples: u64,
    /// Client sessions now.
    pub sessions: u32,
    /// The most at a time.
    pub sessions_max: u32,
    /// By `application_name`.
    pub applications: BTreeMap<String, ApplicationTruth>,
    /// By the first segment of `application_name`, the text before the first `/`, summed: what a
    /// tool has open in all, whatever it calls its parts. The lab's neighbours are a family of their
    /// own, `shakedown-lab-neighbour`.
    pub families: BTreeMap<String, ApplicationTruth>,
}

/// Sessions of one `application_name`, or of one family of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationTruth {
    /// Now.
    pub now: u32,
    /// The most at a time.
    pub max: u32,
}

/// What the Auth Proxy counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProxyTruth {
    /// Connections accepted.
    pub accepted: u64,
    /// Of these, closed because the database could not be reached.
    pub dial_errors: u64,
}

/// A fault that has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultTruth {
    /// Its kind.
    pub kind: String,
    /// Start.
    pub from_ms: u64,
    /// End; `None` while it lasts.
    pub until_ms: Option<u64>,
}
