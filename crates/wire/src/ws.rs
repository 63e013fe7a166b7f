//! WebSockets: the upgrade as a rung, then bounded messages.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use shakedown_core::clock;
use shakedown_core::id::resource;
use shakedown_core::{Fault, Lease, ProbeCtx, Span, Step};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Error};

use crate::bounds::Bounds;
use crate::climb::{CLOSE_LIMIT, Climb, Ladder, quoted};
use crate::http::{Exchange, Peer, Prepared, Request, dial, with_parts};
use crate::net::give_up;
use crate::tls::{self, CertificateInfo};
use crate::transport::Transport;

/// The longest message that is accepted.
pub const MESSAGE_CAP_BYTES: usize = 1 << 20;

/// How much of the body of a refusal is kept.
const REFUSAL_CAP: u64 = 4 << 10;

/// What came through a WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

/// An open WebSocket with its lease. Dropping it closes the socket at once and lets the lease
/// linger; prefer [`close`](WebSocket::close).
#[derive(Debug)]
pub struct WebSocket {
    stream: WebSocketStream<Transport>,
    lease: Lease,
    bounds: Bounds,
    limit: Duration,
    subprotocol: Option<String>,
    address: SocketAddr,
    certificate: Option<CertificateInfo>,
}

/// Opens the WebSocket at `url` (`ws` or `wss`): [`open`] with [`Request::get`].
///
/// # Errors
///
/// As [`open`].
///
/// # Panics
///
/// As [`open`].
///
/// # Cancel safety
///
/// As [`open`].
pub async fn upgrade(
    ctx: &ProbeCtx,
    lease: Lease,
    url: &str,
    headers: &[(&str, &str)],
) -> Climb<WebSocket> {
    let request = headers
        .iter()
        .fold(Request::get(url), |request, (name, value)| request.header(name, value));
    open(ctx, lease, &request).await
}

/// Opens a WebSocket. Rungs `resolve`, `connect`, `tls` (wss) and `upgrade`, within the request's
/// limit and `safety.connect_timeout` in all. Subprotocols are asked for with the header
/// `Sec-WebSocket-Protocol`.
///
/// # Errors
///
/// The fault of the last step. An answer that is not 101 is [`Fault::Http`] with its status, and the
/// step's detail then holds the first 4 KiB of its body; a handshake that breaks the rules,
/// a subprotocol that was not asked for, or none where one was, is [`Fault::WebSocket`].
///
/// # Panics
///
/// When the lease is not for a [`WEBSOCKET`](shakedown_core::id::resource::WEBSOCKET).
///
/// # Cancel safety
///
/// When dropped, the socket closes and the lease lingers.
pub async fn open(ctx: &ProbeCtx, lease: Lease, request: &Request) -> Climb<WebSocket> {
    assert_eq!(lease.kind(), &resource::WEBSOCKET, "the lease of a WebSocket");
    let mut ladder = Ladder::new(ctx, request.limit);
    match climb(&mut ladder, &lease, request).await {
        Ok((stream, subprotocol, peer)) => {
            let socket = WebSocket {
                stream,
                lease,
                bounds: Bounds::of(ctx),
                limit: ladder.limit(),
                subprotocol,
                address: peer.address,
                certificate: peer.certificate,
            };
            ladder.end(Ok(socket))
        }
        Err(fault) if matches!(fault, Fault::Http { .. }) => {
            // Refused: there never was a WebSocket.
            lease.settle();
            ladder.end(Err(fault))
        }
        Err(fault) => give_up(ladder, lease, fault),
    }
}

type Upgraded = (WebSocketStream<Transport>, Option<String>);

async fn climb(
    ladder: &mut Ladder<'_>,
    lease: &Lease,
    request: &Request,
) -> Result<(WebSocketStream<Transport>, Option<String>, Peer), Fault> {
    let prepared = request.prepare().map_err(|fault| ladder.book("upgrade", fault))?;
    let (prepared, asked) = ask(prepared);
    let (transport, peer) = dial(ladder, lease, &prepared).await?;
    let deadline = ladder.deadline();
    let mut refusal = None;
    let work = async {
        let mut exchange = Exchange::start(transport, prepared.request).await?;
        if exchange.head.status != StatusCode::SWITCHING_PROTOCOLS {
            // The status is the news; its words are worth half of the time left, at most.
            let half = deadline.saturating_duration_since(clock::now()) / 2;
            let body = tokio::time::timeout(half, exchange.beginning(REFUSAL_CAP));
            refusal = body.await.ok().filter(|body| !body.is_empty());
            return Err(Fault::Http { status: exchange.head.status.as_u16() });
        }
        let subprotocol = accepted(&exchange.head.headers, &asked)?;
        let detail = subprotocol.clone();
        let (_, watched, read) = with_parts(exchange);
        let stream = WebSocketStream::from_partially_read(
            watched.transport,
            read.to_vec(),
            Role::Client,
            Some(config()),
        );
        Ok(((stream.await, subprotocol), detail))
    };
    let upgraded: Result<Upgraded, Fault> = ladder.rung("upgrade", work).await;
    if let (Some(step), Some(body)) = (ladder.steps.last_mut(), refusal) {
        step.detail = Some(quoted(&String::from_utf8_lossy(&body), REFUSAL_CAP as usize));
    }
    upgraded.map(|(stream, subprotocol)| (stream, subprotocol, peer))
}

/// What the server must answer to.
struct Asked {
    accept: String,
    subprotocols: Vec<String>,
}

