//! Test helpers: the contract every probe crate keeps, probes run as the runner would, hostile and scripted peers,
//! certificates, environments, a real PostgreSQL.
//!
//! For `[dev-dependencies]` only. Everything panics with a telling message where a test cannot go
//! on, stays on this machine, and is gone when the test is over.

pub mod certificates;
pub mod contract;
pub mod environment;
pub mod memory;
pub mod peers;
pub mod postgres;
pub mod probe;

pub use certificates::{Authority, Identity};
pub use environment::{credentials, ctx, environment};
pub use peers::{Act, Peer, Script};
pub use postgres::{PgServer, TestDatabase};
