//! A pool as applications have one, to be observed.

use std::fmt;
use std::time::Duration;

use secrecy::ExposeSecret;
use shakedown_core::clock;
use shakedown_core::environment::SslMode;
use shakedown_core::id::{ResourceKind, resource};
use shakedown_core::{Fault, Lease, ProbeCtx, Span};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions, Postgres, Row as _};

use super::connection::{PATIENCE, PgConnection};
use super::statements::{BACKEND_PID, SESSIONS_NAMED, SLEEP, Statement};
use super::target::{Endpoint, PgTarget};
use crate::bounds::Bounds;
use crate::climb::{CLOSE_LIMIT, quoted};
use crate::tls;
use crate::wire::Wire;

/// A pool of sqlx, as an application may have one, for probes whose question is the pool itself.
///
/// It is not for finding out what is wrong with a target. Its connections are **not rung-timed**;
/// it turns "refused" and 53300 into a timeout, because it dials again, unpaced, until the time for
/// acquiring is up; and it has no cap on the length of a message. So the caller promises that
/// [`connect`](super::connect) has just passed on the same target.
///
/// It holds as many connections as it was given leases, opens them when they are asked for, and
/// keeps them until it is closed. The server shows them under the target's application name with
/// `/pool` behind it.
pub struct Pool {
    pool: sqlx::Pool<Postgres>,
    leases: Vec<Lease>,
    bounds: Bounds,
    application_name: String,
    acquire_timeout: Duration,
    statement_timeout: Duration,
}

impl Pool {
    /// A pool of at most `leases.len()` connections. Nothing is dialled yet.
    ///
    /// No variable of the process environment decides anything, with two exceptions that sqlx does
    /// not let us overrule: `PGOPTIONS` adds session settings before ours (ours win), and
    /// `PGSSLCERT` with `PGSSLKEY` adds a client certificate.
    ///
    /// # Errors
    ///
    /// [`Fault::Resolve`] when the run's [`Wire`] cannot be made; [`Fault::Tls`] with
    /// `not-supported` for `verify-full` together with a `[network.resolve]` entry, since sqlx
    /// connects to the name it verifies.
    ///
    /// # Panics
    ///
    /// When there is no lease, or one is not for a
    /// [`DATABASE_CONNECTION`](shakedown_core::id::resource::DATABASE_CONNECTION).
    ///
    /// # Cancel safety
    ///
    /// Does not wait; when dropped before the first poll, the leases linger.
    pub async fn open(
        ctx: &ProbeCtx,
        leases: Vec<Lease>,
        target: &PgTarget,
        acquire_timeout: Duration,
    ) -> Result<Self, Fault> {
        assert!(!leases.is_empty(), "a pool takes at least one lease");
        for lease in &leases {
            assert_eq!(lease.kind(), &resource::DATABASE_CONNECTION);
        }
        let wire = Wire::of(ctx).map_err(|error| Fault::Resolve { message: error.to_string() })?;
        let application_name = format!("{}/pool", target.application_name);
        let application_name =
            application_name[..application_name.floor_char_boundary(63)].to_owned();
        let ca_file = ctx.environment().tls.ca_file.as_deref();
        let options = options(&wire, target, ca_file)?.application_name(&application_name);
        let max = u32::try_from(leases.len()).unwrap_or(u32::MAX);
        let pool = PgPoolOptions::new()
            .max_connections(max)
            .min_connections(0)
            .acquire_timeout(acquire_timeout)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_lazy_with(options);
        Ok(Self {
            pool,
            leases,
            bounds: Bounds::of(ctx),
            application_name,
            acquire_timeout,
            statement_timeout: target.statement_timeout,
        })
    }

