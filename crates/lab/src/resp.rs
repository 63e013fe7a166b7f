//! The lab's cache: as much of a RESP server as an application's start-up asks for.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::switches::Switches;
use crate::tasks::Tasks;

/// Longest argument and most arguments of one command.
const MAX_BYTES: usize = 64 * 1024;
const MAX_WORDS: usize = 64;

type Keys = Arc<Mutex<HashMap<Vec<u8>, Vec<u8>>>>;

/// Starts it on a free port of 127.0.0.1. While the switch says so nothing listens there, and who
/// is connected is closed.
pub(crate) fn start(
    mut switches: watch::Receiver<Switches>,
    tasks: &Tasks,
) -> io::Result<SocketAddr> {
    let listener = bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let address = listener.local_addr()?;
    let clients = tasks.clone();
    tasks.spawn_vital("the cache", async move {
        let keys = Keys::default();
        let mut listener = Some(listener);
        loop {
            let down = switches.borrow_and_update().cache_down;
            if down {
                listener = None;
                // The lab ends with its switches.
                if switches.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let open = match listener.take().map_or_else(|| bind(address), Ok) {
                Ok(open) => listener.insert(open),
                Err(error) => return error,
            };
            tokio::select! {
                _ = switches.changed() => {}
                accepted = open.accept() => match accepted {
                    Ok((stream, _)) => clients.spawn(serve(stream, Arc::clone(&keys), switches.clone())),
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        }
    });
    Ok(address)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(128)
}

async fn serve(stream: TcpStream, keys: Keys, mut switches: watch::Receiver<Switches>) {
    let ended = async {
        let _ = switches.wait_for(|switches| switches.cache_down).await;
    };
    let mut stream = BufReader::new(stream);
    let answered = async {
        // An error is the client's to see.
        while let Ok(Some(command)) = read(&mut stream).await {
            let answer = answer(&command, &keys);
            if stream.get_mut().write_all(&answer).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = ended => {}
        () = answered => {}
    }
}

/// One command, as an array of bulk strings; `None` at the end.
async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Vec<Vec<u8>>>> {
    let Some(count) = number(stream, '*').await? else { return Ok(None) };
    if count > MAX_WORDS {
        return Err(io::Error::other("too many arguments"));
    }
    let mut command = Vec::with_capacity(count);
    for _ in 0..count {
        let length = number(stream, '$').await?.unwrap_or_default();
        if length > MAX_BYTES {
            return Err(io::Error::other("the argument is too long"));
        }
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await?;
        word.truncate(length);
        command.push(word);
    }
    Ok(Some(command))
}

async fn number(stream: &mut BufReader<TcpStream>, kind: char) -> io::Result<Option<usize>> {
    let mut line = String::new();
    let mut limited = (&mut *stream).take(64);
    if limited.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let number = line.trim_end().strip_prefix(kind).and_then(|number| number.parse().ok());
    number.map(Some).ok_or_else(|| io::Error::other("no RESP"))
}

fn answer(command: &[Vec<u8>], keys: &Keys) -> Vec<u8> {
    let bulk = |value: &[u8]| [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat();
    let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
    let name = command.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    match (name.as_slice(), &command[command.len().min(1)..]) {
        (b"PING", []) => b"+PONG\r\n".to_vec(),
        (b"PING", [word]) => bulk(word),
        (b"SET", [key, value, ..]) => {
            keys.insert(key.clone(), value.clone());
            b"+OK\r\n".to_vec()
        }
        (b"GET", [key]) => keys.get(key).map_or_else(|| b"$-1\r\n".to_vec(), |value| bulk(value)),
        (b"DEL", [key]) => format!(":{}\r\n", u8::from(keys.remove(key).is_some())).into_bytes(),
        _ => b"-ERR unknown command\r\n".to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_application_s_client_gets_on_with_it_until_it_is_down() {
        let (tasks, _failures) = Tasks::new();
        let (switch, switches) = watch::channel(Switches::default());
        let address = start(switches, &tasks).unwrap();
        let redis = crate::backend::config::Redis {
            host: Some(address.ip().to_string()),
            port: address.port(),
        };
        let limit = Duration::from_secs(30);
        crate::backend::cache::check(&redis, limit).await.unwrap();
        switch.send_modify(|switches| switches.cache_down = true);
        let refused = loop {
            match crate::backend::cache::check(&redis, limit).await {
                Err(error) if error.contains("refused") => break error,
                _ => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        assert!(refused.contains("Error 111 connecting to 127.0.0.1:"), "{refused}");
        switch.send_modify(|switches| switches.cache_down = false);
        while crate::backend::cache::check(&redis, limit).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tasks.stop().await;
    }

    #[test]
    fn unknown_commands_are_refused() {
        let answer = answer(&[b"FLUSHALL".to_vec()], &Keys::default());
        assert!(answer.starts_with(b"-ERR"));
    }
}
