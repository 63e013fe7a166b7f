//! The ladder: resolve, connect, tls, startup, auth, ready.

use std::time::Duration;

use secrecy::ExposeSecret;
use shakedown_core::clock::{self, Instant, Timestamp};
use shakedown_core::environment::SslMode;
use shakedown_core::id::resource;
use shakedown_core::{Fault, Lease, ProbeCtx, Step};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

use super::connection::{PgConnection, fault_of};
use super::logins::Logins;
use super::meter::Meter;
use super::target::{Endpoint, PgTarget};
use crate::climb::{CLOSE_LIMIT, Climb, Ladder, peer_is_gone};
use crate::tls::{self, CertificateInfo};
use crate::transport::{self, Transport, never_connected};
use crate::wire::Wire;

/// Bytes a server may send before it is ready for the first query.
const STARTUP_CAP: u64 = 1 << 20;

/// Connects to `target`, up to and including `ready`, within its `connect_timeout` in all.
///
/// Rungs: `resolve` and `connect` (only `connect` on a Unix socket), `tls` when TLS is asked for,
/// `startup` until the server answers our first message, `auth` until it accepts us, `ready` until
/// it takes queries. A server's refusal is booked to the rung it came at: 53300 for an ordinary
/// role comes at `ready`, for everybody at `startup`; 28P01 at `auth`; 3D000 at `ready`.
///
/// PostgreSQL sends its acceptance together with what follows it, so the time it takes to set up
/// the session is in `auth`, and `ready` is near zero. `startup` is the time it takes to start a
/// backend, and behind a proxy that accepts at once the time it takes that proxy to connect.
///
/// The caller promises that the lease is a
/// [`DATABASE_CONNECTION`](shakedown_core::id::resource::DATABASE_CONNECTION).
///
/// After a refusal it waits at most 1 s for the server to close its end, so that the lease comes
/// back; no rung counts that wait.
///
/// # Errors
///
/// The fault of the last step. TLS that the server does not offer is
/// [`Fault::Tls`] with `not-supported`; a password that is asked for and not configured is
/// [`Fault::Protocol`].
///
/// # Panics
///
/// When the lease is for something else.
///
/// # Cancel safety
///
/// When dropped, the socket closes and the lease lingers.
pub async fn connect(ctx: &ProbeCtx, lease: Lease, target: &PgTarget) -> Climb<PgConnection> {
    assert_eq!(lease.kind(), &resource::DATABASE_CONNECTION, "the lease of a database connection");
    let mut ladder = Ladder::new(ctx, target.connect_timeout);
    let climbed = climb(&mut ladder, &lease, target).await;
    if !ladder.interrupted() {
        Logins::of(ctx).note(climbed.is_err());
    }
    match climbed {
        Ok(parts) => {
            let connection = PgConnection::new(ctx, lease, target, parts);
            ladder.end(Ok(connection))
        }
        Err(Failed { fault, socket }) => {
            let gone = match socket {
                Some(mut socket) if matches!(fault, Fault::Sql { .. }) => {
                    let end = tokio::time::timeout(CLOSE_LIMIT, socket.wait_for_end());
                    matches!(ctx.guard(end).await, Ok(Ok(())))
                }
                _ => peer_is_gone(&fault) || never_connected(&ladder.steps),
            };
            if gone {
                lease.settle();
            }
            ladder.end(Err(fault))
        }
    }
}

/// A connection that is ready, still without its lease.
pub(crate) struct Parts {
    pub(crate) client: tokio_postgres::Client,
    pub(crate) driver: super::connection::Driver,
    pub(crate) meter: Meter,
}

struct Failed {
    fault: Fault,
    /// The socket, when there still is one.
    socket: Option<Transport>,
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self { fault, socket: None }
    }
}

async fn climb(ladder: &mut Ladder<'_>, lease: &Lease, target: &PgTarget) -> Result<Parts, Failed> {
    let transport = dial(ladder, lease, target).await?;
    session(ladder, target, transport).await
}

/// The rungs below `startup`.
pub(super) async fn dial(
    ladder: &mut Ladder<'_>,
    lease: &Lease,
    target: &PgTarget,
) -> Result<Transport, Fault> {
    let wire = ladder.wire()?;
    let mode = target.effective_ssl_mode();
    if mode != SslMode::Disable {
        // Reads the roots if nobody has yet: not to be counted in the rung.
        wire.tls();
    }
    ladder.pace(lease, &[resource::NEW_CONNECTION]).await?;
    Ok(match &target.endpoint {
        Endpoint::Unix { path } => Transport::Unix(transport::unix(ladder, path).await?),
        Endpoint::Tcp { host, port } => {
            let (stream, _) = transport::tcp(ladder, &wire, host, *port).await?;
            match mode {
                SslMode::Disable => Transport::Tcp(stream),
                _ => ladder.rung("tls", encrypt(&wire, mode, host, stream)).await?,
            }
        }
    })
}

