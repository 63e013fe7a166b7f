//! The readers, format by format, through the public interface.

use std::io::Write as _;

use jiff::Timestamp;
use shakedown_analyzer::coverage::Coverage;
use shakedown_analyzer::entry::{Entry, EntrySink, LogName, Origin, PayloadKind, Severity};
use shakedown_analyzer::read::{Format, Input, ReadOptions, ReadReport, Why, read};

/// One entry, kept.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    offset: (u32, u64),
    time: Option<String>,
    severity: Severity,
    service: String,
    instance: String,
    insert_id: String,
    log: LogName,
    message: String,
    payload: PayloadKind,
    origin: Origin,
    repeat: u64,
    completes: bool,
    status: Option<u16>,
    asked: String,
    audit: Option<(String, String)>,
}

#[derive(Default)]
struct Keep(Vec<Kept>);

impl EntrySink for Keep {
    fn entry(&mut self, entry: &Entry<'_>) {
        self.0.push(Kept {
            offset: (entry.location.file.0, entry.location.offset),
            time: entry.time.map(|time: Timestamp| time.to_string()),
            severity: entry.severity,
            service: entry.service.to_owned(),
            instance: entry.instance.to_owned(),
            insert_id: entry.insert_id.to_owned(),
            log: entry.log,
            message: entry.message.to_string(),
            payload: entry.payload,
            origin: entry.origin,
            repeat: entry.repeat,
            completes: entry.completes,
            status: entry.http.as_ref().map(|http| http.status),
            asked: (entry.http.iter())
                .map(|http| format!("{} {}", http.method, http.path()))
                .collect(),
            audit: entry.audit.as_ref().map(|a| (a.principal.clone(), a.method.clone())),
        });
    }

    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

fn read_with(inputs: &[Input], options: &ReadOptions) -> (Vec<Kept>, Coverage, ReadReport) {
    let (mut kept, coverage, report) = read(inputs, options, Keep::default).unwrap();
    kept.0.sort_by_key(|kept| kept.offset);
    (kept.0, coverage, report)
}

fn bytes(data: impl AsRef<[u8]>) -> Input {
    Input::Bytes("test".to_owned(), data.as_ref().into())
}

fn of(data: impl AsRef<[u8]>) -> (Vec<Kept>, Coverage, ReadReport) {
    read_with(&[bytes(data)], &ReadOptions::default())
}

fn messages(kept: &[Kept]) -> Vec<&str> {
    kept.iter().map(|kept| &*kept.message).collect()
}

const STDERR: &str = r#"{"insertId":"a1","timestamp":"2025-09-16T00:42:59.910682Z",
    "logName":"projects/p/logs/run.googleapis.com%2Fstderr",
    "resource":{"type":"cloud_run_revision","labels":{"service_name":"backend","revision_name":"backend-1"}},
    "labels":{"instanceId":"i1","vpc-connectivity":"enabled"},
    "textPayload":"[2025-09-16 00:42:59 +0000] [14] [ERROR] Exception in worker process"}"#;

#[test]
fn a_list_of_entries_is_read_indented_or_not() {
    let system = r#"{"insertId":"a2","timestamp":"2025-09-16T00:42:54.053646Z","severity":"WARNING",
        "logName":"projects/p/logs/run.googleapis.com%2Fvarlog%2Fsystem","textPayload":"Container called exit(3)."}"#;
    let compact = format!("[{STDERR},{system}]");
    let value: serde_json::Value = serde_json::from_str(&compact).unwrap();
    for text in [compact, value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
        let (kept, coverage, report) = of(&text);
        assert_eq!(report.files[0].format, Format::JsonArray);
        assert_eq!(kept.len(), 2);
        assert_eq!(kept[0].severity, Severity::Error, "the level is in the text");
        assert_eq!((&*kept[0].service, &*kept[0].instance), ("backend", "i1"));
        assert_eq!(kept[0].log, LogName::Stderr);
        assert_eq!(kept[0].time.as_deref(), Some("2025-09-16T00:42:59.910682Z"));
        assert_eq!(kept[1].log, LogName::System);
        assert_eq!(kept[1].severity, Severity::Warning);
        assert_eq!(coverage.broken + coverage.not_entries, 0);
    }
}

