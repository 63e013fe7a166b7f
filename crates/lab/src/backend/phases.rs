//! What each phase of the start-up does.

use std::fmt::Write as _;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::App;
use super::cache;
use super::config::Defect;
use super::database::{Connector, Pool};
use super::python::DatabaseError;
use super::retry::{self, Circuit};
use super::startup::{Failure, Phase, SMD};

/// Tables the application cannot do without.
const TABLES: [&str; 4] = ["users", "threads", "messages", "runs"];
/// Attempts inside a limit follow each other after this pause.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// The part of the table limit that a statement waits for a lock.
const LOCK_SHARE: f64 = 0.3;
/// HS256 wants a key of its hash's size; the observed application checks for 32 characters.
const SHORTEST_SECRET: usize = 32;

/// The whole start-up of the auth service: one connection to its database, validated.
///
/// # Errors
/// The exception's text, everything logged.
pub(super) async fn auth(app: &App) -> Result<(), String> {
    const MODULE: &str = "auth_service.auth_core.database";
    let log = &app.log;
    log.info(MODULE, "Initializing auth service database connection");
    let limit = app.config.limits.validation;
    let started = async {
        if app.config.database.password.is_none() {
            let message = "Missing required environment variable: POSTGRES_PASSWORD must be set";
            return Err(plain(message.into(), "ValueError"));
        }
        let database = &app.config.database;
        let pool = Pool::new(Connector::new(database, limit), database, limit);
        match timeout(limit, pool.count("select 1::bigint")).await {
            Ok(Ok(_)) => {
                app.set_pool(pool);
                Ok(())
            }
            Ok(Err(DatabaseError::Timeout)) | Err(_) => Err(Failure {
                message: format!(
                    "Database connection validation timeout exceeded ({:.1}s)",
                    limit.as_secs_f64()
                ),
                traceback: DatabaseError::Timeout.traceback(),
                timed_out: true,
                circuit: "closed",
            }),
            Ok(Err(error)) => Err(Failure {
                message: format!("Database connection failed: {error}"),
                traceback: error.traceback(),
                timed_out: false,
                circuit: "closed",
            }),
        }
    };
    started.await.map_err(|failure| {
        log.error(MODULE, &failure.message);
        log.error(MODULE, &failure.traceback);
        failure.message
    })?;
    log.info(MODULE, "Auth service database connection validated");
    app.progress(|progress| progress.state = super::startup::State::Complete);
    Ok(())
}

pub(super) async fn run(app: &App, phase: Phase) -> Result<(), Failure> {
    match phase {
        Phase::Init => init(app),
        Phase::Dependencies => dependencies(app),
        Phase::Database => database(app).await,
        Phase::Cache => {
            cache(app).await;
            Ok(())
        }
        Phase::Services => services(app).await,
        Phase::Websocket => websocket(app),
        Phase::Finalize => finalize(app).await,
    }
}

fn step(app: &App, step: &str, done: &str) {
    app.log.info(SMD, &format!("  [U+2713] Step {step}: {done}"));
}

fn plain(message: String, class: &str) -> Failure {
    let traceback = format!("Traceback (most recent call last):\n{class}: {message}");
    Failure { message, traceback, timed_out: false, circuit: "closed" }
}

fn init(app: &App) -> Result<(), Failure> {
    step(app, "1", "Logging initialized");
    let config = &app.config;
    let set = |is: bool| if is { "SET" } else { "MISSING" };
    app.log.info(SMD, "Environment validation - Critical variables status:");
    for line in [
        format!("  ENVIRONMENT: {}", config.environment),
        format!("  JWT_SECRET_KEY: {}", set(config.jwt_secret.is_some())),
        format!("  POSTGRES_HOST: {}", config.database.host),
        format!("  PORT: {}", config.port),
    ] {
        app.log.info(SMD, &line);
    }
    if config.database.password.is_none() {
        let message = "Missing required environment variable: POSTGRES_PASSWORD must be set";
        return Err(plain(message.into(), "ValueError"));
    }
    step(app, "2", "Environment validated");
    Ok(())
}

fn dependencies(app: &App) -> Result<(), Failure> {
    if let Some(secret) = &app.config.jwt_secret {
        let length = secret.expose_secret().len();
        if length < SHORTEST_SECRET {
            let message = format!(
                "JWT secret validation failed: JWT_SECRET_KEY must be at least {SHORTEST_SECRET} characters, not {length}"
            );
            return Err(plain(message, "ValueError"));
        }
        app.log.info(SMD, &format!("Loaded JWT_SECRET_KEY from environment ({length} characters)"));
    }
    step(app, "3", "Key manager initialized");
    Ok(())
}

async fn database(app: &App) -> Result<(), Failure> {
    let config = &app.config;
    let limits = &config.limits;
    let connector = Connector::new(&config.database, limits.connection);
    if config.faults.lazy_engine {
        migrate(app, &Connector::new(&config.database, Duration::from_secs(3600))).await;
    }
    let pool = Pool::new(connector, &config.database, limits.pool);
    if !config.faults.lazy_engine {
        open(app, &pool).await?;
        step(
            app,
            "4",
            &format!("Database connection pool of {} opened", config.database.pool_size),
        );
    }
    let mut last = DatabaseError::Timeout;
    let lock = limits.table_setup.mul_f64(LOCK_SHARE);
    let tables = timeout(limits.table_setup, tables(&pool, lock, &mut last)).await;
    // The message names the initialization limit, whichever fired: so does the real one.
    let tables = tables.map_err(|_| timed_out(app, &last))?.map_err(|error| refused(&error))?;
    step(app, "5", &format!("Database tables verified ({tables} tables)"));
    app.set_pool(pool);
    Ok(())
}

