//! Circuit breakers: how much of one service this proxy has in use, and whether there is room for more.
//!
//! One for each called service, shared by all workers, so that a limit means what it says: an atomic step on the way in
//! and one on the way out, no lock. What was taken is given back when it is dropped, so callers that leave count too.

use crate::error::Failure;
use crate::limits::SHARE_OF_FREE;
use api::RouteReason;
use api::config::{self, ServiceRef};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What is limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Limit {
    /// Connections.
    Connections,
    /// Requests that wait for a connection or a stream.
    Pending,
    /// Requests whose answer has not ended.
    Requests,
    /// Retries whose answer has not ended.
    Retries,
}

impl Limit {
    /// In the order of their counters.
    pub const ALL: [Self; 4] = [Self::Connections, Self::Pending, Self::Requests, Self::Retries];

    /// As policies name it.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Connections => "connectionsMax",
            Self::Pending => "pendingMax",
            Self::Requests => "requestsMax",
            Self::Retries => "retriesMax",
        }
    }

    /// As metrics name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending",
            Self::Requests => "requests",
            Self::Retries => "retries",
        }
    }

    const fn of(self, limits: &config::Breaker) -> u32 {
        match self {
            Self::Connections => limits.connections_max,
            Self::Pending => limits.pending_max,
            Self::Requests => limits.requests_max,
            Self::Retries => limits.retries_max,
        }
    }
}

/// Use of one service.
#[derive(Debug, Default)]
pub struct Breaker {
    used: [AtomicU32; Limit::ALL.len()],
    refused: [AtomicU64; Limit::ALL.len()],
}

/// Requests that came by one connection and have not ended, of all services.
#[derive(Debug, Default)]
pub struct Share(AtomicU32);