/// Asks for TLS and shakes hands, as libpq does.
async fn encrypt(
    wire: &Wire,
    mode: SslMode,
    host: &str,
    mut stream: TcpStream,
) -> Result<(Transport, Option<String>), Fault> {
    /// Length 8, then the number that stands for SSLRequest.
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    let io = |error: std::io::Error| Fault::from_io(&error);
    let config = wire.tls().database(mode)?;
    stream.write_all(&SSL_REQUEST).await.map_err(io)?;
    // Exactly one byte: whatever came behind it in clear must not be taken for part of the session.
    match stream.read_u8().await.map_err(io)? {
        b'S' => {
            let stream = tls::handshake(config, host, stream).await?;
            let detail = CertificateInfo::of(&stream).map(|certificate| certificate.summary());
            Ok((Transport::Tls(stream), detail))
        }
        b'N' if mode == SslMode::Prefer => {
            Ok((Transport::Tcp(stream), Some("not offered by the server, goes on without".into())))
        }
        b'N' => Err(Fault::Tls {
            reason: "not-supported".into(),
            message: "the server does not offer TLS".into(),
        }),
        other => Err(Fault::Protocol {
            message: format!("expected S or N upon asking for TLS, came byte {other:#04x}"),
        }),
    }
}

/// The rungs `startup`, `auth` and `ready`.
async fn session(
    ladder: &mut Ladder<'_>,
    target: &PgTarget,
    transport: Transport,
) -> Result<Parts, Failed> {
    let meter = Meter::default();
    meter.seen().cap = STARTUP_CAP;
    let config = configuration(target);
    let (at, since) = (clock::wall(), clock::now());
    let connected = ladder
        .bounded(async {
            let connected = config.connect_raw(meter.over(transport), NoTls).await;
            connected.map_err(|error| fault_of(&error, &meter))
        })
        .await;
    let (result, fault) = match connected {
        Ok(both) => (Some(both), None),
        Err(fault) => (None, Some(fault)),
    };
    let mut seen = meter.seen();
    let stamps = [seen.answered, seen.authenticated, seen.ready];
    push_steps(&mut ladder.steps, at, since, stamps, fault.clone());
    let socket = seen.returned.take();
    drop(seen);
    match (result, fault) {
        (Some((client, driver)), _) => Ok(Parts { client, driver, meter }),
        (None, fault) => {
            let fault = fault.unwrap_or(Fault::Closed);
            Err(Failed { fault, socket })
        }
    }
}

/// One step per stamp, and one for the fault at the first rung without a stamp.
fn push_steps(
    steps: &mut Vec<Step>,
    at: Timestamp,
    since: Instant,
    stamps: [Option<Instant>; 3],
    mut fault: Option<Fault>,
) {
    let mut begun = Duration::ZERO;
    for (rung, stamp) in ["startup", "auth", "ready"].into_iter().zip(stamps) {
        let ended = stamp.filter(|_| fault.is_none() || rung != "ready");
        let until = ended.map_or_else(|| since.elapsed(), |stamp| stamp.duration_since(since));
        let failed = if ended.is_none() { fault.take() } else { None };
        let over = failed.is_some();
        steps.push(Step {
            rung: rung.to_owned(),
            at: at + begun,
            elapsed_ms: clock::millis(until.saturating_sub(begun)),
            detail: None,
            fault: failed,
        });
        if over {
            return;
        }
        begun = until;
    }
}

fn configuration(target: &PgTarget) -> tokio_postgres::Config {
    let mut config = tokio_postgres::Config::new();
    config
        .user(&target.user)
        .dbname(&target.database)
        .application_name(&target.application_name)
        // TLS is ours, below.
        .ssl_mode(tokio_postgres::config::SslMode::Disable);
    if let Some(password) = &target.password {
        config.password(password.expose_secret());
    }
    let mut options = String::with_capacity(160);
    for (name, value) in target.session_settings() {
        options.push_str("-c ");
        options.push_str(name);
        options.push('=');
        options.push_str(&value);
        options.push(' ');
    }
    config.options(options.trim_end());
    config
}
