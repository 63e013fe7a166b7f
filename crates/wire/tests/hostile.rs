//! Every hostile peer, over every protocol: the climb ends within its limit, at the right rung, with
//! a typed fault, and holds no more memory than it did.
//!
//! One test, one case after the other: memory is counted for the whole process.

use std::time::Duration;

use shakedown_core::environment::SslMode;
use shakedown_core::id::resource;
use shakedown_core::{Fault, ProbeCtx, Step, clock};
use shakedown_testkit::memory::resident_bytes;
use shakedown_testkit::{Act, Authority, Identity, Peer, Script, ctx};
use shakedown_wire::pg::{Endpoint, PgTarget};
use shakedown_wire::{http, pg, ws};

const LIMIT: Duration = Duration::from_millis(300);
const MORE_MEMORY: u64 = 8 << 20;

/// What a peer is asked.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Pg(SslMode),
    Http,
    Https,
    Ws,
    Wss,
}

struct Case {
    name: &'static str,
    peer: Peer,
    ask: Ask,
    /// The rung it fails at, and the fault's code.
    expect: (&'static str, &'static str),
}

#[tokio::test]
async fn hostile_peers_end_the_climb_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let ca_file = folder.path().join("ca.pem");
    let authority = Authority::new();
    authority.write(&ca_file);
    let ctx = context(&format!("[tls]\nca_file = '{}'\n", ca_file.display()));
    // What is made once, such as the roots, is not to be counted.
    climb(&ctx, Ask::Https, &Peer::start(Script::silent()).await).await;

    let cases = cases(&authority).await;
    assert!(cases.len() > 40);
    let mut wrong = Vec::new();
    for Case { name, peer, ask, expect } in cases {
        let before = resident_bytes();
        let began = clock::now();
        let step = climb(&ctx, ask, &peer).await;
        let took = began.elapsed();
        let code = step.fault.as_ref().map_or_else(|| "passed".into(), Fault::code);
        // A reset may come before we have noticed that we were connected.
        let early = code == "reset" && step.rung == "connect" && expect.1 == "reset";
        if (step.rung.as_str(), code.as_str()) != expect && !early {
            wrong.push(format!("{name}, {ask:?}: {expect:?} expected, got {step:?}"));
        }
        if let Some(Fault::Timeout { limit }) = step.fault {
            assert_eq!(limit.get(), LIMIT, "{name}, {ask:?}");
            assert!(took >= LIMIT, "{name}, {ask:?}: timed out after {took:?}");
        }
        assert!(took < 5 * LIMIT, "{name}, {ask:?}: took {took:?}");
        if let (Some(before), Some(after)) = (before, resident_bytes()) {
            let more = after.saturating_sub(before);
            assert!(more <= MORE_MEMORY, "{name}, {ask:?}: {more} bytes more");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A message of 1 GB comes only after a proper upgrade.
#[tokio::test]
async fn a_huge_websocket_message_is_refused_when_announced() {
    let peer = Peer::start(Script::huge_websocket()).await;
    let ctx = context("");
    let lease = ctx.lease(&resource::WEBSOCKET).await.unwrap();
    let url = format!("ws://127.0.0.1:{}/ws", peer.port());
    let climb = ws::upgrade(&ctx, lease, &url, &[]).await;
    let mut socket = climb.result.unwrap();
    let before = resident_bytes();
    let fault = socket.next_message(LIMIT).await.unwrap_err();
    let expected = Fault::TooLarge { bytes: shakedown_testkit::peers::HUGE, cap: 1 << 20 };
    assert_eq!(fault, expected);
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        assert!(after.saturating_sub(before) <= MORE_MEMORY);
    }
}

/// A probe that is cancelled ends its climb, and learns that this says nothing about the target.
#[tokio::test]
async fn cancelling_ends_a_climb_and_is_told_apart() {
    let peer = Peer::start(Script::silent()).await;
    let cancel = tokio_util::sync::CancellationToken::new();
    let environment = shakedown_testkit::environment("");
    let ctx = ProbeCtx::builder(environment).cancel(cancel.clone()).build();
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await.unwrap();
    let url = format!("http://127.0.0.1:{}/", peer.port());
    let get = http::get(&ctx, lease, &url, &[]);
    let (climb, ()) = tokio::join!(get, async {
        while peer.connections() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        cancel.cancel();
    });
    assert_eq!(climb.failed_step().unwrap().rung, "http");
    assert!(
        matches!(climb.result, Err(Fault::Timeout { limit }) if limit.get() < Duration::from_secs(30))
    );
    assert_eq!(climb.interrupted, Some(shakedown_core::Interrupted::Cancelled));
    assert!(climb.uninterrupted().is_err());
}

/// The time a probe has left is a bound as well, and is named as the limit that fired.
#[tokio::test]
async fn a_deadline_ends_a_climb() {
    let peer = Peer::start(Script::silent()).await;
    let environment = shakedown_testkit::environment("");
    let ctx = ProbeCtx::builder(environment).deadline(clock::now() + LIMIT).build();
    let lease = ctx.lease(&resource::HTTP_CONNECTION).await.unwrap();
    let url = format!("http://127.0.0.1:{}/", peer.port());
    let climb = http::get(&ctx, lease, &url, &[]).await;
    assert_eq!(climb.interrupted, Some(shakedown_core::Interrupted::Deadline));
    let Err(Fault::Timeout { limit }) = climb.result else { panic!("{:?}", climb.result) };
    assert!(limit.get() < 5 * LIMIT, "{limit}");
}

async fn cases(authority: &Authority) -> Vec<Case> {
    use Ask::{Http, Https, Pg, Ws, Wss};
    use SslMode::{Disable, Prefer, VerifyCa, VerifyFull};

    let tls = |identity| authority.server(identity);
    let drip_pg = Script::drip(&[b'R', 0, 0, 0, 23, 0, 0, 0, 10], Duration::from_millis(50));
    let drip_http = Script::drip(b"HTTP/1.1 200 OK\r\nx: y\r\n", Duration::from_millis(50));
    let second = Duration::from_secs(1);
    let mut cases = Vec::new();
    let mut case = async |name, script: &Script, ask, expect| {
        cases.push(Case { name, peer: Peer::start(script.clone()).await, ask, expect });
    };

    let silent = Script::silent();
    case("silent", &silent, Pg(Disable), ("startup", "timeout")).await;
    case("silent", &silent, Pg(Prefer), ("tls", "timeout")).await;
    case("silent", &silent, Http, ("http", "timeout")).await;
    case("silent", &silent, Https, ("tls", "timeout")).await;
    case("silent", &silent, Ws, ("upgrade", "timeout")).await;
    case("silent", &silent, Wss, ("tls", "timeout")).await;

    case("drip", &drip_pg, Pg(Disable), ("auth", "timeout")).await;
    case("drip", &drip_http, Http, ("http", "timeout")).await;
    case("drip", &drip_http, Ws, ("upgrade", "timeout")).await;
    let slow = Script::drip(b"R", second);
    case("one byte a second", &slow, Pg(Disable), ("startup", "timeout")).await;
    case("one byte a second", &slow, Pg(Prefer), ("tls", "timeout")).await;
    case("one byte a second", &slow, Http, ("http", "timeout")).await;
    case("one byte a second", &slow, Https, ("tls", "timeout")).await;
    case("one byte a second", &slow, Ws, ("upgrade", "timeout")).await;

    let endless = Script::endless_header();
    case("endless header", &endless, Pg(Disable), ("startup", "protocol")).await;
    case("endless header", &endless, Pg(Prefer), ("tls", "protocol")).await;
    case("endless header", &endless, Http, ("http", "too-large")).await;
    case("endless header", &endless, Https, ("tls", "protocol")).await;
    case("endless header", &endless, Ws, ("upgrade", "too-large")).await;
    let endless = endless.over_tls(tls(Identity::Good));
    case("endless header over TLS", &endless, Https, ("http", "too-large")).await;

    case("1 GB announced", &Script::huge_postgres(), Pg(Disable), ("auth", "too-large")).await;
    case("1 GB announced", &Script::huge_http(), Http, ("http", "too-large")).await;
    case("1 GB announced", &Script::huge_http(), Ws, ("upgrade", "http:200")).await;
    let huge = Script::huge_postgres().over_tls(tls(Identity::Good));
    case("1 GB announced over TLS", &huge, Pg(VerifyFull), ("auth", "too-large")).await;

    // SCRAM asks the client to compute: a server could keep it busy for hours.
    let message = |kind: u32, body: &[u8]| {
        let length = u32::try_from(8 + body.len()).unwrap();
        [&b"R"[..], &length.to_be_bytes(), &kind.to_be_bytes(), body].concat()
    };
    let busy = Script::new([
        Act::Send(message(10, b"SCRAM-SHA-256\0\0")),
        Act::Send(message(11, b"r=abc,s=c2FsdA==,i=4000000000")),
        Act::Hold,
    ]);
    case("endless SCRAM", &busy, Pg(Disable), ("auth", "protocol")).await;

    let garbage = Script::garbage();
    case("garbage", &garbage, Pg(Disable), ("startup", "protocol")).await;
    case("garbage", &garbage, Pg(Prefer), ("tls", "protocol")).await;
    case("garbage", &garbage, Http, ("http", "protocol")).await;
    case("garbage", &garbage, Https, ("tls", "protocol")).await;
    case("garbage", &garbage, Ws, ("upgrade", "protocol")).await;

    let reset = Script::reset();
    case("reset", &reset, Pg(Disable), ("startup", "reset")).await;
    case("reset", &reset, Pg(Prefer), ("tls", "reset")).await;
    case("reset", &reset, Http, ("http", "reset")).await;
    case("reset", &reset, Https, ("tls", "reset")).await;
    case("reset", &reset, Ws, ("upgrade", "reset")).await;

    let closes = Script::close_after(8);
    case("closes", &closes, Pg(Disable), ("startup", "closed")).await;
    case("closes", &closes, Pg(Prefer), ("tls", "closed")).await;
    case("closes", &closes, Http, ("http", "closed")).await;
    case("closes", &closes, Https, ("tls", "closed")).await;
    case("closes", &closes, Ws, ("upgrade", "closed")).await;

    for ask in [Pg(VerifyFull), Https, Wss] {
        let expired = silent.over_tls(tls(Identity::Expired));
        case("expired", &expired, ask, ("tls", "tls:expired")).await;
        let wrong = silent.over_tls(tls(Identity::WrongName));
        case("wrong name", &wrong, ask, ("tls", "tls:not-valid-for-name")).await;
        let stranger = silent.over_tls(tls(Identity::Stranger));
        case("stranger", &stranger, ask, ("tls", "tls:unknown-issuer")).await;
    }
    let wrong = silent.over_tls(tls(Identity::WrongName));
    case("wrong name", &wrong, Pg(VerifyCa), ("startup", "timeout")).await;
    let stranger = silent.over_tls(tls(Identity::Stranger));
    case("stranger", &stranger, Pg(VerifyCa), ("tls", "tls:unknown-issuer")).await;

    for (ask, rung) in [(Pg(Prefer), "connect"), (Http, "connect"), (Wss, "connect")] {
        let peer = Peer::refused().await;
        cases.push(Case { name: "refused", peer, ask, expect: (rung, "refused") });
    }
    cases
}

fn context(more: &str) -> ProbeCtx {
    let safety =
        format!("[safety]\nconnect_timeout = \"{}ms\"\nlinger = \"1ms\"\n", LIMIT.as_millis());
    ctx(&format!("{safety}{more}"), &[])
}

/// The last step of the climb.
async fn climb(ctx: &ProbeCtx, ask: Ask, peer: &Peer) -> Step {
    let port = peer.port();
    let steps = match ask {
        Ask::Pg(ssl_mode) => {
            let lease = ctx.lease(&resource::DATABASE_CONNECTION).await.unwrap();
            pg::connect(ctx, lease, &target(port, ssl_mode)).await.steps
        }
        Ask::Http | Ask::Https => {
            let lease = ctx.lease(&resource::HTTP_CONNECTION).await.unwrap();
            let scheme = if matches!(ask, Ask::Http) { "http" } else { "https" };
            http::get(ctx, lease, &format!("{scheme}://127.0.0.1:{port}/"), &[]).await.steps
        }
        Ask::Ws | Ask::Wss => {
            let lease = ctx.lease(&resource::WEBSOCKET).await.unwrap();
            let scheme = if matches!(ask, Ask::Ws) { "ws" } else { "wss" };
            ws::upgrade(ctx, lease, &format!("{scheme}://127.0.0.1:{port}/"), &[]).await.steps
        }
    };
    steps.into_iter().last().expect("at least one step")
}

fn target(port: u16, ssl_mode: SslMode) -> PgTarget {
    PgTarget {
        endpoint: Endpoint::Tcp { host: "127.0.0.1".into(), port },
        database: "staging".into(),
        user: "app".into(),
        password: Some("secret".into()),
        ssl_mode,
        connect_timeout: Duration::from_secs(10),
        statement_timeout: LIMIT,
        application_name: "shakedown/test".into(),
        read_only: true,
    }
}
