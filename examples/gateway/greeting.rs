//! A client's connection: its first bytes are not waited for for ever, nor is a client that takes nothing.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Sleep, sleep},
};

/// The first bytes of HTTP/2. Until a client has sent all of them, or something else, its version is unknown.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection with a limit on the time until its version of HTTP is known. The limits of each version begin after that.
pub(crate) struct Greeting {
    socket: TcpStream,
    /// Until it is known.
    timer: Option<Pin<Box<Sleep>>>,
    seen: usize,
    /// How long a client may not take what is written.
    stall: Duration,
    /// While it does not.
    full: Option<Pin<Box<Sleep>>>,
}

impl Greeting {
    pub(crate) fn new(limit: Duration, stall: Duration, socket: TcpStream) -> Self {
        Self { socket, timer: Some(Box::pin(sleep(limit))), seen: 0, stall, full: None }
    }

    /// Ends a write that the client has not taken any of for so long.
    fn patiently<T>(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.full = None;
            return write;
        }
        let stall = self.stall;
        ready!(self.full.get_or_insert_with(|| Box::pin(sleep(stall))).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Greeting {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.socket).poll_read(cx, buffer);
        let Some(timer) = &mut this.timer else { return read };
        if read.is_pending() {
            ready!(timer.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let new = &buffer.filled()[before..];
        let is_begun = GREETING[this.seen..].starts_with(new);
        this.seen += new.len();
        if !is_begun || this.seen == GREETING.len() {
            this.timer = None;
        }
        read
    }
}

impl AsyncWrite for Greeting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.patiently(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.patiently(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
