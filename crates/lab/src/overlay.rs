//! The part of the environment file that only the lab knows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shakedown_core::environment::TimeScale;

use crate::application;
use crate::scenario::ConnectorOverrides;
use crate::services::auth::{SERVICE_ID, SERVICE_SECRET};
use crate::services::{HOSTS, Host};
use crate::settings::LabSettings;

/// Where a lab listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addresses {
    /// The emulated Auth Proxy's Unix socket.
    pub socket: PathBuf,
    /// The connector in front of PostgreSQL.
    pub connector: SocketAddr,
    /// PostgreSQL itself. A tester has no business there.
    pub postgres: SocketAddr,
    /// The load balancer, HTTPS.
    pub load_balancer: SocketAddr,
}

#[derive(Debug, Serialize)]
struct Overlay<'a> {
    environment: Environment<'a>,
    lab: Lab<'a>,
    database: Database<'a>,
    credentials: Credentials,
    tls: Tls,
    services: BTreeMap<&'a str, Service>,
    network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    vpc: Option<Vpc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application: Option<application::Table>,
    #[serde(skip_serializing_if = "Option::is_none")]
    startup: Option<toml::Table>,
}

#[derive(Debug, Serialize)]
struct Environment<'a> {
    name: &'a str,
    tier: &'a str,
    project: &'a str,
    region: &'a str,
    vantage: &'a str,
}

#[derive(Debug, Serialize)]
struct Lab<'a> {
    time_scale: TimeScale,
    dir: &'a Path,
}

#[derive(Debug, Serialize)]
struct Database<'a> {
    host: &'a Path,
    port: u16,
    name: &'a str,
    user: &'a str,
    ssl_mode: &'a str,
    credential: &'a str,
    tcp: Tcp,
}

#[derive(Debug, Serialize)]
struct Tcp {
    host: String,
    port: u16,
    ssl_mode: &'static str,
}

#[derive(Debug, Serialize)]
struct Credentials {
    database: Credential,
    user: Credential,
    password: Credential,
    service_id: Credential,
    service_secret: Credential,
}

