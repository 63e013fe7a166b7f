//! What can go wrong in starting or serving a lab.

use std::io;
use std::path::PathBuf;

/// Why a lab could not be started, or stopped working.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// There is no scenario of that name.
    #[error("no scenario {name:?}; there are {known}, or give the path of a .toml file")]
    NoScenario {
        /// As asked.
        name: String,
        /// All names.
        known: String,
    },
    /// A scenario file cannot be read.
    #[error("cannot read scenario {}", path.display())]
    ReadScenario {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A scenario is wrong.
    #[error("scenario {origin} is wrong")]
    Scenario {
        /// Built-in name or path.
        origin: String,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The settings contradict themselves.
    #[error("the lab's settings are wrong: {}", .0.join("; "))]
    Settings(
        /// One sentence per problem.
        Vec<String>,
    ),
    /// A path would not fit into a socket address.
    #[error("the socket path {} has {length} bytes, more than the 103 every system takes; use a shorter temporary directory or shorter names", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// A file or directory of the lab cannot be made.
    #[error("cannot {action} {}", path.display())]
    Files {
        /// What was tried: "create", "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No PostgreSQL server is installed.
    #[error(
        "no PostgreSQL server found ({searched}); install one with one of\n  \
         apt-get install postgresql\n  dnf install postgresql-server\n  brew install postgresql@17\n\
         or name its folder with --pg-bin"
    )]
    NoPostgres {
        /// Where it was looked for.
        searched: String,
    },
    /// PostgreSQL does not run as root and there is nobody else to run as.
    #[error(
        "PostgreSQL does not run as root, and this system has neither a user postgres nor nobody"
    )]
    NoUser,
    /// A server program failed.
    #[error("{program} failed ({status}): {output}")]
    Program {
        /// initdb or postgres.
        program: String,
        /// Exit status.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// A server program cannot be run.
    #[error("cannot run {program}")]
    Run {
        /// The program.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// The server did not get ready in time.
    #[error("PostgreSQL was not ready after {seconds} s; the end of its log: {log}")]
    NotReady {
        /// How long was waited.
        seconds: u64,
        /// The end of the server's log.
        log: String,
    },
    /// A statement of the lab's own failed.
    #[error("cannot {action}")]
    Sql {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: tokio_postgres::Error,
    },
    /// No PostgreSQL could be downloaded.
    #[cfg(feature = "download-postgres")]
    #[error(
        "cannot download PostgreSQL; install one instead: apt-get install postgresql, dnf install postgresql-server or brew install postgresql@17"
    )]
    Download {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A listener cannot be opened.
    #[error("cannot listen for {what}")]
    Listen {
        /// What for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The lab's certificates cannot be made.
    #[error("cannot make the lab's certificates")]
    Certificates(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A fault could not be brought about.
    #[error("cannot bring about the fault {kind}: {why}")]
    Fault {
        /// Its kind.
        kind: &'static str,
        /// Why.
        why: String,
    },
    /// The database server ended by itself.
    #[error("the lab's PostgreSQL ended by itself; the end of its log: {log}")]
    ServerEnded {
        /// The end of the server's log.
        log: String,
    },
    /// A lab in another process did not start.
    #[error("the lab process did not start: {0}")]
    Serve(String),
    /// Standard input, output or signals failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl LabError {
    pub(crate) fn files(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Files { action, path, source }
    }
}
