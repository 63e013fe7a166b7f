//! The generic tables of an environment file.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::scale::TimeScale;
use crate::budget::Budget;
use crate::evidence::Vantage;
use crate::id::resource;
use crate::units::{Rate, Setting, Span};

/// How much care a target needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// A local staging of our own; may be broken and overloaded at will.
    Lab,
    /// Shared with people; the safety limits hold.
    #[default]
    Staging,
    /// Never probed: only `doctor`, `plan` and `analyze`.
    Production,
}

impl Tier {
    /// As written in the environment file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lab => "lab",
            Self::Staging => "staging",
            Self::Production => "production",
        }
    }
}

/// `[environment]`: which target this is, and from where it is looked at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Identity {
    /// What reports call it.
    pub name: String,
    /// Other names `--env` finds it by.
    pub aliases: Vec<String>,
    /// How much care it needs.
    pub tier: Tier,
    /// The cloud project.
    pub project: String,
    /// The region.
    pub region: String,
    /// The zone.
    pub zone: String,
    /// From where this run looks at it.
    pub vantage: Vantage,
    /// What session ids begin with.
    pub session_prefix: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            name: "unnamed".into(),
            aliases: Vec::new(),
            tier: Tier::default(),
            project: String::new(),
            region: String::new(),
            zone: String::new(),
            vantage: Vantage::default(),
            session_prefix: "shakedown".into(),
        }
    }
}

/// How much TLS a database connection asks for, with libpq's meanings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// None.
    Disable,
    /// If the server offers it.
    #[default]
    Prefer,
    /// Always, with any certificate.
    Require,
    /// Always, with a certificate of a known issuer.
    VerifyCa,
    /// Always, with a certificate of a known issuer for this host.
    VerifyFull,
}

/// `[database]`: the database server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Database {
    /// A host name, an address, or a directory: one that starts with `/` means the Unix socket
    /// `HOST/.s.PGSQL.PORT`.
    pub host: String,
    /// The TCP port, or the number in the socket's name.
    pub port: u16,
    /// The database's name.
    pub name: String,
    /// The role.
    pub user: String,
    /// Ignored on a Unix socket, as libpq does.
    pub ssl_mode: SslMode,
    /// Which of `[credentials]` holds the password.
    pub credential: String,
    /// How long connecting may take. The strategy's safety limit is 30 s.
    pub connect_timeout: Setting<Span>,
    /// How long one statement of ours may take.
    pub statement_timeout: Setting<Span>,
    /// How many connections one instance of the application may hold.
    pub pool_limit: Setting<u32>,
    /// Where the instance answers on TCP without the proxy, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpAddress>,
}

impl Default for Database {
    fn default() -> Self {
        let strategy = "the strategy's value";
        Self {
            host: String::new(),
            port: 5432,
            name: String::new(),
            user: String::new(),
            ssl_mode: SslMode::default(),
            credential: "database".into(),
            connect_timeout: Setting::assumed(Span::secs(30), strategy),
            statement_timeout: Setting::assumed(Span::secs(300), strategy),
            pool_limit: Setting::assumed(25, strategy),
            tcp: None,
        }
    }
}

impl Database {
    /// Whether it is reached through a Unix socket.
    pub fn is_socket(&self) -> bool {
        self.host.starts_with('/')
    }

    /// The Unix socket's path, when it is reached through one.
    pub fn socket_path(&self) -> Option<String> {
        self.is_socket()
            .then(|| format!("{}/.s.PGSQL.{}", self.host.trim_end_matches('/'), self.port))
    }
}

/// `[database.tcp]`: the instance's own address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TcpAddress {
    /// A host name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// How much TLS to ask for.
    #[serde(default)]
    pub ssl_mode: SslMode,
}

/// `[services.<name>]`: something that answers HTTPS.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Service {
    /// Its canonical URL.
    pub url: String,
    /// Other URLs in circulation that should reach the same service.
    pub aliases: Vec<String>,
    /// The path of its health endpoint.
    pub health_path: HealthPath,
    /// Its WebSocket, when it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub websocket: Option<String>,
}

/// The path of a health endpoint; `/health` unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
pub struct HealthPath(String);

impl HealthPath {
    /// The path, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for HealthPath {
    fn default() -> Self {
        Self("/health".into())
    }
}

impl TryFrom<String> for HealthPath {
    type Error = String;

    fn try_from(path: String) -> Result<Self, String> {
        if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(path))
        } else {
            Err(format!("`{path}` is not a path: it starts with `/` and has no spaces"))
        }
    }
}

impl From<HealthPath> for String {
    fn from(path: HealthPath) -> Self {
        path.0
    }
}

impl fmt::Display for HealthPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `[network]`: what must be reachable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Hosts that are tested, by name.
    pub required_hosts: Vec<RequiredHost>,
    /// Ranges that are printed as a rule to check, and never scanned.
    pub required_ranges: Vec<RequiredRange>,
    /// Where to connect instead of resolving: `"host"` or `"host:port"` to `"address:port"`, as
    /// curl's `--connect-to`. Names in URLs and TLS checks stay what they are.
    pub resolve: BTreeMap<String, String>,
}

/// One host of `[network]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequiredHost {
    /// The name.
    pub host: String,
    /// The port.
    #[serde(default = "https_port")]
    pub port: u16,
    /// What it is needed for.
    pub purpose: String,
}

fn https_port() -> u16 {
    443
}

/// One range of `[network]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct RequiredRange {
    /// The range, or a description of it where no number is known.
    pub cidr: String,
    /// What it is needed for.
    pub purpose: String,
    /// Why it is doubtful, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assumed: Option<String>,
}

