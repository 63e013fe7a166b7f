//! Which server, as whom, and with which limits.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use shakedown_core::environment::{Database, SslMode};
use shakedown_core::{ProbeCtx, ProbeError};

use crate::wire::Wire;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A host name or an address, and a port.
    Tcp {
        /// The name or address; TLS verifies this name also when `[network.resolve]` says to
        /// connect elsewhere.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix {
        /// The socket itself, not its folder; at most 107 bytes.
        path: PathBuf,
    },
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix { path } => write!(f, "{}", path.display()),
        }
    }
}

/// Which server, as whom, and with which limits.
///
/// The server's part of the limits are settings of the session: `statement_timeout`; `lock_timeout`
/// of 5 s and `idle_in_transaction_session_timeout` of 30 s, or the statement timeout when that is
/// less; from version 14 on, with the first statement that takes its time,
/// `client_connection_check_interval` of 2 s, so that a backend ends soon after a client that went
/// away. (Values of ours: far above what a diagnostic statement takes, far
/// below what would bother the application.)
#[derive(Clone, Debug)]
pub struct PgTarget {
    /// Where.
    pub endpoint: Endpoint,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// Its password, if it needs one.
    pub password: Option<SecretString>,
    /// How much TLS to ask for, with libpq's meanings; ignored on a Unix socket, as libpq does.
    /// Three differences: `prefer` goes on without TLS only when the server does not offer it,
    /// `require` never looks at the certificate, and a CA's own certificate is not accepted as a
    /// server's.
    pub ssl_mode: SslMode,
    /// The longest the whole ladder may take; the environment's `safety.connect_timeout` if that
    /// is less.
    pub connect_timeout: Duration,
    /// The longest a statement may take, at the server. We wait one second more, so that the
    /// server's own word (57014) comes first.
    pub statement_timeout: Duration,
    /// What the server shows for our sessions; at most 63 bytes, begins with [`APPLICATION`].
    ///
    /// [`APPLICATION`]: PgTarget::APPLICATION
    pub application_name: String,
    /// Whether transactions are read-only unless they ask otherwise. A default, not a fence.
    pub read_only: bool,
}

impl PgTarget {
    /// What every `application_name` of ours begins with.
    pub const APPLICATION: &'static str = "shakedown";

    /// The environment's `[database]`, read-only, with the credential it names.
    ///
    /// # Errors
    ///
    /// [`ProbeError::Configuration`] when there is no such table, its host or user is empty, or
    /// [`Wire::of`] fails. A credential that is not there is no error: sockets often need none.
    pub fn of(ctx: &ProbeCtx) -> Result<Self, ProbeError> {
        Wire::of(ctx)?;
        let database = configured(ctx)?;
        if database.host.is_empty() {
            return Err(ProbeError::configuration("the database has no host", "database.host"));
        }
        let endpoint = match database.socket_path() {
            Some(path) => Endpoint::Unix { path: path.into() },
            None => Endpoint::Tcp { host: database.host.clone(), port: database.port },
        };
        Self::at(ctx, database, endpoint, database.ssl_mode)
    }

    /// The environment's `[database.tcp]`, the server's own address, otherwise as [`PgTarget::of`];
    /// `None` when the environment has none.
    ///
    /// # Errors
    ///
    /// As [`PgTarget::of`].
    pub fn tcp_of(ctx: &ProbeCtx) -> Result<Option<Self>, ProbeError> {
        Wire::of(ctx)?;
        let database = configured(ctx)?;
        let Some(tcp) = &database.tcp else { return Ok(None) };
        let endpoint = Endpoint::Tcp { host: tcp.host.clone(), port: tcp.port };
        Self::at(ctx, database, endpoint, tcp.ssl_mode).map(Some)
    }

    /// With `name` in the session's name: `shakedown/<name>`, cut at 63 bytes.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.application_name = format!("{}/{name}", Self::APPLICATION);
        let end = self.application_name.floor_char_boundary(63);
        self.application_name.truncate(end);
        self
    }

    fn at(
        ctx: &ProbeCtx,
        database: &Database,
        endpoint: Endpoint,
        ssl_mode: SslMode,
    ) -> Result<Self, ProbeError> {
        if database.user.is_empty() {
            return Err(ProbeError::configuration("the database has no user", "database.user"));
        }
        Ok(Self {
            endpoint,
            database: database.name.clone(),
            user: database.user.clone(),
            password: ctx.credentials().get(&database.credential).cloned(),
            ssl_mode,
            connect_timeout: database.connect_timeout.value.get(),
            statement_timeout: database.statement_timeout.value.get(),
            application_name: Self::APPLICATION.to_owned(),
            read_only: true,
        })
    }

    /// How TLS is really spoken: not at all on a Unix socket.
    pub(crate) fn effective_ssl_mode(&self) -> SslMode {
        match self.endpoint {
            Endpoint::Tcp { .. } => self.ssl_mode,
            Endpoint::Unix { .. } => SslMode::Disable,
        }
    }

    /// The settings of a session, each with its value.
    pub(crate) fn session_settings(&self) -> Vec<(&'static str, String)> {
        let millis = |limit: Duration| {
            // 0 would mean "no limit".
            limit.min(self.statement_timeout).as_millis().clamp(1, i32::MAX as u128).to_string()
        };
        let mut settings = vec![
            ("statement_timeout", millis(self.statement_timeout)),
            ("lock_timeout", millis(Duration::from_secs(5))),
            ("idle_in_transaction_session_timeout", millis(Duration::from_secs(30))),
        ];
        if self.read_only {
            settings.push(("default_transaction_read_only", "on".into()));
        }
        settings
    }
}

fn configured(ctx: &ProbeCtx) -> Result<&Database, ProbeError> {
    let missing = || ProbeError::configuration("the environment has no database", "database.host");
    ctx.environment().database.as_ref().ok_or_else(missing)
}
