//! `shakedown analyze`: what saved logs and runs say about what broke.

use anyhow::{Context as _, Result};
use shakedown_analyzer::read::{Input, ReadOptions};
use shakedown_analyzer::{DiagnoseError, Reasoning, diagnose, strategy_report};
use shakedown_core::diagnosis::{Diagnosis, HealthVerdict};
use shakedown_core::{Registry, StartupConfig};

use crate::args::{AnalyzeArgs, FailOn};
use crate::environment::load_environment;
use crate::exit::usage;
use crate::{exit, output};

pub(super) fn analyze(args: &AnalyzeArgs, registry: &Registry) -> Result<u8> {
    let loaded = load_environment(&args.environment, registry)?;
    let startup: StartupConfig = match loaded.environment.resolved.get("startup") {
        Some(table) => table.clone().try_into().context("the table [startup]")?,
        None => return Err(usage("no crate of this binary owns [startup]: link one that does")),
    };
    let reasoning = Reasoning {
        signals: registry.signals().collect(),
        classifiers: registry.classifiers().map(|entry| (entry.build)()).collect(),
        startup: &startup,
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
    let diagnosed = match diagnose(&inputs, &reasoning, &options, Vec::new()) {
        Ok(diagnosed) => diagnosed,
        Err(DiagnoseError::Read(error)) => {
            let error = anyhow::Error::from(error);
            return Err(usage(format!(
                "{error:#}; name saved exports, folders, or - for standard input"
            )));
        }
        Err(error) => return Err(error.into()),
    };
    let diagnosis = &diagnosed.diagnosis;
    if args.strategy_report {
        output::json(&strategy_report(diagnosis))?;
    } else if args.json {
        output::json(diagnosis)?;
    } else {
        let style = output::style(false);
        let text = match &args.explain {
            Some(cause) => shakedown_report::explanation(diagnosis, cause, &style),
            None => shakedown_report::diagnosis(diagnosis, &style),
        };
        output::out(&loaded.redactor.redact(&text));
    }
    Ok(code(diagnosis, args.fail_on))
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
