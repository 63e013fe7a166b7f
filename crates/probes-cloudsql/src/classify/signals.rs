//! The exact texts of PostgreSQL, its drivers, their pools, the Auth Proxy and Cloud Run.

use shakedown_core::case::REFUSES_CLIENT;
use shakedown_core::signal::{Emitter, LogSignal, SignalTable};

/// A driver, the proxy or the platform says that no session came about.
pub(crate) const CANNOT_CONNECT: &str = "cloudsql.cannot-connect";
/// The server says that it has no slot left.
pub(crate) const NO_SLOT: &str = "cloudsql.no-slot";
/// A pool says that it has no connection to give.
pub(crate) const NO_POOLED: &str = "cloudsql.pool-empty";
/// The server ended a statement, or a statement took too long.
pub(crate) const TOO_SLOW: &str = "cloudsql.too-slow";
/// The server says that a statement took five seconds or more.
pub(crate) const LONG: &str = "cloudsql.long-statement";
/// The application says that a session came about: the server's version, or how long it took.
pub(crate) const SESSION: &str = "cloudsql.session";
/// The server or Google refused who asked, or what was asked for does not exist.
pub(crate) const REFUSED: &str = "cloudsql.refused-identity";
/// The server says that its disk is full.
pub(crate) const NO_SPACE: &str = "cloudsql.no-space";
/// The server says that it is going down or coming up.
pub(crate) const RESTARTING: &str = "cloudsql.restarting";

const UNREACHABLE: &str = "cloud_sql_unreachable";
const MAX_CONNECTIONS: &str = "cloud_sql_max_connections";
const POOL: &str = "cloud_sql_pool_exhaustion";
const SLOW: &str = "cloud_sql_slow";
const CONFIGURATION: &str = "configuration_error";
const UNAVAILABLE: &str = "dependency_unavailable";

const fn cannot(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, CANNOT_CONNECT, any).speaks(UNREACHABLE, weight).from(Emitter::Any)
}

const fn slot(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, NO_SLOT, any).speaks(MAX_CONNECTIONS, weight).from(Emitter::Any)
}

const fn pool(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, NO_POOLED, any).speaks(POOL, weight)
}

