//! A whole lab: started, running, stopped.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use shakedown_core::clock::{self, Instant};
use shakedown_core::environment::TimeScale;
use tokio::sync::{mpsc, watch};

use crate::application;
use crate::clock::Clock;
use crate::cloudrun::log::CloudLog;
use crate::cloudrun::revision::Revision;
use crate::cloudrun::{CloudRun, Platform, answered};
use crate::connector::{Connector, ConnectorOptions};
use crate::dir::{LabDir, LabInfo, sweep, write_atomically};
use crate::error::LabError;
use crate::inject::{Stage, State};
use crate::neighbour::{SlotOptions, start_sink};
use crate::overlay::{Addresses, ca_file, database_secret, overlay, secret};
use crate::postgres::{Roles, Server, ServerOptions, ServerPrograms, write_private};
use crate::proxy::{Proxy, ProxyOptions, socket_path};
use crate::random;
use crate::resp;
use crate::sampler::{SAMPLER, Sampler};
use crate::scenario::Scenario;
use crate::services::auth::{Accounts, Auth, LIFETIME};
use crate::services::upstream::{Route, Upstream};
use crate::services::{self, Authority, Services};
use crate::settings::LabSettings;
use crate::switches::Switches;
use crate::tasks::{StopOnDrop, Tasks};
use crate::traffic;
use crate::truth::Truth;

/// How often the truth is compared with what is written.
const WRITE_EVERY: Duration = Duration::from_millis(50);
/// The one user that may log in at the lab's auth service.
const TEST_USER: &str = "shakedown@lab.shakedown.test";
/// How long the load balancer waits for the backend: Cloud Run's request limit of the observed
/// application.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long a lab waits at its start for the application's first answer or first death.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);
/// How old a written truth may get.
const WRITE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// What a lab needs to start.
#[derive(Debug, Clone)]
pub struct LabOptions {
    /// Program that runs [`supervise`](crate::supervise()) when started with `supervise_args`.
    pub exe: PathBuf,
    /// Default `["lab-supervise"]`.
    pub supervise_args: Vec<OsString>,
    /// Where lab directories are made and swept. Default `/tmp` whatever TMPDIR says: socket paths
    /// are at most 103 bytes long, and the database's user must be able to get there.
    pub tmp: PathBuf,
    /// The server's programs.
    pub programs: ServerPrograms,
    /// How much faster than real time.
    pub time_scale: TimeScale,
    /// What goes wrong, unscaled.
    pub scenario: Scenario,
    /// Names and sizes, unscaled.
    pub settings: LabSettings,
    /// Makes `exe` run [`backend()`](crate::backend()). Default `["lab-backend"]`.
    pub backend_args: Vec<OsString>,
    /// A program to be the service `backend` instead of [`backend()`](crate::backend()): started
    /// without arguments and with the same variables, of which it minds those it knows. Its standard
    /// error is its log, too. Default none.
    pub backend: Option<PathBuf>,
    /// Whether the application runs. Default no: its sessions are in the way of whoever counts.
    pub application: bool,
}

impl LabOptions {
    /// A healthy lab in real time with default settings.
    #[must_use]
    pub fn new(exe: PathBuf, programs: ServerPrograms) -> Self {
        Self {
            exe,
            supervise_args: vec!["lab-supervise".into()],
            tmp: "/tmp".into(),
            programs,
            time_scale: TimeScale::default(),
            scenario: Scenario::healthy(),
            settings: LabSettings::default(),
            backend_args: vec!["lab-backend".into()],
            backend: None,
            application: false,
        }
    }
}

/// A running lab. [`stop`](Self::stop) it; when it is dropped instead, its server is stopped by the
/// supervisor and its directory stays until the next lab sweeps it.
#[derive(Debug)]
pub struct Lab {
    dir: LabDir,
    server: Server,
    parts: Arc<Parts>,
    addresses: Addresses,
    tasks: StopOnDrop,
    failures: mpsc::UnboundedReceiver<LabError>,
}

