//! What the binary prints, where, and how it ends.

mod common;

use common::{TestLab, output, run_in, shakedown};
use serde_json::Value;

fn stdout(arguments: &[&str]) -> String {
    let output = output(&mut shakedown(arguments));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Exit code and standard error of something that is refused.
fn refusal(arguments: &[&str]) -> (i32, String) {
    let output = output(&mut shakedown(arguments));
    let code = output.status.code().expect("it exits");
    (code, String::from_utf8(output.stderr).expect("UTF-8"))
}

#[test]
fn standard_output_and_error_together_are_one_json_document() {
    let lab = TestLab::start("healthy");
    let results = tempfile::tempdir().expect("a folder");
    let both = tempfile::NamedTempFile::new().expect("a file");
    let mut command = run_in(&lab, results.path(), &["--output-format", "json", "--phase", "1"]);
    command.stdout(both.reopen().expect("a file")).stderr(both.reopen().expect("a file"));
    let status = command.status().expect("it runs");
    assert_eq!(status.code(), Some(0));
    let text = std::fs::read_to_string(both.path()).expect("text");
    let document: Value = serde_json::from_str(&text).expect("one JSON document");
    assert_eq!(document["schema"], "shakedown.run/1");
    assert_eq!(document["exit_codes"], serde_json::json!([0]));
    assert!(document["elapsed_ms"].as_f64().is_some_and(|ms| ms > 0.0));
}

#[test]
fn a_session_leaves_its_files_readable_by_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = TestLab::start("healthy");
    let results = tempfile::tempdir().expect("a folder");
    let output = output(&mut run_in(&lab, results.path(), &["--phase", "1"]));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let session = std::fs::read_dir(results.path()).expect("a folder").next().expect("one");
    let session = session.expect("an entry").path();
    let name = session.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(name.starts_with("issue_1278_20"), "{name}");
    assert_eq!(session.metadata().expect("data").permissions().mode() & 0o777, 0o700);
    for file in [
        "journal.jsonl",
        "test_execution_log.json",
        "vpc_connector_metrics.json",
        "cloud_sql_operations.json",
        "junit.xml",
        "report.html",
        "summary.md",
    ] {
        let data = session.join(file).metadata().unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(data.permissions().mode() & 0o777, 0o600, "{file}");
    }
}

#[test]
fn a_plan_touches_no_network() {
    // The addresses of the built-in staging environment exist; planning must not ask for them. An
    // own network namespace would prove it; what can be shown everywhere is that no socket is made.
    let Ok(strace) = std::process::Command::new("strace").arg("-V").output() else {
        eprintln_skipped();
        return;
    };
    assert!(strace.status.success());
    let mut command = std::process::Command::new("strace");
    command.args(["-f", "-e", "trace=socket,connect", "-o", "/dev/stdout"]);
    command.arg(env!("CARGO_BIN_EXE_shakedown")).args(["plan", "--env", "staging"]);
    let output = output(&mut command);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("AF_INET"), "{text}");
}

fn eprintln_skipped() {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "strace is not installed: not looked at");
}

#[test]
fn the_plan_of_the_strategys_full_suite_says_which_flags_change_nothing() {
    let text = stdout(&[
        "plan",
        "--categories",
        "unit",
        "integration",
        "e2e",
        "--test-pattern",
        "*issue_1278*",
        "--env",
        "staging",
        "--no-docker",
        "--real-services",
        "--collect-metrics",
        "--output-format",
        "detailed",
    ]);
    for said in [
        "--no-docker changes nothing",
        "--real-services changes nothing",
        "phase 1",
        "netra-staging",
    ] {
        assert!(text.to_lowercase().contains(&said.to_lowercase()), "{said}: {text}");
    }
}

#[test]
fn wrong_input_is_refused_with_the_remedy() {
    let cases: &[(&[&str], &str)] = &[
        (&["run", "--env", "nowhere"], "known are"),
        (&["run", "--env", "staging", "--scenario", "healthy"], "for a lab"),
        (&["plan", "--phase", "9"], "1 to 4"),
        (&["plan", "--phase", "3.9"], "a step such as 3.2"),
        (&["plan", "-k", "no-such-probe"], "nothing is selected"),
        (&["plan", "-k", "no-such-probe"], "shakedown list"),
        (&["run", "--env", "lab", "--scenario", "nope"], "healthy"),
        (&["run", "--lab-dir", "/nonexistent"], "lab status"),
        (&["plan", "--set", "database.prot=1"], "unknown field `prot`"),
        (&["plan", "--set", "lab.time_scale=99"], "1 to 20"),
        (&["frobnicate"], "Usage"),
    ];
    for (arguments, remedy) in cases {
        let (code, text) = refusal(arguments);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.contains(remedy), "{arguments:?}: {text}");
    }
}

