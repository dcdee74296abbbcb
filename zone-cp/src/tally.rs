//! Sums of counters that belong to processes which come and go: totals only grow.

use api::Key;
use api::config::ServiceRef;
use api::report::Flow;
use api::{RouteReason, ZoneName};
use std::collections::BTreeMap;

type Line = (ServiceRef, Option<ZoneName>, RouteReason);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    requests: u64,
    failed: u64,
    latency_us: u64,
}

/// Counters of all proxies of a zone.
#[derive(Debug, Default)]
pub struct Tally {
    /// What ended processes counted.
    past: BTreeMap<Line, Counts>,
    /// What each running process last said.
    present: BTreeMap<Key, BTreeMap<Line, Counts>>,
}

impl Tally {
    /// Takes in what a proxy says. Counters that went back are those of a new process.
    pub fn take(&mut self, proxy: &Key, flows: &[Flow]) {
        let next: BTreeMap<Line, Counts> = flows.iter().map(|flow| (line(flow), counts(flow))).collect();
        let last = self.present.entry(proxy.clone()).or_default();
        let restarted = last.iter().any(|(line, old)| next.get(line).is_none_or(|new| new.requests < old.requests));
        let last = std::mem::replace(last, next);
        if restarted {
            add(&mut self.past, &last);
        }
    }

    /// Totals by service, zone and reason.
    pub fn flows(&self) -> Vec<Flow> {
        let mut sum = self.past.clone();
        for present in self.present.values() {
            add(&mut sum, present);
        }
        sum.into_iter()
            .map(|((service, zone, reason), Counts { requests, failed, latency_us })| Flow {
                service,
                zone,
                reason,
                requests,
                failed,
                latency_us,
            })
            .collect()
    }
}

fn line(flow: &Flow) -> Line {
    (flow.service.clone(), flow.zone.clone(), flow.reason)
}

fn counts(flow: &Flow) -> Counts {
    Counts { requests: flow.requests, failed: flow.failed, latency_us: flow.latency_us }
}

fn add(sum: &mut BTreeMap<Line, Counts>, more: &BTreeMap<Line, Counts>) {
    for (line, Counts { requests, failed, latency_us }) in more {
        let total = sum.entry(line.clone()).or_default();
        total.requests += requests;
        total.failed += failed;
        total.latency_us += latency_us;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_only_grow_whatever_processes_do() {
        let proxy: Key = "Workload/default/west/shop/web-1".parse().unwrap();
        let service = ServiceRef {
            mesh: "default".parse().unwrap(),
            namespace: "shop".parse().unwrap(),
            name: "cart".parse().unwrap(),
        };
        let said = |requests| {
            let service = service.clone();
            vec![Flow { service, zone: None, reason: RouteReason::Local, requests, failed: 0, latency_us: 1 }]
        };
        let mut tally = Tally::default();
        for (says, total) in [(5, 5), (7, 7), (7, 7), (2, 9), (3, 10)] {
            tally.take(&proxy, &said(says));
            assert_eq!(tally.flows()[0].requests, total);
        }
        tally.take(&proxy, &[]);
        assert_eq!(tally.flows()[0].requests, 10, "a new process that has counted nothing yet");
    }
}
