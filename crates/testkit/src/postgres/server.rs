//! initdb, start and stop of a server whose end is bound to ours.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::{Authority, Identity};

/// Starts the server, waits for standard input to end, stops the server at once and takes its folder
/// away, unless there is a file `keep` in it. Standard input is a pipe whose other end is ours, so
/// it ends when we do, even by SIGKILL.
const KEEPER: &str = r#"
"$@" & server=$!
cat > /dev/null
kill -QUIT $server
wait $server
[ -e "$FOLDER/keep" ] || rm -rf "$FOLDER"
"#;

/// A running server.
#[derive(Debug)]
pub(super) struct Process {
    folder: TempDir,
    pub(super) port: u16,
    keeper: Child,
}

impl Process {
    pub(super) fn start(max_connections: u32, superuser: &str, password: &str) -> Self {
        let programs = programs();
        let user = run_as();
        // Short: the socket's path must stay below 108 bytes wherever temporary files are.
        let folder = tempfile::Builder::new().prefix("sdk-pg-").tempdir_in("/tmp");
        let folder = folder.expect("a folder in /tmp");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700))
            .expect("our folder");
        write(folder.path(), "password", password);
        let authority = Authority::new();
        let (certificate, key) = authority.issue(Identity::Good);
        authority.write(&folder.path().join("ca.pem"));
        write(folder.path(), "server.crt", &certificate);
        write(folder.path(), "server.key", &key);
        for name in ["", "password", "server.crt", "server.key"] {
            if let Some((uid, gid)) = user {
                chown(folder.path().join(name), Some(uid), Some(gid)).expect("we are root");
            }
        }
        let data = folder.path().join("data");
        initdb(&programs, folder.path(), &data, superuser, user);
        let rules = "local all all scram-sha-256\nhost all all 127.0.0.1/32 scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).expect("pg_hba.conf is written");
        for _ in 0..8 {
            let port = free_port();
            let command = server(&programs, folder.path(), &data, port, max_connections);
            let mut keeper = keeper(command, folder.path(), user);
            if ready(&data, &mut keeper) {
                return Self { folder, port, keeper };
            }
            // As a rule, somebody took the port between choosing and listening.
            let keep = folder.path().join("keep");
            std::fs::write(&keep, "").expect("a file in our folder");
            stop(&mut keeper);
            std::fs::remove_file(&keep).expect("our file");
        }
        panic!("PostgreSQL did not start: {}", log(folder.path()));
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        stop(&mut self.keeper);
    }
}

/// The folder of `initdb` and `postgres`: where `pg_config` says, else of the highest version where
/// Debian and PostgreSQL's own packages put them, else on PATH.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let told = Command::new("pg_config").arg("--bindir").stderr(Stdio::null()).output();
    let told = told.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let installed = (9..100).rev().flat_map(|version| {
        ["/usr/lib/postgresql/", "/usr/pgsql-"].map(|to| format!("{to}{version}/bin").into())
    });
    let folders = told.into_iter().map(|text| PathBuf::from(text.trim_end()));
    let mut folders = folders.chain(installed).chain(std::env::split_paths(&path));
    let both = |folder: &PathBuf| {
        ["initdb", "postgres"].iter().all(|program| folder.join(program).is_file())
    };
    folders.find(both).expect("a PostgreSQL server is installed (apt-get install postgresql)")
}

fn stop(keeper: &mut Child) {
    drop(keeper.stdin.take());
    let _ = keeper.wait();
}

/// Whom the server runs as when we are root, which it refuses to be.
fn run_as() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user =
        ["postgres", "nobody"].iter().find_map(|name| nix::unistd::User::from_name(name).ok()?);
    let user = user.expect("a user `postgres` or `nobody` to run PostgreSQL as");
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("a file in our folder");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("our file");
}

fn initdb(programs: &Path, folder: &Path, data: &Path, superuser: &str, user: Option<(u32, u32)>) {
    let mut command = Command::new(programs.join("initdb"));
    command.arg("--pgdata").arg(data).arg("--pwfile").arg(folder.join("password")).args([
        "--username",
        superuser,
        "--auth=scram-sha-256",
        "--locale=C",
        "--encoding=UTF8",
        "--no-sync",
    ]);
    let output = drop_to(&mut command, folder, user).output().expect("initdb runs");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
}

fn server(
    programs: &Path,
    folder: &Path,
    data: &Path,
    port: u16,
    max_connections: u32,
) -> Vec<String> {
    let mut command = vec![
        programs.join("postgres").display().to_string(),
        "-D".into(),
        data.display().to_string(),
    ];
    let file = |name: &str| folder.join(name).display().to_string();
    for (key, value) in [
        ("port", port.to_string()),
        ("listen_addresses", "127.0.0.1".into()),
        ("unix_socket_directories", folder.display().to_string()),
        ("max_connections", max_connections.to_string()),
        ("superuser_reserved_connections", "3".into()),
        ("ssl", "on".into()),
        ("ssl_cert_file", file("server.crt")),
        ("ssl_key_file", file("server.key")),
        ("fsync", "off".into()),
        ("wal_level", "minimal".into()),
        ("max_wal_senders", "0".into()),
        ("shared_buffers", "16MB".into()),
        ("jit", "off".into()),
    ] {
        command.extend(["-c".into(), format!("{key}={value}")]);
    }
    command
}

fn keeper(server: Vec<String>, folder: &Path, user: Option<(u32, u32)>) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(folder.join("log"));
    let log = log.expect("the server's log");
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", KEEPER, "keeper"])
        .args(server)
        .env("FOLDER", folder)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().expect("the server's log"))
        .stderr(log)
        // Ctrl-C on a terminal goes to the test alone.
        .process_group(0);
    drop_to(&mut command, folder, user).spawn().expect("/bin/sh runs")
}

fn drop_to<'a>(
    command: &'a mut Command,
    folder: &Path,
    user: Option<(u32, u32)>,
) -> &'a mut Command {
    command.current_dir(folder);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// Waits until the server says in its lock file that it is ready; false when it ended instead.
#[expect(clippy::disallowed_methods, reason = "runs once, outside of any runtime")]
fn ready(data: &Path, keeper: &mut Child) -> bool {
    for _ in 0..6000 {
        let lock = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        if lock.lines().nth(7).is_some_and(|status| status.trim() == "ready") {
            return true;
        }
        let log = std::fs::read_to_string(data.with_file_name("log")).unwrap_or_default();
        let ended = log.contains("FATAL:") || !matches!(keeper.try_wait(), Ok(None));
        if ended && lock.is_empty() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

fn log(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap_or_default()
}

/// A port of 127.0.0.1 that nobody listens on now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port of 127.0.0.1");
    listener.local_addr().expect("the port's address").port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_and_its_folder_are_gone_after_the_drop() {
        let process = Process::start(10, "someone", "password");
        let folder = process.folder().to_owned();
        let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        assert!(Path::new("/proc").join(&pid).exists() || !cfg!(target_os = "linux"));
        drop(process);
        assert!(!Path::new("/proc").join(&pid).exists());
        assert!(!folder.exists());
    }
}
