//! The table `[cloudsql]` of an environment file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shakedown_core::{Environment, SectionSpec, Setting, Span};

use crate::maintenance::MaintenanceWindow;

/// `[cloudsql]`: the instance behind `[database]`.
///
/// What is left empty or out was not said. Numbers the strategy only assumes are
/// [`Setting`]s: they give way to what the server says and carry no capacity claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CloudSql {
    /// The instance's name, the last part of `PROJECT:REGION:INSTANCE`.
    pub instance: String,
    /// What it runs, in the API's words: `POSTGRES_15`.
    pub database_version: String,
    /// Its machine type, for example `db-custom-2-7680`: two vCPUs and 7,680 MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_type: Option<MachineType>,
    /// Its vCPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vcpus: Option<u32>,
    /// Its memory in GB, as Google counts: 7.5 for 7,680 MB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_gb: Option<f64>,
    /// Its storage in GB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_gb: Option<u32>,
    /// `SSD` or `HDD`.
    pub storage_type: String,
    /// `max_connections` of the server. Default 162 as the strategy says, assumed: the documented
    /// default for 7.5 GB is 400.
    pub max_connections: Setting<u32>,
    /// How many of those slots an ordinary role never gets. Default 3, PostgreSQL's
    /// `superuser_reserved_connections`; Cloud SQL keeps some for its own agents besides.
    pub reserved_connections: Setting<u32>,
    /// How many instances of the application may run at once, each with a pool of
    /// `database.pool_limit`. Default 1, assumed: the strategy does not say.
    pub application_instances: Setting<u32>,
    /// How long the application's pool lets a caller wait for a connection, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acquire_timeout: Option<Setting<Span>>,
    /// Whether and how a second zone holds the data too, in words: `regional persistent disk`.
    pub high_availability: String,
    /// How it is backed up, in words: `automated daily`.
    pub backup: String,
    /// When Google may take it down: `"Sunday 06:00-07:00 UTC"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintenance_window: Option<MaintenanceWindow>,
    /// How to start the Auth Proxy where nobody has.
    pub auth_proxy: AuthProxy,
}

impl Default for CloudSql {
    fn default() -> Self {
        Self {
            instance: String::new(),
            database_version: String::new(),
            machine_type: None,
            vcpus: None,
            memory_gb: None,
            storage_gb: None,
            storage_type: String::new(),
            max_connections: Setting::assumed(
                162,
                "the strategy calls it the default for 2 vCPUs; the documented default for 7.5 GB \
                 is 400, so it holds only where the flag was set",
            ),
            reserved_connections: Setting::assumed(
                3,
                "PostgreSQL's default; Cloud SQL keeps some for its own agents besides",
            ),
            application_instances: Setting::assumed(1, "the strategy does not say how many run"),
            acquire_timeout: None,
            high_availability: String::new(),
            backup: String::new(),
            maintenance_window: None,
            auth_proxy: AuthProxy::default(),
        }
    }
}

impl SectionSpec for CloudSql {
    const NAME: &'static str = "cloudsql";
    const SUMMARY: &'static str = "the Cloud SQL instance behind [database]";
}

#[cfg(feature = "register")]
shakedown_core::register_section!(CloudSql);

impl CloudSql {
    /// `PROJECT:REGION:INSTANCE`; `None` when one of the three was not said.
    pub fn connection_name(&self, environment: &Environment) -> Option<String> {
        let identity = &environment.identity;
        let parts = [&identity.project, &identity.region, &self.instance];
        let said = parts.iter().all(|part| !part.is_empty());
        said.then(|| format!("{}:{}:{}", identity.project, identity.region, self.instance))
    }

    /// The command that makes the socket of `[database]` appear on this machine. `None` when the
    /// database is not reached through a socket, or the connection name is not known.
    pub fn proxy_command(&self, environment: &Environment) -> Option<Vec<String>> {
        let host = environment.database.as_ref().filter(|database| database.is_socket())?;
        let name = self.connection_name(environment)?;
        let folder = host.host.trim_end_matches('/').strip_suffix(&name)?.trim_end_matches('/');
        let AuthProxy { path, private_ip } = &self.auth_proxy;
        let mut command = vec![path.clone(), "--unix-socket".to_owned(), folder.to_owned()];
        if *private_ip {
            command.push("--private-ip".to_owned());
        }
        command.push(name);
        Some(command)
    }

    /// Its memory in GB, as said or as its machine type tells.
    pub fn memory(&self) -> Option<f64> {
        self.memory_gb.or_else(|| self.machine_type.as_ref()?.memory_gb())
    }
}

/// The default of `max_connections` for an instance with `memory_gb`, as Google documents it for
/// Cloud SQL for PostgreSQL. `None` below the smallest documented size.
pub fn documented_max_connections(memory_gb: f64) -> Option<u32> {
    const DOCUMENTED: &[(f64, u32)] = &[
        (120.0, 1000),
        (60.0, 800),
        (30.0, 600),
        (15.0, 500),
        (7.5, 400),
        (6.0, 200),
        (3.75, 100),
        (1.7, 50),
        (0.5, 25),
    ];
    DOCUMENTED.iter().find(|(from, _)| memory_gb >= *from).map(|&(_, default)| default)
}