fn ask(mut prepared: Prepared) -> (Prepared, Asked) {
    let headers = prepared.request.headers_mut();
    let offered = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let subprotocols = offered.unwrap_or_default().split(',').map(str::trim);
    let subprotocols = subprotocols.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let key = generate_key();
    let asked = Asked { accept: derive_accept_key(key.as_bytes()), subprotocols };
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    let key = HeaderValue::from_str(&key).expect("base64 can be sent");
    headers.insert(SEC_WEBSOCKET_KEY, key);
    (prepared, asked)
}

/// Checks the server's side of the handshake; the subprotocol it chose.
fn accepted(headers: &HeaderMap, asked: &Asked) -> Result<Option<String>, Fault> {
    let refused = |reason: &str| Fault::WebSocket { code: None, reason: reason.to_owned() };
    let has = |name: HeaderName, token: &str| {
        let values = headers.get_all(name);
        let tokens = values.iter().filter_map(|value| value.to_str().ok());
        tokens.flat_map(|value| value.split(',')).any(|t| t.trim().eq_ignore_ascii_case(token))
    };
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") {
        return Err(refused("status 101, but not to the WebSocket protocol"));
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|value| value != asked.accept.as_str()) {
        return Err(refused("the server's accept key does not match ours"));
    }
    let chosen = headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    match chosen {
        None if asked.subprotocols.is_empty() => Ok(None),
        None => Err(refused("the server chose none of the subprotocols asked for")),
        Some(chosen) if asked.subprotocols.iter().any(|asked| asked == chosen) => {
            Ok(Some(chosen.to_owned()))
        }
        Some(_) => Err(refused("the server chose a subprotocol that was not asked for")),
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(8 << 10)
        .write_buffer_size(8 << 10)
        .max_write_buffer_size(2 * MESSAGE_CAP_BYTES)
        .max_message_size(Some(MESSAGE_CAP_BYTES))
        .max_frame_size(Some(MESSAGE_CAP_BYTES))
}

impl WebSocket {
    /// The subprotocol the server chose.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Whom we are connected to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the server showed, over wss.
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.certificate.as_ref()
    }

    /// Sends a text message, within the limit of the climb.
    ///
    /// # Errors
    ///
    /// After a fault nothing more can be sent or read.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the message may be sent in part: close the WebSocket then.
    pub async fn send_text(&mut self, text: &str) -> Result<(), Fault> {
        let sent = self.stream.send(tungstenite::Message::text(text));
        self.bounds.run(self.limit, sent).await?.map_err(fault_of)
    }

    /// The next message; pings are answered on the way. Waits for at most `limit`.
    ///
    /// # Errors
    ///
    /// [`Fault::WebSocket`] when the server closes, with its code and reason; [`Fault::TooLarge`]
    /// for a message above 1 MiB; [`Fault::Timeout`] leaves the WebSocket usable, every other
    /// fault does not.
    ///
    /// # Cancel safety
    ///
    /// When dropped, no message is lost.
    pub async fn next_message(&mut self, limit: Duration) -> Result<Message, Fault> {
        let stream = &mut self.stream;
        let next = async {
            loop {
                match stream.next().await {
                    None => return Err(Fault::Closed),
                    Some(Err(error)) => return Err(fault_of(error)),
                    Some(Ok(tungstenite::Message::Text(text))) => {
                        return Ok(Message::Text(text.as_str().to_owned()));
                    }
                    Some(Ok(tungstenite::Message::Binary(bytes))) => {
                        return Ok(Message::Binary(bytes.to_vec()));
                    }
                    Some(Ok(tungstenite::Message::Close(frame))) => {
                        return Err(Fault::WebSocket {
                            code: frame.as_ref().map(|frame| frame.code.into()),
                            reason: frame
                                .map_or_else(String::new, |frame| quoted(&frame.reason, 125)),
                        });
                    }
                    Some(Ok(_)) => {}
                }
            }
        };
        self.bounds.run(limit, next).await?
    }

    /// Says goodbye and waits at most 1 s for the server to do the same and to close its end; the
    /// lease comes back at once when it did, else it lingers and the step (rung `close`) carries
    /// [`Fault::Timeout`].
    ///
    /// # Cancel safety
    ///
    /// When dropped, the socket closes and the lease lingers.
    pub async fn close(self) -> Step {
        let (at, since) = (clock::wall(), clock::now());
        let Self { mut stream, lease, .. } = self;
        let farewell = async {
            // If this fails, the peer is gone, and reading shows it.
            let _ = stream.close(None).await;
            while let Some(Ok(_)) = stream.next().await {}
            stream.into_inner().wait_for_end().await;
        };
        let gone = tokio::time::timeout(CLOSE_LIMIT, farewell).await.is_ok();
        if gone {
            lease.settle();
        }
        let fault = (!gone).then_some(Fault::Timeout { limit: Span(CLOSE_LIMIT) });
        Step::ended("close", at, since, fault)
    }
}

fn fault_of(error: Error) -> Fault {
    match error {
        Error::Io(error) => tls::fault(&error),
        Error::ConnectionClosed | Error::AlreadyClosed => Fault::Closed,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Fault::Closed,
        Error::Capacity(CapacityError::MessageTooLong { size, max_size }) => {
            Fault::TooLarge { bytes: size as u64, cap: max_size as u64 }
        }
        error => Fault::Protocol { message: quoted(&error.to_string(), 300) },
    }
}