    /// Takes a connection out of the pool, waiting for at most the time given at
    /// [`open`](Pool::open). Where it will dial, it first waits for the budget's rate, which counts
    /// as no waiting of the pool.
    ///
    /// # Errors
    ///
    /// [`PoolFault`].
    ///
    /// # Cancel safety
    ///
    /// When dropped, nothing is taken out.
    pub async fn acquire(&self) -> Result<Pooled, PoolFault> {
        if self.idle() == 0 && (self.size() as usize) < self.leases.len() {
            const DIAL: ResourceKind = resource::NEW_CONNECTION;
            self.bounds.run(Duration::MAX, self.leases[0].pace(&DIAL)).await?;
        }
        let since = clock::now();
        let acquired = self.bounds.run(self.acquire_timeout + PATIENCE, self.pool.acquire());
        match acquired.await? {
            Ok(connection) => {
                let (bounds, limit) = (self.bounds.clone(), self.statement_timeout + PATIENCE);
                Ok(Pooled { connection, bounds, limit, waited: since.elapsed() })
            }
            Err(sqlx::Error::PoolTimedOut) => Err(PoolFault::TimedOut { after: since.elapsed() }),
            Err(error) => Err(PoolFault::Fault(fault_of(&error))),
        }
    }

    /// How many connections it holds now, idle or out.
    pub fn size(&self) -> u32 {
        self.pool.size()
    }

    /// How many of them are idle.
    pub fn idle(&self) -> usize {
        self.pool.num_idle()
    }

    /// How many it may hold.
    pub fn max(&self) -> usize {
        self.leases.len()
    }

    /// The name the server shows its connections under.
    pub fn application_name(&self) -> &str {
        &self.application_name
    }

    /// Closes what is idle, and what is out as it comes back, waiting for at most 1 s. sqlx does not
    /// wait for the server's end, so the leases linger; see [`close_seen_by`](Pool::close_seen_by).
    ///
    /// # Cancel safety
    ///
    /// When dropped, the closing goes on as connections come back; the leases linger.
    pub async fn close(self) {
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.pool.close()).await;
    }

    /// As [`close`](Pool::close), then asks `witness` for at most 1 s whether the server still
    /// shows a connection of this pool; the leases come back at once when it does not. Whether it
    /// did not.
    ///
    /// # Cancel safety
    ///
    /// As [`close`](Pool::close).
    pub async fn close_seen_by(self, witness: &mut PgConnection) -> bool {
        let _ = tokio::time::timeout(CLOSE_LIMIT, self.pool.close()).await;
        let until = clock::now() + CLOSE_LIMIT;
        loop {
            let shown = witness.query(SESSIONS_NAMED, &[&self.application_name.as_str()]).await;
            let shown = shown.ok().and_then(|rows| rows.first()?.try_get::<_, i64>(0).ok());
            match shown {
                Some(0) => break,
                Some(_) if clock::now() < until => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => return false,
            }
        }
        self.leases.into_iter().for_each(Lease::settle);
        true
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("size", &self.size())
            .field("idle", &self.idle())
            .field("max", &self.max())
            .finish_non_exhaustive()
    }
}

/// Why a pool gave no connection.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PoolFault {
    /// None became available in time. The pool does not say why: all may be out, or the server may
    /// refuse every new one.
    #[error("no connection of the pool became available within {after:?}")]
    TimedOut {
        /// How long it took to give up, measured.
        after: Duration,
    },
    /// Connecting failed for good, or the probe was cancelled or ran out of time.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A connection that is out of the pool, and goes back when dropped.
pub struct Pooled {
    connection: PoolConnection<Postgres>,
    bounds: Bounds,
    limit: Duration,
    waited: Duration,
}

impl Pooled {
    /// How long [`Pool::acquire`] waited for it, dialling included.
    pub fn waited(&self) -> Duration {
        self.waited
    }

    /// Runs a statement without parameters; how many rows came.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`].
    ///
    /// # Panics
    ///
    /// When the statement has parameters.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the statement may go on at the server until its timeout.
    pub async fn query(&mut self, statement: Statement) -> Result<usize, Fault> {
        assert!(statement.types().is_empty(), "no parameters for {statement}");
        let rows = sqlx::query(statement.sql()).fetch_all(&mut *self.connection);
        let rows = self.bounds.run(self.limit, rows).await?;
        rows.map(|rows| rows.len()).map_err(|error| fault_of(&error))
    }

