//! Inputs that nobody means well with, and clocks that are wrong: a diagnosis comes all the same.

mod support;

use std::sync::Arc;

use serde_json::Value;
use shakedown_analyzer::diagnose;
use shakedown_analyzer::read::{Input, ReadOptions};
use shakedown_analyzer::signals::Search;
use shakedown_core::classify::ClaimStatus;
use shakedown_core::diagnosis::Diagnosis;
use shakedown_core::startup::Markers;
use support::{corpus, diagnose_with, roots, service, verdict};

/// The window these tests spoil: a start-up that dies for a wrong password, again and again.
fn incident() -> Vec<String> {
    let corpus = corpus();
    let window = corpus.iter().find(|window| window.name == "wrong-password").expect("is there");
    let text = String::from_utf8(window.bytes.clone()).expect("UTF-8");
    text.lines().map(str::to_owned).collect()
}

fn of(bytes: &[u8]) -> Diagnosis {
    let startup = shakedown_probes_smd::Startup::default().0;
    diagnose_with(bytes, "window", &startup, support::classifiers())
}

/// The incident's root is found whatever stands around it, and the record can be written.
fn assert_found(diagnosis: &Diagnosis, what: &str) {
    serde_json::to_string(diagnosis).expect("serialises");
    let found = service(diagnosis, "tickets").unwrap_or_else(|| panic!("{what}: service is gone"));
    assert_eq!(roots(found, ClaimStatus::Supported), ["configuration_error"], "{what}");
    assert_eq!(verdict(found), "failing", "{what}");
    for startup in &found.startups {
        for seconds in [startup.measured_s, startup.to_exit_s].into_iter().flatten() {
            assert!(seconds >= 0.0, "{what}: {startup:?}");
        }
    }
}

#[test]
fn bombs_of_depth_and_of_length_beside_an_incident_hide_nothing() {
    let deep = 200_000;
    let bombs: [(&str, Vec<u8>); 5] = [
        ("objects", [b"{\"a\":".repeat(deep), b"1".to_vec(), b"}".repeat(deep)].concat()),
        ("lists", [b"[".repeat(deep), b"]".repeat(deep)].concat()),
        ("unclosed", b"{\"jsonPayload\":".repeat(deep)),
        ("quotes", b"\"".repeat(deep)),
        ("one line of 100 MB", vec![b'x'; 100 << 20]),
    ];
    let lines = incident().join("\n");
    for (what, bomb) in bombs {
        let bytes = [lines.as_bytes(), b"\n", &bomb, b"\n", lines.as_bytes(), b"\n"].concat();
        let diagnosis = of(&bytes);
        assert_found(&diagnosis, what);
    }
}

#[test]
fn a_compressed_bomb_ends_at_the_limit_and_says_so() {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(incident().join("\n").as_bytes()).expect("compressed");
    for _ in 0..64 {
        encoder.write_all(&vec![b'\n'; 1 << 20]).expect("compressed");
    }
    let bomb: Arc<[u8]> = encoder.finish().expect("compressed").into();
    let startup = shakedown_probes_smd::Startup::default().0;
    let registry = shakedown_core::Registry::linked().expect("no duplicates");
    let reasoning = shakedown_analyzer::Reasoning {
        signals: registry.signals().collect(),
        classifiers: support::classifiers(),
        startup: &startup,
    };
    let options = ReadOptions { max_bytes: 1 << 20, ..ReadOptions::default() };
    let diagnosed = diagnose(&[Input::Bytes("bomb".into(), bomb)], &reasoning, &options);
    let diagnosed = diagnosed.expect("it is read as far as it may be");
    assert_eq!(diagnosed.report.files[0].bytes, 1 << 20);
    assert!(diagnosed.report.files[0].ended_early.is_some());
    assert_found(&diagnosed.diagnosis, "bomb");
}

