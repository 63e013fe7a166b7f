//! `shakedown analyze`: what saved logs and runs say about what broke.

use anyhow::{Context as _, Result};
use shakedown_analyzer::read::{Input, ReadOptions};
use shakedown_analyzer::{DiagnoseError, Reasoning, diagnose, strategy_report};
use shakedown_core::diagnosis::{Diagnosis, HealthVerdict};
use shakedown_core::{Registry, StartupConfig};
use shakedown_report::CleanDiagnosis;

use crate::args::{AnalyzeArgs, FailOn};
use crate::environment::{Loaded, load_environment};
use crate::exit::usage;
use crate::{exit, output};

pub(super) fn analyze(args: &AnalyzeArgs, registry: &Registry) -> Result<u8> {
    let loaded = load_environment(&args.environment, registry)?;
    let Some(startup) = startup(&loaded)? else {
        return Err(usage("no crate of this binary owns [startup]: link one that does"));
    };
    let inputs: Vec<Input> = args
        .paths
        .iter()
        .map(|path| match path.as_os_str().to_str() {
            Some("-") => Input::Stdin,
            _ => Input::Path(path.clone()),
        })
        .collect();
    let options = ReadOptions {
        max_bytes: args.max_bytes.unwrap_or(ReadOptions::default().max_bytes),
        service: args.service.clone().unwrap_or_default(),
        ..ReadOptions::default()
    };
    let diagnosed = match diagnose(&inputs, &reasoning(registry, &startup), &options) {
        Ok(diagnosed) => diagnosed,
        Err(error) if !matches!(error, DiagnoseError::Pattern(_)) => {
            let error = anyhow::Error::from(error);
            return Err(usage(format!(
                "{error:#}; name saved exports, run directories, folders of them, or - for standard input"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let diagnosis = CleanDiagnosis::new(diagnosed.diagnosis, &loaded.redactor)?;
    if args.strategy_report {
        output::json(&strategy_report(&diagnosis))?;
    } else if args.json {
        output::out(&shakedown_report::diagnosis_json(&diagnosis));
    } else {
        let style = output::style(false);
        output::out(&match &args.explain {
            Some(cause) => shakedown_report::explanation(&diagnosis, cause, &style),
            None => shakedown_report::diagnosis(&diagnosis, &style),
        });
    }
    Ok(code(&diagnosis, args.fail_on))
}

/// How the application's start-up shows, where a crate of this binary owns that table.
pub(super) fn startup(loaded: &Loaded) -> Result<Option<StartupConfig>> {
    let table = loaded.environment.resolved.get("startup").cloned();
    table.map(|table| table.try_into().context("the table [startup]")).transpose()
}

/// Everything the linked crates know about causes.
pub(super) fn reasoning<'r>(registry: &Registry, startup: &'r StartupConfig) -> Reasoning<'r> {
    Reasoning {
        signals: registry.signals().collect(),
        classifiers: registry.classifiers().map(|entry| (entry.build)()).collect(),
        startup,
    }
}

fn code(diagnosis: &Diagnosis, fail_on: Option<FailOn>) -> u8 {
    let fails = |verdict| match fail_on {
        None => false,
        Some(FailOn::Failing) => verdict == HealthVerdict::Failing,
        Some(FailOn::Degraded) => {
            matches!(verdict, HealthVerdict::Failing | HealthVerdict::Degraded)
        }
    };
    match diagnosis.services.iter().any(|service| fails(service.verdict)) {
        true => exit::FINDINGS,
        false => exit::PASSED,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Args, Command};
    use crate::commands::plan;

    /// Every next step that the diagnoses of the corpus name.
    fn next_steps(registry: &Registry) -> BTreeSet<String> {
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../analyzer/tests/corpus");
        let startup = shakedown_probes_smd::Startup::default().0;
        let mut steps = BTreeSet::new();
        for entry in std::fs::read_dir(corpus).expect("the corpus") {
            let path = entry.expect("an entry").path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                continue;
            }
            let reasoning = reasoning(registry, &startup);
            let diagnosed = diagnose(&[Input::Path(path)], &reasoning, &ReadOptions::default());
            for service in diagnosed.expect("it is read").diagnosis.services {
                steps.extend(service.roots.into_iter().map(|root| root.next));
                steps.extend(service.masked.into_iter().map(|masked| masked.next));
            }
        }
        steps
    }

    #[test]
    fn every_command_a_next_step_names_exists() {
        let registry = Registry::linked().expect("no duplicates");
        let steps = next_steps(&registry);
        let mut commands = 0;
        for step in &steps {
            assert!(!step.is_empty(), "a root without a next step");
            for (n, command) in step.split('`').enumerate().filter(|(n, _)| n % 2 == 1) {
                let Some(arguments) = command.strip_prefix("shakedown ") else {
                    let known = ["gcloud ", "curl "].iter().any(|tool| command.starts_with(tool));
                    assert!(known, "{n}: {step}");
                    continue;
                };
                commands += 1;
                let words = std::iter::once("shakedown").chain(arguments.split_whitespace());
                let args = Args::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
                let Command::Run(args) = args.command else { panic!("{command}") };
                let (selected, _) = plan::selected(&args, &registry).expect("selectors");
                assert!(selected.len() >= args.selectors.len(), "{command} selects too little");
            }
            assert!(!step.contains("probe cloudsql."), "a command without its name: {step}");
        }
        assert!(commands >= 5, "{steps:#?}");
    }
}
