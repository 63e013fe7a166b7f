//! An open session.

use std::error::Error as _;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use futures_util::{StreamExt, future};
use shakedown_core::clock;
use shakedown_core::{Fault, Lease, ProbeCtx, Span, Step};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Row};

use super::connect::Parts;
use super::meter::{Meter, Metered};
use super::statements::Statement;
use super::target::PgTarget;
use crate::bounds::Bounds;
use crate::climb::{CLOSE_LIMIT, quoted};

/// The half of the client library that reads and writes the socket.
pub(crate) type Driver = tokio_postgres::Connection<Metered, NoTlsStream>;

/// The most the server may send in answer to one [`PgConnection::query`].
pub const ANSWER_CAP_BYTES: u64 = 4 << 20;

/// How much longer than the server we wait, so that its own word comes first.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// From this version on a server looks by itself whether its client is still there.
const KNOWS_CHECK_INTERVAL: u32 = 140_000;

/// What [`PgConnection::stream_bytes`] read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// How many bytes in all, framing included.
    pub bytes: u64,
    /// One stamp per row, in time order.
    pub arrivals: Vec<Arrival>,
}

/// How far a stream had come at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Since the query was sent.
    pub after: Duration,
    /// Bytes read by then.
    pub bytes: u64,
}

/// A session of ours with its lease.
///
/// No task runs behind it: the socket is only read and written while one of its methods is awaited.
/// Dropping it closes the socket at once and lets the lease linger; prefer
/// [`close`](PgConnection::close).
pub struct PgConnection {
    client: Client,
    /// `None` once the session has ended.
    driver: Option<Driver>,
    meter: Meter,
    lease: Lease,
    statement_timeout: Duration,
    bounds: Bounds,
    /// A setting to send along with the first statement that takes its time.
    prelude: Option<&'static str>,
}

impl PgConnection {
    pub(crate) fn new(ctx: &ProbeCtx, lease: Lease, target: &PgTarget, parts: Parts) -> Self {
        let Parts { client, driver, meter } = parts;
        let mut connection = Self {
            client,
            driver: Some(driver),
            meter,
            lease,
            statement_timeout: target.statement_timeout,
            bounds: Bounds::of(ctx),
            prelude: None,
        };
        // Unknown to older servers, which would refuse the session if it came with the start-up.
        if connection.server_version() >= Some(KNOWS_CHECK_INTERVAL) {
            connection.prelude = Some("set client_connection_check_interval = '2s'");
        }
        connection
    }

