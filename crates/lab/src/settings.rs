//! What the lab is asked to be.

use serde::{Deserialize, Serialize};
use shakedown_core::environment::TimeScale;
use shakedown_core::{Rate, Span};

/// Names and sizes of the lab, in the time of the staging it stands for (unscaled).
///
/// Every field has a default; an unknown key is an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabSettings {
    /// First part of the instance's connection name.
    pub project: String,
    /// Second part of the instance's connection name.
    pub region: String,
    /// Third part of the instance's connection name.
    pub instance: String,
    /// The database.
    pub database: DatabaseSettings,
    /// The emulated Serverless VPC Access connector.
    pub connector: ConnectorSettings,
    /// How long the emulated Auth Proxy tries to reach the database before it closes its client.
    /// Default `"10s"`, as in the observed log line `failed: timed out after 10s`. A limit: never
    /// scaled below one second.
    pub proxy_dial_timeout: Span,
}

impl Default for LabSettings {
    fn default() -> Self {
        Self {
            project: "shakedown-lab".into(),
            region: "us-central1".into(),
            instance: "lab-db".into(),
            database: DatabaseSettings::default(),
            connector: ConnectorSettings::default(),
            proxy_dial_timeout: Span::secs(10),
        }
    }
}

impl LabSettings {
    /// `PROJECT:REGION:INSTANCE`, the name of the socket's directory.
    #[must_use]
    pub fn connection_name(&self) -> String {
        format!("{}:{}:{}", self.project, self.region, self.instance)
    }

    /// The settings in lab time: durations divided, rates multiplied, counts and sizes as they were.
    #[must_use]
    pub fn scaled(&self, scale: TimeScale) -> Self {
        let mut scaled = self.clone();
        let connector = &mut scaled.connector;
        connector.throughput_min_mbps = scaled_mbps(scale, connector.throughput_min_mbps);
        connector.throughput_max_mbps = scaled_mbps(scale, connector.throughput_max_mbps);
        connector.connection_rate = scale.rate(connector.connection_rate);
        connector.scaling_delay_min.0 = scale.duration(connector.scaling_delay_min.0);
        connector.scaling_delay_max.0 = scale.duration(connector.scaling_delay_max.0);
        connector.cooldown.0 = scale.duration(connector.cooldown.0);
        scaled.proxy_dial_timeout.0 = scale.limit(scaled.proxy_dial_timeout.0);
        scaled
    }

    /// Everything that contradicts itself, one sentence each; empty when all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (key, value) in
            [("project", &self.project), ("region", &self.region), ("instance", &self.instance)]
        {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
            if value.is_empty() || !value.chars().all(plain) || value.starts_with('.') {
                problems
                    .push(format!("{key} {value:?} must be letters, digits, '-', '_', '.' or ':'"));
            }
        }
        for (key, value) in
            [("database.name", &self.database.name), ("database.user", &self.database.user)]
        {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if value.is_empty() || value.len() > 63 || !value.chars().all(plain) {
                problems
                    .push(format!("{key} {value:?} must be 1 to 63 letters, digits, '-' or '_'"));
            }
        }
        if self.database.max_connections < 5 {
            problems.push("database.max_connections must be at least 5: three are reserved, one is the sampler's".into());
        }
        self.connector.problems(&mut problems);
        problems
    }
}

/// Throughput in lab time: a rate, in fractions that [`Rate`] does not have.
pub(crate) fn scaled_mbps(scale: TimeScale, mbps: f64) -> f64 {
    mbps * f64::from(u32::from(scale))
}

/// The lab's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseSettings {
    /// Database name, default `"staging"`.
    pub name: String,
    /// The application's role, default `"app"`: CONNECT, pg_monitor and SELECT.
    pub user: String,
    /// `max_connections` of the server, default 50 (of which 3 are reserved for superusers).
    pub max_connections: u32,
    /// Whether the application's role may also write, default no.
    pub role_can_write: bool,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            name: "staging".into(),
            user: "app".into(),
            max_connections: 50,
            role_can_write: false,
        }
    }
}