    /// Keeps the connection busy at the server for so many seconds, or until the statement timeout.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`].
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Pooled::query).
    pub async fn sleep(&mut self, seconds: f64) -> Result<(), Fault> {
        let asleep = sqlx::query(SLEEP.sql()).bind(seconds).fetch_all(&mut *self.connection);
        let woken = self.bounds.run(self.limit, asleep).await?;
        woken.map(drop).map_err(|error| fault_of(&error))
    }

    /// The process id of its backend: which connection of the pool this is.
    ///
    /// # Errors
    ///
    /// As [`PgConnection::query`].
    ///
    /// # Cancel safety
    ///
    /// As [`query`](Pooled::query).
    pub async fn backend_pid(&mut self) -> Result<i32, Fault> {
        let row = sqlx::query(BACKEND_PID.sql()).fetch_one(&mut *self.connection);
        let row = self.bounds.run(self.limit, row).await?;
        row.and_then(|row| row.try_get(0)).map_err(|error| fault_of(&error))
    }
}

impl fmt::Debug for Pooled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pooled").field("waited", &self.waited).finish_non_exhaustive()
    }
}

/// Every field is set, since sqlx begins with what the process environment says.
fn options(
    wire: &Wire,
    target: &PgTarget,
    ca_file: Option<&str>,
) -> Result<PgConnectOptions, Fault> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .username(&target.user)
        .password(target.password.as_ref().map_or("", |password| password.expose_secret()))
        .database(&target.database)
        .options(target.session_settings())
        .ssl_root_cert_from_pem(Vec::new())
        .disable_statement_logging();
    let mode = target.effective_ssl_mode();
    options = options.ssl_mode(match mode {
        SslMode::Disable => PgSslMode::Disable,
        SslMode::Prefer => PgSslMode::Prefer,
        SslMode::Require => PgSslMode::Require,
        SslMode::VerifyCa => PgSslMode::VerifyCa,
        SslMode::VerifyFull => PgSslMode::VerifyFull,
    });
    if let Some(path) = ca_file {
        options = options.ssl_root_cert(path);
    }
    match &target.endpoint {
        Endpoint::Tcp { host, port } => match wire.instead(host, *port) {
            None => Ok(options.host(host).port(*port)),
            Some(_) if mode == SslMode::VerifyFull => Err(Fault::Tls {
                reason: "not-supported".into(),
                message: "a pool cannot verify a name it does not connect to".into(),
            }),
            Some(address) => Ok(options.host(&address.ip().to_string()).port(address.port())),
        },
        Endpoint::Unix { path } => {
            let wrong = || Fault::Resolve {
                message: format!("`{}` is not FOLDER/.s.PGSQL.PORT", path.display()),
            };
            let folder = path.parent().ok_or_else(wrong)?;
            let port = path.file_name().and_then(|name| name.to_str());
            let port = port.and_then(|name| name.strip_prefix(".s.PGSQL.")?.parse().ok());
            Ok(options.host("localhost").socket(folder).port(port.ok_or_else(wrong)?))
        }
    }
}

fn fault_of(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => Fault::Sql {
            sqlstate: quoted(&error.code().unwrap_or_default(), 5),
            message: quoted(error.message(), 500),
        },
        sqlx::Error::Io(error) => tls::fault(error),
        sqlx::Error::Tls(error) => match error.downcast_ref::<std::io::Error>() {
            Some(error) => tls::fault(error),
            None => Fault::Tls { reason: "other".into(), message: quoted(&error.to_string(), 300) },
        },
        sqlx::Error::PoolTimedOut => Fault::Timeout { limit: Span::default() },
        sqlx::Error::PoolClosed => Fault::Closed,
        error => Fault::Protocol { message: quoted(&error.to_string(), 300) },
    }
}
