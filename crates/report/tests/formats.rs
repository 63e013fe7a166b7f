//! Every format of one rich record: what it looks like, and what must never be in it.

mod common;

use std::path::Path;

use common::{CANARY, clean, lines, record, redactor};
use shakedown_core::record::RunRecord;
use shakedown_report::{
    Live, Style, html, human, impact, json, junit, markdown, metric_summaries, staged_stats,
    strategy_metrics, write_files,
};

fn terminal(detail: bool, width: usize) -> String {
    let style = Style { detail, width, ..Style::default() };
    human(&clean(&record()), &style, Some(Path::new("reports/issue_1278_20250915_120000")))
}

fn live(color: bool) -> String {
    let mut live = Live::new(redactor(), color);
    let lines: Vec<_> = lines().iter().filter_map(|line| live.line(line)).collect();
    lines.join("\n")
}

#[test]
fn human_report() {
    insta::assert_snapshot!(terminal(false, 100));
}

#[test]
fn human_report_in_detail() {
    insta::assert_snapshot!(terminal(true, 100));
}

#[test]
fn live_lines() {
    insta::assert_snapshot!(live(false));
}

#[test]
fn json_report() {
    insta::assert_snapshot!(json(&clean(&record())));
}

#[test]
fn junit_report() {
    insta::assert_snapshot!(junit(&clean(&record())));
}

#[test]
fn markdown_report() {
    insta::assert_snapshot!(markdown(&clean(&record()), None));
}

#[test]
fn html_report() {
    // One element a line, so that a change is readable.
    insta::assert_snapshot!(html(&clean(&record()), None).replace("><", ">\n<"));
}

#[test]
fn strategy_files() {
    insta::assert_snapshot!(strategy_metrics(&clean(&record()), "cloudsql"));
    assert_eq!(strategy_metrics(&clean(&record()), "smd"), "[]\n");
}

#[test]
fn facts_are_a_list_of_those_that_hold() {
    let mut record = record();
    let template = record.samples[0].clone();
    let calls = [[("slow", 1.0), ("lost", 0.0)], [("slow", 0.0), ("lost", 0.0)]];
    record.samples = calls
        .iter()
        .flatten()
        .map(|(fact, holds)| {
            let mut stamped = template.clone();
            stamped.sample.metric = "vpc.indicators".to_owned().into();
            stamped.sample.unit = "facts".into();
            stamped.sample.labels = vec![("fact".into(), (*fact).into())];
            stamped.sample.value = shakedown_core::monitor::Reading::Value(*holds);
            stamped
        })
        .collect();
    let text = strategy_metrics(&clean(&record), "vpc");
    let moments: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(moments[0]["metrics"]["indicators"], serde_json::json!(["slow"]));
    assert_eq!(moments[1]["metrics"]["indicators"], serde_json::json!([]));
    assert_eq!(moments.as_array().map(Vec::len), Some(2), "{text}");
}

#[test]
fn metrics_are_summed_up_stage_by_stage() {
    let record = clean(&record());
    let staged = staged_stats(&record);
    assert!(!staged.is_empty());
    for series in &staged {
        let count: usize = series.stages.iter().map(|(_, stats)| stats.count).sum();
        assert_eq!(count, series.whole.count, "{}: every value in one stage", series.whole.name);
    }
    let stages = |name: &str| -> Vec<String> {
        let series = staged.iter().find(|series| series.whole.name == name);
        series
            .map(|s| s.stages.iter().map(|(stage, _)| stage.clone()).collect())
            .unwrap_or_default()
    };
    let all: std::collections::BTreeSet<_> =
        staged.iter().flat_map(|series| stages(&series.whole.name)).collect();
    assert!(
        all.contains("before") && all.iter().any(|stage| stage.starts_with("phase")),
        "{all:?}"
    );
}

#[test]
fn impact_without_the_probe_says_that_nothing_was_measured() {
    let text = impact(&clean(&record()), &diagnosis());
    assert!(
        text.contains("not measured: goldenpath.offline-impact did not come to an outcome"),
        "{text}"
    );
    assert!(!text.contains("USD"), "{text}");
}

/// Every output there is, by name.
fn outputs() -> Vec<(&'static str, String)> {
    let record = clean(&record());
    vec![
        ("human", terminal(false, 100)),
        ("detailed", terminal(true, 0)),
        ("live", live(false)),
        ("live in colour", live(true)),
        ("json", json(&record)),
        ("junit", junit(&record)),
        ("markdown", markdown(&record, Some(&diagnosis()))),
        ("html", html(&record, Some(&diagnosis()))),
        ("metrics", strategy_metrics(&record, "cloudsql")),
        ("summaries", metric_summaries(&record)),
        ("impact", impact(&record, &diagnosis())),
    ]
}