#[derive(Debug, Serialize)]
struct Credential {
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Tls {
    ca_file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Service {
    url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    health_path: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    websocket: Option<String>,
}

#[derive(Debug, Serialize)]
struct Network {
    resolve: BTreeMap<String, String>,
}

/// Counts the scenario changed. Delays are left out: whoever reads this file scales them once more.
#[derive(Debug, Serialize)]
struct Vpc {
    #[serde(skip_serializing_if = "Option::is_none")]
    instances_min: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instances_max: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    connections_per_instance: Option<u32>,
}

/// Files of a lab that the overlay names.
pub(crate) fn ca_file(dir: &Path) -> PathBuf {
    dir.join("ca.pem")
}

/// The application's password.
pub(crate) fn database_secret(dir: &Path) -> PathBuf {
    secret(dir, "database")
}

/// One of the lab's secrets.
pub(crate) fn secret(dir: &Path, name: &str) -> PathBuf {
    dir.join("secrets").join(name)
}

/// The environment overlay as TOML.
pub(crate) fn overlay(
    dir: &Path,
    settings: &LabSettings,
    scale: TimeScale,
    overrides: &ConnectorOverrides,
    addresses: &Addresses,
    application: Option<(application::Table, toml::Table)>,
) -> String {
    let url = |host: &Host| format!("https://{}", host.name);
    let services = HOSTS.iter().filter(|host| !host.alias).map(|host| {
        let aliases = HOSTS
            .iter()
            .filter(|other| other.alias && other.service == host.service)
            .map(url)
            .collect();
        let websocket = host.service.has_websocket().then(|| format!("wss://{}/ws", host.name));
        (
            host.service.name(),
            Service { url: url(host), aliases, health_path: "/health", websocket },
        )
    });
    let ConnectorOverrides { instances_min, instances_max, connections_per_instance, .. } =
        *overrides;
    let (application, startup) = application.unzip();
    let changed = instances_min.or(instances_max).or(connections_per_instance).is_some();
    let overlay = Overlay {
        environment: Environment {
            name: "lab",
            tier: "lab",
            project: &settings.project,
            region: &settings.region,
            vantage: "cloud-run",
        },
        lab: Lab { time_scale: scale, dir },
        database: Database {
            host: addresses.socket.parent().expect("the path was joined"),
            port: 5432,
            name: &settings.database.name,
            user: &settings.database.user,
            ssl_mode: "disable",
            credential: "database",
            tcp: Tcp {
                host: addresses.connector.ip().to_string(),
                port: addresses.connector.port(),
                ssl_mode: "disable",
            },
        },
        credentials: Credentials {
            database: Credential { file: database_secret(dir), header: None },
            user: Credential { file: secret(dir, "user"), header: None },
            password: Credential { file: secret(dir, "password"), header: None },
            service_id: Credential { file: secret(dir, "service-id"), header: Some(SERVICE_ID) },
            service_secret: Credential {
                file: secret(dir, "service-secret"),
                header: Some(SERVICE_SECRET),
            },
        },
        tls: Tls { ca_file: ca_file(dir) },
        services: services.collect(),
        network: Network {
            resolve: HOSTS
                .iter()
                .map(|host| (host.name.to_owned(), addresses.load_balancer.to_string()))
                .collect(),
        },
        vpc: changed.then_some(Vpc { instances_min, instances_max, connections_per_instance }),
        application,
        startup,
    };
    toml::to_string(&overlay).expect("plain tables become TOML")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlay_names_everything() {
        let addresses = Addresses {
            socket: "/tmp/lab/cloudsql/p:r:i/.s.PGSQL.5432".into(),
            connector: "127.0.0.1:1001".parse().unwrap(),
            postgres: "127.0.0.1:1002".parse().unwrap(),
            load_balancer: "127.0.0.1:1003".parse().unwrap(),
        };
        let overrides = ConnectorOverrides {
            connections_per_instance: Some(20),
            ..ConnectorOverrides::default()
        };
        let scale = TimeScale::new(10).unwrap();
        let text = overlay(
            Path::new("/tmp/lab"),
            &LabSettings::default(),
            scale,
            &overrides,
            &addresses,
            None,
        );
        let expected = "\
[environment]
name = \"lab\"
tier = \"lab\"
project = \"shakedown-lab\"
region = \"us-central1\"
vantage = \"cloud-run\"

[lab]
time_scale = 10
dir = \"/tmp/lab\"

[database]
host = \"/tmp/lab/cloudsql/p:r:i\"
port = 5432
name = \"staging\"
user = \"app\"
ssl_mode = \"disable\"
credential = \"database\"

[database.tcp]
host = \"127.0.0.1\"
port = 1001
ssl_mode = \"disable\"

[credentials.database]
file = \"/tmp/lab/secrets/database\"

[credentials.user]
file = \"/tmp/lab/secrets/user\"

[credentials.password]
file = \"/tmp/lab/secrets/password\"

[credentials.service_id]
file = \"/tmp/lab/secrets/service-id\"
header = \"X-Service-ID\"

[credentials.service_secret]
file = \"/tmp/lab/secrets/service-secret\"
header = \"X-Service-Secret\"

[tls]
ca_file = \"/tmp/lab/ca.pem\"

[services.auth]
url = \"https://auth.lab.shakedown.test\"
health_path = \"/health\"

[services.backend]
url = \"https://backend.lab.shakedown.test\"
aliases = [\"https://api.lab.shakedown.test\"]
health_path = \"/health\"
websocket = \"wss://backend.lab.shakedown.test/ws\"

[services.frontend]
url = \"https://lab.shakedown.test\"
health_path = \"/health\"

[network.resolve]
\"api.lab.shakedown.test\" = \"127.0.0.1:1003\"
\"auth.lab.shakedown.test\" = \"127.0.0.1:1003\"
\"backend.lab.shakedown.test\" = \"127.0.0.1:1003\"
\"lab.shakedown.test\" = \"127.0.0.1:1003\"

[vpc]
connections_per_instance = 20
";
        assert_eq!(text, expected);
    }
}
