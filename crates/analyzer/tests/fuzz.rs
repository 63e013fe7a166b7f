//! Fuzz targets: every reader and the engine on what nobody would write.
//!
//! On stable Rust `cargo test --test fuzz` draws inputs at random, as many as
//! `BOLERO_RANDOM_ITERATIONS` says or for `BOLERO_RANDOM_TEST_TIME_MS`. Guided by coverage:
//! `cargo bolero test -p shakedown-analyzer --test fuzz --sanitizer NONE readers`.
//!
//! What must hold for any bytes: reading ends without a panic, gives the same with small blocks and
//! several threads as with one block and one thread, and never more records than bytes.

mod support;

use std::io::Write as _;

use bolero::check;
use flate2::Compression;
use flate2::write::GzEncoder;
use shakedown_analyzer::coverage::Coverage;
use shakedown_analyzer::entry::{Entry, EntrySink};
use shakedown_analyzer::read::{Format, Input, ReadOptions, read};

/// Longer inputs find little that shorter ones do not.
const MAX_LEN: usize = 4096;

/// What of the entries must not depend on blocks and threads.
#[derive(Debug, Default, PartialEq)]
struct Seen(Vec<(String, String)>);

impl EntrySink for Seen {
    fn entry(&mut self, entry: &Entry<'_>) {
        self.0.push((format!("{:?}", entry.time), entry.insert_id.to_owned()));
    }
    fn merge(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// Reads `bytes` twice and gives the format that was taken.
fn readable(name: &str, bytes: &[u8]) -> Format {
    let with = |block, threads| {
        let options = ReadOptions { block, threads, max_bytes: 1 << 20, ..ReadOptions::default() };
        let inputs = [Input::Bytes(name.to_owned(), bytes.into())];
        let (mut seen, coverage, report): (Seen, Coverage, _) =
            read(&inputs, &options, Seen::default).expect("bytes can be opened");
        seen.0.sort();
        (seen, coverage.all.entries, report.files)
    };
    let (one, entries, files) = with(1 << 20, 1);
    let (other, ..) = with(64, 2);
    assert_eq!(one, other, "the same whatever the blocks and threads");
    let file = &files[0];
    assert!(file.records <= file.bytes.max(bytes.len() as u64) + 1, "{file:?}");
    assert!(entries <= file.records, "{file:?}");
    file.format
}

/// `head`, then anything, then `tail`: so that the bytes get beyond the question of the format.
fn around(head: &str, bytes: &[u8], tail: &str) -> Vec<u8> {
    [head.as_bytes(), bytes, tail.as_bytes()].concat()
}

#[test]
fn readers_take_anything() {
    check!().with_max_len(MAX_LEN).for_each(|bytes: &[u8]| {
        readable("any", bytes);
    });
}

#[test]
fn json_readers_take_anything_inside() {
    let shapes = [
        ("[{\"textPayload\":\"", "\"}]"),
        ("[{\"timestamp\":\"2026-01-01T00:00:00Z\",", "}]"),
        ("{\"timestamp\":\"", "\",\"textPayload\":\"x\"}\n"),
        ("{\"logs_by_severity\":{\"ERROR\":[", "]}}"),
        ("{\"raw_logs\":[{\"jsonPayload\":{\"message\":", "}}]}"),
        ("{\"detailed_by_severity\":{\"ERROR\":{\"count\":1,\"sample_entries\":[", "]}}}"),
        (
            "[{\"protoPayload\":{\"@type\":\"type.googleapis.com/google.cloud.audit.AuditLog\",",
            "}}]",
        ),
        ("[{\"httpRequest\":{\"status\":", "}}]"),
    ];
    check!().with_max_len(MAX_LEN).for_each(|bytes: &[u8]| {
        for (head, tail) in shapes {
            readable("export.json", &around(head, bytes, tail));
        }
    });
}

#[test]
fn text_readers_take_anything_inside() {
    let shapes = [
        (
            "2026-01-01T00:00:00Z ERROR ",
            "\nTraceback (most recent call last):\n  File \"x\"\nE: y\n",
        ),
        ("[2026-01-01 00:00:00 +0000] [13] [INFO] Booting worker with pid: 14\n", "\n"),
        ("TIMESTAMP            SEVERITY  TEXT_PAYLOAD\n2026-01-01T00:00:00Z  ERROR  ", "\n"),
        ("<testsuite><testcase name=\"", "\"><failure>x</failure></testcase></testsuite>"),
    ];
    check!().with_max_len(MAX_LEN).for_each(|bytes: &[u8]| {
        for (head, tail) in shapes {
            readable("container.log", &around(head, bytes, tail));
        }
    });
}

#[test]
fn encodings_take_anything_inside() {
    check!().with_max_len(MAX_LEN).for_each(|bytes: &[u8]| {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(bytes).expect("to memory");
        let gzip = gzip.finish().expect("to memory");
        readable("whole.gz", &gzip);
        readable("cut.gz", &gzip[..gzip.len() / 2]);
        readable("broken.gz", &around("\x1f", &[b"\x8b\x08".as_slice(), bytes].concat(), ""));
        readable("broken.zst", &[b"\x28\xb5\x2f\xfd".as_slice(), bytes].concat());
        readable("utf16le.json", &[b"\xff\xfe".as_slice(), bytes].concat());
        readable("utf16be.json", &[b"\xfe\xff".as_slice(), bytes].concat());
        readable("bom.json", &[b"\xef\xbb\xbf".as_slice(), bytes].concat());
    });
}

/// Lines that mean something, in any order, with anything between their words.
#[test]
fn the_engine_takes_anything_and_says_the_same_twice() {
    const LINES: [&str; 12] = [
        "DETERMINISTIC STARTUP SEQUENCE INITIATED",
        " CYCLE:  PHASE TRANSITION  ->  DATABASE",
        " FAIL:  PHASE FAILED: DATABASE - timeout after 25.0s",
        "DETERMINISTIC STARTUP SEQUENCE COMPLETED SUCCESSFULLY",
        "Application startup complete.",
        "Application startup failed. Exiting.",
        "Container called exit(3).",
        "ModuleNotFoundError: No module named 'x'",
        "FATAL: remaining connection slots are reserved",
        "The request was aborted because there was no available instance.",
        "Invalid JWT audience",
        "Ready condition status changed to True for Revision x",
    ];
    check!().with_iterations(60).with_type::<Vec<(u8, i32, [u8; 3])>>().for_each(|events| {
        let mut export = String::new();
        for (line, second, noise) in events {
            let text = LINES[usize::from(*line) % LINES.len()];
            let noise = String::from_utf8_lossy(noise);
            let at = jiff::Timestamp::from_second(i64::from(*second)).expect("in range");
            let entry = serde_json::json!({
                "timestamp": at.to_string(), "textPayload": format!("{text}{noise}"),
                "resource": { "labels": { "service_name": format!("s{}", line % 3) } },
            });
            export.push_str(&entry.to_string());
            export.push('\n');
        }
        let startup = shakedown_probes_smd::Startup::default().0;
        let diagnosed = |bytes: &[u8]| {
            support::diagnose_with(bytes, "fuzz.json", &startup, support::classifiers())
        };
        let said = diagnosed(export.as_bytes());
        assert_eq!(said, diagnosed(export.as_bytes()));
        for root in said.services.iter().flat_map(|service| &service.roots) {
            assert!((0.0..=1.0).contains(&root.confidence), "{root:?}");
        }
    });
}
