//! A listener whose connections remember when they last read bytes, on CLOCK_BOOTTIME. A stamp
//! taken at the socket is closer to the truth than one taken when a busy handler is polled; it is
//! never earlier than the arrival, so a test that compares with it errs on the strict side.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::clock;

/// Accepts [`StampedStream`]s.
pub struct StampedListener(pub TcpListener);

impl axum::serve::Listener for StampedListener {
    type Io = StampedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.0).await;
        let _ = stream.set_nodelay(true);
        (StampedStream { stream, last_read: LastRead::default() }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// When a connection last read bytes.
#[derive(Debug, Clone, Default)]
pub struct LastRead(Arc<AtomicU64>);

impl LastRead {
    /// CLOCK_BOOTTIME of the last read that brought bytes, in nanoseconds.
    pub fn boottime_ns(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Connected<IncomingStream<'_, StampedListener>> for LastRead {
    fn connect_info(stream: IncomingStream<'_, StampedListener>) -> Self {
        stream.io().last_read.clone()
    }
}

/// A TCP stream that stamps its reads.
pub struct StampedStream {
    stream: TcpStream,
    last_read: LastRead,
}

impl AsyncRead for StampedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let answer = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.last_read.0.store(clock::boottime_ns(), Ordering::Release);
        }
        answer
    }
}

impl AsyncWrite for StampedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
