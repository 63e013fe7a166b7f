//! The probes against peers that misbehave: each ends inside its limit, with the rung and the fault.

use std::path::Path;
use std::sync::Arc;

use shakedown_core::{Environment, Probe, ProbeCtx, ProbeError, ProbeSpec, Verdict};
use shakedown_probes_vpc::probes::{ConnectorCapacity, DirectConnectivity, ServiceEndpoints};
use shakedown_testkit::probe::{self, Ran, linked_environment as environment};
use shakedown_testkit::{Act, Authority, Identity, Peer, Script};

const BASE: &str = "[environment]\ntier = \"lab\"\nvantage = \"cloud-run\"\n\
                    [safety]\nconnect_timeout = \"1s\"\nconnection_rate = \"1000/s\"\n\
                    request_rate = \"1000/s\"\n[vpc]\nname = \"c\"\n";

async fn run(id: &str, text: &str) -> Ran {
    run_in(&Arc::new(environment(&[BASE, text])), id).await
}

async fn run_in(environment: &Arc<Environment>, id: &str) -> Ran {
    probe::run(id, environment, |context| context).await.unwrap()
}

struct Trusted {
    authority: Authority,
    tls: String,
    _folder: tempfile::TempDir,
}

impl Trusted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let authority = Authority::new();
        authority.write(&file);
        let tls = format!("[tls]\nca_file = \"{}\"\n", file.display());
        Self { authority, tls, _folder: folder }
    }

    fn as_whom(&self, identity: Identity, script: &Script) -> Script {
        script.over_tls(self.authority.server(identity))
    }

    async fn endpoints(&self, services: &str) -> Ran {
        run("vpc.service-endpoints", &format!("{}{services}", self.tls)).await
    }
}

#[tokio::test]
async fn each_way_a_service_can_fail_is_named() {
    use Identity::{Expired, Good, Stranger, WrongName};
    let trusted = Trusted::new();
    let answer = Script::http("200 OK", "{}");
    let table = [
        (trusted.as_whom(Good, &answer), Verdict::Pass, None),
        (trusted.as_whom(Expired, &answer), Verdict::Fail, Some("tls:tls:expired")),
        (trusted.as_whom(WrongName, &answer), Verdict::Fail, Some("tls:tls:not-valid-for-name")),
        // Of an authority of the same name: depending on who looks first, the issuer is unknown or
        // its signature is wrong.
        (trusted.as_whom(Stranger, &answer), Verdict::Fail, Some("tls:tls:")),
        (Script::silent(), Verdict::Fail, Some("tls:timeout")),
        (Script::close_after(1), Verdict::Fail, Some("tls:closed")),
        (trusted.as_whom(Good, &Script::silent()), Verdict::Fail, Some("http:timeout")),
        (trusted.as_whom(Good, &Script::garbage()), Verdict::Fail, Some("http:protocol")),
        (trusted.as_whom(Good, &Script::endless_header()), Verdict::Fail, Some("http:too-large")),
        (trusted.as_whom(Good, &Script::huge_http()), Verdict::Fail, Some("http:too-large")),
        (
            trusted.as_whom(Good, &Script::http("503 Service Unavailable", "")),
            Verdict::Fail,
            Some("http:http:503"),
        ),
        (
            trusted.as_whom(Good, &Script::http("401 Unauthorized", "")),
            Verdict::Degraded,
            Some("http:http:401"),
        ),
    ];
    for (script, verdict, fault) in table {
        let case = format!("{fault:?}");
        let peer = Peer::start(script).await;
        let service = format!("[services.backend]\nurl = \"https://localhost:{}\"\n", peer.port());
        let ran = trusted.endpoints(&service).await;
        assert_eq!(ran.outcome.verdict, verdict, "{case}: {:?}", ran.outcome);
        let found = ran.faults();
        match fault {
            Some(fault) => assert!(found[0].starts_with(fault), "{case}: {:?}", ran.outcome),
            None => assert!(found.is_empty(), "{case}: {found:?}"),
        }
        assert_eq!(peer.connections(), 1, "{case}");
    }
    let nobody = Peer::refused().await;
    let service = format!("[services.backend]\nurl = \"https://localhost:{}\"\n", nobody.port());
    assert_eq!(trusted.endpoints(&service).await.faults(), ["connect:refused"]);
}