#[test]
fn lists_by_severity_give_their_severity_and_their_windows() {
    let text = r#"{"collection_time":"x","summary":{"total_logs":3,"nested":[{"message":"no entry"}]},
      "time_range":{"start":"2025-09-15T20:37:44+00:00","end":"2025-09-15T21:37:44+00:00"},
      "logs_by_severity":{
        "ERROR":[{"timestamp":"2025-09-15T21:37:17.7+00:00","insert_id":"b1","json_payload":{"message":"it broke","error":{"type":"OSError","value":"no route","traceback":null}}}],
        "NOTICE":[{"timestamp":"2025-09-15T21:30:00+00:00","insert_id":"b2","text_payload":null,"http_request":{"status":503,"url":"https://x/health?token=secret","latency":"13.04s"}},
                  {"timestamp":"2025-09-15T21:30:01+00:00","insert_id":"b3"}]}}"#;
    let (kept, coverage, report) = of(text);
    assert_eq!(report.files[0].format, Format::JsonObject);
    assert_eq!(messages(&kept), ["it broke\nOSError: no route", "", ""]);
    assert_eq!(kept[0].severity, Severity::Error);
    assert_eq!(kept[1].severity, Severity::Notice);
    assert_eq!(kept[1].status, Some(503));
    let kinds: Vec<_> = kept.iter().map(|kept| kept.payload).collect();
    assert_eq!(kinds, [PayloadKind::Json, PayloadKind::Http, PayloadKind::None]);
    assert_eq!(coverage.claimed[0].1.seconds(), 3600.0);
    assert_eq!(coverage.all.without_payload, 1);
}

#[test]
fn what_an_alert_says_is_read_and_hides_no_error() {
    let with = |more: &str| {
        let text = format!(
            r#"[{{"timestamp":"2025-09-15T21:00:00Z","jsonPayload":{{"message":"sent",{more}}}}}]"#
        );
        of(text).0.remove(0).message
    };
    let incident = r#""incident":{"state":"open","summary":"CPU is 98.5%"}"#;
    let error = r#""error":{"type":"OSError","value":"no route"}"#;
    assert_eq!(with(incident), "sent\nCPU is 98.5%");
    assert_eq!(with(&format!("{error},{incident}")), "sent\nOSError: no route");
    assert_eq!(with(&format!("{incident},{error}")), "sent\nOSError: no route");
    assert_eq!(with(&format!(r#"{error},"incident":"INC-7""#)), "sent\nOSError: no route");
}

#[test]
fn raw_logs_and_details_and_issues_by_severity_are_found() {
    let (kept, ..) =
        of(r#"{"meta":1,"raw_logs":[{"timestamp":"2025-09-15T21:00:00Z","message":"one"}]}"#);
    assert_eq!(messages(&kept), ["one"]);

    let (kept, coverage, _) = of(
        r#"{"detailed_by_severity":{"ERROR":{"count":7,"unique_messages":["pool exhausted"],
        "sample_entries":[{"timestamp":"2025-09-15T21:00:00Z","textPayload":"pool exhausted now"}]}}}"#,
    );
    assert_eq!(messages(&kept), ["pool exhausted", "pool exhausted now"]);
    assert_eq!(kept[0].origin, Origin::Summary);
    assert_eq!(kept[1].origin, Origin::Log);
    assert!(kept.iter().all(|kept| kept.severity == Severity::Error));
    assert_eq!(coverage.summaries, 1);

    let (kept, coverage, _) = of(
        r#"{"issues_by_severity":{"CRITICAL":[{"message":"Database init...","count":12,"first_seen":"2025-09-15T21:00:00Z"}],
        "WARNING":{"auth":{"occurrences":3,"message":"token"}}}}"#,
    );
    assert_eq!(messages(&kept), ["Database init...", "token"]);
    assert_eq!((kept[0].repeat, kept[1].repeat), (12, 3));
    assert_eq!(kept[1].severity, Severity::Warning);
    assert_eq!(coverage.cut_messages, 1);
    assert_eq!(coverage.summaries, 2);
}