/// Opens the pool, in one wait or in attempts.
async fn open(app: &App, pool: &Pool) -> Result<(), Failure> {
    let limit = app.config.limits.initialization;
    let Some(retries) = &app.config.retries else {
        let mut last = DatabaseError::Timeout;
        let filled = timeout(limit, fill(pool, &mut last)).await;
        return filled.map_err(|_| timed_out(app, &last))?.map_err(|error| refused(&error));
    };
    let mut circuit = Circuit::default();
    let told = (&app.log, app.config.environment.as_str());
    let opened = retry::run(retries, limit, told, &mut circuit, async || pool.fill().await).await;
    opened.map_err(|error| Failure {
        circuit: circuit.state(),
        ..match error {
            DatabaseError::Timeout => timed_out(app, &error),
            error => refused(&error),
        }
    })
}

/// Whether the schema is there, over a connection of psycopg2 without a limit. What fails is logged
/// and passed over, as in the observed application.
async fn migrate(app: &App, connector: &Connector) {
    let checked = async {
        let client = connector.connect().await?;
        let tables = "select count(*) from pg_catalog.pg_tables where schemaname = 'public'";
        client.query_one(tables, &[]).await.map(drop).map_err(|error| connector.failed(&error))
    };
    const MODULE: &str = "netra_backend.app.startup_module";
    let checked: Result<(), DatabaseError> = checked.await;
    if checked.is_ok() {
        app.log.info(MODULE, "Migrations are up to date");
    }
    if let Err(error) = checked {
        let error = error.psycopg2(connector.place());
        app.log.error(MODULE, &format!("Failed to run migrations: {error}"));
        app.log.warning(MODULE, "Continuing without migrations");
    }
}

/// Opens the pool, again and again while the error may pass.
async fn fill(pool: &Pool, last: &mut DatabaseError) -> Result<(), DatabaseError> {
    loop {
        match pool.fill().await {
            Err(error) if error.is_transient() => *last = error,
            ended => return ended,
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

/// Reads a row of every table over one connection, which waits for a lock no longer than `lock`.
async fn tables(
    pool: &Pool,
    lock: Duration,
    last: &mut DatabaseError,
) -> Result<usize, DatabaseError> {
    let mut check = format!("set lock_timeout = {};", lock.as_millis());
    for table in TABLES {
        let _ = write!(check, " select 1 from {table} limit 1;");
    }
    loop {
        let checked = async { pool.run(&check).await.map(|()| TABLES.len()) };
        match checked.await {
            Err(error) if DatabaseError::is_transient(&error) => *last = error,
            ended => return ended,
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

fn timed_out(app: &App, last: &DatabaseError) -> Failure {
    let claimed = app.config.limits.initialization.as_secs_f64();
    let environment = &app.config.environment;
    Failure {
        message: format!(
            "Database initialization timeout after {claimed:.1}s in {environment} environment. \
             This may indicate Cloud SQL connection issues. Check POSTGRES_HOST configuration and \
             Cloud SQL instance accessibility."
        ),
        traceback: last.traceback(),
        timed_out: true,
        circuit: "closed",
    }
}

fn refused(error: &DatabaseError) -> Failure {
    Failure {
        message: format!(
            "Phase 3 database setup failed - deterministic startup requires functional database: {error}"
        ),
        traceback: error.traceback(),
        timed_out: false,
        circuit: "closed",
    }
}

/// The application goes on without a cache.
async fn cache(app: &App) {
    const MODULE: &str = "netra_backend.app.redis_manager";
    match cache::check(&app.config.redis, app.config.limits.cache).await {
        Ok(()) => {
            app.progress(|progress| progress.cache = true);
            step(app, "6", "Redis connected");
        }
        Err(error) => {
            app.log.warning(MODULE, &format!("Redis connection failed: {error}"));
            let goes_on =
                "Redis unavailable in staging - graceful degradation, continuing without cache";
            app.log.warning(MODULE, goes_on);
        }
    }
}

async fn services(app: &App) -> Result<(), Failure> {
    if app.config.faults.defect == Some(Defect::Services) {
        const WHY: &str = "'NoneType' object has no attribute 'create_execution_engine'";
        return Err(Failure {
            message: format!("Agent supervisor initialization failed: {WHY}"),
            traceback: format!(
                "Traceback (most recent call last):\n  \
                 File \"/app/netra_backend/app/smd.py\", line 1121, in _phase5_services_setup\n    \
                 engine = self.app.state.agent_factory.create_execution_engine()\n\
                 AttributeError: {WHY}"
            ),
            timed_out: false,
            circuit: "closed",
        });
    }
    let users = app.count("select count(*) from users").await;
    let users = users.map_err(|error| refused(&error))?;
    step(app, "7", &format!("User service initialized ({users} users)"));
    step(app, "8", "Agent supervisor initialized");
    Ok(())
}

fn websocket(app: &App) -> Result<(), Failure> {
    // The example of RFC 6455: whoever computes it wrongly lets no client in.
    let accept = derive_accept_key(b"dGhlIHNhbXBsZSBub25jZQ==");
    if accept != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
        return Err(plain("WebSocket handshake self-test failed".into(), "RuntimeError"));
    }
    step(app, "9", "WebSocket handshake verified");
    Ok(())
}

async fn finalize(app: &App) -> Result<(), Failure> {
    let limit = app.config.limits.health_check;
    match timeout(limit, app.count("select count(*) from runs")).await {
        Ok(Ok(_)) => {
            step(app, "10", "Health endpoints verified");
            Ok(())
        }
        Ok(Err(error)) => Err(refused(&error)),
        Err(_) => Err(Failure {
            message: format!("Health check timeout after {:.1}s", limit.as_secs_f64()),
            traceback: DatabaseError::Timeout.traceback(),
            timed_out: true,
            circuit: "closed",
        }),
    }
}
