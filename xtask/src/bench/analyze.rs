//! `shakedown analyze` beside the strategy's classifier in Python, jq and ripgrep.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::Setting;
use super::page::{Section, Target};
use super::program::{version, wall_ms};
use super::stats::paired;
use crate::processes::Process;
use crate::shell;

/// The export all read.
const BYTES: u64 = 500_000_000;
/// The one a person waits for.
const SMALL: u64 = 1_000_000;
/// What goes through a pipe, once, for the memory it takes.
const PIPED: u64 = 10_000_000_000;

/// The peer reads a whole array into memory for half a minute: so many rounds are enough.
const ARRAY_ROUNDS: u32 = 5;

const ABOUT: &str = "\
One generated export of 500 MB (three services, one dying in its database phase every 4 MB, every text
with something that never comes again), as JSONL and as one array, in the page cache. `shakedown analyze
--json` reads all of it and prints the diagnosis. Python is the strategy's classifier: decode, lower the
case, look for words (CPython). jq prints what has severity ERROR. ripgrep counts the lines with one of
the classifier's words, ignoring case. Rates are bytes of the file by wall time. Memory is `VmHWM`; the
10 GB come through a pipe, once, as fast as they are generated.";

pub(crate) fn run(setting: &Setting) -> Result<Section> {
    let mut section = Section::new("Diagnosis of a log export", ABOUT, setting.rounds);
    let (lines, array) = (export(setting, "lines", BYTES)?, export(setting, "array", BYTES)?);
    let small = export(setting, "lines", SMALL)?;
    let python = peer(setting, &mut section, "python3", "Python");
    let jq = peer(setting, &mut section, "jq", "jq");
    let rg = peer(setting, &mut section, "rg", "ripgrep");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/strategy_classifier.py");
    let classifier = |python: &Path, shape: &str, file: &Path| {
        let mut command = Command::new(python);
        command.arg(&script).arg(shape).arg(file);
        command
    };

    let [mut ours, mut small_ms, mut memory] = [const { vec![] }; 3];
    let [mut pythons, mut jqs, mut rgs] = [const { vec![] }; 3];
    let [mut ours_array, mut python_array, mut memory_array] = [const { vec![] }; 3];
    for round in 0..setting.rounds {
        let (ms, peak) = analyze(setting, &lines)?;
        ours.push(ms);
        memory.push(peak);
        small_ms.push(analyze(setting, &small)?.0);
        if let Some(python) = &python {
            pythons.push(wall_ms(&mut classifier(python, "lines", &lines))?);
        }
        if let Some(jq) = &jq {
            let mut command = Command::new(jq);
            jqs.push(wall_ms(command.args(["-c", "select(.severity == \"ERROR\")"]).arg(&lines))?);
        }
        if let Some(rg) = &rg {
            let words = "phase 3|vpc connector|capacity|connection pool|pool exhaustion|lifespan|\
                         exit code 3|container exit|golden path|pipeline offline|exit\\(3\\)";
            let mut command = Command::new(rg);
            rgs.push(wall_ms(command.args(["--ignore-case", "--count", words]).arg(&lines))?);
        }
        if round < ARRAY_ROUNDS {
            let (ms, peak) = analyze(setting, &array)?;
            ours_array.push(ms);
            memory_array.push(peak);
            if let Some(python) = &python {
                python_array.push(wall_ms(&mut classifier(python, "array", &array))?);
            }
        }
    }
    let rate = |path: &Path, ms: &[f64]| -> Result<Vec<f64>> {
        let bytes = fs::metadata(path)?.len() as f64;
        Ok(ms.iter().map(|ms| bytes / ms / 1e6).collect())
    };
    let ratio = |theirs: &[f64], ours: &[f64]| paired(theirs, ours, |theirs, ours| theirs / ours);
    section.row("shakedown, JSONL", &rate(&lines, &ours)?, "GB/s", Target::AtLeast(1.5));
    section.row("shakedown, array", &rate(&array, &ours_array)?, "GB/s", Target::AtLeast(1.5));
    for (name, shape, theirs, ours, least) in [
        ("Python", "JSONL", &pythons, &ours, 8.0),
        ("Python", "array", &python_array, &ours_array, 25.0),
        ("jq", "JSONL", &jqs, &ours, 1.0),
        ("ripgrep", "JSONL", &rgs, &ours, 1.0),
    ] {
        if !theirs.is_empty() {
            let path = if shape == "array" { &array } else { &lines };
            section.row(format!("{name}, {shape}"), &rate(path, theirs)?, "GB/s", Target::None);
            let name = format!("{name} / shakedown, time, {shape}");
            section.row(name, &ratio(theirs, ours), "", Target::AtLeast(least));
        }
    }
    section.row("1 MB, from start to exit", &small_ms, "ms", Target::AtMost(50.0));
    section.row("memory, JSONL", &memory, "MB", Target::AtMost(64.0));
    section.row("memory, array", &memory_array, "MB", Target::AtMost(64.0));
    section.row("memory, 10 GB from a pipe", &[piped(setting)?], "MB", Target::AtMost(64.0));
    Ok(section)
}

fn peer(setting: &Setting, section: &mut Section, program: &str, name: &str) -> Option<PathBuf> {
    let found = setting.find(program);
    match &found {
        Some(path) => section.version(version(Command::new(path).arg("--version"))),
        None => section.skip(name, "not installed"),
    }
    found
}

fn export(setting: &Setting, shape: &str, bytes: u64) -> Result<PathBuf> {
    let path = setting.scratch().join(format!("{shape}-{bytes}.json"));
    let file = File::create(&path)?;
    let mut command = Command::new(&setting.bench);
    shell::run(command.args(["export", shape, &bytes.to_string()]).stdout(file))?;
    Ok(path)
}

/// Wall time in milliseconds and peak memory in megabytes.
fn analyze(setting: &Setting, path: &Path) -> Result<(f64, f64)> {
    let mut command = Command::new(&setting.shakedown);
    measured(command.args(["analyze", "--json"]).arg(path).stdin(Stdio::null()))
}

fn piped(setting: &Setting) -> Result<f64> {
    let mut source = Command::new(&setting.bench)
        .args(["export", "lines", &PIPED.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start shakedown-bench")?;
    let pipe = source.stdout.take().context("it was piped")?;
    let mut command = Command::new(&setting.shakedown);
    let (_, peak) = measured(command.args(["analyze", "--json", "-"]).stdin(pipe))?;
    ensure!(source.wait()?.success(), "the export was not read to its end");
    Ok(peak)
}

#[expect(clippy::disallowed_methods, reason = "real time and memory of a real process")]
fn measured(command: &mut Command) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let process = Process { id: child.id() };
    let ended = AtomicBool::new(false);
    // The peak is asked for beside, and seldom: it must not take the time of what is measured.
    let (status, ms, peak) = std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = process.peak_resident_bytes().unwrap_or(0).max(peak);
                std::thread::sleep(Duration::from_millis(5));
            }
            peak
        });
        let status = child.wait();
        let ms = begun.elapsed().as_secs_f64() * 1e3;
        ended.store(true, Ordering::Relaxed);
        (status, ms, watch.join().unwrap_or(0))
    });
    let status = status?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok((ms, peak as f64 / 1e6))
}
