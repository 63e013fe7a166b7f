//! What Python's libraries call a database error: the real underlying condition, in the words of
//! asyncpg, SQLAlchemy and psycopg2.

use std::error::Error as _;
use std::fmt;
use std::io::ErrorKind;

use tokio_postgres::error::{DbError, SqlState};

/// An error of the database, as the application sees it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DatabaseError {
    /// No answer within the limit.
    Timeout,
    /// The other end closed before the connection was there, or while it was used.
    Closed,
    /// It reset it.
    Reset,
    /// Nobody listens at `host:port`.
    Refused(String),
    /// There is no such socket or host.
    NoSocket,
    /// The server refused, with its SQLSTATE and words.
    Server { code: String, message: String },
    /// The pool had no connection to give.
    PoolEmpty { size: usize, seconds: f64 },
    /// Anything else, in the driver's words.
    Other(String),
}

impl DatabaseError {
    pub(crate) fn from_driver(error: &tokio_postgres::Error, address: &str) -> Self {
        if let Some(server) = error.as_db_error() {
            return Self::from_server(server);
        }
        let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
        match io.map(std::io::Error::kind) {
            Some(ErrorKind::ConnectionRefused) => Self::Refused(address.to_owned()),
            Some(ErrorKind::ConnectionReset) => Self::Reset,
            Some(ErrorKind::NotFound) => Self::NoSocket,
            Some(ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe) => Self::Closed,
            _ if error.is_closed() => Self::Closed,
            Some(_) | None => Self::Other(error.to_string()),
        }
    }

    fn from_server(server: &DbError) -> Self {
        Self::Server { code: server.code().code().into(), message: server.message().into() }
    }

    /// Whether a driver would try again: not when the server understood and refused.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(self, Self::Timeout | Self::Closed | Self::Reset | Self::Refused(_))
    }

    /// The exception's type, as a traceback's last line begins.
    pub(crate) fn class(&self) -> &'static str {
        match self {
            Self::Timeout => "TimeoutError",
            Self::Closed => "asyncpg.exceptions.ConnectionDoesNotExistError",
            Self::Reset => "ConnectionResetError",
            Self::Refused(_) => "ConnectionRefusedError",
            Self::NoSocket => "FileNotFoundError",
            Self::PoolEmpty { .. } => "sqlalchemy.exc.TimeoutError",
            Self::Other(_) => "asyncpg.exceptions.InterfaceError",
            Self::Server { code, .. } => {
                let code = SqlState::from_code(code);
                match code {
                    SqlState::INVALID_PASSWORD => "asyncpg.exceptions.InvalidPasswordError",
                    SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                        "asyncpg.exceptions.InvalidAuthorizationSpecificationError"
                    }
                    SqlState::INVALID_CATALOG_NAME => "asyncpg.exceptions.InvalidCatalogNameError",
                    SqlState::TOO_MANY_CONNECTIONS => "asyncpg.exceptions.TooManyConnectionsError",
                    SqlState::CANNOT_CONNECT_NOW => "asyncpg.exceptions.CannotConnectNowError",
                    SqlState::QUERY_CANCELED => "asyncpg.exceptions.QueryCanceledError",
                    SqlState::LOCK_NOT_AVAILABLE => "asyncpg.exceptions.LockNotAvailableError",
                    SqlState::UNDEFINED_TABLE => "asyncpg.exceptions.UndefinedTableError",
                    SqlState::INSUFFICIENT_PRIVILEGE => {
                        "asyncpg.exceptions.InsufficientPrivilegeError"
                    }
                    SqlState::ADMIN_SHUTDOWN => "asyncpg.exceptions.AdminShutdownError",
                    _ => "asyncpg.exceptions.PostgresError",
                }
            }
        }
    }

    /// `str()` of the exception.
    fn text(&self) -> String {
        match self {
            Self::Timeout => String::new(),
            Self::Closed => "connection was closed in the middle of operation".into(),
            Self::Reset => "[Errno 104] Connection reset by peer".into(),
            Self::Refused(address) => format!("[Errno 111] Connect call failed ({address})"),
            Self::NoSocket => "[Errno 2] No such file or directory".into(),
            Self::Server { message, .. } => message.clone(),
            Self::PoolEmpty { size, seconds } => format!(
                "QueuePool limit of size {size} overflow 0 reached, connection timed out, \
                 timeout {seconds:.2} (Background on this error at: https://sqlalche.me/e/20/3o7r)"
            ),
            Self::Other(text) => text.clone(),
        }
    }

    /// What psycopg2 says to the same condition over this socket or address.
    pub(crate) fn psycopg2(&self, place: &str) -> String {
        let why = match self {
            Self::Timeout => "timeout expired".to_owned(),
            Self::Closed | Self::Reset => "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally\n\tbefore or while processing the request.".into(),
            Self::Refused(_) => "Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?".into(),
            Self::NoSocket => "No such file or directory\n\tIs the server running locally and accepting connections on that socket?".into(),
            Self::Server { message, .. } => format!("FATAL:  {message}"),
            Self::PoolEmpty { .. } | Self::Other(_) => self.text(),
        };
        format!(
            "(psycopg2.OperationalError) connection to server {place} failed: {why}\n\n\
             (Background on this error at: https://sqlalche.me/e/20/e3q8)"
        )
    }

    /// A traceback out of a connection attempt of the engine.
    pub(crate) fn traceback(&self) -> String {
        let frames = match self {
            Self::PoolEmpty { .. } => POOL_FRAMES,
            Self::Server { code, .. }
                if !code.starts_with("28")
                    && !code.starts_with("3D")
                    && !code.starts_with("53") =>
            {
                QUERY_FRAMES
            }
            _ => CONNECT_FRAMES,
        };
        format!("Traceback (most recent call last):\n{}{self}", frames.concat())
    }
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.text() {
            text if text.is_empty() => f.write_str(self.class()),
            text => write!(f, "{}: {text}", self.class()),
        }
    }
}

