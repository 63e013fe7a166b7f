//! Carrying bytes between two streams, 256 KiB at a time.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Size of each direction's buffer. tokio's default of 8 KiB halves the throughput; a quarter of this
/// costs a fifth of it.
pub(crate) const BUFFER_BYTES: usize = 256 * 1024;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

/// What happens to bytes on their way.
pub(crate) trait Flow: Sync {
    /// Called with the number of bytes just read; they are passed on when it returns.
    fn pass(&self, direction: Direction, bytes: usize) -> impl Future<Output = ()> + Send;
}

/// Nothing happens to them.
#[derive(Debug)]
pub(crate) struct Unlimited;

impl Flow for Unlimited {
    async fn pass(&self, _: Direction, _: usize) {}
}

async fn one_way<R, W, F>(mut from: R, mut to: W, direction: Direction, flow: &F) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    F: Flow,
{
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let bytes = from.read(&mut buffer).await?;
        if bytes == 0 {
            return to.shutdown().await;
        }
        flow.pass(direction, bytes).await;
        to.write_all(&buffer[..bytes]).await?;
    }
}

/// Copies both ways until both ends have closed their half, or one way fails. Each end is a reader
/// and a writer, as `split` gives them.
///
/// # Cancel safety
/// Dropping it loses what is in the buffers; drop the streams too.
pub(crate) async fn both_ways<CR, CW, SR, SW, F>(
    client: (CR, CW),
    server: (SR, SW),
    flow: &F,
) -> io::Result<()>
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
    F: Flow,
{
    tokio::try_join!(
        one_way(client.0, server.1, Direction::ToServer, flow),
        one_way(server.0, client.1, Direction::ToClient, flow),
    )
    .map(drop)
}

/// Copies both ways until one end has closed its half, or one way fails; returns which way it was.
/// So the real Auth Proxy does it: then it closes both ends.
///
/// # Cancel safety
/// Dropping it loses what is in the buffers; drop the streams too.
pub(crate) async fn until_one_way_ends<CR, CW, SR, SW>(
    client: (CR, CW),
    server: (SR, SW),
) -> (Direction, io::Result<()>)
where
    CR: AsyncRead + Unpin,
    CW: AsyncWrite + Unpin,
    SR: AsyncRead + Unpin,
    SW: AsyncWrite + Unpin,
{
    tokio::select! {
        end = one_way(client.0, server.1, Direction::ToServer, &Unlimited) => (Direction::ToServer, end),
        end = one_way(server.0, client.1, Direction::ToClient, &Unlimited) => (Direction::ToClient, end),
    }
}

/// Carries one connection of a bare relay to `upstream` and back, without limits, counters or
/// faults. For comparison with other relays; the connector carries bytes through the same loop.
///
/// # Errors
/// When `upstream` cannot be reached or one way fails. Both ends are closed then.
///
/// # Cancel safety
/// Dropping it closes both ends; what was under way is lost.
pub async fn relay(mut client: TcpStream, upstream: SocketAddr) -> io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    both_ways(client.split(), server.split(), &Unlimited).await
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn relay_carries_both_ways_and_half_closes() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream_address = upstream.local_addr().unwrap();
        let echo = tokio::spawn(async move {
            let (mut stream, _) = upstream.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
            all.len()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { relay(listener.accept().await?.0, upstream_address).await });
        let mut client = TcpStream::connect(address).await.unwrap();
        let sent: Vec<u8> = (0..1_000_000u32).map(|i| i as u8).collect();
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.unwrap();
        assert_eq!(echo.await.unwrap(), sent.len());
        assert!(back == sent);
    }

    #[tokio::test]
    async fn relay_closes_when_upstream_refuses() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { relay(listener.accept().await?.0, gone).await });
        let mut client = TcpStream::connect(address).await.unwrap();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
    }
}
