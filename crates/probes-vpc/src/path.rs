//! Which way a connection to the database takes, and what its success or failure proves.
//!
//! Derived from what the environment states: vantage, dial target, the connector's name, the egress
//! setting and the kind of address. Nothing is looked up. What the environment does not state stays
//! [`Route::Unknown`], and then nothing is booked to the connector.

use std::fmt;
use std::net::IpAddr;

use shakedown_core::environment::Environment;
use shakedown_core::evidence::{Body, Fact, ObservationMeta};
use shakedown_core::id::ObservationKind;
use shakedown_core::{Finding, Tier, Vantage};

use crate::section::{AddressKind, Egress, Vpc};

/// The observation that states a [`NetworkPath`].
pub const NETWORK_PATH: ObservationKind = ObservationKind::new("vpc.network-path");

/// The description of [`NETWORK_PATH`].
pub const NETWORK_PATH_META: ObservationMeta = ObservationMeta {
    kind: NETWORK_PATH,
    summary: "the way a probe's connections to the database take: way, target, route, \
              crosses_connector (yes, no, unknown), why",
};

#[cfg(feature = "register")]
shakedown_core::register_observation!(NETWORK_PATH_META);

/// How the database is dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through a Unix socket, behind which an Auth Proxy accepts first and dials after.
    Socket,
    /// By its address.
    Tcp,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Socket => "socket",
            Self::Tcp => "TCP",
        })
    }
}

/// Where a connection goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Into the VPC network through the connector.
    Connector,
    /// Through an Auth Proxy on this machine, which is no serverless service: not the connector.
    LocalProxy,
    /// To a public address, past the connector.
    PublicAddress,
    /// Some other way that does not cross the connector.
    PastConnector,
    /// The environment does not say enough to tell.
    Unknown,
}

impl Route {
    /// Whether the connector is crossed; `None` when nobody can tell.
    pub const fn crosses_connector(self) -> Option<bool> {
        match self {
            Self::Connector => Some(true),
            Self::LocalProxy | Self::PublicAddress | Self::PastConnector => Some(false),
            Self::Unknown => None,
        }
    }

    /// For people: "through the connector".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Connector => "into the VPC through the connector",
            Self::LocalProxy => "through the Auth Proxy on this machine, not through the connector",
            Self::PublicAddress => "to the public address, not through the connector",
            Self::PastConnector => "not through the connector",
            Self::Unknown => "by a path that is not known",
        }
    }
}

/// The way one dial target is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPath {
    /// From where.
    pub vantage: Vantage,
    /// How it is dialled.
    pub way: Way,
    /// What is dialled, for people: the socket's path or `host:port`.
    pub target: String,
    /// Where it goes along.
    pub route: Route,
    /// What that is concluded from, or what is missing.
    pub why: String,
}

/// What the derivation looks at.
#[derive(Clone, Copy, Debug)]
pub struct Dial<'a> {
    /// From where.
    pub vantage: Vantage,
    /// A lab's connector listens on loopback; elsewhere loopback is a proxy on this machine.
    pub tier: Tier,
    /// The host as configured: a socket directory, an address or a name.
    pub host: &'a str,
    /// The port.
    pub port: u16,
    /// What is known of the connector.
    pub vpc: &'a Vpc,
}

impl<'a> Dial<'a> {
    /// `host` and `port` as dialled in `environment`.
    pub fn of(environment: &Environment, vpc: &'a Vpc, host: &'a str, port: u16) -> Self {
        let identity = &environment.identity;
        Self { vantage: identity.vantage, tier: identity.tier, host, port, vpc }
    }

    /// The path this takes.
    pub fn path(&self) -> NetworkPath {
        let socket = self.host.starts_with('/');
        let (route, why) = self.route(socket);
        NetworkPath {
            vantage: self.vantage,
            way: if socket { Way::Socket } else { Way::Tcp },
            target: if socket {
                format!("{}/.s.PGSQL.{}", self.host.trim_end_matches('/'), self.port)
            } else {
                format!("{}:{}", self.host, self.port)
            },
            route,
            why,
        }
    }

