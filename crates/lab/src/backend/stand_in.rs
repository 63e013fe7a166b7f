//! A backend without a start-up of its own: health and WebSockets, as long as the lab runs.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use super::ws::WebSockets;
use crate::error::LabError;
use crate::services::pages::{Answer, detail, json as document, not_allowed};
use crate::tasks::Tasks;

/// Starts it on a free port of 127.0.0.1.
pub(crate) async fn start(sockets: Arc<WebSockets>, tasks: &Tasks) -> Result<SocketAddr, LabError> {
    let listen = |source| LabError::Listen { what: "the backend", source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(listen)?;
    let address = listener.local_addr().map_err(listen)?;
    let clients = tasks.clone();
    tasks.spawn_vital("the backend", async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (sockets, conversations) = (Arc::clone(&sockets), clients.clone());
            let service = hyper::service::service_fn(move |request| {
                let answer = answer(request, &sockets, &conversations);
                async move { Ok::<_, Infallible>(answer) }
            });
            clients.spawn(async move {
                // An error is the client's to see.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades()
                    .await;
            });
        }
    });
    Ok(address)
}

fn answer(request: Request<Incoming>, sockets: &Arc<WebSockets>, tasks: &Tasks) -> Answer {
    let get = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path().trim_end_matches('/') {
        "/ws" if get => {
            let (answer, conversation) = sockets.answer(request);
            if let Some(conversation) = conversation {
                tasks.spawn(conversation);
            }
            answer
        }
        "" if get => document(StatusCode::OK, &json!({ "service": "backend" })),
        "/health" | "/health/live" if get => document(
            StatusCode::OK,
            &json!({
                "status": "healthy",
                "service": "backend-service",
                "version": env!("CARGO_PKG_VERSION"),
                "environment": "lab",
                "timestamp": shakedown_core::clock::wall().to_string(),
            }),
        ),
        "" | "/health" | "/health/live" | "/ws" => not_allowed("GET, HEAD"),
        _ => detail(StatusCode::NOT_FOUND, "Not Found"),
    }
}
