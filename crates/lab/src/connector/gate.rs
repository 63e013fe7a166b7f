//! The connector's listening socket, which can leave connection attempts unanswered.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

const BACKLOG: u32 = 1024;
/// Linux lets `backlog + 1` connections wait; BSDs take 0 for "as many as allowed".
const SMALLEST_BACKLOG: i32 = if cfg!(target_os = "linux") { 0 } else { 1 };
/// On loopback a connection that can be made is made at once.
const FULL_AFTER: Duration = Duration::from_millis(50);

/// A listening socket with three states: open, held, refusing.
///
/// *Held* is a true connect timeout: the backlog is made as short as it can be and filled with
/// connections of our own that are not accepted, so the kernel drops every further SYN. When it
/// opens again, clients get through at their next SYN retransmit: 1, 3, 7, 15 s after the first, at
/// every time scale. Recovery is quantised to that; expect nothing finer. At most one client
/// that comes in the very moment the gate closes is completed by the kernel and then waits
/// connected.
///
/// *Refusing* keeps the port without listening on it, so the kernel answers with a reset.
#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    state: State,
    backlog: i32,
    /// Our own waiting connections, by local port, until they are accepted and dropped.
    fillers: HashMap<u16, TcpStream>,
}

#[derive(Debug)]
enum State {
    Listening {
        listener: TcpListener,
        held: bool,
    },
    Refusing(TcpSocket),
    /// Only while changing between the two.
    Between,
}

impl Gate {
    /// Opens it on a free port of 127.0.0.1.
    pub(crate) fn new() -> io::Result<Self> {
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let address = socket.local_addr()?;
        let listener = socket.listen(BACKLOG)?;
        let state = State::Listening { listener, held: false };
        Ok(Self { address, state, backlog: BACKLOG.cast_signed(), fillers: HashMap::new() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets up to `room` (at least 1) connections in. The kernel completes no more handshakes
    /// beforehand than can be let in.
    pub(crate) fn open(&mut self, room: u32) -> io::Result<()> {
        if !matches!(self.state, State::Listening { .. }) {
            let State::Refusing(socket) = std::mem::replace(&mut self.state, State::Between) else {
                return Err(io::Error::other("the gate lost its socket"));
            };
            self.state = State::Listening { listener: socket.listen(BACKLOG)?, held: false };
            self.backlog = BACKLOG.cast_signed();
        }
        // At least 1: a backlog of 0 makes Linux suspect a SYN flood and say so in its log.
        self.set_backlog(room.saturating_sub(1).clamp(1, BACKLOG).cast_signed())?;
        if let State::Listening { held, .. } = &mut self.state {
            *held = false;
        }
        Ok(())
    }

    /// Leaves new connection attempts unanswered.
    ///
    /// # Cancel safety
    /// Cancel safe: call it again.
    pub(crate) async fn hold(&mut self) -> io::Result<()> {
        if let State::Refusing(_) = self.state {
            self.open(1)?;
        }
        if let State::Listening { held: true, .. } = self.state {
            return Ok(());
        }
        self.set_backlog(SMALLEST_BACKLOG)?;
        // Fill it until a connection hangs. On Linux the second one does.
        for _ in 0..16 {
            let Ok(filler) =
                tokio::time::timeout(FULL_AFTER, TcpStream::connect(self.address)).await
            else {
                break;
            };
            let filler = filler?;
            self.fillers.insert(filler.local_addr()?.port(), filler);
        }
        if let State::Listening { held, .. } = &mut self.state {
            *held = true;
        }
        Ok(())
    }

    /// Refuses connections. Those that wait to be accepted are reset.
    pub(crate) fn refuse(&mut self) -> io::Result<()> {
        if let State::Listening { .. } = self.state {
            // The old socket must be closed before another may be bound to its port.
            self.state = State::Between;
            self.fillers.clear();
            self.state = State::Refusing(bind(self.address)?);
        }
        Ok(())
    }

    /// The next client. Pends while the gate refuses.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let State::Listening { listener, .. } = &self.state else {
            return std::future::pending().await;
        };
        loop {
            let (stream, peer) = listener.accept().await?;
            if self.fillers.remove(&peer.port()).is_none() {
                return Ok((stream, peer));
            }
        }
    }

    fn set_backlog(&mut self, backlog: i32) -> io::Result<()> {
        if let State::Listening { listener, .. } = &self.state
            && backlog != self.backlog
        {
            // listen() on a listening socket changes its backlog and nothing else.
            SockRef::from(listener).listen(backlog)?;
            self.backlog = backlog;
        }
        Ok(())
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections of the listener that was here before may still be open.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// How many clients on this machine wait for a connection to this port, as the kernel has them
/// (sockets in SYN_SENT); `None` where the kernel does not tell.
pub(crate) fn clients_waiting(port: u16) -> Option<u32> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let remote = format!("0100007F:{port:04X}");
    let waits = |line: &&str| {
        let mut columns = line.split_ascii_whitespace().skip(2);
        columns.next() == Some(&*remote) && columns.next() == Some("02")
    };
    u32::try_from(table.lines().filter(waits).count()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::time::timeout;

    async fn connects(gate: &Gate) -> Option<io::Result<TcpStream>> {
        timeout(Duration::from_millis(300), TcpStream::connect(gate.address())).await.ok()
    }

    #[tokio::test]
    async fn held_times_out_and_recovers_at_a_retransmit() {
        let mut gate = Gate::new().unwrap();
        gate.hold().await.unwrap();
        assert!(connects(&gate).await.is_none());
        let client = tokio::spawn(TcpStream::connect(gate.address()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        if cfg!(target_os = "linux") {
            assert_eq!(clients_waiting(gate.address().port()), Some(1));
        }
        gate.open(5).unwrap();
        let (stream, peer) = gate.accept().await.unwrap();
        assert_eq!(peer, client.await.unwrap().unwrap().local_addr().unwrap());
        assert!(gate.fillers.is_empty(), "only real clients come out");
        drop(stream);
    }

    #[tokio::test]
    async fn refusing_keeps_the_port_and_opens_again() {
        let mut gate = Gate::new().unwrap();
        let address = gate.address();
        let mut open = connects(&gate).await.unwrap().unwrap();
        let (mut served, _) = gate.accept().await.unwrap();
        gate.refuse().unwrap();
        assert_eq!(
            connects(&gate).await.unwrap().unwrap_err().kind(),
            io::ErrorKind::ConnectionRefused
        );
        // What was open stays open.
        tokio::io::AsyncWriteExt::write_all(&mut served, b"x").await.unwrap();
        assert_eq!(open.read_u8().await.unwrap(), b'x');
        gate.hold().await.unwrap();
        assert!(connects(&gate).await.is_none());
        gate.refuse().unwrap();
        gate.open(3).unwrap();
        assert_eq!(gate.address(), address);
        assert!(connects(&gate).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn no_more_handshakes_than_room() {
        let mut gate = Gate::new().unwrap();
        gate.open(3).unwrap();
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.extend(connects(&gate).await);
        }
        if cfg!(target_os = "linux") {
            assert_eq!(clients.len(), 3);
        }
    }
}
