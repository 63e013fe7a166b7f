//! Every window of the corpus against its truth, and the confusion matrix.
#![expect(clippy::print_stdout, reason = "the matrix is what a reader of the test wants to see")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use shakedown_core::classify::ClaimStatus;
use support::{ServiceTruth, corpus, diagnosis_of, roots, service, verdict};

/// What is wrong with a diagnosis, in words.
fn faults(
    found: &shakedown_core::diagnosis::ServiceDiagnosis,
    truth: &ServiceTruth,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut expected = truth.roots.clone();
    expected.sort();
    let supported = roots(found, ClaimStatus::Supported);
    if supported != expected {
        faults.push(format!("supported {supported:?}, true are {expected:?}"));
    }
    if verdict(found) != truth.verdict {
        faults.push(format!("verdict {}, true is {}", verdict(found), truth.verdict));
    }
    let undetermined = roots(found, ClaimStatus::Undetermined);
    for cause in &truth.undetermined {
        if !undetermined.contains(cause) {
            faults.push(format!("{cause} is not told as undetermined"));
        }
    }
    if ["healthy", "insufficient_evidence"].contains(&truth.verdict.as_str())
        && !found.roots.is_empty()
    {
        faults.push(format!("causes claimed: {undetermined:?}"));
    }
    let symptoms: BTreeSet<&str> = found.symptoms.iter().map(|s| s.symptom.as_str()).collect();
    for symptom in &truth.symptoms {
        if !symptoms.contains(symptom.as_str()) {
            faults.push(format!("symptom {symptom} is missing"));
        }
    }
    for cause in &truth.refuted {
        if !found.refuted.iter().any(|refuted| refuted.cause == *cause) {
            faults.push(format!("{cause} is not refuted"));
        }
    }
    for cause in &truth.masked {
        if !found.masked.iter().any(|masked| masked.cause == *cause) {
            faults.push(format!("{cause} is not told as masked"));
        }
    }
    for name in &truth.never {
        if symptoms.contains(name.as_str()) || found.roots.iter().any(|root| root.cause == *name) {
            faults.push(format!("{name} is claimed"));
        }
    }
    faults
}

#[test]
fn every_window_is_diagnosed_as_its_truth_says() {
    let corpus = corpus();
    assert!(corpus.len() >= 25, "{} windows", corpus.len());
    let mut matrix: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for window in &corpus {
        let diagnosis = diagnosis_of(window, &window.bytes);
        for truth in &window.truth.service {
            let Some(found) = service(&diagnosis, &truth.name) else {
                wrong.push(format!("{}: service `{}` is not diagnosed", window.name, truth.name));
                continue;
            };
            let or = |roots: Vec<String>, verdict: &str| match roots.join("+") {
                none if none.is_empty() => format!("({verdict})"),
                roots => roots,
            };
            let mut expected = truth.roots.clone();
            expected.sort();
            let was = or(roots(found, ClaimStatus::Supported), &verdict(found));
            *matrix.entry((or(expected, &truth.verdict), was)).or_default() += 1;
            for fault in faults(found, truth) {
                wrong.push(format!("{} `{}`: {fault}", window.name, truth.name));
            }
        }
    }
    println!("{:<52} {:<52} {:>5}", "true", "diagnosed", "n");
    for ((truth, was), n) in &matrix {
        let mark = if truth == was { "" } else { "  <-- wrong" };
        println!("{truth:<52} {was:<52} {n:>5}{mark}");
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
