//! What the load balancer does with a request.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONNECTION, HOST, SEC_WEBSOCKET_PROTOCOL, UPGRADE, USER_AGENT};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use shakedown_core::clock;

use super::pages::{Answer, detail, json as document, not_allowed, page};
use super::upstream::{self, PlatformWords, wants_upgrade};
use super::{HOSTS, Service, Services};
use crate::cloudrun::log::{Origin, Seen};

/// One request, by its Host header. Unknown names get 404, as from the real load balancer.
pub(super) async fn answer(
    request: Request<Incoming>,
    services: Arc<Services>,
) -> Result<Answer, Infallible> {
    let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let Some(found) = HOSTS.iter().find(|known| known.name.eq_ignore_ascii_case(name)) else {
        return Ok(detail(StatusCode::NOT_FOUND, "no such host"));
    };
    let service = found.service;
    let mut seen = Seen {
        service: service.name(),
        method: request.method().to_string(),
        url: format!("https://{}{}", found.name, request.uri().path()),
        user_agent: text(USER_AGENT).unwrap_or_default().to_owned(),
        status: 0,
        latency: Duration::ZERO,
        words: None,
    };
    let began = clock::now();
    let answer = route(request, service, &services).await;
    seen.status = answer.status().as_u16();
    seen.latency = began.elapsed();
    seen.words = answer.extensions().get::<PlatformWords>().map(|words| words.0);
    services.log.request(Origin { service: seen.service, ..Origin::default() }, &seen);
    Ok(answer)
}

async fn route(mut request: Request<Incoming>, service: Service, services: &Services) -> Answer {
    match service {
        Service::Auth if !services.auth_is_up() => upstream::not_there(),
        Service::Auth => services.auth.answer(request).await,
        Service::Frontend => frontend(&request),
        Service::Backend => {
            if services.switches.borrow().websocket_blocked && wants_upgrade(request.headers()) {
                // A balancer that does not know WebSockets passes on a plain request.
                for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_PROTOCOL, AUTHORIZATION] {
                    request.headers_mut().remove(name);
                }
            }
            services.backend.forward(request).await
        }
    }
}

fn frontend(request: &Request<Incoming>) -> Answer {
    let path = request.uri().path().trim_end_matches('/');
    if !matches!(path, "" | "/health") {
        return detail(StatusCode::NOT_FOUND, "Not Found");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    if path == "/health" {
        let body = json!({ "status": "healthy", "service": "frontend", "environment": "lab" });
        return document(StatusCode::OK, &body);
    }
    let body = "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Lab</title></head>\
                <body><h1>Lab</h1><p>This is the lab's frontend.</p></body></html>\n";
    page(StatusCode::OK, "text/html; charset=utf-8", body.into())
}
