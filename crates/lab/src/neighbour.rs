//! Others who use the same connector and the same database.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use tokio_postgres::error::SqlState;

use crate::connector::Connector;
use crate::postgres::NEIGHBOUR;
use crate::relay::BUFFER_BYTES;
use crate::tasks::Tasks;

/// `application_name` of the sessions that hold slots.
pub(crate) const NEIGHBOUR_APPLICATION: &str = "shakedown-lab-neighbour";
/// How soon a neighbour that lost its connection tries again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// How long one connect may take: TCP would send its packet again after 1 s, and a free place would
/// stay free until then.
const CONNECT_WITHIN: Duration = Duration::from_millis(250);
/// How often a sending neighbour sends.
const SEND_EVERY: Duration = Duration::from_millis(50);

/// Opens the sink where neighbours' connections end. It reads and forgets.
pub(crate) fn start_sink(tasks: &Tasks) -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let clients = tasks.clone();
    tasks.spawn_vital("the neighbours' sink", async move {
        loop {
            let Ok((mut stream, _)) = listener.accept().await else {
                tokio::time::sleep(AGAIN_AFTER).await;
                continue;
            };
            clients.spawn(async move {
                let mut ignored = vec![0; BUFFER_BYTES];
                while !matches!(stream.read(&mut ignored).await, Ok(0) | Err(_)) {}
            });
        }
    });
    Ok(address)
}

/// Holds this many connections through the connector and sends `bytes_per_second` over all of them
/// together. Connections that end are made again. Runs until dropped.
pub(crate) async fn hold_connector(
    connector: Arc<Connector>,
    connections: u32,
    bytes_per_second: f64,
) {
    let share = bytes_per_second / f64::from(connections.max(1));
    let mut neighbours = JoinSet::new();
    for _ in 0..connections {
        let connector = Arc::clone(&connector);
        neighbours.spawn(async move {
            loop {
                // Whatever ends it, the next attempt is the answer.
                let _ = hold_one(&connector, share).await;
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        });
    }
    while neighbours.join_next().await.is_some() {}
}

async fn hold_one(connector: &Connector, bytes_per_second: f64) -> io::Result<()> {
    let connected = tokio::time::timeout(CONNECT_WITHIN, connector.connect_neighbour()).await;
    let mut stream = connected.map_err(io::Error::from)??;
    let (mut reader, mut writer) = stream.split();
    let chunk = vec![0; (bytes_per_second * SEND_EVERY.as_secs_f64()).round() as usize];
    let send = async {
        let mut ticks = tokio::time::interval(SEND_EVERY);
        // Behind its rate because the connector is full: it does not catch up.
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if chunk.is_empty() {
                std::future::pending::<()>().await;
            }
            ticks.tick().await;
            writer.write_all(&chunk).await?;
        }
    };
    let mut end = [0];
    tokio::select! {
        sent = send => sent,
        read = reader.read(&mut end) => read.map(drop),
    }
}

/// Where and how slots are taken.
#[derive(Debug, Clone)]
pub(crate) struct SlotOptions {
    /// The server itself, not the connector.
    pub(crate) server: SocketAddr,
    pub(crate) database: String,
    pub(crate) password: SecretString,
}

/// Holds this many sessions of an ordinary role and takes slots again as soon as they are free.
/// Calls `full` each time it has them all or is told that there are no more. Runs until dropped.
pub(crate) async fn hold_slots(options: SlotOptions, sessions: usize, full: impl Fn()) {
    let mut config = tokio_postgres::Config::new();
    config
        .hostaddr(options.server.ip())
        .port(options.server.port())
        .user(NEIGHBOUR)
        .password(options.password.expose_secret())
        .dbname(&options.database)
        .application_name(NEIGHBOUR_APPLICATION);
    let mut held: Vec<tokio_postgres::Client> = Vec::new();
    loop {
        held.retain(|session| !session.is_closed());
        let missing = sessions.saturating_sub(held.len());
        let attempts = join_all((0..missing.min(8)).map(|_| config.connect(NoTls))).await;
        let mut refused = false;
        for attempt in attempts {
            match attempt {
                Ok((session, connection)) => {
                    tokio::spawn(connection);
                    held.push(session);
                }
                Err(error) => refused |= error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS),
            }
        }
        if refused || held.len() >= sessions {
            full();
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }
}
