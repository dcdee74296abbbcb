//! Open-loop load: request after request by the clock, whether or not earlier ones were answered, because users do not
//! wait for each other. Latency counts from the moment a request was due.

use crate::caller::{Caller, Reply};
use anyhow::{Result, bail};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

/// One request and its end.
#[derive(Clone, Debug)]
pub struct Shot {
    /// When it was due, since the load began.
    pub due: Duration,
    /// From then to the end of the answer.
    pub latency: Duration,
    /// What came back.
    pub reply: Reply,
}

struct Shared {
    shots: Mutex<Vec<Shot>>,
    news: Notify,
}

/// A load that runs.
pub struct Load {
    shared: Arc<Shared>,
    begin: Instant,
    task: AbortHandle,
    done: tokio::sync::watch::Sender<bool>,
    ended: tokio::task::JoinHandle<()>,
}

/// What to send.
#[derive(Clone, Debug)]
pub struct Aim {
    /// Service's name.
    pub host: String,
    /// Requests a second.
    pub rate: u32,
    /// Stop after so many; `None`: when told.
    pub count: Option<usize>,
}

impl Aim {
    /// Until stopped.
    pub fn new(host: &str, rate: u32) -> Self {
        Self { host: host.into(), rate, count: None }
    }

    /// So many.
    #[must_use]
    pub fn count(mut self, count: usize) -> Self {
        self.count = Some(count);
        self
    }
}

impl Load {
    /// Begins.
    pub fn start(caller: Arc<Caller>, aim: Aim) -> Self {
        let shared = Arc::new(Shared { shots: Mutex::default(), news: Notify::new() });
        let begin = Instant::now();
        let (done, mut told) = tokio::sync::watch::channel(false);
        let own = shared.clone();
        let ended = tokio::spawn(async move {
            let Aim { host, rate, count } = aim;
            let host: Arc<str> = host.into();
            let mut flying = JoinSet::new();
            for i in 0..count.unwrap_or(usize::MAX) {
                let due = Duration::from_secs_f64(i as f64 / f64::from(rate));
                tokio::select! {
                    () = tokio::time::sleep_until((begin + due).into()) => {}
                    _ = told.wait_for(|done| *done) => break,
                }
                while flying.try_join_next().is_some() {}
                let (caller, host, shared) = (caller.clone(), host.clone(), own.clone());
                flying.spawn(async move {
                    let reply = caller.get(&host, "/").await;
                    let latency = begin.elapsed().saturating_sub(due);
                    shared.shots.lock().unwrap_or_else(PoisonError::into_inner).push(Shot { due, latency, reply });
                    shared.news.notify_waiters();
                });
            }
            while flying.join_next().await.is_some() {}
        });
        Self { shared, begin, task: ended.abort_handle(), done, ended }
    }

    /// When it began.
    pub fn begin(&self) -> Instant {
        self.begin
    }

    /// Time since it began.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// What has ended so far.
    pub fn shots(&self) -> Vec<Shot> {
        self.shared.shots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that were due from `begin` to `end`, and have ended.
    pub fn between(&self, begin: Instant, end: Instant) -> Summary {
        let (begin, end) = (begin.saturating_duration_since(self.begin), end.saturating_duration_since(self.begin));
        let shots = self.shared.shots.lock().unwrap_or_else(PoisonError::into_inner);
        Summary::of(shots.iter().filter(|shot| shot.due >= begin && shot.due <= end))
    }

    /// Waits until what has ended is as wanted; says how long that took.
    pub async fn until(&self, what: &str, limit: Duration, wanted: impl Fn(&[Shot]) -> bool) -> Result<Duration> {
        let since = Instant::now();
        let reached = async {
            loop {
                let news = self.shared.news.notified();
                tokio::pin!(news);
                news.as_mut().enable();
                if wanted(&self.shared.shots.lock().unwrap_or_else(PoisonError::into_inner)) {
                    return;
                }
                news.await;
            }
        };
        if tokio::time::timeout(limit, reached).await.is_err() {
            bail!("after {} s still not: {what} ({})", limit.as_secs(), Summary::of(&self.shots()));
        }
        Ok(since.elapsed())
    }

    /// Waits until all of its count, or at most `limit` after the last one was due, have ended.
    pub async fn finish(mut self, limit: Duration) -> Result<Vec<Shot>> {
        if tokio::time::timeout(limit, &mut self.ended).await.is_err() {
            bail!("the load did not end within {} s", limit.as_secs());
        }
        Ok(self.shots())
    }

    /// Sends no more and waits for what is under way.
    pub async fn stop(mut self) -> Vec<Shot> {
        let _ = self.done.send(true);
        let _ = (&mut self.ended).await;
        self.shots()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Many shots in a few numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// All.
    pub total: usize,
    /// Not 200.
    pub failed: usize,
    /// By zone that answered.
    pub zones: BTreeMap<String, usize>,
    /// By workload that answered, as `ZONE/WORKLOAD`.
    pub workloads: BTreeMap<String, usize>,
    /// Milliseconds.
    pub p50: f64,
    /// Milliseconds.
    pub p99: f64,
    /// Milliseconds.
    pub longest: f64,
    /// A few failures in words.
    pub examples: Vec<String>,
}

/// Failures that are quoted.
const EXAMPLES_MAX: usize = 3;

impl Summary {
    /// Of these.
    pub fn of<'a>(shots: impl IntoIterator<Item = &'a Shot>) -> Self {
        let mut summary = Self::default();
        let mut latencies = Vec::new();
        for Shot { latency, reply, due } in shots {
            summary.total += 1;
            latencies.push(latency.as_secs_f64() * 1e3);
            if !reply.good() {
                summary.failed += 1;
                if summary.examples.len() < EXAMPLES_MAX {
                    summary.examples.push(format!("at {:.2} s: {}", due.as_secs_f64(), reply.words()));
                }
            }
            if !reply.zone.is_empty() {
                *summary.zones.entry(reply.zone.clone()).or_default() += 1;
                *summary.workloads.entry(format!("{}/{}", reply.zone, reply.workload)).or_default() += 1;
            }
        }
        latencies.sort_by(f64::total_cmp);
        (summary.p50, summary.p99) = (percentile(&latencies, 0.5), percentile(&latencies, 0.99));
        summary.longest = latencies.last().copied().unwrap_or(0.0);
        summary
    }

    /// Answers of a zone.
    pub fn zone(&self, name: &str) -> usize {
        self.zones.get(name).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} requests, {} failed", self.total, self.failed)?;
        for (zone, count) in &self.zones {
            write!(f, ", {zone} {count}")?;
        }
        for example in &self.examples {
            write!(f, "; {example}")?;
        }
        Ok(())
    }
}

/// Of sorted values, by nearest rank.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_counts_zones_and_failures() {
        let shot = |zone: &str, status: u16, ms: u64| Shot {
            due: Duration::ZERO,
            latency: Duration::from_millis(ms),
            reply: Reply { status, zone: zone.into(), workload: "a".into(), ..Reply::default() },
        };
        let summary =
            Summary::of(&[shot("west", 200, 1), shot("west", 200, 2), shot("", 503, 9), shot("east", 200, 3)]);
        assert_eq!((summary.total, summary.failed, summary.zone("west"), summary.zone("edge")), (4, 1, 2, 0));
        assert_eq!((summary.p50, summary.longest), (2.0, 9.0));
        assert_eq!(percentile(&[], 0.5), 0.0);
    }
}