/// What the truth is gathered from.
#[derive(Debug)]
struct Parts {
    connector: Arc<Connector>,
    proxy: Proxy,
    sampler: Sampler,
    stage: Arc<Stage>,
    ready_at_ms: OnceLock<u64>,
}

impl Parts {
    fn truth(&self) -> Truth {
        Truth {
            ready_at_ms: self.ready_at_ms.get().copied(),
            connector: self.connector.truth(),
            postgres: self.sampler.truth(),
            proxy: self.proxy.truth(),
            faults: self.stage.truth(),
        }
    }
}

impl Lab {
    /// Sweeps what dead labs left, then starts a new one; faults of time zero are in force when this
    /// returns. Takes one to two seconds.
    ///
    /// # Errors
    /// [`LabError`], with everything started ended again.
    ///
    /// # Cancel safety
    /// A dropped future leaves a directory, which the next start sweeps, and no process.
    pub async fn start(options: &LabOptions) -> Result<Self, LabError> {
        let clock = Clock::start();
        let (scenario, settings) = options.scenario.resolve(&options.settings, options.time_scale);
        let problems = settings.problems();
        if !problems.is_empty() {
            return Err(LabError::Settings(problems));
        }
        sweep(&options.tmp).await;
        let dir = LabDir::create(&options.tmp)?;
        match Self::start_in(&dir, options, &scenario, &settings, clock).await {
            Ok((server, parts, addresses, tasks, failures)) => {
                Ok(Self { dir, server, parts, addresses, tasks, failures })
            }
            Err(error) => {
                // Its server may still be stopping: a sweep waits for that.
                drop(dir);
                sweep(&options.tmp).await;
                Err(error)
            }
        }
    }

