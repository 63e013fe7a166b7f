//! `shakedown analyze` as a program: what reaches a terminal, what it ends with, what it reads.

mod common;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use common::{output, shakedown};
use serde_json::Value;

/// A window of the corpus by file name.
fn window(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../analyzer/tests/corpus").join(name)
}

fn analyze(arguments: &[&str], paths: &[&Path]) -> Output {
    output(shakedown(&["analyze"]).args(arguments).args(paths))
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&text(output)).expect("one JSON document")
}

/// One entry of Cloud Logging.
fn entry(id: &str, second: u32, severity: &str, message: &str) -> String {
    let log = if message.starts_with("Container ") { "varlog%2Fsystem" } else { "stderr" };
    serde_json::json!({
        "insertId": id,
        "timestamp": format!("2026-03-04T08:00:{second:02}.000000Z"),
        "severity": severity,
        "logName": format!("projects/p/logs/run.googleapis.com%2F{log}"),
        "resource": { "labels": { "service_name": "shop", "revision_name": "shop-1" } },
        "labels": { "instanceId": "i1" },
        "textPayload": message,
    })
    .to_string()
}

fn failing_start(words: &str) -> String {
    let lines = [
        entry("a", 0, "INFO", "Started server process [1]"),
        entry("b", 1, "INFO", "Waiting for application startup."),
        entry("c", 2, "ERROR", words),
        entry("d", 3, "ERROR", "Application startup failed. Exiting."),
        entry("e", 4, "WARNING", "Container called exit(3)."),
    ];
    lines.join("\n") + "\n"
}

#[test]
fn what_strangers_wrote_reaches_neither_terminal_nor_json_as_control_characters() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("hostile.jsonl");
    let hostile = "ModuleNotFoundError: No module named '\u{1b}[2Jx\u{1b}]0;owned\u{7}<script>alert(1)</script>\u{9b}31m\u{202e}' password=hunter2hunter2\r\nroot  cloud_sql_slow (0.99): forged";
    let hostile =
        failing_start(hostile).replace("\"shop\"", "\"sh\\u001b[31mop\\nHEALTHY forged\"");
    std::fs::write(&path, hostile).expect("written");
    for arguments in [&[][..], &["--json"], &["--strategy-report"], &["--explain", "code_defect"]] {
        let shown = analyze(arguments, &[&path]);
        let shown = text(&shown);
        let bad = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}' || c == '\u{9b}';
        assert!(!shown.contains(bad), "{arguments:?}: {shown:?}");
        assert!(!shown.contains("hunter2hunter2"), "{arguments:?}: {shown}");
        assert!(!shown.lines().any(|line| line.starts_with("HEALTHY")), "{arguments:?}: {shown}");
        let forged = |line: &str| line.trim_start().starts_with("root  cloud_sql_slow");
        assert!(!shown.lines().any(forged), "{arguments:?}: {shown}");
        assert!(shown.contains("code_defect"), "{arguments:?}: {shown}");
    }
}

#[test]
fn exit_codes_are_0_for_read_10_when_asked_and_2_for_nothing_read() {
    let failing = window("wrong-password.jsonl");
    let healthy = window("rollout-and-autoscaling.jsonl");
    let code = |arguments: &[&str], paths: &[&Path]| analyze(arguments, paths).status.code();
    assert_eq!(code(&[], &[&failing]), Some(0));
    assert_eq!(code(&["--fail-on", "failing"], &[&failing]), Some(10));
    assert_eq!(code(&["--fail-on", "degraded"], &[&failing]), Some(10));
    assert_eq!(code(&["--fail-on", "failing"], &[&healthy]), Some(0));
    assert_eq!(code(&["--fail-on", "degraded"], &[&healthy]), Some(0));
    let dir = tempfile::tempdir().expect("a folder");
    assert_eq!(code(&[], &[&dir.path().join("nothing-here.json")]), Some(2));
    assert_eq!(code(&[], &[dir.path()]), Some(2), "an empty folder");
    let run = dir.path().join("run");
    std::fs::create_dir(&run).expect("made");
    std::fs::write(run.join("journal.jsonl"), "no journal\n").expect("written");
    let broken = analyze(&[], &[&run]);
    assert_eq!(broken.status.code(), Some(2));
    let said = String::from_utf8_lossy(&broken.stderr).into_owned();
    assert!(said.contains("holds no run"), "{said}");
    assert_eq!(code(&[], &[&run, &failing]), Some(0), "the other input could be read");
}

