//! What may not move a diagnosis, and what must.

mod support;

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::Value;
use shakedown_core::classify::ClaimStatus;
use shakedown_core::diagnosis::{Diagnosis, ServiceDiagnosis};
use support::{Window, corpus, diagnosis_of, service};

/// The windows whose entries are lines of JSON, with those lines.
fn lines_of(window: &Window) -> Option<Vec<String>> {
    let jsonl = window.path.extension().is_some_and(|extension| extension == "jsonl");
    let text = String::from_utf8(window.bytes.clone()).expect("UTF-8");
    jsonl.then(|| text.lines().map(str::to_owned).collect())
}

fn windows() -> Vec<(Window, Vec<String>)> {
    corpus()
        .into_iter()
        .filter_map(|window| lines_of(&window).map(|lines| (window, lines)))
        .collect()
}

fn joined(lines: &[String]) -> Vec<u8> {
    let mut text = lines.join("\n");
    text.push('\n');
    text.into_bytes()
}

fn json(diagnosis: &Diagnosis) -> String {
    serde_json::to_string(&diagnosis.services).expect("serialises")
}

/// What noise must not move, and the confidences, which may move a little.
fn essence(service: &ServiceDiagnosis) -> (Value, Vec<f64>) {
    let roots: Vec<_> = service.roots.iter().map(|root| (&root.cause, root.status)).collect();
    let symptoms: Vec<_> = service.symptoms.iter().map(|symptom| &symptom.symptom).collect();
    let value = serde_json::json!([service.verdict, roots, symptoms]);
    (value, service.roots.iter().map(|root| root.confidence).collect())
}

fn noise(n: usize, seed: u64) -> impl Iterator<Item = String> {
    const WORDS: [&str; 8] = [
        "cache refreshed in 12 ms",
        "capacity report: golden path ready, connection pool monitor on",
        "user 81 opened the settings page",
        "database migration list is empty",
        "timeout budget of the scheduler is 30 s",
        "Retry policy: 3 attempts",
        "session middleware configured",
        "phase of the moon: 3",
    ];
    (0..n).map(move |n| {
        let pick = (seed as usize).wrapping_add(n.wrapping_mul(31)) % WORDS.len();
        let second = n % 50;
        let service = ["elsewhere", "nightly", "weather"][n % 3];
        format!(
            r#"{{"insertId":"noise{seed}x{n}","timestamp":"2026-03-04T08:00:{second:02}.{n:06}Z","severity":"INFO","logName":"projects/p/logs/run.googleapis.com%2Fstdout","resource":{{"type":"cloud_run_revision","labels":{{"service_name":"{service}","revision_name":"{service}-1"}}}},"labels":{{"instanceId":"n{pick}"}},"textPayload":"{}"}}"#,
            WORDS[pick]
        )
    })
}

fn assert_same(before: &Diagnosis, after: &Diagnosis, window: &Window) {
    for truth in &window.truth.service {
        let (Some(one), Some(other)) = (service(before, &truth.name), service(after, &truth.name))
        else {
            panic!("{}: a service is gone", window.name);
        };
        let ((value, confidence), (moved, noisy)) = (essence(one), essence(other));
        assert_eq!(value, moved, "{}", window.name);
        for (was, is) in confidence.iter().zip(&noisy) {
            assert!((was - is).abs() <= 0.05, "{}: {was} {is}", window.name);
        }
    }
}

#[test]
fn ten_thousand_lines_of_others_move_nothing() {
    for (window, lines) in windows().into_iter().step_by(7) {
        let before = diagnosis_of(&window, &window.bytes);
        let mut noisy = lines.clone();
        noisy.extend(noise(10_000, 7));
        assert_same(&before, &diagnosis_of(&window, &joined(&noisy)), &window);
    }
}

#[test]
fn every_entry_twice_moves_nothing() {
    for (window, lines) in windows() {
        let before = diagnosis_of(&window, &window.bytes);
        let twice: Vec<String> =
            lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
        assert_eq!(json(&before), json(&diagnosis_of(&window, &joined(&twice))), "{}", window.name);
    }
}