#[test]
fn no_output_has_the_secret_or_a_control_character() {
    for (name, text) in outputs() {
        assert!(!text.contains(CANARY) && !text.contains("c4n4ry"), "{name}: {text}");
        let control =
            |c: char| c.is_control() && c != '\n' && !(c == '\x1b' && name.contains("colour"));
        assert!(!text.contains(control), "{name}");
        assert!(!text.contains('\u{202e}'), "{name}: a direction override");
        assert!(!text.contains("\x1b[2J"), "{name}: clears the screen");
    }
}

#[test]
fn markup_of_strangers_is_only_text() {
    let outputs = outputs();
    let of = |wanted: &str| &outputs.iter().find(|(name, _)| *name == wanted).expect(wanted).1;
    assert!(!of("html").contains("<script"), "escaped");
    assert!(of("html").contains("default-src 'none'"));
    // What stands in an indented block is text by that.
    let block = |line: &&str| line.starts_with("    ") && !line.starts_with("    - ");
    let markdown: Vec<_> = of("markdown").lines().filter(|line| !block(line)).collect();
    let markdown = markdown.join("\n");
    assert!(!markdown.contains("<script"));
    assert!(!markdown.replace("\\]", "").contains("]("), "no link");
    assert!(!of("junit").contains("<script"));
}

#[test]
fn junit_is_read_back_by_its_own_reader() {
    let report =
        quick_junit::Report::deserialize_from_str(&junit(&clean(&record()))).expect("valid");
    assert_eq!((report.tests, report.failures, report.errors), (10, 1, 2));
    let skipped: usize = report.test_suites.iter().map(|suite| suite.skipped).sum();
    assert_eq!(skipped, 3, "skipped, blocked and not run");
}

#[test]
fn json_is_a_record_again() {
    let clean = clean(&record());
    let back: RunRecord = serde_json::from_str(&json(&clean)).expect("a record");
    assert_eq!(back, *clean);
}

#[test]
fn nothing_is_wider_than_asked_but_what_has_no_spaces() {
    let mut whole = 0;
    for line in terminal(false, 70).lines().skip(2).filter(|line| !line.starts_with("Phase")) {
        let longest = line.split_whitespace().map(str::len).max().unwrap_or(0);
        assert!(line.chars().count() <= 70 || longest > 30, "{line}");
        whole += usize::from(line.chars().count() > 50);
    }
    assert!(whole > 10, "lines are filled, not broken early");
}

#[test]
fn colours_are_all_that_colour_adds() {
    let style = Style { color: true, ..Style::default() };
    let painted = human(&clean(&record()), &style, None);
    let mut plain = String::new();
    let mut rest = painted.as_str();
    while let Some(start) = rest.find('\x1b') {
        plain.push_str(&rest[..start]);
        rest = rest[start..].split_once('m').expect("an SGR sequence").1;
    }
    plain.push_str(rest);
    assert_eq!(plain, human(&clean(&record()), &Style::default(), None));
}

#[test]
fn what_a_stranger_made_too_long_is_cut() {
    let mut long = record();
    long.remarks.push("x".repeat(100_000));
    let text = human(&clean(&long), &Style::default(), None);
    assert!(text.len() < 20_000 && text.contains("(99600 more bytes)"), "{}", text.len());
}

#[test]
fn a_run_that_was_cut_off_says_so() {
    let mut cut = record();
    cut.elapsed_ms = None;
    let text = human(&clean(&cut), &Style::default(), None);
    assert!(text.starts_with("CUT OFF: "), "{text}");
    assert!(html(&clean(&cut), None).contains("cut off"));
}

/// A diagnosis whose texts hold what must not come out.
fn diagnosis() -> shakedown_report::CleanDiagnosis {
    let root = serde_json::json!({
        "cause": "code_defect", "status": "supported", "confidence": 0.9,
        "summary": "a \u{1b}[31mc4n4ry(p@ss)/w0rd <script>x</script>\n# forged", "evidence": [], "against": [], "explains": [],
        "next": "read on",
    });
    let service = serde_json::json!({
        "service": "database", "window": { "from": null, "to": null }, "verdict": "failing",
        "roots": [root], "symptoms": [], "refuted": [], "masked": [], "startups": [], "changes": [],
    });
    let whole = serde_json::json!({
        "schema": "shakedown.diagnosis/1", "inputs": [], "coverage": {}, "services": [service],
    });
    let diagnosis = serde_json::from_value(whole).expect("a diagnosis");
    shakedown_report::CleanDiagnosis::new(diagnosis, &redactor()).expect("clean")
}

