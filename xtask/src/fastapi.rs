//! `cargo xtask fastapi`: the virtual environment of `apps/fastapi`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::shell;

/// What the application runs under.
pub(crate) const SERVERS: [&str; 2] = ["gunicorn", "uvicorn"];
/// The exit code where it cannot be made on this machine.
const MISSING: u8 = 2;

/// Make the virtual environment of apps/fastapi, and the programs that start it
///
/// Once for every `requirements.txt`, in the target folder. The programs are for
/// `shakedown lab up --backend PROGRAM`.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 made, 2 not to be made on this machine (no python3, no venv, no package index)")]
pub(crate) struct Fastapi {}

impl Fastapi {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match prepare()? {
            Ok(folder) => {
                for server in SERVERS {
                    println!("{}", folder.join(server).display());
                }
                Ok(ExitCode::SUCCESS)
            }
            Err(missing) => {
                eprintln!("apps/fastapi cannot be run here: {missing}");
                Ok(ExitCode::from(MISSING))
            }
        }
    }
}

/// The folder with a program for each of [`SERVERS`], or what is missing on this machine.
pub(crate) fn prepare() -> Result<Result<PathBuf, String>> {
    let app = shell::root().join("apps/fastapi");
    let folder = shell::target_dir().join("fastapi");
    let requirements = app.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements).context("apps/fastapi/requirements.txt")?;
    let made = folder.join("made-of.txt");
    if fs::read_to_string(&made).is_ok_and(|of| of == wanted) {
        return Ok(Ok(folder));
    }
    let venv = folder.join("venv");
    fs::create_dir_all(&folder).context("cannot make a folder")?;
    let mut create = Command::new("python3");
    create.args(["-m", "venv", "--clear"]).arg(&venv);
    if let Err(why) = tried(&mut create) {
        return Ok(Err(format!("install python3 and python3-venv ({why})")));
    }
    let python = venv.join("bin/python");
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(&requirements);
    if let Err(why) = tried(&mut install) {
        return Ok(Err(format!("pip cannot install apps/fastapi/requirements.txt ({why})")));
    }
    for server in SERVERS {
        write_program(&folder.join(server), &python, &app.join("start.sh"), server)?;
    }
    fs::write(&made, wanted).context("cannot write into the target folder")?;
    Ok(Ok(folder))
}

fn write_program(program: &Path, python: &Path, start: &Path, server: &str) -> Result<()> {
    let quoted = |path: &Path| format!("'{}'", path.display().to_string().replace('\'', r"'\''"));
    let text = format!("#!/bin/sh\nPYTHON={} exec {} {server}\n", quoted(python), quoted(start));
    fs::write(program, text)
        .and_then(|()| fs::set_permissions(program, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", program.display()))
}

/// Runs it to its end; the last line of what it said when that is not well.
fn tried(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stderr, output.stdout].concat();
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(line.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned()))
}
