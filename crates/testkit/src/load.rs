//! Requests by the clock, whatever becomes of them, and every answer kept.

use crate::caller::{Answer, Caller};
use crate::wait::SOON;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Requests at a time where only their number counts.
const LANES: usize = 8;

/// One request and what became of it.
#[derive(Clone, Debug)]
pub struct Shot {
    /// When it was sent, since the load began.
    pub at: Duration,
    /// How long its answer took.
    pub took: Duration,
    /// The answer.
    pub answer: Answer,
}

/// Requests with their answers, in the order of the answers.
#[derive(Clone, Debug, Default)]
pub struct Seen(pub Vec<Shot>);

impl Seen {
    /// How many.
    pub fn total(&self) -> usize {
        self.0.len()
    }

    /// Answers other than 200, and none; a few words about the first of them.
    pub fn failed(&self) -> (usize, String) {
        let mut bad = self.0.iter().filter(|shot| !shot.answer.good());
        let first = bad.clone().take(3).map(|Shot { at, answer, .. }| {
            format!("at {} ms: {} {} {} {}", at.as_millis(), answer.status, answer.reason, answer.error, answer.body)
        });
        let words = first.collect::<Vec<_>>().join("; ");
        (bad.by_ref().count(), words)
    }

    /// Answers of a zone.
    pub fn zone(&self, zone: &str) -> usize {
        self.0.iter().filter(|shot| shot.answer.zone == zone).count()
    }

    /// Answers by workload.
    pub fn workloads(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for shot in &self.0 {
            *counts.entry(shot.answer.workload.as_str()).or_default() += 1;
        }
        counts
    }

    /// Those sent at or after a moment.
    pub fn since(&self, moment: Duration) -> Self {
        Self(self.0.iter().filter(|shot| shot.at >= moment).cloned().collect())
    }

    /// The latest.
    pub fn last(&self, count: usize) -> Self {
        Self(self.0[self.0.len().saturating_sub(count)..].to_vec())
    }

    /// The longest wait for an answer.
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|shot| shot.took).max().unwrap_or_default()
    }
}

impl Caller {
    /// So many requests as fast as answers come, a few at a time.
    pub async fn times(self: &Arc<Self>, host: &str, count: usize) -> Seen {
        let begin = Instant::now();
        let mut lanes = JoinSet::new();
        for lane in 0..LANES {
            let (caller, host) = (self.clone(), host.to_owned());
            lanes.spawn(async move {
                let mut shots = Vec::new();
                for _ in (lane..count).step_by(LANES) {
                    let at = begin.elapsed();
                    let answer = caller.get(&host, "/").await;
                    shots.push(Shot { at, took: begin.elapsed() - at, answer });
                }
                shots
            });
        }
        Seen(lanes.join_all().await.into_iter().flatten().collect())
    }
}

/// A running load. Dropping it ends it.
pub struct Load {
    begin: Instant,
    seen: Arc<Mutex<Seen>>,
    news: watch::Receiver<usize>,
    stop: CancellationToken,
}

impl Load {
    /// `GET` to `host` so many times a second.
    pub fn start(caller: Arc<Caller>, host: &str, per_second: u32) -> Self {
        let (begin, seen, stop) = (Instant::now(), Arc::<Mutex<Seen>>::default(), CancellationToken::new());
        let (tell, news) = watch::channel(0);
        let (host, kept, ended) = (host.to_owned(), seen.clone(), stop.clone());
        tokio::spawn(async move {
            let mut clock = interval(Duration::from_secs(1) / per_second);
            clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut open = JoinSet::new();
            loop {
                tokio::select! {
                    _ = clock.tick() => {}
                    () = ended.cancelled() => break,
                }
                let (caller, host, kept, tell) = (caller.clone(), host.clone(), kept.clone(), tell.clone());
                open.spawn(async move {
                    let sent = Instant::now();
                    let answer = caller.get(&host, "/").await;
                    let shot = Shot { at: sent - begin, took: sent.elapsed(), answer };
                    kept.lock().unwrap_or_else(PoisonError::into_inner).0.push(shot);
                    tell.send_modify(|count| *count += 1);
                });
                while open.try_join_next().is_some() {}
            }
            open.join_all().await;
        });
        Self { begin, seen, news, stop }
    }

    /// Since it began.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// What was answered so far.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a condition on the answers, looking after each one. After [`SOON`] it is a panic.
    pub async fn until(&mut self, what: &str, holds: impl Fn(&Seen) -> bool) -> Duration {
        let since = Instant::now();
        let waiting = async {
            while !holds(&self.lock()) {
                self.news.changed().await.expect("the load goes on");
            }
        };
        if timeout(SOON, waiting).await.is_err() {
            let seen = self.seen().last(200);
            panic!("after {SOON:?} still not: {what}; lately {:?}, failed {:?}", seen.workloads(), seen.failed());
        }
        since.elapsed()
    }

    /// Waits for so many further answers.
    pub async fn more(&mut self, count: usize) {
        let from = self.seen().total();
        self.until(&format!("{count} further answers"), |seen| seen.total() >= from + count).await;
    }

    /// Ends it and waits for open requests.
    pub async fn stop(mut self) -> Seen {
        self.stop.cancel();
        // The last sender goes with the last request.
        while self.news.changed().await.is_ok() {}
        self.seen()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
