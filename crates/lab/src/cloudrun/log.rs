//! Cloud Logging as an export has it: `LAB_DIR/logs/SERVICE.jsonl`, one `LogEntry` per line.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use shakedown_core::clock;

use crate::random;

/// All services' logs.
#[derive(Debug)]
pub(crate) struct CloudLog {
    folder: PathBuf,
    project: String,
    region: String,
    files: Mutex<HashMap<String, File>>,
}

/// Whose entry it is. Empty names are left out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin<'a> {
    pub(crate) service: &'a str,
    pub(crate) revision: &'a str,
    pub(crate) instance: &'a str,
}

/// Which of a container's streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Output,
    Errors,
}

/// A request, as the load balancer saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) service: &'static str,
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) user_agent: String,
    pub(crate) status: u16,
    pub(crate) latency: Duration,
    /// What the platform says when it, not the service, answered.
    pub(crate) words: Option<&'static str>,
}

impl CloudLog {
    /// Logs into files of `folder`.
    pub(crate) fn new(folder: PathBuf, project: &str, region: &str) -> Self {
        let files = Mutex::default();
        Self { folder, project: project.into(), region: region.into(), files }
    }

    /// Where a service's entries are.
    pub(crate) fn path(&self, service: &str) -> PathBuf {
        self.folder.join(format!("{service}.jsonl"))
    }

    /// What a container wrote: a JSON object becomes `jsonPayload`, anything else `textPayload`
    /// without a severity, as Cloud Run does it.
    pub(crate) fn container(&self, origin: Origin<'_>, stream: Stream, line: &str) {
        let mut entry = Map::new();
        // Cloud Run takes an entry's time from its container, where it says one.
        let mut time = None;
        match serde_json::from_str(line) {
            Ok(Value::Object(mut payload)) => {
                if let Some(severity) = payload.remove("severity") {
                    entry.insert("severity".into(), severity);
                }
                time = payload.get("timestamp").and_then(Value::as_str).map(str::to_owned);
                entry.insert("jsonPayload".into(), payload.into());
            }
            _ => {
                entry.insert("textPayload".into(), line.into());
            }
        }
        if let Some(time) = time {
            entry.insert("timestamp".into(), time.into());
        }
        let log = match stream {
            Stream::Output => "run.googleapis.com%2Fstdout",
            Stream::Errors => "run.googleapis.com%2Fstderr",
        };
        self.write(origin, log, entry);
    }

    /// What the platform says about an instance.
    pub(crate) fn system(&self, origin: Origin<'_>, severity: &str, text: &str) {
        let mut entry = Map::new();
        entry.insert("severity".into(), severity.into());
        entry.insert("textPayload".into(), text.into());
        self.write(origin, "run.googleapis.com%2Fvarlog%2Fsystem", entry);
    }

    /// A request.
    pub(crate) fn request(&self, origin: Origin<'_>, seen: &Seen) {
        let severity = match seen.status {
            500.. => "ERROR",
            400.. => "WARNING",
            _ => "INFO",
        };
        let request = json!({
            "requestMethod": seen.method,
            "requestUrl": seen.url,
            "status": seen.status,
            "userAgent": seen.user_agent,
            "latency": format!("{:.9}s", seen.latency.as_secs_f64()),
            "protocol": "HTTP/1.1",
            "remoteIp": "127.0.0.1",
        });
        let mut entry = Map::new();
        entry.insert("severity".into(), severity.into());
        entry.insert("httpRequest".into(), request);
        if let Some(words) = seen.words {
            entry.insert("textPayload".into(), words.into());
        }
        self.write(origin, "run.googleapis.com%2Frequests", entry);
    }

    /// An entry of the audit log.
    pub(crate) fn audit(&self, origin: Origin<'_>, severity: &str, payload: Value) {
        let log = if severity == "NOTICE" {
            "cloudaudit.googleapis.com%2Factivity"
        } else {
            "cloudaudit.googleapis.com%2Fsystem_event"
        };
        let mut entry = Map::new();
        entry.insert("severity".into(), severity.into());
        entry.insert("protoPayload".into(), payload);
        self.write(origin, log, entry);
    }

    fn write(&self, origin: Origin<'_>, log: &str, mut entry: Map<String, Value>) {
        let now = clock::wall().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let project = &self.project;
        entry.insert("insertId".into(), random::hex(10).unwrap_or_default().into());
        entry.insert("logName".into(), format!("projects/{project}/logs/{log}").into());
        entry.entry("timestamp").or_insert_with(|| now.clone().into());
        entry.insert("receiveTimestamp".into(), now.into());
        entry.insert(
            "resource".into(),
            json!({ "type": "cloud_run_revision", "labels": {
                "project_id": project,
                "location": self.region,
                "service_name": origin.service,
                "configuration_name": origin.service,
                "revision_name": origin.revision,
            }}),
        );
        if !origin.instance.is_empty() {
            entry.insert("labels".into(), json!({ "instanceId": origin.instance }));
        }
        let mut line = Value::Object(entry).to_string();
        line.push('\n');
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(origin.service);
        let file = match files.entry(origin.service.to_owned()) {
            std::collections::hash_map::Entry::Occupied(file) => file.into_mut(),
            std::collections::hash_map::Entry::Vacant(place) => {
                match File::options().append(true).create(true).open(path) {
                    Ok(file) => place.insert(file),
                    // A full disk must not end the lab.
                    Err(_) => return,
                }
            }
        };
        let _ = file.write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_entry_is_one_line_of_its_service() {
        let folder = tempfile::tempdir().unwrap();
        let log = CloudLog::new(folder.path().into(), "p", "r");
        let origin = Origin { service: "backend", revision: "backend-00001-lab", instance: "0069" };
        log.container(origin, Stream::Output, "{\"severity\":\"ERROR\",\"message\":\"m\"}");
        log.container(origin, Stream::Errors, "[12] plain");
        log.system(origin, "WARNING", "Container called exit(3).");
        let seen = Seen {
            service: "backend",
            method: "GET".into(),
            url: "https://backend.lab.shakedown.test/health".into(),
            user_agent: "test".into(),
            status: 503,
            latency: Duration::from_millis(14),
            words: Some("The request failed"),
        };
        log.request(origin, &seen);
        log.audit(Origin { service: "backend", ..Origin::default() }, "NOTICE", json!({}));
        let text = std::fs::read_to_string(log.path("backend")).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["severity"], "ERROR");
        assert_eq!(lines[0]["jsonPayload"], json!({ "message": "m" }));
        assert_eq!(lines[1]["textPayload"], "[12] plain");
        assert_eq!(lines[1].get("severity"), None);
        assert_eq!(lines[1]["logName"], "projects/p/logs/run.googleapis.com%2Fstderr");
        assert_eq!(lines[2]["labels"]["instanceId"], "0069");
        assert_eq!(lines[3]["httpRequest"]["latency"], "0.014000000s");
        assert_eq!(lines[4]["logName"], "projects/p/logs/cloudaudit.googleapis.com%2Factivity");
        assert_eq!(lines.len(), 5);
    }
}
