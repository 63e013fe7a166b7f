//! HTTP, WebSockets, bare TCP and TLS with peers that behave, and with some that do not quite.

use std::time::Duration;

use shakedown_core::id::{ResourceKind, resource};
use shakedown_core::{Fault, Lease, ProbeCtx};
use shakedown_testkit::{Act, Authority, Identity, Peer, Script, ctx};
use shakedown_wire::ws::Message;
use shakedown_wire::{Climb, Wire, http, net, ws};

const SECOND: Duration = Duration::from_secs(1);

fn rungs<T>(climb: &Climb<T>) -> Vec<&str> {
    climb.steps.iter().map(|step| step.rung.as_str()).collect()
}

async fn lease(ctx: &ProbeCtx, kind: ResourceKind) -> Lease {
    ctx.lease(&kind).await.unwrap()
}

fn in_use(ctx: &ProbeCtx, kind: &ResourceKind) -> u32 {
    ctx.budget().usage().iter().find(|usage| usage.resource == *kind).unwrap().in_use
}

/// A context that trusts `authority`, and finds `names` at `port` of this machine.
fn trusting(authority: &Authority, folder: &tempfile::TempDir, names: &[(&str, u16)]) -> ProbeCtx {
    let ca_file = folder.path().join("ca.pem");
    authority.write(&ca_file);
    let mut toml = format!("[tls]\nca_file = '{}'\n[network.resolve]\n", ca_file.display());
    for (name, port) in names {
        toml.push_str(&format!("\"{name}\" = \"127.0.0.1:{port}\"\n"));
    }
    ctx(&toml, &[])
}

#[tokio::test]
async fn an_answer_is_an_answer_whatever_its_status() {
    for (status_line, status, success) in
        [("200 OK", 200, true), ("301 Moved", 301, false), ("503 Busy", 503, false)]
    {
        let peer = Peer::start(Script::http(status_line, "some words")).await;
        let ctx = ctx("", &[]);
        let url = format!("http://127.0.0.1:{}/health?x=1", peer.port());
        let climb = http::get(&ctx, lease(&ctx, resource::HTTP_CONNECTION).await, &url, &[]).await;
        assert_eq!(rungs(&climb), ["resolve", "connect", "http"]);
        let total = climb.elapsed_ms("http").unwrap();
        let response = climb.result.unwrap();
        assert_eq!((response.status, response.is_success()), (status, success));
        assert_eq!(response.body, b"some words");
        assert_eq!(response.header("Content-Length"), Some("10"));
        assert_eq!(response.address, peer.address());
        assert!(response.ttfb_ms <= total, "{} of {total}", response.ttfb_ms);
        assert_eq!(in_use(&ctx, &resource::HTTP_CONNECTION), 0);
    }
}

#[tokio::test]
async fn names_stay_what_they_are_where_the_environment_says_to_connect_elsewhere() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    let peer =
        Peer::start(Script::new([Act::Tls(authority.server(Identity::Good)), Act::EchoHead])).await;
    let nobody = Peer::refused().await;
    let names = [("localhost:8443", peer.port()), ("localhost", nobody.port())];
    let ctx = trusting(&authority, &folder, &names);
    let headers = [("X-API-Key", "k-secret"), ("Accept", "text/plain")];
    let get = async |url| {
        http::get(&ctx, lease(&ctx, resource::HTTP_CONNECTION).await, url, &headers).await
    };
    let climb = get("https://LocalHost:8443").await;
    assert_eq!(rungs(&climb), ["resolve", "connect", "tls", "http"]);
    let detail = climb.steps[0].detail.as_deref().unwrap();
    assert!(detail.contains("network.resolve"), "{detail}");
    let response = climb.result.unwrap();
    let head = String::from_utf8(response.body).unwrap();
    assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
    for line in ["host: LocalHost:8443", "x-api-key: k-secret", "accept: text/plain"] {
        assert!(head.lines().any(|found| found == line), "{line} missing in {head}");
    }
    let certificate = response.certificate.unwrap();
    assert!((30..=31).contains(&certificate.days_left), "{certificate:?}");
    assert_eq!(certificate.names, ["localhost", "127.0.0.1"]);
    assert_eq!(certificate.issuer, "CN=shakedown test authority");
    assert_eq!(certificate.version, "TLSv1.3");
    assert_eq!(certificate.alpn.as_deref(), Some("http/1.1"));

    // The entry without a port stands for every other port.
    assert_eq!(get("https://localhost/").await.result.unwrap_err(), Fault::Refused);
}

