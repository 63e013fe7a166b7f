//! The probe inside a program, and the binary with it, each against a ledger on loopback.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use acme_probes::classify::LedgerReplication;
use acme_probes::evidence::LEDGER_REPLICA_BEHIND;
use acme_probes::probes::{LedgerLag, LedgerLagConfig};
use shakedown_core::classify::ClaimStatus;
use shakedown_core::context::Note;
use shakedown_core::environment::{Layer, Source, load};
use shakedown_core::{
    Environment, Evidence, FailureClassifier as _, Outcome, Probe as _, ProbeCtx, ProbeSpec as _,
    Registry, Span, Verdict,
};

/// A ledger that answers every request with `status` and `body`.
fn ledger(status: &'static str, body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    address
}

const IN_TIME: &str = r#"{"behind_ms": 40, "entries_behind": 3}"#;
const LATE: &str = r#"{"behind_ms": 60000, "entries_behind": 9000}"#;

fn environment_text(address: SocketAddr) -> String {
    format!(
        "[environment]\nname = \"acme\"\ntier = \"staging\"\n\
         [ledger]\nposition_url = \"http://{address}/position\"\n\
         [probes.\"acme.ledger-lag\"]\nsamples = 2\npause = \"10ms\"\n"
    )
}

fn environment(address: SocketAddr) -> Environment {
    let layer = Layer { origin: "acme.toml".into(), text: environment_text(address) };
    let source = Source { layers: vec![layer], ..Source::default() };
    let registry = Registry::linked().expect("ids are unique");
    load(&source, &registry.owners()).expect("valid").environment
}

/// Runs the probe, without runner, and gives what it found and observed.
async fn run(address: SocketAddr) -> (Outcome, Evidence) {
    let observations = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&observations);
    let ctx = ProbeCtx::builder(environment(address))
        .listener(move |note| {
            if let Note::Observed(observation) = note {
                heard.lock().expect("no panic").push(*observation);
            }
        })
        .build();
    let probe = LedgerLag::from_config(LedgerLagConfig { samples: 2, pause: Span::millis(10) });
    let outcome = probe.run(&ctx).await.expect("a verdict");
    drop(ctx);
    let observations = observations.lock().expect("no panic").clone();
    (outcome, Evidence::new(observations))
}

#[tokio::test]
async fn what_the_probe_observes_decides_what_the_classifier_claims() {
    for (body, verdict, status) in [
        (IN_TIME, Verdict::Pass, ClaimStatus::Refuted),
        (LATE, Verdict::Fail, ClaimStatus::Supported),
    ] {
        let (outcome, evidence) = run(ledger("200 OK", body)).await;
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
        assert_eq!(LedgerReplication.classify(&evidence)[0].status, status, "{body}");
    }
}

#[tokio::test]
async fn a_ledger_that_does_not_answer_is_a_finding_with_rung_and_fault() {
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("bound");
    for (address, rung, code) in [
        (gone, "connect", "refused"),
        (ledger("503 Service Unavailable", ""), "http", "http:503"),
        (ledger("200 OK", "<html>"), "http", "protocol"),
    ] {
        let (outcome, evidence) = run(address).await;
        assert_eq!(outcome.verdict, Verdict::Fail);
        let finding = &outcome.findings[0];
        assert_eq!(finding.rung.as_deref(), Some(rung), "{finding:?}");
        assert_eq!(finding.fault.as_ref().map(|f| f.code()).as_deref(), Some(code), "{finding:?}");
        let claims = LedgerReplication.classify(&evidence);
        assert_eq!(claims[0].status, ClaimStatus::Undetermined);
    }
}

fn acme_shakedown(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_acme-shakedown"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .output()
        .expect("the binary starts")
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn the_binary_has_everything_the_crate_registers() {
    let list = json(&acme_shakedown(&["list", "--json"], Path::new(".")));
    let ids = |kind: &str, key: &str| -> Vec<String> {
        let entries = list[kind].as_array().expect("a list").iter();
        entries.map(|entry| entry[key].as_str().expect("an id").to_owned()).collect()
    };
    assert_eq!(ids("probes", "id"), ["acme.ledger-lag"]);
    assert_eq!(ids("classifiers", "id"), ["acme.ledger-replication"]);
    assert_eq!(ids("sections", "name"), ["ledger"]);
    assert_eq!(ids("terms", "id"), ["acme-ledger-position", LEDGER_REPLICA_BEHIND.as_str()]);
}

#[test]
fn the_binary_runs_the_probe_against_an_environment() {
    let dir = tempfile::tempdir().expect("a folder");
    for (body, code, verdict) in [(IN_TIME, 0, "pass"), (LATE, 10, "fail")] {
        let text = environment_text(ledger("200 OK", body));
        fs::write(dir.path().join("acme.toml"), text).expect("written");
        let args = ["run", "--env", "./acme.toml", "--output-format", "json"];
        let output = acme_shakedown(&args, dir.path());
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        let probe = &json(&output)["probes"][0];
        assert_eq!(probe["id"], "acme.ledger-lag", "{probe}");
        assert_eq!(probe["verdict"], verdict, "{probe}");
    }
}

#[test]
fn the_example_environment_is_valid() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let plan = acme_shakedown(&["plan", "--env", "./environment.toml"], here);
    assert_eq!(plan.status.code(), Some(0), "{plan:?}");
    assert!(String::from_utf8_lossy(&plan.stdout).contains("acme.ledger-lag"), "{plan:?}");
}
