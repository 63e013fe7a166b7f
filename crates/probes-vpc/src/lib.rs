//! Phase 1 of the strategy: the network path to the database and to the services.
//!
//! The crate owns the table `[vpc]` ([`Vpc`]), the causes [`VPC_CONNECTOR_CAPACITY`] and
//! [`VPC_EGRESS`], the derivation of the path a connection takes ([`path`]), and the `vpc.*` probes
//! (feature `live`, on by default).
//!
//! Every probe here first states from where it looks and which path it takes. Where that path does
//! not cross the connector, or where nobody can tell, nothing it finds is booked to the connector.

pub mod causes;
pub mod classify;
#[cfg(feature = "live")]
pub mod monitor;
pub mod path;
#[cfg(feature = "live")]
pub mod probes;
mod section;
#[cfg(feature = "live")]
mod series;

pub use causes::{VPC_CONNECTOR_CAPACITY, VPC_EGRESS};
pub use section::{AddressKind, Egress, Vpc};
