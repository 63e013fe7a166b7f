//! Programs that are measured, and programs that are there to be measured against.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::processes::Process;
use crate::shell;

/// How long `command` takes from start to exit, in milliseconds. Its output goes nowhere.
#[expect(clippy::disallowed_methods, reason = "real time of a real process")]
pub(crate) fn wall_ms(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(ms)
}

/// The JSON line that `command` prints.
pub(crate) fn json(command: &mut Command) -> Result<Value> {
    let text = shell::output(command)?;
    serde_json::from_str(&text).with_context(|| format!("{command:?} printed no JSON: {text}"))
}

/// The number called `key` of a measurement.
pub(crate) fn number(value: &Value, key: &str) -> Result<f64> {
    value[key].as_f64().with_context(|| format!("no number `{key}` in {value}"))
}

/// The text called `key`.
pub(crate) fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str> {
    value[key].as_str().with_context(|| format!("no text `{key}` in {value}"))
}

/// The first line a program says of its version.
pub(crate) fn version(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output();
    let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or("of unknown version").trim().to_owned()
}

/// A program that serves until it is dropped.
pub(crate) struct Server(Child);

impl Server {
    /// One of `shakedown-bench`, which says in a line of JSON where it is.
    pub(crate) fn told(command: &mut Command) -> Result<(Self, Value)> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stdout = child.stdout.take().context("it was piped")?;
        let server = Self(child);
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let value = serde_json::from_str(&line)
            .with_context(|| format!("{command:?} did not say where it is: `{line}`"))?;
        Ok((server, value))
    }

    /// One that is there once `port` of 127.0.0.1 answers.
    #[expect(clippy::disallowed_methods, reason = "waits for a program on this machine")]
    pub(crate) fn on_port(command: &mut Command, port: u16) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let mut server = Self(child);
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            if let Some(status) = server.0.try_wait()? {
                anyhow::bail!("{command:?} ended with {status}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        anyhow::bail!("{command:?} does not answer on port {port}")
    }

    pub(crate) fn process(&self) -> Process {
        Process { id: self.0.id() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ours end with their standard input and put things away; the others are just ended.
        if self.0.stdin.take().is_none() {
            let _ = self.0.kill();
        }
        let _ = self.0.wait();
    }
}

/// A port of 127.0.0.1 that nobody listens on now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
