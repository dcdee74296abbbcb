//! A bucket for each caller, in a table of fixed size that workers share without a lock.
//!
//! A caller keeps its place until somebody else needs it and its bucket is full, which is as good as new. Where
//! nothing is free, callers share one further bucket: they are then limited together, and never not at all.

use super::bucket::{Bucket, Meter};
use crate::limits::{LIMITED_CALLERS_MAX, LIMITED_CALLERS_TRIED};
use api::SpiffeId;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets by caller.
#[derive(Debug)]
pub struct Callers {
    places: Box<[Place]>,
    /// Of callers that find no place, and of those without a verified identity.
    others: Bucket,
    hash: RandomState,
}

#[derive(Debug, Default)]
struct Place {
    /// Hash of the caller; 0: free.
    who: AtomicU64,
    bucket: Bucket,
}

impl Default for Callers {
    fn default() -> Self {
        let places = (0..LIMITED_CALLERS_MAX).map(|_| Place::default()).collect();
        Self { places, others: Bucket::default(), hash: RandomState::new() }
    }
}

impl Callers {
    /// The bucket of a caller.
    pub fn bucket(&self, caller: Option<&SpiffeId>, meter: &Meter, now_us: u64) -> &Bucket {
        let Some(caller) = caller else { return &self.others };
        let who = self.hash.hash_one(caller).max(1);
        let first = who as usize % self.places.len();
        let tried = || (0..LIMITED_CALLERS_TRIED).map(|step| &self.places[(first + step) % self.places.len()]);
        let claim = |place: &Place, from| {
            place
                .who
                .compare_exchange(from, who, Ordering::Relaxed, Ordering::Relaxed)
                .map_or_else(|now| now == who, |_| true)
        };
        // A place once taken is never free again, so whoever has one is found before a free one.
        for place in tried() {
            let held = place.who.load(Ordering::Relaxed);
            if held == who || (held == 0 && claim(place, 0)) {
                return &place.bucket;
            }
        }
        for place in tried() {
            let held = place.who.load(Ordering::Relaxed);
            if meter.is_full(&place.bucket, now_us) && claim(place, held) {
                return &place.bucket;
            }
        }
        &self.others
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::config::Rate;

    fn caller(number: usize) -> SpiffeId {
        format!("spiffe://west.default/ns/shop/sa/app-{number}").parse().unwrap()
    }

    #[test]
    fn every_caller_has_its_own_and_the_nameless_share_one() {
        let meter = Meter::new(&Rate { count: 1, per_ms: 1_000, burst: 2 });
        let callers = Callers::default();
        for who in [Some(caller(1)), Some(caller(2)), None] {
            let take = || meter.take(callers.bucket(who.as_ref(), &meter, 0), 1, 0, 0).is_ok();
            assert_eq!((0..5).filter(|_| take()).count(), 2, "{who:?}");
        }
    }

    #[test]
    fn more_callers_than_places_are_limited_together_and_places_are_used_again() {
        let meter = Meter::new(&Rate { count: 1, per_ms: 1_000, burst: 1 });
        let callers = Callers::default();
        let many = 3 * LIMITED_CALLERS_MAX;
        let admitted = |now| {
            let take = |n: &usize| meter.take(callers.bucket(Some(&caller(*n)), &meter, now), 1, now, 0).is_ok();
            (0..many).filter(take).count()
        };
        let first = admitted(0);
        assert!(first <= LIMITED_CALLERS_MAX + 1, "{first} of {many}, as many as there are places");
        assert!(first > LIMITED_CALLERS_MAX / 2, "{first}: most places are used");
        assert_eq!(admitted(0), 0, "nobody is forgotten while its bucket is not full");
        assert!(admitted(2_000_000) > LIMITED_CALLERS_MAX / 2, "and later their places are others'");
    }
}
