//! What must hold for any input: no panic, the same entries however it is divided, and the same as
//! a plain reading of the JSON.

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use shakedown_analyzer::coverage::Coverage;
use shakedown_analyzer::entry::{Entry, EntrySink, Severity};
use shakedown_analyzer::read::{Input, ReadOptions, read};

#[derive(Clone, Debug, PartialEq)]
struct Kept {
    offset: u64,
    time: Option<Timestamp>,
    severity: Severity,
    strings: [String; 5],
    template: u64,
    completes: bool,
}

#[derive(Default)]
struct Keep(Vec<Kept>);

impl EntrySink for Keep {
    fn entry(&mut self, entry: &Entry<'_>) {
        let strings =
            [entry.service, entry.revision, entry.instance, entry.insert_id, &entry.message];
        self.0.push(Kept {
            offset: entry.location.offset,
            time: entry.time,
            severity: entry.severity,
            strings: strings.map(str::to_owned),
            template: entry.template,
            completes: entry.completes,
        });
    }

    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

fn read_all(data: &[u8], block: usize, threads: usize) -> (Vec<Kept>, Coverage, Vec<u64>) {
    let options = ReadOptions { block, threads, ..ReadOptions::default() };
    let input = Input::Bytes("x".to_owned(), data.into());
    let (mut keep, coverage, report) = read(&[input], &options, Keep::default).unwrap();
    keep.0.sort_by_key(|kept| kept.offset);
    let located = report.files[0].located.iter().map(|broken| broken.location.offset).collect();
    (keep.0, coverage, located)
}

/// The head of a file decides its format, so blocks are never smaller than it.
fn same_however_divided(data: &[u8], block: usize) -> Result<(), TestCaseError> {
    let (whole, coverage, located) = read_all(data, data.len() + 64, 1);
    for threads in [1, 3] {
        let (divided, other, other_located) = read_all(data, block, threads);
        prop_assert_eq!(&divided, &whole);
        prop_assert_eq!(&other, &coverage);
        prop_assert_eq!(&other_located, &located);
    }
    Ok(())
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,60}",
        any::<String>(),
        Just(
            "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'x'".to_owned()
        ),
        Just("},{\"insertId\":\"fake\"},{\"timestamp\":\"x\"".to_owned()),
        Just(
            "[2025-09-16 00:41:13 +0000] [14] [ERROR] it failed \u{1b}[31mhere\u{1b}[0m".to_owned()
        ),
    ]
}

fn entry() -> impl Strategy<Value = Value> {
    let payload = prop_oneof![
        text().prop_map(|text| json!({"textPayload": text})),
        (text(), prop::option::of(text())).prop_map(|(message, value)| {
            json!({"jsonPayload": {"labels": {"a": [1, {"b": []}]}, "message": message, "error": {"type": "E", "value": value}}})
        }),
        Just(json!({"httpRequest": {"status": 503, "requestUrl": "https://x/y?z"}})),
        Just(json!({})),
    ];
    let severity =
        prop::option::of(prop::sample::select(vec!["INFO", "ERROR", "WARNING", "NOTICE"]));
    (0u32..40, 0i64..4_000_000_000, severity, payload, "[a-c]").prop_map(
        |(id, micros, severity, payload, service)| {
            let time = Timestamp::from_microsecond(micros * 1000).unwrap().to_string();
            let mut entry = json!({
                "insertId": format!("id{id}"), "timestamp": time,
                "labels": {"instanceId": "i", "x": "y"},
                "resource": {"type": "t", "labels": {"service_name": service, "revision_name": "r"}},
            });
            let map = entry.as_object_mut().unwrap();
            map.extend(payload.as_object().unwrap().clone());
            if let Some(severity) = severity {
                map.insert("severity".to_owned(), severity.into());
            }
            entry
        },
    )
}

#[derive(Clone, Copy, Debug)]
enum Form {
    Lines,
    Compact,
    Pretty,
    Wrapped,
}

fn write(entries: &[Value], form: Form) -> String {
    match form {
        Form::Lines => entries.iter().map(|entry| format!("{entry}\n")).collect(),
        Form::Compact => Value::from(entries.to_vec()).to_string(),
        Form::Pretty => serde_json::to_string_pretty(entries).unwrap(),
        Form::Wrapped => serde_json::to_string_pretty(&json!({
            "summary": {"counts": [1, 2]}, "raw_logs": entries, "after": {"a": 1},
        }))
        .unwrap(),
    }
}

fn form() -> impl Strategy<Value = Form> {
    prop::sample::select(vec![Form::Lines, Form::Compact, Form::Pretty, Form::Wrapped])
}

