//! `cargo xtask connector-truth`: what the lab's connector carries, against what the probes find.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::shell;

/// A figure may be wrong by this share of the truth.
const TOLERANCE: f64 = 0.05;
/// A neighbour takes all room so long after its lab is ready: the watch is on by then.
const NEIGHBOUR_AT: &str = "15s";
/// Instances every connector here begins with.
const INSTANCES: u64 = 2;

/// Find the limits of connectors whose limits are known, and compare
///
/// Builds `shakedown` (dev profile). For every seed: a lab with a connector of other limits, and
/// `vpc.connector-capacity` and `vpc.throughput` with a raised budget, which are told none of them;
/// beside it a second lab in which a neighbour takes all room, and `vpc.scaling-delay`. All at time
/// scale 1. Prints truth, finding and error of each; a seed takes a minute and a half.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 every figure within 5 %, 1 one is not")]
pub(crate) struct ConnectorTruth {
    /// How many connectors
    #[arg(long, default_value_t = 3, value_name = "N")]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1, value_name = "N")]
    first: u64,
}

/// What one connector carries.
#[derive(Clone, Copy, Debug)]
struct Limits {
    seed: u64,
    connections_per_instance: u64,
    connections_a_minute: u64,
    mbps: u64,
}

impl Limits {
    /// Low enough that a busy machine carries them without effort.
    fn of(seed: u64) -> Self {
        Self {
            seed,
            connections_per_instance: 12 + seed * 7 % 12,
            connections_a_minute: 300 + seed * 97 % 200,
            mbps: 40 + seed * 29 % 40,
        }
    }

    fn request(self, pg_bin: &str, faults: &Value) -> Value {
        json!({
            "scenario": {
                "name": "connector-truth",
                "summary": "a connector of known limits",
                "seed": self.seed,
                "fault": faults,
            },
            "settings": {
                "database": { "max_connections": 162 },
                "connector": {
                    "instances_min": INSTANCES,
                    "connections_per_instance": self.connections_per_instance,
                    "connection_rate": format!("{}/min", self.connections_a_minute),
                    "throughput_min_mbps": self.mbps,
                },
            },
            "time_scale": 1,
            "pg_bin": pg_bin,
            "tmp": "/tmp",
            // Others' connections through the connector are not the probe's to count.
            "application": false,
        })
    }
}

/// One figure, as it is and as it was found.
#[derive(Debug)]
struct Row {
    what: &'static str,
    unit: &'static str,
    truth: f64,
    found: Result<f64>,
}

impl Row {
    fn error(&self) -> Option<f64> {
        self.found.as_ref().ok().map(|found| found / self.truth - 1.0)
    }

    fn is_right(&self) -> bool {
        self.error().is_some_and(|error| error.abs() <= TOLERANCE)
    }
}