#[test]
fn a_table_is_read_row_by_row() {
    let text = "\
TIMESTAMP                    SEVERITY  TEXT_PAYLOAD
2025-09-16T00:42:59.910682Z  ERROR     Traceback (most recent call last):
  File \"/app/main.py\", line 1, in <module>
ModuleNotFoundError: No module named 'shop'
2025-09-16T00:42:54.053646Z  WARNING   Container called exit(3).
2025-09-16T00:42:53Z
";
    let (kept, _, report) = of(text);
    assert_eq!(report.files[0].format, Format::Table);
    assert_eq!(kept.len(), 3);
    assert!(kept[0].message.ends_with("ModuleNotFoundError: No module named 'shop'"));
    assert_eq!(kept[1].message, "Container called exit(3).");
    assert_eq!(kept[1].log, LogName::System);
    assert_eq!(kept[2].payload, PayloadKind::None);
}

#[test]
fn a_table_with_the_columns_of_requests_has_requests() {
    let text = "\
TIMESTAMP                    SEVERITY  SERVICE_NAME  STATUS  REQUEST_METHOD  REQUEST_URL                     TEXT_PAYLOAD
2025-09-16T00:42:59.910682Z  INFO      shop          204     POST            https://shop.example/carts?k=1
2025-09-16T00:42:54.053646Z  WARNING   shop                                                                  Container called exit(3).
";
    let (kept, ..) = of(text);
    assert_eq!(kept[0].payload, PayloadKind::Http);
    assert_eq!((&*kept[0].asked, kept[0].status), ("POST /carts", Some(204)));
    assert_eq!(kept[1].status, None, "no request");
}

