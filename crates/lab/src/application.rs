//! The application of the lab's staging, as its operators see it: the environment of its revisions,
//! and what a tester is told about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use shakedown_core::Span;
use shakedown_core::environment::TimeScale;

use crate::cloudrun::revision::Deploy;
use crate::fault::{Fault, FaultKind};
use crate::settings::LabSettings;

/// Names of the services, on Cloud Run and behind the load balancer.
pub(crate) const BACKEND: &str = "backend";
pub(crate) const AUTH: &str = "auth";
/// The connections its pool opens: the strategy's pool per instance.
const POOL: u32 = 25;
/// The same in a copy that a tester starts: it takes them out of the run's budget.
const POOL_OF_A_COPY: u32 = 3;
/// Time between two pings of a WebSocket, as the observed application has it.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The auth service's limit for its database, as the observed one logs it.
const VALIDATION: Duration = Duration::from_secs(15);
/// How long an agent takes to answer.
const THINKING: Duration = Duration::from_secs(5);

/// Limits by the variable's and the configuration's name, in seconds: those in force in the observed
/// staging when its 75 s limit fired.
const LIMITS: [(&str, &str, u64); 7] = [
    ("LAB_LIMIT_TABLE_SETUP", "table_setup", 25),
    ("LAB_LIMIT_CONNECTION", "connection", 35),
    ("LAB_LIMIT_POOL", "pool", 45),
    ("LAB_LIMIT_INITIALIZATION", "initialization", 75),
    ("LAB_LIMIT_HEALTH_CHECK", "health_check", 20),
    ("LAB_LIMIT_CACHE", "cache", 5),
    ("LAB_LIMIT_READINESS", "readiness", 2),
];

/// Limits that no scenario is about, and below which they are never scaled.
const CHECKS: [&str; 3] = ["LAB_LIMIT_HEALTH_CHECK", "LAB_LIMIT_CACHE", "LAB_LIMIT_READINESS"];
const CHECK_FLOOR: Duration = Duration::from_secs(4);

type Variables = BTreeMap<String, String>;

