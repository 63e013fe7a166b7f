//! One place for an instance: started, probed, watched, started again.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shakedown_core::clock;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::log::{Origin, Stream};
use super::revision::Revision;
use super::{Platform, STARTUP_CEILING};
use crate::application::BACKEND;
use crate::random;
use crate::services::upstream::Upstream;

/// The first wait before an instance that died is started again, doubled after each death, as
/// Cloud Run's restarts of the observed application were about two seconds apart.
const RESTART_FIRST: Duration = Duration::from_secs(2);
const RESTART_MOST: Duration = Duration::from_secs(10);
/// How often the start-up probe looks.
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// How long an instance that is asked to stop may take.
const GRACE: Duration = Duration::from_secs(10);

/// Why an instance is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    MinInstance,
    Autoscaling,
}

impl Reason {
    fn words(self) -> &'static str {
        match self {
            Self::MinInstance => {
                "Starting new instance. Reason: MANUAL_OR_CUSTOMER_MIN_INSTANCE - Instance started \
                 because of customer-configured min-instances or manual scaling."
            }
            Self::Autoscaling => {
                "Starting new instance. Reason: AUTOSCALING - Instance started due to configured \
                 scaling factors (e.g. CPU utilization, request throughput, etc.) or no existing \
                 capacity for current traffic."
            }
        }
    }
}

/// Keeps one instance of `revision` running until `stop`.
pub(super) async fn keep(
    platform: Arc<Platform>,
    revision: Arc<Revision>,
    reason: Reason,
    state: watch::Sender<Upstream>,
    stop: CancellationToken,
) {
    let mut wait = RESTART_FIRST;
    let name = revision.name();
    loop {
        state.send_replace(Upstream::Starting);
        let id = format!("0069c7a988{}", random::hex(43).unwrap_or_default());
        let origin = Origin { service: &revision.service, revision: &name, instance: &id };
        platform.log.system(origin, "INFO", reason.words());
        let served = one(&platform, &revision, origin, &state, &stop).await;
        state.send_replace(Upstream::Starting);
        if stop.is_cancelled() {
            state.send_replace(Upstream::Gone);
            return;
        }
        // Whoever served for a while died of something new.
        wait = if served { RESTART_FIRST } else { wait };
        let pause = platform.scale.duration(wait);
        wait = (wait * 2).min(RESTART_MOST);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => {
                state.send_replace(Upstream::Gone);
                return;
            }
        }
    }
}

/// One instance from its start to its end. Whether it lasted.
async fn one(
    platform: &Platform,
    revision: &Revision,
    origin: Origin<'_>,
    state: &watch::Sender<Upstream>,
    stop: &CancellationToken,
) -> bool {
    let Ok((mut child, address)) = spawn(platform, revision, origin) else {
        platform.log.system(origin, "ERROR", "Container failed to start.");
        return false;
    };
    let began = clock::now();
    // Waiting for it would close this, and it would end.
    let _input = child.stdin.take();
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let container = format!("container \"{}-1\" on port {}", revision.service, address.port());
    let lived = async {
        tokio::select! {
            biased;
            status = child.wait() => {
                let failed = format!("Default STARTUP TCP probe failed 1 time consecutively for {container}. The instance was not started. Connection failed with status CANCELLED.");
                platform.log.system(origin, "ERROR", &failed);
                return Ended::Exited(status.ok());
            }
            () = stop.cancelled() => return Ended::Asked,
            () = tokio::time::sleep(platform.scale.limit(STARTUP_CEILING)) => {
                let failed = format!("Default STARTUP TCP probe failed 1 time consecutively for {container}. The instance was not started. Connection failed with status DEADLINE_EXCEEDED.");
                platform.log.system(origin, "ERROR", &failed);
                return Ended::Asked;
            }
            () = connectable(address) => {}
        }
        let passed =
            format!("Default STARTUP TCP probe succeeded after 1 attempt for {container}.");
        platform.log.system(origin, "INFO", &passed);
        state.send_replace(Upstream::Serving(address));
        tokio::select! {
            status = child.wait() => Ended::Exited(status.ok()),
            () = stop.cancelled() => Ended::Asked,
        }
    };
    let lines = async {
        tokio::join!(
            follow(platform, origin, Stream::Output, out),
            follow(platform, origin, Stream::Errors, errors),
        );
    };
    // What it wrote last is read before its end is told.
    let mut lines = std::pin::pin!(lines);
    let mut drained = false;
    let ended = {
        let mut lived = std::pin::pin!(lived);
        loop {
            tokio::select! {
                ended = &mut lived => break ended,
                () = &mut lines, if !drained => drained = true,
            }
        }
    };
    match ended {
        Ended::Exited(status) => {
            if !drained {
                let _ = tokio::time::timeout(GRACE, lines).await;
            }
            tell_exit(platform, origin, status);
            began.elapsed() > platform.scale.duration(STARTUP_CEILING)
        }
        Ended::Asked => {
            if stop.is_cancelled() {
                platform.log.system(origin, "INFO", "Shutting down user disabled instance");
            }
            state.send_replace(Upstream::Gone);
            terminate(&mut child, platform.scale.limit(GRACE), lines, drained).await;
            true
        }
    }
}

/// How an instance ended.
enum Ended {
    Exited(Option<ExitStatus>),
    /// Somebody wanted it to.
    Asked,
}

fn tell_exit(platform: &Platform, origin: Origin<'_>, status: Option<ExitStatus>) {
    use std::os::unix::process::ExitStatusExt as _;
    let Some(status) = status else { return };
    let words = match (status.code(), status.signal()) {
        (Some(code), _) => format!("Container called exit({code})."),
        (None, Some(signal)) => format!("Container terminated on signal {signal}."),
        (None, None) => return,
    };
    platform.log.system(origin, "WARNING", &words);
}

async fn terminate(
    child: &mut Child,
    grace: Duration,
    lines: std::pin::Pin<&mut (impl Future<Output = ()> + ?Sized)>,
    drained: bool,
) {
    if let Some(id) = child.id() {
        // Failing means it has just ended.
        let _ = kill(Pid::from_raw(id.cast_signed()), Signal::SIGTERM);
    }
    let ended = async {
        if !drained {
            lines.await;
        }
        let _ = child.wait().await;
    };
    if tokio::time::timeout(grace, ended).await.is_err() {
        let _ = child.kill().await;
    }
}

/// Starts the process. It ends with its standard input, so that none outlives a lab that was killed.
fn spawn(
    platform: &Platform,
    revision: &Revision,
    origin: Origin<'_>,
) -> std::io::Result<(Child, SocketAddr)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    drop(listener);
    let other = platform.backend.as_ref().filter(|_| revision.service == BACKEND);
    let mut command = Command::new(other.unwrap_or(&platform.exe));
    if other.is_none() {
        command.args(&platform.args);
    }
    command
        .env_clear()
        .envs(&revision.variables)
        .env("PORT", address.port().to_string())
        .env("K_SERVICE", &revision.service)
        .env("K_REVISION", origin.revision)
        .env("LAB_INSTANCE", origin.instance)
        .env("LAB_ENDS_WITH_INPUT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    Ok((command.spawn()?, address))
}

/// Resolves when somebody listens there.
async fn connectable(address: SocketAddr) {
    while TcpStream::connect(address).await.is_err() {
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

async fn follow(
    platform: &Platform,
    origin: Origin<'_>,
    stream: Stream,
    out: Option<impl AsyncRead + Unpin>,
) {
    let Some(out) = out else { return };
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        platform.log.container(origin, stream, &line);
    }
}
