//! The last hop: from the connector to the database, well or badly behaved.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::relay::{Direction, Flow, both_ways};
use crate::switches::DatabaseMode;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// PostgreSQL refuses start-up packets above this itself.
const MAX_STARTUP_BYTES: u32 = 10_000;

/// Carries one client to the database.
///
/// # Cancel safety
/// Dropping it closes both connections.
pub(super) async fn serve<F: Flow>(
    mut client: TcpStream,
    database: SocketAddr,
    mode: DatabaseMode,
    flow: &F,
) -> io::Result<()> {
    match mode {
        DatabaseMode::Normal => {
            let mut server = connect(database).await?;
            both_ways(client.split(), server.split(), flow).await
        }
        DatabaseMode::Closed => {
            read_startup(&mut client).await?;
            client.shutdown().await
        }
        // The gate refuses before it comes to this; whoever was let in just before is closed.
        DatabaseMode::Refused => Ok(()),
        DatabaseMode::Silent => {
            let mut ignored = [0; 1024];
            while client.read(&mut ignored).await? > 0 {}
            Ok(())
        }
        DatabaseMode::SlowAuth(delay) => {
            let startup = read_startup(&mut client).await?;
            let mut server = connect(database).await?;
            server.write_all(&startup).await?;
            // The server's first answer goes through at once; the client's reply to it waits.
            let mut answer = vec![0; 8192];
            let bytes = server.read(&mut answer).await?;
            flow.pass(Direction::ToClient, bytes).await;
            client.write_all(&answer[..bytes]).await?;
            client.readable().await?;
            tokio::time::sleep(delay).await;
            both_ways(client.split(), server.split(), flow).await
        }
    }
}

async fn connect(database: SocketAddr) -> io::Result<TcpStream> {
    let server = TcpStream::connect(database).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// Reads the start-up packet and returns it whole. Requests for encryption before it are answered
/// with "no", as a server without TLS does.
async fn read_startup(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    loop {
        let length = client.read_u32().await?;
        if !(8..=MAX_STARTUP_BYTES).contains(&length) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "no PostgreSQL start-up packet",
            ));
        }
        let code = client.read_u32().await?;
        if length == 8 && (code == SSL_REQUEST || code == GSS_REQUEST) {
            client.write_all(b"N").await?;
            continue;
        }
        let mut packet = vec![0; length as usize];
        packet[..4].copy_from_slice(&length.to_be_bytes());
        packet[4..8].copy_from_slice(&code.to_be_bytes());
        client.read_exact(&mut packet[8..]).await?;
        return Ok(packet);
    }
}
