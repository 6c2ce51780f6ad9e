//! Ends connections whose clients do not read what they asked for.
//!
//! Without it a client could ask for much, read nothing, and hold the answers in our memory and
//! the kernel's for ever.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

use crate::connections::Reason;

/// A client that reads more slowly counts as one that does not read.
const BYTES_PER_SECOND_MIN: u64 = 1024;

/// A stream that fails when for too long too little could be written to it.
#[derive(Debug)]
pub(crate) struct WriteProgress<S> {
    inner: S,
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    /// Bytes written since the timer was set; none while nothing waits to be written.
    n_bytes: Option<u64>,
}

impl<S> WriteProgress<S> {
    /// Watches a stream: while something waits to be written, as much must go out in each such
    /// time as a slow line carries.
    pub(crate) fn new(inner: S, limit: Duration) -> Self {
        Self { inner, limit, timer: None, n_bytes: None }
    }

    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = written {
            if let (Some(sum), Ok(n_bytes)) = (&mut self.n_bytes, &result) {
                *sum = sum.saturating_add(u64::try_from(*n_bytes).unwrap_or(u64::MAX));
            }
            return Poll::Ready(result);
        }
        let until = Instant::now() + self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        let n_bytes = match self.n_bytes {
            Some(n_bytes) => n_bytes,
            None => {
                timer.as_mut().reset(until);
                *self.n_bytes.insert(0)
            }
        };
        ready!(timer.as_mut().poll(cx));
        if n_bytes < BYTES_PER_SECOND_MIN.saturating_mul(self.limit.as_secs()).max(1) {
            Reason::NotReading.count();
            let error = io::Error::new(io::ErrorKind::TimedOut, "the client does not read");
            return Poll::Ready(Err(error));
        }
        self.n_bytes = Some(0);
        timer.as_mut().reset(until);
        // Polled once more, so that it wakes us.
        let _rung = timer.as_mut().poll(cx);
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WriteProgress<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WriteProgress<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, parts);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// Whoever flushes has nothing left that waits.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        if flushed.is_ready() {
            self.n_bytes = None;
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn a_client_that_does_not_read_is_ended_and_one_that_waits_is_not() {
        let (ours, mut theirs) = duplex(64);
        let mut ours = WriteProgress::new(ours, LIMIT);
        ours.write_all(&[7; 64]).await.unwrap();
        ours.flush().await.unwrap();
        // Nothing waits to be written, so no time is counted: not in this whole exchange.
        theirs.write_all(&[1]).await.unwrap();
        assert_eq!(ours.read_u8().await.unwrap(), 1);
        let error = ours.write_all(&[7; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_client_that_reads_all_the_time_gets_all_of_it() {
        let (ours, mut theirs) = duplex(64);
        let reader = tokio::spawn(async move {
            let mut read = Vec::new();
            theirs.read_to_end(&mut read).await.map(|_| read.len())
        });
        let mut ours = WriteProgress::new(ours, Duration::from_secs(30));
        ours.write_all(&[7; 100_000]).await.unwrap();
        ours.shutdown().await.unwrap();
        drop(ours);
        assert_eq!(reader.await.unwrap().unwrap(), 100_000);
    }
}
