//! Asks whether the configured numbers can all hold at once. Good: the application's pools fit into
//! the server's connections, and no limit makes another one pointless.
//!
//! **How.** Arithmetic on the environment file alone; no network is touched and nothing is drawn.
//! `database.pool_limit` times `cloudsql.application_instances` is compared with
//! `cloudsql.max_connections` less `cloudsql.reserved_connections`; then each pair of limits that
//! can contradict each other is compared. Every number is printed with whether an operator stated
//! it (`quoted`) or somebody only assumed it (`assumed`).
//!
//! **Verdicts.** *Fail*: numbers that were all stated contradict each other. *Degraded*: they do so
//! only with assumed numbers, or they fit but one of them is assumed, so that nothing is
//! established. *Pass*: every number was stated and they fit.
//!
//! **Draws** nothing. **Configuration**: none of its own.
//!
//! **Cannot tell** what the server really allows: that is `cloudsql.connection-headroom`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shakedown_core::environment::{Database, Safety};
use shakedown_core::{
    Category, Finding, Outcome, Probe, ProbeCtx, ProbeError, ProbeMeta, ProbeSpec, Provenance,
    RunPhase, Setting, SkipReason, Span, async_trait,
};

use crate::causes;
use crate::section::{CloudSql, documented_max_connections};

/// Cloud Run's built-in connection to Cloud SQL carries so many per instance of the application.
const CLOUD_RUN_CONNECTIONS_PER_INSTANCE: u32 = 100;

/// See the module.
#[derive(Debug, Default)]
pub struct BudgetCheck;

/// `[probes."cloudsql.budget-check"]`: nothing to configure.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BudgetCheckConfig {}

impl ProbeSpec for BudgetCheck {
    type Config = BudgetCheckConfig;

    const META: ProbeMeta = ProbeMeta {
        category: Category::Unit,
        markers: &["staging", "issue_1278"],
        expected: Duration::from_millis(1),
        timeout: Duration::from_secs(5),
        aliases: &[
            "netra_backend/tests/integration/test_issue_1278_database_initialization_integration.py::TestDatabaseInitializationIntegration::test_capacity_aware_timeout_configuration",
            "netra_backend/tests/unit/test_issue_1278_smd_phase3_database_timeout_unit.py::SMDPhase3DatabaseTimeoutIssue1278Tests::test_timeout_configuration_edge_cases_unit",
        ],
        ..ProbeMeta::new(
            "cloudsql.budget-check",
            RunPhase::Database,
            "the configured pools fit the configured server, and no limit contradicts another",
        )
    };

    fn from_config(_: Self::Config) -> Self {
        Self
    }
}

#[cfg(feature = "register")]
shakedown_core::register_probe!(BudgetCheck);

#[async_trait]
impl Probe for BudgetCheck {
    fn meta(&self) -> &'static ProbeMeta {
        &Self::META
    }

    async fn run(&self, ctx: &ProbeCtx) -> Result<Outcome, ProbeError> {
        let Some(database) = &ctx.environment().database else {
            let key = "[database] is not in the environment".to_owned();
            return Ok(Outcome::skip(SkipReason::NotConfigured(key)));
        };
        Ok(assess(&ctx.section()?, database, &ctx.environment().safety))
    }
}

/// Two or more numbers that cannot hold together.
struct Conflict {
    summary: String,
    next: String,
    /// Whether one of them is only assumed.
    assumed: bool,
}

impl Conflict {
    fn new(summary: String, next: &str, assumed: bool) -> Self {
        Self { summary, next: next.to_owned(), assumed }
    }
}

