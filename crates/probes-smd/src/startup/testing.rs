//! Start-ups for the tests of probes, from lines.

use shakedown_core::clock::Timestamp;

use super::entry::Entry;
use super::timeline::{Collector, Origin};
use super::{Left, Observed, ProcessRun, Record, Watched};
use crate::section::Startup;

/// A start-up that completes: milliseconds, instance, line.
pub(crate) const HEALTHY: &[(i64, &str, &str)] = &[
    (0, "a", "DETERMINISTIC STARTUP SEQUENCE INITIATED"),
    (0, "a", "PHASE TRANSITION -> INIT"),
    (100, "a", "PHASE COMPLETED: INIT (0.100s)"),
    (100, "a", "PHASE TRANSITION -> DEPENDENCIES"),
    (200, "a", "PHASE COMPLETED: DEPENDENCIES (0.100s)"),
    (200, "a", "PHASE TRANSITION -> DATABASE"),
    (700, "a", "PHASE COMPLETED: DATABASE (0.500s)"),
    (700, "a", "PHASE TRANSITION -> CACHE"),
    (800, "a", "PHASE COMPLETED: CACHE (0.100s)"),
    (800, "a", "PHASE TRANSITION -> SERVICES"),
    (900, "a", "PHASE COMPLETED: SERVICES (0.100s)"),
    (900, "a", "PHASE TRANSITION -> WEBSOCKET"),
    (950, "a", "PHASE COMPLETED: WEBSOCKET (0.050s)"),
    (950, "a", "PHASE TRANSITION -> FINALIZE"),
    (990, "a", "DETERMINISTIC STARTUP SEQUENCE COMPLETED SUCCESSFULLY"),
    (991, "a", "Application startup complete."),
];

/// 05:20:00 UTC of some day, and so many milliseconds.
pub(crate) fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_758_000_000_000 + ms).expect("in range")
}

/// What log files with these lines show.
#[track_caller]
pub(crate) fn observed(application: &str, lines: &[(i64, &str, &str)]) -> Observed {
    let application = toml::from_str(application).expect("a table");
    let mut collector =
        Collector::new(Startup::default(), &application, 1.0).expect("its patterns");
    for (ms, instance, line) in lines {
        let mut entry = Entry::read(line).expect("a line");
        entry.at = Some(at(*ms));
        entry.instance = (*instance).to_owned();
        collector.take(Origin::Logs, &entry);
    }
    let record = Record { collector, polls: Vec::new(), process: None, notes: Vec::new() };
    record.observed()
}

/// A process of ours that started well and left nothing.
pub(crate) fn process() -> ProcessRun {
    ProcessRun {
        instance: "started-1".into(),
        watched: Watched::Started,
        exit_code: Some(0),
        signal: None,
        healthy_after_s: Some(0.5),
        took_s: 1.0,
        gone_after_s: Some(0.1),
        polls: Vec::new(),
        peak: None,
        relay: None,
        leases: 0,
        left: Left::default(),
    }
}
