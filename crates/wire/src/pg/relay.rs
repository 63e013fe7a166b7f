//! A Unix socket through which an application that is not ours reaches the database, on our leases.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use shakedown_core::clock::{self, Instant};
use shakedown_core::id::resource;
use shakedown_core::{Allotment, Fault, Lease, ProbeCtx};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use super::connect::dial;
use super::frame::{Event, Frame};
use super::target::PgTarget;
use crate::climb::{CLOSE_LIMIT, Ladder};
use crate::transport::{Transport, never_connected};

/// The longest first message that is read; PostgreSQL's own limit.
const STARTUP_CAP: usize = 10_000;
/// How long a client may take to send it.
const STARTUP_LIMIT: Duration = Duration::from_secs(10);
/// The most clients at once, waiting ones among them; more are closed.
const CLIENTS: usize = 1000;
/// The most backends remembered.
const BACKENDS: usize = 1000;
/// What is copied at a time.
const BUFFER: usize = 16 << 10;

/// What a connection is told that no lease was free for. It stands in the message, not in the detail,
/// because the message is what applications log: whoever reads their words can tell our limit from
/// the server's.
pub const OUR_LIMIT: &str =
    "sorry, too many clients already: the limit is shakedown's budget, not the server's";

/// Where a [`Relay`] leads, and for whom.
#[derive(Clone, Debug)]
pub struct RelaySettings {
    /// The server. Role, password and database are the application's own; the rest is ours.
    pub target: PgTarget,
    /// How long a connection waits for a lease before it is refused with SQLSTATE 53300.
    pub patience: Duration,
    /// The only role that may log in through it, the one that was checked; any where `None`.
    pub only_user: Option<String>,
}

/// What went through a [`Relay`] so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RelayReport {
    /// Connections the application opened.
    pub accepted: u64,
    /// Those that were led to the server and are open now.
    pub open: u32,
    /// The most that were open at once.
    pub peak: u32,
    /// Those that had to wait for a lease or for our rate of new connections.
    pub waited: u64,
    /// The longest such wait, in milliseconds.
    pub longest_wait_ms: f64,
    /// Those we refused with 53300: the limit was ours, not the server's.
    pub refused: u64,
    /// Those we refused with 28000: another role than the one that was checked.
    pub other_role: u64,
    /// Those that came as far as the server's first ReadyForQuery.
    pub ready: u64,
    /// The longest way there, dial included, in milliseconds.
    pub slowest_ready_ms: f64,
    /// Those whose dial to the server failed.
    pub failed: u64,
    /// The latest such failure.
    pub fault: Option<Fault>,
    /// The server's process ids of the sessions, the first thousand.
    pub backends: Vec<i32>,
}

impl RelayReport {
    /// Whether our own limits held the application up.
    pub fn limited(&self) -> bool {
        self.refused > 0 || self.waited > 0
    }
}

/// A PostgreSQL server's Unix socket of our own: what connects there is led to the target, each
/// connection on one lease that travels with it.
///
/// A connection for which no lease is free within [`RelaySettings::patience`] is refused as a server
/// without a free slot refuses it (`FATAL`, 53300), with a detail that says whose limit it was. When
/// the dial fails, the client is closed without a word, as the Auth Proxy does. TLS is refused to the
/// client, as PostgreSQL does on a Unix socket; towards the server it is the target's. Requests to
/// cancel a query are not passed on: they would cost a connection outside the budget.
#[derive(Debug)]
pub struct Relay {
    listener: UnixListener,
    path: PathBuf,
    allotment: Allotment,
    settings: RelaySettings,
    report: Mutex<RelayReport>,
}

impl Relay {
    /// Listens at `directory/.s.PGSQL.5432`. The leases come from `allotment`.
    ///
    /// # Errors
    ///
    /// Those of binding: the folder is not there, the path is taken, or it is longer than a socket's
    /// may be (103 to 107 bytes).
    pub fn bind(
        directory: &Path,
        allotment: Allotment,
        settings: RelaySettings,
    ) -> io::Result<Self> {
        let path = directory.join(".s.PGSQL.5432");
        let listener = UnixListener::bind(&path)?;
        Ok(Self { listener, path, allotment, settings, report: Mutex::default() })
    }

    /// What went through so far.
    pub fn report(&self) -> RelayReport {
        self.state().clone()
    }

