//! From the process's first line to its exit code: gunicorn with one uvicorn worker, or bare uvicorn.

use std::io::Write;
use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::App;
use super::config::{Config, Defect};
use super::log::{Level, Log};
use super::python::DatabaseError;
use super::{http, phases, startup};
use crate::supervise::end_of_input;

/// The exit code of a start-up that failed: uvicorn's, and gunicorn's for a worker that did not boot.
const STARTUP_FAILED: u8 = 3;
/// The process was stopped.
const STOPPED: u8 = 0;
/// What a container's gunicorn master and its worker have as process ids.
const MASTER: u32 = 12;
const WORKER: u32 = 13;

/// Entry point of the hidden subcommand `lab-backend`: the application of the lab's staging.
///
/// Reads nothing but `variables`, writes its log to `out`, and gives its exit code: 3 when its
/// start-up failed, 0 when it was stopped by SIGTERM or SIGINT, or, with `LAB_ENDS_WITH_INPUT` set,
/// by the end of standard input. So a lab that is killed leaves no backend behind.
///
/// `PORT`, `K_SERVICE`, `POSTGRES_HOST` (a folder is that of a Unix socket), `POSTGRES_PORT`,
/// `POSTGRES_DB`, `POSTGRES_USER`, `POSTGRES_PASSWORD`, `REDIS_HOST`, `REDIS_PORT` say where it is
/// and what it uses; `LAB_LIMIT_*` its limits; other `LAB_*` its faults.
///
/// # Cancel safety
/// Dropping it ends the application without a word.
pub async fn backend(
    variables: impl IntoIterator<Item = (String, String)>,
    out: impl Write + Send + 'static,
) -> u8 {
    let log = Log::new(out);
    let config = match Config::from_variables(variables) {
        Ok(config) => config,
        Err(problem) => {
            log.error(
                "netra_backend.app.core.config",
                &format!("Invalid configuration: {problem}"),
            );
            return STARTUP_FAILED;
        }
    };
    let ends_with_input = config.variables.get("LAB_ENDS_WITH_INPUT").is_some();
    let app = App::new(config, log);
    let shutdown = CancellationToken::new();
    let input_ends = async {
        if ends_with_input {
            end_of_input().await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        code = run(Arc::clone(&app), shutdown.clone()) => code,
        () = asked_to_stop() => {
            shutdown.cancel();
            say_goodbye(&app);
            STOPPED
        }
        () = input_ends => STOPPED,
    }
}

async fn asked_to_stop() {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(kinds[0]), signal(kinds[1])) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn run(app: Arc<App>, shutdown: CancellationToken) -> u8 {
    let outcome = if app.config.faults.bare_uvicorn {
        under_uvicorn(&app, shutdown).await
    } else {
        under_gunicorn(&app, shutdown).await
    };
    match outcome {
        Ok(never) => match never {},
        Err(Death::StartupFailed) => STARTUP_FAILED,
        Err(Death::Other(why)) => {
            app.log.error("gunicorn", &why);
            1
        }
    }
}

/// Why the application ended by itself.
enum Death {
    /// Its start-up failed, everything logged.
    StartupFailed,
    /// It cannot listen, or its configuration is wrong.
    Other(String),
}

impl From<String> for Death {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

type Lived = Result<std::convert::Infallible, Death>;

/// gunicorn's master binds before its worker boots: until the start-up is over, clients are
/// connected and not answered.
async fn under_gunicorn(app: &Arc<App>, shutdown: CancellationToken) -> Lived {
    let log = &app.log;
    log.gunicorn(MASTER, Level::Info, "Starting gunicorn 23.0.0");
    let (listener, port) = bind(app).await?;
    log.gunicorn(MASTER, Level::Info, &format!("Listening at: http://0.0.0.0:{port} ({MASTER})"));
    log.gunicorn(MASTER, Level::Info, "Using worker: uvicorn.workers.UvicornWorker");
    log.gunicorn(WORKER, Level::Info, &format!("Booting worker with pid: {WORKER}"));
    if !import(app) {
        return Err(master_gives_up(log));
    }
    log.info("uvicorn", &format!("Started server process [{WORKER}]"));
    log.info("uvicorn", "Waiting for application startup.");
    if let Err(error) = start_up(app).await {
        if !app.config.faults.swallow {
            log.error("logging", "Application startup failed. Exiting.");
            return Err(master_gives_up(log));
        }
        swallowed(log, &error);
    }
    log.info("uvicorn", "Application startup complete.");
    keep_busy(app);
    Ok(http::serve(Arc::clone(app), listener, shutdown).await?)
}

/// Bare uvicorn binds when the start-up is over.
async fn under_uvicorn(app: &Arc<App>, shutdown: CancellationToken) -> Lived {
    let log = &app.log;
    if !import(app) {
        return Err(Death::StartupFailed);
    }
    log.line("INFO:     Started server process [1]");
    log.line("INFO:     Waiting for application startup.");
    if let Err(error) = start_up(app).await {
        if !app.config.faults.swallow {
            log.line("ERROR:    Application startup failed. Exiting.");
            return Err(Death::StartupFailed);
        }
        swallowed(log, &error);
    }
    log.line("INFO:     Application startup complete.");
    let (listener, port) = bind(app).await?;
    log.line(&format!("INFO:     Uvicorn running on http://0.0.0.0:{port} (Press CTRL+C to quit)"));
    keep_busy(app);
    Ok(http::serve(Arc::clone(app), listener, shutdown).await?)
}

async fn start_up(app: &App) -> Result<(), String> {
    if app.config.is_auth { phases::auth(app).await } else { startup::run(app).await }
}

async fn bind(app: &App) -> Result<(TcpListener, u16), Death> {
    let cannot =
        |error| Death::Other(format!("cannot listen on port {}: {error}", app.config.port));
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, app.config.port)).await.map_err(cannot)?;
    let port = listener.local_addr().map_err(cannot)?.port();
    Ok((listener, port))
}

