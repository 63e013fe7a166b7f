//! How long `shakedown list` takes, and how much memory a run needs.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::Setting;
use super::page::{Section, Target};
use super::program::wall_ms;
use crate::processes::Process;

/// A process takes a millisecond: each round's figure is the median of so many starts.
const STARTS: usize = 21;

const ABOUT: &str = "\
`shakedown list` from start to exit, the middle of 21 starts each round; and the most memory that the
process of `shakedown run --env lab --time-scale 20` (scenario `healthy`, without the lab, which is
processes of its own) ever had resident, `VmHWM` (one run for every second round, at least five).";

pub(crate) fn run(setting: &Setting) -> Result<Section> {
    let mut section = Section::new("Start and memory", ABOUT, setting.rounds);
    let (mut list, mut memory) = (vec![], vec![]);
    for round in 0..setting.rounds {
        let mut starts = Vec::new();
        for _ in 0..STARTS {
            starts.push(wall_ms(Command::new(&setting.shakedown).arg("list"))?);
        }
        starts.sort_by(f64::total_cmp);
        list.push(starts[STARTS / 2]);
        if round < setting.rounds.div_ceil(2).max(5) {
            memory.push(peak_mb(setting)?);
        }
    }
    section.row("`shakedown list`", &list, "ms", Target::AtMost(3.0));
    section.row("a run on `healthy`", &memory, "MB", Target::AtMost(20.0));
    Ok(section)
}

/// The most memory of a whole run, in megabytes.
#[expect(clippy::disallowed_methods, reason = "looks at another process again and again")]
fn peak_mb(setting: &Setting) -> Result<f64> {
    let mut child = Command::new(&setting.shakedown)
        .args(["run", "--env", "lab", "--time-scale", "20", "--results-dir"])
        .arg(setting.scratch().join("memory"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start shakedown")?;
    let process = Process { id: child.id() };
    let mut peak = 0;
    let status = loop {
        peak = process.peak_resident_bytes().unwrap_or(0).max(peak);
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    ensure!(status.success(), "the run ended with {status}");
    Ok(peak as f64 / 1e6)
}
