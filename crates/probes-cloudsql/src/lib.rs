//! Run phase 2 of shakedown: the database, a Cloud SQL for PostgreSQL instance.
//!
//! - [`CloudSql`]: the table `[cloudsql]` of an environment file.
//! - [`causes`]: why a database may be what broke; [`classify`]: what in a log says so.
//! - `probes` (feature `live`): the ladder to a first answer, the application's pool at its limit,
//!   back-off, headroom, and whether our own sessions are as harmless as we say.
//! - `monitor` (feature `live`): sessions, waits, locks and the longest query, straight from the
//!   server on one connection that is kept.
//! - `guard` (feature `live`): the gate before a run and the stability check after each phase.
//!
//! # One probe without the runner
//!
//! ```
//! # #[cfg(feature = "live")] {
//! use shakedown_core::{Environment, Outcome, Probe, ProbeCtx, ProbeError, ProbeSpec};
//! use shakedown_probes_cloudsql::probes::connect_timing::ConnectTiming;
//!
//! async fn how_long_does_a_login_take(staging: Environment) -> Result<Outcome, ProbeError> {
//!     let probe = ConnectTiming::from_config(Default::default());
//!     probe.run(&ProbeCtx::builder(staging).build()).await
//! }
//! # }
//! ```
//!
//! # Features
//!
//! `live` brings everything that connects, `register` the registration at link time and JSON
//! Schemas. Without both, the table and the causes remain, on core alone.

pub mod causes;
pub mod classify;
mod maintenance;
mod section;

#[cfg(feature = "live")]
pub mod guard;
#[cfg(feature = "live")]
mod login;
#[cfg(feature = "live")]
pub mod monitor;
#[cfg(feature = "live")]
mod pool_use;
#[cfg(feature = "live")]
pub mod probes;
#[cfg(feature = "live")]
mod server;

pub use maintenance::{MaintenanceWindow, MaintenanceWindowError};
pub use section::{AuthProxy, CloudSql, MachineType, documented_max_connections};
