//! `cargo xtask kill-test`: `kill -9` at random points loses no finished result and leaves nothing.

#![expect(clippy::disallowed_methods, reason = "real time between real processes")]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use serde_json::Value;

use crate::processes::{Process, processes};
use crate::shell;

/// How long the server may go on counting a client that was killed. It looks for its client every
/// two seconds while it works on a statement; this is five times that.
const SESSIONS_END: Duration = Duration::from_secs(10);

/// How long a lab whose run was killed may take to be gone: its supervisor gives PostgreSQL 7 s.
const LAB_ENDS: Duration = Duration::from_secs(35);

/// Marks the processes that a killed run started, in their environment.
const MARK: &str = "SHAKEDOWN_KILL_TEST";

/// Kill runs with SIGKILL at random points: every finished result must be readable afterwards, no
/// session of ours in PostgreSQL, and no process of a lab left
#[derive(Debug, Args)]
pub(crate) struct KillTest {
    /// How many runs are killed against one standing lab; a fifth as many with a lab of their own
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    times: u32,
    /// Where the random points come from; by default the clock. It is printed
    #[arg(long)]
    seed: Option<u64>,
    /// The lab's time scale
    #[arg(long, default_value_t = 20)]
    time_scale: u32,
}

impl KillTest {
    pub(crate) fn run(self) -> Result<()> {
        let seed = self.seed.unwrap_or_else(|| {
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs())
        });
        println!("seed {seed}: the same points again with --seed {seed}");
        let mut test = Test {
            binary: shell::build_shakedown(&[])?,
            results: tempfile::tempdir()?,
            random: Random::new(seed),
            time_scale: self.time_scale.to_string(),
        };
        test.against_a_standing_lab(self.times)?;
        test.with_a_lab_of_its_own(self.times.div_ceil(5).max(2))
    }
}

struct Test {
    binary: PathBuf,
    results: tempfile::TempDir,
    random: Random,
    time_scale: String,
}

impl Test {
    fn against_a_standing_lab(&mut self, times: u32) -> Result<()> {
        let lab = StandingLab::start(&self.binary, &self.time_scale)?;
        let lab_dir = lab.dir.to_string_lossy().into_owned();
        let length = self.whole_run(&["--lab-dir", &lab_dir])?;
        println!("a whole run takes {:.1} s; killing {times} ...", length.as_secs_f64());
        let (mut finished, mut slowest) = (0, Duration::ZERO);
        for number in 1..=times {
            let after = length.mul_f64(self.random.fraction());
            let mut run = self.start(&["--lab-dir", &lab_dir], number)?;
            let told = run.kill_after(after)?;
            let kept = finished_in_journal(&run.results).with_context(|| run.name())?;
            let lost: Vec<&String> = told.difference(&kept).collect();
            ensure!(lost.is_empty(), "{}: told, but not in the journal: {lost:?}", run.name());
            let ended = lab.sessions_end().with_context(|| run.name())?;
            println!(
                "  {number:>3}: killed after {:>5.1} s, {:>2} results kept, sessions gone {:.1} s later",
                after.as_secs_f64(),
                kept.len(),
                ended.as_secs_f64(),
            );
            finished += kept.len();
            slowest = slowest.max(ended);
        }
        ensure!(finished > 0, "no run got as far as a result: nothing was tested");
        lab.stop()?;
        println!(
            "{times} runs killed: all {finished} finished results readable; the last session of \
             ours was gone {:.1} s after its kill at most\n",
            slowest.as_secs_f64()
        );
        Ok(())
    }

    fn with_a_lab_of_its_own(&mut self, times: u32) -> Result<()> {
        let length = self.whole_run(&[])?;
        println!(
            "with a lab of its own a whole run takes {:.1} s; killing {times}, every other time \
             together with the process that serves the lab ...",
            length.as_secs_f64()
        );
        let mut left = BTreeSet::new();
        for number in 1..=times {
            let after = length.mul_f64(self.random.fraction());
            let mut run = self.start(&[], number)?;
            run.kill_after(after)?;
            let marked = run.marked();
            // Known before they die, because a server's own marks do not outlive its start.
            let labs = marked.iter().filter_map(|process| lab_dir(process.id)).collect();
            if number % 2 == 0 {
                for process in &marked {
                    process.kill()?;
                }
            }
            let (gone, folders) = run.everything_ends(labs)?;
            println!(
                "  {number:>3}: killed after {:>5.1} s, no process left {:.1} s later",
                after.as_secs_f64(),
                gone.as_secs_f64()
            );
            left.extend(folders);
        }
        let orphans = left.len();
        self.whole_run(&[])?;
        left.retain(|dir| dir.exists());
        ensure!(left.is_empty(), "the next start swept not all: {left:?}");
        println!(
            "{times} runs killed with their lab: no process left, {orphans} folders left and swept \
             by the next start"
        );
        Ok(())
    }