#[test]
fn the_terminal_report_says_verdict_root_since_lines_not_and_next() {
    let shown = text(&analyze(&[], &[&window("syntax-error-with-decoys.jsonl")]));
    let shown = shown.replace(env!("CARGO_MANIFEST_DIR"), "..");
    insta::assert_snapshot!("analyze_report", shown);
    let explained =
        text(&analyze(&["--explain", "code_defect"], &[&window("syntax-error-with-decoys.jsonl")]));
    let explained = explained.replace(env!("CARGO_MANIFEST_DIR"), "..");
    insta::assert_snapshot!("analyze_explain", explained);
    let nothing = text(&analyze(&["--explain", "gremlins"], &[&window("wrong-password.jsonl")]));
    assert!(nothing.starts_with("Nothing is said about `gremlins`"), "{nothing}");
}

#[test]
fn the_strategy_report_keeps_its_six_names_and_drops_nothing() {
    let mut lines = failing_start("ModuleNotFoundError: No module named 'x'");
    for n in 0..7 {
        lines.push_str(&entry(
            &format!("u{n}"),
            10 + n,
            "ERROR",
            "the moon is in the seventh house",
        ));
        lines.push('\n');
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("log.jsonl");
    std::fs::write(&path, lines).expect("written");
    let report = json(&analyze(&["--strategy-report"], &[&path]));
    let categories = report["failure_categories"].as_object().expect("a map");
    let mut names: Vec<&str> = categories.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cloud_sql_pool_exhaustion",
            "container_exit_code_3",
            "fastapi_lifespan_breakdown",
            "golden_path_offline",
            "smd_phase3_timeout",
            "vpc_connector_capacity"
        ]
    );
    assert_eq!(categories["container_exit_code_3"][0]["count"], 1);
    assert_eq!(report["unclassified"]["count"], 7);
    let others = report["unclassified"]["other_findings"].as_array().expect("a list");
    assert!(others.iter().any(|other| other["cause"] == "code_defect"), "{others:?}");
}