    /// Serves until it is dropped.
    ///
    /// # Cancel safety
    ///
    /// When dropped, every connection is closed; the leases of those the server was not seen to
    /// close linger. It may be called again.
    pub async fn serve(&self, ctx: &ProbeCtx) {
        let mut clients = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((client, _)) if clients.len() < CLIENTS => {
                        self.state().accepted += 1;
                        clients.push(self.client(ctx, client));
                    }
                    Ok(_) => {}
                    // Out of descriptors, most likely: they come back.
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(()) = clients.next(), if !clients.is_empty() => {}
            }
        }
    }

    async fn client(&self, ctx: &ProbeCtx, mut client: UnixStream) {
        let first = tokio::time::timeout(STARTUP_LIMIT, Startup::read(&mut client)).await;
        let Ok(Ok(Some(startup))) = first else { return };
        if let Some(only) = &self.settings.only_user
            && startup.user != *only
        {
            self.state().other_role += 1;
            let words = "the role is not the one that was checked";
            refuse(&mut client, "28000", words, "shakedown lets only that one through").await;
            return;
        }
        let since = clock::now();
        let lease = async { self.allotment.lease(&resource::DATABASE_CONNECTION).await };
        let Ok(Ok(lease)) = tokio::time::timeout(self.settings.patience, lease).await else {
            self.state().refused += 1;
            let detail = "raise safety.database_connections, or lower application.draws";
            refuse(&mut client, "53300", OUR_LIMIT, detail).await;
            return;
        };
        let mut ladder = Ladder::new(ctx, self.settings.target.connect_timeout);
        let dialled = dial(&mut ladder, &lease, &self.settings.target).await;
        let rungs_ms: f64 = ladder.steps.iter().map(|step| step.elapsed_ms).sum();
        self.waited(clock::millis(since.elapsed()) - rungs_ms);
        match dialled {
            Err(fault) => {
                if never_connected(&ladder.steps) {
                    lease.settle();
                }
                let mut state = self.state();
                state.failed += 1;
                state.fault = Some(fault);
            }
            Ok(server) => {
                let begun = clock::now() - Duration::from_secs_f64(rungs_ms / 1e3);
                self.pass(client, server, lease, &startup.bytes, begun).await;
            }
        }
    }

    /// Notes a wait for a lease or for the rate; what a busy machine takes is none.
    fn waited(&self, wait_ms: f64) {
        if wait_ms >= 50.0 {
            let mut state = self.state();
            state.waited += 1;
            state.longest_wait_ms = state.longest_wait_ms.max(wait_ms);
        }
    }

    async fn pass(
        &self,
        client: UnixStream,
        mut server: Transport,
        lease: Lease,
        startup: &[u8],
        begun: Instant,
    ) {
        let _open = Open::of(self);
        if server.write_all(startup).await.is_err() {
            return;
        }
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = tokio::io::split(server);
        let up = copy(client_read, server_write, |_| {});
        let mut frame = Some(Frame::default());
        let down = copy(server_read, client_write, |bytes| {
            // Only the login is looked at.
            let Some(following) = &mut frame else { return };
            let mut done = false;
            let followed = following.follow(bytes, |event| match event {
                Event::Backend(pid) => {
                    let mut state = self.state();
                    if state.backends.len() < BACKENDS {
                        state.backends.push(pid);
                    }
                }
                Event::Ready => {
                    done = true;
                    let mut state = self.state();
                    state.ready += 1;
                    let took = clock::millis(begun.elapsed());
                    state.slowest_ready_ms = state.slowest_ready_ms.max(took);
                }
                _ => {}
            });
            if done || followed.is_err() {
                frame = None;
            }
        });
        tokio::pin!(up, down);
        let server_ended = tokio::select! {
            () = &mut down => true,
            // The application has gone: the server closes its end when it has seen that.
            () = &mut up => tokio::time::timeout(CLOSE_LIMIT, down).await.is_ok(),
        };
        if server_ended {
            lease.settle();
        }
    }

    fn state(&self) -> MutexGuard<'_, RelayReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // A path that has gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Counts a connection as open for as long as it lives.
struct Open<'a>(&'a Relay);

impl<'a> Open<'a> {
    fn of(relay: &'a Relay) -> Self {
        let mut state = relay.state();
        state.open += 1;
        state.peak = state.peak.max(state.open);
        Self(relay)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.state().open -= 1;
    }
}

