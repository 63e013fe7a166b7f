//! What the backend answers, once its start-up is over.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::App;
use super::config::Defect;
use super::log::Level;
use super::python::DatabaseError;
use super::startup::{Progress, State};
use super::ws::{Trouble, WebSockets};
use crate::services::pages::{Answer, detail, json as document, not_allowed};

/// A start-up that lasts longer is called too long.
const TOO_LONG: Duration = Duration::from_secs(300);
/// Time between two pings of a WebSocket, as the observed application has it.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How long an agent takes to answer.
const THINKING: Duration = Duration::from_secs(5);

/// What requests are answered from.
#[derive(Debug)]
struct Handler {
    app: Arc<App>,
    /// `None` without a secret: nobody can be let in.
    sockets: Option<Arc<WebSockets>>,
}

/// Answers until the process ends. Whatever was connected before was waiting in the backlog.
///
/// # Errors
/// A duration that cannot be read.
pub(super) async fn serve(
    app: Arc<App>,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<Infallible, String> {
    let variables = &app.config.variables;
    let heartbeat = variables.span("LAB_HEARTBEAT", HEARTBEAT)?;
    let thinking = variables.span("LAB_THINKING", THINKING)?;
    let log = app.log.clone();
    let words: super::ws::Log = Arc::new(move |severity, message| {
        let level = if severity == "ERROR" { Level::Error } else { Level::Info };
        log.entry(level, "netra_backend.app.routes.websocket", message, None);
    });
    let sockets = app
        .config
        .jwt_secret
        .as_ref()
        .map(|secret| Arc::new(WebSockets::new(secret, heartbeat, thinking, shutdown, words)));
    let handler = Arc::new(Handler { app, sockets });
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let handler = Arc::clone(&handler);
        let service = hyper::service::service_fn(move |request| {
            let handler = Arc::clone(&handler);
            async move { Ok::<_, Infallible>(handler.logged(request, peer).await) }
        });
        tokio::spawn(async move {
            // An error is the client's to see.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades()
                .await;
        });
    }
}

impl Handler {
    /// The answer, with the access line uvicorn writes about it.
    async fn logged(&self, request: Request<Incoming>, peer: SocketAddr) -> Answer {
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let answer = self.answer(request).await;
        let status = answer.status().as_u16();
        self.app.log.line(&format!("{peer} - \"{method} {path} HTTP/1.1\" {status}"));
        answer
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let app = &self.app;
        let path = request.uri().path().trim_end_matches('/').to_owned();
        if !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
            return not_allowed("GET, HEAD, OPTIONS");
        }
        let progress = app.progress(|progress| progress.clone());
        let held_up = unhealthy(&progress);
        match (path.as_str(), held_up) {
            ("", _) => document(StatusCode::OK, &json!({ "service": "backend" })),
            ("/health/live", _) => document(StatusCode::OK, &self.basic("healthy")),
            ("/health", Some(body)) => document(StatusCode::SERVICE_UNAVAILABLE, &body),
            ("/health", None) => document(StatusCode::OK, &self.basic("healthy")),
            ("/health/ready", Some(mut body)) => {
                let message =
                    format!("{} - not ready", body["message"].as_str().unwrap_or_default());
                body["message"] = message.into();
                document(StatusCode::SERVICE_UNAVAILABLE, &body)
            }
            ("/health/ready", None) => self.ready(&progress).await,
            ("/health/startup", held_up) => self.startup(&progress, held_up.is_none()).await,
            ("/health/backend", held_up) => self.capabilities(&progress, held_up.is_none()).await,
            ("/api/threads", Some(_)) => {
                detail(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable")
            }
            ("/ws", held_up) => self.websocket(request, held_up.is_none()),
            ("/api/threads", None) => self.threads().await,
            _ => detail(StatusCode::NOT_FOUND, "Not Found"),
        }
    }

    fn basic(&self, status: &str) -> Value {
        json!({
            "status": status,
            "service": "backend-service",
            "version": env!("CARGO_PKG_VERSION"),
            "environment": self.app.config.environment,
            "timestamp": shakedown_core::clock::wall().to_string(),
        })
    }

