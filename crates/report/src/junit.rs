//! JUnit XML, for CI.

use std::collections::HashMap;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite, XmlString};
use shakedown_core::meta::RunPhase;
use shakedown_core::outcome::Verdict;
use shakedown_core::record::{ProbeRecord, ProbeResult};

use crate::clean::CleanRecord;
use crate::words;

/// One test suite per run phase, one test case per attempt of a probe.
///
/// Pass and degraded are successes, a fail is a `failure` whose type is the fault's code, no verdict
/// an `error`, and skipped, blocked or not run are `skipped` with the reason. Findings and numbers
/// are the case's `system-out`. Characters that XML cannot hold are left out.
pub fn junit(record: &CleanRecord) -> String {
    let mut report = Report::new(format!("shakedown {}", record.plan.target.environment));
    let mut texts = Texts::default();
    if let Some(ms) = record.elapsed_ms {
        report.set_time(time(ms));
    }
    for phase in RunPhase::ALL {
        let probes = words::of_phase(record, phase);
        if probes.is_empty() {
            continue;
        }
        let mut suite = TestSuite::new(words::heading(phase));
        if let Some(done) = record.phases.iter().find(|done| done.phase == phase) {
            suite.set_time(time(done.elapsed_ms));
        }
        suite.add_test_cases(probes.into_iter().map(|probe| case(record, probe, &mut texts)));
        report.add_test_suite(suite);
    }
    report.to_string().expect("writing XML into memory")
}

fn time(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default()
}

/// The texts that every case repeats. To make one fit for XML takes longer than to copy it.
#[derive(Default)]
struct Texts(HashMap<String, XmlString>);

impl Texts {
    fn get(&mut self, text: &str) -> XmlString {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        self.0.entry(text.to_owned()).or_insert(XmlString::new(text)).clone()
    }
}

fn case(record: &CleanRecord, probe: &ProbeRecord, texts: &mut Texts) -> TestCase {
    let mut case = TestCase::new(words::name(record, probe), status(&probe.result));
    let domain = probe.id.split('.').next().unwrap_or_default();
    case.set_classname(texts.get(&format!("{}.phase{}", domain, probe.phase.number())));
    case.set_time(time(probe.elapsed_ms));
    case.add_property((texts.get("attempt"), texts.get(&probe.attempt.to_string())));
    case.add_property((texts.get("verdict"), texts.get(probe.result.word())));
    let told = told(&probe.result);
    if !told.is_empty() {
        case.set_system_out(told);
    }
    case
}

fn status(result: &ProbeResult) -> TestCaseStatus {
    let sentence = words::brief(&words::sentence(result));
    let sentence = match result {
        ProbeResult::Blocked { .. } => format!("blocked: {sentence}"),
        ProbeResult::NotRun { .. } => format!("not run: {sentence}"),
        _ => sentence,
    };
    let mut status = match result {
        ProbeResult::Finished(outcome) => match outcome.verdict {
            Verdict::Pass | Verdict::Degraded => return TestCaseStatus::success(),
            Verdict::Fail => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                let fault = outcome.findings.iter().find_map(|finding| finding.fault.as_ref());
                status.set_type(fault.map_or("fail".to_owned(), |fault| fault.code()));
                status
            }
            Verdict::Skip { .. } => TestCaseStatus::skipped(),
        },
        ProbeResult::NoVerdict { .. } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type(words::word(result).to_lowercase());
            status
        }
        ProbeResult::Blocked { .. } | ProbeResult::NotRun { .. } => TestCaseStatus::skipped(),
    };
    status.set_message(sentence);
    status
}

/// Everything found, a line each.
fn told(result: &ProbeResult) -> String {
    let Some(outcome) = result.outcome() else { return String::new() };
    let mut lines = Vec::new();
    for finding in &outcome.findings {
        lines.push(words::one_line(&finding.summary));
        lines.extend(words::place(finding).map(|place| format!("  at {place}")));
        lines.extend(finding.next.as_ref().map(|n| format!("  next: {}", words::one_line(n))));
    }
    for measurement in &outcome.measurements {
        lines.push(format!("{} ({})", words::measured(measurement), measurement.provenance));
    }
    lines.join("\n")
}
