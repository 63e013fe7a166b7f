//! One rich record by hand, with a secret and hostile bytes in quoted texts.

use shakedown_core::Redactor;
use shakedown_core::budget::{Draw, Usage};
use shakedown_core::cleanup::CleanupRecord;
use shakedown_core::clock::Timestamp;
use shakedown_core::environment::Tier;
use shakedown_core::evidence::Vantage;
use shakedown_core::fault::{Fault, Step};
use shakedown_core::id::{Cause, Metric, resource};
use shakedown_core::meta::{Category, RunPhase};
use shakedown_core::monitor::{Reading, Sample};
use shakedown_core::outcome::{Finding, Outcome, SkipReason};
use shakedown_core::record::{
    CheckRecord, Condition, GuardEvent, JournalLine, NoVerdict, Plan, PlannedGuard, PlannedPart,
    PlannedProbe, ProbeRecord, ProbeResult, RunEvent, RunRecord, StampedSample, Target,
};
use shakedown_core::safety::Check;
use shakedown_core::units::Provenance;
use shakedown_report::CleanRecord;

/// A password that must appear nowhere.
pub(crate) const CANARY: &str = "c4n4ry(p@ss)/w0rd";

/// What a server might answer to take over a terminal, a page or a build log.
pub(crate) const HOSTILE: &str = "<script>alert(1)</script> \u{1b}[2J\u{1b}]0;owned\u{7} [click](http://evil.example) ]]> \u{202e}gpj.exe | `x`";

pub(crate) fn redactor() -> Redactor {
    Redactor::from_secrets([CANARY])
}

pub(crate) fn clean(record: &RunRecord) -> CleanRecord {
    CleanRecord::new(record.clone(), &redactor()).expect("finite numbers only")
}

pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_757_937_600_000 + ms).expect("in range")
}

fn planned(id: &str, phase: RunPhase, summary: &str) -> PlannedProbe {
    PlannedProbe {
        id: id.into(),
        summary: summary.into(),
        phase,
        category: Category::Integration,
        draws: vec![Draw::new(resource::DATABASE_CONNECTION, 1)],
        needs: vec![],
        provides: vec![],
        expected_ms: 5_000.0,
        timeout_ms: 60_000.0,
        repeat: 1,
        not_runnable: None,
    }
}

pub(crate) fn plan() -> Plan {
    use RunPhase::{Database, Impact, Network, Startup};
    let mut twice =
        planned("cloudsql.pool-limit", Database, "the pool never draws more than its limit");
    twice.repeat = 2;
    Plan {
        session_id: "issue_1278_20250915_120000".into(),
        created_at: at(-20),
        version: "0.1.0".into(),
        argv: vec!["shakedown".into(), "run".into(), "--env".into(), "staging".into()],
        target: Target {
            environment: "staging".into(),
            tier: Tier::Staging,
            project: "netra-staging".into(),
            region: "us-central1".into(),
            vantage: Vantage::Laptop,
            database: Some("`netra_staging` as `probe` at /cloudsql/a:b:c/.s.PGSQL.5432".into()),
            time_scale: 1,
            scenario: None,
        },
        probes: vec![
            planned(
                "vpc.direct-connectivity",
                Network,
                "the database answers without the application",
            ),
            planned("vpc.service-endpoints", Network, "every service answers at all of its names"),
            planned("vpc.scaling-delay", Network, "the connector scales within its delay"),
            planned(
                "cloudsql.connect-timing",
                Database,
                "connecting takes no longer than it should",
            ),
            twice,
            planned("cloudsql.session-safety", Database, "nothing of ours is left behind"),
            planned("smd.sequence", Startup, "the start-up completes"),
            planned("goldenpath.answer", Impact, "a user gets an answer"),
            planned("goldenpath.availability", Impact, "the golden path is there"),
        ],
        monitors: vec![PlannedPart {
            id: "cloudsql.instance".into(),
            summary: "connections, waits and locks".into(),
            draws: vec![Draw::new(resource::DATABASE_CONNECTION, 1)],
        }],
        safety_checks: vec![PlannedPart {
            id: "cloudsql.safety".into(),
            summary: "the right database, with room for us".into(),
            draws: vec![Draw::new(resource::DATABASE_CONNECTION, 1)],
        }],
        guards: vec![
            PlannedGuard {
                metric: "cloudsql.query_latency".into(),
                rule: "above 2 times the baseline and above 50".into(),
                not_armed: None,
            },
            PlannedGuard {
                metric: "cloudsql.resource_utilization".into(),
                rule: "above 0.8 for 5min".into(),
                not_armed: Some("no monitor of this binary measures it".into()),
            },
        ],
        budget: usage(),
        run_limit_ms: 5_400_000.0,
        phase_limits_ms: [600_000.0, 1_200_000.0, 3_600_000.0, 2_700_000.0],
        expected_ms: 42_000.0,
        worst_ms: 700_000.0,
        notes: vec!["`--no-docker` has no meaning here: nothing here uses Docker".into()],
    }
}

