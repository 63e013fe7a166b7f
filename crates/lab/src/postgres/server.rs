//! initdb, start and stop of the server.

use std::ffi::OsString;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio_postgres::NoTls;

use super::find::{ServerPrograms, run_as};
use crate::error::LabError;
use crate::random;
use crate::supervise::SuperviseSpec;

/// The role that owns the cluster. Its sessions use the reserved slots.
pub(crate) const SUPERUSER: &str = "lab_superuser";
/// How long a server may take to get ready. It takes about 0.1 s; a loaded machine takes longer.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How often another port is tried when somebody took ours between choosing and listening.
const PORT_ATTEMPTS: u32 = 8;

/// A running server under its supervisor. Dropping it ends the supervisor's standard input, upon
/// which the supervisor stops the server.
#[derive(Debug)]
pub(crate) struct Server {
    supervisor: Child,
    input: Option<ChildStdin>,
    socket_folder: PathBuf,
    log: PathBuf,
    pub(crate) port: u16,
    pub(crate) superuser_password: SecretString,
}

/// What a server needs to start.
#[derive(Debug)]
pub(crate) struct ServerOptions<'a> {
    pub(crate) programs: &'a ServerPrograms,
    /// Runs [`supervise`](crate::supervise()) when given `supervise_args`.
    pub(crate) exe: &'a Path,
    pub(crate) supervise_args: &'a [OsString],
    /// Made by the server, with its data and its own socket.
    pub(crate) folder: PathBuf,
    pub(crate) log: PathBuf,
    pub(crate) max_connections: u32,
}

impl Server {
    /// Makes a new cluster and starts it on a free port of 127.0.0.1. Takes about a second.
    ///
    /// # Cancel safety
    /// Dropping the future ends whatever was started.
    pub(crate) async fn start(options: &ServerOptions<'_>) -> Result<Self, LabError> {
        let user = run_as()?;
        let superuser_password =
            random::password().map_err(LabError::files("read", "/dev/urandom"))?;
        let folder = &options.folder;
        std::fs::create_dir(folder).map_err(LabError::files("create", folder))?;
        std::fs::set_permissions(folder, PermissionsExt::from_mode(0o700))
            .map_err(LabError::files("create", folder))?;
        let password_file = folder.join("password");
        write_private(&password_file, superuser_password.expose_secret())?;
        if let Some((uid, gid)) = user {
            for path in [folder, &password_file] {
                std::os::unix::fs::chown(path, Some(uid.as_raw()), Some(gid.as_raw()))
                    .map_err(LabError::files("hand over", path))?;
            }
        }
        let data = folder.join("data");
        initdb(options, &data, &password_file, user.map(|(uid, gid)| (uid.as_raw(), gid.as_raw())))
            .await?;
        std::fs::remove_file(&password_file).map_err(LabError::files("remove", &password_file))?;
        write_hba(&data)?;
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            let spec = SuperviseSpec {
                program: options.programs.postgres(),
                args: arguments(&data, folder, port, options.max_connections),
                folder: folder.clone(),
                user_and_group: user.map(|(uid, gid)| (uid.as_raw(), gid.as_raw())),
                log: options.log.clone(),
            };
            let mut server = spawn(options, &spec, port, superuser_password.clone()).await?;
            match server.wait_ready().await {
                Ok(()) => return Ok(server),
                Err(LabError::ServerEnded { log })
                    if attempt < PORT_ATTEMPTS && log.contains("could not bind") =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A superuser's connection, through the server's own socket. The returned task carries it.
    pub(crate) async fn superuser(
        &self,
        database: &str,
        application: &str,
    ) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
        let config = self.superuser_config(database, application);
        let (client, connection) = config.connect(NoTls).await?;
        // Ends with the client or the server, whichever goes first; errors reach the client.
        tokio::spawn(connection);
        Ok(client)
    }

    /// How a superuser connects, through the server's own socket.
    pub(crate) fn superuser_config(
        &self,
        database: &str,
        application: &str,
    ) -> tokio_postgres::Config {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&self.socket_folder)
            .port(self.port)
            .user(SUPERUSER)
            .password(self.superuser_password.expose_secret())
            .dbname(database)
            .application_name(application);
        config
    }

