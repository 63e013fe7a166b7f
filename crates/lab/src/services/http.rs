//! What the services answer.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{HOSTS, Service};
use crate::tasks::Tasks;

/// The observed application's own limit.
const MAX_MESSAGE_BYTES: usize = 8192;

type Answer = Response<Full<Bytes>>;

/// One request. Unknown names and paths get 404, as from the real load balancer.
pub(super) async fn answer(
    request: Request<Incoming>,
    websockets: Tasks,
) -> Result<Answer, Infallible> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let Some(found) = HOSTS.iter().find(|known| known.name.eq_ignore_ascii_case(name)) else {
        return Ok(status(StatusCode::NOT_FOUND, json!({ "detail": "no such host" })));
    };
    let service = found.service;
    let page = match request.uri().path().trim_end_matches('/') {
        "" => Page::Root,
        "/health" | "/health/live" => Page::Health,
        "/ws" if service.has_websocket() => Page::WebSocket,
        _ => return Ok(status(StatusCode::NOT_FOUND, json!({ "detail": "Not Found" }))),
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let detail = json!({ "detail": "Method Not Allowed" });
        let mut answer = status(StatusCode::METHOD_NOT_ALLOWED, detail);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(answer);
    }
    Ok(match page {
        Page::Root if service == Service::Frontend => frontend(),
        Page::Root => status(StatusCode::OK, json!({ "service": service.name() })),
        Page::Health => status(StatusCode::OK, health(service)),
        Page::WebSocket => upgrade(request, &websockets),
    })
}

enum Page {
    Root,
    Health,
    WebSocket,
}

fn health(service: Service) -> serde_json::Value {
    match service {
        Service::Backend => json!({
            "status": "healthy",
            "service": "backend-service",
            "version": env!("CARGO_PKG_VERSION"),
            "environment": "lab",
            "timestamp": shakedown_core::clock::wall().to_string(),
        }),
        Service::Auth => json!({ "status": "healthy", "redis": "disabled (lab)" }),
        Service::Frontend => {
            json!({ "status": "healthy", "service": "frontend", "environment": "lab" })
        }
    }
}

fn status(status: StatusCode, body: serde_json::Value) -> Answer {
    with_type(status, "application/json", body.to_string())
}

fn frontend() -> Answer {
    let body = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Lab</title></head>\
                <body><h1>Lab</h1><p>This is the lab's frontend.</p></body></html>\n";
    with_type(StatusCode::OK, "text/html; charset=utf-8", body.into())
}

fn with_type(status: StatusCode, content_type: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// Switches to a WebSocket that sends back every text and binary message and answers pings.
fn upgrade(mut request: Request<Incoming>, websockets: &Tasks) -> Answer {
    let headers = request.headers();
    let says = |name, word: &str| {
        let value = headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let asked = says(CONNECTION, "upgrade")
        && says(UPGRADE, "websocket")
        && says(SEC_WEBSOCKET_VERSION, "13");
    let Some(key) = headers.get(SEC_WEBSOCKET_KEY).filter(|_| asked) else {
        let mut answer = status(
            StatusCode::UPGRADE_REQUIRED,
            json!({ "detail": "WebSocket version 13 expected" }),
        );
        answer.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return answer;
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = hyper::upgrade::on(&mut request);
    websockets.spawn(async move {
        if let Ok(stream) = upgraded.await {
            echo(TokioIo::new(stream)).await;
        }
    });
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        SEC_WEBSOCKET_ACCEPT,
        HeaderValue::from_str(&accept).expect("base64 is a header value"),
    );
    answer
}

async fn echo(stream: TokioIo<hyper::upgrade::Upgraded>) {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MAX_MESSAGE_BYTES);
    config.max_frame_size = Some(MAX_MESSAGE_BYTES);
    config.read_buffer_size = MAX_MESSAGE_BYTES;
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await;
    // Pings and the closing handshake are answered by the library while we read.
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
    // TLS wants to be told, too; a client that is gone already does not care.
    let _ = socket.into_inner().shutdown().await;
}