#[test]
fn production_is_planned_but_never_probed() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("production.toml");
    std::fs::write(&path, "[environment]\nname = \"p\"\ntier = \"production\"\n").expect("written");
    let path = path.to_str().expect("UTF-8");
    let (code, text) = refusal(&["run", "--env", path]);
    assert_eq!(code, 2);
    assert!(text.contains("never probed"), "{text}");
    assert!(stdout(&["plan", "--env", path]).contains("production"));
}

#[test]
fn list_is_stable_json_and_names_every_probe_crate() {
    let list: Value = serde_json::from_str(&stdout(&["list", "--json"])).expect("JSON");
    assert_eq!(list["schema"], "shakedown.list/1");
    // A crate counts when it registers anything: a classifier without a probe is of use too.
    let packages: std::collections::BTreeSet<&str> = list
        .as_object()
        .expect("an object")
        .values()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|entry| entry["origin"]["package"].as_str())
        .filter(|package| package.starts_with("shakedown-probes-"))
        .collect();
    let crates = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let probe_crates: std::collections::BTreeSet<String> = std::fs::read_dir(crates)
        .expect("the crates")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("probes-"))
        .map(|name| format!("shakedown-{name}"))
        .collect();
    assert_eq!(packages, probe_crates.iter().map(String::as_str).collect());
    let unmapped: Value =
        serde_json::from_str(&stdout(&["list", "--unmapped", "--json"])).expect("JSON");
    for name in unmapped["unmapped"].as_array().expect("a list") {
        assert!(name["reason"].as_str().is_some_and(|reason| reason.len() > 20), "{name}");
    }
}

#[test]
fn a_run_of_unit_probes_starts_no_lab_and_asks_no_database() {
    let results = tempfile::tempdir().expect("a folder");
    let output = output(
        shakedown(&["run", "--categories", "unit", "--output-format", "json", "--results-dir"])
            .arg(results.path()),
    );
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["gate"], serde_json::json!([]));
    assert!(document["plan"]["target"]["scenario"].is_null(), "no lab was started");
}

/// Everything a person reads first. Times and versions are blanked.
#[test]
fn what_people_read_first() {
    insta::with_settings!({ filters => vec![
        (r"issue_1278_\d{8}_\d{6}", "[session]"),
        (r"(?m)^.*clock .*\n(?:.*-> compare.*\n)?", ""),
        (r"\d+\.\d+\.\d+", "[version]"),
    ] }, {
        insta::assert_snapshot!("help", stdout(&["--help"]));
        insta::assert_snapshot!("run_help", stdout(&["run", "--help"]));
        insta::assert_snapshot!("list", stdout(&["list"]));
        insta::assert_snapshot!("unmapped", stdout(&["list", "--unmapped"]));
        insta::assert_snapshot!("plan_staging", stdout(&["plan", "--env", "staging", "--phase", "2"]));
        insta::assert_snapshot!("scenarios", stdout(&["lab", "scenarios"]));
        insta::assert_snapshot!("wrong_environment", refusal(&["plan", "--set", "vpc.nam=1"]).1);
    });
}

#[test]
fn doctor_says_who_listens_and_how_to_start_the_proxy() {
    let missing = output(&mut shakedown(&["doctor", "--env", "staging"]));
    let text = String::from_utf8(missing.stdout).expect("UTF-8");
    assert_eq!(missing.status.code(), Some(10), "{text}");
    for said in [
        "cloud-sql-proxy --unix-socket /cloudsql netra-staging:us-central1:netra-staging-db",
        "set the environment variable POSTGRES_PASSWORD",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }

    let lab = TestLab::start("healthy");
    let dir = lab.dir.to_str().expect("UTF-8");
    let ready = output(&mut shakedown(&["doctor", "--env", "lab", "--lab-dir", dir, "--json"]));
    let report: Value = serde_json::from_slice(&ready.stdout).expect("JSON");
    assert_eq!(ready.status.code(), Some(0), "{report:#}");
    let checks = report["checks"].as_array().expect("a list");
    let socket = checks.iter().find(|check| check["what"] == "database socket").expect("looked at");
    if cfg!(target_os = "linux") {
        let detail = socket["detail"].as_str().expect("text");
        assert!(detail.contains("shakedown (pid"), "{detail}");
    }
}
