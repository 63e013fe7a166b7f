//! `shakedown lab`, and starting a lab for a run.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use shakedown_core::environment::Environment;
use shakedown_core::{Registry, Setting};
use shakedown_lab::{
    LabSettings, Ready, Scenario, ServeRequest, ServedLab, ServerPrograms, TimeScale,
};

use crate::args::{EnvironmentArgs, LabCommand, LabUpArgs};
use crate::environment::load_environment;
use crate::{exit, output};

/// Where lab folders are made: short, because a socket's path has at most 103 bytes.
const LABS: &str = "/tmp";

pub(super) fn lab(command: &LabCommand, registry: &Registry) -> Result<u8> {
    match command {
        LabCommand::Up(args) => up(args, registry),
        LabCommand::Status { json } => status(*json),
        LabCommand::Scenarios { json } => scenarios(*json),
    }
}

/// The hidden process that serves a lab; see [`shakedown_lab::serve_request`].
pub(super) fn serve() -> Result<u8> {
    run(shakedown_lab::serve_request(
        env::current_exe()?,
        vec!["lab-supervise".into()],
        &mut std::io::stdout(),
    ))?;
    Ok(exit::PASSED)
}

/// The hidden process between a lab and its database server.
pub(super) fn supervise() -> Result<u8> {
    run(shakedown_lab::supervise())?;
    Ok(exit::PASSED)
}

/// The hidden process that is the lab's application; see [`shakedown_lab::backend()`].
pub(super) fn backend() -> Result<u8> {
    let variables = env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(shakedown_lab::backend(variables, std::io::stdout()));
    // The thread that reads standard input cannot be stopped.
    runtime.shutdown_background();
    Ok(code)
}

fn run<T, E>(future: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(future);
    // The thread that reads standard input cannot be stopped.
    runtime.shutdown_background();
    Ok(outcome?)
}

fn up(args: &LabUpArgs, registry: &Registry) -> Result<u8> {
    let environment = EnvironmentArgs {
        env: "lab".into(),
        overrides: Vec::new(),
        lab_dir: None,
        time_scale: None,
    };
    let environment = load_environment(&environment, registry)?.environment;
    let scale = args.time_scale;
    let mut request = request(&environment, &args.scenario, scale, args.pg_bin.as_deref())?;
    request.backend.clone_from(&args.backend);
    request.scenario.seed = args.seed.unwrap_or(request.scenario.seed);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        output::note(&format!("starting a lab ({}, time scale {scale}) ...", args.scenario));
        let lab = start(&request).await?;
        let Ready { dir, overlay, .. } = lab.ready();
        output::out(&format!(
            "A lab is up in {dir}. Its addresses are in {overlay}.\n\n  \
             shakedown run --env lab --lab-dir {dir}\n\nCtrl-C ends it.\n",
            dir = dir.display(),
            overlay = overlay.display(),
        ));
        tokio::signal::ctrl_c().await?;
        lab.stop().await?;
        Ok(exit::PASSED)
    })
}

fn status(as_json: bool) -> Result<u8> {
    let labs = shakedown_lab::status(Path::new(LABS));
    if as_json {
        output::json(&json!({ "schema": "shakedown.labs/1", "labs": labs }))?;
        return Ok(exit::PASSED);
    }
    if labs.is_empty() {
        output::out("No lab is running. `shakedown lab up` starts one.\n");
    }
    for lab in labs {
        let dir = lab.dir.display();
        let Some(info) = lab.info else {
            output::out(&format!("{dir}  starting\n"));
            continue;
        };
        output::out(&format!(
            "{dir}  {} (time scale {}), since {}, pid {}\n  socket     {}\n  connector  {}\n  services   {}\n",
            info.scenario,
            info.time_scale,
            info.started,
            info.pid,
            info.addresses.socket.display(),
            info.addresses.connector,
            info.addresses.load_balancer,
        ));
    }
    Ok(exit::PASSED)
}

fn scenarios(as_json: bool) -> Result<u8> {
    let scenarios = Scenario::built_in();
    if as_json {
        output::json(&json!({ "schema": "shakedown.scenarios/1", "scenarios": scenarios }))?;
        return Ok(exit::PASSED);
    }
    let width = scenarios.iter().map(|scenario| scenario.name.len()).max().unwrap_or(0);
    for scenario in &scenarios {
        output::out(&format!("{:width$}  {}\n", scenario.name, scenario.summary));
    }
    output::out("\nshakedown run --env lab --scenario NAME plays one.\n");
    Ok(exit::PASSED)
}