fn swallowed(log: &Log, error: &str) {
    log.error(
        "netra_backend.app.core.lifespan_manager",
        &format!("Startup failed in lifespan manager: {error}"),
    );
}

/// What happens while the worker imports the application. `false` when it dies of it.
fn import(app: &App) -> bool {
    let log = &app.log;
    const MODULE: &str = "netra_backend.app.main";
    if app.config.is_auth {
        return true;
    }
    log.info(
        MODULE,
        "Backend Service: Running in staging - skipping .env file loading (using GSM)",
    );
    log.info(MODULE, "Built database URL from POSTGRES_* environment variables");
    if app.config.faults.defect != Some(Defect::Import) {
        return true;
    }
    const WHY: &str = "No module named 'netra_backend.app.services.monitoring'";
    log.error(MODULE, &format!("CRITICAL: Enhanced middleware setup failed: {WHY}"));
    log.gunicorn(WORKER, Level::Error, "Exception in worker process");
    log.error("gunicorn", &format!("{IMPORT_TRACEBACK}ModuleNotFoundError: {WHY}"));
    false
}

/// How gunicorn ends when its worker did not boot.
fn master_gives_up(log: &Log) -> Death {
    log.gunicorn(WORKER, Level::Info, &format!("Worker exiting (pid: {WORKER})"));
    log.gunicorn(MASTER, Level::Error, &format!("Worker (pid:{WORKER}) exited with code 3"));
    log.gunicorn(MASTER, Level::Error, "Shutting down: Master");
    log.gunicorn(MASTER, Level::Error, "Reason: Worker failed to boot.");
    Death::StartupFailed
}

fn say_goodbye(app: &App) {
    let log = &app.log;
    log.gunicorn(MASTER, Level::Info, "Handling signal: term");
    log.gunicorn(WORKER, Level::Info, "Shutting down");
    log.gunicorn(WORKER, Level::Info, "Waiting for application shutdown.");
    log.gunicorn(WORKER, Level::Info, "Application shutdown complete.");
    log.gunicorn(WORKER, Level::Info, &format!("Finished server process [{WORKER}]"));
    log.gunicorn(MASTER, Level::Error, &format!("Worker (pid:{WORKER}) was sent SIGTERM!"));
    log.gunicorn(MASTER, Level::Info, "Shutting down: Master");
}

/// Queries that never end, each on a connection of the pool.
fn keep_busy(app: &Arc<App>) {
    for _ in 0..app.config.faults.slow_queries {
        let app = Arc::clone(app);
        tokio::spawn(async move {
            loop {
                let ended = match app.pool() {
                    Some(pool) => pool.run("select pg_sleep(3600)").await,
                    None => Err(DatabaseError::Closed),
                };
                if ended.is_err() {
                    tokio::time::sleep(app.config.limits.readiness).await;
                }
            }
        });
    }
}

const IMPORT_TRACEBACK: &str = "Traceback (most recent call last):\n  \
File \"/usr/local/lib/python3.11/site-packages/gunicorn/arbiter.py\", line 608, in spawn_worker\n    \
worker.init_process()\n  \
File \"/usr/local/lib/python3.11/site-packages/uvicorn/workers.py\", line 75, in init_process\n    \
super().init_process()\n  \
File \"/app/netra_backend/app/core/middleware_setup.py\", line 852, in _add_websocket_exclusion_middleware\n    \
from netra_backend.app.services.monitoring.gcp_error_reporter import GCPErrorReporter\n";
