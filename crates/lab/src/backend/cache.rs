//! The backend's cache: a few RESP commands.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::Redis;

/// Longest reply that is read.
const MAX_REPLY_BYTES: usize = 64 * 1024;

/// Reaches the cache and uses it: PING, SET, GET.
///
/// # Errors
/// In the words of redis-py.
pub(crate) async fn check(redis: &Redis, limit: Duration) -> Result<(), String> {
    let Some(host) = &redis.host else {
        return Err("redis.exceptions.ConnectionError: REDIS_HOST is not set".into());
    };
    let place = format!("{host}:{}", redis.port);
    match timeout(limit, talk(host, redis.port)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(format!(
            "redis.exceptions.ConnectionError: Error 111 connecting to {place}. Connection refused."
        )),
        Ok(Err(error)) => Err(format!("redis.exceptions.ConnectionError: {error}")),
        Err(_) => Err("redis.exceptions.TimeoutError: Timeout connecting to server".into()),
    }
}

async fn talk(host: &str, port: u16) -> io::Result<()> {
    let mut stream = BufReader::new(TcpStream::connect((host, port)).await?);
    expect(&mut stream, &["PING"], "PONG").await?;
    expect(&mut stream, &["SET", "startup:check", "ok", "EX", "60"], "OK").await?;
    expect(&mut stream, &["GET", "startup:check"], "ok").await
}

async fn expect(
    stream: &mut BufReader<TcpStream>,
    command: &[&str],
    wanted: &str,
) -> io::Result<()> {
    let mut request = format!("*{}\r\n", command.len());
    for word in command {
        request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.get_mut().write_all(request.as_bytes()).await?;
    let reply = reply(stream).await?;
    if reply == wanted {
        return Ok(());
    }
    Err(io::Error::other(format!("{} was answered with {reply:?}", command[0])))
}

/// A simple or bulk string, or an error as text.
async fn reply(stream: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Connection closed by server."));
    }
    let line = line.trim_end();
    let Some(length) = line.strip_prefix('$') else {
        return Ok(line.trim_start_matches(['+', '-', ':']).to_owned());
    };
    let length: usize = length.parse().map_err(io::Error::other)?;
    if length > MAX_REPLY_BYTES {
        return Err(io::Error::other("the reply is too long"));
    }
    let mut bulk = vec![0; length + 2];
    stream.read_exact(&mut bulk).await?;
    bulk.truncate(length);
    String::from_utf8(bulk).map_err(io::Error::other)
}