    async fn wait_ready(&mut self) -> Result<(), LabError> {
        let deadline = shakedown_core::clock::now() + READY_WITHIN;
        loop {
            let try_once = tokio::time::timeout(
                Duration::from_secs(5),
                self.superuser("postgres", "shakedown-lab"),
            );
            if let Ok(Ok(_)) = try_once.await {
                return Ok(());
            }
            if !matches!(self.supervisor.try_wait(), Ok(None)) {
                return Err(LabError::ServerEnded { log: self.log_end() });
            }
            if shakedown_core::clock::now() > deadline {
                return Err(LabError::NotReady {
                    seconds: READY_WITHIN.as_secs(),
                    log: self.log_end(),
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn log_end(&self) -> String {
        end_of(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }

    /// Resolves when the server has ended by itself.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn ended(&mut self) -> LabError {
        let _ = self.supervisor.wait().await;
        LabError::ServerEnded { log: self.log_end() }
    }

    /// Stops the server and waits until it and its supervisor are gone.
    pub(crate) async fn stop(mut self) -> Result<(), LabError> {
        drop(self.input.take());
        self.supervisor
            .wait()
            .await
            .map(drop)
            .map_err(|source| LabError::Io { action: "stop PostgreSQL", source })
    }
}

async fn initdb(
    options: &ServerOptions<'_>,
    data: &Path,
    password_file: &Path,
    user: Option<(u32, u32)>,
) -> Result<(), LabError> {
    let program = options.programs.initdb();
    let mut command = Command::new(&program);
    command
        .arg("--pgdata")
        .arg(data)
        .arg("--pwfile")
        .arg(password_file)
        .args([
            "--username",
            SUPERUSER,
            "--auth=scram-sha-256",
            "--locale=C",
            "--encoding=UTF8",
            "--no-sync",
        ])
        .current_dir(&options.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    let output = command
        .output()
        .await
        .map_err(|source| LabError::Run { program: program.display().to_string(), source })?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError::Program {
        program: program.display().to_string(),
        status: output.status.to_string(),
        output: end_of(&String::from_utf8_lossy(&output.stderr)),
    })
}

fn write_hba(data: &Path) -> Result<(), LabError> {
    let path = data.join("pg_hba.conf");
    let rules = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(&path, rules).map_err(LabError::files("write", &path))
}

fn arguments(data: &Path, socket_folder: &Path, port: u16, max_connections: u32) -> Vec<String> {
    let mut arguments =
        vec!["-D".into(), data.display().to_string(), "-F".into(), "-p".into(), port.to_string()];
    let settings = [
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", format!("\"{}\"", socket_folder.display())),
        ("max_connections", max_connections.to_string()),
        ("superuser_reserved_connections", "3".into()),
        ("password_encryption", "scram-sha-256".into()),
        ("synchronous_commit", "off".into()),
        ("full_page_writes", "off".into()),
        ("wal_level", "minimal".into()),
        ("max_wal_senders", "0".into()),
        ("shared_buffers", "16MB".into()),
        ("jit", "off".into()),
        ("log_line_prefix", "%m [%p] %q%u@%d/%a ".into()),
        // A failing CREATE ROLE must not bring its password into the log.
        ("log_min_error_statement", "panic".into()),
    ];
    for (key, value) in settings {
        arguments.extend(["-c".into(), format!("{key}={value}")]);
    }
    arguments
}

async fn spawn(
    options: &ServerOptions<'_>,
    spec: &SuperviseSpec,
    port: u16,
    superuser_password: SecretString,
) -> Result<Server, LabError> {
    let mut supervisor = Command::new(options.exe)
        .args(options.supervise_args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C on a terminal goes to the lab alone; the lab then ends our standard input.
        .process_group(0)
        .spawn()
        .map_err(|source| LabError::Run { program: options.exe.display().to_string(), source })?;
    let mut input = supervisor.stdin.take().expect("standard input was asked for");
    let mut line = serde_json::to_string(spec).expect("strings and numbers become JSON");
    line.push('\n');
    input
        .write_all(line.as_bytes())
        .await
        .map_err(|source| LabError::Io { action: "tell the supervisor what to run", source })?;
    Ok(Server {
        supervisor,
        input: Some(input),
        socket_folder: options.folder.clone(),
        log: options.log.clone(),
        port,
        superuser_password,
    })
}

/// A port of 127.0.0.1 that nobody listens on now.
fn free_port() -> Result<u16, LabError> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|source| LabError::Listen { what: "PostgreSQL", source })
}

pub(crate) fn write_private(path: &Path, secret: &str) -> Result<(), LabError> {
    use std::io::Write;
    std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(secret.as_bytes()))
        .map_err(LabError::files("write", path))
}

/// The last ten lines, in one.
fn end_of(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join(" | ")
}
