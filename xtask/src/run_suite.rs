//! `cargo xtask run-suite`: build shakedown, start a local staging, run the suite against it.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::shell;

/// The lab's durations are divided by this, so that a run takes a minute and not ten.
const TIME_SCALE: &str = "10";

/// Run the suite against a local staging: a real PostgreSQL behind an emulated VPC connector
///
/// Builds `shakedown` (dev profile) and runs `shakedown run --env lab --time-scale 10` with whatever
/// is given here behind it, and ends with its exit code. Where no PostgreSQL server is installed,
/// one is downloaded once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask run-suite
  cargo xtask run-suite --scenario connector-drops
  cargo xtask run-suite --execution-mode fast_feedback --test-pattern '*issue_1278*' -v
  cargo xtask run-suite --phase 2 --output-format json
  cargo xtask run-suite --time-scale 1

Exit codes: 0 passed, 10 findings; all of them: docs/guide/exit-codes.md
All flags of a run: shakedown run --help")]
pub(crate) struct RunSuite {
    /// Flags and selectors of `shakedown run`, passed on as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "RUN FLAGS")]
    args: Vec<OsString>,
}

impl RunSuite {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.has("--env") {
            bail!("run-suite is the local staging; elsewhere: cargo run -- run --env NAME ..");
        }
        let mut binary = shell::build_shakedown(&[])?;
        if !self.has("--pg-bin")
            && let Some(remedy) = missing_server(&binary)?
        {
            eprintln!(
                "No PostgreSQL server is installed here. Building shakedown with the feature \
                 download-postgres, which fetches a pinned and checksummed one once into your \
                 cache folder."
            );
            binary = shell::build_shakedown(&["--features", "download-postgres"])
                .with_context(|| remedy.clone())?;
        }
        let mut command = Command::new(binary);
        command.current_dir(shell::root()).args(["run", "--env", "lab"]);
        if !self.has("--time-scale") {
            command.args(["--time-scale", TIME_SCALE]);
        }
        let status = command.args(&self.args).status().context("cannot start shakedown")?;
        Ok(shell::exit_code(status))
    }

    fn has(&self, flag: &str) -> bool {
        let given = |arg: &OsString| arg.to_string_lossy().split('=').next() == Some(flag);
        self.args.iter().any(given)
    }
}

/// The line that installs a PostgreSQL server, when the binary finds none.
fn missing_server(binary: &Path) -> Result<Option<String>> {
    let doctor = Command::new(binary)
        .current_dir(shell::root())
        .args(["doctor", "--env", "lab", "--json"])
        .output()
        .context("cannot start shakedown")?;
    let report: Value = serde_json::from_slice(&doctor.stdout).with_context(|| {
        format!("shakedown doctor failed: {}", String::from_utf8_lossy(&doctor.stderr).trim_end())
    })?;
    let checks = report["checks"].as_array().into_iter().flatten();
    let Some(server) = checks.into_iter().find(|check| check["what"] == "PostgreSQL server") else {
        bail!("shakedown doctor says nothing about a PostgreSQL server: {report}");
    };
    if server["state"] != "missing" {
        return Ok(None);
    }
    Ok(Some(server["fix"].as_str().unwrap_or("install the PostgreSQL server").to_owned()))
}
