//! The supervisor: a small process between lab and server that outlives the lab by just as long as
//! it takes to stop the server.

use std::io::{BufRead, Read};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::LabError;

/// How long each of SIGINT (fast shutdown) and SIGQUIT (immediate shutdown) may take before the
/// next, stronger signal.
const PATIENCE: [(Signal, Duration); 2] =
    [(Signal::SIGINT, Duration::from_secs(5)), (Signal::SIGQUIT, Duration::from_secs(2))];

/// What to run: one JSON line on the supervisor's standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SuperviseSpec {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) folder: PathBuf,
    pub(crate) user_and_group: Option<(u32, u32)>,
    /// Appended to; takes standard output and standard error.
    pub(crate) log: PathBuf,
}

/// Entry point of the hidden subcommand `lab-supervise`.
///
/// Reads one line from standard input, starts the server it names in a process group of its own, and
/// stops it (SIGINT, after 5 s SIGQUIT, after 2 s SIGKILL; reaped) as soon as standard input ends or
/// SIGTERM, SIGINT or SIGHUP arrives. So a lab that is killed leaves no server behind. Returns
/// when the server has ended, by itself or not.
///
/// The caller runs it in a process of its own on a runtime with I/O and time enabled.
///
/// # Errors
/// [`LabError::Io`] when standard input holds no such line, [`LabError::Run`] when the server cannot
/// be started, [`LabError::Program`] when it ended by itself and not with success.
///
/// # Cancel safety
/// Not cancel safe: a dropped future leaves the server running.
pub async fn supervise() -> Result<(), LabError> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .map_err(|source| LabError::Io { action: "read standard input", source })?;
    let spec: SuperviseSpec = serde_json::from_str(&line).map_err(|error| LabError::Io {
        action: "read what to supervise from standard input",
        source: error.into(),
    })?;
    let end_of_input = end_of_input();
    let mut signals = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()]
        .into_iter()
        .map(signal)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| LabError::Io { action: "listen for signals", source })?;
    let mut server = start(&spec)?;
    let asked_to_stop = async {
        let any_signal = futures_util::future::select_all(
            signals.iter_mut().map(|signal| Box::pin(signal.recv())),
        );
        tokio::select! {
            _ = end_of_input => {}
            _ = any_signal => {}
        }
    };
    let status = tokio::select! {
        status = server.wait() => {
            let status = status.map_err(|source| LabError::Run { program: "postgres".into(), source })?;
            if !status.success() {
                return Err(LabError::Program {
                    program: spec.program.display().to_string(),
                    status: status.to_string(),
                    output: format!("see {}", spec.log.display()),
                });
            }
            return Ok(());
        }
        () = asked_to_stop => stop(&mut server).await,
    };
    status.map_err(|source| LabError::Io { action: "stop the server", source })
}

fn start(spec: &SuperviseSpec) -> Result<Child, LabError> {
    let log = std::fs::File::options()
        .append(true)
        .create(true)
        .open(&spec.log)
        .map_err(LabError::files("open", &spec.log))?;
    let second = log.try_clone().map_err(LabError::files("open", &spec.log))?;
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .current_dir(&spec.folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        .process_group(0);
    if let Some((user, group)) = spec.user_and_group {
        command.uid(user).gid(group);
    }
    command
        .spawn()
        .map_err(|source| LabError::Run { program: spec.program.display().to_string(), source })
}

async fn stop(server: &mut Child) -> std::io::Result<()> {
    for (signal, patience) in PATIENCE {
        let Some(id) = server.id() else { return Ok(()) };
        // Failing means it has just ended: the wait below sees that.
        let _ = kill(Pid::from_raw(id.cast_signed()), signal);
        if let Ok(ended) = tokio::time::timeout(patience, server.wait()).await {
            return ended.map(drop);
        }
    }
    server.kill().await
}

/// Resolves when standard input has ended. A thread of its own reads it, because reading standard
/// input cannot be cancelled; the thread ends with the process.
pub(crate) fn end_of_input() -> impl Future<Output = ()> {
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    std::thread::spawn(move || {
        let mut ignored = [0; 256];
        let mut stdin = std::io::stdin().lock();
        while !matches!(stdin.read(&mut ignored), Ok(0) | Err(_)) {}
        drop(sender);
    });
    async move {
        let _ = receiver.await;
    }
}

/// Stops a process that is not our child, as [`supervise`] would: asks, then insists, then kills.
/// Returns when it has gone.
pub(crate) async fn stop_stranger(id: i32) {
    let pid = Pid::from_raw(id);
    for (signal, patience) in
        PATIENCE.into_iter().chain([(Signal::SIGKILL, Duration::from_secs(2))])
    {
        let _ = kill(pid, signal);
        let deadline = shakedown_core::clock::now() + patience;
        while shakedown_core::clock::now() < deadline {
            if kill(pid, None).is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
