//! A lab in a process of its own, and how another process starts one.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::{Deserialize, Serialize};
use shakedown_core::environment::TimeScale;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::dir::sweep;
use crate::error::LabError;
use crate::lab::{Lab, LabOptions};
use crate::postgres::ServerPrograms;
use crate::scenario::Scenario;
use crate::settings::LabSettings;
use crate::supervise::end_of_input;

/// Which lab to serve: one JSON line on the standard input of `lab-serve`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServeRequest {
    /// What goes wrong, unscaled.
    pub scenario: Scenario,
    /// Names and sizes, unscaled.
    #[serde(default)]
    pub settings: LabSettings,
    /// How much faster than real time.
    #[serde(default)]
    pub time_scale: TimeScale,
    /// Folder of `initdb` and `postgres`.
    pub pg_bin: PathBuf,
    /// Where the lab's directory is made.
    pub tmp: PathBuf,
    /// Whether the application runs. Default yes.
    #[serde(default = "yes")]
    pub application: bool,
    /// A program to be the service `backend` instead of the lab's own; see [`LabOptions::backend`].
    #[serde(default)]
    pub backend: Option<PathBuf>,
}

fn yes() -> bool {
    true
}

impl ServeRequest {
    fn options(self, exe: PathBuf, supervise_args: Vec<OsString>) -> Result<LabOptions, LabError> {
        let programs = ServerPrograms::find(Some(&self.pg_bin), None)?;
        let Self { scenario, settings, time_scale, tmp, application, backend, .. } = self;
        Ok(LabOptions {
            supervise_args,
            tmp,
            time_scale,
            scenario,
            settings,
            application,
            backend,
            ..LabOptions::new(exe, programs)
        })
    }
}

/// What a served lab prints when it is ready: one JSON line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The lab's directory.
    pub dir: PathBuf,
    /// The environment overlay.
    pub overlay: PathBuf,
    /// The serving process.
    pub pid: u32,
}

/// What ends a served lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// The end of standard input, SIGINT or SIGTERM.
    InputEnds,
    /// SIGINT or SIGTERM.
    Signal,
}

/// Reads a [`ServeRequest`] from the first line of standard input.
///
/// # Errors
/// [`LabError::Io`] when there is none.
pub fn read_request() -> Result<ServeRequest, LabError> {
    let mut line = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut line)
        .and_then(|_| serde_json::from_str(&line).map_err(Into::into))
        .map_err(|source| LabError::Io {
            action: "read the lab's request from standard input",
            source,
        })
}

/// Entry point of the hidden subcommand `lab-serve` (with [`read_request`]) and of `lab up`: starts
/// the lab, writes one line of JSON ([`Ready`]) to `out`, and stops the lab cleanly when asked to.
///
/// # Errors
/// [`LabError`] when it cannot be started, ends by itself or cannot be stopped.
///
/// # Cancel safety
/// As [`Lab`]: a dropped future leaves no server, only a directory for the next start to sweep.
pub async fn serve(
    options: &LabOptions,
    until: Until,
    out: &mut (dyn Write + Send),
) -> Result<(), LabError> {
    raise_file_limit();
    // Before the start, so that nothing asked during it is missed.
    let io = |action| move |source| LabError::Io { action, source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io("listen for signals"))?;
    let mut terminate = signal(SignalKind::terminate()).map_err(io("listen for signals"))?;
    let asked = async {
        let input = async {
            match until {
                Until::InputEnds => end_of_input().await,
                Until::Signal => std::future::pending().await,
            }
        };
        tokio::select! {
            () = input => {}
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let mut asked = std::pin::pin!(asked);
    let started = tokio::select! {
        started = Lab::start(options) => Some(started?),
        () = &mut asked => None,
    };
    let Some(mut lab) = started else {
        // What was begun is nobody's now.
        sweep(&options.tmp).await;
        return Ok(());
    };
    let ready = Ready { dir: lab.dir().into(), overlay: lab.overlay(), pid: std::process::id() };
    let line = serde_json::to_string(&ready).expect("numbers and strings become JSON");
    let told =
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(io("say that the lab is ready"));
    let outcome = match told {
        Ok(()) => tokio::select! {
            error = lab.failed() => Err(error),
            () = asked => Ok(()),
        },
        error => error,
    };
    let stopped = lab.stop().await;
    outcome.and(stopped)
}

/// [`serve`] as the hidden subcommand does it: request from standard input, until that ends.
///
/// # Errors
/// As [`serve`].
///
/// # Cancel safety
/// As [`serve`].
pub async fn serve_request(
    exe: PathBuf,
    supervise_args: Vec<OsString>,
    out: &mut (dyn Write + Send),
) -> Result<(), LabError> {
    let options = read_request()?.options(exe, supervise_args)?;
    serve(&options, Until::InputEnds, out).await
}

/// A lab needs four file descriptors per neighbour; many systems start with 256 or 1024 in all.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        // When it is not allowed, the lab does with what there is.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most);
    }
}

/// A lab that runs in a process of its own. Dropping it ends the process's standard input, so the
/// lab stops by itself.
#[derive(Debug)]
pub struct ServedLab {
    process: Child,
    input: Option<ChildStdin>,
    ready: Ready,
}

impl ServedLab {
    /// Starts `EXE ARGS...` (which calls [`serve_request`]) in a process group of its own and waits
    /// until the lab is ready.
    ///
    /// # Errors
    /// [`LabError::Run`] when it cannot be started, [`LabError::Serve`] with what it wrote to
    /// standard error when it ended before it was ready.
    ///
    /// # Cancel safety
    /// A dropped future ends the process.
    pub async fn start(
        exe: &Path,
        args: &[OsString],
        request: &ServeRequest,
    ) -> Result<Self, LabError> {
        let io = |action| move |source| LabError::Io { action, source };
        let mut process = Command::new(exe)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|source| LabError::Run { program: exe.display().to_string(), source })?;
        let mut input = process.stdin.take().expect("standard input was asked for");
        let output = process.stdout.take().expect("standard output was asked for");
        let mut errors = process.stderr.take().expect("standard error was asked for");
        let mut line = serde_json::to_string(request).expect("a request becomes JSON");
        line.push('\n');
        // An early end shows in the answer.
        let _ = input.write_all(line.as_bytes()).await;
        let mut answer = String::new();
        BufReader::new(output)
            .read_line(&mut answer)
            .await
            .map_err(io("read from the lab process"))?;
        match serde_json::from_str(&answer) {
            Ok(ready) => Ok(Self { process, input: Some(input), ready }),
            Err(_) => {
                drop(input);
                let mut text = String::new();
                errors.read_to_string(&mut text).await.map_err(io("read from the lab process"))?;
                Err(LabError::Serve(text.trim().into()))
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Stops it and waits until its process has ended; the directory is gone then.
    ///
    /// # Errors
    /// [`LabError::Serve`] when it did not end well.
    ///
    /// # Cancel safety
    /// When dropped, the lab still stops.
    pub async fn stop(mut self) -> Result<(), LabError> {
        drop(self.input.take());
        let status = self
            .process
            .wait()
            .await
            .map_err(|source| LabError::Io { action: "wait for the lab process", source })?;
        if status.success() {
            Ok(())
        } else {
            Err(LabError::Serve(format!("it ended with {status}")))
        }
    }
}
