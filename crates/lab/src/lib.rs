//! A staging environment on one machine, started by one call and gone without a trace after it.
//!
//! PostgreSQL is real; in front of it stand an emulated Serverless VPC Access connector (a TCP relay
//! with a connector's limits) and an emulated Cloud SQL Auth Proxy (a `/cloudsql` socket that dials
//! through the connector); beside it a TLS load balancer with minimal services. Scenarios bring
//! about known faults, and the lab writes down what it knows to be true, so that a tester's
//! findings can be judged.
//!
//! ```text
//! socket ── Auth Proxy ──┐
//!                        ├── connector ── PostgreSQL
//! TCP address ───────────┘       └─────── sink (neighbours)
//! https://*.lab.shakedown.test ── load balancer ── backend, auth, frontend
//! ```
//!
//! The lab is a library; two entry points want a process of their own: [`supervise()`] (between lab
//! and server, so that a killed lab leaves no server behind) and [`serve_request`] (a whole lab).

#![expect(
    clippy::disallowed_methods,
    reason = "relays, neighbours and emulated peers connect inside the lab; no lease counts that"
)]

mod application;
mod backend;
mod clock;
mod cloudrun;
mod connector;
mod dir;
mod error;
mod fault;
mod inject;
mod lab;
mod neighbour;
mod overlay;
mod postgres;
mod proxy;
mod random;
mod relay;
mod resp;
mod sampler;
mod scenario;
mod serve;
mod services;
mod settings;
mod supervise;
mod switches;
mod tasks;
mod throttle;
mod traffic;
mod truth;

pub use backend::backend;
pub use dir::{LabInfo, LabStatus, status, sweep};
pub use error::LabError;
pub use fault::{Fault, FaultKind, When};
pub use lab::{Lab, LabOptions};
pub use overlay::Addresses;
pub use postgres::ServerPrograms;
#[cfg(feature = "download-postgres")]
pub use postgres::{DOWNLOAD_VERSION, download, download_folder};
pub use relay::relay;
pub use scenario::{
    ConnectorOverrides, Expect, ExpectPath, ExpectProbe, ExpectRung, ExpectVerdict, Scenario,
};
pub use serve::{Ready, ServeRequest, ServedLab, Until, read_request, serve, serve_request};
pub use settings::{ConnectorSettings, DatabaseSettings, LabSettings};
pub use shakedown_core::environment::TimeScale;
pub use shakedown_core::{Rate, Span};
pub use supervise::supervise;
pub use truth::{
    ApplicationTruth, ConnectorTruth, FaultTruth, Hold, HoldReason, PostgresTruth, ProxyTruth,
    ScaleEvent, Truth,
};