impl ConnectorTruth {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let binary = shell::build_shakedown(&[])?;
        let pg_bin = postgres(&binary)?;
        let heads = ["seed", "figure", "truth", "found", "error"];
        println!(
            "{:>4}  {:<28} {:>10} {:>10} {:>8}",
            heads[0], heads[1], heads[2], heads[3], heads[4]
        );
        let mut wrong = 0;
        for seed in self.first..self.first + self.seeds {
            let limits = Limits::of(seed);
            let (still, scaling) = std::thread::scope(|scope| {
                let scaling = scope.spawn(|| delay(&binary, &pg_bin, limits));
                let still = capacity(&binary, &pg_bin, limits);
                (still, scaling.join())
            });
            let scaling = scaling.map_err(|_| anyhow!("the watch panicked"))??;
            for row in still?.into_iter().chain([scaling]) {
                wrong += u32::from(!row.is_right());
                let what = format!("{} ({})", row.what, row.unit);
                let found = row.found.as_ref().map_or("none".into(), |found| format!("{found:.2}"));
                let error =
                    row.error().map_or("-".into(), |error| format!("{:+.2} %", error * 100.0));
                println!("{seed:>4}  {what:<28} {:>10.2} {found:>10} {error:>8}", row.truth);
                if let Err(why) = &row.found {
                    println!("      {why:#}");
                }
            }
        }
        println!("{wrong} figures off by more than {:.0} %", TOLERANCE * 100.0);
        Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Connections, rate and throughput of a connector nobody else uses.
fn capacity(binary: &Path, pg_bin: &str, limits: Limits) -> Result<Vec<Row>> {
    let lab = Lab::start(binary, &limits.request(pg_bin, &json!([])))?;
    let run = lab.run(
        binary,
        &["vpc.direct-connectivity", "vpc.connector-capacity", "vpc.throughput"],
        &[
            "safety.database_connections=150",
            "safety.connection_rate=20/s",
            // The monitors' own connects use up the rate as well.
            "monitoring.cadence=60s",
            "probes.\"vpc.connector-capacity\".find_limits_up_to=140",
            "probes.\"vpc.throughput\".transfer_bytes=67108864",
        ],
    )?;
    let truth = lab.truth()?;
    let number = |key: &str| {
        truth["connector"][key].as_f64().with_context(|| format!("the lab does not know its {key}"))
    };
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let rate = limits.connections_a_minute as f64;
    let (ramp, read) = ("vpc.connector-capacity", "vpc.throughput");
    Ok(vec![
        Row {
            what: "connections",
            unit: "at once",
            truth: number("capacity")?,
            found: found(&run, ramp, "connections_limit"),
        },
        Row {
            what: "connection rate",
            unit: "a minute",
            truth: rate,
            found: found(&run, ramp, "connection_rate_limit"),
        },
        Row {
            what: "throughput",
            unit: "Mbit/s",
            truth: number("throughput_mbps")?,
            found: found(&run, read, "throughput_steady"),
        },
    ])
}

/// How long a connector without room takes to have one more instance.
fn delay(binary: &Path, pg_bin: &str, limits: Limits) -> Result<Row> {
    let faults = json!([{ "kind": "connector-neighbour", "at": NEIGHBOUR_AT }]);
    let lab = Lab::start(binary, &limits.request(pg_bin, &faults))?;
    let run = lab.run(
        binary,
        &["vpc.scaling-delay"],
        &[
            "safety.database_connections=20",
            "safety.connection_rate=180/min",
            "probes.\"vpc.scaling-delay\".wait_for_step=60s",
            "probes.\"vpc.scaling-delay\".cadence=500ms",
            "probes.\"vpc.scaling-delay\".connections=10",
        ],
    )?;
    let truth = lab.truth()?;
    let ms = |value: &Value| value.as_f64().context("the connector did not scale out");
    let began = ms(&truth["faults"][0]["from_ms"])?;
    let ended = ms(&truth["connector"]["scale_events"][0]["at_ms"])?;
    Ok(Row {
        what: "scaling delay",
        unit: "s",
        truth: (ended - began) / 1e3,
        found: found(&run, "vpc.scaling-delay", "recovery"),
    })
}

/// A measurement of a run.
fn found(run: &Value, probe: &str, name: &str) -> Result<f64> {
    let probes = run["probes"].as_array().context("a run has probes")?;
    let ran = probes.iter().find(|ran| ran["id"] == probe);
    let ran = ran.with_context(|| format!("{probe} did not run"))?;
    let measured = ran["measurements"].as_array().into_iter().flatten();
    let measured = measured.into_iter().find(|measurement| measurement["name"] == name);
    let value = measured.and_then(|measurement| measurement["value"].as_f64());
    value.with_context(|| {
        let findings = ran["findings"].as_array().into_iter().flatten();
        let said: Vec<_> = findings.filter_map(|finding| finding["summary"].as_str()).collect();
        format!("{probe} ({}, {}): {}", ran["status"], ran["verdict"], said.join("; "))
    })
}

/// Where the PostgreSQL server's programs are.
fn postgres(binary: &Path) -> Result<String> {
    let mut doctor = Command::new(binary);
    doctor.current_dir(shell::root()).args(["doctor", "--env", "lab", "--json"]);
    let output = doctor.output().context("cannot start shakedown")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("what doctor says")?;
    let mut checks = report["checks"].as_array().into_iter().flatten();
    let server =
        checks.find(|check| check["what"] == "PostgreSQL server" && check["state"] == "ok");
    let folder = server.and_then(|check| check["detail"].as_str());
    Ok(folder.context("no PostgreSQL server is installed: shakedown doctor --env lab")?.to_owned())
}

/// A lab of our own; it ends when this is dropped.
struct Lab {
    process: Child,
    dir: PathBuf,
    results: tempfile::TempDir,
}

impl Lab {
    fn start(binary: &Path, request: &Value) -> Result<Self> {
        let mut process = Command::new(binary)
            .arg("lab-serve")
            .current_dir(shell::root())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start shakedown")?;
        let input = process.stdin.as_mut().context("its input was asked for")?;
        writeln!(input, "{request}").context("the lab does not listen")?;
        let mut ready = String::new();
        let output = process.stdout.take().context("its output was asked for")?;
        BufReader::new(output).read_line(&mut ready).context("cannot read what the lab says")?;
        let ready: Value = serde_json::from_str(&ready).context("the lab did not start")?;
        let dir = ready["dir"].as_str().context("a lab has a folder")?.into();
        let results = tempfile::tempdir().context("cannot make a folder")?;
        Ok(Self { process, dir, results })
    }

    /// Runs probes against it. What they find is compared by the caller, whatever their verdict.
    fn run(&self, binary: &Path, probes: &[&str], settings: &[&str]) -> Result<Value> {
        let mut command = Command::new(binary);
        command
            .current_dir(shell::root())
            .args(["run", "--env", "lab", "--lab-dir"])
            .arg(&self.dir);
        command.arg("--results-dir").arg(self.results.path()).args(["--output-format", "json"]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let output = command.args(probes).output().context("cannot start shakedown")?;
        if matches!(output.status.code(), None | Some(1 | 2)) {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            bail!("the run ended with {}: {said}", output.status);
        }
        serde_json::from_slice(&output.stdout).context("a run is JSON")
    }

    /// What it knows of itself, not older than the run.
    fn truth(&self) -> Result<Value> {
        // It is rewritten 50 ms after a change.
        #[expect(clippy::disallowed_methods, reason = "a task has no runtime")]
        std::thread::sleep(std::time::Duration::from_millis(500));
        let text = fs::read_to_string(self.dir.join("truth.json")).context("the lab's truth")?;
        serde_json::from_str(&text).context("the lab's truth")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}