#[test]
fn what_follows_from_a_root_is_told_below_it_and_long_lines_are_broken() {
    let service = |name: &str, cause: &str, follows: serde_json::Value| {
        serde_json::json!({
            "service": name, "verdict": "failing", "symptoms": [], "refuted": [], "masked": [],
            "window": { "from": "2026-03-04T08:00:00.5Z", "to": "2026-03-04T08:10:00Z" },
            "startups": [], "changes": [], "follows": follows,
            "roots": [{
                "cause": cause, "status": "supported", "confidence": 0.9,
                "summary": "one word after the other until it is too long for a terminal of a \
                            hundred columns.",
                "evidence": [], "against": [], "explains": ["restart_loop"], "next": "look",
            }],
        })
    };
    let follows = serde_json::json!({
        "service": "backend", "cause": "cloud_sql_unreachable", "why": "the same",
    });
    let whole = serde_json::json!({
        "schema": "shakedown.diagnosis/1", "inputs": [], "coverage": {}, "services": [
            service("backend", "cloud_sql_unreachable", serde_json::Value::Null),
            service("database", "cloud_sql_unreachable", follows),
        ],
    });
    let diagnosis = serde_json::from_value(whole).expect("a diagnosis");
    let clean = shakedown_report::CleanDiagnosis::new(diagnosis, &redactor()).expect("clean");
    let plain = shakedown_report::conclusion(&clean, &Style::default());
    assert_eq!(
        plain,
        "\
Diagnosis
  FAILING backend  2026-03-04 08:00:00 to 08:10:00 UTC
          root  cloud_sql_unreachable (0.90): one word after the other until it is too long for a
                terminal of a hundred columns.
      explains  restart_loop
          also  database: the same
          next  look
"
    );
    let color = Style { color: true, ..Style::default() };
    let painted = shakedown_report::conclusion(&clean, &color);
    assert_eq!(painted.lines().count(), plain.lines().count(), "{painted}");
}

#[test]
fn what_is_held_of_a_run_stands_first() {
    let whole = serde_json::json!({
        "schema": "shakedown.diagnosis/1", "services": [],
        "inputs": [{ "name": "s_1", "format": "run-directory", "records": 9, "bytes": 9, "broken": 0,
                     "ended_early": null }],
        "coverage": { "runs": [{
            "session": "s_1", "environment": "lab", "vantage": "cloud-run", "complete": false,
            "probes": { "pass": 2, "skip": 1 }, "samples": 7,
        }] },
    });
    let diagnosis = serde_json::from_value(whole).expect("a diagnosis");
    let clean = shakedown_report::CleanDiagnosis::new(diagnosis, &redactor()).expect("clean");
    let text = shakedown_report::diagnosis(&clean, &Style::default());
    let held =
        "run s_1: lab seen from cloud-run, 2 pass, 1 skip, 7 samples, it did not come to its end\n";
    assert!(text.starts_with(held), "{text}");
    assert!(!text.contains("entries"), "{text}");
}

#[test]
fn the_end_of_a_run_says_verdict_root_and_next_step() {
    let text = shakedown_report::conclusion(&diagnosis(), &Style::default());
    assert!(text.starts_with("Diagnosis\n  FAILING database"), "{text}");
    assert!(text.contains("root  code_defect (0.90): a \\x1b[31m"), "{text}");
    assert!(text.contains("next  read on"), "{text}");
    let page = html(&clean(&record()), Some(&diagnosis()));
    assert!(page.contains("FAILING database") && page.contains("&lt;script&gt;"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    let page = markdown(&clean(&record()), Some(&diagnosis()));
    assert!(page.contains("\n## Diagnosis\n\n      FAILING database"), "{page}");
    assert!(!page.lines().any(|line| line.starts_with("# forged")), "{page}");
    assert!(!text.contains("c4n4ry"), "{text}");
}

#[test]
fn all_files_are_written_and_nobody_else_reads_them() {
    let dir = tempfile::tempdir().expect("a directory");
    let files = write_files(&clean(&record()), &diagnosis(), dir.path()).expect("written");
    let names: Vec<_> = files.iter().filter_map(|f| f.file_name()?.to_str()).collect();
    assert_eq!(
        names,
        [
            "test_execution_log.json",
            "vpc_connector_metrics.json",
            "cloud_sql_operations.json",
            "metric_summaries.json",
            "diagnosis.json",
            "junit.xml",
            "report.html",
            "summary.md"
        ]
    );
    for file in &files {
        let text = std::fs::read_to_string(file).expect("readable");
        assert!(!text.contains("c4n4ry"), "{}", file.display());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(file).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
        }
    }
    let gone = dir.path().join("gone");
    let error = write_files(&clean(&record()), &diagnosis(), &gone).expect_err("no such directory");
    assert!(error.to_string().contains("test_execution_log.json"), "{error}");
}

#[test]
fn a_number_json_has_no_word_for_is_an_error() {
    let mut record = record();
    record.plan.expected_ms = f64::NAN;
    assert!(shakedown_report::CleanRecord::new(record, &redactor()).is_err());
}
