//! The backend's pool: real connections through the `/cloudsql` socket.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use secrecy::ExposeSecret;
use shakedown_core::clock::{self, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_postgres::{Client, NoTls};

use super::config::Database;
use super::python::DatabaseError;

/// What the application calls itself in `pg_stat_activity`.
pub(crate) const APPLICATION: &str = "netra-backend";

/// How connections are made.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    config: tokio_postgres::Config,
    address: String,
    place: String,
    limit: Duration,
}

impl Connector {
    /// `limit` bounds each connection.
    pub(crate) fn new(database: &Database, limit: Duration) -> Self {
        let mut config = tokio_postgres::Config::new();
        config
            .port(database.port)
            .user(&database.user)
            .dbname(&database.name)
            .application_name(APPLICATION);
        if let Some(password) = &database.password {
            config.password(password.expose_secret());
        }
        let socket = database.host.starts_with('/');
        let (address, place) = if socket {
            config.host_path(Path::new(&database.host));
            let path = format!("{}/.s.PGSQL.{}", database.host, database.port);
            (format!("'{path}'"), format!("on socket \"{path}\""))
        } else {
            config.host(&database.host);
            let place = format!("at \"{}\", port {}", database.host, database.port);
            (format!("'{}', {}", database.host, database.port), place)
        };
        Self { config, address, place, limit }
    }

    /// As psycopg2's messages name the other end.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// One connection, within the limit.
    ///
    /// # Cancel safety
    /// A dropped future closes what it opened.
    pub(crate) async fn connect(&self) -> Result<Client, DatabaseError> {
        match timeout(self.limit, self.config.connect(NoTls)).await {
            Ok(Ok((client, connection))) => {
                // Ends with the client or the server, whichever goes first.
                tokio::spawn(connection);
                Ok(client)
            }
            Ok(Err(error)) => Err(DatabaseError::from_driver(&error, &self.address)),
            Err(_) => Err(DatabaseError::Timeout),
        }
    }

    /// One statement's error.
    pub(crate) fn failed(&self, error: &tokio_postgres::Error) -> DatabaseError {
        DatabaseError::from_driver(error, &self.address)
    }
}

/// A pool of fixed size without overflow, like SQLAlchemy's `QueuePool`. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Pool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: Connector,
    size: usize,
    wait: Duration,
    recycle: Duration,
    places: Arc<Semaphore>,
    idle: Mutex<VecDeque<(Client, Instant)>>,
}

/// A connection taken out of the pool; goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Pooled {
    client: Option<(Client, Instant)>,
    pool: Arc<Inner>,
    _place: OwnedSemaphorePermit,
}

impl std::ops::Deref for Pooled {
    type Target = Client;
    fn deref(&self) -> &Client {
        self.client.as_ref().map(|(client, _)| client).expect("taken only when dropped")
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|(client, _)| !client.is_closed()) {
            self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push_back(client);
        }
    }
}

impl Pool {
    /// An empty pool; `wait` is how long a caller waits for a connection.
    pub(crate) fn new(connector: Connector, database: &Database, wait: Duration) -> Self {
        let (size, recycle) = (database.pool_size, database.recycle);
        let places = Arc::new(Semaphore::new(size));
        Self(Arc::new(Inner { connector, size, wait, recycle, places, idle: Mutex::default() }))
    }

    /// Opens all its connections at once.
    ///
    /// # Errors
    /// The first connection's that fails; the others are closed.
    ///
    /// # Cancel safety
    /// A dropped future closes what it opened.
    pub(crate) async fn fill(&self) -> Result<(), DatabaseError> {
        let connections = (0..self.0.size).map(|_| self.0.connector.connect());
        let connections = try_join_all(connections).await?;
        let opened = clock::now();
        let connections = connections.into_iter().map(|client| (client, opened));
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner).extend(connections);
        Ok(())
    }

    /// A connection: an idle one, else a new one.
    ///
    /// # Errors
    /// [`DatabaseError::PoolEmpty`] after the pool's limit, or what connecting said.
    pub(crate) async fn get(&self) -> Result<Pooled, DatabaseError> {
        let inner = &self.0;
        let place = timeout(inner.wait, Arc::clone(&inner.places).acquire_owned()).await;
        let place = place.map_err(|_| DatabaseError::PoolEmpty {
            size: inner.size,
            seconds: inner.wait.as_secs_f64(),
        })?;
        let place = place.map_err(|_| DatabaseError::Other("the pool is closed".into()))?;
        let idle = || inner.idle.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let mut client = None;
        while let Some((found, opened)) = idle() {
            if !found.is_closed() && opened.elapsed() < inner.recycle {
                client = Some((found, opened));
                break;
            }
        }
        let client = match client {
            Some(client) => client,
            None => (inner.connector.connect().await?, clock::now()),
        };
        Ok(Pooled { client: Some(client), pool: Arc::clone(inner), _place: place })
    }

    /// Runs one statement without a result on a pooled connection.
    pub(crate) async fn run(&self, statement: &str) -> Result<(), DatabaseError> {
        let client = self.get().await?;
        client.simple_query(statement).await.map(drop).map_err(|error| self.failed(&error))
    }

    /// One number, from a statement that gives one row of one `bigint`.
    pub(crate) async fn count(&self, statement: &str) -> Result<i64, DatabaseError> {
        let client = self.get().await?;
        let row = client.query_one(statement, &[]).await.map_err(|error| self.failed(&error))?;
        row.try_get(0).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &tokio_postgres::Error) -> DatabaseError {
        self.0.connector.failed(error)
    }
}
