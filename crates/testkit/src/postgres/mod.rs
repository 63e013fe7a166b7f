//! A real PostgreSQL, one for each test binary, with a database and a role for each test.

mod server;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::{Client, NoTls};

use server::Process;

/// The role that owns the cluster.
const SUPERUSER: &str = "testkit";
const SUPERUSER_PASSWORD: &str = "testkit-superuser";

/// A PostgreSQL server of the test's own on 127.0.0.1 and on a Unix socket, with TLS on and SCRAM
/// passwords. It stops when it is dropped, and when the test process ends in whatever way.
#[derive(Debug)]
pub struct PgServer {
    process: Process,
    databases: AtomicU32,
}

/// A database of its own and a role that may log in to it, seen by no other test.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// The database.
    pub name: String,
    /// The role: CONNECT, and pg_monitor if it was asked for.
    pub role: String,
    /// Its password.
    pub password: SecretString,
}

impl PgServer {
    /// The test binary's server with 40 connections, started the first time it is asked for (about
    /// a second).
    ///
    /// # Panics
    ///
    /// When no PostgreSQL is installed or it does not start.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PgServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(40))
    }

    /// A server for one test alone. Three of its connections are reserved for superusers.
    ///
    /// # Panics
    ///
    /// As [`PgServer::shared`].
    pub fn start(max_connections: u32) -> Self {
        Self {
            process: Process::start(max_connections, SUPERUSER, SUPERUSER_PASSWORD),
            databases: AtomicU32::new(0),
        }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.process.port
    }

    /// The folder of its Unix socket, as `database.host` takes it.
    pub fn socket_folder(&self) -> &Path {
        self.process.folder()
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_folder().join(format!(".s.PGSQL.{}", self.port()))
    }

    /// The authority that signed its certificate for `localhost` and 127.0.0.1, as a PEM file.
    pub fn ca_file(&self) -> PathBuf {
        self.socket_folder().join("ca.pem")
    }

    /// A superuser's session in `database`. It may use the reserved connections.
    ///
    /// # Panics
    ///
    /// When the server does not take it.
    pub async fn admin(&self, database: &str) -> Client {
        let connected = tokio_postgres::Config::new()
            .host_path(self.socket_folder())
            .port(self.port())
            .user(SUPERUSER)
            .password(SUPERUSER_PASSWORD)
            .dbname(database)
            .application_name("testkit")
            .connect(NoTls)
            .await;
        let (client, connection) = connected.expect("a superuser's session");
        tokio::spawn(connection);
        client
    }

    /// Makes a database and a role for it.
    ///
    /// # Panics
    ///
    /// When the server refuses.
    pub async fn database(&self, monitor: bool) -> TestDatabase {
        let number = self.databases.fetch_add(1, Ordering::SeqCst) + 1;
        let (name, role) = (format!("test{number}"), format!("role{number}"));
        let password = format!("password-{number}-of-the-test");
        let admin = self.admin("postgres").await;
        let mut statements = vec![
            format!("create role {role} login password '{password}'"),
            format!("create database {name}"),
        ];
        if monitor {
            statements.push(format!("grant pg_monitor to {role}"));
        }
        for statement in &statements {
            admin.batch_execute(statement).await.expect("roles and databases can be made");
        }
        TestDatabase { name, role, password: password.into() }
    }

    /// How many sessions the server counts whose application name begins with `prefix`.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub async fn sessions(&self, prefix: &str) -> i64 {
        let admin = self.admin("postgres").await;
        let count = "select count(*) from pg_stat_activity where starts_with(application_name, $1)";
        admin.query_one(count, &[&prefix]).await.expect("a count").get(0)
    }

    /// The tables `[database]`, `[database.tcp]` and `[tls]` for `database` over the Unix socket.
    /// Its credential is called `database`.
    pub fn toml(&self, database: &TestDatabase) -> String {
        let TestDatabase { name, role, .. } = database;
        format!(
            "[database]\nhost = \"{}\"\nport = {port}\nname = \"{name}\"\nuser = \"{role}\"\n\
             connect_timeout = \"10s\"\nstatement_timeout = \"10s\"\n\
             [database.tcp]\nhost = \"127.0.0.1\"\nport = {port}\nssl_mode = \"disable\"\n\
             [tls]\nca_file = \"{}\"\n",
            self.socket_folder().display(),
            self.ca_file().display(),
            port = self.port(),
        )
    }

    /// A probe's context for `database`, as [`toml`](PgServer::toml) describes it.
    ///
    /// # Panics
    ///
    /// Never, as long as the environment's schema is what it was.
    pub fn ctx(&self, database: &TestDatabase) -> shakedown_core::ProbeCtx {
        let secrets = [("database", database.password.expose_secret())];
        crate::environment::ctx(&self.toml(database), &secrets)
    }
}
