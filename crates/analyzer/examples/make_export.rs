//! Writes a log export of a given size to standard output, for measuring.
//!
//! `cargo run --release -p shakedown-analyzer --example make_export -- FORM MEGABYTES [SEED]` with
//! FORM one of `jsonl`, `array` (indented as `gcloud --format=json` does) and `compact`.

use std::error::Error;
use std::io::{self, BufWriter, Write};

use serde_json::{Value, json};

/// Numbers that look random and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 16
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

const SERVICES: [&str; 3] = ["shop-backend", "shop-auth", "shop-frontend"];

fn entry(n: u64, numbers: &mut Numbers) -> Value {
    let micros = n * 1_700 + numbers.below(900);
    let at = jiff::Timestamp::from_microsecond(1_757_970_000_000_000 + micros as i64)
        .unwrap_or_default()
        .to_string();
    let service = SERVICES[numbers.below(3) as usize];
    let instance = format!("0069c7a988{:0150x}", numbers.below(12) * 0x9e37_79b9_7f4a);
    let mut entry = json!({
        "insertId": format!("68c8b2{:018x}", numbers.next() << 8 | n & 0xff),
        "labels": {"instanceId": instance, "vpc-connectivity": "enabled"},
        "receiveTimestamp": at,
        "resource": {
            "labels": {
                "configuration_name": service, "location": "us-central1", "project_id": "shop",
                "revision_name": format!("{service}-00{}-kkr", 700 + numbers.below(4)),
                "service_name": service,
            },
            "type": "cloud_run_revision",
        },
        "timestamp": at,
    });
    let log = |name: &str| Value::from(format!("projects/shop/logs/run.googleapis.com%2F{name}"));
    match numbers.below(10) {
        0..4 => {
            let ms = numbers.below(9000) as f64 / 100.0;
            let status = [200, 200, 200, 304, 404, 503][numbers.below(6) as usize];
            entry["jsonPayload"] = json!({
                "context": {"name": "api", "service": service},
                "labels": {"function": "log_request", "line": "79", "module": "shop.core.context"},
                "message": format!("Request: GET /api/items/{} | Status: {status} | Duration: {ms}ms", numbers.below(100_000)),
                "timestamp": at,
            });
            entry["severity"] = if status == 503 { "ERROR".into() } else { "INFO".into() };
            entry["logName"] = log("stderr");
        }
        4..7 => {
            entry["textPayload"] =
                format!("169.254.169.126:{} - \"GET /health HTTP/1.1\" 200", numbers.below(60_000))
                    .into();
            entry["logName"] = log("stdout");
        }
        7..9 => {
            entry["httpRequest"] = json!({
                "latency": format!("0.{:09}s", numbers.below(1_000_000_000)), "protocol": "HTTP/1.1",
                "remoteIp": "203.0.113.7", "requestMethod": "GET", "requestSize": "302",
                "requestUrl": format!("https://shop.example/api/items/{}", numbers.below(100_000)),
                "responseSize": "8998", "status": 200, "userAgent": "curl/8.9.0",
            });
            entry["severity"] = "INFO".into();
            entry["logName"] = log("requests");
        }
        _ => {
            entry["textPayload"] = format!(
                "Traceback (most recent call last):\n  File \"/app/shop/db.py\", line {}, in connect\n    await pool.acquire()\nsqlalchemy.exc.TimeoutError: QueuePool limit of size 20 overflow 5 reached, connection timed out, timeout 30.00",
                numbers.below(400)
            )
            .into();
            entry["severity"] = "ERROR".into();
            entry["logName"] = log("stderr");
        }
    }
    entry
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let form = args.next().ok_or("which form: jsonl, array or compact")?;
    let size = args.next().ok_or("how many megabytes")?.parse::<usize>()? * 1_000_000;
    let mut numbers = Numbers(args.next().map_or(Ok(1), |seed| seed.parse())?);
    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let (mut written, mut n) = (0, 0);
    if form != "jsonl" {
        out.write_all(b"[")?;
    }
    while written < size {
        let entry = entry(n, &mut numbers);
        let text = match &*form {
            "array" => {
                let comma = if n > 0 { "," } else { "" };
                format!("{comma}\n{}", serde_json::to_string_pretty(&entry)?).replace('\n', "\n  ")
            }
            "compact" => format!("{}{entry}", if n > 0 { "," } else { "" }),
            _ => format!("{entry}\n"),
        };
        out.write_all(text.as_bytes())?;
        written += text.len();
        n += 1;
    }
    if form != "jsonl" {
        out.write_all(b"\n]\n")?;
    }
    out.flush()?;
    Ok(())
}