fn assess(section: &CloudSql, database: &Database, safety: &Safety) -> Outcome {
    let conflicts = conflicts(section, database, safety);
    let demand =
        u64::from(database.pool_limit.value) * u64::from(section.application_instances.value);
    let usable = section.max_connections.value.saturating_sub(section.reserved_connections.value);
    let arithmetic = format!(
        "{} per instance x {} instances = {demand} connections, and {} - {} reserved = {usable} are \
         usable",
        said(&database.pool_limit),
        said(&section.application_instances),
        said(&section.max_connections),
        said(&section.reserved_connections),
    );
    let assumed = assumed_keys(section, database);

    let mut outcome = Outcome::pass();
    if demand > u64::from(usable) {
        let finding = Finding::new(format!(
            "the pools may ask for more than there is: {arithmetic}"
        ))
        .suggesting(causes::MAX_CONNECTIONS)
        .next("lower database.pool_limit or the number of instances, or raise max_connections");
        outcome = judge(outcome, finding, !assumed.is_empty());
    } else if assumed.is_empty() {
        outcome = outcome.find(Finding::new(format!("the pools fit: {arithmetic}")));
    } else {
        let summary = format!(
            "whether the pools fit cannot be established, because nobody stated {}: {arithmetic}",
            assumed.join(", ")
        );
        let next = "state them in the environment file, and read max_connections live with \
                    cloudsql.connection-headroom";
        outcome = outcome.but(Finding::new(summary).next(next));
    }
    for Conflict { summary, next, assumed } in conflicts {
        outcome = judge(outcome, Finding::new(summary).next(next), assumed);
    }
    if let Some(finding) = doubtful_default(section) {
        outcome = outcome.find(finding);
    }
    numbers(outcome, section, database, safety)
}

fn judge(outcome: Outcome, finding: Finding, assumed: bool) -> Outcome {
    if assumed { outcome.but(finding) } else { outcome.failing(finding) }
}

fn assumed_keys(section: &CloudSql, database: &Database) -> Vec<&'static str> {
    [
        ("database.pool_limit", &database.pool_limit),
        ("cloudsql.application_instances", &section.application_instances),
        ("cloudsql.max_connections", &section.max_connections),
        ("cloudsql.reserved_connections", &section.reserved_connections),
    ]
    .into_iter()
    .filter(|(_, setting)| setting.is_assumed())
    .map(|(key, _)| key)
    .collect()
}

fn said<T: std::fmt::Display>(setting: &Setting<T>) -> String {
    let Setting { value, assumed } = setting;
    if assumed.is_some() { format!("{value} (assumed)") } else { value.to_string() }
}

fn conflicts(section: &CloudSql, database: &Database, safety: &Safety) -> Vec<Conflict> {
    let mut found = Vec::new();
    let (max, reserved) = (&section.max_connections, &section.reserved_connections);
    let slots_assumed = max.is_assumed() || reserved.is_assumed();
    if reserved.value >= max.value {
        found.push(Conflict::new(
            format!("no connection is left: {} of {} are reserved", said(reserved), said(max)),
            "correct cloudsql.max_connections or cloudsql.reserved_connections",
            slots_assumed,
        ));
    } else if safety.database_connections > max.value - reserved.value {
        found.push(Conflict::new(
            format!(
                "our own budget of {} database connections is above the {} usable ones",
                safety.database_connections,
                max.value - reserved.value
            ),
            "lower safety.database_connections",
            slots_assumed,
        ));
    }
    timeouts(section, database, safety, &mut found);
    let pool = &database.pool_limit;
    if database.host.starts_with("/cloudsql/") && pool.value > CLOUD_RUN_CONNECTIONS_PER_INSTANCE {
        found.push(Conflict::new(
            format!(
                "a pool of {} never fills: Cloud Run's built-in connection carries \
                 {CLOUD_RUN_CONNECTIONS_PER_INSTANCE} per instance",
                said(pool)
            ),
            "lower database.pool_limit, or connect through a proxy of your own",
            pool.is_assumed(),
        ));
    }
    machine(section, &mut found);
    found
}

fn timeouts(section: &CloudSql, database: &Database, safety: &Safety, found: &mut Vec<Conflict>) {
    let (connect, statement) = (&database.connect_timeout, &database.statement_timeout);
    if connect.value > safety.connect_timeout {
        found.push(Conflict::new(
            format!(
                "database.connect_timeout of {} is never reached: safety.connect_timeout ends every \
                 connect of ours after {}",
                said(connect),
                safety.connect_timeout
            ),
            "lower one or raise the other",
            connect.is_assumed(),
        ));
    }
    if let Some(acquire) = section.acquire_timeout.as_ref().filter(|a| a.value <= connect.value) {
        found.push(Conflict::new(
            format!(
                "the pool gives up after {}, not after the connect's {}: a refused or slow connect \
                 shows as a pool timeout and its reason is lost",
                said(acquire),
                said(connect)
            ),
            "set the application's connect timeout below its pool's acquire timeout",
            acquire.is_assumed() || connect.is_assumed(),
        ));
    }
    let phase: Span = safety.phase_limits[usize::from(RunPhase::Database.number()) - 1];
    let limit = phase.min(safety.run_limit);
    if statement.value > limit {
        found.push(Conflict::new(
            format!(
                "one statement may run for {}, longer than a whole phase 2 of {limit}",
                said(statement)
            ),
            "lower database.statement_timeout",
            statement.is_assumed(),
        ));
    }
}

