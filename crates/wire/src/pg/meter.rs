//! The adapter between socket and client library: counts, caps, stamps and remembers.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use shakedown_core::Fault;
use shakedown_core::clock::{self, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{Event, Frame};
use crate::tls;
use crate::transport::{Transport, forgiving};

/// What has been seen of one connection, shared between the adapter inside the client library and
/// us outside of it.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Bytes the server sent.
    pub(crate) bytes: u64,
    /// Of these, how many it had sent before the exchange at hand.
    pub(crate) before: u64,
    /// How many it may send in the exchange at hand.
    pub(crate) cap: u64,
    /// When its first message began, if that was no error.
    pub(crate) answered: Option<Instant>,
    /// When AuthenticationOk came.
    pub(crate) authenticated: Option<Instant>,
    /// When it was first ready for a query.
    pub(crate) ready: Option<Instant>,
    /// The backend's process id.
    pub(crate) backend: i32,
    /// What the socket, or what came out of it, was first seen to be wrong with.
    pub(crate) fault: Option<Fault>,
    /// The socket, once the client library has let go of it.
    pub(crate) returned: Option<Transport>,
}

/// Shared access to [`Seen`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter(Arc<Mutex<Seen>>);

impl Meter {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream for the client library over `transport`.
    pub(crate) fn over(&self, transport: Transport) -> Metered {
        Metered { transport: Some(transport), frame: Frame::default(), meter: self.clone() }
    }
}

/// The stream the client library gets. When dropped, it hands the socket back to the meter, so that
/// we can wait for the server's end of it.
#[derive(Debug)]
pub(crate) struct Metered {
    /// Always there until drop.
    transport: Option<Transport>,
    frame: Frame,
    meter: Meter,
}

impl Metered {
    fn transport(&mut self) -> Pin<&mut Transport> {
        Pin::new(self.transport.as_mut().expect("taken only by drop"))
    }

    fn note(&self, fault: Fault) {
        self.meter.seen().fault.get_or_insert(fault);
    }

    fn look(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut seen = self.meter.seen();
        seen.bytes += bytes.len() as u64;
        let outcome = if bytes.is_empty() {
            Err(Fault::Closed)
        } else {
            self.frame.follow(bytes, |event| match event {
                Event::Answered => seen.answered = Some(clock::now()),
                Event::Authenticated => seen.authenticated = Some(clock::now()),
                Event::Backend(pid) => seen.backend = pid,
                Event::Ready => {
                    seen.ready.get_or_insert_with(clock::now);
                }
            })
        };
        let (bytes, cap) = (seen.bytes - seen.before, seen.cap);
        let within = if bytes > cap { Err(Fault::TooLarge { bytes, cap }) } else { Ok(()) };
        let outcome = outcome.and(within);
        if let Err(fault) = &outcome {
            seen.fault.get_or_insert(fault.clone());
        }
        outcome
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        self.meter.seen().returned = self.transport.take();
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        match self.transport().poll_read(cx, buf) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => {
                self.note(tls::fault(&error));
                Poll::Ready(Err(error))
            }
            Poll::Ready(Ok(())) => match self.look(&buf.filled()[before..]) {
                // The library sees the end of the stream by itself.
                Ok(()) | Err(Fault::Closed) => Poll::Ready(Ok(())),
                Err(fault) => {
                    buf.set_filled(before);
                    Poll::Ready(Err(io::Error::other(fault)))
                }
            },
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.transport().poll_write(cx, buf);
        forgiving(written, buf.len(), |fault| self.note(fault))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.transport().poll_flush(cx);
        forgiving(flushed, (), |fault| self.note(fault))
    }

    /// Only flushes: the library asks for it after its farewell, upon which the server closes.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
