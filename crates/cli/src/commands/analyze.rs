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
        Err(error @ (DiagnoseError::Read(_) | DiagnoseError::Run(_))) => {
            let error = anyhow::Error::from(error);
            return Err(usage(format!(
                "{error:#}; name saved exports, run directories, folders of them, or - for standard input"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let diagnosis = CleanDiagnosis::new(&diagnosed.diagnosis, &loaded.redactor)?;
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