    fn websocket(&self, request: Request<Incoming>, ready: bool) -> Answer {
        let Some(sockets) = &self.sockets else {
            self.app
                .log
                .error("netra_backend.app.routes.websocket", "JWT_SECRET_KEY not configured");
            return detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        };
        let manager = self.app.config.faults.defect == Some(Defect::WebsocketManager);
        let trouble = match (ready, manager) {
            (false, _) => Some(Trouble::NotReady),
            (true, true) => {
                let message = "WebSocket manager creation failed: 'NoneType' object has no attribute 'create_manager'";
                self.app.log.error("netra_backend.app.websocket_core.factory", message);
                Some(Trouble::Manager)
            }
            (true, false) => None,
        };
        let (answer, conversation) = sockets.answer(request, trouble);
        if let Some(conversation) = conversation {
            tokio::spawn(conversation);
        }
        answer
    }

    /// Whether the database answers within the readiness limit.
    async fn database(&self) -> Result<(), DatabaseError> {
        let limit = self.app.config.limits.readiness;
        let asked = self.app.count("select 1::bigint");
        timeout(limit, asked).await.unwrap_or(Err(DatabaseError::Timeout)).map(drop)
    }

    async fn ready(&self, progress: &Progress) -> Answer {
        if let Err(error) = self.database().await {
            let message = format!("Core database unavailable: {error}");
            self.app.log.error("netra_backend.app.routes.health", &message);
            return detail(StatusCode::SERVICE_UNAVAILABLE, "Core database unavailable");
        }
        let redis = if progress.cache { "connected" } else { "skipped_optional" };
        let body = json!({
            "status": "ready",
            "service": "netra-ai-platform",
            "timestamp": shakedown_core::clock::wall().to_string(),
            "environment": self.app.config.environment,
            "core_db": "connected",
            "clickhouse_db": "skipped_optional",
            "redis_db": redis,
            "websocket_readiness": { "ready": true },
            "details": {},
        });
        document(StatusCode::OK, &body)
    }

    async fn startup(&self, progress: &Progress, complete: bool) -> Answer {
        let database = self.database().await.is_ok();
        let word = |ready: bool| json!({ "status": if ready { "ready" } else { "not_ready" } });
        let ready = complete && database;
        let body = json!({
            "status": if ready { "ready" } else { "not_ready" },
            "message": if ready { "All checks passed" } else { "Some checks did not pass" },
            "checks": {
                "database": word(database),
                "redis": word(progress.cache),
                "websocket": word(complete),
                "startup_module": { "status": "unknown" },
            },
            "version": "1.0.0",
        });
        let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        document(status, &body)
    }

    async fn capabilities(&self, progress: &Progress, complete: bool) -> Answer {
        let database = self.database().await.is_ok();
        let mut degraded = Vec::new();
        if !progress.cache {
            degraded.push(json!({
                "service": "redis", "status": "unavailable", "mode": "degraded",
                "message": "continuing without cache",
            }));
        }
        let path = complete && database;
        let body = json!({
            "service": "backend-service",
            "status": if path { "healthy" } else { "degraded" },
            "environment": self.app.config.environment,
            "capabilities": {
                "agent_execution": complete,
                "tool_system": complete,
                "llm_integration": complete,
                "websocket_integration": complete && self.sockets.is_some(),
                "database_connectivity": database,
            },
            "service_criticality": { "database": "critical", "redis": "optional" },
            "degraded_services": degraded,
            "golden_path_ready": path,
        });
        document(StatusCode::OK, &body)
    }

    /// A route that needs the database: how many threads there are.
    async fn threads(&self) -> Answer {
        match self.app.count("select count(*) from threads").await {
            Ok(threads) => document(StatusCode::OK, &json!({ "total": threads })),
            Err(error) => {
                let message = format!("Error in request-scoped session: {error}");
                self.app.log.error("netra_backend.app.dependencies", &message);
                detail(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
            }
        }
    }
}

/// What a health check says while or because the start-up is not complete.
fn unhealthy(progress: &Progress) -> Option<Value> {
    match &progress.state {
        State::Complete => None,
        State::Failed(error) => Some(json!({
            "status": "unhealthy",
            "message": format!("Startup failed: {error}"),
            "startup_failed": true,
        })),
        State::InProgress if progress.began.elapsed() > TOO_LONG => Some(json!({
            "status": "unhealthy",
            "message": "Startup taking too long - possible timeout",
            "startup_duration": progress.began.elapsed().as_secs(),
        })),
        State::InProgress => Some(json!({
            "status": "unhealthy",
            "message": "Startup in progress",
            "startup_in_progress": true,
            "details": {
                "phase": progress.phase.name().to_lowercase(),
                "progress": progress.completed.len(),
            },
        })),
    }
}
