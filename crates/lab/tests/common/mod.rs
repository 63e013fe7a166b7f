//! Labs for tests, and a plain client's view of them.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::disallowed_methods, reason = "tests connect as plain clients do")]

use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shakedown_lab::{Lab, LabOptions, LabSettings, Scenario, ServerPrograms, TimeScale};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_postgres::NoTls;

/// The strategy's connection timeout of 30 s at time scale 10.
pub(crate) const LIMIT: Duration = Duration::from_secs(3);
/// Nothing takes that long: whatever is waited for this long will not come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The example that has the lab's entry points; cargo builds it with the tests.
pub(crate) fn host() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let host = test.parent().unwrap().parent().unwrap().join("examples/lab_host");
    assert!(host.exists(), "build it first: cargo build -p shakedown-lab --example lab_host");
    host
}

pub(crate) fn programs() -> ServerPrograms {
    ServerPrograms::find(None, std::env::var_os("PATH").as_deref()).unwrap()
}

/// A short directory that the database's user can get to.
pub(crate) fn tmp() -> TempDir {
    let tmp = tempfile::Builder::new().prefix("l").rand_bytes(5).tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(tmp.path(), PermissionsExt::from_mode(0o755)).unwrap();
    tmp
}

pub(crate) fn options(tmp: &Path, scenario: Scenario, time_scale: u32) -> LabOptions {
    LabOptions {
        tmp: tmp.into(),
        scenario,
        time_scale: TimeScale::new(time_scale).unwrap(),
        ..LabOptions::new(host(), programs())
    }
}

/// A scenario of the test's own.
pub(crate) fn scenario(text: &str) -> Scenario {
    toml::from_str(&format!("name = \"test\"\nsummary = \"a test's own\"\n{text}")).unwrap()
}

pub(crate) fn password(lab: &Lab) -> String {
    std::fs::read_to_string(lab.dir().join("secrets/database")).unwrap()
}

/// A way to the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Socket,
    Tcp,
}

/// Where a connection attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) rung: &'static str,
    pub(crate) error: String,
}

fn seen(rung: &'static str, error: &str) -> Result<(), Seen> {
    Err(Seen { rung, error: error.into() })
}

fn kind(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "refused",
        ErrorKind::ConnectionReset => "reset",
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => "closed",
        other => panic!("unexpected {other}"),
    }
}

/// Climbs to the first answer: connect, start-up packet, authentication, `select 1`. What fails, and
/// how, as the scenarios' expectations name it.
pub(crate) async fn climb(lab: &Lab, way: Way) -> Result<(), Seen> {
    match way {
        Way::Socket => {
            climb_with(lab, async || UnixStream::connect(&lab.addresses().socket).await).await
        }
        Way::Tcp => {
            climb_with(lab, async || TcpStream::connect(lab.addresses().connector).await).await
        }
    }
}

async fn climb_with<S>(lab: &Lab, connect: impl AsyncFn() -> std::io::Result<S>) -> Result<(), Seen>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = match timeout(LIMIT, connect()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return seen("connect", kind(&error)),
        Err(_) => return seen("connect", "timeout"),
    };
    match timeout(LIMIT, startup(&mut stream)).await {
        Ok(Ok(())) => drop(stream),
        Ok(Err(error)) => return seen("startup", kind(&error)),
        Err(_) => return seen("startup", "timeout"),
    }
    // A fresh connection for the library, which cannot be stopped between the rungs.
    let stream = connect().await.unwrap();
    let config = config(lab, "shakedown-test");
    let connected = match timeout(LIMIT, config.connect_raw(stream, NoTls)).await {
        Ok(connected) => connected,
        Err(_) => return seen("auth", "timeout"),
    };
    match connected {
        Ok((client, connection)) => {
            let carrier = tokio::spawn(connection);
            client.simple_query("select 1").await.unwrap();
            drop(client);
            // Ends once the server has closed.
            carrier.await.unwrap().unwrap();
            Ok(())
        }
        Err(error) => match error.code() {
            Some(state) if state.code().starts_with("28") => {
                seen("auth", &format!("sqlstate:{}", state.code()))
            }
            Some(state) => seen("ready", &format!("sqlstate:{}", state.code())),
            None => panic!("unexpected {error}"),
        },
    }
}

/// Sends the start-up packet and reads the first byte of the answer.
async fn startup(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> std::io::Result<()> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    packet.extend_from_slice(b"user\0app\0database\0staging\0\0");
    let length = u32::try_from(packet.len()).unwrap();
    packet[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&packet).await?;
    assert_eq!(stream.read_u8().await?, b'R');
    Ok(())
}

pub(crate) fn config(lab: &Lab, application: &str) -> tokio_postgres::Config {
    let settings = LabSettings::default();
    let mut config = tokio_postgres::Config::new();
    config
        .user(&settings.database.user)
        .password(password(lab))
        .dbname(&settings.database.name)
        .application_name(application);
    config
}

/// A session through the connector.
pub(crate) async fn session(lab: &Lab, application: &str) -> tokio_postgres::Client {
    let stream = TcpStream::connect(lab.addresses().connector).await.unwrap();
    let (client, connection) = config(lab, application).connect_raw(stream, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Waits until it holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}
