//! `shakedown doctor`: what this machine and this environment still need, and how to get it.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Result;
use serde::Serialize;
use shakedown_core::environment::Environment;
use shakedown_core::redact::sanitize;
use shakedown_core::{Registry, Tier};

use crate::args::DoctorArgs;
use crate::environment::{Loaded, load_environment};
use crate::{exit, output};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    /// Worth knowing; a run works without it.
    Note,
    /// A run cannot work without it.
    Missing,
    /// Cannot be found out here.
    Unavailable,
}

#[derive(Debug, Serialize)]
struct Line {
    what: &'static str,
    state: State,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

fn line(what: &'static str, state: State, detail: impl Into<String>) -> Line {
    Line { what, state, detail: detail.into(), fix: None }
}

impl Line {
    fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

pub(super) fn doctor(args: &DoctorArgs, registry: &Registry) -> Result<u8> {
    let loaded = load_environment(&args.environment, registry)?;
    let lines = examine(&loaded);
    let missing = lines.iter().any(|line| line.state == State::Missing);
    if args.json {
        output::json(&serde_json::json!({
            "schema": "shakedown.doctor/1",
            "environment": loaded.environment.identity.name,
            "checks": lines,
        }))?;
    } else {
        output::out(&render(&loaded, &lines));
    }
    Ok(if missing { exit::FINDINGS } else { exit::PASSED })
}

fn render(loaded: &Loaded, lines: &[Line]) -> String {
    let identity = &loaded.environment.identity;
    let mut text = format!(
        "{} ({}, project {}, seen from {})\n\n",
        identity.name,
        identity.tier.as_str(),
        identity.project,
        identity.vantage.as_str()
    );
    let width = lines.iter().map(|line| line.what.len()).max().unwrap_or(0);
    for line in lines {
        let mark = match line.state {
            State::Ok => "ok",
            State::Note => "note",
            State::Missing => "MISSING",
            State::Unavailable => "unknown",
        };
        text.push_str(&format!("{mark:>8}  {:width$}  {}\n", line.what, sanitize(&line.detail)));
        for fix in line.fix.iter().flat_map(|fix| fix.lines()) {
            text.push_str(&format!("{:>8}  {:width$}  -> {}\n", "", "", sanitize(fix)));
        }
    }
    let missing = lines.iter().filter(|line| line.state == State::Missing).count();
    text.push_str(&match missing {
        0 => "\nNothing is missing.\n".to_owned(),
        1 => "\nOne thing is missing; the arrow says how to get it.\n".to_owned(),
        n => format!("\n{n} things are missing; the arrows say how to get them.\n"),
    });
    loaded.redactor.redact(&text).into_owned()
}

fn examine(loaded: &Loaded) -> Vec<Line> {
    let environment = &loaded.environment;
    let mut lines = vec![line("shakedown", State::Ok, env!("CARGO_PKG_VERSION"))];
    lines.extend(loaded.notes.iter().map(|note| line("environment", State::Note, note)));
    if environment.identity.tier == Tier::Production {
        lines.push(line("tier", State::Note, "production is never probed: only doctor and plan"));
    }
    lines.push(clock());
    lines.extend(credentials(loaded));
    if let Some(path) = &environment.tls.ca_file {
        lines.push(match fs::metadata(path) {
            Ok(_) => line("extra root", State::Ok, path),
            Err(error) => line("extra root", State::Missing, format!("{path}: {error}"))
                .fix("correct tls.ca_file, or remove it to trust the system's roots alone"),
        });
    }
    if environment.identity.tier == Tier::Lab && environment.lab.dir.is_none() {
        lines.push(lab_requirements());
    } else {
        lines.extend(database(environment));
    }
    lines.push(results(environment));
    lines
}

fn clock() -> Line {
    let now = shakedown_core::clock::wall();
    let marker = Path::new("/run/systemd/timesync/synchronized");
    if marker.exists() {
        line("clock", State::Ok, format!("{now}, synchronised by systemd-timesyncd"))
    } else {
        line(
            "clock",
            State::Unavailable,
            format!("{now}; nothing here says whether it is synchronised"),
        )
        .fix("compare with `date -u` on another machine: log times are compared across clocks")
    }
}

fn credentials(loaded: &Loaded) -> Vec<Line> {
    let mut lines = Vec::new();
    let names: Vec<&str> = loaded.credentials.names().collect();
    if !names.is_empty() {
        lines.push(line("credentials", State::Ok, names.join(", ")));
    }
    let database = loaded.environment.database.as_ref().map(|database| &database.credential);
    for (name, remedy) in &loaded.missing {
        let lab = loaded.environment.identity.tier == Tier::Lab;
        let needed = database == Some(name) && !lab;
        let purpose = &loaded.environment.credentials[name].purpose;
        let state = if needed { State::Missing } else { State::Note };
        let detail = if purpose.is_empty() { name.clone() } else { format!("{name}: {purpose}") };
        lines.push(line("credentials", state, detail).fix(remedy));
    }
    lines
}

fn lab_requirements() -> Line {
    #[cfg(feature = "lab")]
    return match super::lab::server_binaries(None) {
        Ok(dir) => line("PostgreSQL server", State::Ok, dir.display().to_string()),
        Err(remedy) => line("PostgreSQL server", State::Missing, "no server binaries").fix(remedy),
    };
    #[cfg(not(feature = "lab"))]
    line("lab", State::Missing, "this binary was built without a lab")
        .fix("build with the default feature `lab`, or attach with --lab-dir")
}

fn database(environment: &Environment) -> Vec<Line> {
    let Some(database) = &environment.database else {
        return vec![line("database", State::Note, "the environment has no [database]")];
    };
    let Some(socket) = database.socket_path() else {
        let address = format!("{}:{}", database.host, database.port);
        return vec![line("database", State::Note, format!("dialled directly at {address}"))];
    };
    let mut lines = Vec::new();
    let instance = Path::new(&database.host)
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let start = format!(
        "start the Auth Proxy: cloud-sql-proxy --unix-socket {} {instance}",
        Path::new(&database.host).parent().unwrap_or(Path::new("/cloudsql")).display()
    );
    lines.push(match (Path::new(&socket).exists(), listener(&socket)) {
        (true, Listener::Process(who)) => {
            line("database socket", State::Ok, format!("{socket}, {who} listens"))
        }
        (true, Listener::Nobody) => {
            let detail = format!("{socket} exists, but nobody listens: its owner has died");
            line("database socket", State::Missing, detail).fix(start)
        }
        (true, Listener::Unknown(why)) => {
            let detail = format!("{socket} exists; who listens is unknown: {why}");
            line("database socket", State::Note, detail)
        }
        (false, _) => {
            line("database socket", State::Missing, format!("{socket} does not exist")).fix(start)
        }
    });
    lines.push(match find_program("cloud-sql-proxy") {
        Some(path) => line("cloud-sql-proxy", State::Ok, path.display().to_string()),
        None => {
            line("cloud-sql-proxy", State::Note, "not in PATH; needed where the proxy runs here")
                .fix("https://cloud.google.com/sql/docs/postgres/sql-proxy")
        }
    });
    lines
}

/// Who listens on a Unix socket.
enum Listener {
    Process(String),
    Nobody,
    Unknown(String),
}

/// Reads the kernel's table of Unix sockets; nothing is connected to.
fn listener(socket: &str) -> Listener {
    let Ok(table) = fs::read_to_string("/proc/net/unix") else {
        return Listener::Unknown("this system has no /proc/net/unix".into());
    };
    // Columns: Num RefCount Protocol Flags Type St Inode Path; flag 0x10000 means listening.
    let inode = table.lines().find_map(|row| {
        let columns: Vec<&str> = row.split_whitespace().collect();
        let &[_, _, _, flags, _, _, inode, path] = columns.as_slice() else { return None };
        (path == socket && flags == "00010000").then(|| inode.to_owned())
    });
    let Some(inode) = inode else { return Listener::Nobody };
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let descriptors = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        for descriptor in descriptors {
            if fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str()) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let pid = process.file_name().to_string_lossy().into_owned();
                return Listener::Process(format!("{} (pid {pid})", name.trim()));
            }
        }
    }
    Listener::Process("a process of another user".into())
}

fn results(environment: &Environment) -> Line {
    let dir = PathBuf::from(&environment.results.dir);
    let nearest = dir.ancestors().find(|path| path.exists());
    let nearest = nearest.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let read_only = fs::metadata(nearest).map(|data| data.permissions().readonly());
    match read_only {
        Ok(false) => line("results", State::Ok, dir.display().to_string()),
        _ => line("results", State::Missing, format!("{} cannot be written", nearest.display()))
            .fix("set results.dir, or give --results-dir"),
    }
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|path| path.is_file())
}