#[test]
fn nul_bytes_and_broken_utf_8_are_quoted_as_escapes() {
    let mut bytes = Vec::new();
    for line in incident() {
        let spoiled = line.replace("password authentication", "password\\u0000 authentication");
        bytes.extend(line.into_bytes());
        bytes.push(b'\n');
        // Once more with NUL bytes, escaped and raw, and with half a character.
        bytes.extend(spoiled.replace("insertId\": \"", "insertId\": \"n").into_bytes());
        bytes.extend(b"\0\n\xff\xfe\xc3\n");
    }
    let diagnosis = of(&bytes);
    assert_found(&diagnosis, "spoiled");
    let text = serde_json::to_string(&diagnosis).expect("serialises");
    assert!(!text.contains("\\u0000"), "a NUL byte reached the record");
}

/// The incident with each entry's time changed.
fn retimed(change: impl Fn(usize, &str) -> String) -> Vec<u8> {
    let mut text = String::new();
    for (n, line) in incident().iter().enumerate() {
        let mut entry: Value = serde_json::from_str(line).expect("an entry");
        let at = entry["timestamp"].as_str().expect("a time").to_owned();
        entry["timestamp"] = change(n, &at).into();
        text.push_str(&entry.to_string());
        text.push('\n');
    }
    text.into_bytes()
}

#[test]
fn a_clock_that_goes_backwards_makes_no_negative_duration() {
    // Every fifth entry is written by a clock that was set back a minute.
    let bytes = retimed(|n, at| {
        let at: jiff::Timestamp = at.parse().expect("a time");
        let back = jiff::SignedDuration::from_secs(if n % 5 == 4 { -60 } else { 0 });
        (at + back).to_string()
    });
    let diagnosis = of(&bytes);
    let found = service(&diagnosis, "tickets").expect("is there");
    assert!(found.window.from <= found.window.to);
    for startup in &found.startups {
        let phases = startup.phases.iter().filter_map(|phase| phase.seconds);
        let seconds = [startup.measured_s, startup.to_exit_s].into_iter().flatten().chain(phases);
        assert!(seconds.into_iter().all(|seconds| seconds >= 0.0), "{startup:?}");
    }
    assert!(
        !roots(found, ClaimStatus::Supported).iter().any(|cause| cause != "configuration_error"),
        "{:?}",
        found.roots
    );
}

#[test]
fn entries_from_1970_and_2262_are_entries_like_others() {
    let mut bytes = incident().join("\n").into_bytes();
    bytes.push(b'\n');
    for (id, at) in [("old", "1970-01-01T00:00:00Z"), ("new", "2262-04-11T23:47:16.854775807Z")] {
        let mut entry: Value = serde_json::from_str(&incident()[0]).expect("an entry");
        entry["insertId"] = id.into();
        entry["timestamp"] = at.into();
        entry["textPayload"] = "nothing of note".into();
        bytes.extend(entry.to_string().into_bytes());
        bytes.push(b'\n');
    }
    let diagnosis = of(&bytes);
    assert_found(&diagnosis, "far away");
    let window = service(&diagnosis, "tickets").expect("is there").window;
    assert_eq!(window.from.map(|at| at.to_string()).as_deref(), Some("1970-01-01T00:00:00Z"));
    assert!(window.to.expect("a time").to_string().starts_with("2262-04-11T23:47:16"));
}

#[test]
fn no_signal_slows_the_search_by_a_literal_that_is_too_short() {
    let registry = shakedown_core::Registry::linked().expect("no duplicates");
    let startup = shakedown_probes_smd::Startup::default().0;
    let markers = Markers::new(&startup).expect("markers");
    let search = Search::new(registry.signals(), markers).expect("patterns");
    let short: Vec<_> = search.literals().filter(|literal| literal.len() < 6).collect();
    assert_eq!(short, [""; 0], "asked for at every byte of every text");
}

#[test]
fn every_pattern_of_a_signal_compiles() {
    let registry = shakedown_core::Registry::linked().expect("no duplicates");
    let patterns = registry.signals().filter_map(|signal| signal.capture);
    let compiled = patterns.map(regex::Regex::new).collect::<Result<Vec<_>, _>>();
    assert!(compiled.expect("patterns").len() > 20);
}
