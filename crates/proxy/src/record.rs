//! One record per request: counted in cells of the worker that served it, and told to the access log.

use crate::access::AccessLog;
use crate::hash::Quick;
use crate::limits::SERIES_MAX;
use api::config::ServiceRef;
use api::report::Flow;
use api::{RouteReason, ZoneName};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// Upper bounds of the latency histogram, microseconds: 1-2.5-5 steps from 250 us to 10 s.
pub const BUCKETS_US: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Which way a request went, relative to the workload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// From the app.
    Outbound,
    /// To the app.
    Inbound,
}

impl Direction {
    /// As in labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Outbound => "outbound",
            Self::Inbound => "inbound",
        }
    }
}

/// What is known of one finished request, or of one connection of bytes.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Which way.
    pub direction: Direction,
    /// Called service, if there is one.
    pub service: Option<&'a ServiceRef>,
    /// Zone that answered.
    pub zone: Option<&'a ZoneName>,
    /// Status; TCP: 200 or 503.
    pub code: u16,
    /// Why there, or why not.
    pub reason: RouteReason,
    /// To the head of the answer.
    pub latency: Duration,
    /// Method; TCP: `-`.
    pub method: &'a str,
    /// Path without query, which may hold secrets.
    pub path: &'a str,
    /// Tries made.
    pub tries: u32,
    /// Caller or answering workload.
    pub peer: &'a str,
}

/// What requests are counted by.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Series {
    /// Which way.
    pub direction: Direction,
    /// Called service.
    pub service: Option<ServiceRef>,
    /// Zone that answered.
    pub zone: Option<ZoneName>,
    /// Status.
    pub code: u16,
    /// Why.
    pub reason: RouteReason,
}

/// Counters of one series.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Count {
    /// Requests.
    pub requests: u64,
    /// Sum of latencies.
    pub latency_us: u64,
    /// By bucket, the last one beyond all bounds.
    pub buckets: [u64; BUCKETS_US.len() + 1],
}

impl Count {
    fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.requests += 1;
        self.latency_us += us;
        self.buckets[BUCKETS_US.partition_point(|bound| *bound < us)] += 1;
    }

    /// Adds another worker's.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.latency_us += other.latency_us;
        for (sum, part) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += part;
        }
    }
}

/// Counters of one worker. Only that worker counts; the lock is for those who read, once a second or less.
#[derive(Debug, Default)]
pub struct Cells {
    counts: Mutex<Quick<Series, Count>>,
    /// And what is told of them.
    pub access: AccessLog,
}

impl Cells {
    /// Counts and tells one request.
    pub fn add(&self, record: &Record<'_>) {
        let Record { direction, service, zone, code, reason, latency, .. } = record;
        self.access.add(record);
        let series = Series {
            direction: *direction,
            service: service.cloned(),
            zone: zone.cloned(),
            code: *code,
            reason: *reason,
        };
        let mut cells = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = cells.get_mut(&series) {
            return count.add(*latency);
        }
        let series = match cells.len() < SERIES_MAX {
            true => series,
            false => Series { service: None, zone: None, ..series },
        };
        cells.entry(series).or_default().add(*latency);
    }
}

/// Counters of all workers, and requests denied by policy.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    workers: Arc<RwLock<Vec<Arc<Cells>>>>,
    denied: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Counters {
    /// Cells for one more worker.
    pub fn worker(&self) -> Arc<Cells> {
        let cells = Arc::new(Cells::default());
        self.workers.write().unwrap_or_else(PoisonError::into_inner).push(cells.clone());
        cells
    }

    /// Counts a refusal by a policy (`NAMESPACE/NAME`), or by the default (empty).
    pub fn denied(&self, policy: &str) {
        let mut denied = self.denied.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = denied.get_mut(policy) {
            *count += 1;
        } else if denied.len() < SERIES_MAX {
            denied.insert(policy.to_owned(), 1);
        }
    }

    /// Refusals so far, by policy.
    pub fn denials(&self) -> BTreeMap<String, u64> {
        self.denied.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sums over workers.
    pub fn sum(&self) -> BTreeMap<Series, Count> {
        let mut sum: BTreeMap<Series, Count> = BTreeMap::new();
        for worker in self.workers.read().unwrap_or_else(PoisonError::into_inner).iter() {
            for (series, count) in worker.counts.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                sum.entry(series.clone()).or_default().merge(count);
            }
        }
        sum
    }

    /// Outbound sums as zones report them.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows: BTreeMap<(ServiceRef, Option<ZoneName>, RouteReason), Flow> = BTreeMap::new();
        for (series, count) in self.sum() {
            let Series { direction: Direction::Outbound, service: Some(service), zone, code, reason } = series else {
                continue;
            };
            let key = (service.clone(), zone.clone(), reason);
            let flow =
                flows.entry(key).or_insert(Flow { service, zone, reason, requests: 0, failed: 0, latency_us: 0 });
            flow.requests += count.requests;
            flow.latency_us += count.latency_us;
            if code >= 500 {
                flow.failed += count.requests;
            }
        }
        flows.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_are_sums_over_workers_and_codes() {
        let counters = Counters::default();
        let service: ServiceRef =
            serde_json::from_str(r#"{"mesh":"default","namespace":"shop","name":"cart"}"#).unwrap();
        let west: ZoneName = "west".parse().unwrap();
        for (code, times) in [(200, 3), (503, 1)] {
            let cells = counters.worker();
            for _ in 0..times {
                cells.add(&Record {
                    direction: Direction::Outbound,
                    service: Some(&service),
                    zone: Some(&west),
                    code,
                    reason: RouteReason::Local,
                    latency: Duration::from_micros(100),
                    method: "GET",
                    path: "/",
                    tries: 1,
                    peer: "",
                });
            }
        }
        let flows = counters.flows();
        assert_eq!(flows.len(), 1);
        assert_eq!((flows[0].requests, flows[0].failed, flows[0].latency_us), (4, 1, 400));
    }
}
