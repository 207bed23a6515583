//! A listener that keeps the admin interface from taking what connections of clients need.
//!
//! At most [`CONNECTIONS_MAX`] connections are open, each for at most [`LIFETIME`]: a monitor that leaks connections, or
//! sends half a request and waits, runs into these and not into the process's descriptor limit.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// Half of what the descriptor limit reserves for the control plane.
const CONNECTIONS_MAX: usize = 32;
/// Long enough for a monitor to keep its connection between some scrapes.
const LIFETIME: Duration = Duration::from_secs(300);

/// Accepts from `L` while there is room.
pub(in crate::control) struct Bounded<L> {
    listener: L,
    room: Arc<Semaphore>,
}

/// A connection with its share of the room and its end.
pub(in crate::control) struct Leased<S> {
    stream: S,
    end: Pin<Box<Sleep>>,
    _room: Option<OwnedSemaphorePermit>,
}

/// Room for as many connections as are open at once.
pub(in crate::control) fn room() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(CONNECTIONS_MAX))
}

/// Waits until no connection is open.
pub(in crate::control) async fn until_empty(room: &Semaphore) {
    // The number is small, and the semaphore is never closed.
    let _ = room.acquire_many(CONNECTIONS_MAX as u32).await;
}

impl<L> Bounded<L> {
    /// `room`: as [`room`] makes it.
    pub(in crate::control) fn new(listener: L, room: Arc<Semaphore>) -> Self {
        Self { listener, room }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Leased<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed.
        let room = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, address) = self.listener.accept().await;
        (Leased { stream, end: Box::pin(sleep(LIFETIME)), _room: room }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

impl<S> Leased<S> {
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.end.as_mut().poll(context).is_ready()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leased<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leased<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_over(context) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
    use tokio::time::{Instant, timeout};

    use super::*;

    struct Queue(UnboundedReceiver<DuplexStream>);

    impl Listener for Queue {
        type Io = DuplexStream;
        type Addr = ();

        async fn accept(&mut self) -> (DuplexStream, ()) {
            (self.0.recv().await.expect("the test sends enough"), ())
        }

        fn local_addr(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_connections_are_accepted_than_there_is_room_for() {
        let (sender, receiver) = unbounded_channel();
        let mut listener = Bounded::new(Queue(receiver), room());
        let mut ends = Vec::new();
        let mut open = Vec::new();
        for _ in 0..=CONNECTIONS_MAX {
            let (ours, theirs) = duplex(16);
            ends.push(ours);
            sender.send(theirs).expect("it is read");
        }
        for _ in 0..CONNECTIONS_MAX {
            open.push(listener.accept().await.0);
        }
        assert!(timeout(Duration::from_secs(60), listener.accept()).await.is_err());
        open.pop();
        assert!(timeout(Duration::from_secs(60), listener.accept()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_waits_for_ever_is_ended() {
        let (sender, receiver) = unbounded_channel();
        let mut listener = Bounded::new(Queue(receiver), room());
        let (_silent, theirs) = duplex(16);
        sender.send(theirs).expect("it is read");
        let (mut stream, ()) = listener.accept().await;
        let start = Instant::now();
        let error = stream.read_u8().await.expect_err("its time is over");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), LIFETIME);
    }
}
