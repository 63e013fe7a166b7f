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

/// Passes requests on to the backend.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    /// Where it takes requests, as whoever runs it knows; `None` when there is nobody.
    pub(crate) address: watch::Receiver<Option<SocketAddr>>,
    /// How long a request waits for its answer.
    pub(crate) patience: Duration,
    /// WebSockets live here.
    pub(crate) tasks: Tasks,
}

impl Route {
    /// The backend's answer, or 503 with an empty body, as Cloud Run answers for an instance that is
    /// not there.
    pub(super) async fn forward(&self, request: Request<Incoming>) -> Answer {
        let answer = async {
            let address = *self.address.borrow();
            self.forward_to(address?, request).await
        };
        match tokio::time::timeout(self.patience, answer).await {
            Ok(Some(answer)) => answer,
            Ok(None) => empty(StatusCode::SERVICE_UNAVAILABLE),
            Err(_) => empty(StatusCode::GATEWAY_TIMEOUT),
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