fn machine(section: &CloudSql, found: &mut Vec<Conflict>) {
    let Some(machine) = &section.machine_type else { return };
    let vcpus = machine.vcpus().zip(section.vcpus).filter(|(tells, said)| tells != said);
    let memory = machine.memory_gb().zip(section.memory_gb);
    let memory = memory.filter(|(tells, said)| (tells - said).abs() > 0.05);
    let differs =
        vcpus.map(|(tells, said)| format!("{tells} vCPUs, cloudsql.vcpus says {said}")).or_else(
            || memory.map(|(tells, said)| format!("{tells} GB, cloudsql.memory_gb says {said}")),
        );
    if let Some(differs) = differs {
        found.push(Conflict::new(
            format!("the machine type {machine} has {differs}"),
            "correct the one that is wrong; the machine type is what Google shows",
            false,
        ));
    }
}

/// An assumed maximum beside the documented default for the instance's memory.
fn doubtful_default(section: &CloudSql) -> Option<Finding> {
    let memory_gb = section.memory()?;
    let documented = documented_max_connections(memory_gb)?;
    let max = &section.max_connections;
    (max.is_assumed() && max.value != documented).then(|| {
        Finding::new(format!(
            "the documented default of max_connections for {memory_gb} GB is {documented}, not {}",
            max.value
        ))
        .next("run cloudsql.connection-headroom, which reads it live")
    })
}

fn numbers(outcome: Outcome, section: &CloudSql, database: &Database, safety: &Safety) -> Outcome {
    let counts = [
        ("pool_limit", &database.pool_limit),
        ("application_instances", &section.application_instances),
        ("max_connections", &section.max_connections),
        ("reserved_connections", &section.reserved_connections),
    ];
    let spans = [
        ("connect_timeout", Some(&database.connect_timeout)),
        ("acquire_timeout", section.acquire_timeout.as_ref()),
        ("statement_timeout", Some(&database.statement_timeout)),
    ];
    let outcome = counts.into_iter().fold(outcome, |outcome, (name, count)| {
        let unit = if name == "application_instances" { "1" } else { "connections" };
        outcome.number(name, f64::from(count.value), unit, provenance(count), None)
    });
    let outcome = spans.into_iter().fold(outcome, |outcome, (name, span)| match span {
        None => outcome,
        Some(span) => {
            let seconds = span.value.get().as_secs_f64();
            outcome.number(name, seconds, "s", provenance(span), None)
        }
    });
    let budget = f64::from(safety.database_connections);
    outcome.number("own_budget", budget, "connections", Provenance::Quoted, None)
}

/// What an operator stated is his word; nobody measured either.
fn provenance<T>(setting: &Setting<T>) -> Provenance {
    if setting.is_assumed() { Provenance::Assumed } else { Provenance::Quoted }
}

#[cfg(test)]
mod tests {
    use shakedown_core::{Environment, Verdict};

    use super::*;

    fn stated() -> (CloudSql, Database, Safety) {
        let section = CloudSql {
            max_connections: Setting::stated(100),
            reserved_connections: Setting::stated(3),
            application_instances: Setting::stated(3),
            ..CloudSql::default()
        };
        let database = Database {
            host: "db.example".into(),
            connect_timeout: Setting::stated(Span::secs(10)),
            statement_timeout: Setting::stated(Span::secs(60)),
            pool_limit: Setting::stated(25),
            ..Database::default()
        };
        (section, database, Safety::default())
    }

    #[track_caller]
    fn check(
        change: impl FnOnce(&mut CloudSql, &mut Database, &mut Safety),
        verdict: Verdict,
        says: &str,
    ) {
        let (mut section, mut database, mut safety) = stated();
        change(&mut section, &mut database, &mut safety);
        let outcome = assess(&section, &database, &safety);
        let text: Vec<_> = outcome.findings.iter().map(|f| f.summary.as_str()).collect();
        assert_eq!(outcome.verdict, verdict, "{text:?}");
        assert!(text.iter().any(|summary| summary.contains(says)), "{text:?}");
    }

