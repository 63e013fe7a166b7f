//! Finding, loading and completing the environment a command works on.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context as _, Result};
use secrecy::SecretString;
use shakedown_core::environment::{CredentialRef, Environment, Layer, LoadErrors, Source, load};
use shakedown_core::{Credentials, Redactor, Registry};

use crate::args::EnvironmentArgs;
use crate::exit::usage;

/// The environments this binary carries; a file in `./environments` of the same name wins.
const BUILT_IN: &[(&str, &str)] = &[
    ("lab", include_str!("../../../environments/lab.toml")),
    ("staging-gcp", include_str!("../../../environments/staging-gcp.toml")),
];

/// An environment with everything a command needs beside it.
pub(crate) struct Loaded {
    pub(crate) environment: Environment,
    pub(crate) credentials: Credentials,
    pub(crate) redactor: Redactor,
    pub(crate) notes: Vec<String>,
    /// Credentials that are referred to but not there: name and what to do.
    pub(crate) missing: Vec<(String, String)>,
}

/// Loads the environment that `args` name.
pub(crate) fn load_environment(args: &EnvironmentArgs, registry: &Registry) -> Result<Loaded> {
    let mut layers = vec![find(&args.env)?];
    if let Some(dir) = &args.lab_dir {
        let path = dir.join("environment.toml");
        let text = fs::read_to_string(&path).map_err(|error| {
            usage(format!(
                "{}: {error}; is that the folder of a running lab? `shakedown lab status` lists them",
                path.display()
            ))
        })?;
        layers.push(Layer { origin: path.display().to_string(), text });
    }
    let mut overrides = args.overrides.clone();
    if let Some(scale) = args.time_scale {
        overrides.push(format!("lab.time_scale={scale}"));
    }
    let source = Source { layers, variables: variables(), overrides };
    let loaded = load(&source, &registry.owners()).map_err(|errors| usage(refusal(&errors)))?;
    let mut credentials = loaded.secrets;
    let mut missing = Vec::new();
    for (name, reference) in &loaded.environment.credentials {
        match resolve(reference) {
            Ok(secret) => credentials.insert(name, secret),
            Err(_) if credentials.get(name).is_some() => {}
            Err(remedy) => missing.push((name.clone(), remedy)),
        }
    }
    Ok(Loaded {
        redactor: Redactor::new(&credentials),
        environment: loaded.environment,
        credentials,
        notes: loaded.notes,
        missing,
    })
}

/// Whether `TESTING_MODE=staging_remote` forbids starting a lab.
pub(crate) fn remote_only() -> bool {
    variables().iter().any(|(name, value)| name == "TESTING_MODE" && value == "staging_remote")
}

fn variables() -> Vec<(String, String)> {
    env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn refusal(errors: &LoadErrors) -> String {
    let count = errors.0.len();
    let (is, s) = if count == 1 { ("is", "") } else { ("are", "s") };
    format!("there {is} {count} error{s} in the environment:\n{errors}")
}

fn resolve(reference: &CredentialRef) -> Result<SecretString, String> {
    if let Some(secret) = reference.env.as_ref().and_then(env::var_os) {
        return secret.into_string().map(SecretString::from).map_err(|_| "not UTF-8".into());
    }
    if let Some(path) = &reference.file {
        return fs::read_to_string(path)
            .map(|text| SecretString::from(text.trim_end_matches(['\r', '\n'])))
            .map_err(|error| format!("{path}: {error}"));
    }
    Err(match &reference.env {
        Some(name) => format!("set the environment variable {name}"),
        None => "give it an `env` or a `file`".to_owned(),
    })
}

fn find(name: &str) -> Result<Layer> {
    if name.contains('/') || name.ends_with(".toml") {
        return read(Path::new(name));
    }
    let mut known = Vec::new();
    for path in local_files() {
        let layer = read(&path)?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        if is_called(&layer, &stem.unwrap_or_default(), name, &mut known) {
            return Ok(layer);
        }
    }
    for (stem, text) in BUILT_IN {
        let layer = Layer { origin: format!("{stem}.toml (built in)"), text: (*text).to_owned() };
        if is_called(&layer, stem, name, &mut known) {
            return Ok(layer);
        }
    }
    known.sort();
    known.dedup();
    Err(usage(format!(
        "there is no environment `{name}`: known are {}; or give the path of a TOML file",
        known.join(", ")
    )))
}

/// Whether a file goes by `name`: by its own name, or by what its text calls it.
fn is_called(layer: &Layer, stem: &str, name: &str, known: &mut Vec<String>) -> bool {
    let mut names = vec![stem.to_owned()];
    if let Ok(table) = layer.text.parse::<toml::Table>()
        && let Some(identity) = table.get("environment")
    {
        names.extend(identity.get("name").and_then(|name| Some(name.as_str()?.to_owned())));
        let aliases = identity.get("aliases").and_then(toml::Value::as_array);
        names.extend(aliases.into_iter().flatten().filter_map(|a| Some(a.as_str()?.to_owned())));
    }
    let found = names.iter().any(|known| known == name);
    known.append(&mut names);
    found
}

fn local_files() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("environments") else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> Result<Layer> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the environment file {}", path.display()))
        .map_err(|error| usage(format!("{error:#}; name an existing TOML file")))?;
    Ok(Layer { origin: path.display().to_string(), text })
}
