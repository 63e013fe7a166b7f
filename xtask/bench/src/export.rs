//! A log export as Cloud Logging saves one: three services, one of them dying in its database phase.

use std::io::{BufWriter, Write as _};

use anyhow::Result;

/// Bytes of entries after which another start-up of the backend dies.
const BYTES_PER_DEATH: u64 = 4 << 20;

/// The start-up that dies: seconds after its begin, severity (`""`: absent, as on stdout), text.
const DEATH: [(u64, &str, &str); 13] = [
    (0, "", "[2026-03-02 10:00:00 +0000] [13] [INFO] Booting worker with pid: 14"),
    (1, "INFO", "DETERMINISTIC STARTUP SEQUENCE INITIATED"),
    (1, "INFO", " CYCLE:  PHASE TRANSITION  ->  INIT"),
    (1, "INFO", " CYCLE:  PHASE TRANSITION  ->  DEPENDENCIES"),
    (2, "INFO", " PASS:  PHASE COMPLETED: DEPENDENCIES (0.812s)"),
    (2, "INFO", " CYCLE:  PHASE TRANSITION  ->  DATABASE"),
    (
        12,
        "ERROR",
        "Failed to connect to Cloud SQL: socket \\\"/cloudsql/p:r:staging-db/.s.PGSQL.5432\\\" failed: server closed the connection unexpectedly",
    ),
    (12, "ERROR", " FAIL:  PHASE FAILED: DATABASE - Database initialization timeout after 25.0s"),
    (12, "CRITICAL", "DETERMINISTIC STARTUP SEQUENCE FAILED"),
    (12, "", "Application startup failed. Exiting."),
    (12, "", "[2026-03-02 10:00:12 +0000] [13] [ERROR] Worker (pid:14) exited with code 3"),
    (13, "", "[2026-03-02 10:00:13 +0000] [13] [ERROR] Reason: Worker failed to boot."),
    (13, "WARNING", "Container called exit(3)."),
];

/// Stands for a line of an ordinary day.
const ORDINARY: (u64, &str, &str) = (0, "", "");

/// How the entries are put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Lines,
    Array,
}

/// Writes about `bytes` bytes to standard output. The same arguments give the same bytes.
pub(crate) fn write(shape: Shape, bytes: u64) -> Result<()> {
    let mut export = Export { random: 0x1278, entries: 0, line: String::new() };
    let mut out = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
    let (open, between, close) = match shape {
        Shape::Lines => ("", "\n", "\n"),
        Shape::Array => ("[\n", ",\n", "\n]\n"),
    };
    out.write_all(open.as_bytes())?;
    let (mut written, mut deaths) = (0, 0);
    while written < bytes {
        let death = written >= deaths * BYTES_PER_DEATH;
        deaths += u64::from(death);
        for line in if death { &DEATH[..] } else { &[ORDINARY] } {
            if export.entries > 0 {
                out.write_all(between.as_bytes())?;
            }
            if *line == ORDINARY {
                export.ordinary()
            } else {
                export.death(*line)
            }
            out.write_all(export.line.as_bytes())?;
            written += export.line.len() as u64 + 2;
        }
    }
    out.write_all(close.as_bytes())?;
    Ok(out.flush()?)
}

struct Export {
    random: u64,
    entries: u64,
    /// The entry made last.
    line: String,
}

impl Export {
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// One entry; its time is that of its place, 50 a second, `later` seconds on.
    fn entry(&mut self, service: &str, severity: &str, later: u64, payload: &str) {
        use std::fmt::Write as _;
        let (seconds, id) = (self.entries / 50 + later, self.draw());
        let (day, hour, minute) =
            (seconds / 86_400 % 28 + 1, seconds / 3600 % 24, seconds / 60 % 60);
        let (second, nanos) = (seconds % 60, self.entries % 50 * 20_000_000);
        let severity = match severity {
            "" => String::new(),
            severity => format!("\"severity\":\"{severity}\","),
        };
        self.entries += 1;
        self.line.clear();
        write!(
            self.line,
            "{{\"insertId\":\"69a56{id:016x}\",{payload},\"labels\":{{\"instanceId\":\
             \"0069c7a988c0ffee{instance:04x}\",\"run.googleapis.com/base_image_versions\":\"\"}},\
             \"logName\":\"projects/shakedown-bench/logs/run.googleapis.com%2Fstderr\",\
             \"receiveTimestamp\":\"2026-03-{day:02}T{hour:02}:{minute:02}:{second:02}.999999999Z\",\
             \"resource\":{{\"labels\":{{\"configuration_name\":\"{service}\",\"location\":\
             \"us-central1\",\"project_id\":\"shakedown-bench\",\"revision_name\":\
             \"{service}-00712-kkr\",\"service_name\":\"{service}\"}},\"type\":\
             \"cloud_run_revision\"}},{severity}\"timestamp\":\
             \"2026-03-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z\"}}",
            instance = id % 5,
        )
        .expect("a String takes everything");
    }

    fn death(&mut self, (later, severity, text): (u64, &str, &str)) {
        self.entry("backend-staging", severity, later, &format!("\"textPayload\":\"{text}\""));
    }

    /// What a service says all day; every text carries something that never comes again.
    fn ordinary(&mut self) {
        let id = self.draw();
        let service = ["backend-staging", "auth-staging", "frontend-staging"][(id % 3) as usize];
        let (severity, payload) = match id >> 8 & 7 {
            0 => (
                "INFO",
                format!(
                    "\"httpRequest\":{{\"latency\":\"0.{:09}s\",\"requestMethod\":\"GET\",\
                     \"requestSize\":\"412\",\"requestUrl\":\"https://api.staging.test/threads/{id}\",\
                     \"responseSize\":\"1873\",\"status\":200,\"userAgent\":\"Mozilla/5.0\"}}",
                    id % 1_000_000_000
                ),
            ),
            1 | 2 => (
                "DEBUG",
                format!(
                    "\"jsonPayload\":{{\"message\":\"cache hit for session {id:x} in {} ms\",\
                     \"labels\":{{\"function\":\"get\",\"line\":\"118\",\"module\":\"app.cache\"}}}}",
                    id % 90
                ),
            ),
            3 => (
                "WARNING",
                format!("\"textPayload\":\"slow query ({} ms): select from threads\"", id % 5000),
            ),
            4 => (
                "",
                format!(
                    "\"textPayload\":\"2026-03-02 10:00:00.000 | INFO     | app.routes:list:{} | \
                     \\u001b[32mserved user {id:x}\\u001b[0m\"",
                    id % 400
                ),
            ),
            _ => (
                "INFO",
                format!("\"textPayload\":\"request {id:016x} done: 200 in {} ms\"", id % 400),
            ),
        };
        self.entry(service, severity, 0, &payload);
    }
}