    async fn start_in(
        dir: &LabDir,
        options: &LabOptions,
        scenario: &Scenario,
        settings: &LabSettings,
        clock: Clock,
    ) -> Result<
        (Server, Arc<Parts>, Addresses, StopOnDrop, mpsc::UnboundedReceiver<LabError>),
        LabError,
    > {
        let path = dir.path();
        let socket = socket_path(&path.join("cloudsql"), &settings.connection_name())?;
        let server = Server::start(&ServerOptions {
            programs: &options.programs,
            exe: &options.exe,
            supervise_args: &options.supervise_args,
            folder: path.join("pg"),
            log: path.join("logs/postgresql.log"),
            max_connections: settings.database.max_connections,
        })
        .await?;
        let roles = Roles::create(&server, &settings.database).await?;
        write_private(&database_secret(path), roles.application.expose_secret())?;
        write_private(&path.join("secrets/superuser"), server.superuser_password.expose_secret())?;

        let (tasks, failures) = Tasks::new();
        let tasks = StopOnDrop(tasks);
        let (switch, switches) = watch::channel(Switches::default());
        let postgres = ([127, 0, 0, 1], server.port).into();
        let listen = |what| move |source| LabError::Listen { what, source };
        let connector = ConnectorOptions {
            settings: settings.connector.clone(),
            seed: scenario.seed,
            database: postgres,
            sink: start_sink(&tasks.0).map_err(listen("the neighbours' sink"))?,
            switches: switches.clone(),
            clock,
        };
        let connector =
            Arc::new(Connector::start(connector, &tasks.0).map_err(listen("the connector"))?);
        let proxy = ProxyOptions {
            connection_name: settings.connection_name(),
            socket: socket.clone(),
            log: path.join("logs/proxy.log"),
            dial: connector.address(),
            dial_timeout: settings.proxy_dial_timeout.0,
            switches: switches.clone(),
        };
        let proxy = Proxy::start(proxy, &tasks.0)?;
        let authority = Authority::new()?;
        write(&ca_file(path), &authority.pem())?;
        let scale = options.time_scale;
        let cache = resp::start(switches.clone(), &tasks.0).map_err(listen("the cache"))?;
        let (told, upstream) = watch::channel(Upstream::Gone);
        let (auth_told, auth_upstream) = watch::channel(Upstream::Gone);
        let log = Arc::new(CloudLog::new(path.join("logs"), &settings.project, &settings.region));
        let (accounts, jwt) = accounts(path)?;
        let user = (accounts.user.clone(), accounts.password.clone());
        let services = Services {
            auth: Auth::new(accounts, &jwt, scale.limit(LIFETIME), switches.clone()),
            backend: Route { upstream, patience: scale.limit(PATIENCE), tasks: tasks.0.clone() },
            auth_process: options.application.then_some(auth_upstream),
            log: Arc::clone(&log),
            switches,
        };
        let load_balancer = services::start(&authority, services, &tasks.0)?;

        // The lab's only session of its own: like Cloud SQL's agents it takes one of the slots.
        let superuser = server.superuser(&settings.database.name, SAMPLER).await;
        let superuser = superuser
            .map_err(|source| LabError::Sql { action: "connect to the lab's database", source })?;
        let superuser = Arc::new(superuser);
        let sampler = Sampler::start(Arc::clone(&superuser), &tasks.0).await?;
        let limits = sampler.truth();
        let password = roles.application.clone();
        let variables = application::variables(settings, &socket, cache, scale, &password, &jwt);
        let auth_variables = application::auth_variables(&variables, scale);
        let stage = Arc::new(Stage {
            switches: switch,
            connector: Arc::clone(&connector),
            slots: SlotOptions {
                server: postgres,
                database: settings.database.name.clone(),
                password: roles.neighbour,
            },
            ordinary_slots: limits.max_connections.saturating_sub(limits.reserved_connections + 1),
            superuser,
            superuser_config: server.superuser_config(&settings.database.name, "shakedown-lab"),
            cloud_run: OnceLock::new(),
            variables: [
                (application::BACKEND, variables.clone()),
                (application::AUTH, auth_variables.clone()),
            ]
            .into(),
            user: settings.database.user.clone(),
            password: roles.application,
            tasks: tasks.0.clone(),
            clock,
            state: Mutex::new(State::default()),
        });
        let parts = Parts { connector, proxy, sampler, stage, ready_at_ms: OnceLock::new() };
        let parts = Arc::new(parts);

        let addresses =
            Addresses { socket, connector: parts.connector.address(), postgres, load_balancer };
        let resolved = toml::to_string(scenario).expect("a scenario was TOML before");
        write(&path.join("scenario.toml"), &resolved)?;
        let first = |service, variables| {
            let deployed = application::deployed_at_first(&scenario.faults, service);
            Revision::first(service, variables).with(&deployed)
        };
        let revision = first(application::BACKEND, variables);
        let told_of = options.application.then(|| {
            let own = (&options.exe, options.backend_args.as_slice());
            let (exe, args) = options.backend.as_ref().map_or(own, |program| (program, &[]));
            let faults = &options.scenario.faults;
            let log = log.path(application::BACKEND);
            let table = application::table(log, exe, args, cache, faults);
            (table, application::startup(&revision.variables))
        });
        write(
            &path.join("environment.toml"),
            &overlay(path, settings, scale, &scenario.connector, &addresses, told_of),
        )?;
        let begun = parts.stage.before_ready(&scenario.faults).await?;
        if options.application {
            let platform = Arc::new(Platform {
                exe: options.exe.clone(),
                args: options.backend_args.clone(),
                backend: options.backend.clone(),
                log,
                scale,
                project: settings.project.clone(),
                connection_name: settings.connection_name(),
            });
            let state = told.subscribe();
            let auth = first(application::AUTH, auth_variables);
            let services = [
                (
                    application::BACKEND,
                    CloudRun::start(Arc::clone(&platform), revision, told, &tasks.0),
                ),
                (application::AUTH, CloudRun::start(platform, auth, auth_told, &tasks.0)),
            ];
            // Nobody else sets it.
            let _ = parts.stage.cloud_run.set(services.into());
            answered(state, SETTLED_WITHIN).await;
            traffic::start(&authority, load_balancer, user, scale, &tasks.0)?;
        }
        let info = LabInfo {
            pid: std::process::id(),
            scenario: scenario.name.clone(),
            started: clock::wall(),
            time_scale: scale,
            addresses: addresses.clone(),
        };
        write(
            &path.join("lab.json"),
            &serde_json::to_string(&info).expect("numbers and strings become JSON"),
        )?;
        parts.stage.ready(&scenario.faults, begun);
        parts.ready_at_ms.get_or_init(|| clock.ms());
        let truth_file = path.join("truth.json");
        write(
            &truth_file,
            &serde_json::to_string(&parts.truth()).expect("numbers and strings become JSON"),
        )?;
        tasks.0.spawn(write_truth(Arc::clone(&parts), truth_file));
        Ok((server, parts, addresses, tasks, failures))
    }