/// The emulated connector. Keys and defaults are those of the strategy's connector section.
///
/// The strategy's 250 connections per instance, 600 connections a minute, 30 to 60 s scaling delay
/// and 180 s cool-down are documented nowhere: they parametrise the emulation and prove nothing
/// about a real connector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConnectorSettings {
    /// Throughput with `instances_min` instances, megabits per second, both directions together. 200.
    pub throughput_min_mbps: f64,
    /// Throughput with `instances_max` instances. 1000.
    pub throughput_max_mbps: f64,
    /// Instances at the start. 2.
    pub instances_min: u32,
    /// Instances after all scale-outs. 10.
    pub instances_max: u32,
    /// Connections each instance carries. 250.
    pub connections_per_instance: u32,
    /// New connections the connector takes, in all. `"600/min"`, in bursts of one second's worth.
    pub connection_rate: Rate,
    /// Shortest time from lasting pressure to one more instance. `"30s"`.
    pub scaling_delay_min: Span,
    /// Longest time from lasting pressure to one more instance. `"60s"`.
    pub scaling_delay_max: Span,
    /// Quiet time before one instance is taken away. `"180s"`; only with `scale_in`.
    pub cooldown: Span,
    /// Whether instances are taken away again. Default no: real connectors do not scale in.
    pub scale_in: bool,
}

impl Default for ConnectorSettings {
    fn default() -> Self {
        Self {
            throughput_min_mbps: 200.0,
            throughput_max_mbps: 1000.0,
            instances_min: 2,
            instances_max: 10,
            connections_per_instance: 250,
            connection_rate: Rate::per_minute(600),
            scaling_delay_min: Span::secs(30),
            scaling_delay_max: Span::secs(60),
            cooldown: Span::secs(180),
            scale_in: false,
        }
    }
}

impl ConnectorSettings {
    fn problems(&self, problems: &mut Vec<String>) {
        if self.instances_min == 0 || self.instances_min > self.instances_max {
            problems.push(format!(
                "connector.instances_min ({}) must be at least 1 and at most instances_max ({})",
                self.instances_min, self.instances_max
            ));
        }
        if self.connections_per_instance == 0 {
            problems.push("connector.connections_per_instance must be at least 1".into());
        }
        let throughput = self.throughput_min_mbps > 0.0
            && self.throughput_max_mbps >= self.throughput_min_mbps
            && self.throughput_max_mbps.is_finite();
        if !throughput {
            problems.push(
                "connector.throughput_min_mbps must be above 0 and at most throughput_max_mbps"
                    .into(),
            );
        }
        if self.connection_rate.count == 0 || self.connection_rate.per.is_zero() {
            problems.push("connector.connection_rate must be above 0".into());
        }
        if self.scaling_delay_min > self.scaling_delay_max {
            problems.push("connector.scaling_delay_min must be at most scaling_delay_max".into());
        }
    }

    /// Throughput with this many instances, megabits per second: a straight line from
    /// (`instances_min`, `throughput_min_mbps`) to (`instances_max`, `throughput_max_mbps`).
    #[must_use]
    pub fn throughput_mbps(&self, instances: u32) -> f64 {
        let steps = self.instances_max.saturating_sub(self.instances_min);
        if steps == 0 {
            return self.throughput_max_mbps;
        }
        let share = f64::from(instances.saturating_sub(self.instances_min)) / f64::from(steps);
        self.throughput_min_mbps + share * (self.throughput_max_mbps - self.throughput_min_mbps)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn defaults_are_consistent_at_every_scale() {
        for factor in 1..=20 {
            let scaled = LabSettings::default().scaled(TimeScale::new(factor).unwrap());
            assert_eq!(scaled.problems(), Vec::<String>::new());
            assert!(scaled.proxy_dial_timeout.0 >= Duration::from_secs(1));
            assert_eq!(scaled.connector.connections_per_instance, 250);
        }
    }

    #[test]
    fn throughput_is_a_line() {
        let connector = ConnectorSettings::default();
        assert_eq!(connector.throughput_mbps(2), 200.0);
        assert_eq!(connector.throughput_mbps(3), 300.0);
        assert_eq!(connector.throughput_mbps(10), 1000.0);
    }

    #[test]
    fn problems_name_the_key() {
        let mut settings = LabSettings { instance: "../x".into(), ..LabSettings::default() };
        settings.connector.instances_min = 11;
        settings.connector.connection_rate.count = 0;
        settings.database.max_connections = 4;
        let problems = settings.problems().join("\n");
        for key in [
            "instance",
            "connector.instances_min",
            "connector.connection_rate",
            "database.max_connections",
        ] {
            assert!(problems.contains(key), "{key} missing in {problems}");
        }
    }

    #[test]
    fn unknown_key_is_refused() {
        let error = toml::from_str::<LabSettings>("[connector]\ninstances = 3").unwrap_err();
        assert!(error.message().contains("unknown field `instances`"), "{error}");
    }
}