/// One more of something, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    breaker: Arc<Breaker>,
    limit: Limit,
    share: Option<Arc<Share>>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.breaker.used[self.limit as usize].fetch_sub(1, Ordering::Relaxed);
        if let Some(share) = &self.share {
            share.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A limit is reached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Open {
    /// Which.
    pub limit: Limit,
    /// Its number.
    pub max: u32,
    /// `NAMESPACE/NAME` of the policy that set it; `None`: the default holds.
    pub policy: Option<String>,
    /// There is room, but not for a connection that has so many requests under way.
    pub held: Option<u32>,
}

impl Open {
    /// For the caller.
    pub fn failure(self, service: &ServiceRef) -> Failure {
        let Self { limit, max, policy, held } = self;
        let by = policy.as_ref().map_or_else(|| "the default".to_owned(), |policy| format!("CircuitBreaker {policy}"));
        let (what, field) = (limit.as_str(), limit.field());
        let text = match held {
            None => format!("{service} has {max} {what} in use, as many as {field} of {by} allows"),
            Some(held) => format!(
                "this connection has {held} {what} under way, too many while so few of the {max} that {field} of {by} allows {service} are free"
            ),
        };
        Failure { policy, ..Failure::new(RouteReason::CircuitOpen, text) }
    }
}

impl Breaker {
    /// Takes one more, if there is room.
    pub fn take(self: &Arc<Self>, limit: Limit, limits: &config::Breaker) -> Result<Taken, Open> {
        let max = limit.of(limits);
        let at = limit as usize;
        let room = |used: u32| (used < max).then(|| used + 1);
        match self.used[at].fetch_update(Ordering::Relaxed, Ordering::Relaxed, room) {
            Ok(_) => Ok(Taken { breaker: self.clone(), limit, share: None }),
            Err(_) => Err(self.open(limit, limits, None)),
        }
    }

    /// Takes one more request for a connection. Under the default limit, none may have more than [`SHARE_OF_FREE`] times
    /// what is free (dynamic thresholds, Choudhury and Hahne 1998): whoever hoards leaves room for those who do not. A
    /// limit that somebody wrote is exactly that limit.
    pub fn take_request(self: &Arc<Self>, limits: &config::Breaker, share: &Arc<Share>) -> Result<Taken, Open> {
        let limit = Limit::Requests;
        let held = share.0.load(Ordering::Relaxed);
        if held > 0 && !limits.policies.contains_key(limit.field()) {
            let free = limit.of(limits).saturating_sub(self.used(limit));
            if free > 0 && held >= SHARE_OF_FREE.saturating_mul(free) {
                return Err(self.open(limit, limits, Some(held)));
            }
        }
        let mut taken = self.take(limit, limits)?;
        share.0.fetch_add(1, Ordering::Relaxed);
        taken.share = Some(share.clone());
        Ok(taken)
    }

    fn open(&self, limit: Limit, limits: &config::Breaker, held: Option<u32>) -> Open {
        self.refused[limit as usize].fetch_add(1, Ordering::Relaxed);
        Open { limit, max: limit.of(limits), policy: limits.policies.get(limit.field()).cloned(), held }
    }

    /// In use now.
    pub fn used(&self, limit: Limit) -> u32 {
        self.used[limit as usize].load(Ordering::Relaxed)
    }

    /// Refused so far.
    pub fn refused(&self, limit: Limit) -> u64 {
        self.refused[limit as usize].load(Ordering::Relaxed)
    }
}

/// Those of all services that were called. The lock is taken when a service is called for the first time, and by those
/// who read.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<HashMap<ServiceRef, Arc<Breaker>>>);

impl Breakers {
    /// Of this service.
    pub fn of(&self, service: &ServiceRef) -> Arc<Breaker> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(breaker) = all.get(service) {
            return breaker.clone();
        }
        all.entry(service.clone()).or_default().clone()
    }

    /// All, by service.
    pub fn all(&self) -> Vec<(ServiceRef, Arc<Breaker>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = all.iter().map(|(service, breaker)| (service.clone(), breaker.clone())).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Forgets services that are gone and of which nothing is in use.
    pub fn keep(&self, known: impl Fn(&ServiceRef) -> bool) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|service, breaker| known(service) || Arc::strong_count(breaker) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room_and_each_limit_is_its_own() {
        let breaker = Arc::new(Breaker::default());
        let limits = config::Breaker { requests_max: 2, pending_max: 1, ..Default::default() };
        let first = breaker.take(Limit::Requests, &limits).unwrap();
        let _second = breaker.take(Limit::Requests, &limits).unwrap();
        assert_eq!(breaker.take(Limit::Requests, &limits).unwrap_err().max, 2);
        let _waits = breaker.take(Limit::Pending, &limits).unwrap();
        assert!(breaker.take(Limit::Pending, &limits).is_err());
        drop(first);
        assert_eq!(breaker.used(Limit::Requests), 1);
        assert!(breaker.take(Limit::Requests, &limits).is_ok());
        assert_eq!((breaker.refused(Limit::Requests), breaker.refused(Limit::Connections)), (1, 0));
    }

    #[test]
    fn threads_together_never_take_more_than_the_limit() {
        let breaker = Arc::new(Breaker::default());
        let limits = config::Breaker { requests_max: 3, ..Default::default() };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let taken = breaker.take(Limit::Requests, &limits);
                        assert!(breaker.used(Limit::Requests) <= 3);
                        drop(taken);
                    }
                });
            }
        });
        assert_eq!(breaker.used(Limit::Requests), 0, "nothing leaks");
    }

    #[test]
    fn who_hoards_leaves_room_for_others_unless_the_limit_was_written() {
        let breaker = Arc::new(Breaker::default());
        let mut limits = config::Breaker::default();
        let hoarders = [(); 4].map(|()| Arc::<Share>::default());
        let mut held = Vec::new();
        let hoard = |held: &mut Vec<Taken>, limits: &config::Breaker| loop {
            let before = held.len();
            held.extend(hoarders.iter().flat_map(|share| breaker.take_request(limits, share)));
            if held.len() == before {
                return before as u32;
            }
        };
        let most = hoard(&mut held, &limits);
        // Four with twice as much each as is left: 8 of 9 parts.
        assert!(most.abs_diff(limits.requests_max * 8 / 9) <= 8, "{most}");
        let refused = breaker.take_request(&limits, &hoarders[0]).unwrap_err();
        assert!(refused.held.is_some_and(|held| held > 200), "{refused:?}");
        let other = breaker.take_request(&limits, &Arc::default());
        assert!(other.is_ok(), "who has nothing gets one while one is free");
        limits.policies.insert("requestsMax".to_owned(), "shop/cart".to_owned());
        assert_eq!(hoard(&mut held, &limits), limits.requests_max - 1, "as written");
        drop((held, other));
        assert!(hoarders.iter().all(|share| share.0.load(Ordering::Relaxed) == 0), "nothing leaks");
    }

    #[test]
    fn whoever_is_refused_hears_which_limit_and_whose() {
        let breaker = Arc::new(Breaker::default());
        let policies = [("requestsMax".to_owned(), "shop/cart".to_owned())].into();
        let limits = config::Breaker { requests_max: 0, policies, ..Default::default() };
        let service = serde_json::from_str(r#"{"mesh":"default","namespace":"shop","name":"cart"}"#).unwrap();
        let failure = breaker.take(Limit::Requests, &limits).unwrap_err().failure(&service);
        assert_eq!((failure.reason, failure.policy.as_deref()), (RouteReason::CircuitOpen, Some("shop/cart")));
        assert!(failure.text.contains("requestsMax of CircuitBreaker shop/cart"), "{}", failure.text);
    }
}