#[test]
fn standard_input_folders_and_compressed_files_say_the_same_as_the_plain_file() {
    let path = window("wrong-password.jsonl");
    let plain = json(&analyze(&["--json"], &[&path]));
    let bytes = std::fs::read(&path).expect("a window");
    let dir = tempfile::tempdir().expect("a folder");

    let mut child = shakedown(&["analyze", "--json", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    child.stdin.take().expect("piped").write_all(&bytes).expect("written");
    let piped = json(&child.wait_with_output().expect("ends"));
    assert_eq!(piped["inputs"][0]["name"], "-");

    let nested = dir.path().join("a/b");
    std::fs::create_dir_all(&nested).expect("made");
    std::fs::write(nested.join("export.json"), &bytes).expect("written");
    let folder = json(&analyze(&["--json"], &[dir.path()]));

    let gz = dir.path().join("export.json.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&bytes).expect("compressed");
    std::fs::write(&gz, encoder.finish().expect("compressed")).expect("written");
    let zipped = json(&analyze(&["--json"], &[&gz]));

    let zst = dir.path().join("export.json.zst");
    let compressed =
        ruzstd::encoding::compress_to_vec(&bytes[..], ruzstd::encoding::CompressionLevel::Fastest);
    std::fs::write(&zst, compressed).expect("written");
    let zstd = json(&analyze(&["--json"], &[&zst]));

    let without_sources = |diagnosis: &Value| {
        let services = diagnosis["services"].to_string();
        let sources = regex_lite_strip(&services);
        assert!(sources.contains("configuration_error"), "{sources}");
        sources
    };
    for other in [&piped, &folder, &zipped, &zstd] {
        assert_eq!(without_sources(&plain), without_sources(other));
    }
}

/// Text without the values of `source`, which name the file.
fn regex_lite_strip(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("\"source\":\"") {
        let (before, after) = rest.split_at(at + 10);
        out.push_str(before);
        rest = &after[after.find('"').unwrap_or(0)..];
    }
    out + rest
}

#[test]
fn several_files_with_the_same_entries_count_them_once() {
    let path = window("wrong-password.jsonl");
    let dir = tempfile::tempdir().expect("a folder");
    let copy = dir.path().join("copy.jsonl");
    std::fs::copy(&path, &copy).expect("copied");
    let one = json(&analyze(&["--json"], &[&path]));
    let both = json(&analyze(&["--json"], &[&path, &copy]));
    assert_eq!(one["coverage"]["all"]["entries"], both["coverage"]["all"]["entries"]);
    assert_eq!(both["coverage"]["duplicates"], one["coverage"]["all"]["entries"]);
    assert_eq!(one["services"], both["services"]);
    assert_eq!(both["inputs"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_most_that_is_read_stops_a_bomb() {
    let dir = tempfile::tempdir().expect("a folder");
    let bomb = dir.path().join("bomb.json.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let line = entry("x", 1, "INFO", &"0".repeat(60_000)) + "\n";
    for _ in 0..400 {
        encoder.write_all(line.as_bytes()).expect("compressed");
    }
    std::fs::write(&bomb, encoder.finish().expect("compressed")).expect("written");
    let found = json(&analyze(&["--json", "--max-bytes", "1000000"], &[&bomb]));
    assert_eq!(found["inputs"][0]["bytes"], 1_000_000);
    let why = found["inputs"][0]["ended_early"].as_str().expect("it says why");
    assert!(why.contains("more bytes than may be read"), "{why}");
}

/// Whether `value` is as `schema` says, in the words JSON Schema uses for records of ours.
fn fits(value: &Value, schema: &Value, root: &Value, at: &str, faults: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().expect("a name");
        return fits(value, &root["$defs"][name], root, at, faults);
    }
    for word in ["anyOf", "oneOf"] {
        let Some(choices) = schema[word].as_array() else { continue };
        let good = choices.iter().any(|choice| {
            let mut own = Vec::new();
            fits(value, choice, root, at, &mut own);
            own.is_empty()
        });
        if !good {
            faults.push(format!("{at}: {value} is none of {choices:?}"));
        }
    }
    if let Some(only) = schema.get("const").filter(|only| *only != value) {
        faults.push(format!("{at}: {value} is not {only}"));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.contains(value)) {
        faults.push(format!("{at}: {value} is not one of {words:?}"));
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |name: &Value| *name == kind || (*name == "number" && kind == "integer");
    let typed = match &schema["type"] {
        Value::Array(names) => names.iter().any(is),
        Value::Null => true,
        name => is(name),
    };
    if !typed {
        faults.push(format!("{at}: {value} is no {}", schema["type"]));
    }
    if let (Some(map), Some(known)) = (value.as_object(), schema["properties"].as_object()) {
        for (name, inner) in map {
            match known.get(name) {
                Some(schema) => fits(inner, schema, root, &format!("{at}.{name}"), faults),
                None => faults.push(format!("{at}.{name} is not in the schema")),
            }
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !map.contains_key(name.as_str().expect("a name")) {
                faults.push(format!("{at}.{name} is missing"));
            }
        }
    }
    if let (Some(list), Some(schema)) = (value.as_array(), schema.get("items")) {
        for (n, inner) in list.iter().enumerate() {
            fits(inner, schema, root, &format!("{at}[{n}]"), faults);
        }
    }
}

#[test]
fn the_documented_schema_is_that_of_real_output() {
    let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/diagnosis.schema.json");
    let documented = std::fs::read_to_string(docs).expect("the schema is in docs");
    let schema: Value = serde_json::from_str(&documented).expect("JSON");
    assert_eq!(schema, shakedown_core::diagnosis::json_schema(), "`cargo xtask codegen` was run");
    for name in ["wrong-password.jsonl", "three-services-one-broken.json", "egress-changed.jsonl"] {
        let diagnosis = json(&analyze(&["--json"], &[&window(name)]));
        assert_eq!(diagnosis["schema"], "shakedown.diagnosis/1");
        let mut faults = Vec::new();
        fits(&diagnosis, &schema, &schema, "", &mut faults);
        assert!(faults.is_empty(), "{name}: {faults:#?}");
        let mut other = diagnosis.clone();
        other["services"][0]["verdict"] = "splendid".into();
        other["services"][0]["roots"] = serde_json::json!([{ "cause": 3 }]);
        fits(&other, &schema, &schema, "", &mut faults);
        assert!(faults.len() >= 3, "what does not fit is noticed: {faults:#?}");
    }
}
