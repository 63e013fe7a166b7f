//! From the load balancer to a service in a process of its own.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::pages::{Answer, empty};
use crate::tasks::Tasks;

/// The longest answer that is passed on.
const MOST_BYTES: usize = 1 << 20;

/// Where the backend is, as whoever runs it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Upstream {
    /// It takes requests here.
    Serving(SocketAddr),
    /// An instance is being started: requests wait for it.
    Starting,
    /// There is none.
    Gone,
}

/// What the platform says in the log about a request that it answered itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlatformWords(pub(crate) &'static str);

const BROKEN: &str = "The request failed because either the HTTP response was malformed or connection to the instance had an error. Additional troubleshooting documentation can be found at: https://cloud.google.com/run/docs/troubleshooting#malformed-response-or-connection-error";
const NO_INSTANCE: &str = "The request failed because the instance could not start successfully.";

/// The answer for a service without an instance.
pub(super) fn not_there() -> Answer {
    platform(NO_INSTANCE)
}

fn platform(words: &'static str) -> Answer {
    let mut answer = empty(StatusCode::SERVICE_UNAVAILABLE);
    answer.extensions_mut().insert(PlatformWords(words));
    answer
}

/// Passes requests on to the backend.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Where it is.
    pub(crate) upstream: watch::Receiver<Upstream>,
    /// How long a request waits for an instance that is being started, and for its answer.
    pub(crate) patience: Duration,
    /// WebSockets live here.
    pub(crate) tasks: Tasks,
}

impl Route {
    /// The backend's answer, or 503 with an empty body, as Cloud Run answers for an instance that is
    /// not there.
    pub(super) async fn forward(&self, request: Request<Incoming>) -> Answer {
        let answer = async {
            let Some(address) = self.address().await else { return platform(NO_INSTANCE) };
            self.forward_to(address, request).await.unwrap_or_else(|| platform(BROKEN))
        };
        let answer = tokio::time::timeout(self.patience, answer).await;
        answer.unwrap_or_else(|_| empty(StatusCode::GATEWAY_TIMEOUT))
    }

    async fn address(&self) -> Option<SocketAddr> {
        let mut upstream = self.upstream.clone();
        let settled = upstream.wait_for(|upstream| *upstream != Upstream::Starting).await.ok()?;
        match *settled {
            Upstream::Serving(address) => Some(address),
            Upstream::Starting | Upstream::Gone => None,
        }
    }

    async fn forward_to(
        &self,
        address: SocketAddr,
        mut request: Request<Incoming>,
    ) -> Option<Answer> {
        let stream = TcpStream::connect(address).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = connection.with_upgrades();
        // Its error reaches the sender.
        self.tasks.spawn(async move { drop(connection.await) });
        let ours = wants_upgrade(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let headers = request.headers_mut();
        headers.insert("via", HeaderValue::from_static("1.1 google"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        let mut response = sender.send_request(request).await.ok()?;
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(ours) = ours
        {
            let theirs = hyper::upgrade::on(&mut response);
            self.tasks.spawn(async move {
                let Ok((ours, theirs)) = tokio::try_join!(ours, theirs) else { return };
                let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                // Either end closes or breaks; both are then told by the drop.
                let _ = tokio::io::copy_bidirectional(&mut ours, &mut theirs).await;
            });
            let (head, _) = response.into_parts();
            return Some(Response::from_parts(head, Full::default()));
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MOST_BYTES).collect().await.ok()?.to_bytes();
        Some(Response::from_parts(head, Full::new(body)))
    }
}

/// Whether a request asks for a WebSocket.
pub(crate) fn wants_upgrade(headers: &HeaderMap) -> bool {
    says(headers, &CONNECTION, "upgrade") && says(headers, &UPGRADE, "websocket")
}

/// Whether a list header has this word.
pub(crate) fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}
