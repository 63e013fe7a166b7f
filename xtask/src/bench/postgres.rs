//! The ladder to PostgreSQL beside libpq.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use super::Setting;
use super::page::{Section, Target};
use super::program::{Server, json, number, text, version};
use super::stats::paired;
use crate::shell;

/// Connections a measurement makes: half a second's worth.
const CONNECTS: &str = "500";

const ABOUT: &str = "\
Connect over TCP, `select 1`, say goodbye and wait until the server has closed its end, 500 times,
one at a time (c=1) and five at a time (c=5), on a PostgreSQL of this machine with `fsync = off`. Ours
is one thread and times every rung; libpq is a C program with a thread for each of the five. Processor
time is the client's own. The server's start of a backend is most of the wall time. With SCRAM both
spend theirs on 4,096 rounds of SHA-256.";

pub(crate) fn run(setting: &Setting) -> Result<Section> {
    let mut section = Section::new("The ladder to PostgreSQL", ABOUT, setting.rounds);
    let (_server, told) = Server::told(Command::new(&setting.bench).arg("pg-serve"))?;
    let libpq = match compile(setting.scratch()) {
        Ok((program, said)) => {
            section.version(format!("libpq of {said}"));
            Some(program)
        }
        Err(error) => {
            let error = format!("{error:#}");
            let line = error.lines().next().unwrap_or_default();
            section.skip("libpq", &format!("its client could not be compiled ({line})"));
            None
        }
    };
    let port = number(&told, "port")?.to_string();
    for auth in ["trust", "scram"] {
        for at_once in ["1", "5"] {
            let role = &told[auth];
            let [mut ours_cpu, mut ours_wall, mut cpu, mut wall] = [const { vec![] }; 4];
            for _ in 0..setting.rounds {
                let said = ours(setting, &port, role, at_once)?;
                ours_cpu.push(number(&said, "cpu_us")?);
                ours_wall.push(number(&said, "wall_us")?);
                if let Some(libpq) = &libpq {
                    let said = theirs(libpq, &port, role, at_once)?;
                    cpu.push(number(&said, "cpu_us")?);
                    wall.push(number(&said, "wall_us")?);
                }
            }
            let what = format!("{auth}, c={at_once}");
            section.row(format!("{what}: shakedown, processor"), &ours_cpu, "us", Target::None);
            section.row(format!("{what}: shakedown, wall"), &ours_wall, "us", Target::None);
            if libpq.is_some() {
                let ratio = |ours: &[f64], theirs: &[f64]| paired(ours, theirs, |o, t| o / t);
                section.row(format!("{what}: libpq, processor"), &cpu, "us", Target::None);
                section.row(format!("{what}: libpq, wall"), &wall, "us", Target::None);
                let name = format!("{what}: processor, shakedown / libpq");
                section.row(name, &ratio(&ours_cpu, &cpu), "", Target::AtMost(1.25));
                let name = format!("{what}: wall, shakedown / libpq");
                section.row(name, &ratio(&ours_wall, &wall), "", Target::NotAbove(1.05));
            }
        }
    }
    Ok(section)
}

fn ours(setting: &Setting, port: &str, role: &Value, at_once: &str) -> Result<Value> {
    let mut command = Command::new(&setting.bench);
    command.args(["pg-connect", port, text(role, "database")?, text(role, "user")?]);
    json(command.args([text(role, "password")?, CONNECTS, at_once]))
}

fn theirs(libpq: &Path, port: &str, role: &Value, at_once: &str) -> Result<Value> {
    // The settings the ladder sends as well.
    let conninfo = format!(
        "host=127.0.0.1 port={port} dbname={} user={} password='{}' sslmode=disable \
         gssencmode=disable application_name=bench options='-c default_transaction_read_only=on -c \
         statement_timeout=10000 -c lock_timeout=5000 -c idle_in_transaction_session_timeout=10000'",
        text(role, "database")?,
        text(role, "user")?,
        text(role, "password")?,
    );
    json(Command::new(libpq).args([conninfo.as_str(), CONNECTS, at_once]))
}

/// The client, compiled, and what it is linked with.
fn compile(dir: &Path) -> Result<(PathBuf, String)> {
    let config = |flag| shell::output(Command::new("pg_config").arg(flag));
    let (include, lib) = (config("--includedir")?, config("--libdir")?);
    let program = dir.join("libpq");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/libpq.c");
    let mut command = Command::new("cc");
    command.args(["-O2", "-Wall", "-pthread", "-o"]).arg(&program).arg(source);
    command.arg(format!("-I{}", include.trim())).arg(format!("-L{}", lib.trim())).arg("-lpq");
    shell::output(&mut command)?;
    Ok((program, version(Command::new("pg_config").arg("--version"))))
}