    #[test]
    fn stated_numbers_that_fit_pass() {
        check(|_, _, _| {}, Verdict::Pass, "25 per instance x 3 instances = 75 connections");
        check(
            |s, _, _| s.acquire_timeout = Some(Setting::stated(Span::secs(11))),
            Verdict::Pass,
            "fit",
        );
    }

    #[test]
    fn assumed_numbers_never_fail_and_never_pass() {
        let guess = |n| Setting::assumed(n, "a guess");
        check(|s, _, _| s.max_connections = guess(10), Verdict::Degraded, "more than there is");
        check(
            |s, _, _| s.max_connections = guess(1000),
            Verdict::Degraded,
            "cannot be established",
        );
        check(
            |_, d, _| d.pool_limit = guess(1),
            Verdict::Degraded,
            "nobody stated database.pool_limit",
        );
        check(
            |s, _, _| s.application_instances = guess(9),
            Verdict::Degraded,
            "9 (assumed) instances",
        );
        let outcome = assess(&CloudSql::default(), &Database::default(), &Safety::default());
        assert_eq!(outcome.verdict, Verdict::Degraded);
    }

    #[test]
    fn stated_numbers_that_contradict_each_other_fail() {
        check(|s, _, _| s.application_instances.value = 4, Verdict::Fail, "100 connections");
        check(|s, _, _| s.reserved_connections.value = 100, Verdict::Fail, "no connection is left");
        let safe = |s: &mut CloudSql, d: &mut Database, _: &mut Safety| {
            (s.max_connections.value, d.pool_limit.value) = (7, 1);
        };
        check(safe, Verdict::Fail, "our own budget of 5");
        let connect = |_: &mut CloudSql, d: &mut Database, _: &mut Safety| {
            d.connect_timeout.value = Span::secs(31);
        };
        check(connect, Verdict::Fail, "never reached");
        let statement = |_: &mut CloudSql, d: &mut Database, _: &mut Safety| {
            d.statement_timeout.value = Span::secs(21 * 60);
        };
        check(statement, Verdict::Fail, "longer than a whole phase 2 of 20min");
        let acquire = |s: &mut CloudSql, _: &mut Database, _: &mut Safety| {
            s.acquire_timeout = Some(Setting::stated(Span::secs(10)));
        };
        check(acquire, Verdict::Fail, "its reason is lost");
        let socket = |s: &mut CloudSql, d: &mut Database, _: &mut Safety| {
            d.host = "/cloudsql/p:r:i".into();
            (d.pool_limit.value, s.max_connections.value) = (101, 1000);
        };
        check(socket, Verdict::Fail, "never fills");
        let machine = |s: &mut CloudSql, _: &mut Database, _: &mut Safety| {
            s.machine_type = Some("db-custom-2-7680".parse().expect("valid"));
            s.memory_gb = Some(8.0);
        };
        check(machine, Verdict::Fail, "has 7.5 GB, cloudsql.memory_gb says 8");
    }

    #[test]
    fn the_strategys_162_is_set_beside_the_documented_400() {
        let machine = |s: &mut CloudSql, _: &mut Database, _: &mut Safety| {
            s.machine_type = Some("db-custom-2-7680".parse().expect("valid"));
            s.max_connections = CloudSql::default().max_connections;
        };
        check(machine, Verdict::Degraded, "for 7.5 GB is 400, not 162");
    }

    #[test]
    fn every_number_says_whether_it_is_assumed() {
        let (mut section, database, safety) = stated();
        section.max_connections = CloudSql::default().max_connections;
        let outcome = assess(&section, &database, &safety);
        let of = |name: &str| outcome.measurements.iter().find(|m| m.name == name).expect("there");
        assert_eq!(of("max_connections").provenance, Provenance::Assumed);
        assert_eq!(of("pool_limit").provenance, Provenance::Quoted);
        assert!(outcome.measurements.iter().all(|m| m.provenance != Provenance::Measured));
    }

    #[tokio::test]
    async fn without_a_database_there_is_nothing_to_check() {
        let ctx = ProbeCtx::builder(Environment::default()).build();
        let outcome = BudgetCheck.run(&ctx).await.expect("no error");
        assert!(matches!(outcome.verdict, Verdict::Skip { .. }), "{outcome:?}");
    }
}