    /// Runs `statement` and returns its rows.
    ///
    /// Waits for the statement timeout and a second more; the server may answer with at most
    /// [`ANSWER_CAP_BYTES`].
    ///
    /// # Errors
    ///
    /// [`Fault::Sql`] is the server's answer and leaves the session usable (unless it was FATAL).
    /// After any other fault it is not. A probe that is cancelled or out of time gets
    /// [`Fault::Timeout`].
    ///
    /// # Panics
    ///
    /// When `params` are not as many as the statement has.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the statement may go on at the server until its timeout; its answer is thrown
    /// away. The session stays usable.
    pub async fn query(
        &mut self,
        statement: Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        let mut rows = Vec::new();
        self.run(statement, params, ANSWER_CAP_BYTES, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// As [`query`](PgConnection::query), timed as a step of rung `query`.
    ///
    /// # Errors
    ///
    /// As [`query`](PgConnection::query); the step carries the same fault.
    ///
    /// # Cancel safety
    ///
    /// As [`query`](PgConnection::query).
    pub async fn timed(
        &mut self,
        statement: Statement,
        params: &[&(dyn ToSql + Sync)],
    ) -> (Step, Result<Vec<Row>, Fault>) {
        let (at, since) = (clock::wall(), clock::now());
        let result = self.query(statement, params).await;
        (Step::ended("query", at, since, result.as_ref().err().cloned()), result)
    }

    /// Runs `statement` with `rows` as its one parameter, throws its rows away as they come, and
    /// returns how many bytes the server sent for it, framing included, and when. Keeps one read
    /// buffer and a stamp per row.
    ///
    /// # Errors
    ///
    /// As [`query`](PgConnection::query); more than `cap_bytes` are [`Fault::TooLarge`].
    ///
    /// # Cancel safety
    ///
    /// As [`query`](PgConnection::query).
    pub async fn stream_bytes(
        &mut self,
        statement: Statement,
        rows: i32,
        cap_bytes: u64,
    ) -> (Step, Result<Streamed, Fault>) {
        let (at, since) = (clock::wall(), clock::now());
        let before = self.bytes_read();
        let meter = self.meter.clone();
        let mut arrivals = Vec::new();
        let arrived = |_| {
            let bytes = meter.seen().bytes - before;
            arrivals.push(Arrival { after: since.elapsed(), bytes });
        };
        let result = self.run(statement, &[&rows], cap_bytes, arrived).await;
        let result = result.map(|()| Streamed { bytes: self.bytes_read() - before, arrivals });
        (Step::ended("query", at, since, result.as_ref().err().cloned()), result)
    }

    /// A parameter the server reported, for example `server_version` or `TimeZone`.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.driver.as_ref()?.parameter(name).map(str::to_owned)
    }

    /// The server's version as `server_version_num` has it, for example 150013; `None` when the
    /// server did not say one.
    pub fn server_version(&self) -> Option<u32> {
        let version = self.parameter("server_version")?;
        let number = version.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
        let mut parts = number.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        Some(parts.next()? * 10_000 + parts.next().unwrap_or(0))
    }

    /// The process id of the session's backend, as `pg_stat_activity.pid` shows it.
    pub fn backend_pid(&self) -> i32 {
        self.meter.seen().backend
    }

    /// How many bytes the server has sent so far, TLS taken off.
    pub fn bytes_read(&self) -> u64 {
        self.meter.seen().bytes
    }

    /// Whether the session has ended: nothing can be asked any more.
    pub fn is_ended(&self) -> bool {
        self.driver.is_none()
    }

    /// Says goodbye and waits at most 1 s for the server to close its end; the lease comes back at
    /// once when it did, else it lingers and the step (rung `close`) carries [`Fault::Timeout`] or
    /// what had ended the session before.
    ///
    /// A probe that was cancelled may call this in its grace period: cancellation does not cut the
    /// wait short.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the socket closes and the lease lingers.
    pub async fn close(self) -> Step {
        let (at, since) = (clock::wall(), clock::now());
        let Self { client, driver, meter, lease, .. } = self;
        drop(client);
        let farewell = async {
            if let Some(driver) = driver {
                // Without a client it sends its farewell, flushes and ends.
                let _ = driver.await;
            }
            let socket = meter.seen().returned.take();
            match socket {
                Some(mut socket) => {
                    socket.wait_for_end().await;
                    true
                }
                None => false,
            }
        };
        let gone = tokio::time::timeout(CLOSE_LIMIT, farewell).await.unwrap_or(false);
        let fault = if gone {
            lease.settle();
            None
        } else {
            let earlier = meter.seen().fault.clone();
            Some(earlier.unwrap_or(Fault::Timeout { limit: Span(CLOSE_LIMIT) }))
        };
        Step::ended("close", at, since, fault)
    }

    async fn run(
        &mut self,
        statement: Statement,
        params: &[&(dyn ToSql + Sync)],
        cap_bytes: u64,
        mut each: impl FnMut(Row),
    ) -> Result<(), Fault> {
        assert_eq!(params.len(), statement.types().len(), "as many parameters as {statement} has");
        let prelude = if statement.is_instant() { None } else { self.prelude.take() };
        let limit = self.statement_timeout + PATIENCE;
        let Self { client, driver, meter, bounds, .. } = self;
        {
            let mut seen = meter.seen();
            if driver.is_none() {
                return Err(seen.fault.clone().unwrap_or(Fault::Closed));
            }
            seen.before = seen.bytes;
            seen.cap = cap_bytes;
        }
        let typed: Vec<_> = params.iter().copied().zip(statement.types().iter().cloned()).collect();
        let answer = async {
            if let Some(prelude) = prelude {
                // Sent in one go with the statement. A platform that cannot do it says so; the
                // session is as good without.
                let rows = each_row(client, statement, typed, &mut each);
                let (prelude, rows) = future::join(client.batch_execute(prelude), rows).await;
                rows.map_err(|error| the_servers_word(error, prelude.err()))
            } else {
                each_row(client, statement, typed, &mut each).await
            }
        };
        match bounds.run(limit, driven(answer, driver, meter)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let fault = fault_of(&error, meter);
                if error.as_db_error().is_none() {
                    end(driver, meter, &fault);
                }
                Err(fault)
            }
            Err(fault) => {
                // The answer may still be on its way: nothing more can be asked here.
                end(driver, meter, &fault);
                meter.seen().fault.get_or_insert(fault.clone());
                Err(fault)
            }
        }
    }
}

impl fmt::Debug for PgConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConnection")
            .field("backend_pid", &self.backend_pid())
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}

/// The error of the two that is the server's answer: its last word may have come in answer to the
/// first statement of two.
fn the_servers_word(
    error: tokio_postgres::Error,
    first: Option<tokio_postgres::Error>,
) -> tokio_postgres::Error {
    match first {
        Some(first) if error.as_db_error().is_none() && first.as_db_error().is_some() => first,
        _ => error,
    }
}

/// Ends a session that is of no more use. Its socket stays, to see the server's end of it, where the
/// server is ending it; otherwise it is closed at once.
fn end(driver: &mut Option<Driver>, meter: &Meter, fault: &Fault) {
    *driver = None;
    if !matches!(fault, Fault::Closed | Fault::Reset | Fault::Sql { .. }) {
        let socket = meter.seen().returned.take();
        drop(socket);
    }
}

async fn each_row(
    client: &Client,
    statement: Statement,
    params: Vec<(&(dyn ToSql + Sync), Type)>,
    each: &mut impl FnMut(Row),
) -> Result<(), tokio_postgres::Error> {
    let rows = client.query_typed_raw(statement.sql(), params).await?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.next().await {
        each(row?);
    }
    Ok(())
}

/// Runs `work`, and the driver beside it, until `work` ends.
async fn driven<W: Future>(work: W, driver: &mut Option<Driver>, meter: &Meter) -> W::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            let Some(running) = driver else { return Poll::Pending };
            let Poll::Ready(ended) = Pin::new(running).poll(cx) else { return Poll::Pending };
            // The session has ended, perhaps with a last word of the server's. Without its driver,
            // the work ends upon the next poll.
            if let Err(error) = ended {
                let fault = fault_of(&error, meter);
                meter.seen().fault = Some(fault);
            }
            *driver = None;
        }
    })
    .await
}

/// The fault an error of the client library stands for: the server's word before what the socket
/// showed, before the library's.
pub(crate) fn fault_of(error: &tokio_postgres::Error, meter: &Meter) -> Fault {
    if let Some(answer) = error.as_db_error() {
        return Fault::Sql {
            sqlstate: quoted(answer.code().code(), 5),
            message: quoted(answer.message(), 500),
        };
    }
    if let Some(fault) = &meter.seen().fault {
        return fault.clone();
    }
    let message = match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    Fault::Protocol { message: quoted(&message, 300) }
}
