//! Brings faults about and ends them, at their times.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use shakedown_core::clock::{self, Instant};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;

use crate::application::BACKEND;
use crate::clock::Clock;
use crate::cloudrun::CloudRun;
use crate::cloudrun::revision::Deploy;
use crate::connector::Connector;
use crate::error::LabError;
use crate::fault::{Fault, FaultKind};
use crate::neighbour::{SlotOptions, hold_connector, hold_slots};
use crate::random;
use crate::switches::Switches;
use crate::tasks::Tasks;
use crate::truth::FaultTruth;

/// How long neighbours may take to be where they belong.
const NEIGHBOURS_WITHIN: Duration = Duration::from_secs(60);

/// What faults act upon.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) switches: watch::Sender<Switches>,
    pub(crate) connector: Arc<Connector>,
    pub(crate) slots: SlotOptions,
    /// Slots that ordinary roles get, all of them together.
    pub(crate) ordinary_slots: u32,
    /// A superuser's session, for statements.
    pub(crate) superuser: Arc<tokio_postgres::Client>,
    /// How a superuser connects.
    pub(crate) superuser_config: tokio_postgres::Config,
    /// The services on Cloud Run by name, once they were started.
    pub(crate) cloud_run: OnceLock<BTreeMap<&'static str, CloudRun>>,
    /// The environment of a revision without faults, by service.
    pub(crate) variables: BTreeMap<&'static str, BTreeMap<String, String>>,
    pub(crate) user: String,
    pub(crate) password: SecretString,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    pub(crate) state: Mutex<State>,
}

/// Faults in force and faults that were.
#[derive(Debug, Default)]
pub(crate) struct State {
    active: Vec<(usize, FaultKind)>,
    truth: Vec<FaultTruth>,
}

/// What has to be undone when a fault ends.
#[derive(Debug)]
enum Undo {
    Nothing,
    Clients(AbortHandle),
    Password,
    Deploy(String, Deploy),
    ScaleOut,
}

impl Stage {
    /// Brings about what is to be in force before the lab is ready.
    pub(crate) async fn before_ready(
        self: &Arc<Self>,
        faults: &[Fault],
    ) -> Result<Begun, LabError> {
        let mut undo = Vec::new();
        for (index, fault) in faults.iter().enumerate() {
            undo.push(if fault.at.0.is_zero() {
                Some(self.begin(index, &fault.kind, true).await?)
            } else {
                None
            });
        }
        Ok(Begun(undo))
    }

    /// Lets time run: from now on faults begin and end by themselves.
    pub(crate) fn ready(self: &Arc<Self>, faults: &[Fault], begun: Begun) {
        let ready = clock::now();
        for (index, (fault, begun)) in faults.iter().cloned().zip(begun.0).enumerate() {
            let stage = Arc::clone(self);
            self.tasks.spawn(async move {
                if let Err(error) = stage.run(index, fault, begun, ready).await {
                    stage.tasks.fail(error);
                }
            });
        }
    }

    async fn run(
        self: &Arc<Self>,
        index: usize,
        fault: Fault,
        begun: Option<Undo>,
        ready: Instant,
    ) -> Result<(), LabError> {
        let undo = match begun {
            Some(undo) => undo,
            None => {
                tokio::time::sleep_until(ready + fault.at.0).await;
                self.begin(index, &fault.kind, false).await?
            }
        };
        let Some(until) = fault.until else { return Ok(()) };
        tokio::time::sleep_until(ready + until.max.0).await;
        self.end(index, undo).await
    }

    async fn begin(
        self: &Arc<Self>,
        index: usize,
        kind: &FaultKind,
        wait: bool,
    ) -> Result<Undo, LabError> {
        self.record_begin(index, kind);
        self.connector.settled().await;
        Ok(match *kind {
            FaultKind::ConnectorNeighbour { connections, mbps } => {
                let connections = connections.unwrap_or_else(|| self.connector.capacity());
                let clients =
                    hold_connector(Arc::clone(&self.connector), connections, mbps * 1e6 / 8.0);
                let clients = self.tasks.spawn_abortable(clients);
                if wait {
                    self.wait_for_neighbours(connections).await?;
                }
                Undo::Clients(clients)
            }
            FaultKind::DatabaseSlotsHeld { leave } => {
                let sessions = self.ordinary_slots.saturating_sub(leave) as usize;
                let full = Arc::new(Notify::new());
                let told = Arc::clone(&full);
                let clients = hold_slots(self.slots.clone(), sessions, move || told.notify_one());
                let clients = self.tasks.spawn_abortable(clients);
                if wait && tokio::time::timeout(NEIGHBOURS_WITHIN, full.notified()).await.is_err() {
                    return Err(too_late(kind));
                }
                Undo::Clients(clients)
            }
            FaultKind::WrongPassword => {
                let other = random::password().map_err(LabError::files("read", "/dev/urandom"))?;
                self.set_password(&other).await?;
                Undo::Password
            }
            FaultKind::Deploy { ref service, ref variables, all_traffic } => {
                // Before the application is started, its first revision has it.
                if let Some(cloud_run) = self.service(service) {
                    let variables = variables.clone();
                    cloud_run
                        .deploy(Deploy { variables, all_traffic: all_traffic.then_some(true) });
                }
                let normal = self.variables.get(service.as_str());
                let before = |name: &String| {
                    let value = normal.and_then(|normal| normal.get(name));
                    let value = value.cloned().unwrap_or_default();
                    (name.clone(), value)
                };
                let variables = variables.keys().map(before).collect();
                let all_traffic = all_traffic.then_some(false);
                Undo::Deploy(service.clone(), Deploy { variables, all_traffic })
            }
            FaultKind::ScaleOut { instances } => {
                if let Some(cloud_run) = self.service(BACKEND) {
                    cloud_run.scale_out(instances);
                }
                Undo::ScaleOut
            }
            FaultKind::DatabaseLock { ref table } => Undo::Clients(self.lock_table(table).await?),
            _ => Undo::Nothing,
        })
    }

