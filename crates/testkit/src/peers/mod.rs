//! Peers that do what a script says, however rude.
//!
//! A [`Script`] is data: a list of [`Act`]s that a [`Peer`] goes through with everyone who connects.
//! The hostile set has names:
//!
//! | script | what it does |
//! |---|---|
//! | [`Script::silent`] | accepts, never answers |
//! | [`Script::drip`] | sends what looks right, a byte at a time |
//! | [`Script::endless_header`] | an HTTP head without end |
//! | [`Script::huge_postgres`], [`Script::huge_http`], [`Script::huge_websocket`] | announces 1 GB and goes on sending |
//! | [`Script::garbage`] | sends what is no protocol |
//! | [`Script::reset`] | resets at once |
//! | [`Script::close_after`] | closes in order after so many bytes |
//! | [`Peer::refused`] | nobody listens |
//! | [`Script::over_tls`] | the same behind TLS, with any [`Identity`](crate::Identity) |

mod perform;
mod script;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub use script::{Act, HUGE, Script};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// A listener on this machine that goes through a script with everyone who connects. Dropping it
/// ends it and every connection to it.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    task: Option<JoinHandle<()>>,
}

impl Peer {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Panics
    ///
    /// When no port can be had.
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of 127.0.0.1");
        let address = listener.local_addr().expect("the port's address");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                served.spawn(perform::over_tcp(stream, script.clone()));
                while served.try_join_next().is_some() {}
            }
        });
        Self { address, connections, task: Some(task) }
    }

    /// Starts one on the Unix socket `path`. Its [`address`](Peer::address) says nothing.
    ///
    /// # Panics
    ///
    /// When the socket cannot be made.
    pub async fn start_unix(path: &Path, script: Script) -> Self {
        let listener = UnixListener::bind(path).expect("a socket at the test's path");
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut served = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                served.spawn(perform::over_unix(stream, script.clone()));
                while served.try_join_next().is_some() {}
            }
        });
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Self { address, connections, task: Some(task) }
    }

    /// A port of 127.0.0.1 on which nobody listens.
    ///
    /// # Panics
    ///
    /// When no port can be had.
    pub async fn refused() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port of 127.0.0.1");
        let address = listener.local_addr().expect("the port's address");
        Self { address, connections: Arc::default(), task: None }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// How many have connected so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
