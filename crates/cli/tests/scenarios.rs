//! Every scenario of the lab that says what single probes find, played to those: the right ones fail at
//! the right rung with the right typed error, nothing hangs, and the server itself never counted more of our connections
//! than the budget allows.

mod common;

use common::{Played, play};
use serde_json::Value;
use shakedown_lab::{ExpectVerdict, Scenario};

/// The database connections a run may hold at once (`safety.database_connections`).
const BUDGET: u64 = 5;

fn check(name: &str) {
    let scenario = Scenario::find(name).expect("built in");
    let ids = scenario.expect.probes.iter().map(|probe| probe.id.as_str());
    // Only a watch over a scale-out tells a full connector from a dead way.
    let full = scenario.expect.root.as_deref() == Some("vpc_connector_capacity");
    let ids = ids.chain(full.then_some("vpc.scaling-delay"));
    let played =
        play(name, &["--output-format", "json"].into_iter().chain(ids).collect::<Vec<_>>());
    let Played { exit, run, truth, .. } = &played;
    let context = format!("{name}: {run:#}");

    for expected in &scenario.expect.probes {
        let probe = find(run, &expected.id);
        let verdict = serde_json::to_value(expected.verdict).expect("a word");
        // What did not finish has no verdict; how it ended stands in its place.
        let seen = if probe["status"] == "finished" { &probe["verdict"] } else { &probe["status"] };
        assert_eq!(*seen, verdict, "{}: {context}", expected.id);
        if let Some(error) = &expected.error {
            let rung = expected.rung.map(|rung| serde_json::to_value(rung).expect("a word"));
            let seen = faults(probe);
            let way = expected.path.map(|way| serde_json::to_value(way).expect("a word"));
            assert!(
                seen.iter().any(|seen| seen.code == *error
                    && rung.as_ref().is_none_or(|rung| *rung == seen.rung)
                    && way.as_ref().is_none_or(|way| *way == seen.way)),
                "{}: expected {error} at {rung:?} by {way:?}, saw {seen:?}: {context}",
                expected.id
            );
        }
    }

    // No probe was lost, none was aborted: nothing hung.
    for probe in run["probes"].as_array().expect("a list") {
        assert_ne!(probe["status"], "no-verdict", "{context}");
    }
    let failed = scenario.expect.probes.iter().any(|probe| probe.verdict == ExpectVerdict::Fail);
    assert_eq!(*exit, if failed { 10 } else { 0 }, "{context}");
    diagnosed(&scenario, &played);

    // What the server counted, sampled every 50 ms by the lab.
    let families = truth["postgres"]["families"].as_object().expect("a map");
    let ours = |count: &str| {
        families.get("shakedown").map_or(0, |family| family[count].as_u64().expect("a count"))
    };
    assert!(ours("max") <= BUDGET, "more connections than the budget: {truth:#}");
    assert_eq!(ours("now"), 0, "sessions of ours were left: {truth:#}");
}

/// The run names what is wrong and nothing that is not, and `analyze` says the same of its directory.
fn diagnosed(scenario: &Scenario, played: &Played) {
    let services = |diagnosis: &Value| diagnosis["services"].as_array().expect("a list").clone();
    assert_eq!(services(&played.diagnosis), services(&played.analyzed), "{}", scenario.name);
    let roots: Vec<Value> = services(&played.diagnosis)
        .iter()
        .flat_map(|service| service["roots"].as_array().expect("a list").clone())
        .collect();
    let context = format!("{}: {:#}", scenario.name, played.diagnosis);
    let names = |cause: &String| roots.iter().any(|root| root["cause"] == **cause);
    match scenario.expect.told.as_ref().or(scenario.expect.root.as_ref()) {
        Some(root) => assert!(names(root), "{root} is not named: {context}"),
        None => assert!(roots.is_empty(), "nothing is wrong: {context}"),
    }
    for decoy in &scenario.expect.decoys {
        assert!(!names(decoy), "{decoy} is blamed: {context}");
    }
}

fn find<'r>(run: &'r Value, id: &str) -> &'r Value {
    let probes = run["probes"].as_array().expect("a list");
    probes.iter().find(|probe| probe["id"] == id).unwrap_or_else(|| panic!("{id} did not run"))
}