const fn refused(id: &'static str, any: &'static [&'static str], weight: f64) -> LogSignal {
    LogSignal::new(id, REFUSED, any)
        .speaks(CONFIGURATION, weight)
        .from(Emitter::Any)
        .attributes(NAMED)
}

/// A line beside it that names the same may say that the application goes on without.
const NAMED: &[(&str, &str)] = &[("goes_on", "setting")];

/// It says why no session comes about; what others see of that explains nothing more.
const WHY: &[(&str, &str)] = &[("says", "why")];

/// An application's words that no session came about.
const THAT: &[(&str, &str)] = &[("says", "that")];

/// It says why, and that the socket of Cloud Run's own connection is not there.
const NO_SOCKET: &[(&str, &str)] = &[("says", "why"), ("lacks", "socket")];

/// A classifier of this crate claims it in its own words.
const TOLD_HERE: &[(&str, &str)] = &[("claimed", "by its own crate")];

/// What works on after such a line took no harm from it, where it is below ERROR.
const BELOW_ERROR: &[(&str, &str)] = &[("after_start", "below-error")];

/// Frames of drivers that wait for the answer to a statement: the session is there.
const IN_STATEMENT: &[&str] = &["in bind_execute", "asyncpg/prepared_stmt.py"];

/// A pool that cannot open connections says the same as one whose connections are all taken.
const AMBIGUOUS: &[(&str, &str)] = &[("ambiguous", "true")];

/// The log signals of this crate.
pub const TABLE: SignalTable = SignalTable { name: "cloudsql", signals: SIGNALS };

#[rustfmt::skip]
const SIGNALS: &[LogSignal] = &[
    // --- nobody answers, or the answer ends before a session is there -------------------------
    // libpq, psycopg2, psycopg 3
    cannot("cloudsql.server-closed", &["server closed the connection unexpectedly"], 0.8),
    cannot("cloudsql.ssl-closed", &["SSL connection has been closed unexpectedly"], 0.75),
    cannot("cloudsql.libpq-timeout", &["failed: timeout expired"], 0.85).with(&["connection to server"]),
    // An application's own words, with the port that tells whom it wanted.
    cannot("cloudsql.said-connecting", &["onnecting to ", "onnect to "], 0.75).capture(r"(?i)(?:timeout|timed out)\w*[^\n]{0,60}connect(?:ing)? to \S+:(?:5432|3307)\b|connect(?:ing)? to \S+:(?:5432|3307)\b[^\n]{0,60}(?:timed out|timeout|still pending|no answer|no response)"),
    cannot("cloudsql.libpq-refused", &["failed: Connection refused", "failed: Connection timed out", "failed: Operation timed out", "failed: Connection reset by peer", "failed: No route to host", "failed: Network is unreachable", "failed: Network unreachable", "failed: Host is unreachable"], 0.85).with(&["connection to server"]),
    cannot("cloudsql.libpq-old-refused", &["could not connect to server: Connection", "could not connect to server: No route", "could not connect to server: Network is", "could not connect to server: Operation timed"], 0.85),
    cannot("cloudsql.libpq-broken", &["SSL SYSCALL error: ", "could not receive data from server: ", "could not send data to server: ", "could not send SSL negotiation packet: ", "could not send startup packet: "], 0.75),
    cannot("cloudsql.psycopg-timeout", &["connection timeout expired"], 0.8),
    cannot("cloudsql.psycopg-lost", &["the connection is lost", "consuming input failed:"], 0.7),
    // asyncpg
    cannot("cloudsql.asyncpg-closed", &["connection was closed in the middle of operation", "unexpected connection_lost() call"], 0.75),
    cannot("cloudsql.asyncpg-gone", &["ConnectionDoesNotExistError"], 0.7),
    cannot("cloudsql.asyncpg-refused", &["Connect call failed ("], 0.85).capture(r"Connect call failed \(\[?'?(?P<target>[^',)]+)'?, ?(?:5432|5433|6432|3307)\b|Connect call failed \('(?P<socket>/[^']*)'"),
    cannot("cloudsql.asyncpg-connect-timeout", &["asyncpg/connect_utils.py", "asyncpg/connection.py"], 0.75).with(&["TimeoutError"]).unless(IN_STATEMENT),
    cannot("cloudsql.engine-connect-timeout", &["in _ensure_database", "engine.connect()", "sqlalchemy/pool/base.py", "sqlalchemy/engine/base.py"], 0.7).with(&["TimeoutError"]).unless(&["QueuePool limit", "in bind_execute", "asyncpg/prepared_stmt.py"]),
    cannot("cloudsql.cancelled-connect", &["engine.connect()", "sqlalchemy/pool/base.py", "asyncpg/connect_utils.py"], 0.65).with(&["CancelledError"]).unless(&["QueuePool limit", "TimeoutError", "in bind_execute", "asyncpg/prepared_stmt.py"]),
    cannot("cloudsql.sqlalchemy-operational", &["OperationalError) connection to server", "OperationalError) could not connect"], 0.75).unless(&["authentication failed", "does not exist", "too many clients", "remaining connection slots", "No such file or directory", "no pg_hba.conf"]),
    cannot("cloudsql.asyncpg-reset", &["ConnectionResetError: [Errno 104]", "ConnectionResetError: [Errno 54]"], 0.7).with(&["asyncpg"]),
    cannot("cloudsql.driver-closed", &["InterfaceError: connection is closed", "InterfaceError'>: connection is closed", "InterfaceError: connection already closed", "OperationalError: the connection is closed"], 0.6),
    cannot("cloudsql.said-closed", &["connection is closed"], 0.6).capture(r"(?i)(?P<about>database|postgres)[^\n]{0,80}connection is closed"),
    cannot("cloudsql.psycopg-bad", &["connection is bad: "], 0.75).unless(&["authentication failed", "does not exist", "not known", "too many clients", "No such file", "no pg_hba.conf"]),
    // pg8000 and the Cloud SQL connector for Python
    cannot("cloudsql.pg8000", &["Can't create a connection to host"], 0.8),
    cannot("cloudsql.python-connector", &["google/cloud/sql/connector/"], 0.7).with(&["TimeoutError"]),
    // sqlx, tokio-postgres
    cannot("cloudsql.sqlx-eof", &["expected to read 5 bytes, got 0 bytes at EOF"], 0.8),
    cannot("cloudsql.sqlx-communicating", &["error communicating with database"], 0.75).unless(&["(os error 2)"]),
    cannot("cloudsql.tokio-postgres", &["error connecting to server: ", "error communicating with the server: "], 0.75).unless(&["(os error 2)"]),
    // node-postgres, Prisma, Go, JDBC
    cannot("cloudsql.node", &["connect ECONNREFUSED", "connect ETIMEDOUT", "read ECONNRESET"], 0.75).capture(r"(?:connect|read) E\w+ ?(?P<target>[^\s]*(?::5432|:3307|\.s\.PGSQL)|)").with(&["5432"]),
    cannot("cloudsql.node-terminated", &["Connection terminated unexpectedly", "Connection terminated due to connection timeout"], 0.75),
    cannot("cloudsql.prisma", &["Can't reach database server at"], 0.85),
    cannot("cloudsql.go-dial", &["i/o timeout", "connect: connection refused", "connect: connection timed out", "connect: no route to host", "connect: network is unreachable"], 0.85).capture(r"dial tcp (?P<target>[^\s]+:(?:5432|3307))"),
    cannot("cloudsql.go-broken", &["read: connection reset by peer", "write: connection reset by peer", "write: broken pipe", "read: connection timed out"], 0.75).capture(r"(?:read|write) tcp \S+->(?P<target>\S+:(?:5432|3307))"),
    cannot("cloudsql.go-bad", &["driver: bad connection"], 0.65),
    cannot("cloudsql.jdbc", &["The connection attempt failed.", "org.postgresql.util.PSQLException: Connection to"], 0.8),
    // Cloud Run's own connection, Auth Proxy, Go connector
    cannot("cloudsql.cloud-run", &["Cloud SQL connection failed. Please see https://cloud.google.com/sql/docs/"], 0.85).unless(&["googleapi: Error 403", "googleapi: Error 404", "NOT_AUTHORIZED", "ensure that the account has access"]).any_level(),
    cannot("cloudsql.proxy-dial", &["dial error: failed to dial (connection name"], 0.9).capture(r"dial error: failed to dial(?:[^\n]*dial tcp (?P<target>\S+:(?:5432|3307)))?").any_level(),
    cannot("cloudsql.proxy-handshake", &["handshake failed (connection name"], 0.85).any_level(),
    cannot("cloudsql.proxy-instance", &["failed to connect to instance: "], 0.85).unless(&["googleapi: Error 403", "googleapi: Error 404", "NOT_AUTHORIZED", "config error"]).any_level(),
    cannot("cloudsql.proxy-timeout", &["connection to Cloud SQL instance at "], 0.85).with(&["failed: "]).any_level(),
    cannot("cloudsql.errno", &["[Errno 104] Connection reset by peer", "[Errno 110] Connection timed out", "[Errno 111] Connection refused", "[Errno 113] No route to host", "[Errno 101] Network is unreachable", "Connection reset by peer (os error 104)", "Connection refused (os error 111)"], 0.7).capture(r"(?i)(?P<about>database|postgres|asyncpg|psycopg|cloud ?sql)"),
    // Nobody answers who could know the name; a name that nobody has is a wrong name.
    cannot("cloudsql.no-resolver", &["Temporary failure in name resolution", "getaddrinfo EAI_AGAIN"], 0.75).capture(r"(?i)(?P<about>asyncpg|psycopg|postgres|database|sqlalchemy)"),
    // the application's own words about the way, weaker: somebody's interpretation
    cannot("cloudsql.said-timeout", &["Database connection validation timeout exceeded", "Database connection timeout after", "Timed out connecting to the database", "database connection timed out"], 0.6).attributes(THAT),
    cannot("cloudsql.said-initialization", &["Database initialization timeout after", "database initialization timed out after", "Database initialization failed after"], 0.5).attributes(THAT),
    cannot("cloudsql.said-readiness", &["Core database unavailable", "Database dependency failed", "Database readiness check failed", "Database readiness check timeout", "PostgreSQL readiness check failed"], 0.45).unless(&["has no attribute", "is not defined", "unexpected keyword"]).attributes(THAT),
    cannot("cloudsql.said-failed", &["Database connection failed", "database connection failed", "Failed to connect to database", "failed to connect to database", "Could not connect to the database", "Unable to connect to the database"], 0.45).unless(&["authentication failed", "does not exist", "Not authenticated", "has no attribute", "is not defined", "No module named", "unexpected keyword"]).attributes(THAT),

    // --- restarts, maintenance, failover -----------------------------------------------------
    LogSignal::new("cloudsql.starting-up", RESTARTING, &["the database system is starting up", "the database system is shutting down", "the database system is in recovery mode", "not yet accepting connections", "CannotConnectNowError"]).speaks(UNREACHABLE, 0.8).attributes(&[("after_start", "tolerated")]),
    LogSignal::new("cloudsql.terminated", RESTARTING, &["terminating connection due to administrator command", "terminating connection because of crash of another server process", "AdminShutdownError"]).speaks(UNREACHABLE, 0.65),

    // --- no room to write ----------------------------------------------------------------------
    LogSignal::new("cloudsql.disk-full", NO_SPACE, &["could not extend file", "DiskFullError", "psycopg2.errors.DiskFull", "psycopg.errors.DiskFull", "SQLSTATE 53100", "SQLSTATE: 53100", "could not write to file \"base/", "could not write to file \"pg_wal"]).speaks(UNAVAILABLE, 0.85).from(Emitter::Any).attributes(TOLD_HERE),

    // --- slots -------------------------------------------------------------------------------
    slot("cloudsql.too-many-clients", &["sorry, too many clients already"], 0.9),
    slot("cloudsql.reserved-slots", &["remaining connection slots are reserved"], 0.9),
    slot("cloudsql.role-limit", &["too many connections for role", "too many connections for database"], 0.85),
    slot("cloudsql.too-many-error", &["TooManyConnectionsError", "SQLSTATE 53300", "SQLSTATE: 53300", "(SQLSTATE 53300)"], 0.85),
    slot("cloudsql.pooler-limit", &["MaxClientsInSessionMode", "no more connections allowed (max_client_conn)", "max clients reached - in Session mode"], 0.85),
    slot("cloudsql.proxy-limit", &["exceeded, refusing new connection", "max connections reached (open ="], 0.75).any_level(),

    // --- the application's pool --------------------------------------------------------------
    pool("cloudsql.sqlalchemy-pool", &["QueuePool limit of size"], 0.9).capture(r"QueuePool limit of size (?P<size>\d+) overflow (?P<overflow>\d+) reached, connection timed out(?:, timeout (?P<timeout>[\d.]+))?"),
    pool("cloudsql.psycopg-pool", &["couldn't get a connection after"], 0.85),
    pool("cloudsql.asyncpg-pool", &["asyncpg/pool.py"], 0.6).with(&["TimeoutError", "acquire"]).attributes(AMBIGUOUS),
    pool("cloudsql.sqlx-pool", &["pool timed out while waiting for an open connection"], 0.62).attributes(AMBIGUOUS),
    pool("cloudsql.prisma-pool", &["Timed out fetching a new connection from the connection pool"], 0.85),
    pool("cloudsql.hikari", &["Connection is not available, request timed out after"], 0.85),
    pool("cloudsql.deadpool", &["Timeout occurred while waiting for a slot to become available"], 0.85),
    pool("cloudsql.knex", &["Knex: Timeout acquiring a connection. The pool is probably full."], 0.85),
    pool("cloudsql.node-pool", &["timeout exceeded when trying to connect"], 0.6).attributes(AMBIGUOUS),

    // --- too slow ----------------------------------------------------------------------------
    LogSignal::new("cloudsql.statement-timeout", TOO_SLOW, &["canceling statement due to statement timeout", "QueryCanceledError"]).speaks(SLOW, 0.75),
    // A session was there and a statement was waited for, when whoever asked gave up. The first statement
    // of a session, which its driver sends, says no more than that nobody answers.
    LogSignal::new("cloudsql.statement-waited", TOO_SLOW, IN_STATEMENT).speaks(SLOW, 0.75).capture(r"TimeoutError|CancelledError").unless(&["in first_connect", "in on_connect", "setup_asyncpg_json", "in do_ping", "_get_server_version_info", "connection was closed", "ConnectionDoesNotExistError", "canceling statement due to"]).attributes(WHY),
    LogSignal::new("cloudsql.statement-cancelled", TOO_SLOW, &["canceling statement due to user request"]).speaks(SLOW, 0.65).attributes(BELOW_ERROR),
    LogSignal::new("cloudsql.statement-gave-up", TOO_SLOW, &["Query read timeout", "Timeout during reading attempt"]).speaks(SLOW, 0.65).attributes(BELOW_ERROR),
    // An application that watches its statements: those of five seconds and more.
    LogSignal::new("cloudsql.said-slow-query", TOO_SLOW, &["low query", "low Query", "low statement", "low SQL query", "low SQL statement"]).speaks(SLOW, 0.65).capture(r"[Ss]low (?i:(?:sql )?(?:query|statement)\b[^\n]*?\b(?:(?:[5-9]|[0-9]{2,})(?:\.[0-9]+)? ?s(?:ec[a-z]*)?|(?:[5-9][0-9]{3}|[0-9]{5,})(?:\.[0-9]+)? ?ms)\b)").attributes(BELOW_ERROR),
    // The server's own word about statements that took five seconds and more (`log_min_duration_statement`).
    LogSignal::new("cloudsql.statement-long", LONG, &["LOG:  duration: "]).capture(r"LOG:  duration: (?P<ms>[5-9]\d{3}|\d{5,})(?:\.\d+)? ms").from(Emitter::Any).any_level(),
    // Applications that say so with a version or a time have asked the server; others have a pool.
    LogSignal::new("cloudsql.session-there", SESSION, &["onnected to Postgre", "onnected to postgre", "postgres: connected", "PostgreSQL: connected"]).capture(r"(?i)(?:\bconnected to postgres|postgres\w*: connected)[^\n]{0,60}(?:\b\d\d\.\d+\b|\bin \d+(?:\.\d+)? ?m?s\b)").any_level(),
    LogSignal::new("cloudsql.lock-timeout", TOO_SLOW, &["canceling statement due to lock timeout", "LockNotAvailableError"]).speaks(SLOW, 0.7),
    LogSignal::new("cloudsql.deadlock", TOO_SLOW, &["deadlock detected"]).speaks(SLOW, 0.5),

    // --- who asked, and for what -------------------------------------------------------------
    // The server's own log: it is there, whoever it sends away.
    LogSignal::new("cloudsql.sends-away", REFUSES_CLIENT, &["FATAL:  database \"", "FATAL:  role \"", "FATAL:  password authentication", "FATAL:  no pg_hba.conf"]).capture(r"^(?:\d{4}-\d\d-\d\d [\d:.]+ [A-Z]+ \[\d+\]:? (?:\[[\d-]+\] )?(?:\w+=\S* ?)*)?FATAL:  ").from(Emitter::Any).any_level(),
    refused("cloudsql.password", &["password authentication failed for user", "InvalidPasswordError", "SASL authentication failed", "SCRAM authentication failed", "no password supplied"], 0.9),
    refused("cloudsql.hba", &["no pg_hba.conf entry for"], 0.85),
    refused("cloudsql.no-database", &["InvalidCatalogNameError"], 0.85),
    refused("cloudsql.no-database-text", &["database \""], 0.85).with(&["\" does not exist"]).capture(r#"(?:^|: {1,2}|\) )database "[^"\n]+" does not exist"#),
    refused("cloudsql.no-role", &["\" does not exist", "\" is not permitted to log in", "InvalidAuthorizationSpecificationError"], 0.85).capture(r#"(?:^|: {1,2}|\) )role "[^"\n]+" (?:does not exist|is not permitted to log in)|InvalidAuthorizationSpecificationError"#),
    refused("cloudsql.no-socket", &[".s.PGSQL.5432"], 0.85).with(&["o such file or directory"]).attributes(NO_SOCKET),
    refused("cloudsql.no-socket-errno", &["[Errno 2] No such file or directory", "connect ENOENT /cloudsql/", "connect: no such file or directory"], 0.7).with(&["/cloudsql/"]).attributes(NO_SOCKET),
    // Whoever opens a file names it; a driver that names none was looking for a socket.
    refused("cloudsql.no-socket-unnamed", &["[Errno 2] No such file or directory"], 0.8).capture(r"(?is)(?P<about>database|postgres|asyncpg|psycopg|cloud ?sql|create_unix_connection).*\[Errno 2\] No such file or directory(?:[^:]|$)").attributes(NO_SOCKET),
    refused("cloudsql.no-socket-rust", &["No such file or directory (os error 2)"], 0.8).capture(r"(?i)(?P<about>database|postgres|error connecting to server)").attributes(NO_SOCKET),
    refused("cloudsql.no-host", &["could not translate host name", "getaddrinfo ENOTFOUND", "failed to lookup address information"], 0.75),
    refused("cloudsql.gaierror", &["[Errno -2] Name or service not known", "[Errno -5] No address associated with hostname"], 0.75).capture(r"(?i)(?P<about>asyncpg|psycopg|postgres|database|sqlalchemy)"),
    refused("cloudsql.iam", &["ensure that the account has access to", "cloudsql.instances.connect", "NOT_AUTHORIZED"], 0.9).any_level().attributes(WHY),
    refused("cloudsql.iam-403", &["googleapi: Error 403", "accessNotConfigured"], 0.9).with(&["loud"]).any_level().attributes(WHY),
    refused("cloudsql.no-instance", &["instanceDoesNotExist", "The Cloud SQL instance does not exist"], 0.9).any_level().attributes(WHY),
    refused("cloudsql.no-ip", &["instance does not have IP of type", "config error: "], 0.85).with(&["connection name"]).any_level().attributes(WHY),
    refused("cloudsql.empty-host", &["Configuration(EmptyHost)", "invalid dsn", "invalid DSN", "Could not parse SQLAlchemy URL", "Can't load plugin: sqlalchemy.dialects", "requires an async driver to be used", "invalid connection option", "Could not parse rfc1738 URL", "invalid URI query parameter", "in connection info string", "invalid connection string", "invalid value for parameter \"sslmode\"", "Error parsing connection string", "The provided database string is invalid", "the URL must start with the protocol `postgres", "failed to parse as DSN", "failed to parse as URL", "relative URL without a base", "for connection option \"port\"", "could not determine user name to connect with", "invalid port number: \"", "Expected string or URL object, got None"], 0.85),
    // The address of the database is no address: whoever parses it raises what its type names.
    refused("cloudsql.address-unparsed", &["sqlalchemy/engine/url.py", "in _parse_connect_dsn_and_args", "in make_url", "in _parse_url", "in _parse_connect_arguments"], 0.8).with(&["Error: "]),
    refused("cloudsql.sslmode", &["connect() got an unexpected keyword argument 'sslmode'", "server does not support TLS", "server does not support SSL, but SSL was required", "invalid sslmode value", "server does not support SSL"], 0.85),
    refused("cloudsql.privilege", &["InsufficientPrivilege", "permission denied for table", "permission denied for schema", "permission denied for relation", "permission denied for database"], 0.8),
    refused("cloudsql.read-only", &["in a read-only transaction", "ReadOnlySQLTransaction"], 0.75),
    refused("cloudsql.pooled-statements", &["DuplicatePreparedStatementError", "prepared statement \"__asyncpg_stmt"], 0.7),
    refused("cloudsql.certificate", &["SSL error: certificate verify failed", "server certificate for \"", "root certificate file \"", "could not load client certificate"], 0.85),
];
