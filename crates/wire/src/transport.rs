//! Sockets: finding the address, dialling it, TLS on top, and waiting for the peer's end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use shakedown_core::{Fault, Step};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::climb::Ladder;
use crate::tls;
use crate::wire::Wire;

/// A socket of ours, with or without TLS.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Reads and throws away until the peer has closed its end. How long is for the caller to say.
    pub(crate) async fn wait_for_end(&mut self) {
        let mut scratch = [0; 1024];
        // A reset, or TLS without its farewell, is an end as well.
        while let Ok(1..) = self.read(&mut scratch).await {}
    }

    /// Closes our end and waits for the peer's; whether it came within `limit`.
    pub(crate) async fn part(&mut self, limit: Duration) -> bool {
        let parting = async {
            // If this fails, the peer is gone, and reading shows it.
            let _ = self.shutdown().await;
            self.wait_for_end().await;
        };
        tokio::time::timeout(limit, parting).await.is_ok()
    }
}

/// The rungs `resolve` and `connect` over TCP.
pub(crate) async fn tcp(
    ladder: &mut Ladder<'_>,
    wire: &Wire,
    host: &str,
    port: u16,
) -> Result<(TcpStream, SocketAddr), Fault> {
    let addresses = ladder.rung("resolve", resolve(wire, host, port)).await?;
    let mut fault = Fault::Resolve { message: "no address".into() };
    let count = addresses.len();
    let left = ladder.left();
    let dial = async {
        for (index, address) in addresses.into_iter().enumerate() {
            // One address that swallows packets must leave time for the others.
            let share = left / u32::try_from(count).unwrap_or(u32::MAX);
            let attempt = dial_tcp(address);
            let attempt = if index + 1 == count {
                attempt.await
            } else {
                match tokio::time::timeout(share, attempt).await {
                    Ok(attempt) => attempt,
                    Err(_) => continue,
                }
            };
            match attempt {
                Ok(stream) => return Ok(((stream, address), Some(address.to_string()))),
                Err(error) => fault = Fault::from_io(&error),
            }
        }
        Err(fault)
    };
    ladder.rung("connect", dial).await
}

#[expect(clippy::disallowed_methods, reason = "wire is where sockets to the target are opened")]
async fn dial_tcp(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The rung `connect` over a Unix socket.
#[expect(clippy::disallowed_methods, reason = "wire is where sockets to the target are opened")]
pub(crate) async fn unix(ladder: &mut Ladder<'_>, path: &Path) -> Result<UnixStream, Fault> {
    let dial = async {
        match UnixStream::connect(path).await {
            Ok(stream) => Ok((stream, Some(path.display().to_string()))),
            Err(error) => Err(Fault::from_io(&error)),
        }
    };
    ladder.rung("connect", dial).await
}

async fn resolve(
    wire: &Wire,
    host: &str,
    port: u16,
) -> Result<(Vec<SocketAddr>, Option<String>), Fault> {
    if let Some(address) = wire.instead(host, port) {
        return Ok((vec![address], Some(format!("{address}, from [network.resolve]"))));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((vec![SocketAddr::new(ip, port)], None));
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let addresses: Vec<_> =
        found.map_err(|error| Fault::Resolve { message: error.to_string() })?.collect();
    if addresses.is_empty() {
        return Err(Fault::Resolve { message: "the name has no address".into() });
    }
    let detail = addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>();
    Ok((addresses, Some(detail.join(", "))))
}

/// Whether a climb ended before anything was connected. A connect that timed out may have arrived.
pub(crate) fn never_connected(steps: &[Step]) -> bool {
    match steps.last() {
        None => true,
        Some(step) if step.rung == "resolve" => true,
        Some(step) if step.rung == "connect" => !matches!(step.fault, Some(Fault::Timeout { .. })),
        Some(_) => false,
    }
}

/// Lets a write to a peer that has gone pass as done: what it said before it went, and how it went,
/// is to be read. A reset, which reading may no longer show, is told to `note`.
pub(crate) fn forgiving<T>(
    written: Poll<io::Result<T>>,
    instead: T,
    note: impl FnOnce(Fault),
) -> Poll<io::Result<T>> {
    match written {
        Poll::Ready(Err(error)) => match error.kind() {
            io::ErrorKind::BrokenPipe => Poll::Ready(Ok(instead)),
            io::ErrorKind::ConnectionReset => {
                note(Fault::Reset);
                Poll::Ready(Ok(instead))
            }
            _ => {
                note(tls::fault(&error));
                Poll::Ready(Err(error))
            }
        },
        written => written,
    }
}

macro_rules! inner {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($stream) => $call,
            Self::Unix($stream) => $call,
            Self::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        inner!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        inner!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        inner!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        inner!(self, stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