#[tokio::test]
async fn a_body_is_sent_and_its_type_with_it() {
    let peer = Peer::start(Script::new([Act::EchoHead])).await;
    let ctx = ctx("", &[]);
    let url = format!("http://127.0.0.1:{}/login", peer.port());
    let request = http::Request::post(url, "application/json", "{}").header("x", "y");
    let lease = lease(&ctx, resource::HTTP_CONNECTION).await;
    let response = http::send(&ctx, lease, &request).await.result.unwrap();
    let head = String::from_utf8(response.body).unwrap();
    assert!(head.starts_with("POST /login HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("content-type: application/json\r\n"), "{head}");
    assert!(head.contains("content-length: 2\r\n"), "{head}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_told_before_anybody_is_called() {
    let peer = Peer::start(Script::silent()).await;
    let ctx = ctx("", &[]);
    let port = peer.port();
    let good = format!("http://127.0.0.1:{port}/");
    let cases = [
        (format!("ftp://127.0.0.1:{port}/"), ("x", "y"), "scheme"),
        (format!("http://user:pass@127.0.0.1:{port}/"), ("x", "y"), "credentials"),
        ("/path".into(), ("x", "y"), "no host"),
        ("http://a b/".into(), ("x", "y"), "not a URL"),
        (good.clone(), ("a b", "y"), "header `a b`"),
        (good, ("x", "secret\r\ninjected: z"), "header `x`"),
    ];
    for (url, header, expected) in cases {
        let lease = lease(&ctx, resource::HTTP_CONNECTION).await;
        let climb = http::get(&ctx, lease, &url, &[header]).await;
        assert_eq!(rungs(&climb), ["http"]);
        let Err(Fault::Protocol { message }) = climb.result else { panic!("{url}") };
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains("secret"), "{message}");
        assert_eq!(in_use(&ctx, &resource::HTTP_CONNECTION), 0);
    }
    assert_eq!(peer.connections(), 0);
}

#[test]
fn a_request_does_not_show_its_secrets() {
    let request = http::Request::get("https://host/path?token=hush").header("X-API-Key", "hush");
    let shown = format!("{request:?}");
    assert!(shown.contains("X-API-Key") && shown.contains("/path"), "{shown}");
    assert!(!shown.contains("hush"), "{shown}");
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    let script =
        Script::new([Act::ReadHead, Act::Send(head.into()), Act::Flood(chunk.into_bytes())]);
    let peer = Peer::start(script).await;
    let ctx = ctx("", &[]);
    let url = format!("http://127.0.0.1:{}/", peer.port());
    let climb = http::get(&ctx, lease(&ctx, resource::HTTP_CONNECTION).await, &url, &[]).await;
    let Err(Fault::TooLarge { bytes, cap }) = climb.result else { panic!("{:?}", climb.result) };
    assert_eq!(cap, http::BODY_CAP_BYTES);
    assert!(bytes > cap && bytes < 2 * cap, "{bytes}");
}

#[tokio::test]
async fn bare_connections_say_who_is_there() {
    let (authority, folder) = (Authority::new(), tempfile::tempdir().unwrap());
    // Closes when we do: reads one byte that never comes.
    let peer = Peer::start(Script::close_after(0)).await;
    let secure = Script::close_after(0).over_tls(authority.server(Identity::Good));
    let secure = Peer::start(secure).await;
    let ctx = trusting(&authority, &folder, &[]);

    let climb =
        net::tcp(&ctx, lease(&ctx, resource::HTTP_CONNECTION).await, "127.0.0.1", peer.port());
    let climb = climb.await;
    assert_eq!(rungs(&climb), ["resolve", "connect"]);
    let tcp = climb.result.unwrap();
    assert_eq!(tcp.address, peer.address());
    assert!(tcp.close().await);

    let climb =
        net::tls(&ctx, lease(&ctx, resource::HTTP_CONNECTION).await, "localhost", secure.port());
    let climb = climb.await;
    assert_eq!(rungs(&climb), ["resolve", "connect", "tls"]);
    let tls = climb.result.unwrap();
    assert_eq!(tls.certificate.names, ["localhost", "127.0.0.1"]);
    assert!(tls.close().await);
    assert_eq!(in_use(&ctx, &resource::HTTP_CONNECTION), 0);
}

#[tokio::test]
async fn a_name_that_has_no_address() {
    let ctx = ctx("", &[]);
    let lease = lease(&ctx, resource::HTTP_CONNECTION).await;
    // Never looked up: a label of 64 characters is refused by the resolver itself.
    let name = "x".repeat(64);
    let climb = net::tcp(&ctx, lease, &name, 443).await;
    assert_eq!(rungs(&climb), ["resolve"]);
    assert_eq!(climb.result.unwrap_err().code(), "resolve");
    assert_eq!(in_use(&ctx, &resource::HTTP_CONNECTION), 0);
}

#[tokio::test]
async fn a_websocket_is_opened_read_and_closed() {
    let frames = [&[0x81, 5][..], b"hello", &[0x89, 0], &[0x82, 2, 7, 8]].concat();
    let script = Script::new([Act::Upgrade, Act::Send(frames), Act::Read(1)]);
    let peer = Peer::start(script).await;
    let ctx = ctx("", &[]);
    let url = format!("ws://127.0.0.1:{}/ws", peer.port());
    let headers = [("sec-websocket-protocol", "jwt-auth, other")];
    let climb = ws::upgrade(&ctx, lease(&ctx, resource::WEBSOCKET).await, &url, &headers).await;
    assert_eq!(rungs(&climb), ["resolve", "connect", "upgrade"]);
    let mut socket = climb.result.unwrap();
    assert_eq!(socket.subprotocol(), Some("jwt-auth"));
    assert_eq!(socket.next_message(SECOND).await, Ok(Message::Text("hello".into())));
    assert_eq!(socket.next_message(SECOND).await, Ok(Message::Binary(vec![7, 8])));
    assert_eq!(in_use(&ctx, &resource::WEBSOCKET), 1);
    // The peer closes when it has read a byte: the pong, or this.
    socket.send_text("hi").await.unwrap();
    let step = socket.close().await;
    assert_eq!((step.rung.as_str(), step.fault), ("close", None));
    assert_eq!(in_use(&ctx, &resource::WEBSOCKET), 0);
}

#[tokio::test]
async fn a_websocket_that_the_server_closes_says_why() {
    let close = [&[0x88, 8, 0x03, 0xf0][..], b"policy"].concat();
    let peer = Peer::start(Script::new([Act::Upgrade, Act::Send(close), Act::Hold])).await;
    let ctx = ctx("", &[]);
    let url = format!("ws://127.0.0.1:{}/", peer.port());
    let climb = ws::upgrade(&ctx, lease(&ctx, resource::WEBSOCKET).await, &url, &[]).await;
    let fault = climb.result.unwrap().next_message(SECOND).await.unwrap_err();
    assert_eq!(fault, Fault::WebSocket { code: Some(1008), reason: "policy".into() });
}

#[tokio::test]
async fn an_upgrade_that_is_refused_keeps_the_servers_words() {
    let words = format!("no\u{1b}[31m {}", "x".repeat(10_000));
    let peer = Peer::start(Script::http("403 Forbidden", &words)).await;
    let ctx = ctx("", &[]);
    let url = format!("ws://127.0.0.1:{}/", peer.port());
    let climb = ws::upgrade(&ctx, lease(&ctx, resource::WEBSOCKET).await, &url, &[]).await;
    let step = climb.failed_step().unwrap();
    assert_eq!((step.rung.as_str(), &step.fault), ("upgrade", &Some(Fault::Http { status: 403 })));
    let detail = step.detail.as_deref().unwrap();
    assert!(detail.starts_with("no\\x1b[31m xxx"), "{detail}");
    assert!(detail.len() < 5000);
    assert_eq!(in_use(&ctx, &resource::WEBSOCKET), 0, "there never was a WebSocket");
}

#[tokio::test]
async fn an_upgrade_that_breaks_the_rules_is_refused() {
    let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n";
    let wrong_key = format!("{head}upgrade: websocket\r\nsec-websocket-accept: AAAA\r\n\r\n");
    let not_websocket = format!("{head}upgrade: h2c\r\n\r\n");
    let cases = [
        (Script::new([Act::ReadHead, Act::Send(wrong_key.into()), Act::Hold]), "accept key"),
        (Script::new([Act::ReadHead, Act::Send(not_websocket.into()), Act::Hold]), "not to the"),
    ];
    for (script, expected) in cases {
        let peer = Peer::start(script).await;
        let ctx = ctx("", &[]);
        let url = format!("ws://127.0.0.1:{}/", peer.port());
        let climb = ws::upgrade(&ctx, lease(&ctx, resource::WEBSOCKET).await, &url, &[]).await;
        let Err(Fault::WebSocket { code: None, reason }) = climb.result else {
            panic!("{:?}", climb.result)
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[tokio::test]
async fn the_rate_of_new_connections_is_kept_and_its_wait_is_in_no_limit() {
    let peer = Peer::start(Script::http("200 OK", "")).await;
    let ctx = ctx("[safety]\nconnection_rate = \"1/s\"\nconnect_timeout = \"700ms\"\n", &[]);
    let url = format!("http://127.0.0.1:{}/", peer.port());
    let began = shakedown_core::clock::now();
    for _ in 0..2 {
        let lease = lease(&ctx, resource::HTTP_CONNECTION).await;
        http::get(&ctx, lease, &url, &[]).await.result.unwrap();
    }
    assert!(began.elapsed() >= SECOND, "the second waits until the first is a second ago");
    assert_eq!(peer.connections(), 2);
}

#[test]
fn a_wire_that_cannot_be_made_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    let cases = [
        (format!("[tls]\nca_file = '{}'\n", empty.display()), "tls.ca_file"),
        ("[tls]\nca_file = '/nonexistent/ca.pem'\n".into(), "tls.ca_file"),
        ("[network.resolve]\n\"a.b\" = \"elsewhere\"\n".into(), "network.resolve.\"a.b\""),
    ];
    for (toml, key) in cases {
        let error = Wire::of(&ctx(&toml, &[])).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}