#[test]
fn container_output_groups_a_traceback_with_the_line_that_fails() {
    let text = "\
INFO:     Started server process [1]
INFO:     Waiting for application startup.
[2025-09-16 00:41:13 +0000] [14] [ERROR] Exception in worker process
Traceback (most recent call last):
  File \"/app/a.py\", line 608, in spawn_worker
    worker.init_process()
OSError: [Errno 111] refused

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File \"/app/a.py\", line 609, in spawn_worker
shop.errors.StartupError: no database
(Background on this error at: https://sqlalche.me/e/20/e3q8)
[2025-09-16 00:41:14 +0000] [14] [INFO] Worker exiting (pid: 14)\r
\x1b[32m2025-09-16 00:41:15.240\x1b[0m | \x1b[31mERROR   \x1b[0m | \x1b[36mshop\x1b[0m:run:4 - failed
\x1b[33m  indented detail\x1b[0m
";
    let (kept, coverage, report) = of(text);
    assert_eq!(report.files[0].format, Format::Text);
    assert_eq!(kept.len(), 6, "{:#?}", messages(&kept));
    assert!(kept[2].message.starts_with("[2025-09-16 00:41:13 +0000] [14] [ERROR]"));
    assert!(kept[2].message.ends_with("e3q8)"));
    assert_eq!(kept[3].message, "[2025-09-16 00:41:14 +0000] [14] [INFO] Worker exiting (pid: 14)");
    assert_eq!(kept[3].time.as_deref(), Some("2025-09-16T00:41:14Z"));
    assert_eq!(kept[4].severity, Severity::Error);
    assert_eq!(kept[4].time.as_deref(), Some("2025-09-16T00:41:15.24Z"));
    assert_eq!(kept[4].message, "2025-09-16 00:41:15.240 | ERROR    | shop:run:4 - failed");
    assert_eq!(kept[0].time, None);
    assert_eq!(coverage.zone_assumed, 1);
    assert_eq!(coverage.without_time, 3);
}

#[test]
fn prefixes_of_compose_and_of_runtimes_are_taken_off_every_line() {
    let (kept, ..) = of("\
backend-1  | [2025-09-16 00:41:13 +0000] [14] [ERROR] Exception in worker process
backend-1  | Traceback (most recent call last):
backend-1  |   File \"/app/a.py\", line 1, in x
backend-1  | KeyError: 'a'
db-1       | 2025-09-16 00:41:14.000 UTC [9] FATAL:  sorry, too many clients already
");
    assert_eq!(kept.len(), 2);
    assert_eq!((&*kept[0].service, &*kept[1].service), ("backend-1", "db-1"));
    assert!(!kept[0].message.contains('|'), "{}", kept[0].message);
    assert_eq!(kept[1].severity, Severity::Critical);

    let (kept, ..) = of("\
2025-09-16T00:42:58.123456789Z stderr F Traceback (most recent call last):
2025-09-16T00:42:58.123456790Z stderr F   File \"/app/a.py\", line 1, in x
2025-09-16T00:42:58.123456791Z stderr F KeyError: 'a'
2025-09-16T00:42:58.2Z stdout F {\"severity\":\"INFO\",\"message\":\"json inside\"}
");
    assert_eq!(messages(&kept)[1], "json inside");
    assert_eq!(kept[0].message.lines().count(), 3);
    assert!(kept[0].message.ends_with("\nKeyError: 'a'"));
    assert_eq!(kept[0].log, LogName::Stderr);
    assert_eq!(kept[1].time.as_deref(), Some("2025-09-16T00:42:58.2Z"));
}

#[test]
fn a_traceback_escaped_twice_gets_its_lines_back() {
    let (kept, ..) = of(
        r#"{"timestamp":"2025-09-16T00:00:00Z","textPayload":"Traceback (most recent call last):\\n  File \\\"a.py\\\"\\nOSError: x"}"#,
    );
    assert_eq!(kept[0].message, "Traceback (most recent call last):\n  File \"a.py\"\nOSError: x");
    assert_eq!(kept[0].severity, Severity::Error);
}

#[test]
fn encodings_and_compressions_are_seen_through() {
    let text = format!(
        "{}\r\n{}\r\n",
        STDERR.replace('\n', ""),
        r#"{"timestamp":"2025-09-16T00:00:00Z","textPayload":"grün \ud83d\ude80"}"#
    );
    let (plain, ..) = of(&text);
    assert_eq!(plain.len(), 2);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = ruzstd::encoding::compress_to_vec(
        text.as_bytes(),
        ruzstd::encoding::CompressionLevel::Fastest,
    );
    let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let marked = [&[0xff, 0xfe][..], &utf16].concat();
    for data in [
        gzip.clone(),
        [&gzip[..], &gzip].concat(),
        zstd.clone(),
        [&zstd[..], &zstd].concat(),
        utf16,
        marked,
    ] {
        let (kept, coverage, report) = of(&data);
        let distinct: Vec<_> = kept.iter().take(2).map(|k| k.message.clone()).collect();
        assert_eq!(distinct, messages(&plain));
        assert_eq!(coverage.broken, 0);
        assert_eq!(report.files[0].ended_early, None);
    }
    let (kept, ..) = of([b"\xef\xbb\xbf", text.as_bytes()].concat());
    assert_eq!(kept[0].offset.1, 3);
    assert_eq!(messages(&kept), messages(&plain));

    let (kept, _, report) = of(&gzip[..gzip.len() - 12]);
    assert!(report.files[0].ended_early.is_some());
    assert!(kept.len() <= 2);
}

#[test]
fn a_gzip_bomb_is_read_up_to_the_limit() {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        gzip.write_all(&vec![b'\n'; 1 << 20]).unwrap();
    }
    let options = ReadOptions { max_bytes: 1 << 20, ..ReadOptions::default() };
    let (_, _, report) = read_with(&[bytes(gzip.finish().unwrap())], &options);
    assert_eq!(report.files[0].bytes, 1 << 20);
    assert!(report.files[0].ended_early.as_ref().is_some_and(|why| why.contains("more bytes")));
}

#[test]
fn the_copy_with_a_payload_wins_whatever_the_order_of_the_files() {
    let with = r#"{"insertId":"x","timestamp":"2025-09-16T00:00:00Z","severity":"ERROR","textPayload":"why"}"#;
    let without = r#"{"insertId":"x","timestamp":"2025-09-16T00:00:00Z","severity":"ERROR"}"#;
    let options = ReadOptions::default();
    let (kept, coverage, _) = read_with(&[bytes(with), bytes(without)], &options);
    assert_eq!(messages(&kept), ["why"]);
    assert_eq!(
        (coverage.duplicates, coverage.all.entries, coverage.all.without_payload),
        (1, 1, 0)
    );
    let (kept, coverage, _) = read_with(&[bytes(without), bytes(with)], &options);
    assert_eq!(messages(&kept), ["", "why"]);
    assert!(!kept[0].completes && kept[1].completes);
    assert_eq!((coverage.all.entries, coverage.all.without_payload), (1, 0));
}

#[test]
fn broken_records_are_counted_and_located_and_the_rest_is_read() {
    let good = |n: u32| {
        format!(
            r#"{{"insertId":"g{n}","timestamp":"2025-09-16T00:00:0{n}Z","textPayload":"m{n}"}}"#
        )
    };
    let broken = r#"{"insertId":"b","textPayload":"no end,"timestamp":5:}"#;
    let (kept, coverage, report) = of(format!("{}\n{broken}\n{}\n", good(1), good(2)));
    assert_eq!(messages(&kept), ["m1", "m2"]);
    assert_eq!(coverage.broken, 1);
    let place = report.files[0].located[0];
    assert_eq!((place.location.offset, place.why), (good(1).len() as u64 + 1, Why::Malformed));

    let (kept, coverage, report) = of(format!("[{},{broken},{}]", good(1), good(2)));
    assert_eq!(messages(&kept), ["m1", "m2"]);
    assert_eq!(
        (coverage.broken, report.files[0].located[0].location.offset),
        (1, good(1).len() as u64 + 2)
    );

    let (kept, coverage, _) = of(format!("[\n  {},\n  {broken}\n  ,\n  {}\n]", good(1), good(2)));
    assert_eq!(messages(&kept), ["m1", "m2"]);
    assert_eq!(coverage.broken, 1);

    let whole = format!("[{},{}]", good(1), good(2));
    let (kept, coverage, report) = of(&whole[..whole.len() - 10]);
    assert_eq!(messages(&kept), ["m1"]);
    assert_eq!((coverage.broken, report.files[0].located[0].why), (1, Why::Truncated));
}

#[test]
fn audit_entries_are_read_in_both_forms() {
    let payload = r#"{"@type":"type.googleapis.com/google.cloud.audit.AuditLog","methodName":"google.cloud.run.v1.Services.ReplaceService",
      "authenticationInfo":{"principalEmail":"bob@example.com"},"status":{"message":"Ready"}}"#.replace('\n', "");
    let (kept, ..) = of(format!(
        "{{\"timestamp\":\"2025-09-16T00:00:00Z\",\"protoPayload\":{payload}}}\n{{\"timestamp\":\"2025-09-16T00:00:01Z\",\"json_payload\":{payload}}}\n"
    ));
    for kept in &kept {
        assert_eq!(kept.payload, PayloadKind::Proto);
        let audit = (
            "b***@example.com".to_owned(),
            "google.cloud.run.v1.Services.ReplaceService".to_owned(),
        );
        assert_eq!(kept.audit, Some(audit));
        assert_eq!(kept.message, "Ready");
        assert_eq!(kept.log, LogName::AuditActivity);
    }
    assert_eq!(kept.len(), 2);
}

#[test]
fn test_results_are_entries_of_their_own_kind() {
    let (kept, coverage, report) = of(
        r#"<?xml version="1.0"?><testsuites><testsuite name="s"><testcase classname="c" name="ok" time="1"/>
      <testcase classname="c" name="bad"><failure message="assert 503 == 200 &amp; more">long
text</failure></testcase></testsuite></testsuites>"#,
    );
    assert_eq!(report.files[0].format, Format::Junit);
    assert_eq!(
        messages(&kept),
        ["c::ok: passed", "c::bad: failed: assert 503 == 200 & more: long\ntext"]
    );
    assert_eq!((kept[0].severity, kept[1].severity), (Severity::Info, Severity::Error));
    assert_eq!(coverage.test_results, 2);

    let (kept, ..) = of(
        r#"{"created":1.5,"summary":{"failed":1},"tests":[{"nodeid":"t.py::x","outcome":"failed","call":{"outcome":"failed","crash":{"message":"TimeoutError"},"longrepr":"trace"}}]}"#,
    );
    assert_eq!(messages(&kept), ["t.py::x: failed: TimeoutError: trace"]);
    assert_eq!(kept[0].origin, Origin::TestResult);

    let (kept, ..) = of(
        r#"[{"test_name":"t1","error_message":"HTTP 503"},{"test_name":"t2","error_message":"403"}]"#,
    );
    assert_eq!(messages(&kept), ["t1: HTTP 503", "t2: 403"]);
    assert_eq!((kept[0].origin, kept[0].severity), (Origin::TestResult, Severity::Error));
}

#[test]
fn hostile_input_is_survived() {
    let good = r#"{"timestamp":"1970-01-01T00:00:00Z","textPayload":"old"}
{"timestamp":"2262-04-11T23:47:16.854775807Z","textPayload":"far"}
"#;
    // A line of 100 MB, a depth bomb, NUL bytes, invalid UTF-8.
    let long = [b"{\"textPayload\":\"".to_vec(), vec![b'x'; 100 << 20], b"\"}\n".to_vec()].concat();
    let bomb = [b"{\"jsonPayload\":".to_vec(), b"{\"a\":".repeat(100_000), b"\n".to_vec()].concat();
    let odd = b"\0\0ERROR: \xff\xfe\0\n".to_vec();
    let (kept, coverage, report) = of([&long[..], &bomb, good.as_bytes(), &odd].concat());
    assert_eq!(messages(&kept), ["old", "far", "\0\0ERROR: \u{fffd}\u{fffd}\0"]);
    assert_eq!(kept[1].time.as_deref(), Some("2262-04-11T23:47:16.854775807Z"));
    assert_eq!(coverage.broken, 2);
    let why: Vec<_> = report.files[0].located.iter().map(|broken| broken.why).collect();
    assert_eq!(why, [Why::TooLong, Why::Malformed]);
    assert_eq!(coverage.all.window.unwrap().from, Timestamp::UNIX_EPOCH);

    let huge = [
        b"[{\"timestamp\":\"2025-09-16T00:00:00Z\",\"x\":[".to_vec(),
        b"1,".repeat(8 << 20),
        b"1]},{\"timestamp\":\"2025-09-16T00:00:00Z\",\"textPayload\":\"after\"}]".to_vec(),
    ]
    .concat();
    let (kept, coverage, _) = of(huge);
    assert_eq!((messages(&kept), coverage.broken), (vec!["after"], 1));
}

#[test]
fn directories_are_read_and_run_directories_are_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("sub/run")).unwrap();
    std::fs::write(dir.path().join("b.jsonl"), "{\"textPayload\":\"two\",\"insertId\":\"2\"}\n")
        .unwrap();
    std::fs::write(dir.path().join("a.jsonl"), "{\"textPayload\":\"one\",\"insertId\":\"1\"}\n")
        .unwrap();
    std::fs::write(dir.path().join(".hidden"), "x\n").unwrap();
    std::fs::write(dir.path().join("sub/run/journal.jsonl"), "{}\n").unwrap();
    let (kept, _, report) = read_with(&[Input::Path(dir.path().into())], &ReadOptions::default());
    assert_eq!(messages(&kept), ["one", "two"]);
    assert_eq!(report.run_dirs, [dir.path().join("sub/run")]);
    let missing =
        read(&[Input::Path("/nonexistent/x".into())], &ReadOptions::default(), Keep::default);
    assert!(missing.is_err());
}