/// `[load_balancer]`: what stands before the services.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct LoadBalancer {
    /// Its kind.
    pub kind: String,
    /// How it finds out whether a backend is healthy.
    pub health_checks: String,
    /// Where TLS ends and whose certificates serve.
    pub tls_termination: String,
}

/// `[tls]`: whom to trust.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// A PEM file with roots to trust besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
}

/// `[credentials.<name>]`: where a secret is found, never the secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CredentialRef {
    /// An environment variable that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A file that holds it; trailing newlines are cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// The HTTP header it travels in, for keys that travel in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub purpose: String,
}

/// `[safety]`: what the target can bear from us.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Safety {
    /// Database connections of ours at once, for the whole run. The strategy allows 5 per test;
    /// ours is stricter: one is the monitor's, one the run lock's, three are the probes'.
    pub database_connections: u32,
    /// WebSockets of ours at once (strategy: 10).
    pub websockets: u32,
    /// HTTP connections of ours at once.
    pub http_connections: u32,
    /// New connections of ours.
    pub connection_rate: Setting<Rate>,
    /// HTTP requests of ours.
    pub request_rate: Setting<Rate>,
    /// The longest any connect may take (strategy: 30 s).
    pub connect_timeout: Span,
    /// The longest a run may take (strategy: 90 minutes).
    pub run_limit: Span,
    /// The longest each run phase may take (strategy: 10, 20, 60 and 45 minutes).
    pub phase_limits: [Span; 4],
    /// After its timeout a probe is cancelled and has this long to end by itself.
    pub grace: Span,
    /// How long the slot of a database connection that was not seen closed stays taken.
    pub linger: Span,
    /// When a metric is too high: an alert, and a stop when it got worse after our load began.
    pub guards: Vec<Guard>,
}

impl Default for Safety {
    fn default() -> Self {
        let minutes = |n: u64| Span::secs(n * 60);
        Self {
            database_connections: 5,
            websockets: 10,
            http_connections: 5,
            connection_rate: Setting::assumed(
                Rate::per_minute(60),
                "a tenth of the strategy's connector rate limit, itself undocumented",
            ),
            request_rate: Setting::assumed(Rate::per_second(5), "no figure is documented"),
            connect_timeout: Span::secs(30),
            run_limit: minutes(90),
            phase_limits: [minutes(10), minutes(20), minutes(60), minutes(45)],
            grace: Span::secs(5),
            linger: Span::secs(5),
            guards: Guard::strategy(),
        }
    }
}

impl Safety {
    /// What is more at once than the strategy allows: key, value, and the most.
    pub(super) fn raised(&self) -> impl Iterator<Item = (&'static str, u32, u32)> {
        let most = Self::default();
        let at_once = [
            ("database_connections", self.database_connections, most.database_connections),
            ("websockets", self.websockets, most.websockets),
            ("http_connections", self.http_connections, most.http_connections),
        ];
        at_once.into_iter().filter(|(_, asked, most)| asked > most)
    }

    /// The budget these limits allow.
    pub fn budget(&self) -> Budget {
        let linger = self.linger.get();
        Budget::builder()
            .at_once(resource::DATABASE_CONNECTION, self.database_connections, linger)
            .at_once(resource::WEBSOCKET, self.websockets, linger)
            .at_once(resource::HTTP_CONNECTION, self.http_connections, std::time::Duration::ZERO)
            .paced(resource::NEW_CONNECTION, self.connection_rate.value)
            .paced(resource::HTTP_REQUEST, self.request_rate.value)
            .build()
    }
}

/// One of `[[safety.guards]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Guard {
    /// The metric's id.
    pub metric: String,
    /// Too high above this value, in the metric's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above: Option<f64>,
    /// Too high above this multiple of the baseline taken at the gate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub above_baseline: Option<f64>,
    /// Never too high up to this value, in the metric's unit, whatever the baseline was: keeps
    /// 0.1 ms that became 0.3 ms from being an alarm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<f64>,
    /// For at least this long.
    #[serde(default)]
    pub lasting: Span,
}

impl Guard {
    /// The strategy's four alert thresholds. "Response time degradation > 200 % of baseline" is read
    /// as more than twice the baseline, more than 50 ms, and for 30 s (three samples): our own choice
    /// of what is too little or too short to matter.
    pub fn strategy() -> Vec<Self> {
        let guard = |metric: &str, above, above_baseline, lasting: u64| Self {
            metric: metric.to_owned(),
            above,
            above_baseline,
            floor: above_baseline.map(|_| 50.0),
            lasting: Span::secs(lasting),
        };
        vec![
            guard("cloudsql.resource_utilization", Some(0.80), None, 300),
            guard("cloudsql.connection_pool_utilization", Some(0.90), None, 0),
            guard("cloudsql.connection_errors", Some(0.05), None, 0),
            guard("cloudsql.query_latency", None, Some(2.0), 30),
        ]
    }
}

/// `[monitoring]`: how the monitors are run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Monitoring {
    /// How often each monitor is asked (strategy: 10 s).
    pub cadence: Span,
}

impl Default for Monitoring {
    fn default() -> Self {
        Self { cadence: Span::secs(10) }
    }
}

/// `[results]`: where a run leaves its record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Results {
    /// The folder that session folders are made in (strategy:
    /// `reports/testing/issue_1278_results`).
    pub dir: String,
}

impl Default for Results {
    fn default() -> Self {
        Self { dir: "reports/shakedown".into() }
    }
}

/// `[lab]`: what a lab says about itself. Only allowed where the tier is `lab`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Lab {
    /// Durations are divided by this.
    pub time_scale: TimeScale,
    /// The lab's folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<String>,
    /// The scenario it plays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
}
