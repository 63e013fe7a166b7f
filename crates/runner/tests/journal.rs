//! The journal: on disk before the next step, readable after a cut, without secrets.

mod common;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Answer, environment, fail, hang, meta, pass, planned, probe, registry, words};
use shakedown_core::Redactor;
use shakedown_core::context::ProbeCtx;
use shakedown_core::credentials::Credentials;
use shakedown_core::meta::{ProbeMeta, RunPhase};
use shakedown_core::outcome::{Finding, Outcome};
use shakedown_core::record::{Condition, JournalLine, RunEvent, RunRecord};
use shakedown_core::registry::Registry;
use shakedown_runner::{EventSink, FnSink, Journal, JournalError, RunOptions, Tee, run};

const CANARY: &str = "c4n4ry \"p@ss\" w0rd";

async fn leaks(ctx: &ProbeCtx) -> Answer {
    ctx.progress(format!("trying {CANARY}"));
    let finding = Finding::new(format!("\"password\": \"hunter22\", and {CANARY} in a sentence"));
    Ok(Outcome::fail(finding).measure("third", 1.0 / 3.0, "ms"))
}

fn probes() -> Registry {
    let short = |id| ProbeMeta { timeout: Duration::from_secs(1), ..meta(id, RunPhase::Network) };
    registry(
        [
            probe!(short("a.pass"), pass),
            probe!(short("b.leaks"), leaks),
            probe!(short("c.hang"), hang),
            probe!(meta("d.fail", RunPhase::Database), fail),
        ],
        [],
        [],
    )
}

async fn run_with(sink: &mut dyn EventSink) -> RunRecord {
    let registry = probes();
    let plan = planned(&registry, &environment(), 1);
    let options = RunOptions::default();
    run(plan, &registry, environment(), Credentials::default(), options, sink).await
}

fn session() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let session = dir.path().join("results").join("session");
    (dir, session)
}

