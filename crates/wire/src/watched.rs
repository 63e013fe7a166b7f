//! The adapter below the HTTP library: counts, stamps and remembers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use shakedown_core::Fault;
use shakedown_core::clock::{self, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls;
use crate::transport::{Transport, forgiving};

/// A socket with what was seen of it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) transport: Transport,
    /// Bytes the peer sent.
    pub(crate) bytes: u64,
    /// When the first of them came.
    pub(crate) first_byte: Option<Instant>,
    /// What the socket was first seen to be wrong with; [`Fault::Closed`] at the peer's end.
    pub(crate) fault: Option<Fault>,
}

impl Watched {
    pub(crate) fn new(transport: Transport) -> Self {
        Self { transport, bytes: 0, first_byte: None, fault: None }
    }

    fn note(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.transport).poll_read(cx, buf);
        match &read {
            Poll::Pending => {}
            Poll::Ready(Err(error)) => self.note(tls::fault(error)),
            Poll::Ready(Ok(())) if buf.filled().len() == before => self.note(Fault::Closed),
            Poll::Ready(Ok(())) => {
                self.bytes += (buf.filled().len() - before) as u64;
                self.first_byte.get_or_insert_with(clock::now);
            }
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write(cx, buf);
        forgiving(written, buf.len(), |fault| self.note(fault))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.transport).poll_flush(cx);
        forgiving(flushed, (), |fault| self.note(fault))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        let all = bufs.iter().map(|buf| buf.len()).sum();
        forgiving(written, all, |fault| self.note(fault))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }
}