/// Where a connection attempt of asyncpg under SQLAlchemy ends.
const CONNECT_FRAMES: &[&str] = &[
    "  File \"/app/netra_backend/app/startup_module.py\", line 104, in _verify_required_database_tables_exist\n    async with engine.connect() as conn:\n",
    "  File \"/home/app/.local/lib/python3.11/site-packages/sqlalchemy/engine/base.py\", line 3301, in raw_connection\n    return self.pool.connect()\n",
    "  File \"/home/app/.local/lib/python3.11/site-packages/sqlalchemy/pool/base.py\", line 1264, in _checkout\n    fairy = _ConnectionRecord.checkout(pool)\n",
    "  File \"/home/app/.local/lib/python3.11/site-packages/asyncpg/connection.py\", line 2421, in connect\n    return await connect_utils._connect(\n",
    "  File \"/home/app/.local/lib/python3.11/site-packages/asyncpg/connect_utils.py\", line 1075, in _connect\n    raise last_error or exceptions.TargetServerAttributeNotMatched(\n",
];

const POOL_FRAMES: &[&str] = &[
    "  File \"/home/app/.local/lib/python3.11/site-packages/sqlalchemy/pool/base.py\", line 713, in checkout\n    rec = pool._do_get()\n",
    "  File \"/home/app/.local/lib/python3.11/site-packages/sqlalchemy/pool/impl.py\", line 168, in _do_get\n    raise exc.TimeoutError(\n",
];

const QUERY_FRAMES: &[&str] = &[
    "  File \"/app/netra_backend/app/startup_module.py\", line 112, in _verify_required_database_tables_exist\n    result = await conn.execute(text(query))\n",
    "  File \"/home/app/.local/lib/python3.11/site-packages/sqlalchemy/dialects/postgresql/asyncpg.py\", line 585, in execute\n    self._adapt_connection.await_(\n",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_s_words_keep_their_exception() {
        let error = DatabaseError::Server {
            code: "28P01".into(),
            message: "password authentication failed for user \"app\"".into(),
        };
        assert_eq!(
            error.to_string(),
            "asyncpg.exceptions.InvalidPasswordError: password authentication failed for user \"app\""
        );
        assert!(!error.is_transient());
        assert_eq!(DatabaseError::Timeout.to_string(), "TimeoutError");
        assert!(DatabaseError::Timeout.traceback().ends_with("TimeoutError"));
        assert!(
            DatabaseError::Closed.psycopg2("on socket \"/x\"").contains("failed: server closed")
        );
    }
}
