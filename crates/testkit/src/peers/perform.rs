//! Going through a script.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::script::{Act, Script};

/// The first four bytes of an SSLRequest, its length. A TLS client begins otherwise.
const SSL_REQUEST_LENGTH: [u8; 4] = [0, 0, 0, 8];

pub(super) async fn over_tcp(stream: TcpStream, script: Script) {
    // A client that goes away ends the script; that is no fault of the test.
    let _ = tcp(stream, &script).await;
}

pub(super) async fn over_unix(mut stream: UnixStream, script: Script) {
    if perform(&mut stream, &script.acts).await.is_ok() {
        part(stream).await;
    }
}

async fn tcp(mut stream: TcpStream, script: &Script) -> io::Result<()> {
    stream.set_nodelay(true)?;
    for (index, act) in script.acts.iter().enumerate() {
        match act {
            Act::Reset => {
                // Dropped with a linger of nothing, the socket resets.
                return socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            Act::Tls(config) => {
                let mut first = [0; 4];
                stream.peek(&mut first).await?;
                if first == SSL_REQUEST_LENGTH {
                    stream.read_exact(&mut [0; 8]).await?;
                    stream.write_all(b"S").await?;
                }
                let mut stream = TlsAcceptor::from(config.clone()).accept(stream).await?;
                perform(&mut stream, &script.acts[index + 1..]).await?;
                part(stream).await;
                return Ok(());
            }
            act => perform_one(&mut stream, act).await?,
        }
    }
    part(stream).await;
    Ok(())
}

async fn perform<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    acts: &[Act],
) -> io::Result<()> {
    for act in acts {
        perform_one(stream, act).await?;
    }
    Ok(())
}

async fn perform_one<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    act: &Act,
) -> io::Result<()> {
    match act {
        Act::Send(bytes) => {
            stream.write_all(bytes).await?;
            stream.flush().await
        }
        Act::Read(count) => stream.read_exact(&mut vec![0; *count]).await.map(drop),
        Act::ReadHead => read_head(stream).await.map(drop),
        Act::EchoHead => {
            let head = read_head(stream).await?;
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{head}", head.len());
            stream.write_all(answer.as_bytes()).await?;
            stream.flush().await
        }
        Act::Drip { bytes, every } => loop {
            for byte in bytes {
                tokio::time::sleep(*every).await;
                stream.write_all(&[*byte]).await?;
                stream.flush().await?;
            }
        },
        Act::Flood(bytes) => loop {
            stream.write_all(bytes).await?;
        },
        Act::Wait(duration) => {
            tokio::time::sleep(*duration).await;
            Ok(())
        }
        Act::Hold => std::future::pending().await,
        Act::Upgrade => upgrade(stream).await,
        Act::Reset | Act::Tls(_) => panic!("{act:?} is for a plain TCP connection"),
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) -> io::Result<()> {
    let head = read_head(stream).await?;
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let key = header("sec-websocket-key").unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: keep-alive, \
         Upgrade\r\nsec-websocket-accept: {}\r\n",
        derive_accept_key(key.as_bytes())
    );
    if let Some(asked) = header("sec-websocket-protocol") {
        let first = asked.split(',').next().unwrap_or_default().trim();
        answer.push_str(&format!("sec-websocket-protocol: {first}\r\n"));
    }
    answer.push_str("\r\n");
    stream.write_all(answer.as_bytes()).await?;
    stream.flush().await
}

/// Closes our end and reads on until the client has closed its own: closing with bytes unread would
/// be a reset.
async fn part<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    if stream.shutdown().await.is_ok() {
        let _ = drain(&mut stream).await;
    }
}

async fn drain<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut scratch = [0; 4096];
    while stream.read(&mut scratch).await? > 0 {}
    Ok(())
}
