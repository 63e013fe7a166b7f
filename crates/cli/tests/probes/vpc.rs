//! The network path, as the labs' connectors, proxies and services have it.

use shakedown_core::evidence::Fact;
use shakedown_core::{Registry, Verdict};
use shakedown_lab::Scenario;
use shakedown_testkit::probe::{self, Ran};

use crate::staging::{Staging, scenario};

/// Runs the probe `id` with its whole draw set aside.
async fn ask(staging: &Staging, id: &str) -> Ran {
    let credentials = staging.credentials.clone();
    let equip =
        |context: shakedown_core::context::ProbeCtxBuilder| context.credentials(credentials);
    probe::run(id, &staging.environment, equip).await.unwrap()
}

/// The value of an attribute.
fn attribute<'a>(fact: &'a Fact, key: &str) -> &'a str {
    let found = fact.attributes.iter().find(|(name, _)| name == key);
    found.map_or_else(|| panic!("no attribute {key} in {fact:?}"), |(_, value)| value)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_services_of_a_healthy_lab_pass() {
    let staging = Staging::start(Scenario::healthy(), |lab| lab.application = true).await;
    let ran = ask(&staging, "vpc.service-endpoints").await;
    assert_eq!(ran.outcome.verdict, Verdict::Pass, "{:?}", ran.outcome);
    for name in ["backend", "auth", "frontend"] {
        assert!(ran.measured(&format!("{name}_ttfb")).is_some(), "{:?}", ran.outcome);
    }
    assert!(ran.said("wants credentials (HTTP status 403)"), "{:?}", ran.outcome);
    let mut details = ran.outcome.steps.iter().filter_map(|step| step.detail.as_deref());
    assert!(details.any(|detail| detail.contains("https://api.lab.")), "{:?}", ran.outcome);
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_lab_passes_or_is_not_exercised() {
    let staging = Staging::named("healthy").await;
    let registry = Registry::linked().unwrap();
    let ids = registry.probes().map(|probe| probe.meta.id).filter(|id| id.starts_with("vpc."));
    // Without the application there are no services to look at.
    for id in ids.filter(|id| *id != "vpc.service-endpoints") {
        let ran = ask(&staging, id).await;
        let path_first = ran.progress[0].contains("from vantage cloud-run");
        assert!(path_first, "{id}: {:?}", ran.progress);
        match id {
            "vpc.scaling-delay" => {
                let reason = ran.skipped().unwrap_or_default();
                assert!(reason.starts_with("not exercised: "), "{id}: {:?}", ran.outcome);
            }
            _ => assert_eq!(ran.outcome.verdict, Verdict::Pass, "{id}: {:?}", ran.outcome),
        }
        match id {
            "vpc.direct-connectivity" => direct(&ran, &staging),
            "vpc.connector-capacity" => capacity(&ran),
            "vpc.throughput" => {
                assert_eq!(
                    ran.measured("transferred").map(|bytes| bytes >= 8_388_608.0),
                    Some(true)
                );
                assert!(ran.measured("throughput").is_some_and(|mbit| mbit > 0.0));
                assert!(ran.said("lower bound of what the path carried"));
            }
            _ => {}
        }
    }
    // Two ladders, 4 rounds of 1 + 2 + 3, 5 quiet connects, one read: no connect more than declared.
    assert_eq!(staging.lab.truth().connector.accepted, 2 + 24 + 5 + 1);
    staging.stop().await;
}

fn direct(ran: &Ran, staging: &Staging) {
    let rungs: Vec<_> = ran.outcome.steps.iter().map(|step| step.rung.as_str()).collect();
    let socket = ["connect", "startup", "auth", "ready", "query", "close"];
    assert_eq!(rungs[..socket.len()], socket);
    assert!(rungs[socket.len()..].ends_with(&socket), "{rungs:?}");
    let paths = ran.facts("vpc.network-path");
    let targets: Vec<_> = paths.iter().map(|fact| attribute(fact, "target")).collect();
    let addresses = staging.lab.addresses();
    let expected = [addresses.socket.display().to_string(), addresses.connector.to_string()];
    assert_eq!(targets, expected);
    assert!(ran.measured("socket_total").is_some() && ran.measured("tcp_total").is_some());
}

fn capacity(ran: &Ran) {
    let stages = ran.facts("vpc.connector-stage");
    let offered: Vec<_> = stages.iter().map(|stage| attribute(stage, "offered")).collect();
    assert_eq!(offered, ["1", "2", "3"]);
    assert_eq!(attribute(stages[2], "attempts"), "12");
    assert_eq!(ran.measured("connects"), Some(24.0));
    assert_eq!(ran.measured("unanswered"), Some(0.0));
    assert!(ran.said("not established (budget 3)"));
}

/// What `vpc.direct-connectivity` must find in a scenario: rung and fault on the socket, and on TCP.
async fn direct_fails(scenario: &str, expected: [&str; 2]) -> (Staging, Ran) {
    let staging = Staging::named(scenario).await;
    let ran = ask(&staging, "vpc.direct-connectivity").await;
    assert_eq!(ran.outcome.verdict, Verdict::Fail, "{scenario}: {:?}", ran.outcome);
    assert_eq!(ran.faults(), expected, "{scenario}: {:?}", ran.outcome);
    let ways: Vec<_> = ran.outcome.findings[..2].iter().map(|f| &f.summary[..3]).collect();
    assert_eq!(ways, ["soc", "TCP"]);
    (staging, ran)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_database_is_refused_over_tcp_and_closed_behind_the_proxy() {
    let expected = ["startup:closed", "connect:refused"];
    let (staging, ran) = direct_fails("cloudsql-refused", expected).await;
    assert!(ran.said("together: neither the proxy nor a direct connect"), "{:?}", ran.outcome);
    let capacity = ask(&staging, "vpc.connector-capacity").await;
    assert_eq!(capacity.outcome.verdict, Verdict::Fail);
    assert_eq!(capacity.measured("connects"), Some(1.0), "the first loss ends the ramp");
    assert!(capacity.outcome.findings.iter().all(|finding| finding.suggests.is_none()));
    let delay = ask(&staging, "vpc.scaling-delay").await;
    let reason = delay.skipped().unwrap_or_default();
    assert!(reason.starts_with("unavailable: "), "{:?}", delay.outcome);
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_closes_is_told_from_one_that_is_silent() {
    let (closed, ran) = direct_fails("cloudsql-closed", ["startup:closed", "startup:closed"]).await;
    assert!(ran.said("so the database is the trouble"), "{:?}", ran.outcome);
    closed.stop().await;
    let expected = ["startup:timeout", "startup:timeout"];
    let (silent, _) = direct_fails("cloudsql-silent", expected).await;
    silent.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_closes_is_told_from_a_database_that_is_down() {
    let staging = Staging::named("proxy-accepts-then-eof").await;
    let ran = ask(&staging, "vpc.direct-connectivity").await;
    assert_eq!(ran.outcome.verdict, Verdict::Fail);
    assert_eq!(ran.faults(), ["startup:closed"]);
    assert!(ran.said("so the proxy's own dial is the trouble"), "{:?}", ran.outcome);
    assert!(ran.measured("tcp_total").is_some());
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_database_carry_their_sqlstate_and_are_not_the_paths_trouble() {
    let expected = ["ready:sqlstate:53300", "ready:sqlstate:53300"];
    let (full, ran) = direct_fails("cloudsql-max-connections", expected).await;
    let cause = ran.outcome.findings[0].suggests.as_ref().map(|cause| cause.as_str());
    assert_eq!(cause, Some("cloud_sql_max_connections"));
    let capacity = ask(&full, "vpc.connector-capacity").await;
    assert_eq!(capacity.outcome.verdict, Verdict::Pass, "{:?}", capacity.outcome);
    full.stop().await;
    let expected = ["auth:sqlstate:28P01", "auth:sqlstate:28P01"];
    let (wrong, ran) = direct_fails("wrong-password", expected).await;
    let cause = ran.outcome.findings[0].suggests.as_ref().map(|cause| cause.as_str());
    assert_eq!(cause, Some("configuration_error"));
    wrong.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_drops_times_out_at_connect_and_is_not_on_the_way_in() {
    let expected = ["startup:closed", "connect:timeout"];
    let (staging, ran) = direct_fails("connector-drops", expected).await;
    assert!(ran.said("lies behind the proxy"), "{:?}", ran.outcome);
    let capacity = ask(&staging, "vpc.connector-capacity").await;
    assert_eq!(capacity.outcome.verdict, Verdict::Fail);
    assert_eq!(capacity.faults(), ["connect:timeout"]);
    let suggests = capacity.outcome.findings.iter().filter_map(|finding| finding.suggests.as_ref());
    assert_eq!(suggests.count(), 0, "all lost tells no full connector from a dead way");
    let services = ask(&staging, "vpc.service-endpoints").await;
    // The balancer answers for the backend that is not there; the other services are fine.
    assert_eq!(services.faults(), ["http:http:503", "http:http:503", "upgrade:http:503"]);
    let delay = ask(&staging, "vpc.scaling-delay").await;
    assert_eq!(delay.outcome.verdict, Verdict::Fail, "{:?}", delay.outcome);
    assert_eq!(attribute(delay.facts("vpc.latency-step")[0], "recovered"), "no");
    staging.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_saturated_connector_loses_connects_until_it_has_scaled_out() {
    let faults = scenario(
        "[connector]
         instances_min = 1
         instances_max = 2
         connections_per_instance = 5
         scaling_delay_min = \"60s\"
         scaling_delay_max = \"60s\"
         [[fault]]
         kind = \"connector-neighbour\"
         connections = 5",
    );
    let staging = Staging::start(faults, |_| {}).await;
    let capacity = ask(&staging, "vpc.connector-capacity").await;
    assert_eq!(capacity.outcome.verdict, Verdict::Fail, "{:?}", capacity.outcome);
    assert_eq!(capacity.faults(), ["connect:timeout"]);
    let delay = ask(&staging, "vpc.scaling-delay").await;
    assert_eq!(delay.outcome.verdict, Verdict::Degraded, "{:?}", delay.outcome);
    let step = delay.facts("vpc.latency-step")[0];
    assert_eq!(attribute(step, "recovered"), "yes");
    assert_eq!(attribute(step, "began"), "before it");
    let (least, most) = (delay.measured("recovery_at_least"), delay.measured("recovery_at_most"));
    assert!(least <= most, "{:?}", delay.outcome);
    let connector = staging.lab.truth().connector;
    assert_eq!(connector.scale_events.len(), 1, "what ended the step");
    staging.stop().await;
}
