//! Labs and runs for the tests of the binary.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use shakedown_lab::{Scenario, ServerPrograms};

/// The time scale every lab of the tests runs at.
pub(crate) const TIME_SCALE: u32 = 10;

/// The binary, with an environment of its own: none of the strategy's variables leak in.
pub(crate) fn shakedown(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shakedown"));
    command.args(arguments).env_clear();
    if let Some(path) = std::env::var_os("PATH") {
        command.env("PATH", path);
    }
    command
}

/// Runs to the end.
pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("the binary runs")
}

/// A lab in a process of its own; it ends when this is dropped.
pub(crate) struct TestLab {
    process: Child,
    pub(crate) dir: PathBuf,
}

impl TestLab {
    pub(crate) fn start(scenario: &str) -> Self {
        let path = std::env::var_os("PATH");
        let programs =
            ServerPrograms::find(None, path.as_deref()).expect("PostgreSQL is installed");
        let request = json!({
            "scenario": Scenario::find(scenario).expect("built in"),
            "time_scale": TIME_SCALE,
            // As environments/lab.toml has it.
            "settings": { "database": { "max_connections": 162 } },
            "pg_bin": programs.postgres().parent(),
            "tmp": "/tmp",
        });
        let mut process = shakedown(&["lab-serve"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the lab starts");
        let input = process.stdin.as_mut().expect("piped");
        writeln!(input, "{request}").expect("the lab reads");
        let mut ready = String::new();
        let output = process.stdout.take().expect("piped");
        BufReader::new(output).read_line(&mut ready).expect("the lab answers");
        let ready: Value = serde_json::from_str(&ready).expect("the lab is ready");
        let dir = ready["dir"].as_str().expect("a path").into();
        Self { process, dir }
    }

    /// What the lab knows to be true, not older than what had happened before the call.
    pub(crate) fn truth(&self) -> Value {
        // The lab writes what changed every 50 ms; two changes later it is what we ask about.
        #[expect(clippy::disallowed_methods, reason = "a test that waits for another process")]
        std::thread::sleep(Duration::from_millis(500));
        let text = std::fs::read_to_string(self.dir.join("truth.json")).expect("the truth");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// A scenario played to the suite.
pub(crate) struct Played {
    pub(crate) exit: i32,
    pub(crate) run: Value,
    pub(crate) diagnosis: Value,
    /// What `analyze` says of the run's directory.
    pub(crate) analyzed: Value,
    pub(crate) truth: Value,
}

/// Plays a scenario in a lab of its own.
pub(crate) fn play(scenario: &str, arguments: &[&str]) -> Played {
    let lab = TestLab::start(scenario);
    let results = tempfile::tempdir().expect("a folder");
    let output = self::output(&mut run_in(&lab, results.path(), arguments));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let run: Value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    let exit = output.status.code().expect("it exits");
    let session = run["plan"]["session_id"].as_str().expect("a name");
    let diagnosis = std::fs::read_to_string(results.path().join(session).join("diagnosis.json"));
    let diagnosis = serde_json::from_str(&diagnosis.expect("written")).expect("JSON");
    let analyzed = shakedown(&["analyze", "--json"]).arg(results.path()).output();
    let analyzed = serde_json::from_slice(&analyzed.expect("it runs").stdout).expect("JSON");
    Played { exit, run, diagnosis, analyzed, truth: lab.truth() }
}

/// `shakedown run` against a lab that is up.
pub(crate) fn run_in(lab: &TestLab, results: &Path, arguments: &[&str]) -> Command {
    let mut command = shakedown(&["run", "--env", "lab", "--lab-dir"]);
    command.arg(&lab.dir).arg("--results-dir").arg(results).args(arguments);
    command
}
