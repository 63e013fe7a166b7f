//! What a run shows of a signature.

use serde_json::{Value, json};
use shakedown_analyzer::signature::{Signature, derive, evaluate};
use shakedown_core::Diagnosis;
use shakedown_core::environment::TimeScale;
use shakedown_core::record::RunRecord;
use shakedown_core::reproduction::{FeatureState, Reproduction, ReproductionVerdict};

/// The signature that is shipped.
const ISSUE_1278: &str = include_str!("../../../signatures/issue-1278.toml");

/// A run in which all the signature asks about was asked and `availability` is what users got; with
/// `None` no probe ran and nothing was sampled.
fn record(time_scale: u32, availability: Option<f64>) -> RunRecord {
    let share = |name: &str, value: f64| json!({ "name": name, "value": value, "unit": "1", "provenance": "measured" });
    let probe = |id: &str, value: f64, measurements: Value| {
        json!({
            "id": id, "phase": 4, "attempt": 1,
            "started_at": "2026-01-01T00:00:00Z", "elapsed_ms": 1.0,
            "status": "finished", "verdict": if value < 1.0 { "fail" } else { "pass" },
            "measurements": measurements,
        })
    };
    let probes = availability.map(|value| {
        let impact = [share("session_establishment", value), share("agent_success", value)];
        [
            probe("goldenpath.availability", value, json!([share("availability", value)])),
            probe("goldenpath.offline-impact", value, json!(impact)),
            probe("goldenpath.websocket-close", value, json!([])),
            probe("vpc.service-endpoints", value, json!([])),
        ]
    });
    let sample = |metric: &str, value: f64, labels: &[(&str, &str)]| {
        json!({ "monitor": "m", "sample": {
            "metric": metric, "unit": "1", "value": { "value": value }, "labels": labels,
            "taken_at": "2026-01-01T00:00:00Z", "visible_at": "2026-01-01T00:00:00Z",
            "provenance": "measured",
        }})
    };
    let samples = availability.iter().flat_map(|_| {
        let mut samples = vec![sample("cloudsql.connection_pool_utilization", 0.5, &[])];
        samples.extend((0..20).map(|_| sample("cloudsql.query_latency", 2.0, &[])));
        samples.push(sample("vpc.state", 1.0, &[("state", "normal")]));
        samples
    });
    let (probes, samples): (Vec<Value>, Vec<Value>) =
        (probes.into_iter().flatten().collect(), samples.collect());
    serde_json::from_value(json!({
        "schema": "shakedown.run/1",
        "plan": {
            "session_id": "issue_1278_20260101_000000", "created_at": "2026-01-01T00:00:00Z",
            "version": "0", "argv": [],
            "target": {
                "environment": "lab", "tier": "lab", "project": "p", "region": "r",
                "vantage": "cloud-run", "time_scale": time_scale,
            },
            "probes": [], "monitors": [], "safety_checks": [], "guards": [], "budget": [],
            "run_limit_ms": 1.0, "phase_limits_ms": [1.0, 1.0, 1.0, 1.0], "expected_ms": 1.0,
            "worst_ms": 1.0, "notes": [],
        },
        "started_at": "2026-01-01T00:00:00Z", "elapsed_ms": 1.0, "gate": [], "probes": probes,
        "phases": [], "samples": samples, "monitor_failures": [], "guards": [], "stability": [],
        "remarks": [], "conditions": [], "usage": [],
    }))
    .expect("a record")
}

/// A backend that started like this.
fn diagnosis(startups: Value, symptoms: &[&str]) -> Diagnosis {
    let symptoms: Vec<Value> = symptoms
        .iter()
        .map(|symptom| json!({ "symptom": symptom, "count": 2, "first": null, "last": null }))
        .collect();
    serde_json::from_value(json!({
        "schema": "shakedown.diagnosis/1", "inputs": [], "coverage": {},
        "services": [{
            "service": "backend", "window": { "from": null, "to": null },
            "verdict": if symptoms.is_empty() { "healthy" } else { "failing" },
            "roots": [], "symptoms": symptoms, "refuted": [], "masked": [],
            "startups": startups, "changes": [],
        }],
    }))
    .expect("a diagnosis")
}

fn death(measured_s: f64, limit: Value, claimed_s: f64) -> Value {
    json!({
        "instance": "i", "revision": "r", "at": "2026-01-01T00:00:00Z",
        "phases": [
            { "phase": "INIT", "seconds": 0.1 },
            { "phase": "DEPENDENCIES", "seconds": 0.2 },
            { "phase": "DATABASE", "seconds": measured_s },
        ],
        "failed_phase": "DATABASE", "claimed_timeout_s": claimed_s, "measured_s": measured_s,
        "limit": limit, "exit_code": 3, "outcome": "failed", "to_exit_s": measured_s,
    })
}

fn success() -> Value {
    json!({
        "instance": "j", "revision": "r", "at": "2026-01-01T00:01:00Z",
        "phases": [{ "phase": "INIT", "seconds": 0.1 }], "failed_phase": null,
        "claimed_timeout_s": null, "measured_s": null, "limit": null, "exit_code": null,
        "outcome": "completed", "to_exit_s": null,
    })
}

const SYMPTOMS: &[&str] = &["fastapi_lifespan_breakdown", "smd_phase3_timeout"];

fn asked(record: &RunRecord, diagnosis: &Diagnosis) -> Reproduction {
    let scale = TimeScale::new(record.plan.target.time_scale).expect("in range");
    let signature = Signature::parse(ISSUE_1278).expect("it parses").scaled(scale);
    evaluate(&signature, record, diagnosis, |key| {
        (key == "vpc.egress").then(|| "all-traffic".into())
    })
}