/// `[cloudsql.auth_proxy]`: the Cloud SQL Auth Proxy on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct AuthProxy {
    /// The program. Default `cloud-sql-proxy`, found on the path.
    pub path: String,
    /// Whether it dials the instance's private address. Default no, as the proxy's own default.
    pub private_ip: bool,
}

impl Default for AuthProxy {
    fn default() -> Self {
        Self { path: "cloud-sql-proxy".into(), private_ip: false }
    }
}

/// A machine type, for example `db-custom-2-7680`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "register", schemars(with = "String"))]
#[serde(try_from = "String", into = "String")]
pub struct MachineType(String);

impl MachineType {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// vCPUs and MB of memory, which only custom types tell by name.
    fn custom(&self) -> Option<(u32, u32)> {
        let (vcpus, mb) = self.0.strip_prefix("db-custom-")?.split_once('-')?;
        Some((vcpus.parse().ok()?, mb.parse().ok()?))
    }

    /// vCPUs, where the name tells.
    pub fn vcpus(&self) -> Option<u32> {
        self.custom().map(|(vcpus, _)| vcpus)
    }

    /// Memory in GB of 1,024 MB, where the name tells.
    pub fn memory_gb(&self) -> Option<f64> {
        self.custom().map(|(_, mb)| f64::from(mb) / 1024.0)
    }
}

impl FromStr for MachineType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let machine_type = Self(text.to_owned());
        if !text.starts_with("db-")
            || (text.starts_with("db-custom-") && machine_type.custom().is_none())
        {
            return Err(format!(
                "`{text}` is not a machine type: write it as Google does, for example \
                 `db-custom-2-7680` for two vCPUs and 7,680 MB"
            ));
        }
        Ok(machine_type)
    }
}

impl TryFrom<String> for MachineType {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<MachineType> for String {
    fn from(machine_type: MachineType) -> Self {
        machine_type.0
    }
}

impl fmt::Display for MachineType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use shakedown_core::environment::Database;

    use super::*;

    #[test]
    fn the_strategys_instance_has_a_key_for_everything() {
        let text = r#"
            instance = "netra-staging-db"
            database_version = "POSTGRES_14"
            machine_type = "db-custom-2-7680"
            vcpus = 2
            memory_gb = 7.5
            storage_gb = 100
            storage_type = "SSD"
            max_connections = { value = 162, assumed = "the strategy" }
            reserved_connections = 3
            application_instances = { value = 20, assumed = "a guess" }
            acquire_timeout = "30s"
            high_availability = "regional persistent disk"
            backup = "automated daily"
            maintenance_window = "Sunday 06:00-07:00 UTC"
            auth_proxy = { path = "/usr/local/bin/cloud-sql-proxy", private_ip = true }
        "#;
        let section: CloudSql = toml::from_str(text).expect("valid");
        let again: CloudSql =
            toml::from_str(&toml::to_string(&section).expect("serialises")).expect("valid");
        assert_eq!(section, again);
        assert_eq!(section.memory(), Some(7.5));
        assert!(section.max_connections.is_assumed() && !section.reserved_connections.is_assumed());
    }

    #[test]
    fn the_default_reads_back_and_assumes_every_number() {
        let default = CloudSql::default();
        let text = toml::to_string(&default).expect("serialises");
        assert_eq!(toml::from_str::<CloudSql>(&text).expect("valid"), default);
        for setting in [
            &default.max_connections,
            &default.reserved_connections,
            &default.application_instances,
        ] {
            assert!(setting.is_assumed(), "{setting:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for text in [
            "machine_type = \"n1-standard-1\"",
            "machine_type = \"db-custom-2\"",
            "maintenance_window = \"weekends\"",
            "instances = 3",
        ] {
            assert!(toml::from_str::<CloudSql>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn seven_and_a_half_gigabytes_default_to_400_not_162() {
        let machine: MachineType = "db-custom-2-7680".parse().expect("valid");
        assert_eq!(machine.vcpus(), Some(2));
        assert_eq!(documented_max_connections(machine.memory_gb().expect("custom")), Some(400));
        assert_eq!(documented_max_connections(3.75), Some(100));
        assert_eq!(documented_max_connections(0.25), None);
        assert_eq!("db-f1-micro".parse::<MachineType>().expect("valid").memory_gb(), None);
    }

    #[test]
    fn the_proxy_is_started_for_the_folder_above_the_connection_name() {
        let mut environment = Environment::default();
        environment.identity.project = "netra-staging".into();
        environment.identity.region = "us-central1".into();
        let mut section = CloudSql { instance: "netra-staging-db".into(), ..CloudSql::default() };
        assert_eq!(section.proxy_command(&environment), None, "no database yet");
        let host = "/cloudsql/netra-staging:us-central1:netra-staging-db".to_owned();
        environment.database = Some(Database { host, ..Database::default() });
        let name = "netra-staging:us-central1:netra-staging-db";
        assert_eq!(
            section.proxy_command(&environment).expect("known").join(" "),
            format!("cloud-sql-proxy --unix-socket /cloudsql {name}")
        );
        section.auth_proxy.private_ip = true;
        assert!(
            section.proxy_command(&environment).expect("known").contains(&"--private-ip".into())
        );
        section.instance.clear();
        assert_eq!(section.proxy_command(&environment), None);
    }
}
