//! Every built-in scenario shows a plain client what it says a tester must find.

mod common;

use common::{Way, climb, eventually, options, tmp};
use shakedown_lab::{ExpectPath, ExpectRung, HoldReason, Lab, Scenario, Truth};

fn rung_name(rung: ExpectRung) -> &'static str {
    match rung {
        ExpectRung::Resolve => "resolve",
        ExpectRung::Connect => "connect",
        ExpectRung::Tls => "tls",
        ExpectRung::Startup => "startup",
        ExpectRung::Auth => "auth",
        ExpectRung::Ready => "ready",
        ExpectRung::Query => "query",
    }
}

/// Starts the scenario, climbs both ways, compares with the expectations of the probe that climbs
/// both ways, and returns what the lab knows and the proxy logged.
async fn check(name: &str) -> (Truth, String) {
    let tmp = tmp();
    let scenario = Scenario::find(name).unwrap();
    let lab = Lab::start(&options(tmp.path(), scenario.clone(), 10)).await.unwrap();
    // Both at once: a scenario with an end shall not end in between.
    let (socket, tcp) = tokio::join!(climb(&lab, Way::Socket), climb(&lab, Way::Tcp));
    for (way, path, found) in
        [(Way::Socket, ExpectPath::Socket, socket), (Way::Tcp, ExpectPath::Tcp, tcp)]
    {
        let about = |probe: &&shakedown_lab::ExpectProbe| {
            probe.id == "vpc.direct-connectivity" && probe.path == Some(path)
        };
        let expected = scenario.expect.probes.iter().find(about);
        match (expected, found) {
            (None, found) => assert_eq!(found, Ok(()), "{name} {way:?}"),
            (Some(expected), Ok(())) => panic!("{name} {way:?}: not seen: {expected:?}"),
            (Some(expected), Err(seen)) => {
                assert_eq!(
                    expected.error.as_deref(),
                    Some(&*seen.error),
                    "{name} {way:?} {seen:?}"
                );
                if let Some(rung) = expected.rung {
                    assert_eq!(rung_name(rung), seen.rung, "{name} {way:?} {seen:?}");
                }
            }
        }
    }
    let samples = lab.truth().postgres.samples;
    eventually("two more samples", || lab.truth().postgres.samples > samples + 2).await;
    let truth = lab.truth();
    let log = std::fs::read_to_string(lab.dir().join("logs/proxy.log")).unwrap();
    lab.stop().await.unwrap();
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "a lab leaves nothing behind");
    (truth, log)
}

#[tokio::test]
async fn healthy() {
    let (truth, _) = check("healthy").await;
    assert_eq!(truth.proxy.dial_errors, 0);
    assert!(truth.faults.is_empty());
    assert!(truth.connector.accepted >= 4);
}

#[tokio::test]
async fn connector_saturated() {
    let (truth, log) = check("connector-saturated").await;
    assert_eq!((truth.connector.neighbours, truth.connector.capacity), (40, 40));
    assert_eq!(truth.connector.holds[0].reason, HoldReason::Capacity);
    assert!(truth.connector.held && truth.connector.scale_events.is_empty());
    assert!(truth.connector.bytes_to_server > 0, "the neighbour sends");
    assert!(log.contains("dial tcp 127.0.0.1:") && log.contains(": i/o timeout"), "{log}");
    if cfg!(target_os = "linux") {
        assert!(truth.connector.waiting_max >= Some(1), "{truth:?}");
    }
}

#[tokio::test]
async fn connector_egress_warmup() {
    let (truth, _) = check("connector-egress-warmup").await;
    assert_eq!(truth.connector.holds[0].reason, HoldReason::NoEgress);
    assert_eq!(truth.connector.accepted, 0);
}

#[tokio::test]
async fn connector_drops() {
    let (truth, log) = check("connector-drops").await;
    assert_eq!(truth.connector.holds[0].reason, HoldReason::Drop);
    assert_eq!((truth.connector.accepted, truth.postgres.sessions_max), (0, 0));
    assert_eq!((truth.proxy.accepted, truth.proxy.dial_errors), (1, 1));
    let line = "failed to connect to instance: dial error: failed to dial (connection name = \
                \"shakedown-lab:us-central1:lab-db\"): dial tcp 127.0.0.1:";
    assert!(log.contains(line), "{log}");
}

#[tokio::test]
async fn proxy_accepts_then_eof() {
    let (truth, log) = check("proxy-accepts-then-eof").await;
    assert_eq!(truth.proxy.dial_errors, 1);
    let line = "dial error: handshake failed (connection name = \"shakedown-lab:us-central1:lab-db\"): EOF";
    assert!(log.contains(line), "{log}");
}

#[tokio::test]
async fn cloudsql_max_connections() {
    let (truth, _) = check("cloudsql-max-connections").await;
    // 50, of which 3 are reserved and one is the lab's own.
    assert_eq!(truth.postgres.applications["shakedown-lab-neighbour"].max, 46);
    assert_eq!(truth.postgres.sessions_max, 46);
}

#[tokio::test]
async fn cloudsql_closed() {
    let (truth, _) = check("cloudsql-closed").await;
    assert_eq!((truth.postgres.sessions_max, truth.proxy.dial_errors), (0, 0));
}

#[tokio::test]
async fn cloudsql_silent() {
    let (truth, _) = check("cloudsql-silent").await;
    assert_eq!(truth.connector.bytes_to_client, 0);
}

#[tokio::test]
async fn cloudsql_refused() {
    let (_, log) = check("cloudsql-refused").await;
    assert!(log.contains("connect: connection refused"), "{log}");
}

#[tokio::test]
async fn cloudsql_slow_auth() {
    let (truth, _) = check("cloudsql-slow-auth").await;
    assert_eq!(truth.postgres.sessions_max, 0);
}

#[tokio::test]
async fn wrong_password() {
    let (truth, _) = check("wrong-password").await;
    assert_eq!(truth.postgres.sessions_max, 0);
    assert_eq!(truth.faults[0].kind, "wrong-password");
}