fn state<'r>(reproduction: &'r Reproduction, id: &str) -> (FeatureState, &'r str) {
    let feature = reproduction.features.iter().find(|feature| feature.id == id).expect(id);
    (feature.state, &feature.found)
}

#[test]
fn the_failure_is_reproduced_at_its_own_limit() {
    let startups = json!([success(), death(75.2, json!("the claimed 75 s"), 75.0)]);
    let said = asked(&record(1, Some(0.0)), &diagnosis(startups, SYMPTOMS));
    assert_eq!(said.verdict, ReproductionVerdict::Reproduced, "{said:#?}");
    assert_eq!(
        state(&said, "limit-75-s"),
        (FeatureState::Seen, "expected 75.0 s, measured 75.2 s")
    );
    assert_eq!(state(&said, "restarts").0, FeatureState::NotSeen);
    assert_eq!(state(&said, "pool-above-90").0, FeatureState::NotSeen);
    assert_eq!(
        state(&said, "deployments-below-10"),
        (FeatureState::NotSeen, "1 of 2 were completed")
    );
    assert!(said.differences.iter().any(|d| d.found == "00:00 UTC"), "{said:#?}");
    assert!(!said.differences.iter().any(|d| d.condition.contains("egress")), "{said:#?}");
}

#[test]
fn another_limit_reproduces_it_too_and_is_named() {
    let startups = json!([death(10.2, json!("table_setup 10 s"), 25.0)]);
    let said = asked(&record(1, Some(0.0)), &diagnosis(startups, SYMPTOMS));
    assert_eq!(said.verdict, ReproductionVerdict::Reproduced, "{said:#?}");
    assert_eq!(
        state(&said, "limit-75-s"),
        (FeatureState::NotSeen, "expected 75.0 s, measured 10.2 s")
    );
    let (_, found) = state(&said, "database-ends-at-its-limit");
    assert!(found.contains("the limit table_setup 10 s fired, though it says 25.0 s"), "{found}");
}

#[test]
fn a_lab_that_runs_faster_expects_shorter_waits() {
    let startups = json!([death(7.6, json!("the claimed 7.5 s"), 7.5)]);
    let said = asked(&record(10, Some(0.0)), &diagnosis(startups, SYMPTOMS));
    assert_eq!(state(&said, "limit-75-s"), (FeatureState::Seen, "expected 7.5 s, measured 7.6 s"));
}

#[test]
fn a_healthy_start_up_proves_it_absent_when_everything_was_looked_at() {
    let healthy = diagnosis(json!([success()]), &[]);
    let said = asked(&record(1, Some(1.0)), &healthy);
    assert_eq!(said.verdict, ReproductionVerdict::NotReproduced);
    assert_eq!(said.is_absent(), Some(true), "{said:#?}");
    let said = asked(&record(1, None), &healthy);
    assert_eq!(said.verdict, ReproductionVerdict::NotReproduced);
    assert_eq!(said.is_absent(), None, "availability was not measured");
    let mut slow = record(1, Some(1.0));
    for stamped in slow.samples.iter_mut().skip(10) {
        stamped.sample.value = shakedown_core::monitor::Reading::Value(400.0);
    }
    let said = asked(&slow, &healthy);
    assert_eq!(state(&said, "latency-tenfold").0, FeatureState::Seen);
    assert_eq!(said.verdict, ReproductionVerdict::NotReproduced);
    assert_eq!(said.is_absent(), Some(false), "what still looks like it proves no fix");
}

#[test]
fn what_nobody_looked_at_is_not_tested() {
    let nothing = diagnosis(json!([]), &[]);
    let mut said = asked(&record(1, None), &nothing);
    assert_eq!(state(&said, "process-exits-non-zero").0, FeatureState::NotTested);
    assert_eq!(
        said.verdict,
        ReproductionVerdict::NotReproduced,
        "a healthy service has no symptom"
    );
    said = asked(
        &record(1, None),
        &serde_json::from_value(json!({
            "schema": "shakedown.diagnosis/1", "inputs": [], "coverage": {}, "services": [],
        }))
        .expect("a diagnosis"),
    );
    assert_eq!(said.verdict, ReproductionVerdict::Undecided);
}

#[test]
fn a_signature_made_of_a_run_is_reproduced_by_that_run() {
    let (record, diagnosis) = (
        record(1, Some(0.0)),
        diagnosis(json!([death(10.2, json!("table_setup 10 s"), 25.0)]), SYMPTOMS),
    );
    let signature = derive("ours", &record, &diagnosis).expect("something failed");
    let text = toml::to_string(&signature).expect("it serialises");
    assert_eq!(Signature::parse(&text).expect(&text), signature);
    let said = evaluate(&signature, &record, &diagnosis, |_| None);
    assert_eq!(said.verdict, ReproductionVerdict::Reproduced, "{said:#?}");
}

#[test]
fn bad_signatures_are_named() {
    let check = |text: &str, says: &str| {
        let error = Signature::parse(text).expect_err(text).to_string();
        assert!(error.contains(says), "{error}");
    };
    let head = "schema = \"shakedown.signature/1\"\nid = \"x\"\ntitle = \"t\"\n";
    check("schema = \"other/9\"\nid = \"x\"\ntitle = \"t\"\n", "other/9");
    check(head, "decisive");
    check(&format!("{head}[[feature]]\nid = \"a\"\nwhat = \"w\"\n"), "`a` needs exactly one");
    check(
        &format!("{head}[[feature]]\nid = \"a\"\nwhat = \"w\"\nstartup = {{}}\n"),
        "something asked",
    );
    let twice = "[[feature]]\nid = \"a\"\nwhat = \"w\"\nsymptom = \"s\"\n".repeat(2);
    check(&format!("{head}{twice}"), "two features");
}
