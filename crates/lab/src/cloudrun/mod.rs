//! Cloud Run, as a service of the lab's staging sees it: revisions, instances and what the platform
//! says about them in the log.
//!
//! A deploy makes a revision; its first instance is started and probed by TCP; once the probe is
//! green the revision takes all requests and the old one's instances are shut down. An instance
//! that dies is started again, a little later each time. Whether the application works is none of
//! the platform's business: gunicorn binds its port before its worker boots.

mod instance;
pub(crate) mod log;
pub(crate) mod revision;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use shakedown_core::clock;
use shakedown_core::environment::TimeScale;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::services::upstream::Upstream;
use crate::tasks::Tasks;
use instance::Reason;
use log::{CloudLog, Origin};
use revision::{Deploy, Revision};

/// How long an instance may take until it listens: the observed deployment's start-up probe.
const STARTUP_CEILING: Duration = Duration::from_secs(240);

/// What all instances need.
#[derive(Debug)]
pub(crate) struct Platform {
    /// Runs [`backend()`](crate::backend()) when given `args`.
    pub(crate) exe: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Is the service `backend` instead.
    pub(crate) backend: Option<PathBuf>,
    pub(crate) log: Arc<CloudLog>,
    pub(crate) scale: TimeScale,
    pub(crate) project: String,
    /// `PROJECT:REGION:INSTANCE` of the database.
    pub(crate) connection_name: String,
}

/// A service on it.
#[derive(Debug)]
pub(crate) struct CloudRun {
    orders: mpsc::UnboundedSender<Order>,
}

enum Order {
    Deploy(Deploy),
    /// So many instances besides the minimum.
    Extra(u32),
}

impl CloudRun {
    /// Deploys `first` and keeps one instance of the latest revision running until the lab ends.
    /// Where requests go is told to `upstream`.
    pub(crate) fn start(
        platform: Arc<Platform>,
        first: Revision,
        upstream: watch::Sender<Upstream>,
        tasks: &Tasks,
    ) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        upstream.send_replace(Upstream::Starting);
        let service = Running {
            platform,
            revision: Arc::new(first),
            minimum: None,
            extra: Vec::new(),
            upstream,
            tasks: tasks.clone(),
        };
        tasks.spawn(service.run(receiver));
        Self { orders }
    }

    /// Deploys a revision that differs in this.
    pub(crate) fn deploy(&self, deploy: Deploy) {
        // Nobody listens any more when the lab is ending.
        let _ = self.orders.send(Order::Deploy(deploy));
    }

    /// Scales out to so many instances besides the minimum, or in.
    pub(crate) fn scale_out(&self, extra: u32) {
        let _ = self.orders.send(Order::Extra(extra));
    }
}

/// An instance's place.
struct Place {
    state: watch::Receiver<Upstream>,
    stop: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Running {
    platform: Arc<Platform>,
    revision: Arc<Revision>,
    minimum: Option<Place>,
    extra: Vec<Place>,
    upstream: watch::Sender<Upstream>,
    tasks: Tasks,
}

impl Running {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut began = clock::now();
        self.audit();
        let mut next = Some(self.place(Reason::MinInstance));
        loop {
            let change = async {
                tokio::select! {
                    () = changed(next.as_mut()) => {}
                    () = changed(self.minimum.as_mut()) => {}
                }
            };
            tokio::select! {
                order = orders.recv() => match order {
                    None => return,
                    Some(Order::Deploy(deploy)) => {
                        self.revision = Arc::new(self.revision.next(&deploy));
                        began = clock::now();
                        self.audit();
                        next = Some(self.place(Reason::MinInstance));
                    }
                    Some(Order::Extra(extra)) => self.scale(extra as usize),
                },
                () = change => {
                    let state = |place: &Option<Place>| place.as_ref().map(|place| *place.state.borrow());
                    // A revision takes over once an instance of it listens.
                    if matches!(state(&next), Some(Upstream::Serving(_))) {
                        self.ready(began.elapsed());
                        self.minimum = next.take();
                        self.scale(0);
                    }
                    let now = state(&self.minimum).unwrap_or(Upstream::Starting);
                    self.upstream.send_if_modified(|shown| std::mem::replace(shown, now) != now);
                }
            }
        }
    }

    /// Starts an instance of the latest revision.
    fn place(&self, reason: Reason) -> Place {
        let (sender, state) = watch::channel(Upstream::Starting);
        let stop = CancellationToken::new();
        let (platform, revision) = (Arc::clone(&self.platform), Arc::clone(&self.revision));
        self.tasks.spawn(instance::keep(platform, revision, reason, sender, stop.clone()));
        Place { state, stop }
    }

    fn scale(&mut self, extra: usize) {
        self.extra.truncate(extra);
        while self.extra.len() < extra {
            let place = self.place(Reason::Autoscaling);
            self.extra.push(place);
        }
    }

    fn audit(&self) {
        let origin = Origin { service: &self.revision.service, ..Origin::default() };
        let Platform { project, connection_name, .. } = &*self.platform;
        let call = self.revision.replace_service(project, connection_name);
        self.platform.log.audit(origin, "NOTICE", call);
    }

    fn ready(&self, after: Duration) {
        let name = self.revision.name();
        let origin = Origin { service: &self.revision.service, revision: &name, instance: "" };
        let event = self.revision.ready(&self.platform.project, after.as_secs_f64());
        self.platform.log.audit(origin, "INFO", event);
    }
}

/// Resolves when the state of an instance's place has changed; never without one.
async fn changed(place: Option<&mut Place>) {
    let changed = match place {
        Some(place) => place.state.changed().await.is_ok(),
        None => false,
    };
    if !changed {
        std::future::pending::<()>().await;
    }
}

/// Resolves when the service has answered a health check, when an instance that listened has died,
/// or after `patience`.
///
/// # Cancel safety
/// Cancel safe.
pub(crate) async fn answered(mut state: watch::Receiver<Upstream>, patience: Duration) {
    let settled = async {
        let serving = |upstream: &Upstream| matches!(upstream, Upstream::Serving(_));
        let Ok(found) = state.wait_for(serving).await.map(|found| *found) else { return };
        let Upstream::Serving(address) = found else { return };
        // Answered, or broken off because it died: either settles it.
        let _ = ask(address).await;
    };
    let _ = tokio::time::timeout(patience, settled).await;
}

async fn ask(address: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n").await?;
    stream.read_u8().await.map(drop)
}