/// A fault a probe recorded.
#[derive(Debug)]
struct Seen {
    /// `socket` or `tcp`; empty for a finding, which need not say.
    way: &'static str,
    rung: String,
    code: String,
}

/// Every fault a probe recorded. A ladder over TCP begins at `resolve`, one over a socket at `connect`.
fn faults(probe: &Value) -> Vec<Seen> {
    let seen = |way, item: &Value| {
        let fault = item.get("fault").filter(|fault| fault.is_object())?;
        let fault: shakedown_core::Fault = serde_json::from_value(fault.clone()).expect("a fault");
        let rung = item["rung"].as_str().unwrap_or_default().to_owned();
        Some(Seen { way, rung, code: fault.code() })
    };
    let mut faults = Vec::new();
    let (mut way, mut before) = ("socket", "");
    for step in probe["steps"].as_array().into_iter().flatten() {
        let rung = step["rung"].as_str().unwrap_or_default();
        match (before, rung) {
            (_, "resolve") => way = "tcp",
            ("resolve", "connect") => {}
            (_, "connect") => way = "socket",
            _ => {}
        }
        before = rung;
        faults.extend(seen(way, step));
    }
    let findings = probe["findings"].as_array().into_iter().flatten();
    faults.extend(findings.filter_map(|finding| seen("", finding)));
    faults
}

macro_rules! scenarios {
    ($($test:ident = $name:literal),+ $(,)?) => {
        $(
            #[test]
            fn $test() {
                check($name);
            }
        )+

        #[test]
        fn every_built_in_scenario_is_played() {
            let played = [$($name),+];
            // Those that say nothing about single probes are the matrix's.
            let told = |scenario: &Scenario| !scenario.expect.probes.is_empty();
            for scenario in Scenario::built_in().into_iter().filter(told) {
                assert!(played.contains(&scenario.name.as_str()), "{} is not", scenario.name);
            }
        }
    };
}

scenarios! {
    healthy = "healthy",
    connector_saturated = "connector-saturated",
    connector_egress_warmup = "connector-egress-warmup",
    connector_drops = "connector-drops",
    proxy_accepts_then_eof = "proxy-accepts-then-eof",
    cloudsql_max_connections = "cloudsql-max-connections",
    cloudsql_closed = "cloudsql-closed",
    cloudsql_silent = "cloudsql-silent",
    cloudsql_refused = "cloudsql-refused",
    cloudsql_slow_auth = "cloudsql-slow-auth",
    wrong_password = "wrong-password",
}

/// The probe's part of a run and everything it found, as text.
fn probed(scenario: &str, id: &str) -> (Value, String) {
    let played = play(scenario, &["--output-format", "json", id]);
    let probe = find(&played.run, id);
    (probe["verdict"].clone(), probe["findings"].to_string())
}

#[test]
fn a_circuit_breaker_opens_half_opens_and_closes() {
    let (verdict, found) = probed("database-comes-back", "smd.circuit-breaker");
    assert_eq!(verdict, "pass", "{found}");
    assert!(found.contains("closed, then open, then half_open"), "{found}");
}

#[test]
fn a_service_that_is_not_ready_closes_with_1011() {
    let (verdict, found) = probed("swallowed-startup-failure", "goldenpath.websocket-close");
    assert_eq!(verdict, "degraded", "{found}");
    assert!(found.contains("code 1011 (Service not ready)"), "{found}");
    assert!(found.contains("an error inside the service, or it is not ready"), "{found}");
}

#[test]
fn another_failure_is_another_signature() {
    let asked = ["smd.exit-code", "cloudsql.connect-timing", "goldenpath.availability"];
    let told = ["--output-format", "json", "--reproduce", "services-crash"];
    let arguments: Vec<&str> = told.into_iter().chain(asked).collect();
    for (scenario, exit) in [("code-defect-phase5", 0), ("healthy", 20)] {
        let played = play(scenario, &arguments);
        assert_eq!(played.exit, exit, "{scenario}: {:#}", played.run);
    }
}
