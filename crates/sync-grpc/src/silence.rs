//! Ends connections over which nothing comes. The side that dialled pings, so a healthy one is never silent; that the
//! other side only listens, with one alarm for all its connections, halves what idle streams cost.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Context;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// All connections of one listener.
pub(crate) struct Silence {
    start: Instant,
    silent_max: Duration,
    lines: Mutex<Vec<Weak<Line>>>,
    first: Notify,
}

/// One connection, as the alarm sees it.
struct Line {
    start: Instant,
    heard_ms: AtomicU64,
    over: CancellationToken,
}

/// One connection's own end.
pub(crate) struct Patience {
    line: Arc<Line>,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Silence {
    pub(crate) fn new(silent_max: Duration) -> Self {
        Self { start: Instant::now(), silent_max, lines: Mutex::default(), first: Notify::new() }
    }

    /// Watches one more.
    pub(crate) fn watch(&self) -> Patience {
        let line = Arc::new(Line { start: self.start, heard_ms: AtomicU64::new(0), over: CancellationToken::new() });
        line.heard();
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            self.first.notify_one();
        }
        lines.push(Arc::downgrade(&line));
        let over = Box::pin(line.over.clone().cancelled_owned());
        Patience { line, over }
    }

    /// Rings when the longest silent one could be over. Whoever comes later is over later, and needs no ring of its own.
    pub(crate) async fn run(&self) {
        loop {
            match self.next() {
                Some(at) => sleep_until(at).await,
                None => self.first.notified().await,
            }
        }
    }

    fn next(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut next = None;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.retain(|line| {
            let Some(line) = line.upgrade() else { return false };
            let end = line.heard_at() + self.silent_max;
            if end <= now {
                line.over.cancel();
                return false;
            }
            next = Some(next.map_or(end, |next: Instant| next.min(end)));
            true
        });
        next
    }
}

impl Line {
    fn heard(&self) {
        self.heard_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn heard_at(&self) -> Instant {
        self.start + Duration::from_millis(self.heard_ms.load(Ordering::Relaxed))
    }
}

impl Patience {
    /// Something came.
    pub(crate) fn heard(&self) {
        self.line.heard();
    }

    /// Whether nothing came for too long; wakes the task when that is so.
    pub(crate) fn is_over(&mut self, cx: &mut Context<'_>) -> bool {
        self.over.as_mut().poll(cx).is_ready()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
    use tokio::time::interval;

    const SILENT_MAX: Duration = Duration::from_millis(200);

    async fn over(patience: &mut Patience) {
        poll_fn(|cx| if patience.is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    #[tokio::test]
    async fn only_the_silent_one_ends_and_not_too_early() {
        let silence = Arc::new(Silence::new(SILENT_MAX));
        let ringing = silence.clone();
        tokio::spawn(async move { ringing.run().await });
        let begin = Instant::now();
        let (mut silent, mut lively) = (silence.watch(), silence.watch());
        let mut often = interval(SILENT_MAX / 40);
        let talking = async {
            loop {
                often.tick().await;
                lively.heard();
            }
        };
        tokio::select! {
            () = over(&mut silent) => {}
            () = talking => {}
        }
        // Both clocks count whole milliseconds.
        assert!(begin.elapsed() + Duration::from_millis(1) >= SILENT_MAX, "{:?}", begin.elapsed());
        assert!(!poll_fn(|cx| Poll::Ready(lively.is_over(cx))).await);
        over(&mut lively).await;
    }
}
