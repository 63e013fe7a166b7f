//! `shakedown signature`, and how `run` finds and answers one.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use shakedown_analyzer::signature::{Signature, derive};
use shakedown_core::Diagnosis;
use shakedown_core::environment::Environment;
use shakedown_core::record::RunRecord;
use shakedown_core::reproduction::{Reproduction, ReproductionVerdict};
use toml::Value;

use crate::args::{Expect, SignatureCommand};
use crate::exit::usage;
use crate::{exit, output};

/// The signatures this binary carries; a file in `./signatures` of the same name wins.
const BUILT_IN: &[(&str, &str)] = &[
    ("issue-1278", include_str!("../../../../signatures/issue-1278.toml")),
    ("services-crash", include_str!("../../../../signatures/services-crash.toml")),
];

pub(super) fn signature(command: &SignatureCommand) -> Result<u8> {
    match command {
        SignatureCommand::List => {
            for name in names() {
                let title = find(&name).map_or_else(|error| format!("{error:#}"), |s| s.title);
                output::out(&format!("{name}  {title}\n"));
            }
        }
        SignatureCommand::Show { signature } => output::out(&text(signature)?),
        SignatureCommand::New { from, id } => {
            let record: RunRecord = read(from, "test_execution_log.json")?;
            let diagnosis: Diagnosis = read(from, "diagnosis.json")?;
            let id = id.clone().unwrap_or_else(|| named_after(&record.plan.session_id));
            let signature = derive(&id, &record, &diagnosis).map_err(|e| usage(e.to_string()))?;
            output::out(&toml::to_string_pretty(&signature)?);
            output::note(&format!(
                "write it to signatures/{id}.toml, take out what happened by chance, then: \
                 shakedown run --reproduce {id}"
            ));
        }
    }
    Ok(exit::PASSED)
}

/// A session's id as that of a signature.
fn named_after(session: &str) -> String {
    session.to_ascii_lowercase().replace('_', "-")
}

/// The signature `name`: a file, one of `./signatures`, or one this binary carries.
pub(super) fn find(name: &str) -> Result<Signature> {
    Signature::parse(&text(name)?).map_err(|error| {
        let error = anyhow::Error::from(error);
        usage(format!("the signature `{name}`: {error:#}; docs/guide/signatures.md has the keys"))
    })
}

fn text(name: &str) -> Result<String> {
    let candidates = [Path::new(name).to_path_buf(), format!("signatures/{name}.toml").into()];
    if let Some(path) = candidates.iter().find(|path| path.is_file()) {
        return fs::read_to_string(path).with_context(|| path.display().to_string());
    }
    let built_in = BUILT_IN.iter().find(|(known, _)| *known == name);
    built_in.map(|(_, text)| (*text).to_owned()).ok_or_else(|| {
        let known = names().join(", ");
        usage(format!("there is no signature `{name}`: name a TOML file, or one of {known}"))
    })
}

/// Names of built-in signatures and of those in `./signatures`.
fn names() -> Vec<String> {
    let files = fs::read_dir("signatures").into_iter().flatten().flatten();
    let mut names: Vec<String> = files
        .filter_map(|entry| Some(entry.file_name().to_str()?.strip_suffix(".toml")?.to_owned()))
        .chain(BUILT_IN.iter().map(|(name, _)| (*name).to_owned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

fn read<T: serde::de::DeserializeOwned>(dir: &Path, name: &str) -> Result<T> {
    let path = dir.join(name);
    let text = fs::read_to_string(&path).map_err(|error| {
        usage(format!("{}: {error}; name the results folder of a run", path.display()))
    })?;
    serde_json::from_str(&text).with_context(|| format!("{} is not of a run", path.display()))
}

/// The exit code of the answer.
pub(super) fn code(found: &Reproduction, expect: Expect) -> u8 {
    match (expect, found.verdict, found.is_absent()) {
        (Expect::Present, ReproductionVerdict::Reproduced, _) => exit::PASSED,
        (Expect::Present, ReproductionVerdict::NotReproduced, _) => exit::NOT_REPRODUCED,
        (Expect::Present, ReproductionVerdict::Undecided, _) => exit::UNDECIDED,
        (Expect::Absent, _, Some(true)) => exit::PASSED,
        (Expect::Absent, _, Some(false)) => exit::NOT_REPRODUCED,
        (Expect::Absent, _, None) => exit::UNDECIDED,
    }
}

/// The environment's value of a key such as `vpc.egress`, in its plain form.
pub(super) fn value(environment: &Environment, key: &str) -> Option<String> {
    let mut parts = key.split('.');
    let mut value = environment.resolved.get(parts.next()?)?;
    for part in parts {
        value = value.get(part)?;
    }
    // A setting that says why it is assumed.
    let value = value.get("value").unwrap_or(value);
    Some(value.as_str().map_or_else(|| Value::to_string(value), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_without_an_id_is_named_after_its_run() {
        assert_eq!(named_after("issue_1278_20260304_080000"), "issue-1278-20260304-080000");
    }
}
