//! Prints the diagnosis of the files named as JSON: for a look at an export without the CLI.
#![expect(clippy::print_stdout, reason = "an example prints")]

use shakedown_analyzer::read::{Input, ReadOptions};
use shakedown_analyzer::{Reasoning, diagnose};
use shakedown_core::{Registry, StartupConfig};
use {shakedown_probes_cloudsql as _, shakedown_probes_goldenpath as _, shakedown_probes_vpc as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = Registry::linked()?;
    let startup: StartupConfig = shakedown_probes_smd::Startup::default().0;
    let reasoning = Reasoning {
        signals: registry.signals().collect(),
        classifiers: registry.classifiers().map(|entry| (entry.build)()).collect(),
        startup: &startup,
    };
    let inputs: Vec<Input> =
        std::env::args().skip(1).map(|path| Input::Path(path.into())).collect();
    let diagnosed = diagnose(&inputs, &reasoning, &ReadOptions::default())?;
    println!("{}", serde_json::to_string_pretty(&diagnosed.diagnosis)?);
    Ok(())
}
