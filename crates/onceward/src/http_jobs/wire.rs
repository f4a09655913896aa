//! A connection that remembers whether anything has gone over it.

use core::pin::Pin;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use core::task::{Context, Poll};
use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// How much may come before an answer: its head, and interim answers, of which there may be any number.
const BEFORE_ANSWER_MAX: usize = 256 * 1024;

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What has gone over a connection since somebody last asked.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    sent: AtomicBool,
    /// How many bytes have come.
    received: AtomicUsize,
    /// Whether the head of an answer was among them.
    answered: AtomicBool,
}

impl Traffic {
    /// Nothing, from now on.
    pub(super) fn forget(&self) {
        self.sent.store(false, Ordering::SeqCst);
        self.received.store(0, Ordering::SeqCst);
        self.answered.store(false, Ordering::SeqCst);
    }

    /// Whether a byte may have been sent.
    pub(super) fn has_sent(&self) -> bool {
        self.sent.load(Ordering::SeqCst)
    }

    /// Whether a byte has come.
    pub(super) fn has_received(&self) -> bool {
        self.received.load(Ordering::SeqCst) > 0
    }

    /// There is an answer. What follows is its body.
    pub(super) fn is_answered(&self) {
        self.answered.store(true, Ordering::SeqCst);
    }

    /// So many bytes have come; whether that is more than there may be before an answer.
    fn receives(&self, count: usize) -> bool {
        let all = self.received.fetch_add(count, Ordering::SeqCst) + count;
        all > BEFORE_ANSWER_MAX && !self.answered.load(Ordering::SeqCst)
    }
}

/// The stream, and its traffic.
pub(super) struct Wire {
    stream: Stream,
    traffic: Arc<Traffic>,
}

impl Wire {
    pub(super) fn new(stream: Stream) -> (Self, Arc<Traffic>) {
        let traffic = Arc::new(Traffic::default());
        (Self { stream, traffic: Arc::clone(&traffic) }, traffic)
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
        };
        let count = buffer.filled().len().saturating_sub(before);
        if count > 0 && self.traffic.receives(count) {
            let why = format!("more than {BEFORE_ANSWER_MAX} bytes before an answer");
            return Poll::Ready(Err(io::Error::other(why)));
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let traffic = Arc::clone(&self.traffic);
        match &mut self.stream {
            Stream::Plain(stream) => {
                let written = Pin::new(stream).poll_write(context, bytes);
                // What the kernel has not taken was not sent.
                if matches!(written, Poll::Ready(Ok(count)) if count > 0) {
                    traffic.sent.store(true, Ordering::SeqCst);
                }
                written
            }
            Stream::Tls(stream) => {
                // It may send a part and fail with the rest.
                traffic.sent.store(true, Ordering::SeqCst);
                Pin::new(&mut **stream).poll_write(context, bytes)
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}