#[test]
fn the_order_of_classifiers_does_not_matter() {
    for (window, _) in windows().into_iter().step_by(3) {
        let forward =
            support::diagnose_with(&window.bytes, "w", &window.startup(), support::classifiers());
        let mut backward = support::classifiers();
        backward.reverse();
        let backward = support::diagnose_with(&window.bytes, "w", &window.startup(), backward);
        assert_eq!(json(&forward), json(&backward), "{}", window.name);
    }
}

/// Whether a claim got weaker: gone, undetermined, or less sure.
fn weaker(before: &ServiceDiagnosis, after: Option<&ServiceDiagnosis>, cause: &str) -> bool {
    let confidence = |service: &ServiceDiagnosis| {
        let root = service.roots.iter().find(|root| root.cause == cause)?;
        Some((root.status == ClaimStatus::Supported, root.confidence))
    };
    let (Some(was), is) = (confidence(before), after.and_then(confidence)) else { return true };
    is.is_none_or(|is| (was.0 && !is.0) || is.1 < was.1)
}

/// A fact is carried by the lines that state it in the same words.
fn fact_of(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let message = entry
        .get("textPayload")
        .or_else(|| entry.pointer("/jsonPayload/message"))
        .or_else(|| entry.pointer("/protoPayload/status/message"))?;
    let text = message.as_str()?;
    Some(text.chars().filter(|c| !c.is_ascii_digit()).collect())
}

#[test]
fn without_every_line_of_the_decisive_facts_the_claim_is_weaker() {
    for (window, lines) in windows() {
        let before = diagnosis_of(&window, &window.bytes);
        for found in &before.services {
            for root in found.roots.iter().filter(|root| root.status == ClaimStatus::Supported) {
                let sources: BTreeSet<&str> =
                    root.evidence.iter().filter_map(|line| line.source.split('#').nth(1)).collect();
                let cited = |line: &&String| sources.iter().any(|id| line.contains(id));
                let facts: BTreeSet<String> =
                    lines.iter().filter(cited).filter_map(|line| fact_of(line)).collect();
                let carries =
                    |line: &String| fact_of(line).is_some_and(|fact| facts.contains(&fact));
                let kept: Vec<String> =
                    lines.iter().filter(|line| !carries(line)).cloned().collect();
                if kept.len() == lines.len() || kept.is_empty() {
                    continue;
                }
                let after = diagnosis_of(&window, &joined(&kept));
                let after = service(&after, &found.service);
                assert!(weaker(found, after, &root.cause), "{}: {}", window.name, root.cause);
            }
        }
    }
}

#[test]
fn without_one_of_several_lines_of_a_fact_the_claim_stands() {
    for (window, lines) in windows() {
        let before = diagnosis_of(&window, &window.bytes);
        for found in &before.services {
            let supported = found.roots.iter().filter(|root| root.status == ClaimStatus::Supported);
            for root in supported {
                let Some(id) = root.evidence.iter().find_map(|line| line.source.split('#').nth(1))
                else {
                    continue;
                };
                let Some(fact) = lines.iter().find(|l| l.contains(id)).and_then(|l| fact_of(l))
                else {
                    continue;
                };
                let same =
                    lines.iter().filter(|line| fact_of(line).as_ref() == Some(&fact)).count();
                if same < 2 {
                    continue;
                }
                let kept: Vec<String> =
                    lines.iter().filter(|line| !line.contains(id)).cloned().collect();
                let after = diagnosis_of(&window, &joined(&kept));
                let after = service(&after, &found.service).expect("the service");
                let is = after.roots.iter().find(|r| r.cause == root.cause).expect(&root.cause);
                assert_eq!(is.status, ClaimStatus::Supported, "{}: {}", window.name, root.cause);
                assert!((is.confidence - root.confidence).abs() <= 0.05, "{}", window.name);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_entries_does_not_matter(pick in 0_usize..1000, order in any::<u64>()) {
        let windows = windows();
        let (window, lines) = &windows[pick % windows.len()];
        let mut shuffled = lines.clone();
        let mut state = order | 1;
        for at in (1..shuffled.len()).rev() {
            // xorshift: any order will do
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            shuffled.swap(at, (state % (at as u64 + 1)) as usize);
        }
        let before = diagnosis_of(window, &window.bytes);
        let after = diagnosis_of(window, &joined(&shuffled));
        prop_assert_eq!(json(&before), json(&after), "{}", window.name);
    }
}
