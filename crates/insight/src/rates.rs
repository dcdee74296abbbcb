//! Requests a second, from counters that only grow until they start again.

use crate::limits::{OBSERVE_MS, RATE_SAMPLES_MAX, RATE_WINDOW_MS};
use api::report::Flow;
use api::{RouteReason, ZoneName};
use std::collections::{BTreeMap, VecDeque};

/// Where requests of one zone were answered, and whether the usual place could not.
type To = (Option<ZoneName>, bool);
/// Requests, and those of them that failed.
type Sums = BTreeMap<To, (u64, u64)>;

/// Growth of counters between samples, over a window.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    /// When, and what they said.
    last: Option<(u64, Sums)>,
    /// When, how long, and what came in that time.
    grown: VecDeque<(u64, u64, Sums)>,
}

/// Requests a second that workloads of one zone make.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rates {
    pub(crate) all: f64,
    pub(crate) failed: f64,
    /// By answering zone: all, and those sent there because the usual place could not.
    pub(crate) to: BTreeMap<ZoneName, (f64, f64)>,
}

impl Counters {
    pub(crate) fn sample(&mut self, flows: &[Flow], now_ms: u64) {
        if self.last.as_ref().is_some_and(|(at, _)| now_ms < at + OBSERVE_MS) {
            return;
        }
        let mut sums = Sums::new();
        for Flow { zone, reason, requests, failed, .. } in flows {
            let sum = sums.entry((zone.clone(), spills(*reason))).or_default();
            sum.0 += requests;
            sum.1 += failed;
        }
        if let Some((at_ms, before)) = self.last.take() {
            let growth = sums.iter().filter_map(|(to, now)| {
                let old = before.get(to).copied().unwrap_or_default();
                // Less than before: something restarted. What it did meanwhile is lost, and counts from here.
                let more = (now.0.checked_sub(old.0)?, now.1.saturating_sub(old.1));
                (more.0 > 0).then(|| (to.clone(), more))
            });
            self.grown.push_back((now_ms, now_ms - at_ms, growth.collect()));
        }
        while self.grown.len() > RATE_SAMPLES_MAX
            || self.grown.front().is_some_and(|(at, _, _)| at + RATE_WINDOW_MS <= now_ms)
        {
            self.grown.pop_front();
        }
        self.last = Some((now_ms, sums));
    }

    pub(crate) fn rates(&self) -> Rates {
        let seconds = self.grown.iter().map(|(_, took_ms, _)| *took_ms).sum::<u64>() as f64 / 1_000.0;
        let mut rates = Rates::default();
        if seconds <= 0.0 {
            return rates;
        }
        for ((zone, spilled), (requests, failed)) in self.grown.iter().flat_map(|(_, _, growth)| growth) {
            let rate = *requests as f64 / seconds;
            rates.all += rate;
            rates.failed += *failed as f64 / seconds;
            if let Some(zone) = zone {
                let to = rates.to.entry(zone.clone()).or_default();
                to.0 += rate;
                to.1 += if *spilled { rate } else { 0.0 };
            }
        }
        rates
    }
}

/// Whether a request went where it went only because the usual place could not take it.
fn spills(reason: RouteReason) -> bool {
    use RouteReason::{Draining, Ejected, LocalOverloaded, LocalUnready, Panic, RetryElsewhere, Unreachable};
    matches!(reason, Draining | Ejected | LocalOverloaded | LocalUnready | Panic | RetryElsewhere | Unreachable)
}

/// `340/s`, `2.4k/s`.
pub(crate) fn words(rate: f64) -> String {
    match rate {
        rate if rate >= 1_000_000.0 => format!("{:.1}M/s", rate / 1_000_000.0),
        rate if rate >= 1_000.0 => format!("{:.1}k/s", rate / 1_000.0),
        rate if rate >= 10.0 => format!("{rate:.0}/s"),
        rate => format!("{rate:.1}/s"),
    }
}