    fn route(&self, socket: bool) -> (Route, String) {
        let literal = if socket { None } else { literal_kind(self.host) };
        let lab = self.tier == Tier::Lab;
        match self.vantage {
            Vantage::Unknown => (
                Route::Unknown,
                "`environment.vantage` does not say from where this run looks".into(),
            ),
            Vantage::CloudRun => self.cloud_run_route(literal, lab),
            Vantage::Laptop | Vantage::Vpc => {
                let outside = if self.vantage == Vantage::Vpc {
                    "a machine in the VPC network is there already; only serverless services take \
                     the connector"
                } else {
                    "this machine is outside; only serverless services take the connector"
                };
                let route = match literal {
                    _ if socket => Route::LocalProxy,
                    Some(Literal::Loopback) if !lab => Route::LocalProxy,
                    Some(Literal::Public) => Route::PublicAddress,
                    _ => Route::PastConnector,
                };
                (route, outside.into())
            }
        }
    }

    fn cloud_run_route(&self, literal: Option<Literal>, lab: bool) -> (Route, String) {
        let vpc = self.vpc;
        if vpc.name.is_empty() && !lab {
            let why =
                "`vpc.name` names no connector: the service may have direct VPC egress or none";
            return (Route::Unknown, why.into());
        }
        if vpc.egress == Some(Egress::AllTraffic) {
            return (Route::Connector, "egress is all-traffic".into());
        }
        let (kind, said) = match literal {
            Some(Literal::Private) => (AddressKind::Private, "the address is private"),
            Some(Literal::Public) => (AddressKind::Public, "the address is public"),
            Some(Literal::Loopback) | None
                if lab && vpc.database_address == AddressKind::Unknown =>
            {
                (AddressKind::Private, "the lab has no way past its connector")
            }
            _ => (vpc.database_address, "`vpc.database_address` says so"),
        };
        match (kind, vpc.egress) {
            (AddressKind::Private, _) => {
                (Route::Connector, format!("a private address is dialled: {said}"))
            }
            (AddressKind::Public, Some(Egress::PrivateRangesOnly)) => (
                Route::PublicAddress,
                format!("a public address is dialled ({said}) and egress is private-ranges-only"),
            ),
            (AddressKind::Public, _) => (
                Route::Unknown,
                format!(
                    "a public address is dialled ({said}) and `vpc.egress` does not say whether \
                     that takes the connector"
                ),
            ),
            (AddressKind::Unknown, _) => (
                Route::Unknown,
                "`vpc.database_address` does not say whether the instance is dialled at its \
                 private or its public address"
                    .into(),
            ),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literal {
    Loopback,
    Private,
    Public,
}

/// The kind of a literal address; `None` for a name. Private are RFC 1918, RFC 6598, link-local and
/// RFC 4193.
fn literal_kind(host: &str) -> Option<Literal> {
    let address: IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
    let private = match address.to_canonical() {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0b1100_0000 == 64;
            v4.is_private() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
    };
    Some(match address {
        _ if address.to_canonical().is_loopback() => Literal::Loopback,
        _ if private => Literal::Private,
        _ => Literal::Public,
    })
}

impl NetworkPath {
    /// Whether what is found on this path may be booked to the connector.
    pub fn books_to_connector(&self) -> bool {
        self.route == Route::Connector
    }

    /// Vantage and path in one sentence.
    pub fn statement(&self) -> String {
        let at = match self.way {
            Way::Socket => "at the socket",
            Way::Tcp => "over TCP at",
        };
        format!(
            "from vantage {} the database is dialled {at} {}, {}: {}",
            self.vantage.as_str(),
            self.target,
            self.route.describe(),
            self.why
        )
    }

    /// What a success on this path proves.
    pub fn success_proves(&self) -> &'static str {
        match self.route {
            Route::Connector => {
                "a success proves that the connector carries traffic to the database"
            }
            Route::Unknown => {
                "a success proves that the database is up, and nothing about the connector"
            }
            _ => "a success proves that the database is up; the connector was not on the way",
        }
    }

    /// What a failure on this path proves.
    pub fn failure_proves(&self) -> &'static str {
        match (self.route, self.way) {
            (Route::Connector, Way::Tcp) => {
                "a failure to connect lies with egress, firewall, connector or instance; one after \
                 the connect lies with the database"
            }
            (Route::Connector, Way::Socket) => {
                "the proxy accepts first and dials after: a failure before the database's first \
                 answer lies with the proxy's dial, the connector or the instance"
            }
            (Route::LocalProxy, Way::Socket) => {
                "the proxy accepts first and dials after: a failure before the database's first \
                 answer lies with the proxy, its way or the instance, never with the connector"
            }
            (Route::Unknown, _) => "a failure is booked to nobody until the path is known",
            _ => "a failure is never the connector's",
        }
    }

    /// The path as a finding.
    pub fn finding(&self) -> Finding {
        let finding = Finding::new(format!(
            "path: {}; {}; {}",
            self.statement(),
            self.success_proves(),
            self.failure_proves()
        ));
        if self.route == Route::Unknown {
            finding.next("state environment.vantage, vpc.name, vpc.egress and vpc.database_address")
        } else {
            finding
        }
    }

    /// The path as an observation of kind [`NETWORK_PATH`].
    pub fn observation(&self) -> Body {
        let crosses = match self.route.crosses_connector() {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        let attributes = [
            ("way", self.way.to_string()),
            ("target", self.target.clone()),
            ("route", self.route.describe().to_owned()),
            ("crosses_connector", crosses.to_owned()),
            ("why", self.why.clone()),
        ];
        Body::Fact(Fact {
            fact: NETWORK_PATH,
            attributes: attributes.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(vantage: Vantage, tier: Tier, host: &str, egress: &str, kind: &str) -> Route {
        let text = format!("name = \"c\"\ndatabase_address = \"{kind}\"\n{egress}");
        let vpc: Vpc = toml::from_str(&text).expect("valid");
        Dial { vantage, tier, host, port: 5432, vpc: &vpc }.path().route
    }

    #[test]
    fn the_path_follows_from_vantage_target_egress_and_address_kind() {
        use Tier::{Lab, Staging};
        use Vantage::{CloudRun, Laptop, Unknown, Vpc};
        const PRIVATE: &str = "egress = \"private-ranges-only\"";
        const ALL: &str = "egress = \"all-traffic\"";
        const UNSET: &str = "";
        const SOCKET: &str = "/cloudsql/p:r:i";
        let table = [
            // Cloud Run: the proxy dials the address that `database_address` names.
            (CloudRun, Staging, SOCKET, PRIVATE, "private", Route::Connector),
            (CloudRun, Staging, SOCKET, PRIVATE, "public", Route::PublicAddress),
            (CloudRun, Staging, SOCKET, PRIVATE, "unknown", Route::Unknown),
            (CloudRun, Staging, SOCKET, ALL, "unknown", Route::Connector),
            (CloudRun, Staging, SOCKET, ALL, "public", Route::Connector),
            (CloudRun, Staging, SOCKET, UNSET, "private", Route::Connector),
            (CloudRun, Staging, SOCKET, UNSET, "public", Route::Unknown),
            // A literal address speaks for itself.
            (CloudRun, Staging, "10.159.0.2", PRIVATE, "unknown", Route::Connector),
            (CloudRun, Staging, "10.159.0.2", PRIVATE, "public", Route::Connector),
            (CloudRun, Staging, "34.171.226.17", PRIVATE, "private", Route::PublicAddress),
            (CloudRun, Staging, "34.171.226.17", UNSET, "private", Route::Unknown),
            (CloudRun, Staging, "34.171.226.17", ALL, "unknown", Route::Connector),
            (CloudRun, Staging, "db.internal", PRIVATE, "private", Route::Connector),
            (CloudRun, Staging, "db.internal", PRIVATE, "unknown", Route::Unknown),
            // A proxy beside the service dials on: its target is what counts.
            (CloudRun, Staging, "127.0.0.1", PRIVATE, "public", Route::PublicAddress),
            (CloudRun, Staging, "127.0.0.1", PRIVATE, "unknown", Route::Unknown),
            (CloudRun, Lab, "127.0.0.1", UNSET, "unknown", Route::Connector),
            (CloudRun, Lab, SOCKET, UNSET, "unknown", Route::Connector),
            (CloudRun, Lab, SOCKET, PRIVATE, "public", Route::PublicAddress),
            // Nobody else takes the connector.
            (Laptop, Staging, SOCKET, ALL, "private", Route::LocalProxy),
            (Laptop, Staging, "127.0.0.1", ALL, "private", Route::LocalProxy),
            (Laptop, Staging, "34.171.226.17", ALL, "public", Route::PublicAddress),
            (Laptop, Staging, "10.159.0.2", ALL, "private", Route::PastConnector),
            (Vpc, Staging, "10.159.0.2", ALL, "private", Route::PastConnector),
            (Vpc, Staging, SOCKET, ALL, "private", Route::LocalProxy),
            (Unknown, Staging, SOCKET, ALL, "private", Route::Unknown),
            (Unknown, Lab, "127.0.0.1", ALL, "private", Route::Unknown),
        ];
        for (vantage, tier, host, egress, kind, expected) in table {
            let found = route(vantage, tier, host, egress, kind);
            assert_eq!(found, expected, "{vantage:?} {tier:?} {host} {egress} {kind}");
        }
    }

    #[test]
    fn without_a_named_connector_nothing_is_known_outside_the_lab() {
        let vpc = Vpc { egress: Some(Egress::AllTraffic), ..Vpc::default() };
        let dial = |tier| Dial {
            vantage: Vantage::CloudRun,
            tier,
            host: "10.0.0.5",
            port: 5432,
            vpc: &vpc,
        };
        assert_eq!(dial(Tier::Staging).path().route, Route::Unknown);
        assert_eq!(dial(Tier::Lab).path().route, Route::Connector);
    }

    #[test]
    fn only_a_path_that_crosses_books_to_the_connector_and_each_says_what_it_proves() {
        let vpc = Vpc { name: "c".into(), egress: Some(Egress::AllTraffic), ..Vpc::default() };
        let path = |vantage, host| {
            Dial { vantage, tier: Tier::Staging, host, port: 5432, vpc: &vpc }.path()
        };
        let through = path(Vantage::CloudRun, "10.0.0.5");
        assert!(through.books_to_connector());
        assert!(through.success_proves().contains("connector carries"));
        for past in [path(Vantage::Laptop, "/cloudsql/p:r:i"), path(Vantage::Laptop, "10.0.0.5")] {
            assert!(!past.books_to_connector());
            assert!(past.failure_proves().contains("never"), "{}", past.failure_proves());
            assert!(past.finding().next.is_none());
        }
        let unknown = path(Vantage::Unknown, "10.0.0.5");
        assert!(!unknown.books_to_connector());
        assert!(unknown.finding().next.is_some());
        assert_eq!(
            through.statement(),
            "from vantage cloud-run the database is dialled over TCP at 10.0.0.5:5432, into the VPC \
             through the connector: egress is all-traffic"
        );
    }

    #[test]
    fn literal_addresses_are_told_apart() {
        let table = [
            ("10.1.2.3", Some(Literal::Private)),
            ("172.31.0.1", Some(Literal::Private)),
            ("172.32.0.1", Some(Literal::Public)),
            ("100.64.0.1", Some(Literal::Private)),
            ("100.128.0.1", Some(Literal::Public)),
            ("fd00::1", Some(Literal::Private)),
            ("[::1]", Some(Literal::Loopback)),
            ("::ffff:10.0.0.1", Some(Literal::Private)),
            ("2001:4860::1", Some(Literal::Public)),
            ("db.example", None),
        ];
        for (host, expected) in table {
            assert_eq!(literal_kind(host), expected, "{host}");
        }
    }
}
