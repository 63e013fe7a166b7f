//! Scenarios: what goes wrong in a lab, and what a good tester must find.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use shakedown_core::Span;
use shakedown_core::environment::TimeScale;

use crate::error::LabError;
use crate::fault::Fault;
use crate::random::SplitMix;
use crate::settings::LabSettings;

/// A scenario, read from TOML. Times are those of the staging the lab stands for (unscaled) and
/// count from the moment the lab is ready.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name; that of the file for the built-in ones.
    pub name: String,
    /// What is wrong, in one line.
    pub summary: String,
    /// Decides everything drawn at random: two labs with one seed do the same.
    #[serde(default)]
    pub seed: u64,
    /// Connector parameters this scenario needs other than the settings have them.
    #[serde(default, skip_serializing_if = "ConnectorOverrides::is_empty")]
    pub connector: ConnectorOverrides,
    /// How long the Auth Proxy tries to reach the database, where this scenario needs another time
    /// than the settings have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_dial_timeout: Option<Span>,
    /// What goes wrong, when.
    #[serde(default, rename = "fault", skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// What a good tester must find.
    #[serde(default)]
    pub expect: Expect,
}

/// Connector parameters a scenario sets; meanings and units as in
/// [`ConnectorSettings`](crate::ConnectorSettings).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorOverrides {
    /// Instances at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_min: Option<u32>,
    /// Instances after all scale-outs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances_max: Option<u32>,
    /// Connections each instance carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections_per_instance: Option<u32>,
    /// Shortest time from lasting pressure to one more instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_delay_min: Option<Span>,
    /// Longest time from lasting pressure to one more instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scaling_delay_max: Option<Span>,
}

impl ConnectorOverrides {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn apply(&self, settings: &mut LabSettings) {
        let connector = &mut settings.connector;
        fn set<T: Copy>(to: &mut T, from: Option<T>) {
            if let Some(value) = from {
                *to = value;
            }
        }
        set(&mut connector.instances_min, self.instances_min);
        set(&mut connector.instances_max, self.instances_max);
        set(&mut connector.connections_per_instance, self.connections_per_instance);
        set(&mut connector.scaling_delay_min, self.scaling_delay_min);
        set(&mut connector.scaling_delay_max, self.scaling_delay_max);
    }
}

/// What a good tester must find in a scenario.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Expect {
    /// The cause, by id; `None` when all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// The service that fails for that cause, and whose symptoms these are. Default `"backend"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Further causes of the same service, each with a time of its own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// Causes another one hides: what can be told of them is that nothing can.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<String>,
    /// The limit of the start-up that fires, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// The causes of other services that fail in the same minutes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, String>,
    /// What can be told of it, where the root needs a figure that nobody gives a tester: the cause
    /// that is the right answer without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// How long the staging has to be watched until all of this can be told. Default one minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<Span>,
    /// Symptoms that come with it, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub symptoms: Vec<String>,
    /// Causes that must not be blamed, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decoys: Vec<String>,
    /// What single probes must say.
    #[serde(rename = "probe", skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ExpectProbe>,
}

/// What one probe must say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectProbe {
    /// Probe id, `cloudsql.connect-timing`.
    pub id: String,
    /// Its verdict, or how it ended without one.
    pub verdict: ExpectVerdict,
    /// Which of the lab's two ways to the database `rung` and `error` are about, where the probe
    /// takes both: `"socket"` (default) or `"tcp"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<ExpectPath>,
    /// Rung that fails: resolve, connect, tls, startup, auth, ready or query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<ExpectRung>,
    /// Its typed error: `timeout`, `closed`, `refused`, `reset`, `sqlstate:53300`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A probe's verdict, or how it ended without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectVerdict {
    /// The good state holds.
    Pass,
    /// It holds, but something is worth a look.
    Degraded,
    /// It does not hold.
    Fail,
    /// The question does not arise.
    Skip,
    /// It did not start: a probe it needs failed.
    Blocked,
}

/// A way to the lab's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExpectPath {
    /// The Auth Proxy's Unix socket.
    Socket,
    /// The connector's TCP address.
    Tcp,
}

/// A rung of the ladder to the database's first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it all")]
pub enum ExpectRung {
    Resolve,
    Connect,
    Tls,
    Startup,
    Auth,
    Ready,
    Query,
}

macro_rules! built_in {
    ($($name:literal),* $(,)?) => {
        /// Name and text of the scenarios that come with the crate.
        const BUILT_IN: &[(&str, &str)] = &[$(($name, include_str!(concat!("../scenarios/", $name, ".toml")))),*];
    };
}

built_in!(
    "healthy",
    "connector-saturated",
    "connector-egress-warmup",
    "connector-drops",
    "proxy-accepts-then-eof",
    "cloudsql-max-connections",
    "cloudsql-closed",
    "cloudsql-silent",
    "database-comes-back",
    "cloudsql-refused",
    "cloudsql-slow-auth",
    "wrong-password",
    "phase3-timeout",
    "table-setup-limit",
    "egress-all-traffic",
    "code-defect-import",
    "code-defect-phase5",
    "pool-exhausted-by-app",
    "max-connections-by-others",
    "slow-database",
    "lock-contention",
    "wrong-secret",
    "stray-newline-in-db-name",
    "jwt-secret-mismatch",
    "auth-down",
    "redis-down-tolerated",
    "swallowed-startup-failure",
    "ws-blocked-by-lb",
    "slow-answer",
    "autoscaling-noise",
    "flapping",
    "two-roots",
    "masked-fault",
);

