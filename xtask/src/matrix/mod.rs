//! `cargo xtask matrix`: every scenario of the lab, against what the diagnosis says about it.

mod container;
mod judge;
mod play;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::{fastapi, shell};
use judge::Judgement;

/// Play every scenario of the lab and compare the diagnosis with what is true
///
/// Builds `shakedown` (dev profile). For every scenario and seed: starts a lab, runs a few probes
/// against it, lets it be for as long as the scenario says, and has `shakedown analyze` read the lab's
/// logs together with the run. Root cause, symptoms, masked causes and the limit that fired must be
/// the scenario's, and no decoy may be blamed. Prints every miss and the confusion matrix.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask matrix
  cargo xtask matrix --application fastapi
  cargo xtask matrix --scenarios phase3-timeout two-roots --seeds 3

Exit codes: 0 every cell right, 1 a miss")]
pub(crate) struct Matrix {
    /// Only these scenarios
    #[arg(long, num_args = 1.., value_name = "NAME")]
    scenarios: Vec<String>,
    /// The backend: the lab's own, or apps/fastapi under gunicorn and under bare uvicorn, of which
    /// the start-ups are compared, their exit codes, and what it writes without a platform
    #[arg(long, value_enum, num_args = 1.., default_values_t = [Application::Lab])]
    application: Vec<Application>,
    /// How many seeds of each
    #[arg(long, default_value_t = 1, value_name = "N")]
    seeds: u64,
    /// How many labs at a time
    #[arg(long, default_value_t = 4, value_name = "N")]
    jobs: usize,
    /// How often a cell that missed is played again: limits of a second pass between two labs on a
    /// busy machine. What is right only then is told as flaky
    #[arg(long, default_value_t = 0, value_name = "N")]
    retries: u32,
    /// The labs' time scale
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20))]
    time_scale: u32,
    /// Where logs, runs and diagnoses of all cells are left
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Who is the lab's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Application {
    Lab,
    Fastapi,
}

/// The scenarios that are about a start-up, as a real application can have it.
const START_UP: [&str; 7] = [
    "healthy",
    "phase3-timeout",
    "table-setup-limit",
    "code-defect-import",
    "code-defect-phase5",
    "wrong-secret",
    "swallowed-startup-failure",
];

/// The largest time scale for a backend that an interpreter runs.
const INTERPRETED: u32 = 8;

/// A scenario with a seed of its own.
#[derive(Debug)]
struct Cell {
    name: String,
    seed: u64,
    scenario: Value,
    /// The program that is the backend, where it is not the lab's own.
    backend: Option<PathBuf>,
}

impl Cell {
    /// An interpreter starts as slowly at every time scale: where no limit has to fire, the lab's may
    /// leave it the time.
    fn time_scale(&self, asked: u32) -> u32 {
        let waits = self.scenario["expect"]["limit"].is_string();
        if self.backend.is_some() && !waits { asked.min(INTERPRETED) } else { asked }
    }

    fn label(&self) -> String {
        match self.backend.as_deref().and_then(Path::file_name) {
            Some(server) => format!("{}.{}", self.name, server.to_string_lossy()),
            None => self.name.clone(),
        }
    }
}

