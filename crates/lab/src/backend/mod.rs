//! The backend of the lab's staging: a process of its own that starts, logs, answers and dies as the
//! observed application does under gunicorn on Cloud Run.
//!
//! Configured by environment variables alone ([`config`]). It knows faults and real conditions, no
//! scenario.

pub(crate) mod cache;
pub(crate) mod config;
mod database;
mod http;
mod log;
mod phases;
mod python;
mod retry;
mod server;
mod startup;
pub(crate) mod ws;
mod ws_conversation;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use config::Config;
use database::Pool;
use log::Log;
use python::DatabaseError;
use startup::Progress;

pub use server::backend;

/// What all parts of the process share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) log: Log,
    progress: Mutex<Progress>,
    pool: OnceLock<Pool>,
}

impl App {
    fn new(config: Config, log: Log) -> Arc<Self> {
        let progress = Mutex::new(Progress::new());
        Arc::new(Self { config, log, progress, pool: OnceLock::new() })
    }

    /// Looks at the start-up's progress, or changes it.
    fn progress<T>(&self, act: impl FnOnce(&mut Progress) -> T) -> T {
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_pool(&self, pool: Pool) {
        // The phase runs once.
        let _ = self.pool.set(pool);
    }

    /// The pool, once the phase DATABASE is over.
    fn pool(&self) -> Option<&Pool> {
        self.pool.get()
    }

    /// A number out of the database, through the pool.
    async fn count(&self, statement: &str) -> Result<i64, DatabaseError> {
        match self.pool() {
            Some(pool) => pool.count(statement).await,
            None => Err(DatabaseError::Other("there is no pool".into())),
        }
    }
}
