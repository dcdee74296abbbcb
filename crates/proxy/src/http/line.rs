//! Where connections with more to do than one turn holds wait for their next: a worker gives one such turn each time it
//! has looked at its sockets, and whoever asks little is served in between. Without it, a request waits behind a turn of
//! every busy connection at each of its four steps through a proxy.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

// A thread is a worker, and a turn begins and ends on it.
thread_local!(static LINE: Arc<Line> = Arc::default());

/// That of one worker.
#[derive(Default)]
struct Line(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    places: VecDeque<oneshot::Sender<()>>,
    /// An usher is at work.
    ushered: bool,
}

impl Line {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<oneshot::Sender<()>> {
        self.waiting().places.pop_front()
    }
}

/// Calls one after the other; the line is empty when it ends, whatever ends it.
struct Usher(Arc<Line>);

impl Usher {
    async fn call(self) {
        while let Some(place) = self.0.next() {
            if place.send(()).is_ok() {
                // Tokio goes on here after it has looked at its sockets, and after whom it found there.
                yield_now().await;
            }
        }
    }
}

impl Drop for Usher {
    fn drop(&mut self) {
        *self.0.waiting() = Waiting::default();
    }
}

/// A place in the line of this worker. Its turn has come once it is ready.
pub struct Place(oneshot::Receiver<()>);

impl Place {
    /// At the end of the line.
    pub fn last() -> Self {
        let (place, called) = oneshot::channel();
        let line = LINE.with(Clone::clone);
        let mut waiting = line.waiting();
        waiting.places.push_back(place);
        if !std::mem::replace(&mut waiting.ushered, true) {
            drop(waiting);
            tokio::spawn(Usher(line).call());
        }
        Self(called)
    }
}

/// Ready when `time` is over and then its turn has come: a crowd whose time is over together ends one after another, with
/// others served in between.
pub async fn after(time: Duration) {
    sleep(time).await;
    Place::last().await;
}

impl Future for Place {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::task::JoinSet;
    use tokio::time::timeout;

    /// What a worker does that has three busy connections of two turns each, and one that asks little.
    async fn work() -> String {
        let done = Arc::new(Mutex::new(String::new()));
        let say = |what| done.lock().unwrap().push(what);
        let mut busy: JoinSet<()> = ['a', 'b', 'c']
            .into_iter()
            .map(|name| {
                let done = done.clone();
                async move {
                    for _ in 0..2 {
                        Place::last().await;
                        done.lock().unwrap().push(name);
                    }
                }
            })
            .collect();
        while !busy.is_empty() {
            yield_now().await;
            while busy.try_join_next().is_some() {}
            say('.');
        }
        done.lock().unwrap().clone()
    }

    #[tokio::test]
    async fn busy_connections_take_turns_one_at_a_time_with_others_in_between() {
        let seen = timeout(Duration::from_secs(5), work()).await.unwrap();
        let turns: Vec<&str> = seen.split('.').filter(|turns| !turns.is_empty()).collect();
        assert_eq!(turns, ["a", "b", "c", "a", "b", "c"], "{seen}");
    }

    #[tokio::test]
    async fn a_crowd_whose_time_is_over_ends_one_after_another() {
        let done = Arc::new(Mutex::new(String::new()));
        let mut crowd: JoinSet<()> = (0..3)
            .map(|_| {
                let done = done.clone();
                async move {
                    after(Duration::from_millis(20)).await;
                    done.lock().unwrap().push('x');
                }
            })
            .collect();
        let others = async {
            while !crowd.is_empty() {
                yield_now().await;
                while crowd.try_join_next().is_some() {}
                done.lock().unwrap().push('.');
            }
        };
        timeout(Duration::from_secs(5), others).await.unwrap();
        let seen = done.lock().unwrap().clone();
        assert!(seen.matches('x').count() == 3 && !seen.contains("xx"), "{}", seen.replace("..", ""));
    }

    #[test]
    fn a_line_that_was_left_is_no_line_for_the_next_worker_of_the_thread() {
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let left = runtime().block_on(async { (Place::last(), Place::last()) });
        let seen = runtime().block_on(async { timeout(Duration::from_secs(5), work()).await.unwrap() });
        assert_eq!(seen.replace('.', ""), "abcabc");
        runtime()
            .block_on(async { timeout(Duration::from_secs(5), async { (left.0.await, left.1.await) }).await.unwrap() });
    }
}