impl Matrix {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let built = shell::build_shakedown(&[])?;
        let cells = self.cells(&built, &self.backends()?)?;
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let folder = self.keep.as_deref().unwrap_or(folder.path());
        // Whoever builds meanwhile builds another one.
        let own = tempfile::tempdir().context("cannot make a folder")?;
        let binary = own.path().join("shakedown");
        std::fs::copy(&built, &binary).context("cannot copy the program")?;
        let next = AtomicUsize::new(0);
        let flaky = AtomicUsize::new(0);
        let judged = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.clamp(1, cells.len().max(1)) {
                scope.spawn(|| {
                    while let Some(cell) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut judgement = self.play(&binary, cell, 0, folder);
                        for again in 1..=self.retries {
                            if judgement.misses.is_empty() {
                                break;
                            }
                            judgement = self.play(&binary, cell, again, folder);
                            let right = judgement.misses.is_empty();
                            flaky.fetch_add(usize::from(right), Ordering::Relaxed);
                        }
                        if let Ok(mut judged) = judged.lock() {
                            judged.push(judgement);
                        }
                    }
                });
            }
        });
        let judged = judged.into_inner().unwrap_or_default();
        print!("{}", confusion(&judged));
        let missed = judged.iter().filter(|judgement| !judgement.misses.is_empty()).count();
        let flaky = flaky.into_inner();
        println!("{} cells, {missed} with a miss, {flaky} flaky", judged.len());
        Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Plays a cell, says how it went, and leaves what it left in a folder of its own.
    fn play(&self, binary: &Path, cell: &Cell, again: u32, folder: &Path) -> Judgement {
        let dir = folder.join(format!("{}-{}-{again}", cell.label(), cell.seed));
        let played = play::play(binary, cell, cell.time_scale(self.time_scale), &dir);
        let judgement = match &played {
            Ok(played) => judge::judge(cell, played),
            Err(error) => Judgement::broken(&cell.scenario, format!("{error:#}")),
        };
        let seconds = played.map_or(0.0, |played| played.seconds);
        println!("{}", judgement.line(&cell.label(), cell.seed, seconds));
        judgement
    }

    fn backends(&self) -> Result<Vec<Option<PathBuf>>> {
        let mut backends = Vec::new();
        for application in &self.application {
            match application {
                Application::Lab => backends.push(None),
                Application::Fastapi => match fastapi::prepare()? {
                    Ok(folder) => {
                        backends.extend(fastapi::SERVERS.map(|server| Some(folder.join(server))));
                    }
                    Err(missing) => bail!("apps/fastapi cannot be run here: {missing}"),
                },
            }
        }
        Ok(backends)
    }

    fn cells(&self, binary: &Path, backends: &[Option<PathBuf>]) -> Result<Vec<Cell>> {
        let mut command = Command::new(binary);
        let text = shell::output(command.args(["lab", "scenarios", "--json"]))?;
        let listed: Value = serde_json::from_str(&text).context("the list of scenarios")?;
        let all = listed["scenarios"].as_array().cloned().unwrap_or_default();
        let name = |scenario: &Value| scenario["name"].as_str().unwrap_or_default().to_owned();
        if let Some(unknown) =
            self.scenarios.iter().find(|asked| !all.iter().any(|known| name(known) == **asked))
        {
            bail!("there is no scenario {unknown:?}: see `shakedown lab scenarios`");
        }
        let mut cells = Vec::new();
        for scenario in all {
            let name = name(&scenario);
            let start_up = START_UP.contains(&name.as_str());
            if !self.scenarios.is_empty() && !self.scenarios.contains(&name) {
                continue;
            }
            let first = scenario["seed"].as_u64().unwrap_or_default();
            for seed in first..first + self.seeds {
                for backend in backends.iter().filter(|b| b.is_none() || start_up).cloned() {
                    let (name, scenario) = (name.clone(), scenario.clone());
                    cells.push(Cell { name, seed, scenario, backend });
                }
            }
        }
        Ok(cells)
    }
}

/// How often which cause was found where another one was true.
fn confusion(judged: &[Judgement]) -> String {
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    for (expected, found) in judged.iter().flat_map(|judgement| &judgement.roots) {
        *counts.entry((expected, found)).or_default() += 1;
    }
    let mut text = format!("\n{:<28} {:<28} {:>5}\n", "true root", "found root", "cells");
    for ((expected, found), count) in counts {
        let mark = if expected == found { "" } else { "  <- wrong" };
        text.push_str(&format!("{expected:<28} {found:<28} {count:>5}{mark}\n"));
    }
    text.push('\n');
    text
}