/// Where PostgreSQL's server binaries are, or the line that installs them.
pub(super) fn server_binaries(given: Option<&Path>) -> Result<PathBuf, String> {
    let path = env::var_os("PATH");
    match ServerPrograms::find(given, path.as_deref()) {
        Ok(programs) => Ok(programs.postgres().parent().map(Path::to_path_buf).unwrap_or_default()),
        Err(error) => Err(error.to_string()),
    }
}

/// What a lab for `environment` is asked to be. `environment` must be unscaled: the lab scales.
pub(super) fn request(
    environment: &Environment,
    scenario: &str,
    time_scale: u32,
    pg_bin: Option<&Path>,
) -> Result<ServeRequest> {
    Ok(ServeRequest {
        scenario: Scenario::find(scenario).map_err(|error| {
            let error = anyhow::Error::from(error);
            exit::usage(format!("{error:#}"))
        })?,
        settings: settings(environment),
        time_scale: TimeScale::new(time_scale).map_err(exit::usage)?,
        pg_bin: binaries(pg_bin)?,
        tmp: PathBuf::from(LABS),
        application: true,
        backend: None,
    })
}

fn binaries(given: Option<&Path>) -> Result<PathBuf> {
    match server_binaries(given) {
        Ok(dir) => Ok(dir),
        #[cfg(feature = "download-postgres")]
        Err(_) if given.is_none() => {
            let folder = shakedown_lab::download_folder()?;
            output::note(&format!(
                "no PostgreSQL server installed here: version {}, fetched once into {} ...",
                shakedown_lab::DOWNLOAD_VERSION,
                folder.display()
            ));
            let programs = shakedown_lab::download(&folder)?;
            Ok(programs.postgres().parent().map(Path::to_path_buf).unwrap_or_default())
        }
        Err(error) => Err(exit::usage(error)),
    }
}

/// Starts a lab in a process of its own; it ends with this process, however that ends.
pub(super) async fn start(request: &ServeRequest) -> Result<ServedLab> {
    let exe = env::current_exe().context("cannot find the program that is running")?;
    ServedLab::start(&exe, &["lab-serve".into()], request)
        .await
        .map_err(|error| anyhow!(error).context("the lab did not start"))
}

/// The lab stands for the environment: its names and sizes come from the environment's tables.
fn settings(environment: &Environment) -> LabSettings {
    /// A key of a resolved table, as a plain value or as a setting.
    fn get<T: DeserializeOwned>(environment: &Environment, table: &str, key: &str) -> Option<T> {
        let value = environment.resolved.get(table)?.get(key)?.clone();
        Some(Setting::deserialize(value).ok()?.value)
    }
    let mut settings = LabSettings::default();
    let identity = &environment.identity;
    settings.project.clone_from(&identity.project);
    settings.region.clone_from(&identity.region);
    if let Some(database) = &environment.database {
        settings.database.name.clone_from(&database.name);
        settings.database.user.clone_from(&database.user);
    }
    macro_rules! take {
        ($($field:expr => $table:literal . $key:literal),+ $(,)?) => {$(
            if let Some(value) = get(environment, $table, $key) {
                $field = value;
            }
        )+};
    }
    let connector = &mut settings.connector;
    take! {
        settings.instance => "cloudsql"."instance",
        settings.database.max_connections => "cloudsql"."max_connections",
        connector.throughput_min_mbps => "vpc"."throughput_min_mbps",
        connector.throughput_max_mbps => "vpc"."throughput_max_mbps",
        connector.instances_min => "vpc"."instances_min",
        connector.instances_max => "vpc"."instances_max",
        connector.connections_per_instance => "vpc"."connections_per_instance",
        connector.connection_rate => "vpc"."connection_rate",
        connector.scaling_delay_min => "vpc"."scaling_delay_min",
        connector.scaling_delay_max => "vpc"."scaling_delay_max",
        connector.cooldown => "vpc"."cooldown",
    }
    settings
}
