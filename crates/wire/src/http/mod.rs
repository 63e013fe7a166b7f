//! HTTP/1.1: one request on a fresh connection, every rung timed.

mod exchange;
mod request;

use std::net::SocketAddr;

use shakedown_core::clock;
use shakedown_core::id::{ResourceKind, resource};
use shakedown_core::{Fault, Lease, ProbeCtx};

pub(crate) use exchange::{Exchange, with_parts};
pub use http::HeaderMap;
pub(crate) use request::Prepared;
pub use request::Request;

use crate::climb::{Climb, Ladder};
use crate::net::{give_up, web_handshake};
use crate::tls::CertificateInfo;
use crate::transport::{self, Transport};

/// The longest body that is accepted.
pub const BODY_CAP_BYTES: u64 = 1 << 20;

/// The longest head of an answer that is accepted.
pub const HEAD_CAP_BYTES: u64 = 64 << 10;

/// An answer, whatever its status.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status, 200 to 599 as a rule.
    pub status: u16,
    /// The headers; at most 64 KiB.
    pub headers: HeaderMap,
    /// The body; at most 1 MiB.
    pub body: Vec<u8>,
    /// From sending the request to the first byte of the answer, in milliseconds.
    pub ttfb_ms: f64,
    /// Who answered.
    pub address: SocketAddr,
    /// What it showed, over HTTPS. Issuer, name and dates have been verified.
    pub certificate: Option<CertificateInfo>,
}

impl Response {
    /// A header's value, when it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Gets `url` on a fresh connection: [`send`] with [`Request::get`].
///
/// # Errors
///
/// As [`send`].
///
/// # Cancel safety
///
/// As [`send`].
pub async fn get(
    ctx: &ProbeCtx,
    lease: Lease,
    url: &str,
    headers: &[(&str, &str)],
) -> Climb<Response> {
    let request = headers
        .iter()
        .fold(Request::get(url), |request, (name, value)| request.header(name, value));
    send(ctx, lease, &request).await
}

/// Sends `request` on a fresh connection and reads the whole answer. Rungs `resolve`, `connect`,
/// `tls` (https) and `http`, within the request's limit and `safety.connect_timeout` in all.
/// Redirects are not followed.
///
/// # Errors
///
/// The fault of the last step. Any answer is a success, whatever its status; a head above 64 KiB or
/// a body above 1 MiB, announced or sent, is [`Fault::TooLarge`]; a URL or header that cannot be
/// sent is [`Fault::Protocol`] at rung `http`, before anything was dialled.
///
/// # Cancel safety
///
/// When dropped, the socket closes and the lease lingers.
pub async fn send(ctx: &ProbeCtx, lease: Lease, request: &Request) -> Climb<Response> {
    let mut ladder = Ladder::new(ctx, request.limit);
    match run(&mut ladder, &lease, request).await {
        Ok((response, ended)) => {
            if ended {
                lease.settle();
            }
            ladder.end(Ok(response))
        }
        Err(fault) => give_up(ladder, lease, fault),
    }
}

/// The response, and whether the peer has closed its end.
async fn run(
    ladder: &mut Ladder<'_>,
    lease: &Lease,
    request: &Request,
) -> Result<(Response, bool), Fault> {
    let prepared = request.prepare().map_err(|fault| ladder.book("http", fault))?;
    let (transport, peer) = dial(ladder, lease, &prepared).await?;
    let answer = async {
        let since = clock::now();
        let mut exchange = Exchange::start(transport, prepared.request).await?;
        let body = exchange.body(BODY_CAP_BYTES).await?;
        let (head, watched) = exchange.end();
        let first_byte = watched.first_byte.unwrap_or_else(clock::now);
        let ttfb_ms = clock::millis(first_byte.duration_since(since));
        let (status, bytes) = (head.status, body.len());
        let detail = format!("{status}, {bytes} bytes, the first after {ttfb_ms} ms");
        let response = Response {
            status: status.as_u16(),
            headers: head.headers,
            body,
            ttfb_ms,
            address: peer.address,
            certificate: peer.certificate,
        };
        Ok(((response, watched.fault.is_some()), Some(detail)))
    };
    ladder.rung("http", answer).await
}

/// Whom a climb reached.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<CertificateInfo>,
}

/// The rungs below `http` and `upgrade`.
pub(crate) async fn dial(
    ladder: &mut Ladder<'_>,
    lease: &Lease,
    prepared: &Prepared,
) -> Result<(Transport, Peer), Fault> {
    const KINDS: [ResourceKind; 2] = [resource::NEW_CONNECTION, resource::HTTP_REQUEST];
    let wire = ladder.wire()?;
    // Reads the roots if nobody has yet: not to be counted in the rung.
    let configs = prepared.tls.then(|| wire.tls());
    ladder.pace(lease, &KINDS).await?;
    let (stream, address) = transport::tcp(ladder, &wire, &prepared.host, prepared.port).await?;
    let Some(configs) = configs else {
        return Ok((Transport::Tcp(stream), Peer { address, certificate: None }));
    };
    let shake = web_handshake(configs, &prepared.host, stream);
    let (stream, certificate) = ladder.rung("tls", shake).await?;
    Ok((Transport::Tls(stream), Peer { address, certificate }))
}
