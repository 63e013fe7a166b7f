//! One cell: a lab, a run, a diagnosis.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Cell, container};
use crate::shell;

/// Probes whose findings a diagnosis needs beside the logs: whether the database can be reached and
/// how long that takes, over both ways, whether the connector has room, and whether a user gets an
/// answer.
const PROBES: [&str; 4] = [
    "vpc.direct-connectivity",
    "cloudsql.connect-timing",
    "vpc.connector-capacity",
    "goldenpath.login-to-response",
];
/// How long a scenario is watched that does not say.
const WATCH: Duration = Duration::from_secs(60);
/// So many exits make a loop, and they come within this.
const LOOP: usize = 3;
const LOOPS_WITHIN: Duration = Duration::from_secs(30);
/// How long a lab that is told to end may take.
const GRACE: Duration = Duration::from_secs(30);

/// What came of it.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) diagnosis: Value,
    /// What the application is without a platform, where it is a real one.
    pub(super) container: Option<Container>,
    pub(super) seconds: f64,
}

/// A run without a platform: what its output alone tells, and its exit code.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) diagnosis: Value,
    pub(super) exit_code: Option<i32>,
}

/// A lab that ends when this is dropped.
struct Lab(Child);

impl Drop for Lab {
    fn drop(&mut self) {
        let id = self.0.id().to_string();
        let asked = Command::new("kill").args(["-INT", &id]).status();
        #[expect(clippy::disallowed_methods, reason = "a task has no runtime")]
        let now = std::time::Instant::now;
        let begun = now();
        while asked.is_ok() && begun.elapsed() < GRACE {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return;
            }
            pause(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn play(binary: &Path, cell: &Cell, scale: u32, dir: &Path) -> Result<Played> {
    #[expect(clippy::disallowed_methods, reason = "a task has no runtime")]
    let now = std::time::Instant::now;
    let begun = now();
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let (lab, lab_dir) = start(binary, cell, scale)?;
    let ready = now();
    let attached = |command: &mut Command| {
        command.current_dir(dir).args(["--env", "lab", "--lab-dir"]).arg(&lab_dir);
    };

    let mut run = Command::new(binary);
    attached(run.arg("run"));
    // Whether the connector has room is no question of a start-up.
    let probes = PROBES.iter().filter(|id| cell.backend.is_none() || !id.contains("capacity"));
    run.args(probes);
    run.arg("--results-dir").arg(dir.join("runs"));
    let ran = run.output().context("cannot start shakedown")?;
    // Findings are what we came for; only what ended before it had a record is of no use.
    if matches!(ran.status.code(), None | Some(1 | 2)) {
        bail!("the run ended with {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr));
    }

    let container = cell.backend.is_some().then(|| container::run(&lab_dir, scale, dir));
    let container = container.transpose()?;
    let watch = cell.scenario["expect"]["watch"].as_str().map(seconds).transpose()?;
    let watch = watch.unwrap_or(if cell.backend.is_some() { WATCH / 2 } else { WATCH }) / scale;
    pause(watch.saturating_sub(ready.elapsed()));
    let loops = cell.scenario["expect"]["symptoms"].as_array().into_iter().flatten();
    if loops.into_iter().any(|symptom| symptom == "restart_loop") {
        // A real interpreter takes its time, whatever the lab's.
        let deadline = ready.elapsed() + LOOPS_WITHIN;
        while exits(&lab_dir) < LOOP && ready.elapsed() < deadline {
            pause(Duration::from_millis(50));
        }
    }

    let logs = dir.join("logs");
    fs::create_dir_all(&logs).context("cannot make a folder")?;
    for entry in fs::read_dir(lab_dir.join("logs")).context("the lab's logs")?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "jsonl") {
            fs::copy(entry.path(), logs.join(entry.file_name())).context("cannot copy a log")?;
        }
    }
    let analyze = |inputs: &[PathBuf], name: &str| {
        let mut analyze = Command::new(binary);
        attached(analyze.arg("analyze"));
        let text = shell::output(analyze.arg("--json").args(inputs))?;
        fs::write(dir.join(name), &text).context("cannot write the diagnosis")?;
        serde_json::from_str(&text).context("a diagnosis is JSON")
    };
    let mut inputs = vec![logs];
    let runs = fs::read_dir(dir.join("runs")).context("the run's folder")?.flatten();
    inputs.extend(runs.map(|run| run.path()));
    let diagnosis = analyze(&inputs, "diagnosis.json")?;
    let container = container.map(|ran| {
        let diagnosis = analyze(&[ran.log], "container.json")?;
        anyhow::Ok(Container { diagnosis, exit_code: ran.exit_code })
    });
    let container = container.transpose()?;
    drop(lab);
    Ok(Played { diagnosis, container, seconds: begun.elapsed().as_secs_f64() })
}

/// How often an instance of the backend has ended by itself.
fn exits(lab_dir: &Path) -> usize {
    let log = fs::read_to_string(lab_dir.join("logs/backend.jsonl")).unwrap_or_default();
    log.matches("Container called exit(").count()
}

/// Starts a lab and says where it is.
fn start(binary: &Path, cell: &Cell, scale: u32) -> Result<(Lab, PathBuf)> {
    let backend =
        cell.backend.iter().flat_map(|program| ["--backend".as_ref(), program.as_os_str()]);
    let mut lab = Command::new(binary)
        .args(["lab", "up", "--scenario", &cell.name, "--seed", &cell.seed.to_string()])
        .args(["--time-scale", &scale.to_string()])
        .args(backend)
        .current_dir(shell::root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start shakedown")?;
    let out = lab.stdout.take().context("its output was asked for")?;
    let lab = Lab(lab);
    for line in BufReader::new(out).lines() {
        let line = line.context("cannot read what the lab says")?;
        if let Some((_, rest)) = line.split_once("A lab is up in ")
            && let Some((dir, _)) = rest.split_once(". ")
        {
            return Ok((lab, dir.into()));
        }
    }
    bail!("the lab did not start");
}

/// `"90s"`, `"2min"`, as scenarios write durations.
pub(super) fn seconds(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().with_context(|| format!("no duration: {text:?}"))?;
    match &text[digits.len()..] {
        "s" => Ok(Duration::from_secs(number)),
        "min" => Ok(Duration::from_secs(number * 60)),
        unit => bail!("no unit of a duration: {unit:?}"),
    }
}

pub(super) fn pause(duration: Duration) {
    #[expect(clippy::disallowed_methods, reason = "a task has no runtime")]
    std::thread::sleep(duration);
}
