//! The emulated Serverless VPC Access connector: a TCP relay with the limits of one.

mod database;
mod gate;
mod scaling;
mod state;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::connector::gate::Gate;
use crate::connector::state::{Admission, Client, Fate, Shared};
use crate::relay::both_ways;
use crate::settings::ConnectorSettings;
use crate::switches::Switches;
use crate::tasks::Tasks;
use crate::truth::ConnectorTruth;

/// The emulated connector. One TCP address; behind it instances that share the load.
///
/// What a client sees when there is no room (all connections of all instances in use, or the
/// connection rate exceeded): its SYN stays unanswered, as with the real connector, which forwards
/// packets and answers none itself. It gets through with a retransmit when a connection has ended
/// or an instance was added, or it times out. See [`Gate`] for how fine that is.
///
/// Bytes of all connections, both directions, draw on one budget: the throughput of the current
/// number of instances.
#[derive(Debug)]
pub(crate) struct Connector {
    shared: Arc<Shared>,
    address: SocketAddr,
}

/// What a connector needs to start.
#[derive(Debug)]
pub(crate) struct ConnectorOptions {
    pub(crate) settings: ConnectorSettings,
    pub(crate) seed: u64,
    pub(crate) database: SocketAddr,
    /// Where the connections of neighbours go.
    pub(crate) sink: SocketAddr,
    pub(crate) switches: watch::Receiver<Switches>,
    pub(crate) clock: Clock,
}

impl Connector {
    /// Starts listening.
    pub(crate) fn start(options: ConnectorOptions, tasks: &Tasks) -> io::Result<Self> {
        let gate = Gate::new()?;
        let address = gate.address();
        let shared = Arc::new(Shared::new(options));
        tasks
            .spawn_vital("the connector", accept_clients(Arc::clone(&shared), gate, tasks.clone()));
        tasks.spawn(scaling::run(Arc::clone(&shared), address.port()));
        Ok(Self { shared, address })
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counted.
    pub(crate) fn truth(&self) -> ConnectorTruth {
        self.shared.truth()
    }

    /// How many connections it carries now, at most.
    pub(crate) fn capacity(&self) -> u32 {
        self.shared.capacity()
    }

    /// Resolves when new clients meet what faults and load want them to meet.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn settled(&self) {
        self.shared.settled().await;
    }

    /// Connects as a neighbour: counted and limited like everybody, but carried to the sink.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(crate) async fn connect_neighbour(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        let mut expected =
            ExpectedNeighbour { shared: &self.shared, port: Some(socket.local_addr()?.port()) };
        self.shared.expect_neighbour(socket.local_addr()?.port());
        let stream = socket.connect(self.address).await?;
        // From here on the connector is sure to see it.
        expected.port = None;
        Ok(stream)
    }
}

/// Forgets a neighbour that did not get through, lest another client gets its port.
struct ExpectedNeighbour<'a> {
    shared: &'a Shared,
    port: Option<u16>,
}

impl Drop for ExpectedNeighbour<'_> {
    fn drop(&mut self) {
        if let Some(port) = self.port {
            self.shared.forget_neighbour(port);
        }
    }
}

/// Accepts while there is room. Ends only with an error of the listening socket.
async fn accept_clients(shared: Arc<Shared>, mut gate: Gate, tasks: Tasks) -> io::Error {
    let mut switches = shared.switches();
    loop {
        let admission = shared.admission();
        let done = match admission {
            Admission::Refused => gate.refuse(),
            Admission::Held { .. } => gate.hold().await,
            Admission::Open { room } => gate.open(room),
        };
        if let Err(error) = done {
            return error;
        }
        shared.record_gate(admission.gate());
        let retry = match admission {
            Admission::Held { retry, .. } => retry,
            Admission::Open { .. } | Admission::Refused => None,
        };
        tokio::select! {
            // Keeps a change that came before we waited.
            () = shared.changed.notified() => {}
            _ = switches.changed() => {}
            () = tokio::time::sleep(retry.unwrap_or_default()), if retry.is_some() => {}
            accepted = gate.accept(), if matches!(admission, Admission::Open { .. }) => match accepted {
                Ok((stream, peer)) => tasks.spawn(carry(shared.admit(peer.port()), Arc::clone(&shared), stream)),
                // Gone again, or no file descriptors left: others may have better luck.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

/// Carries one client to its end. Errors are the client's to see.
async fn carry(client: Client, shared: Arc<Shared>, mut stream: TcpStream) {
    let _ = match client.fate {
        Fate::Reset => SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
        Fate::Neighbour => match TcpStream::connect(shared.options.sink).await {
            Ok(mut sink) => both_ways(stream.split(), sink.split(), &client).await,
            Err(error) => Err(error),
        },
        Fate::Carried | Fate::Stalled(_) => {
            let mode = shared.options.switches.borrow().database;
            let nodelay = stream.set_nodelay(true);
            match nodelay {
                Ok(()) => database::serve(stream, shared.options.database, mode, &client).await,
                Err(error) => Err(error),
            }
        }
    };
}
