//! How much the app has to do, as far as its proxy sees it: requests in flight, of so many that are full use.
//!
//! Zones hear of it in reports, callers of the own zone in answers; their balancers send less, and then elsewhere.

use crate::http::headers;
use crate::limits::{APP_IN_FLIGHT_FULL, LOAD_TOLD_FROM_PERCENT};
use crate::state::State;
use http::{HeaderMap, HeaderValue};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Requests of one worker at the app.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<AtomicU64>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct Working(Arc<AtomicU64>);

impl InFlight {
    /// One more.
    pub fn begin(&self) -> Working {
        self.0.fetch_add(1, Ordering::Relaxed);
        Working(self.0.clone())
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Utilisation of the app by all workers, as last measured.
#[derive(Debug, Default)]
pub struct Load {
    percent: AtomicU64,
}

impl Load {
    /// Sums up all workers: 0.0 to 1.0 and beyond. `None`: there is no app to be called.
    pub fn measure(&self, state: &State) -> Option<f64> {
        let called = state.running().inbound.as_ref().is_some_and(|inbound| !inbound.ports.is_empty());
        let in_flight: u64 = state.workers().iter().map(|worker| worker.apps.in_flight.count()).sum();
        let load = in_flight as f64 / APP_IN_FLIGHT_FULL;
        self.percent.store((load * 100.0).round() as u64, Ordering::Relaxed);
        called.then_some(load)
    }

    /// Tells a caller, where it is worth telling.
    pub fn tell(&self, fields: &mut HeaderMap) {
        let percent = self.percent.load(Ordering::Relaxed);
        if percent >= LOAD_TOLD_FROM_PERCENT {
            fields.insert(headers::LOAD, HeaderValue::from(percent));
        }
    }
}

/// What an answer tells, which goes no further.
pub fn told(fields: &mut HeaderMap) -> Option<f64> {
    let percent: u16 = fields.remove(headers::LOAD)?.to_str().ok()?.parse().ok()?;
    Some(f64::from(percent) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_goes_no_further_and_nonsense_is_nothing() {
        for (text, load) in [("93", Some(0.93)), ("250", Some(2.5)), ("", None), ("-1", None), ("1e9", None)] {
            let mut fields = HeaderMap::from_iter([(headers::LOAD, HeaderValue::from_static(text))]);
            assert_eq!((told(&mut fields), fields.len()), (load, 0), "{text}");
        }
    }

    #[test]
    fn a_request_counts_until_it_is_dropped() {
        let in_flight = InFlight::default();
        let (a, b) = (in_flight.begin(), in_flight.begin());
        assert_eq!(in_flight.count(), 2);
        drop((a, b));
        assert_eq!(in_flight.count(), 0);
    }
}