/// Copies until `from` ends or either fails, then closes `to`.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut seen: impl FnMut(&[u8]),
) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        seen(&buffer[..read]);
        if to.write_all(&buffer[..read]).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    // Whoever has gone needs no farewell.
    let _ = to.shutdown().await;
}

/// A client's first message.
#[derive(Debug, PartialEq)]
struct Startup {
    bytes: Vec<u8>,
    user: String,
}

impl Startup {
    /// Reads it, refusing TLS and GSS as often as a client asks. `None` for a request to cancel.
    async fn read(client: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Option<Self>> {
        const CANCEL: u32 = 80_877_102;
        const TLS: u32 = 80_877_103;
        const GSS: u32 = 80_877_104;
        // Once for each of the two kinds of encryption.
        for _ in 0..3 {
            let length = client.read_u32().await? as usize;
            if !(8..=STARTUP_CAP).contains(&length) {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut bytes = vec![0; length];
            client.read_exact(&mut bytes[4..]).await?;
            let announced = u32::try_from(length).unwrap_or(u32::MAX);
            bytes[..4].copy_from_slice(&announced.to_be_bytes());
            match u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) {
                TLS | GSS if length == 8 => client.write_all(b"N").await?,
                CANCEL => return Ok(None),
                version if version >> 16 == 3 => {
                    let user = parameter(&bytes[8..], b"user");
                    return Ok(Some(Self { user, bytes }));
                }
                _ => break,
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// A parameter of the first message: names and values in turn, each ended by a zero.
fn parameter(bytes: &[u8], name: &[u8]) -> String {
    let mut texts = bytes.split(|byte| *byte == 0);
    while let (Some(key), Some(value)) = (texts.next(), texts.next()) {
        if key == name {
            return String::from_utf8_lossy(value).into_owned();
        }
    }
    String::new()
}

/// Says no as a server does, and waits a moment for the client to have read it.
async fn refuse(client: &mut UnixStream, sqlstate: &str, message: &str, detail: &str) {
    let fields = [('S', "FATAL"), ('V', "FATAL"), ('C', sqlstate), ('M', message), ('D', detail)];
    let mut body = Vec::with_capacity(160);
    for (kind, text) in fields {
        body.push(kind as u8);
        body.extend_from_slice(text.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    let answer = [b"E", &length.to_be_bytes()[..], &body].concat();
    let farewell = async {
        client.write_all(&answer).await?;
        client.shutdown().await?;
        let mut scratch = [0; 256];
        while client.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    // A client that does not read it has gone, or does not want to know.
    let _ = tokio::time::timeout(CLOSE_LIMIT, farewell).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn startup(user: &str) -> Vec<u8> {
        let mut body = vec![0, 3, 0, 0];
        for text in ["database", "d", "user", user, ""] {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        let length = u32::try_from(body.len() + 4).unwrap();
        [&length.to_be_bytes()[..], &body].concat()
    }

    async fn read(bytes: &[u8]) -> (io::Result<Option<Startup>>, Vec<u8>) {
        let (mut client, mut ours) = tokio::io::duplex(64 << 10);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let read = Startup::read(&mut ours).await;
        drop(ours);
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        (read, answers)
    }

    #[tokio::test]
    async fn the_first_message_is_passed_on_as_it_came() {
        let plain = startup("app");
        let tls = [&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f][..], &plain].concat();
        for (bytes, answers) in [(plain.clone(), ""), (tls, "N")] {
            let (read, said) = read(&bytes).await;
            let read = read.unwrap().expect("no request to cancel");
            assert_eq!((read.user.as_str(), &read.bytes), ("app", &plain));
            assert_eq!(said, answers.as_bytes());
        }
    }

    #[tokio::test]
    async fn what_is_no_first_message_is_refused() {
        let cancel = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2];
        assert_eq!(read(&cancel).await.0.unwrap(), None);
        for bytes in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            &[0, 0, 0, 4],
            &[0xff; 64],
            &[0, 0, 0, 8, 0, 2, 0, 0],
            &[0, 0],
            // It goes on asking for TLS.
            &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f].repeat(4),
        ] {
            assert!(read(bytes).await.0.is_err(), "{bytes:?}");
        }
    }
}
