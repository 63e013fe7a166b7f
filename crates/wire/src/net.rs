//! Bare TCP and TLS: is somebody there, and who.

use std::net::SocketAddr;
use std::time::Duration;

use shakedown_core::id::resource;
use shakedown_core::{Fault, Lease, ProbeCtx};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::climb::{CLOSE_LIMIT, Climb, Ladder, peer_is_gone};
use crate::tls::{self, CertificateInfo};
use crate::transport::{self, Transport, never_connected};

/// A TCP connection on which nothing is said. Dropping it closes the socket and lets the lease
/// linger.
#[derive(Debug)]
pub struct TcpPeer {
    /// Whom we are connected to.
    pub address: SocketAddr,
    stream: TcpStream,
    lease: Lease,
}

impl TcpPeer {
    /// Closes our end and waits at most 1 s for the peer to close its own; whether it did. The
    /// lease comes back at once then.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the socket closes and the lease lingers.
    pub async fn close(self) -> bool {
        close(Transport::Tcp(self.stream), self.lease).await
    }
}

/// A TLS connection on which nothing is said. Dropping it closes the socket and lets the lease
/// linger.
#[derive(Debug)]
pub struct TlsPeer {
    /// Whom we are connected to.
    pub address: SocketAddr,
    /// What it showed. Issuer, name and dates have been verified.
    pub certificate: CertificateInfo,
    stream: Box<TlsStream<TcpStream>>,
    lease: Lease,
}

impl TlsPeer {
    /// As [`TcpPeer::close`].
    ///
    /// # Cancel safety
    ///
    /// When dropped, the socket closes and the lease lingers.
    pub async fn close(self) -> bool {
        close(Transport::Tls(self.stream), self.lease).await
    }
}

/// Connects to `host` and says nothing. Rungs `resolve` and `connect`, within
/// `safety.connect_timeout` in all.
///
/// # Errors
///
/// The fault of the last step.
///
/// # Cancel safety
///
/// When dropped, the socket closes and the lease lingers.
pub async fn tcp(ctx: &ProbeCtx, lease: Lease, host: &str, port: u16) -> Climb<TcpPeer> {
    tcp_within(ctx, lease, host, port, Duration::MAX).await
}

/// As [`tcp`], within `limit` when that is less.
///
/// # Errors
///
/// As [`tcp`].
///
/// # Cancel safety
///
/// As [`tcp`].
pub async fn tcp_within(
    ctx: &ProbeCtx,
    lease: Lease,
    host: &str,
    port: u16,
    limit: Duration,
) -> Climb<TcpPeer> {
    let mut ladder = Ladder::new(ctx, limit);
    match dial(&mut ladder, &lease, host, port).await {
        Ok((stream, address)) => ladder.end(Ok(TcpPeer { address, stream, lease })),
        Err(fault) => give_up(ladder, lease, fault),
    }
}

/// Connects to `host`, shakes hands as HTTPS does and says nothing. Rungs `resolve`, `connect` and
/// `tls`, within `safety.connect_timeout` in all.
///
/// # Errors
///
/// The fault of the last step.
///
/// # Cancel safety
///
/// When dropped, the socket closes and the lease lingers.
pub async fn tls(ctx: &ProbeCtx, lease: Lease, host: &str, port: u16) -> Climb<TlsPeer> {
    let mut ladder = Ladder::new(ctx, Duration::MAX);
    match dial_tls(&mut ladder, &lease, host, port).await {
        Ok((stream, address, certificate)) => {
            ladder.end(Ok(TlsPeer { address, certificate, stream, lease }))
        }
        Err(fault) => give_up(ladder, lease, fault),
    }
}

async fn dial(
    ladder: &mut Ladder<'_>,
    lease: &Lease,
    host: &str,
    port: u16,
) -> Result<(TcpStream, SocketAddr), Fault> {
    let wire = ladder.wire()?;
    ladder.pace(lease, &[resource::NEW_CONNECTION]).await?;
    transport::tcp(ladder, &wire, host, port).await
}

async fn dial_tls(
    ladder: &mut Ladder<'_>,
    lease: &Lease,
    host: &str,
    port: u16,
) -> Result<(Box<TlsStream<TcpStream>>, SocketAddr, CertificateInfo), Fault> {
    let wire = ladder.wire()?;
    let configs = wire.tls();
    let (stream, address) = dial(ladder, lease, host, port).await?;
    let (stream, certificate) = ladder.rung("tls", web_handshake(configs, host, stream)).await?;
    let missing = || Fault::Tls {
        reason: "bad-certificate".into(),
        message: "the server showed no readable certificate".into(),
    };
    Ok((stream, address, certificate.ok_or_else(missing)?))
}

/// A stream with TLS, and the certificate the peer showed.
pub(crate) type Secured = (Box<TlsStream<TcpStream>>, Option<CertificateInfo>);

/// The rung `tls` of everything that speaks HTTP.
pub(crate) async fn web_handshake(
    configs: &tls::TlsConfigs,
    host: &str,
    stream: TcpStream,
) -> Result<(Secured, Option<String>), Fault> {
    let stream = tls::handshake(configs.web()?, host, stream).await?;
    let certificate = CertificateInfo::of(&stream);
    let detail = certificate.as_ref().map(CertificateInfo::summary);
    Ok(((stream, certificate), detail))
}

/// Ends a climb that failed, and gives the lease back if nobody holds anything of ours.
pub(crate) fn give_up<T>(ladder: Ladder<'_>, lease: Lease, fault: Fault) -> Climb<T> {
    if peer_is_gone(&fault) || never_connected(&ladder.steps) {
        lease.settle();
    }
    ladder.end(Err(fault))
}

async fn close(mut stream: Transport, lease: Lease) -> bool {
    let gone = stream.part(CLOSE_LIMIT).await;
    if gone {
        lease.settle();
    }
    gone
}