fn set(pairs: impl IntoIterator<Item = (&'static str, String)>) -> Variables {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What every revision has, whoever runs it, in the time of `scale`.
fn common(cache: SocketAddr, scale: TimeScale) -> Variables {
    let limits = LIMITS.iter().map(|&(variable, _, seconds)| {
        let limit = Duration::from_secs(seconds);
        // A machine that is busy with its labs is not slower by the time scale.
        let floor =
            if CHECKS.contains(&variable) { limit.min(CHECK_FLOOR) } else { Duration::ZERO };
        (variable, Span(scale.limit(limit).max(floor)).to_string())
    });
    let mut variables = set(limits);
    variables.extend(set([
        ("ENVIRONMENT", "staging".to_owned()),
        ("POSTGRES_PORT", "5432".to_owned()),
        ("REDIS_HOST", cache.ip().to_string()),
        ("REDIS_PORT", cache.port().to_string()),
        ("LAB_HEARTBEAT", Span(scale.duration(HEARTBEAT)).to_string()),
        ("LAB_THINKING", Span(scale.duration(THINKING)).to_string()),
    ]));
    variables
}

/// The environment of a revision without faults.
pub(crate) fn variables(
    settings: &LabSettings,
    socket: &Path,
    cache: SocketAddr,
    scale: TimeScale,
    password: &SecretString,
    jwt: &SecretString,
) -> Variables {
    let folder = socket.parent().unwrap_or(socket);
    let mut variables = common(cache, scale);
    variables.extend(set([
        ("POSTGRES_HOST", folder.display().to_string()),
        ("POSTGRES_DB", settings.database.name.clone()),
        ("POSTGRES_USER", settings.database.user.clone()),
        ("POSTGRES_PASSWORD", password.expose_secret().to_owned()),
        ("LAB_JWT_SECRET", jwt.expose_secret().to_owned()),
        ("LAB_POOL_SIZE", POOL.to_string()),
    ]));
    variables
}

/// The environment of the auth service's revisions, out of the backend's.
pub(crate) fn auth_variables(backend: &Variables, scale: TimeScale) -> Variables {
    let mut variables = backend.clone();
    variables.retain(|name, _| name.starts_with("POSTGRES_") || name == "ENVIRONMENT");
    variables.extend(set([
        ("LAB_APP", AUTH.to_owned()),
        ("LAB_SERVER", "uvicorn".to_owned()),
        ("LAB_POOL_SIZE", "1".to_owned()),
        ("LAB_LIMIT_VALIDATION", Span(scale.limit(VALIDATION)).to_string()),
    ]));
    variables
}

/// What the faults of the beginning have deployed of a service.
pub(crate) fn deployed_at_first(faults: &[Fault], of: &str) -> Deploy {
    let mut deployed = Deploy::default();
    for fault in faults.iter().filter(|fault| fault.at.0.is_zero()) {
        if let FaultKind::Deploy { service, variables, all_traffic } = &fault.kind
            && service == of
        {
            deployed.variables.extend(variables.clone());
            deployed.all_traffic = all_traffic.then_some(true).or(deployed.all_traffic);
        }
    }
    deployed
}

/// `[application]`, in the time of the staging: whoever reads it scales it.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    service: &'static str,
    health_paths: [&'static str; 1],
    logs: [PathBuf; 1],
    command: Vec<String>,
    environment: Variables,
    draws: u32,
    limits: BTreeMap<&'static str, String>,
}

/// What a tester is told. `faults` unscaled.
pub(crate) fn table(
    log: PathBuf,
    exe: &Path,
    args: &[std::ffi::OsString],
    cache: SocketAddr,
    faults: &[Fault],
) -> Table {
    let mut environment = common(cache, TimeScale::default());
    let placeholders = [
        ("PORT", "{port}"),
        ("POSTGRES_HOST", "{socket_dir}"),
        ("POSTGRES_DB", "{database}"),
        ("POSTGRES_USER", "{user}"),
        ("POSTGRES_PASSWORD", "{password}"),
    ];
    environment.extend(set(placeholders.map(|(name, value)| (name, value.to_owned()))));
    environment.insert("LAB_POOL_SIZE".into(), POOL_OF_A_COPY.to_string());
    for (name, value) in deployed_at_first(faults, BACKEND).variables {
        environment.insert(name, value.replace('{', "{{").replace('}', "}}"));
    }
    let limits = LIMITS
        .iter()
        .take(5)
        .filter_map(|&(variable, name, _)| Some((name, environment.get(variable)?.clone())));
    let limits = limits.collect();
    let mut command = vec![exe.display().to_string()];
    command.extend(args.iter().map(|arg| arg.to_string_lossy().into_owned()));
    Table {
        service: BACKEND,
        health_paths: ["/health"],
        logs: [log],
        command,
        environment,
        draws: POOL_OF_A_COPY,
        limits,
    }
}

/// `[startup]`: how the application's log reads, and its limits in the lab's time. Numbers of
/// seconds are not scaled by whoever reads the table.
pub(crate) fn startup(variables: &Variables) -> toml::Table {
    let mut table: toml::Table = MARKERS.parse().expect("a constant");
    let limits = LIMITS.iter().take(5).filter_map(|&(variable, name, _)| {
        let span: Span = variables.get(variable)?.parse().ok()?;
        let mut limit = toml::Table::new();
        limit.insert("name".into(), name.into());
        limit.insert("seconds".into(), span.0.as_secs_f64().into());
        Some(toml::Value::Table(limit))
    });
    table.insert("limits".into(), toml::Value::Array(limits.collect()));
    table
}

const MARKERS: &str = r#"
phases = ["INIT", "DEPENDENCIES", "DATABASE", "CACHE", "SERVICES", "WEBSOCKET", "FINALIZE"]
database_phase = "DATABASE"
begun = ["DETERMINISTIC STARTUP SEQUENCE INITIATED"]
phase_started = ['PHASE TRANSITION\s+->\s+(?P<phase>[A-Z]+)']
phase_completed = ['PHASE COMPLETED: (?P<phase>[A-Z]+)(?: \((?P<seconds>[\d.]+)s\))?']
phase_failed = ['PHASE FAILED: (?P<phase>[A-Z]+) - (?P<error>.*)']
completed = ["DETERMINISTIC STARTUP SEQUENCE COMPLETED SUCCESSFULLY"]
failed = [
    "DETERMINISTIC STARTUP SEQUENCE FAILED",
    'Failed at Phase: (?P<phase>[A-Z]+)',
    "CRITICAL STARTUP FAILURE: ",
    "Startup failed in lifespan manager",
]
claimed_timeout = ['timeout after (?P<seconds>[\d.]+) ?s']
phase_causes = { DATABASE = "cloud_sql_unreachable" }
"#;

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Fault {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_tester_is_told_placeholders_and_what_is_deployed() {
        let faults = [
            fault("kind = \"deploy\"\nvariables = { LAB_DEFECT = \"import\", X = \"{\" }"),
            fault("kind = \"deploy\"\nat = \"5s\"\nvariables = { LATER = \"1\" }"),
        ];
        let cache = "127.0.0.1:6379".parse().unwrap();
        let args = ["lab-backend".into()];
        let table = table("/l/backend.jsonl".into(), Path::new("/exe"), &args, cache, &faults);
        assert_eq!(table.environment["POSTGRES_PASSWORD"], "{password}");
        assert_eq!(table.environment["LAB_DEFECT"], "import");
        assert_eq!(table.environment["X"], "{{");
        assert!(!table.environment.contains_key("LATER"));
        assert!(!table.environment.contains_key("LAB_JWT_SECRET"), "no secret in a file to read");
        assert_eq!(table.limits["initialization"], "75s");
        assert_eq!(table.command, ["/exe", "lab-backend"]);
    }

    #[test]
    fn limits_are_those_of_the_revision() {
        let scale = TimeScale::new(10).unwrap();
        let mut variables = common("127.0.0.1:6379".parse().unwrap(), scale);
        variables.insert("LAB_LIMIT_TABLE_SETUP".into(), "1s".into());
        let table = startup(&variables);
        assert_eq!(table["limits"][0]["name"].as_str(), Some("table_setup"));
        assert_eq!(table["limits"][0]["seconds"].as_float(), Some(1.0));
        assert_eq!(table["limits"][3]["seconds"].as_float(), Some(7.5));
    }
}