/// What a plain reading of an entry says: time, service, id, and the words its message must hold.
fn plain(entry: &Map<String, Value>) -> (Option<Timestamp>, String, String, String) {
    let text = |path: &str| {
        let value = entry.get(path.split('/').next().unwrap()).unwrap_or(&Value::Null);
        let rest = path.split_once('/').map_or(String::new(), |(_, rest)| format!("/{rest}"));
        value.pointer(&rest).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let message = match text("textPayload") {
        text if !text.is_empty() => text,
        _ => text_of_json(entry),
    };
    (
        text("timestamp").parse().ok(),
        text("resource/labels/service_name"),
        text("insertId"),
        message,
    )
}

fn text_of_json(entry: &Map<String, Value>) -> String {
    let Some(payload) = entry.get("jsonPayload") else { return String::new() };
    payload["message"].as_str().unwrap_or_default().to_owned()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn entries_are_what_a_plain_reading_of_the_json_says(
        entries in prop::collection::vec(entry(), 1..30), form in form(),
    ) {
        // Ids made distinct: duplicates are another test's.
        let entries: Vec<Value> = entries.into_iter().enumerate().map(|(n, mut entry)| {
            entry["insertId"] = format!("n{n}").into();
            entry
        }).collect();
        let (kept, coverage, _) = read_all(write(&entries, form).as_bytes(), 4096, 2);
        prop_assert_eq!(coverage.broken + coverage.not_entries, 0);
        prop_assert_eq!(kept.len(), entries.len());
        for (kept, entry) in kept.iter().zip(&entries) {
            let (time, service, id, message) = plain(entry.as_object().unwrap());
            prop_assert_eq!(kept.time, time);
            prop_assert_eq!(&kept.strings[0], &service);
            prop_assert_eq!(&kept.strings[3], &id);
            if !message.contains(['\u{1b}', '\\']) {
                prop_assert!(kept.strings[4].starts_with(&message), "{:?} {message:?}", kept.strings[4]);
            }
            if let Some(severity) = entry.get("severity").and_then(Value::as_str) {
                prop_assert_eq!(kept.severity.as_str(), severity);
            }
        }
    }

    #[test]
    fn any_division_into_blocks_gives_the_same_entries(
        entries in prop::collection::vec(entry(), 1..40), form in form(), block in 4096usize..9000,
    ) {
        same_however_divided(write(&entries, form).as_bytes(), block)?;
    }

    #[test]
    fn damaged_exports_give_the_same_entries_in_any_division(
        entries in prop::collection::vec(entry(), 8..40), form in form(), block in 4096usize..9000,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        end in any::<prop::sample::Index>(),
    ) {
        let mut data = write(&entries, form).into_bytes();
        for (at, byte) in damage {
            let at = at.index(data.len());
            // Not in the head: what kind of file it is must stay as clear as it was.
            if at > 4096 {
                data[at] = byte;
            }
        }
        data.truncate(data.len() - end.index(data.len()) / 4);
        read_all(&data, block, 2);
        same_however_divided(&data, block)?;
    }

    #[test]
    fn container_output_gives_the_same_entries_in_any_division(
        lines in prop::collection::vec(prop::sample::select(vec![
            "[2025-09-16 00:41:13 +0000] [14] [ERROR] Exception in worker process",
            "[2025-09-16 00:41:14 +0000] [14] [INFO] Booting worker",
            "Traceback (most recent call last):",
            "  File \"/app/a.py\", line 1, in x",
            "KeyError: 'a'",
            "",
            "During handling of the above exception, another exception occurred:",
            "INFO:     Started server process [1]",
            "{\"timestamp\":\"2025-09-16T00:00:00Z\",\"severity\":\"INFO\",\"message\":\"x\"}",
            "{\"timestamp\":\"2025-09-16T00:00:00Z\",\"severity\":",
            "{'python': 'dict'}",
            "2025-09-16T00:42:58.1Z stderr F   File \"x\"",
            "2025-09-16T00:42:58.1Z stderr F ValueError: x",
            "2025-09-16 00:42:58 ValueError: x",
            "web-1  | 2025-09-16 00:42:58,1 WARNING x: y",
            "plain words",
        ]), 1..400),
        block in 64usize..4000,
    ) {
        same_however_divided(format!("start\n{}", lines.join("\n")).as_bytes(), block)?;
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        data in prop::collection::vec(any::<u8>(), 0..2000), block in 64usize..500,
    ) {
        read_all(&data, block, 2);
    }

    #[test]
    fn arbitrary_json_like_text_never_panics(
        data in "[\\[\\]{}\",:\\\\ \n0-9a-c]{0,400}", prefix in prop::sample::select(vec!["", "[", "{\"raw_logs\":[", "{\"issues_by_severity\":{"]), block in 64usize..200,
    ) {
        read_all(format!("{prefix}{data}").as_bytes(), block, 2);
    }
}
