//! Circuit breakers: how much of one service this proxy has in use, and whether there is room for more.
//!
//! One for each called service, shared by all workers, so that a limit means what it says: an atomic step on the way in
//! and one on the way out, no lock. What was taken is given back when it is dropped, so callers that leave count too.

use crate::error::Failure;
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

/// One more of something, until it is dropped.
#[derive(Debug)]
pub struct Taken {
    breaker: Arc<Breaker>,
    limit: Limit,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.breaker.used[self.limit as usize].fetch_sub(1, Ordering::Relaxed);
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
}

impl Open {
    /// For the caller.
    pub fn failure(self, service: &ServiceRef) -> Failure {
        let Self { limit, max, policy } = self;
        let by = policy.as_ref().map_or_else(|| "the default".to_owned(), |policy| format!("CircuitBreaker {policy}"));
        let text =
            format!("{service} has {max} {} in use, as many as {} of {by} allows", limit.as_str(), limit.field());
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
            Ok(_) => Ok(Taken { breaker: self.clone(), limit }),
            Err(_) => {
                self.refused[at].fetch_add(1, Ordering::Relaxed);
                Err(Open { limit, max, policy: limits.policies.get(limit.field()).cloned() })
            }
        }
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