    /// Its directory, `TMP/shakedown-lab-PID-RANDOM`: `environment.toml` (the overlay), `truth.json`,
    /// `scenario.toml` (resolved), `lab.json`, `ca.pem`, `logs/`, `secrets/` (0700), `cloudsql/`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The environment overlay.
    #[must_use]
    pub fn overlay(&self) -> PathBuf {
        self.dir.path().join("environment.toml")
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it counts right now, fresher than the file.
    #[must_use]
    pub fn truth(&self) -> Truth {
        self.parts.truth()
    }

    /// Resolves when the lab cannot go on, with the reason. [`stop`](Self::stop) it then.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn failed(&mut self) -> LabError {
        tokio::select! {
            error = self.server.ended() => error,
            Some(error) = self.failures.recv() => error,
        }
    }

    /// Ends everything and removes the directory.
    ///
    /// # Errors
    /// When the server's supervisor cannot be waited for or the directory not removed. Everything
    /// else is ended all the same.
    ///
    /// # Cancel safety
    /// When dropped, the server is still stopped by its supervisor.
    pub async fn stop(self) -> Result<(), LabError> {
        let Self { dir, server, tasks, .. } = self;
        tasks.0.stop().await;
        server.stop().await?;
        dir.remove()
    }
}

/// Makes the test user's and the services' secrets, and what tokens are signed with.
fn accounts(dir: &Path) -> Result<(Accounts, SecretString), LabError> {
    let random = || random::password().map_err(LabError::files("read", "/dev/urandom"));
    let jwt = random()?;
    let accounts = Accounts {
        user: TEST_USER.to_owned().into(),
        password: random()?,
        // Nothing else may be called so: wherever it turns up, it is hidden.
        service_id: random()?,
        service_secret: random()?,
    };
    for (name, value) in [
        ("user", &accounts.user),
        ("password", &accounts.password),
        ("service-id", &accounts.service_id),
        ("service-secret", &accounts.service_secret),
        ("jwt", &jwt),
    ] {
        write_private(&secret(dir, name), value.expose_secret())?;
    }
    Ok((accounts, jwt))
}

fn write(path: &Path, text: &str) -> Result<(), LabError> {
    write_atomically(path, text.as_bytes()).map_err(LabError::files("write", path))
}

async fn write_truth(parts: Arc<Parts>, path: PathBuf) {
    let mut ticks = tokio::time::interval(WRITE_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut written: Option<(Truth, Instant)> = None;
    loop {
        let now = ticks.tick().await;
        let mut truth = parts.truth();
        let samples = std::mem::take(&mut truth.postgres.samples);
        let same = |(last, at): &(Truth, Instant)| {
            *last == truth && now.duration_since(*at) < WRITE_AT_LEAST_EVERY
        };
        if written.as_ref().is_some_and(same) {
            continue;
        }
        written = Some((truth.clone(), now));
        truth.postgres.samples = samples;
        let text = serde_json::to_vec(&truth).expect("numbers and strings become JSON");
        // A full disk must not end the lab; the next change is tried again.
        let _ = write_atomically(&path, &text);
    }
}