    /// Runs the suite to its end; how long that takes.
    fn whole_run(&self, flags: &[&str]) -> Result<Duration> {
        let mut run = self.start(flags, 0)?;
        let begun = Instant::now();
        let status = run.child.wait()?;
        ensure!(
            status.code().is_some_and(|code| !matches!(code, 1 | 2)),
            "a run that nobody killed ended with {status}:\n{}",
            run.said()?
        );
        let (told, kept) = (run.told()?, finished_in_journal(&run.results)?);
        // Otherwise the comparison below could not fail.
        ensure!(!kept.is_empty() && told == kept, "told {told:?}, kept {kept:?}");
        fs::remove_dir_all(&run.results)?;
        Ok(begun.elapsed())
    }

    fn start(&self, flags: &[&str], number: u32) -> Result<Run> {
        let results = self.results.path().join(number.to_string());
        fs::create_dir_all(&results)?;
        let mark = format!("{}-{number}", results.display());
        let child = Command::new(&self.binary)
            .args(["run", "--env", "lab", "--results-dir"])
            .arg(&results)
            .args(if flags.is_empty() {
                vec!["--time-scale", &self.time_scale]
            } else {
                flags.to_vec()
            })
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(results.join("stderr"))?)
            .spawn()
            .context("cannot start shakedown")?;
        Ok(Run { child, results, mark })
    }
}

/// A run that is going to be killed.
struct Run {
    child: Child,
    results: PathBuf,
    mark: String,
}

impl Run {
    /// Kills it; gives the probes it had told a person it had finished.
    fn kill_after(&mut self, after: Duration) -> Result<BTreeSet<String>> {
        sleep(after);
        self.child.kill()?;
        self.child.wait()?;
        self.told()
    }

    fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(self.results.join("stderr"))?)
    }

    /// The probes of the progress lines that say how one ended.
    fn told(&self) -> Result<BTreeSet<String>> {
        let said = self.said()?;
        // A line cut short by the kill may name half a probe.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        Ok(whole.lines().filter_map(told_finished).collect())
    }

    fn name(&self) -> String {
        format!("the run of {}", self.results.display())
    }

    /// The processes it has started that live.
    fn marked(&self) -> Vec<Process> {
        let mark = format!("{MARK}={}", self.mark);
        processes().into_iter().filter(|process| process.has_variable(&mark)).collect()
    }

    /// Waits until nothing it has started lives, nor anything that works in a lab of its; gives how
    /// long that took and the folders of its labs that are still there.
    fn everything_ends(
        &self,
        mut labs: BTreeSet<PathBuf>,
    ) -> Result<(Duration, BTreeSet<PathBuf>)> {
        let begun = Instant::now();
        loop {
            let mut alive = self.marked();
            labs.extend(alive.iter().filter_map(|process| lab_dir(process.id)));
            let inside = |process: &Process| labs.iter().any(|lab| process.works_in(lab));
            alive.extend(processes().into_iter().filter(inside));
            if alive.is_empty() {
                labs.retain(|lab| lab.exists());
                return Ok((begun.elapsed(), labs));
            }
            if begun.elapsed() > LAB_ENDS {
                let names: Vec<String> = alive.iter().map(Process::describe).collect();
                bail!("{}: still alive {LAB_ENDS:?} after the kill: {names:?}", self.name());
            }
            sleep(Duration::from_millis(50));
        }
    }
}

/// The folder of the lab that process `id` serves, when it has made one.
fn lab_dir(id: u32) -> Option<PathBuf> {
    let prefix = format!("shakedown-lab-{id}-");
    let entries = fs::read_dir("/tmp").ok()?.flatten();
    let mut paths = entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    paths.next().map(|entry| entry.path())
}

/// The probe of a progress line that says how one ended: `     PASS [   0.123s] vpc.throughput: ..`.
fn told_finished(line: &str) -> Option<String> {
    let (word, rest) = line.split_once('[')?;
    let (_, rest) = rest.split_once("] ")?;
    let id = rest.split([' ', ':']).next()?;
    (word.trim() == word.trim().to_uppercase() && id.contains('.')).then(|| id.to_owned())
}

