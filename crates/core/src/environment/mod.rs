//! The environment under test: who it is, how to reach it, what it can bear.
//!
//! An environment file is TOML. Core owns the generic tables below; each domain crate owns its own
//! table as a registered section ([`SectionSpec`](crate::SectionSpec)), each probe its
//! `[probes."<id>"]`. [`load`] merges the layers, applies the lab's time scale, checks every table
//! and reports every error at once.

mod error;
mod layers;
mod scale;
#[cfg(feature = "register")]
mod schema;
mod tables;
mod url;

pub use error::{LoadError, LoadErrors};
#[cfg(feature = "register")]
pub(crate) use layers::resolve as resolve_table;
pub use layers::{CheckTable, Layer, Loaded, Owners, Source, load};
pub use scale::TimeScale;
#[cfg(feature = "register")]
pub use schema::{config_schema, schema};
pub use tables::*;
pub use url::{DatabaseUrl, DatabaseUrlError};

use crate::section::SectionSpec;

/// One environment, resolved: defaults filled in, layers merged, time scale applied.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `[environment]`.
    pub identity: Identity,
    /// `[database]`.
    pub database: Option<Database>,
    /// `[services.<name>]`.
    pub services: std::collections::BTreeMap<String, Service>,
    /// `[network]`.
    pub network: Network,
    /// `[load_balancer]`.
    pub load_balancer: LoadBalancer,
    /// `[tls]`.
    pub tls: Tls,
    /// `[credentials.<name>]`.
    pub credentials: std::collections::BTreeMap<String, CredentialRef>,
    /// `[safety]`.
    pub safety: Safety,
    /// `[monitoring]`.
    pub monitoring: Monitoring,
    /// `[results]`.
    pub results: Results,
    /// `[lab]`, written by a lab about itself.
    pub lab: Lab,
    /// Everything, as resolved: the tables above and those of sections and probes.
    pub resolved: toml::Table,
    /// What somebody allowed for this run. [`load`] leaves it empty: no file can allow anything.
    pub consent: Consent,
}

/// What somebody allowed by name on the command line, for one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Consent {
    /// Applications whose configured command may be run outside a lab, by their service's name.
    pub processes: std::collections::BTreeSet<String>,
    /// Whether such an application may run with a role that can write.
    pub application_writes: bool,
}

impl Environment {
    /// A domain crate's table.
    ///
    /// # Errors
    ///
    /// When the table does not fit; [`load`] has reported it before if its owner is registered.
    pub fn section<T: SectionSpec>(&self) -> Result<T, toml::de::Error> {
        match self.resolved.get(T::NAME) {
            Some(table) => table.clone().try_into(),
            None => Ok(T::default()),
        }
    }

    /// The time scale the resolved durations were divided by; 1 outside the lab.
    pub fn time_scale(&self) -> TimeScale {
        self.lab.time_scale
    }
}