#[tokio::test]
async fn an_alias_degrades_and_a_websocket_that_wants_credentials_is_told() {
    let trusted = Trusted::new();
    let good = |script: Script| trusted.as_whom(Identity::Good, &script);
    let own = Peer::start(good(Script::http("200 OK", "{}"))).await;
    let gone = Peer::refused().await;
    let aliased = format!(
        "[services.backend]\nurl = \"https://localhost:{}\"\naliases = [\"https://localhost:{}\"]\n",
        own.port(),
        gone.port()
    );
    let ran = trusted.endpoints(&aliased).await;
    assert_eq!(ran.outcome.verdict, Verdict::Degraded, "{:?}", ran.outcome);
    assert_eq!(ran.faults(), ["connect:refused"]);

    let table = [
        (Script::http("401 Unauthorized", "token, please"), Verdict::Pass, "upgrade:http:401"),
        (Script::http("404 Not Found", ""), Verdict::Fail, "upgrade:http:404"),
        (Script::silent(), Verdict::Fail, "upgrade:timeout"),
    ];
    for (script, verdict, fault) in table {
        let websocket = Peer::start(good(script)).await;
        let text = format!(
            "[services.backend]\nurl = \"https://localhost:{}\"\n\
             websocket = \"wss://localhost:{}/ws\"\n",
            own.port(),
            websocket.port()
        );
        let ran = trusted.endpoints(&text).await;
        assert_eq!(ran.outcome.verdict, verdict, "{fault}: {:?}", ran.outcome);
        assert_eq!(ran.faults(), [fault], "{:?}", ran.outcome);
    }
    let open = Peer::start(good(Script::new([Act::Upgrade]))).await;
    let text = format!(
        "[services.backend]\nurl = \"https://localhost:{}\"\nwebsocket = \"wss://localhost:{}/ws\"\n",
        own.port(),
        open.port()
    );
    let ran = trusted.endpoints(&text).await;
    assert_eq!(ran.outcome.verdict, Verdict::Pass, "{:?}", ran.outcome);
    assert!(ran.measured("backend_upgrade").is_some());
}

fn database(host: &str, port: u16) -> String {
    format!("[database]\nhost = \"{host}\"\nport = {port}\nuser = \"u\"\nssl_mode = \"disable\"\n")
}

#[tokio::test]
async fn each_way_a_database_can_fail_is_named() {
    let table = [
        (Script::silent(), "startup:timeout"),
        (Script::close_after(8), "startup:closed"),
        (Script::reset(), "startup:reset"),
        (Script::huge_postgres(), ":too-large"),
        (Script::garbage(), "startup:protocol"),
    ];
    for (script, fault) in table {
        let peer = Peer::start(script).await;
        let ran = run("vpc.direct-connectivity", &database("127.0.0.1", peer.port())).await;
        assert_eq!(ran.outcome.verdict, Verdict::Fail, "{fault}");
        let found = ran.faults();
        assert!(found.len() == 1 && found[0].ends_with(fault), "{fault}: {:?}", ran.outcome);
        assert_eq!(peer.connections(), 1, "{fault}");
    }
    let nobody = Peer::refused().await;
    let ran = run("vpc.direct-connectivity", &database("127.0.0.1", nobody.port())).await;
    assert_eq!(ran.faults(), ["connect:refused"]);
}

#[tokio::test]
async fn a_socket_is_missing_left_behind_or_closes_its_client() {
    let folder = tempfile::tempdir().unwrap();
    let text = database(&folder.path().display().to_string(), 5432);
    let socket = folder.path().join(".s.PGSQL.5432");
    let both = async |fault: &str, requirements: Verdict| {
        let ran = run("vpc.direct-connectivity", &text).await;
        assert_eq!(ran.faults(), [fault], "{:?}", ran.outcome);
        let ran = run("vpc.network-requirements", &text).await;
        assert_eq!(ran.outcome.verdict, requirements, "{fault}: {:?}", ran.outcome);
    };
    both("connect:errno:2", Verdict::Fail).await;
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    both("connect:refused", Verdict::Pass).await;
    std::fs::remove_file(&socket).unwrap();
    let _proxy = Peer::start_unix(Path::new(&socket), Script::close_after(8)).await;
    let ran = run("vpc.direct-connectivity", &text).await;
    assert_eq!(ran.faults(), ["startup:closed"], "{:?}", ran.outcome);
    assert!(ran.said("its own dial failed"), "{:?}", ran.outcome);
}

