//! The backend's log: one line of standard output per entry.
//!
//! What the application logs is structured, as Cloud Logging reads it from a container's standard
//! output (`severity`, `message`, `timestamp`, `labels`, `error`); gunicorn and uvicorn's access log
//! write plain text.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use shakedown_core::clock;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// Where lines go. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<dyn Write + Send>>);

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

impl Log {
    pub(crate) fn new(out: impl Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(out)))
    }

    /// Information from a module, as `module.function` would log it.
    pub(crate) fn info(&self, module: &str, message: &str) {
        self.entry(Level::Info, module, message, None);
    }

    /// Something that is worth a look.
    pub(crate) fn warning(&self, module: &str, message: &str) {
        self.entry(Level::Warning, module, message, None);
    }

    /// Something that went wrong.
    pub(crate) fn error(&self, module: &str, message: &str) {
        self.entry(Level::Error, module, message, None);
    }

    /// An entry; `error` is the exception's type and text.
    pub(crate) fn entry(
        &self,
        level: Level,
        module: &str,
        message: &str,
        error: Option<(&str, &str)>,
    ) {
        let mut entry = json!({
            "severity": level.name(),
            "message": message,
            "timestamp": clock::wall().strftime("%Y-%m-%dT%H:%M:%S.%6f+00:00").to_string(),
            "labels": { "module": module },
        });
        if let Some((kind, value)) = error {
            entry["error"] = json!({ "type": kind, "value": value, "traceback": Value::Null });
        }
        self.line(&entry.to_string());
    }

    /// A line of gunicorn's own: `[2025-09-16 00:41:13 +0000] [14] [ERROR] text`.
    pub(crate) fn gunicorn(&self, pid: u32, level: Level, text: &str) {
        let now = clock::wall().strftime("%Y-%m-%d %H:%M:%S +0000");
        self.line(&format!("[{now}] [{pid}] [{}] {text}", level.name()));
    }

    /// A line as it is.
    pub(crate) fn line(&self, text: &str) {
        let mut out = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody listens any more: the process goes on, as one in a container would.
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A log that can be read back.
    #[derive(Debug, Clone, Default)]
    pub(crate) struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn entries_are_one_line_of_json_each() {
        let shared = Shared::default();
        let log = Log::new(shared.clone());
        log.entry(Level::Error, "app.smd", "a\nb", Some(("SomeError", "why")));
        log.gunicorn(13, Level::Error, "Reason: Worker failed to boot.");
        let text = shared.text();
        let lines: Vec<_> = text.lines().collect();
        let entry: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((&entry["severity"], &entry["message"]), (&json!("ERROR"), &json!("a\nb")));
        assert_eq!(entry["error"]["type"], "SomeError");
        assert!(lines[1].ends_with(" +0000] [13] [ERROR] Reason: Worker failed to boot."));
        assert_eq!(lines.len(), 2);
    }
}