#[tokio::test(start_paused = true)]
async fn every_event_is_on_disk_before_the_next_step() {
    let (_dir, session) = session();
    let mut journal = Journal::create(&session, Redactor::default()).expect("a journal");
    let path = journal.path().to_path_buf();
    let counts = Arc::new(Mutex::new(Vec::new()));
    let counter = Arc::clone(&counts);
    let count = FnSink(move |line: &JournalLine| {
        let text = std::fs::read_to_string(&path).expect("readable while it is written");
        counter.lock().expect("unpoisoned").push((line.seq, text.lines().count() as u64));
    });
    run_with(&mut Tee(vec![Box::new(&mut journal), Box::new(count)])).await;
    let counts = counts.lock().expect("unpoisoned");
    assert!(counts.len() > 12, "{counts:?}");
    assert!(counts.iter().all(|(seq, lines)| seq == lines), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_journal_cut_anywhere_still_has_everything_that_had_finished() {
    let (_dir, session) = session();
    let mut journal = Journal::create(&session, Redactor::default()).expect("a journal");
    let record = run_with(&mut journal).await;
    let text = std::fs::read_to_string(journal.path()).expect("readable");
    let redacted = RunRecord::from_journal(&text).expect("complete");
    assert_eq!(words(&redacted), words(&record));
    assert_eq!(redacted.conditions, record.conditions);
    assert_eq!(redacted.elapsed_ms, record.elapsed_ms);
    let third =
        |r: &RunRecord| r.probes[1].result.outcome().expect("an outcome").measurements[0].value;
    assert_eq!(third(&redacted), third(&record), "to the last digit");

    let head = text.find('\n').expect("a first line");
    for cut in (head..text.len()).filter(|&cut| text.is_char_boundary(cut)) {
        let part = RunRecord::from_journal(&text[..cut]).expect("the plan is there");
        let whole_lines = &text[..cut][..text[..cut].rfind('\n').unwrap_or(cut)];
        let finished = whole_lines.matches("\"event\":\"probe-finished\"").count();
        assert!(part.probes.len() >= finished, "cut at {cut}");
        assert_eq!(part.probes[..], redacted.probes[..part.probes.len()]);
    }
    assert!(RunRecord::from_journal(&text[..head - 1]).is_none());
    assert!(RunRecord::from_journal("").is_none());
}

#[tokio::test(start_paused = true)]
async fn the_journal_has_no_secret_and_no_progress() {
    let (_dir, session) = session();
    let mut journal =
        Journal::create(&session, Redactor::from_secrets([CANARY])).expect("a journal");
    run_with(&mut journal).await;
    let text = std::fs::read_to_string(journal.path()).expect("readable");
    assert!(!text.contains("c4n4ry") && !text.contains("hunter22"), "{text}");
    assert!(!text.contains("progress"));
    let record = RunRecord::from_journal(&text).expect("still readable");
    let outcome = record.probes[1].result.outcome().expect("finished");
    let summary = &outcome.findings[0].summary;
    assert_eq!(summary, "\"password\": \"[redacted]\", and [redacted] in a sentence");
}

#[tokio::test(start_paused = true)]
async fn a_password_that_is_a_word_of_the_record_does_not_spoil_it() {
    for word in ["pass", "fail", "network", "probe-finished", "no-verdict", "staging", "unit"] {
        let (_dir, session) = session();
        let mut journal =
            Journal::create(&session, Redactor::from_secrets([word])).expect("a journal");
        let record = run_with(&mut journal).await;
        let text = std::fs::read_to_string(journal.path()).expect("readable");
        let read = RunRecord::from_journal(&text).expect("readable");
        assert_eq!(read.probes.len(), record.probes.len(), "{word}");
        assert!(read.elapsed_ms.is_some(), "{word}: to the end");
    }
}

#[test]
fn a_journal_is_for_its_owner_and_never_overwritten() {
    let (_dir, session) = session();
    let journal = Journal::create(&session, Redactor::default()).expect("a journal");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: &std::path::Path| {
            std::fs::metadata(path).expect("there").permissions().mode() & 0o777
        };
        assert_eq!((mode(&session), mode(journal.path())), (0o700, 0o600));
    }
    let error = Journal::create(&session, Redactor::default()).expect_err("it is there");
    assert!(matches!(error, JournalError::File { .. }), "{error}");
    let error = Journal::create(&journal.path().join("below"), Redactor::default());
    assert!(matches!(error.expect_err("a file"), JournalError::Directory { .. }));
}

/// Fails from the third event on; counts what it was given.
#[derive(Default)]
struct Full(u32);

impl EventSink for Full {
    fn emit(&mut self, line: &JournalLine) -> io::Result<()> {
        self.0 += 1;
        if line.seq < 3 { Ok(()) } else { Err(io::Error::other("disk full")) }
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_loses_no_result_and_is_told() {
    let mut full = Full::default();
    let record = run_with(&mut full).await;
    assert_eq!(record.probes.len(), 4, "everything is in the record");
    assert!(record.conditions.contains(&Condition::Internal));
    assert_eq!(record.remarks, ["an event could not be written down: disk full"], "once");
    assert!(full.0 > 10, "it is given the rest all the same");
}

#[tokio::test(start_paused = true)]
async fn all_sinks_hear_every_event_also_after_one_failed() {
    let heard = Arc::new(Mutex::new(0));
    let listener = Arc::clone(&heard);
    let count = FnSink(move |line: &JournalLine| {
        let mut heard = listener.lock().expect("unpoisoned");
        *heard += u64::from(!matches!(line.event, RunEvent::ProbeProgress { .. }));
    });
    let record = run_with(&mut Tee(vec![Box::new(Full::default()), Box::new(count)])).await;
    assert!(record.conditions.contains(&Condition::Internal));
    let events = 2 + 2 * 2 + 4 * 2;
    assert_eq!(*heard.lock().expect("unpoisoned"), events);
}
