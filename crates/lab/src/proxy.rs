//! The emulated Cloud SQL Auth Proxy: a Unix socket that accepts first and dials after.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;

use crate::error::LabError;
use crate::relay::{Direction, until_one_way_ends};
use crate::switches::Switches;
use crate::tasks::Tasks;
use crate::truth::ProxyTruth;

/// What fits into a socket address on every system, the closing NUL left out.
const MAX_PATH_BYTES: usize = 103;

/// The emulated proxy. Like the real one it accepts every connection at once and dials the instance
/// after; when that fails it closes the client and writes a line to its log. So a client sees a
/// successful connect and then the end of the stream: connecting to the socket proves nothing.
#[derive(Debug)]
pub(crate) struct Proxy {
    shared: Arc<Shared>,
}

/// What a proxy needs to start.
#[derive(Debug)]
pub(crate) struct ProxyOptions {
    /// `PROJECT:REGION:INSTANCE`.
    pub(crate) connection_name: String,
    /// The socket, see [`socket_path`].
    pub(crate) socket: PathBuf,
    pub(crate) log: PathBuf,
    /// The connector.
    pub(crate) dial: SocketAddr,
    pub(crate) dial_timeout: Duration,
    pub(crate) switches: watch::Receiver<Switches>,
}

#[derive(Debug)]
struct Shared {
    options: ProxyOptions,
    log: Mutex<File>,
    accepted: AtomicU64,
    dial_errors: AtomicU64,
}

/// `FOLDER/PROJECT:REGION:INSTANCE/.s.PGSQL.5432`, as `/cloudsql` has it.
///
/// # Errors
/// [`LabError::SocketPath`] when it would not fit into a socket address.
pub(crate) fn socket_path(folder: &Path, connection_name: &str) -> Result<PathBuf, LabError> {
    let path = folder.join(connection_name).join(".s.PGSQL.5432");
    let length = path.as_os_str().as_bytes().len();
    if length > MAX_PATH_BYTES {
        return Err(LabError::SocketPath { path, length });
    }
    Ok(path)
}

impl Proxy {
    /// Opens the socket, for every user of the machine.
    pub(crate) fn start(options: ProxyOptions, tasks: &Tasks) -> Result<Self, LabError> {
        let folder = options.socket.parent().expect("the path was joined");
        std::fs::create_dir(folder)
            .and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o755)))
            .map_err(LabError::files("create", folder))?;
        let log = File::options()
            .append(true)
            .create(true)
            .open(&options.log)
            .map_err(LabError::files("open", &options.log))?;
        let listener = UnixListener::bind(&options.socket)
            .map_err(|source| LabError::Listen { what: "the Auth Proxy's socket", source })?;
        std::fs::set_permissions(&options.socket, Permissions::from_mode(0o777))
            .map_err(LabError::files("open to all users", &options.socket))?;
        let counter = || AtomicU64::new(0);
        let shared = Arc::new(Shared {
            options,
            log: Mutex::new(log),
            accepted: counter(),
            dial_errors: counter(),
        });
        shared.log_line("The proxy has started successfully and is ready for new connections!");
        let (accepting, clients) = (Arc::clone(&shared), tasks.clone());
        tasks.spawn_vital("the Auth Proxy's socket", async move {
            loop {
                match listener.accept().await {
                    Ok((client, _)) => clients.spawn(Arc::clone(&accepting).serve(client)),
                    // No file descriptors left, most likely: others may be closed soon.
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        });
        Ok(Self { shared })
    }

    /// What it counted.
    pub(crate) fn truth(&self) -> ProxyTruth {
        ProxyTruth {
            accepted: self.shared.accepted.load(Ordering::Relaxed),
            dial_errors: self.shared.dial_errors.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, mut client: UnixStream) {
        let name = &self.options.connection_name;
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.log_line(&format!("[{name}] Accepted connection from @"));
        let mut server = match self.dial().await {
            Ok(server) => server,
            Err(reason) => {
                self.dial_errors.fetch_add(1, Ordering::Relaxed);
                self.log_line(&format!("[{name}] failed to connect to instance: {reason}"));
                return close(client).await;
            }
        };
        let (way, end) = until_one_way_ends(client.split(), server.split()).await;
        let line = match (way, end) {
            (Direction::ToServer, Ok(())) => "client closed the connection".to_owned(),
            (Direction::ToClient, Ok(())) => "instance closed the connection".to_owned(),
            (Direction::ToServer, Err(error)) => {
                format!("connection aborted - error reading from client: {error}")
            }
            (Direction::ToClient, Err(error)) => {
                format!("connection aborted - error reading from instance: {error}")
            }
        };
        self.log_line(&format!("[{name}] {line}"));
    }

    /// Dials through the connector. The error is the real proxy's sentence.
    async fn dial(&self) -> Result<TcpStream, String> {
        let ProxyOptions { connection_name: name, dial: address, dial_timeout, .. } = &self.options;
        if self.options.switches.borrow().proxy_eof {
            return Err(format!(
                "dial error: handshake failed (connection name = \"{name}\"): EOF"
            ));
        }
        let no_route = self.options.switches.borrow().proxy_no_route;
        let dial = async {
            if no_route {
                std::future::pending::<()>().await;
            }
            TcpStream::connect(address).await
        };
        let cause = match tokio::time::timeout(*dial_timeout, dial).await {
            Ok(Ok(server)) => match server.set_nodelay(true) {
                Ok(()) => return Ok(server),
                Err(error) => error.to_string(),
            },
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                "connect: connection refused".into()
            }
            Ok(Err(error)) => format!("connect: {error}"),
            Err(_) => "i/o timeout".into(),
        };
        Err(format!(
            "dial error: failed to dial (connection name = \"{name}\"): dial tcp {address}: {cause}"
        ))
    }

    fn log_line(&self, line: &str) {
        let now = shakedown_core::clock::wall().strftime("%Y/%m/%d %H:%M:%S");
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk must not end the proxy.
        let _ = log.write_all(format!("{now} {line}\n").as_bytes());
    }
}

/// Closes so that the client sees the end of the stream, whether or not it has sent something yet.
/// The real proxy just closes; on Linux a client whose start-up packet is unread by then sees a
/// reset instead. Which of the two it is depends on a race, and a lab must not.
async fn close(mut client: UnixStream) {
    let _ = client.shutdown().await;
    let mut ignored = [0; 1024];
    let drained = async { while !matches!(client.read(&mut ignored).await, Ok(0) | Err(_)) {} };
    let _ = tokio::time::timeout(Duration::from_secs(5), drained).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_paths_are_refused_with_their_length() {
        let folder = PathBuf::from(format!("/{}", "x".repeat(80)));
        let error = socket_path(&folder, "project:region:instance").unwrap_err();
        assert!(matches!(error, LabError::SocketPath { length: 119, .. }), "{error}");
        assert!(socket_path(Path::new("/tmp/lab/cloudsql"), "project:region:instance").is_ok());
    }
}
