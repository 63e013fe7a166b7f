//! Open sets: names that any crate may add to.
//!
//! Causes, symptoms, capabilities, resource kinds, observation kinds and metrics are string ids.
//! Core fixes no list of them: a domain crate declares its own as constants, and a record read back
//! from disk may carry ids this binary has never heard of.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! open_set {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Cow<'static, str>);

        impl $name {
            /// An id known when the crate is compiled: `const X: Self = Self::new("x")`.
            pub const fn new(id: &'static str) -> Self {
                Self(Cow::Borrowed(id))
            }

            /// The id as written in records and configuration.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<String> for $name {
            fn from(id: String) -> Self {
                Self(Cow::Owned(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

open_set! {
    /// Why something broke, for example `cloud_sql_max_connections`. A root of a diagnosis.
    Cause,
    /// What was seen of a failure, for example `container_exit_code_3`. Never a root by itself.
    Symptom,
    /// A fact a probe cannot run without and another provides, for example `database-session`.
    Capability,
    /// Something of the target's that is shared and limited, for example `database-connection`.
    ResourceKind,
    /// The kind of a generic [`Fact`](crate::evidence::Fact), for example `auth-proxy-readiness`.
    ObservationKind,
    /// A measured series, for example `cloudsql.active_connections`.
    Metric,
}

/// The resources that the wire draws from the shared budget.
pub mod resource {
    use super::ResourceKind;

    /// One connection as the database server counts it, from before the dial until the server has
    /// closed its end. A bare TCP connect to the database port counts as one.
    pub const DATABASE_CONNECTION: ResourceKind = ResourceKind::new("database-connection");
    /// One open WebSocket.
    pub const WEBSOCKET: ResourceKind = ResourceKind::new("websocket");
    /// One open HTTP connection.
    pub const HTTP_CONNECTION: ResourceKind = ResourceKind::new("http-connection");
    /// The act of opening any connection to the target; a rate.
    pub const NEW_CONNECTION: ResourceKind = ResourceKind::new("new-connection");
    /// The act of sending an HTTP request to the target; a rate.
    pub const HTTP_REQUEST: ResourceKind = ResourceKind::new("http-request");
}

/// Facts that more than one crate names.
pub mod capability {
    use super::Capability;

    /// A login at the database was carried through to its first answer.
    pub const DATABASE_SESSION: Capability = Capability::new("database-session");
}
