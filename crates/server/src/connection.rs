//! One connection: every byte is counted at the socket, TLS included, and charged to the run it was for.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wire::names::RunId;

tokio::task_local! {
    /// Who sent the request that the current task answers.
    pub(crate) static CLIENT: IpAddr;
}

/// Who sent the current request: the other end of its connection, or whom a trusted proxy speaks for.
pub(crate) fn client() -> Option<IpAddr> {
    CLIENT.try_with(|address| *address).ok()
}

/// Work that is done in a task of its own, still for whoever sent the current request.
pub(crate) fn for_client<T>(work: impl Future<Output = T>) -> impl Future<Output = T> {
    let client = client();
    async move {
        match client {
            Some(client) => CLIENT.scope(client, work).await,
            None => work.await,
        }
    }
}

/// A connection as the handlers see it.
#[derive(Clone, Default)]
pub(crate) struct Connection {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Read and written so far.
    total: AtomicU64,
    run: Mutex<Charged>,
}

#[derive(Default)]
struct Charged {
    /// The run that pays.
    run: Option<RunId>,
    /// What has been charged already.
    bytes: u64,
}

impl Connection {
    /// From now on, and for all it carried before, this connection is charged to `run`.
    pub(crate) fn belongs_to(&self, run: RunId) {
        self.counts
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .run = Some(run);
    }

    /// Takes what is to be charged and has not been yet.
    pub(crate) fn take_uncharged(&self) -> Option<(RunId, u64)> {
        let mut charged = self
            .counts
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let run = charged.run?;
        let total = self.counts.total.load(Ordering::Relaxed);
        let bytes = total.saturating_sub(charged.bytes);
        charged.bytes = total;
        (bytes > 0).then_some((run, bytes))
    }

    /// A charge could not be stored: it is due again.
    pub(crate) fn put_back(&self, bytes: u64) {
        let mut charged = self
            .counts
            .run
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        charged.bytes = charged.bytes.saturating_sub(bytes);
    }

    fn count(&self, bytes: usize) {
        self.counts
            .total
            .fetch_add(u64::try_from(bytes).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// A socket that counts.
pub(crate) struct Counted<S> {
    pub(crate) socket: S,
    pub(crate) connection: Connection,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buffer);
        self.connection.count(buffer.filled().len() - before);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = &result {
            self.connection.count(*written);
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(written)) = &result {
            self.connection.count(*written);
        }
        result
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

#[cfg(test)]
mod tests {
    use super::{Connection, Counted};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use wire::names::RunId;

    #[tokio::test]
    async fn bytes_before_the_run_was_known_are_charged_too_and_only_once() {
        let (socket, mut other) = tokio::io::duplex(64);
        let connection = Connection::default();
        let mut socket = Counted {
            socket,
            connection: connection.clone(),
        };
        other.write_all(b"12345").await.unwrap();
        let mut buffer = [0; 5];
        socket.read_exact(&mut buffer).await.unwrap();
        assert_eq!(connection.take_uncharged(), None);
        let run = RunId::random();
        connection.belongs_to(run);
        socket.write_all(b"123").await.unwrap();
        assert_eq!(connection.take_uncharged(), Some((run, 8)));
        assert_eq!(connection.take_uncharged(), None);
        connection.put_back(8);
        assert_eq!(connection.take_uncharged(), Some((run, 8)));
    }
}
