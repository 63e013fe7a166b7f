//! One request and its answer over hyper, driven in place.

use std::error::Error as _;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use http::response::Parts;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Bytes, Incoming};
use hyper::client::conn::http1::{self, Connection};
use hyper_util::rt::TokioIo;
use shakedown_core::Fault;

use super::HEAD_CAP_BYTES;
use crate::climb::quoted;
use crate::tls;
use crate::transport::Transport;
use crate::watched::Watched;

type Conn = Connection<TokioIo<Watched>, Full<Bytes>>;

/// An answer whose head has come.
pub(crate) struct Exchange {
    connection: Conn,
    /// Set when hyper is done with the socket.
    done: bool,
    pub(crate) head: Parts,
    body: Incoming,
}

impl Exchange {
    /// Sends `request` and waits for the head of the answer.
    pub(crate) async fn start(
        transport: Transport,
        request: http::Request<Full<Bytes>>,
    ) -> Result<Self, Fault> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_CAP_BYTES as usize);
        let io = TokioIo::new(Watched::new(transport));
        let (mut sender, mut connection) =
            builder.handshake(io).await.map_err(|error| plain_fault(&error))?;
        let mut done = false;
        let sent = sender.send_request(request);
        match driven(sent, &mut connection, &mut done).await {
            Ok(response) => {
                let (head, body) = response.into_parts();
                Ok(Self { connection, done, head, body })
            }
            Err(error) => Err(fault_of(&error, connection)),
        }
    }

    /// Reads the body.
    ///
    /// # Errors
    ///
    /// [`Fault::TooLarge`] as soon as more than `cap` bytes are announced or have come.
    pub(crate) async fn body(&mut self, cap: u64) -> Result<Vec<u8>, Fault> {
        let Self { connection, done, body, .. } = self;
        let announced = body.size_hint().lower();
        if announced > cap {
            return Err(Fault::TooLarge { bytes: announced, cap });
        }
        let mut read = Vec::new();
        loop {
            match driven(body.frame(), connection, done).await {
                None => return Ok(read),
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let bytes = (read.len() + data.len()) as u64;
                    if bytes > cap {
                        return Err(Fault::TooLarge { bytes, cap });
                    }
                    read.extend_from_slice(&data);
                }
                Some(Err(error)) => return Err(plain_fault(&error)),
            }
        }
    }

    /// The first `cap` bytes of the body, or what came of them.
    pub(crate) async fn beginning(&mut self, cap: u64) -> Vec<u8> {
        let Self { connection, done, body, .. } = self;
        let mut read = Vec::new();
        while let Some(Ok(frame)) = driven(body.frame(), connection, done).await {
            read.extend_from_slice(&frame.into_data().unwrap_or_default());
            if read.len() as u64 >= cap {
                read.truncate(cap as usize);
                break;
            }
        }
        read
    }

    /// The head, and the socket with what was seen of it.
    pub(crate) fn end(self) -> (Parts, Watched) {
        let (head, watched, _) = with_parts(self);
        (head, watched)
    }
}

/// The head, the socket, and what hyper had read of it beyond the answer.
pub(crate) fn with_parts(exchange: Exchange) -> (Parts, Watched, Bytes) {
    let Exchange { connection, head, .. } = exchange;
    let parts = connection.into_parts();
    (head, parts.io.into_inner(), parts.read_buf)
}

/// Runs `work`, and the connection beside it, until `work` ends.
async fn driven<W: Future>(work: W, connection: &mut Conn, done: &mut bool) -> W::Output {
    let mut work = pin!(work);
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(output) = work.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if *done || connection.poll_without_shutdown(cx).is_pending() {
                return Poll::Pending;
            }
            // Its error, if it is one, reaches the work.
            *done = true;
        }
    })
    .await
}

/// What the socket showed before what the library says.
fn fault_of(error: &hyper::Error, connection: Conn) -> Fault {
    let watched = connection.into_parts().io.into_inner();
    // Hyper tells the client of it only in words.
    if error.is_parse() && error.to_string().contains("too large") {
        return Fault::TooLarge { bytes: watched.bytes, cap: HEAD_CAP_BYTES };
    }
    match watched.fault {
        Some(fault) if !error.is_parse() => fault,
        _ => plain_fault(error),
    }
}

fn plain_fault(error: &hyper::Error) -> Fault {
    if error.is_incomplete_message() || error.is_closed() {
        return Fault::Closed;
    }
    let io = error.source().and_then(|source| source.downcast_ref::<std::io::Error>());
    if let Some(error) = io {
        return tls::fault(error);
    }
    let message = match error.source() {
        Some(source) => format!("expected HTTP: {error}: {source}"),
        None => format!("expected HTTP: {error}"),
    };
    Fault::Protocol { message: quoted(&message, 300) }
}