fn usage() -> Vec<Usage> {
    let usage = |resource, peak, ceiling| Usage { resource, in_use: 0, peak, ceiling };
    vec![usage(resource::DATABASE_CONNECTION, 4, 5), usage(resource::WEBSOCKET, 0, 10)]
}

fn step(rung: &str, ms: f64, end: Result<&str, Fault>) -> Step {
    let (detail, fault) = match end {
        Ok(detail) => (Some(detail.to_owned()), None),
        Err(fault) => (None, Some(fault)),
    };
    Step { rung: rung.into(), at: at(0), elapsed_ms: ms, detail, fault }
}

fn finished(id: &str, phase: RunPhase, start: i64, ms: f64, result: ProbeResult) -> ProbeRecord {
    ProbeRecord {
        id: id.into(),
        phase,
        attempt: 1,
        at: at(start),
        elapsed_ms: ms,
        result,
        observations: vec![],
        cleanup: vec![],
    }
}

fn probes() -> Vec<ProbeRecord> {
    use ProbeResult::{Blocked, Finished, NoVerdict as Without, NotRun};
    use RunPhase::{Database, Impact, Network, Startup};
    let tls =
        step("tls", 80.25, Err(Fault::Tls { reason: "expired".into(), message: HOSTILE.into() }));
    let sql = Fault::Sql {
        sqlstate: "53300".into(),
        message: format!("sorry, too many clients already; password={CANARY}\nDETAIL: {HOSTILE}"),
    };
    let startup = step("startup", 12.5, Err(sql));
    let mut second = finished(
        "cloudsql.pool-limit",
        Database,
        9_200,
        1_500.0,
        Without { how: NoVerdict::Panic, error: "panicked: index out of bounds".into() },
    );
    second.attempt = 2;
    let mut session = finished(
        "cloudsql.session-safety",
        Database,
        10_800,
        60_004.2,
        Without {
            how: NoVerdict::Aborted,
            error: "no verdict within its 1min; it did not end when cancelled and was aborted"
                .into(),
        },
    );
    session.cleanup = vec![CleanupRecord {
        what: "end session 4711".into(),
        failed: Some("not done within 5s".into()),
    }];
    vec![
        finished(
            "vpc.direct-connectivity",
            Network,
            120,
            312.5,
            Finished(
                Outcome::pass()
                    .against("connect_p95", 12.345, "ms", 10.0)
                    .number("max_connections", 162.0, "connections", Provenance::Assumed, None)
                    .steps([
                        step("connect", 3.2, Ok("10.1.2.3:5432")),
                        step("auth", 140.0, Ok("scram-sha-256")),
                    ]),
            ),
        ),
        finished(
            "vpc.service-endpoints",
            Network,
            440,
            2_100.0,
            Finished(
                Outcome::degraded(
                    Finding::at(&tls, "backend alias old.example").next("renew its certificate"),
                )
                .steps([tls]),
            ),
        ),
        finished(
            "vpc.scaling-delay",
            Network,
            2_550,
            4_000.0,
            Finished(Outcome::skip(SkipReason::NotExercised("no scaling step was seen".into()))),
        ),
        finished(
            "cloudsql.connect-timing",
            Database,
            7_000,
            612.0,
            Finished(
                Outcome::fail(
                    Finding::at(&startup, "the server refused 3 of 5 connections")
                        .suggesting(Cause::new("cloud_sql_max_connections"))
                        .next("see who holds the slots: cloudsql.connection-headroom"),
                )
                .find(Finding::new("two connections took longer than 5 s"))
                .measure("refused", 3.0, "connections")
                .steps([startup]),
            ),
        ),
        finished(
            "cloudsql.pool-limit",
            Database,
            7_700,
            1_402.0,
            Finished(Outcome::pass().measure("ratio", 0.987_654, "1")),
        ),
        second,
        session,
        finished(
            "smd.sequence",
            Startup,
            71_000,
            0.0,
            NotRun { why: "it draws 4 of `database-connection`, the budget leaves 1".into() },
        ),
        finished(
            "goldenpath.answer",
            Impact,
            71_010,
            0.0,
            Blocked { by: "goldenpath.login".into(), need: "login-token".into() },
        ),
        finished("goldenpath.availability", Impact, 71_020, 900.0, Finished(Outcome::pass())),
    ]
}