    async fn end(&self, index: usize, undo: Undo) -> Result<(), LabError> {
        match undo {
            Undo::Nothing => {}
            Undo::Clients(clients) => clients.abort(),
            Undo::Password => self.set_password(&self.password).await?,
            Undo::Deploy(service, deploy) => {
                if let Some(cloud_run) = self.service(&service) {
                    cloud_run.deploy(deploy);
                }
            }
            Undo::ScaleOut => {
                if let Some(cloud_run) = self.service(BACKEND) {
                    cloud_run.scale_out(0);
                }
            }
        }
        self.record_end(index);
        self.connector.settled().await;
        Ok(())
    }

    async fn wait_for_neighbours(&self, connections: u32) -> Result<(), LabError> {
        let deadline = clock::now() + NEIGHBOURS_WITHIN;
        loop {
            let truth = self.connector.truth();
            let all = connections.min(truth.capacity);
            if truth.neighbours >= all {
                self.connector.settled().await;
                return Ok(());
            }
            if clock::now() > deadline {
                return Err(too_late(&FaultKind::ConnectorNeighbour {
                    connections: None,
                    mbps: 0.0,
                }));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn set_password(&self, password: &SecretString) -> Result<(), LabError> {
        // The name is checked, the password is hex: nothing to escape.
        let statement =
            format!("alter role \"{}\" password '{}'", self.user, password.expose_secret());
        let changed = self.superuser.batch_execute(&statement).await;
        changed.map_err(|source| LabError::Sql { action: "change the role's password", source })
    }

    fn service(&self, name: &str) -> Option<&CloudRun> {
        self.cloud_run.get()?.get(name)
    }

    /// Holds the table until the handle ends it.
    async fn lock_table(&self, table: &str) -> Result<AbortHandle, LabError> {
        let sql = |source| LabError::Sql { action: "lock a table", source };
        let (client, connection) =
            self.superuser_config.connect(tokio_postgres::NoTls).await.map_err(sql)?;
        tokio::spawn(connection);
        // The name is checked: lower-case letters and '_'.
        let lock = format!("begin; lock table \"{table}\" in access exclusive mode");
        client.batch_execute(&lock).await.map_err(sql)?;
        Ok(self.tasks.spawn_abortable(async move {
            let _held = client;
            std::future::pending::<()>().await;
        }))
    }

    fn change(&self, act: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut state);
        self.switches
            .send_replace(Switches::from_faults(state.active.iter().map(|(_, kind)| kind)));
    }

    fn record_begin(&self, index: usize, kind: &FaultKind) {
        let now = self.clock.ms();
        self.change(|state| {
            state.active.push((index, kind.clone()));
            state.truth.push(FaultTruth { kind: kind.name().into(), from_ms: now, until_ms: None });
        });
    }

    fn record_end(&self, index: usize) {
        let now = self.clock.ms();
        self.change(|state| {
            let Some(position) = state.active.iter().position(|(active, _)| *active == index)
            else {
                return;
            };
            let (_, kind) = state.active.remove(position);
            let open = state
                .truth
                .iter_mut()
                .find(|fault| fault.kind == kind.name() && fault.until_ms.is_none());
            if let Some(fault) = open {
                fault.until_ms = Some(now);
            }
        });
    }

    /// Faults that have begun.
    pub(crate) fn truth(&self) -> Vec<FaultTruth> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).truth.clone()
    }
}

fn too_late(kind: &FaultKind) -> LabError {
    LabError::Fault {
        kind: kind.name(),
        why: format!("not in force after {} s", NEIGHBOURS_WITHIN.as_secs()),
    }
}

/// The faults that were in force before the lab was ready.
#[derive(Debug)]
pub(crate) struct Begun(Vec<Option<Undo>>);
