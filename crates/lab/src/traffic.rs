//! What asks the staging for something although nobody tests it: uptime checks, and a user who logs
//! in and opens a WebSocket. Without them its request log would hold a tester's requests only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE, USER_AGENT,
};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use shakedown_core::environment::TimeScale;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::error::LabError;
use crate::services::Authority;
use crate::tasks::Tasks;

/// How often each of them asks.
const EVERY: Duration = Duration::from_secs(10);
/// How long each of them waits for an answer: longer than a start-up takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// The longest answer that is read.
const MOST_BYTES: usize = 64 << 10;

const BACKEND: &str = "backend.lab.shakedown.test";
const AUTH: &str = "auth.lab.shakedown.test";
const UPTIME: &str =
    "GoogleStackdriverMonitoring-UptimeChecks(https://cloud.google.com/monitoring)";
const USER: &str = "python-httpx/0.28.1";

/// What is asked for by name and path; each a task of its own.
const CHECKS: [(&str, &str); 4] = [
    (BACKEND, "/health"),
    (BACKEND, "/health/ready"),
    (BACKEND, "/api/threads"),
    (AUTH, "/health"),
];

/// Where, and as whom.
#[derive(Debug, Clone)]
struct Client {
    load_balancer: SocketAddr,
    tls: Arc<ClientConfig>,
    user: SecretString,
    password: SecretString,
    patience: Duration,
}

/// Starts all of it.
pub(crate) fn start(
    authority: &Authority,
    load_balancer: SocketAddr,
    (user, password): (SecretString, SecretString),
    scale: TimeScale,
    tasks: &Tasks,
) -> Result<(), LabError> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| LabError::Certificates(error);
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(authority.pem().as_bytes());
    roots.add(certificate.map_err(|error| wrong(error.into()))?).map_err(|e| wrong(e.into()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let patience = scale.limit(PATIENCE);
    let client = Client { load_balancer, tls: Arc::new(tls), user, password, patience };
    let every = scale.duration(EVERY);
    for (name, path) in CHECKS {
        let client = client.clone();
        tasks.spawn(async move {
            let mut ticks = ticks(every);
            loop {
                ticks.tick().await;
                let request = request(Method::GET, name, path, UPTIME);
                client.ask(name, request.body(Full::default())).await;
            }
        });
    }
    tasks.spawn(async move {
        let mut ticks = ticks(every);
        loop {
            ticks.tick().await;
            client.visit().await;
        }
    });
    Ok(())
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

fn request(method: Method, name: &str, path: &str, agent: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path).header(HOST, name).header(USER_AGENT, agent)
}

impl Client {
    /// A user logs in and opens a WebSocket, once.
    async fn visit(&self) {
        let login = json!({
            "email": self.user.expose_secret(),
            "password": self.password.expose_secret(),
        });
        let asked = request(Method::POST, AUTH, "/auth/login", USER)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(login.to_string()));
        let Some((StatusCode::OK, answer)) = self.ask(AUTH, asked).await else { return };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let Some(token) = answer["access_token"].as_str() else { return };
        let socket = request(Method::GET, BACKEND, "/ws", USER)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Full::default());
        self.ask(BACKEND, socket).await;
    }

    /// The answer, if one comes; nobody here cares why not.
    async fn ask(
        &self,
        name: &'static str,
        request: http::Result<Request<Full<Bytes>>>,
    ) -> Option<(StatusCode, Bytes)> {
        let request = request.ok()?;
        let asked = async {
            let stream = TcpStream::connect(self.load_balancer).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            let stream = connector.connect(ServerName::try_from(name).ok()?, stream).await.ok()?;
            let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
            let answered = async {
                let (head, body) = sender.send_request(request).await.ok()?.into_parts();
                // An upgraded connection has no body, and ends here.
                let body = if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    Bytes::new()
                } else {
                    Limited::new(body, MOST_BYTES).collect().await.ok()?.to_bytes()
                };
                Some((head.status, body))
            };
            let mut answered = std::pin::pin!(answered);
            tokio::select! {
                answer = &mut answered => answer,
                _ = connection => answered.await,
            }
        };
        tokio::time::timeout(self.patience, asked).await.ok().flatten()
    }
}
