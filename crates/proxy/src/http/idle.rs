//! How long a stream may stand still. One timer for each stream that has to wait at all; bytes only leave their time, and
//! the timer looks at it when it fires.

use crate::tcp::copy::Moved;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// Why waiting for the head of an answer was given up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Over {
    /// The deadline passed.
    Late,
    /// Nothing moved for as long as a stream may stand still.
    Idle,
}

/// A stream stood still for too long; ends its body.
#[derive(Debug, thiserror::Error)]
#[error("nothing moved in either direction for {} ms", .0.as_millis())]
pub struct StoodStill(pub Duration);

/// Waits for the head of an answer until `deadline`, and no longer than `limit` after the request's body last moved.
pub async fn head<T>(
    sending: impl Future<Output = T>,
    deadline: Instant,
    limit: Duration,
    forth: Option<&Moved>,
) -> Result<T, Over> {
    let began = Instant::now();
    let mut sending = pin!(sending);
    loop {
        let due = forth.map_or(began, |forth| forth.at().max(began)) + limit;
        match timeout_at(due.min(deadline), &mut sending).await {
            Ok(done) => return Ok(done),
            Err(_) if deadline <= due => return Err(Over::Late),
            Err(_) if forth.is_none_or(|forth| forth.at() + limit <= Instant::now()) => return Err(Over::Idle),
            Err(_) => {}
        }
    }
}

/// Watches the body of an answer.
pub struct Idle {
    limit: Duration,
    /// When the request's body last moved; `None`: it has none.
    forth: Option<Arc<Moved>>,
    /// Since when nothing came; `None`: something just did.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    /// Ends a body that stands still for `limit` while `forth` does, too.
    pub fn new(limit: Duration, forth: Option<Arc<Moved>>) -> Self {
        Self { limit, forth, since: None, timer: None }
    }

    /// Something came.
    pub fn moved(&mut self) {
        self.since = None;
    }

    /// Nothing is there now; ready when that has been so for too long.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<StoodStill> {
        let Self { limit, forth, since, timer } = self;
        let since = *since.get_or_insert_with(Instant::now);
        loop {
            let due = forth.as_ref().map_or(since, |forth| forth.at().max(since)) + *limit;
            let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(StoodStill(*limit));
            }
            timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, poll_fn};
    use tokio::time::sleep;

    const LIMIT: Duration = Duration::from_millis(400);

    #[tokio::test]
    async fn a_body_that_moves_now_and_then_goes_on_and_one_that_does_not_ends() {
        let mut idle = Idle::new(LIMIT, None);
        for _ in 0..5 {
            let waiting = poll_fn(|cx| idle.poll(cx));
            assert!(timeout_at(Instant::now() + LIMIT / 4, waiting).await.is_err());
            idle.moved();
        }
        let began = Instant::now();
        poll_fn(|cx| idle.poll(cx)).await;
        assert!(began.elapsed() >= LIMIT, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_request_whose_body_moves_keeps_its_answer_waiting() {
        let forth = Arc::new(Moved::new());
        let mut idle = Idle::new(LIMIT, Some(forth.clone()));
        let began = Instant::now();
        tokio::spawn(async move {
            for _ in 0..6 {
                sleep(LIMIT / 4).await;
                forth.now();
            }
        });
        poll_fn(|cx| idle.poll(cx)).await;
        assert!(began.elapsed() >= LIMIT * 2, "one and a half of it, and then the limit: {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_head_is_waited_for_until_the_deadline_or_until_nothing_moves() {
        let soon = Instant::now() + LIMIT / 2;
        assert_eq!(head(pending::<()>(), soon, LIMIT, None).await, Err(Over::Late));
        let (began, far) = (Instant::now(), Instant::now() + LIMIT * 100);
        assert_eq!(head(pending::<()>(), far, LIMIT, None).await, Err(Over::Idle));
        assert!(began.elapsed() >= LIMIT);
        let (began, forth) = (Instant::now(), Moved::new());
        let moving = async {
            sleep(LIMIT / 2).await;
            forth.now();
            pending::<()>().await;
        };
        assert_eq!(head(moving, far, LIMIT, Some(&forth)).await, Err(Over::Idle));
        // Times of movement are kept to the millisecond.
        assert!(began.elapsed() >= LIMIT * 3 / 2 - Duration::from_millis(2), "{:?}", began.elapsed());
        assert_eq!(head(async { 7 }, far, LIMIT, None).await, Ok(7));
    }
}