impl Scenario {
    /// The scenarios that come with the crate.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let parse = |(_, text): &(&str, &str)| {
            toml::from_str(text).expect("a test parses every built-in scenario")
        };
        BUILT_IN.iter().map(parse).collect()
    }

    /// The lab without any fault.
    #[must_use]
    pub fn healthy() -> Self {
        Self::find("healthy").expect("healthy is built in")
    }

    /// The built-in scenario of that name, or the file at that path (recognised by a `/` or by
    /// ending in `.toml`).
    ///
    /// # Errors
    /// [`LabError::NoScenario`] for an unknown name, [`LabError::ReadScenario`] and
    /// [`LabError::Scenario`] for a file.
    pub fn find(name_or_path: &str) -> Result<Self, LabError> {
        if name_or_path.contains('/') || name_or_path.ends_with(".toml") {
            return Self::load(Path::new(name_or_path));
        }
        let found = BUILT_IN.iter().find(|(name, _)| *name == name_or_path);
        let (name, text) = found.ok_or_else(|| LabError::NoScenario {
            name: name_or_path.into(),
            known: BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
        })?;
        Self::parse(text, name)
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// [`LabError::ReadScenario`] when it cannot be read, [`LabError::Scenario`] when it is wrong.
    pub fn load(path: &Path) -> Result<Self, LabError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| LabError::ReadScenario { path: path.into(), source })?;
        Self::parse(&text, &path.display().to_string())
    }

    fn parse(text: &str, origin: &str) -> Result<Self, LabError> {
        toml::from_str(text).map_err(|source| LabError::Scenario {
            origin: origin.into(),
            source: Box::new(source),
        })
    }

    /// Scenario and settings in lab time: overrides applied, durations divided, rates multiplied,
    /// ranges drawn.
    #[must_use]
    pub fn resolve(&self, settings: &LabSettings, scale: TimeScale) -> (Self, LabSettings) {
        let mut settings = settings.clone();
        self.connector.apply(&mut settings);
        if let Some(timeout) = self.proxy_dial_timeout {
            settings.proxy_dial_timeout = timeout;
        }
        let mut draws = SplitMix::new(self.seed);
        let faults = self.faults.iter().map(|fault| fault.resolved(scale, draws.unit())).collect();
        let mut scenario = Self { faults, ..self.clone() };
        for delay in
            [&mut scenario.connector.scaling_delay_min, &mut scenario.connector.scaling_delay_max]
        {
            *delay = delay.map(|span| Span(scale.duration(span.0)));
        }
        scenario.proxy_dial_timeout =
            scenario.proxy_dial_timeout.map(|timeout| Span(scale.limit(timeout.0)));
        (scenario, settings.scaled(scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_scenarios_parse_and_bear_their_names() {
        let names: Vec<_> =
            Scenario::built_in().into_iter().map(|scenario| scenario.name).collect();
        let files: Vec<_> = BUILT_IN.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, files);
    }

    #[test]
    fn every_scenario_file_is_built_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut names: Vec<_> = BUILT_IN.iter().map(|(name, _)| format!("{name}.toml")).collect();
        names.sort();
        assert_eq!(files, names);
    }

    #[test]
    fn whatever_has_no_root_has_decoys_and_whatever_has_one_has_a_fault() {
        let harmless = [
            "healthy",
            "redis-down-tolerated",
            "slow-answer",
            "autoscaling-noise",
            "database-comes-back",
        ];
        for scenario in Scenario::built_in() {
            let (name, expect) = (&scenario.name, &scenario.expect);
            assert_eq!(expect.root.is_none(), harmless.contains(&&**name), "{name}");
            assert_eq!(scenario.faults.is_empty(), name == "healthy", "{name}");
            assert!(!expect.decoys.is_empty(), "{name}");
            for cause in expect.root.iter().chain(&expect.also) {
                assert!(!expect.decoys.contains(cause), "{name}");
            }
            if expect.root.is_none() {
                let fails = expect.probes.iter().any(|probe| probe.verdict == ExpectVerdict::Fail);
                assert!(!fails && expect.symptoms.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn same_seed_same_resolution_and_the_copy_reads_back() {
        let scenario = Scenario::find("connector-egress-warmup").unwrap();
        let scale = TimeScale::new(10).unwrap();
        let first = scenario.resolve(&LabSettings::default(), scale);
        assert_eq!(first, scenario.resolve(&LabSettings::default(), scale));
        let text = toml::to_string(&first.0).unwrap();
        assert_eq!(Scenario::parse(&text, "copy").unwrap(), first.0);
        let until = first.0.faults[0].until.unwrap().min.0;
        assert!((2.0..=8.0).contains(&until.as_secs_f64()), "{until:?}");
        let other = Scenario { seed: scenario.seed + 1, ..scenario.clone() };
        assert_ne!(other.resolve(&LabSettings::default(), scale).0.faults, first.0.faults);
    }

    #[test]
    fn errors_name_file_and_key() {
        let error =
            Scenario::parse("name = \"x\"\nsummary = \"y\"\nfaults = []\n", "x.toml").unwrap_err();
        let text = format!("{error}: {}", std::error::Error::source(&error).unwrap());
        assert!(text.contains("x.toml") && text.contains("unknown field `faults`"), "{text}");
        let error = Scenario::find("healty").unwrap_err().to_string();
        assert!(error.contains("healty") && error.contains("connector-drops"), "{error}");
    }
}
