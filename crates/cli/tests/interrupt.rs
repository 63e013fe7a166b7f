//! Stopping a run: the first signal drains, the second aborts, and either way the record is written
//! and the server forgets us.

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{TestLab, run_in};
use serde_json::Value;

/// Starts a run of the slowest probe and waits until it is at work.
fn start(lab: &TestLab, results: &Path) -> Child {
    let mut command = run_in(lab, results, &["cloudsql.progressive-retry"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("it starts");
    let journal = loop {
        if let Some(path) = journal(results) {
            break path;
        }
        pause();
    };
    while !fs::read_to_string(&journal).expect("text").contains("\"probe-started\"") {
        pause();
    }
    child
}

fn journal(results: &Path) -> Option<PathBuf> {
    let session = fs::read_dir(results).ok()?.next()?.ok()?.path();
    Some(session.join("journal.jsonl")).filter(|path| path.exists())
}

#[expect(clippy::disallowed_methods, reason = "waits for another process")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(20));
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", name, &pid]).status().expect("kill").success());
}

/// The last event of the journal, and the result of the probe that was stopped.
fn end(results: &Path) -> (Value, Value) {
    let file = fs::File::open(journal(results).expect("a journal")).expect("it opens");
    let lines: Vec<Value> = BufReader::new(file)
        .lines()
        .map(|line| serde_json::from_str(&line.expect("text")).expect("JSON"))
        .collect();
    let probe = lines.iter().find(|line| line["event"] == "probe-finished").expect("recorded");
    (lines.last().expect("events").clone(), probe.clone())
}

fn assert_forgotten(lab: &TestLab) {
    let truth = lab.truth();
    let open = truth["postgres"]["families"]["shakedown"]["now"].as_u64().unwrap_or(0);
    assert_eq!(open, 0, "{truth:#}");
}

#[test]
fn one_signal_drains() {
    let lab = TestLab::start("healthy");
    let results = tempfile::tempdir().expect("a folder");
    let mut child = start(&lab, results.path());
    signal(&child, "INT");
    let code = child.wait().expect("it ends").code();
    assert_eq!(code, Some(130));
    let (last, probe) = end(results.path());
    assert_eq!(last["event"], "run-finished", "{last}");
    assert_eq!(last["conditions"][0], "interrupted", "{last}");
    assert_eq!(probe["status"], "no-verdict", "{probe}");
    assert_forgotten(&lab);
}

#[test]
fn two_signals_abort_and_the_record_is_written() {
    let lab = TestLab::start("healthy");
    let results = tempfile::tempdir().expect("a folder");
    let mut child = start(&lab, results.path());
    signal(&child, "TERM");
    signal(&child, "INT");
    let code = child.wait().expect("it ends").code();
    assert_eq!(code, Some(130));
    assert_eq!(end(results.path()).0["event"], "run-finished");
    assert_forgotten(&lab);
}