fn sample(ms: i64, metric: &'static str, value: Reading, unit: &str) -> Sample {
    Sample {
        metric: Metric::new(metric),
        labels: vec![],
        unit: unit.into(),
        value,
        taken_at: at(ms),
        visible_at: at(ms),
        provenance: Provenance::Measured,
    }
}

fn samples() -> Vec<StampedSample> {
    let stamped = |phase: Option<RunPhase>, sample| StampedSample {
        monitor: "cloudsql.instance".into(),
        phase,
        probe: phase.map(|_| "cloudsql.pool-limit".into()),
        sample,
    };
    let mut samples = Vec::new();
    for (n, phase) in
        [None, Some(RunPhase::Network), Some(RunPhase::Database), Some(RunPhase::Database)]
            .into_iter()
            .enumerate()
    {
        let n = i32::try_from(n).expect("small");
        let ms = i64::from(n) * 10_000;
        let idle = sample(
            ms,
            "cloudsql.active_connections",
            Reading::Value(f64::from(40 + n * n)),
            "connections",
        );
        samples.push(stamped(phase, idle.label("state", "idle")));
        let latency = match n {
            2 => Reading::Unavailable(format!("the query failed: {HOSTILE} password={CANARY}")),
            n => Reading::Value(0.25 * f64::from(n + 1)),
        };
        samples.push(stamped(phase, sample(ms + 2, "cloudsql.query_latency", latency, "ms")));
    }
    let mut vpc = stamped(
        Some(RunPhase::Network),
        sample(10_500, "vpc.connection_latency", Reading::Value(3.5), "ms"),
    );
    vpc.monitor = "vpc.path".into();
    samples.push(vpc);
    samples
}

/// The events of the run.
pub(crate) fn events() -> Vec<RunEvent> {
    let check = |after, checks| CheckRecord { by: "cloudsql.safety".into(), after, checks };
    let mut events = vec![
        RunEvent::RunStarted { schema: "shakedown.run/1".into(), plan: Box::new(plan()) },
        RunEvent::Gate(check(
            None,
            vec![
                Check::ok("right database", "netra_staging, PostgreSQL 15.8"),
                Check::unknown("operations under way", "no Google credentials")
                    .limiting(resource::DATABASE_CONNECTION, 1),
            ],
        )),
        RunEvent::Remark {
            text: "the guard on cloudsql.query_latency cannot act: its latest sample is 25s old"
                .into(),
        },
    ];
    let mut phase = None;
    for probe in probes() {
        if phase != Some(probe.phase) {
            events
                .extend(phase.map(|phase| RunEvent::PhaseFinished { phase, elapsed_ms: 6_500.0 }));
            phase = Some(probe.phase);
            events.push(RunEvent::PhaseStarted { phase: probe.phase });
        }
        events.push(RunEvent::ProbeStarted {
            id: probe.id.clone(),
            phase: probe.phase,
            attempt: probe.attempt,
            timeout_ms: 60_000.0,
        });
        events.push(RunEvent::ProbeProgress { id: probe.id.clone(), text: "half way".into() });
        events.push(RunEvent::ProbeFinished(Box::new(probe)));
    }
    events.push(RunEvent::Sampled { samples: samples() });
    events.push(RunEvent::MonitorFailed {
        monitor: "vpc.path".into(),
        error: format!("no sample within 35s: postgresql://probe:{CANARY}@/db"),
    });
    events.push(RunEvent::GuardNoticed(GuardEvent {
        metric: Metric::new("cloudsql.query_latency"),
        value: 180.0,
        limit: 50.0,
        baseline: Some(12.0),
        stopped: false,
        summary: "cloudsql.query_latency is 180, above 50; as the signature expects".into(),
    }));
    events.push(RunEvent::Stability(check(
        Some(RunPhase::Database),
        vec![Check::refused("sessions of ours", "2 sessions are still open: end them")],
    )));
    events.push(RunEvent::RunFinished {
        conditions: [
            Condition::Findings,
            Condition::Degraded,
            Condition::NoVerdict,
            Condition::CleanupNotProven,
        ]
        .into(),
        usage: usage(),
        elapsed_ms: 71_950.0,
    });
    events
}

pub(crate) fn lines() -> Vec<JournalLine> {
    let line = |(index, event)| JournalLine { seq: index as u64 + 1, at: at(0), event };
    events().into_iter().enumerate().map(line).collect()
}

pub(crate) fn record() -> RunRecord {
    let mut record = RunRecord::new(plan(), at(0));
    events().into_iter().for_each(|event| record.apply(event));
    record
}