#[tokio::test]
async fn required_hosts_are_tested_by_name_and_ranges_only_printed() {
    use Identity::{Expired, Good, WrongName};
    let trusted = Trusted::new();
    let table = [
        (Good, Verdict::Pass, None),
        (Expired, Verdict::Fail, Some("tls:tls:expired")),
        (WrongName, Verdict::Fail, Some("tls:tls:not-valid-for-name")),
    ];
    for (identity, verdict, fault) in table {
        let peer = Peer::start(trusted.as_whom(identity, &Script::silent())).await;
        let database_port = Peer::start(Script::silent()).await;
        let text = format!(
            "{}[network]\nrequired_hosts = [\n\
             {{ host = \"localhost\", purpose = \"an API\" }},\n\
             {{ host = \"127.0.0.1\", port = 3307, purpose = \"the instance\" }}]\n\
             required_ranges = [{{ cidr = \"127.0.0.0/8\", purpose = \"a range\" }}]\n\
             [network.resolve]\n\"localhost:443\" = \"{}\"\n\"127.0.0.1:3307\" = \"{}\"\n",
            trusted.tls,
            peer.address(),
            database_port.address()
        );
        let ran = run("vpc.network-requirements", &text).await;
        assert_eq!(ran.outcome.verdict, verdict, "{identity:?}: {:?}", ran.outcome);
        assert_eq!(ran.faults().first().map(String::as_str), fault, "{:?}", ran.outcome);
        assert!(ran.said("rule to check, never scanned: allow outbound to 127.0.0.0/8"));
        assert_eq!(peer.connections(), 1);
        assert_eq!(database_port.connections(), 0, "a database port is not dialled here");
    }
}

#[tokio::test]
async fn a_path_past_the_connector_is_not_measured_as_the_connectors() {
    let peer = Peer::start(Script::silent()).await;
    let database = database("10.0.0.5", 5432);
    let text = format!(
        "{database}[network.resolve]\n\"10.0.0.5\" = \"{}\"\n[vpc]\negress = \"all-traffic\"\n",
        peer.address()
    );
    let laptop = "[environment]\nvantage = \"laptop\"\n";
    let environment = Arc::new(environment(&[BASE, &text, laptop]));
    for id in ["vpc.connector-capacity", "vpc.scaling-delay"] {
        let ran = run_in(&environment, id).await;
        let reason = ran.skipped().unwrap_or_default();
        assert!(reason.starts_with("unavailable: no path from here crosses"), "{id}: {reason}");
    }
    assert_eq!(peer.connections(), 0);
    let ran = run_in(&environment, "vpc.direct-connectivity").await;
    assert_eq!(ran.faults(), ["startup:timeout"]);
    assert!(ran.said("a failure is never the connector's"), "{:?}", ran.outcome);
}

#[tokio::test]
async fn without_a_target_there_is_no_question() {
    let environment = Arc::new(environment(&[BASE]));
    for id in [
        "vpc.connector-capacity",
        "vpc.direct-connectivity",
        "vpc.network-requirements",
        "vpc.scaling-delay",
        "vpc.service-endpoints",
        "vpc.throughput",
    ] {
        let ran = run_in(&environment, id).await;
        let reason = ran.skipped().unwrap_or_default();
        assert!(reason.starts_with("not configured: set "), "{id}: {reason}");
    }
}

#[tokio::test]
async fn probes_run_embedded_without_registry_and_runner() {
    async fn embedded<P: ProbeSpec>(ctx: &ProbeCtx) -> Result<Verdict, ProbeError> {
        P::from_config(P::Config::default()).run(ctx).await.map(|outcome| outcome.verdict)
    }
    let nobody = Peer::refused().await;
    let (database, service) = (
        database("127.0.0.1", nobody.port()),
        format!("[services.backend]\nurl = \"http://127.0.0.1:{}\"\n", nobody.port()),
    );
    let ctx = ProbeCtx::builder(environment(&[BASE, &database, &service])).build();
    assert_eq!(embedded::<DirectConnectivity>(&ctx).await.unwrap(), Verdict::Fail);
    assert_eq!(embedded::<ConnectorCapacity>(&ctx).await.unwrap(), Verdict::Fail);
    assert_eq!(embedded::<ServiceEndpoints>(&ctx).await.unwrap(), Verdict::Fail);
}

#[tokio::test]
async fn a_cancelled_probe_ends_without_a_verdict() {
    let silent = Peer::start(Script::silent()).await;
    let text = database("127.0.0.1", silent.port());
    let ctx = ProbeCtx::builder(environment(&[BASE, &text])).build();
    let cancel = ctx.cancelled().clone();
    let probe = DirectConnectivity::from_config(Default::default());
    let (outcome, ()) = tokio::join!(probe.run(&ctx), async {
        while silent.connections() == 0 {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    });
    assert!(matches!(outcome, Err(ProbeError::Interrupted(_))), "{outcome:?}");
}
