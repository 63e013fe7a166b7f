//! The table `[startup]`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use shakedown_core::SectionSpec;
use shakedown_core::startup::{StartupConfig, StartupLimit};

/// How the application's start-up shows in its log.
///
/// The defaults are those of the application the strategy is about, in all five generations of its
/// markers. Another application states its own table; what that leaves out is empty, not inherited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "register", derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Startup(pub StartupConfig);

impl SectionSpec for Startup {
    const NAME: &'static str = "startup";
    const SUMMARY: &'static str =
        "start-up phases, the log lines that mark them, and the limits inside them";
}

#[cfg(feature = "register")]
shakedown_core::register_section!(Startup);

/// Limits by the initialization limit that the same version claims in its messages: name, length,
/// claimed. Read in the application's history; later versions changed several limits at a time.
const LIMITS: &[(&str, f64, f64)] = &[
    ("table_setup", 5.0, 8.0),
    ("connection", 3.0, 8.0),
    ("table_setup", 10.0, 20.0),
    ("connection", 15.0, 20.0),
    ("table_setup", 10.0, 25.0),
    ("connection", 15.0, 25.0),
    ("table_setup", 10.0, 35.0),
    ("connection", 15.0, 35.0),
    ("table_setup", 30.0, 60.0),
    ("connection", 45.0, 60.0),
    ("table_setup", 25.0, 75.0),
    ("connection", 35.0, 75.0),
    ("table_setup", 30.0, 90.0),
    ("table_setup", 35.0, 90.0),
    ("connection", 45.0, 90.0),
    ("table_setup", 25.0, 95.0),
    ("table_setup", 35.0, 95.0),
    ("connection", 45.0, 95.0),
    ("table_setup", 15.0, 30.0),
    ("connection", 20.0, 30.0),
];

impl Default for Startup {
    fn default() -> Self {
        let all = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Self(StartupConfig {
            phases: all(&[
                "INIT",
                "DEPENDENCIES",
                "DATABASE",
                "CACHE",
                "SERVICES",
                "WEBSOCKET",
                "FINALIZE",
            ]),
            database_phase: "DATABASE".to_owned(),
            begun: all(&["DETERMINISTIC STARTUP SEQUENCE INITIATED"]),
            phase_started: all(&[
                r"PHASE TRANSITION\s+(?:->|→|\[U\+2192\]|\?)\s+(?P<phase>[A-Z]+)",
                r"PHASE [1-7]: (?P<phase>[A-Z]+) - ",
            ]),
            phase_completed: all(&[
                r"PHASE COMPLETED: (?P<phase>[A-Z]+)(?: \((?P<seconds>[\d.]+)s\))?",
            ]),
            phase_failed: all(&[r"PHASE FAILED: (?P<phase>[A-Z]+) - (?P<error>.*)"]),
            completed: all(&[
                r"DETERMINISTIC STARTUP SEQUENCE COMPLETED SUCCESSFULLY",
                r"Startup completed in [\d.]+s: \d+/\d+ successful, \d+ degraded, 0 failed",
                r"System Ready \(Took",
            ]),
            failed: all(&[
                r"DETERMINISTIC STARTUP SEQUENCE FAILED",
                r"Failed at Phase: (?P<phase>[A-Z]+)",
                r"STARTUP FAILED - CRITICAL SERVICES NOT OPERATIONAL",
                r"CRITICAL STARTUP FAILURE: ",
                r"DETERMINISTIC STARTUP FAILURE: ",
                r"Startup failed in lifespan manager",
                r"Exiting with code 3 to signal startup failure",
            ]),
            claimed_timeout: all(&[
                r"timeout after (?P<seconds>[\d.]+) ?s",
                r"timed out after (?P<seconds>[\d.]+) ?s",
                r"timeout exceeded \((?P<seconds>[\d.]+)s\)",
            ]),
            limits: LIMITS
                .iter()
                .map(|(name, seconds, claimed)| StartupLimit {
                    name: (*name).to_owned(),
                    seconds: *seconds,
                    claimed: Some(*claimed),
                })
                .collect(),
            phase_causes: BTreeMap::from([(
                "DATABASE".to_owned(),
                "cloud_sql_unreachable".to_owned(),
            )]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_survive_a_round_trip_through_toml() {
        let text = toml::to_string(&Startup::default()).expect("serialises");
        assert_eq!(toml::from_str::<Startup>(&text).expect("reads back"), Startup::default());
    }

    #[test]
    fn another_application_needs_only_its_own_words() {
        let text = "phases = [\"boot\", \"db\"]\ndatabase_phase = \"db\"\nphase_started = ['entering stage (?P<phase>\\w+)']\n";
        let startup: Startup = toml::from_str(text).expect("a table");
        assert_eq!(startup.0.phases, ["boot", "db"]);
        assert!(startup.0.limits.is_empty(), "nothing of the default application is inherited");
        assert!(toml::from_str::<Startup>("phase = []").is_err(), "unknown keys are errors");
    }
}
