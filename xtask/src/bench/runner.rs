//! A run of 1,000 probes that do nothing, beside chaostoolkit and pytest.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use super::page::{Section, Target};
use super::program::{version, wall_ms};
use super::stats::paired;
use super::{Setting, program};

const PROBES: usize = 1000;

const ABOUT: &str = "\
A process from start to exit that runs 1,000 probes which do nothing and writes what a run leaves:
ours journal (one write per event, synced at the end of the phase and of the run), JSON and JUnit;
chaostoolkit its JSON journal (`chaos --no-version-check run --journal-path`); pytest JUnit
(`pytest -q -p no:cacheprovider --junitxml`, one parametrised test).";

pub(crate) fn run(setting: &Setting) -> Result<Section> {
    let mut section = Section::new("A run of 1,000 no-op probes", ABOUT, setting.rounds);
    let dir = setting.scratch().join("runner");
    fs::create_dir_all(&dir)?;
    let experiment = dir.join("experiment.json");
    fs::write(&experiment, experiment_text().to_string())?;
    let tests = "import pytest\n\n\n@pytest.mark.parametrize(\"number\", range(1000))\n\
                 def test_nothing(number):\n    pass\n";
    fs::write(dir.join("test_nothing.py"), tests)?;
    let chaos = peer(setting, &mut section, "chaos", "chaostoolkit");
    let pytest = peer(setting, &mut section, "pytest", "pytest");

    let (mut ours, mut run, mut chaoses, mut pytests) = (vec![], vec![], vec![], vec![]);
    for round in 0..setting.rounds {
        let results = dir.join(format!("ours-{round}"));
        let mut command = Command::new(&setting.bench);
        command.arg("no-ops").arg(&results).arg(PROBES.to_string());
        ours.push(wall_ms(&mut command)?);
        // What the run itself took, without process and reports: from another run, not to disturb.
        let mut again = Command::new(&setting.bench);
        let results = dir.join(format!("ours-again-{round}"));
        let told = program::json(again.arg("no-ops").arg(&results).arg(PROBES.to_string()))?;
        run.push(program::number(&told, "run_ms")?);
        if let Some(chaos) = &chaos {
            let mut command = Command::new(chaos);
            let journal = dir.join("chaos-journal.json");
            command.current_dir(&dir).args(["--no-version-check", "run", "--journal-path"]);
            chaoses.push(wall_ms(command.arg(journal).arg(&experiment))?);
        }
        if let Some(pytest) = &pytest {
            let mut command = Command::new(pytest);
            command.current_dir(&dir).args(["-q", "-p", "no:cacheprovider"]);
            pytests.push(wall_ms(command.args(["--junitxml=junit.xml", "test_nothing.py"]))?);
        }
    }
    section.row("shakedown", &ours, "ms", Target::AtMost(30.0));
    section.row("of which the run with its journal", &run, "ms", Target::None);
    for (name, times, least) in [("chaostoolkit", chaoses, 8.0), ("pytest", pytests, 15.0)] {
        if !times.is_empty() {
            section.row(name, &times, "ms", Target::None);
            let ratio = paired(&times, &ours, |theirs, ours| theirs / ours);
            section.row(format!("{name} / shakedown"), &ratio, "", Target::AtLeast(least));
        }
    }
    Ok(section)
}

fn peer(setting: &Setting, section: &mut Section, program: &str, name: &str) -> Option<PathBuf> {
    let found = setting.find(program);
    match &found {
        Some(path) => section.version(version(Command::new(path).arg("--version"))),
        None => section.skip(name, "not installed (PyPI)"),
    }
    found
}

fn experiment_text() -> serde_json::Value {
    let probe = |number: usize| {
        json!({
            "type": "probe",
            "name": format!("no-op-{number:04}"),
            "provider": { "type": "python", "module": "os", "func": "getpid" },
        })
    };
    json!({
        "title": "nothing", "description": "nothing", "tags": [],
        "method": (0..PROBES).map(probe).collect::<Vec<_>>(),
        "rollbacks": [],
    })
}