/// The probes whose end the journal under `results` holds. Every line must be whole, except one cut
/// short by the kill at the end.
fn finished_in_journal(results: &Path) -> Result<BTreeSet<String>> {
    let sessions = fs::read_dir(results)?.flatten().map(|entry| entry.path().join("journal.jsonl"));
    // Killed before the journal was made: nothing had finished.
    let Some(journal) = sessions.into_iter().find(|path| path.exists()) else {
        return Ok(BTreeSet::new());
    };
    let text = fs::read_to_string(&journal)?;
    let mut finished = BTreeSet::new();
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        let Some(line) = line.strip_suffix('\n') else { continue };
        let line: Value = serde_json::from_str(line)
            .with_context(|| format!("{}:{number} is not readable", journal.display()))?;
        ensure!(line["seq"] == number, "{}:{number} has another number", journal.display());
        if line["event"] == "probe-finished" {
            finished.insert(line["id"].as_str().unwrap_or_default().to_owned());
        }
    }
    Ok(finished)
}

/// `shakedown lab up`.
struct StandingLab {
    child: Child,
    dir: PathBuf,
}

impl StandingLab {
    fn start(binary: &Path, time_scale: &str) -> Result<Self> {
        let mut child = Command::new(binary)
            .args(["lab", "up", "--time-scale", time_scale])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start shakedown")?;
        let said = child.stdout.take().context("it was piped")?;
        // Its start has its own limits: it either says this line or ends.
        let dir = BufReader::new(said)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(PathBuf::from(line.split_once("--lab-dir ")?.1.trim())));
        match dir {
            Some(dir) => Ok(Self { child, dir }),
            None => bail!("shakedown lab up did not start a lab: {}", child.wait()?),
        }
    }

    /// Waits until PostgreSQL has no session of ours, by its own count, which the lab samples. Its
    /// processes cannot tell: the staging's own backend has the same role.
    fn sessions_end(&self) -> Result<Duration> {
        let begun = Instant::now();
        let first = self.truth()?["samples"].as_u64();
        loop {
            let truth = self.truth()?;
            // Samples taken before the kill say nothing.
            let fresh = truth["samples"].as_u64() > first.map(|samples| samples + 1);
            let applications = truth["applications"].as_object().into_iter().flatten();
            let counted: Vec<String> = applications
                .filter(|(name, count)| name.starts_with("shakedown/") && count["now"] != 0)
                .map(|(name, count)| format!("{name}: {}", count["now"]))
                .collect();
            if fresh && counted.is_empty() {
                return Ok(begun.elapsed());
            }
            ensure!(
                begun.elapsed() < SESSIONS_END,
                "{SESSIONS_END:?} after the kill PostgreSQL still has sessions of ours: \
                 {counted:?} (samples {first:?}, {})",
                truth["samples"]
            );
            sleep(Duration::from_millis(50));
        }
    }

    fn truth(&self) -> Result<Value> {
        let truth: Value = serde_json::from_slice(&fs::read(self.dir.join("truth.json"))?)?;
        Ok(truth["postgres"].clone())
    }

    fn stop(mut self) -> Result<()> {
        shell::run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let status = self.child.wait()?;
        ensure!(status.success() && !self.dir.exists(), "the lab did not stop in order: {status}");
        Ok(())
    }
}

impl Drop for StandingLab {
    fn drop(&mut self) {
        // It has ended already when all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Small, seeded, good enough for points in time (xorshift64).
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mut random = Self(seed | 1);
        // Small seeds begin with small numbers.
        for _ in 0..64 {
            random.fraction();
        }
        random
    }

    /// 0 to 1.
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_say_how_a_probe_ended_count() {
        let ended = told_finished("     PASS [   0.123s] vpc.throughput");
        assert_eq!(ended.as_deref(), Some("vpc.throughput"));
        let ended = told_finished("  NOT RUN [         ] a.b (2/3): it said [1s] no");
        assert_eq!(ended.as_deref(), Some("a.b"));
        for other in
            ["      LAB up after 1.2 s", "     NOTE see [1] in 3s] x.y", "  Running 3 probes"]
        {
            assert_eq!(told_finished(other), None, "{other}");
        }
    }

    #[test]
    fn a_journal_may_end_in_the_middle_of_a_line_and_nowhere_else() {
        let results = tempfile::tempdir().expect("a folder");
        let session = results.path().join("session");
        fs::create_dir(&session).expect("made");
        assert_eq!(finished_in_journal(results.path()).expect("none yet"), BTreeSet::new());
        let whole = "{\"seq\":1,\"event\":\"probe-finished\",\"id\":\"a.b\"}\n";
        let with = |text: String| {
            fs::write(session.join("journal.jsonl"), text).expect("written");
            finished_in_journal(results.path())
        };
        let kept = with(format!("{whole}{{\"seq\":2,\"ev")).expect("readable");
        assert_eq!(kept.into_iter().collect::<Vec<_>>(), ["a.b"]);
        assert!(with(format!("{whole}{{\"seq\":2,\"ev\n{whole}")).is_err(), "cut in the middle");
        assert!(with(format!("{whole}{whole}")).is_err(), "a number twice");
    }
}
