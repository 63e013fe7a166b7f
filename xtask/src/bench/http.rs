//! HTTP probes beside prometheus-blackbox-exporter.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Setting;
use super::page::{Section, Target};
use super::program::{Server, free_port, json, number, text, version};
use super::stats::paired;
use crate::processes::Process;

/// Probes a measurement makes: enough for the hundredths of a second in which the system counts
/// another process's time.
const PROBES: u32 = 1000;

const ABOUT: &str = "\
Processor time of one probe, 1,000 probes one at a time, against a server of this machine that
answers 200: resolve, connect, for https a full handshake with the certificate verified and read,
status and body. The blackbox exporter (`module: http_2xx`) is asked as Prometheus asks it, at
`/probe?target=..`; its time includes reading that request and writing the metrics, as ours would
include a journal line.";

pub(crate) fn run(setting: &Setting) -> Result<Section> {
    let mut section = Section::new("HTTP probes", ABOUT, setting.rounds);
    let dir = setting.scratch();
    let (_server, told) = Server::told(Command::new(&setting.bench).arg("http-serve").arg(dir))?;
    let exporter = match setting.find("prometheus-blackbox-exporter") {
        Some(program) => {
            section.version(version(Command::new(&program).arg("--version")));
            let config = dir.join("blackbox.yml");
            fs::write(&config, modules(text(&told, "ca")?))?;
            let port = free_port()?;
            let mut command = Command::new(program);
            command.arg(format!("--config.file={}", config.display()));
            command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
            Some((Server::on_port(&mut command, port)?, port))
        }
        None => {
            section.skip("prometheus-blackbox-exporter", "not installed");
            None
        }
    };
    for (scheme, most) in [("http", 1.0 / 6.0), ("https", 1.0 / 2.0)] {
        let url = text(&told, scheme)?;
        let (mut ours, mut theirs) = (vec![], vec![]);
        for _ in 0..setting.rounds {
            let mut command = Command::new(&setting.bench);
            command.args(["http-probe", url, text(&told, "ca")?, &PROBES.to_string()]);
            ours.push(number(&json(&mut command)?, "cpu_us")?);
            if let Some((exporter, port)) = &exporter {
                theirs.push(ask(exporter.process(), *port, url)?);
            }
        }
        section.row(format!("{scheme}: shakedown"), &ours, "us", Target::None);
        if exporter.is_some() {
            section.row(format!("{scheme}: blackbox exporter"), &theirs, "us", Target::None);
            let ratio = paired(&ours, &theirs, |ours, theirs| ours / theirs);
            let name = format!("{scheme}: shakedown / blackbox exporter");
            section.row(name, &ratio, "", Target::AtMost(most));
        }
    }
    Ok(section)
}

fn modules(ca: &str) -> String {
    format!(
        "modules:\n  http_2xx:\n    prober: http\n    timeout: 5s\n    http:\n      \
         preferred_ip_protocol: ip4\n      tls_config:\n        ca_file: {ca}\n"
    )
}

/// Has the exporter probe `url`; its processor time for one probe, in microseconds.
fn ask(exporter: Process, port: u16, url: &str) -> Result<f64> {
    // On one connection kept open, so that the exporter serves no more connections than it must.
    let mut asker = Asker::connect(port)?;
    asker.ask(url)?;
    let before = exporter.cpu_us().context("the exporter is gone")?;
    for _ in 0..PROBES {
        asker.ask(url)?;
    }
    let used = exporter.cpu_us().context("the exporter is gone")? - before;
    Ok(used / f64::from(PROBES))
}

/// An HTTP client for one server, which sends lengths.
struct Asker {
    reader: std::io::BufReader<std::net::TcpStream>,
}

impl Asker {
    #[expect(clippy::disallowed_methods, reason = "asks a peer on this machine, no target")]
    fn connect(port: u16) -> Result<Self> {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: std::io::BufReader::new(stream) })
    }

    fn ask(&mut self, target: &str) -> Result<()> {
        use std::io::{BufRead as _, Read as _, Write as _};
        let request = format!(
            "GET /probe?module=http_2xx&target={target} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        );
        self.reader.get_mut().write_all(request.as_bytes())?;
        let (mut length, mut line) = (None, String::new());
        while line != "\r\n" {
            line.clear();
            ensure!(self.reader.read_line(&mut line)? > 0, "the exporter closed the connection");
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = Some(value.trim().parse::<usize>()?);
            }
        }
        let body = match length {
            Some(length) => {
                let mut body = vec![0; length];
                self.reader.read_exact(&mut body)?;
                String::from_utf8_lossy(&body).into_owned()
            }
            None => self.chunks()?,
        };
        ensure!(body.contains("\nprobe_success 1\n"), "the exporter's probe failed:\n{body}");
        Ok(())
    }

    fn chunks(&mut self) -> Result<String> {
        use std::io::{BufRead as _, Read as _};
        let mut body = Vec::new();
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16)?;
            let mut chunk = vec![0; length + 2];
            self.reader.read_exact(&mut chunk)?;
            body.extend_from_slice(&chunk[..length]);
            if length == 0 {
                return Ok(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }
}
