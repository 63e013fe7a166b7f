//! What stands behind the load balancer, as a plain client sees it.

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{options, scenario, tmp};
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use shakedown_lab::{Lab, LabOptions, Scenario};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

const AUTH: &str = "auth.lab.shakedown.test";
const BACKEND: &str = "backend.lab.shakedown.test";

type Stream = TlsStream<tokio::net::TcpStream>;

async fn lab(tmp: &Path, scenario: Scenario) -> Lab {
    let options = LabOptions { application: true, ..options(tmp, scenario, 10) };
    Lab::start(&options).await.unwrap()
}

fn secret(lab: &Lab, name: &str) -> String {
    std::fs::read_to_string(lab.dir().join("secrets").join(name)).unwrap()
}

async fn tls(lab: &Lab, name: &'static str) -> std::io::Result<Stream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(lab.dir().join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpSocket::new_v4().unwrap().connect(lab.addresses().load_balancer).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await
}

async fn ask(
    lab: &Lab,
    method: &str,
    name: &'static str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> (u16, String) {
    let stream = TokioIo::new(tls(lab, name).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::builder().method(method).uri(path).header("host", name);
    let request =
        headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let answer =
        sender.send_request(request.body(Full::<Bytes>::from(body)).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(lab: &Lab, method: &str, name: &'static str, path: &str) -> (u16, String) {
    ask(lab, method, name, path, &[], String::new()).await
}

async fn post(lab: &Lab, path: &str, body: Value) -> (u16, Value) {
    let (status, body) = ask(lab, "POST", AUTH, path, &[], body.to_string()).await;
    (status, serde_json::from_str(&body).unwrap_or_default())
}

/// A token of the test user.
async fn login(lab: &Lab) -> Value {
    let login = json!({ "email": secret(lab, "user"), "password": secret(lab, "password") });
    let (status, tokens) = post(lab, "/auth/login", login).await;
    assert_eq!(status, 200, "{tokens}");
    tokens
}

async fn websocket(lab: &Lab, token: Option<&str>) -> Result<WebSocketStream<Stream>, u16> {
    let stream = tls(lab, BACKEND).await.unwrap();
    let mut request = format!("wss://{BACKEND}/ws").into_client_request().unwrap();
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
    }
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn heard(socket: &mut WebSocketStream<Stream>) -> Value {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The code of the close frame that comes next.
async fn closed(socket: &mut WebSocketStream<Stream>) -> u16 {
    loop {
        match socket.next().await.unwrap().unwrap() {
            Message::Close(frame) => return frame.unwrap().code.into(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_healthy_lab_serves() {
    let tmp = tmp();
    let lab = lab(tmp.path(), Scenario::healthy()).await;
    pages(&lab).await;
    tokens(&lab).await;
    conversation(&lab).await;
    closes(&lab).await;
    lab.stop().await.unwrap();
}

async fn pages(lab: &Lab) {
    for name in [BACKEND, "api.lab.shakedown.test", AUTH, "lab.shakedown.test"] {
        let (status, body) = get(lab, "GET", name, "/health").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["status"]), (200, &"healthy".into()), "{name}");
    }
    assert_eq!(get(lab, "HEAD", AUTH, "/health").await, (200, String::new()));
    assert_eq!(get(lab, "HEAD", BACKEND, "/health").await, (200, String::new()));
    assert!(get(lab, "GET", "lab.shakedown.test", "/").await.1.starts_with("<!doctype html>"));
    assert_eq!(get(lab, "GET", "lab.shakedown.test", "/ws").await.0, 404);
    assert_eq!(get(lab, "GET", BACKEND, "/ws").await.0, 404, "a plain request for a WebSocket");
    assert_eq!(get(lab, "GET", BACKEND, "/nothing").await.0, 404);
    assert_eq!(get(lab, "POST", BACKEND, "/health").await.0, 405);
    let error = tls(lab, "other.shakedown.test").await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

async fn tokens(lab: &Lab) {
    let tokens = login(lab).await;
    let wrong = json!({ "email": secret(lab, "user"), "password": "wrong" });
    assert_eq!(post(lab, "/auth/login", wrong).await.0, 401);
    assert_eq!(post(lab, "/auth/login", json!({ "email": "x" })).await.0, 422);
    assert_eq!(get(lab, "GET", AUTH, "/auth/login").await.0, 405);
    let refresh = json!({ "refresh_token": tokens["refresh_token"] });
    let (status, refreshed) = post(lab, "/auth/refresh", refresh).await;
    assert_eq!(status, 200);
    let access = json!({ "refresh_token": tokens["access_token"] });
    assert_eq!(
        post(lab, "/auth/refresh", access).await.0,
        401,
        "an access token refreshes nothing"
    );
    let asked = json!({ "token": refreshed["access_token"] }).to_string();
    let (id, proof) = (secret(lab, "service-id"), secret(lab, "service-secret"));
    for (headers, expected) in [
        (vec![("x-service-id", id.as_str()), ("x-service-secret", &proof)], 200),
        (vec![("x-service-id", id.as_str()), ("x-service-secret", "wrong")], 403),
        (vec![("x-service-id", "other"), ("x-service-secret", &proof)], 403),
        (vec![], 403),
    ] {
        let (status, body) =
            ask(lab, "POST", AUTH, "/auth/validate", &headers, asked.clone()).await;
        assert_eq!(status, expected, "{headers:?}: {body}");
    }
}

async fn conversation(lab: &Lab) {
    let tokens = login(lab).await;
    let mut socket = websocket(lab, tokens["access_token"].as_str()).await.unwrap();
    let greeting = heard(&mut socket).await;
    assert_eq!(greeting["type"], "connection_established");
    socket.send(Message::Ping("x".into())).await.unwrap();
    let message = json!({ "type": "user_message", "text": "hello", "thread_id": "t-1" });
    socket.send(Message::text(message.to_string())).await.unwrap();
    let mut kinds = Vec::new();
    loop {
        let said = heard(&mut socket).await;
        assert_eq!(said["thread_id"], "t-1");
        let kind = said["type"].as_str().unwrap().to_owned();
        kinds.push(kind.clone());
        if kind == "agent_response" {
            break;
        }
    }
    let events: Vec<_> = greeting["golden_path_events"].as_array().unwrap().iter().collect();
    assert_eq!(kinds.iter().take(5).collect::<Vec<_>>(), events);
    socket.close(None).await.unwrap();
    while let Some(message) = socket.next().await {
        assert!(
            matches!(message, Ok(Message::Close(_)) | Err(Error::ConnectionClosed)),
            "{message:?}"
        );
    }
}

async fn closes(lab: &Lab) {
    assert_eq!(websocket(lab, None).await.err(), Some(403));
    assert_eq!(websocket(lab, Some("nonsense")).await.err(), Some(403));
    let tokens = login(lab).await;
    let token = tokens["access_token"].as_str();
    for (message, code) in [
        (Message::text("x".repeat(8193)), 1009),
        (Message::text("x".repeat(200_000)), 1009),
        (Message::binary(vec![0; 4]), 1003),
    ] {
        let mut socket = websocket(lab, token).await.unwrap();
        heard(&mut socket).await;
        socket.send(message).await.unwrap();
        assert_eq!(closed(&mut socket).await, code);
    }
}

#[tokio::test]
async fn services_that_disagree_about_the_secret_issue_tokens_nobody_takes() {
    let tmp = tmp();
    let lab = lab(tmp.path(), scenario("[[fault]]\nkind = \"jwt-mismatch\"")).await;
    let tokens = login(&lab).await;
    assert_eq!(websocket(&lab, tokens["access_token"].as_str()).await.err(), Some(403));
    assert_eq!(get(&lab, "GET", BACKEND, "/health").await.0, 200);
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_ready_or_has_no_manager_closes_with_1011() {
    let tmp = tmp();
    let deployed = |variables: &str| {
        scenario(&format!("[[fault]]\nkind = \"deploy\"\nvariables = {variables}"))
    };
    let lab =
        lab(tmp.path(), deployed("{ LAB_DEFECT = \"services\", LAB_LIFESPAN = \"swallow\" }"));
    let lab = lab.await;
    assert_eq!(get(&lab, "GET", BACKEND, "/health").await.0, 503);
    let mut socket = websocket(&lab, None).await.unwrap();
    assert_eq!(closed(&mut socket).await, 1011);
    lab.stop().await.unwrap();

    let lab = self::lab(tmp.path(), deployed("{ LAB_DEFECT = \"websocket-manager\" }")).await;
    assert_eq!(get(&lab, "GET", BACKEND, "/health").await.0, 200);
    assert_eq!(websocket(&lab, None).await.err(), Some(403));
    let tokens = login(&lab).await;
    let mut socket = websocket(&lab, tokens["access_token"].as_str()).await.unwrap();
    assert_eq!(closed(&mut socket).await, 1011);
    lab.stop().await.unwrap();
}

#[tokio::test]
async fn an_auth_service_that_is_down_and_a_balancer_without_websockets() {
    let tmp = tmp();
    let faults = "[[fault]]\nkind = \"auth-down\"\n[[fault]]\nkind = \"websocket-blocked\"";
    let lab = lab(tmp.path(), scenario(faults)).await;
    assert_eq!(get(&lab, "GET", AUTH, "/health").await, (503, String::new()));
    assert_eq!(websocket(&lab, Some("any")).await.err(), Some(404));
    assert_eq!(get(&lab, "GET", BACKEND, "/health").await.0, 200);
    lab.stop().await.unwrap();
}
