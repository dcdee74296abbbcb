//! How often we may be called: the rules of RateLimit policies, with what is left of each.
//!
//! Counts belong to the process, not to a configuration: a rule that did not change goes on where it was.

use super::bucket::{Bucket, Later, Meter};
use super::callers::Callers;
use crate::error::Failure;
use crate::inbound::authorize::{Asked, concerns};
use api::config::{Rate, RateLimitEach, RateLimitRule};
use api::{RouteReason, SpiffeId};
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::Duration;

/// All rules that may hold here.
#[derive(Debug, Default)]
pub struct RateLimits(Vec<Arc<Limit>>);

/// One rule, and its counts.
#[derive(Debug)]
pub struct Limit {
    /// As configured.
    pub rule: RateLimitRule,
    requests: Option<Counted>,
    connections: Option<Counted>,
    bandwidth: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    meter: Meter,
    buckets: Buckets,
}

#[derive(Debug)]
enum Buckets {
    All(Bucket),
    Caller(Box<Callers>),
}

impl Counted {
    fn new(rate: &Rate, each: RateLimitEach) -> Self {
        let buckets = match each {
            RateLimitEach::All => Buckets::All(Bucket::default()),
            RateLimitEach::Caller => Buckets::Caller(Box::default()),
        };
        Self { meter: Meter::new(rate), buckets }
    }

    fn bucket(&self, caller: Option<&SpiffeId>, now_us: u64) -> &Bucket {
        match &self.buckets {
            Buckets::All(bucket) => bucket,
            Buckets::Caller(callers) => callers.bucket(caller, &self.meter, now_us),
        }
    }
}

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// One request.
    Request,
    /// One connection.
    Connection,
}

impl Limit {
    fn new(rule: &RateLimitRule) -> Self {
        let counted = |rate: &Option<Rate>| rate.as_ref().map(|rate| Counted::new(rate, rule.each));
        Self {
            requests: counted(&rule.requests),
            connections: counted(&rule.connections),
            bandwidth: counted(&rule.bandwidth),
            rule: rule.clone(),
        }
    }

    fn count(&self, what: What) -> Option<&Counted> {
        match what {
            What::Request => self.requests.as_ref(),
            What::Connection => self.connections.as_ref(),
        }
    }

    /// Bytes towards this caller.
    pub fn bandwidth(&self, caller: Option<&SpiffeId>, now_us: u64) -> Option<(&Meter, &Bucket)> {
        self.bandwidth.as_ref().map(|counted| (&counted.meter, counted.bucket(caller, now_us)))
    }
}

impl RateLimits {
    /// Rules as they are now; what is equal to one of `last` keeps its counts.
    pub fn compile(rules: &[RateLimitRule], last: &Self) -> Self {
        let mut before: Vec<&Arc<Limit>> = last.0.iter().collect();
        let keep = |rule: &RateLimitRule| match before.iter().position(|limit| limit.rule == *rule) {
            Some(at) => before.swap_remove(at).clone(),
            None => Arc::new(Limit::new(rule)),
        };
        Self(rules.iter().map(keep).collect())
    }

    /// Rules that are about this caller and request.
    pub fn about(&self, caller: Option<&SpiffeId>, asked: Asked<'_>) -> SmallVec<[Arc<Limit>; 2]> {
        self.0.iter().filter(|limit| concerns(&limit.rule.from, &limit.rule.to, caller, asked)).cloned().collect()
    }
}

/// Counts one with every rule, or with none when one of them refuses.
pub fn admit(limits: &[Arc<Limit>], what: What, caller: Option<&SpiffeId>, now_us: u64) -> Result<(), Failure> {
    let counted = || limits.iter().filter_map(|limit| Some((limit, limit.count(what)?)));
    for (at, (limit, count)) in counted().enumerate() {
        let Err(Later { wait_us }) = count.meter.take(count.bucket(caller, now_us), 1, now_us, 0) else { continue };
        for (_, taken) in counted().take(at) {
            taken.meter.give_back(taken.bucket(caller, now_us), 1, now_us);
        }
        return Err(refusal(&limit.rule, what, Duration::from_micros(wait_us)));
    }
    Ok(())
}

fn refusal(rule: &RateLimitRule, what: What, wait: Duration) -> Failure {
    let (rate, what) = match what {
        What::Request => (rule.requests, "requests"),
        What::Connection => (rule.connections, "connections"),
    };
    let Rate { count, per_ms, .. } = rate.unwrap_or(Rate { count: 0, per_ms: 0, burst: 0 });
    let each = match rule.each {
        RateLimitEach::All => "all callers together",
        RateLimitEach::Caller => "each caller",
    };
    let (policy, per) = (&rule.policy, api::Span::millis(per_ms));
    let text = format!("RateLimit policy {policy} allows {each} {count} {what} in {per}");
    Failure { policy: Some(policy.clone()), retry_after: Some(wait), ..Failure::new(RouteReason::RateLimited, text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Dialect;
    use serde_json::{Value, json};

    const GET: Asked<'_> = Asked { port: 80, request: Some(("GET", "/search/x")) };

    fn rules(rules: Value) -> Vec<RateLimitRule> {
        let whole = |rule: &Value| {
            let mut whole = json!({"policy": "shop/a", "from": [], "to": [], "each": "All", "requests": null,
                "connections": null, "bandwidth": null});
            rule.as_object().unwrap().iter().for_each(|(field, value)| whole[field] = value.clone());
            serde_json::from_value(whole).unwrap()
        };
        rules.as_array().unwrap().iter().map(whole).collect()
    }

    fn requests(count: u64) -> Value {
        json!({"count": count, "per_ms": 1_000, "burst": count})
    }

    fn admitted(limits: &RateLimits, caller: Option<&SpiffeId>, asked: Asked<'_>, now_us: u64) -> usize {
        (0..50).filter(|_| admit(&limits.about(caller, asked), What::Request, caller, now_us).is_ok()).count()
    }

    #[test]
    fn a_refusal_names_the_policy_and_when_to_come_again() {
        let limits = RateLimits::compile(&rules(json!([{"requests": requests(2)}])), &RateLimits::default());
        assert_eq!(admitted(&limits, None, GET, 0), 2);
        let failure = admit(&limits.about(None, GET), What::Request, None, 0).unwrap_err();
        let response = failure.answer::<()>(&Dialect::Http);
        assert_eq!(
            (response.status().as_u16(), &response.headers()["weft-reason"]),
            (429, &"RATE_LIMITED".parse().unwrap())
        );
        assert_eq!(
            (&response.headers()["weft-policy"], &response.headers()["retry-after"]),
            (&"shop/a".parse().unwrap(), &"1".parse().unwrap())
        );
        let grpc = failure.answer::<()>(&Dialect::Grpc("application/grpc".parse().unwrap()));
        assert_eq!((grpc.status().as_u16(), &grpc.headers()["grpc-status"]), (200, &"8".parse().unwrap()));
    }

    #[test]
    fn only_rules_about_the_caller_and_the_request_count() {
        let from = json!([{"zone": null, "namespace": "shop", "account": null}]);
        let to = json!([{"ports": [], "methods": [], "paths": ["/search*"]}]);
        let limits = rules(json!([{"from": from, "requests": requests(3)}, {"to": to, "requests": requests(5)}]));
        let shop: SpiffeId = "spiffe://west.default/ns/shop/sa/web".parse().unwrap();
        let other = Asked { port: 80, request: Some(("GET", "/")) };
        let bytes = Asked { port: 80, request: None };
        for (caller, asked, expect) in
            [(Some(&shop), GET, 3), (None, GET, 5), (Some(&shop), other, 3), (None, other, 50), (Some(&shop), bytes, 3)]
        {
            let limits = RateLimits::compile(&limits, &RateLimits::default());
            assert_eq!(admitted(&limits, caller, asked, 0), expect, "{caller:?} {asked:?}");
        }
    }

    #[test]
    fn what_one_rule_refuses_no_other_counts() {
        let both = rules(json!([{"requests": requests(10)}, {"policy": "shop/b", "requests": requests(4)}]));
        let limits = RateLimits::compile(&both, &RateLimits::default());
        assert_eq!(admitted(&limits, None, GET, 0), 4);
        let left = RateLimits::compile(&both[..1], &limits);
        assert_eq!(admitted(&left, None, GET, 0), 6, "the 46 that were refused cost nothing");
    }

    #[test]
    fn a_rule_that_did_not_change_keeps_its_count() {
        let first = rules(json!([{"requests": requests(5)}]));
        let limits = RateLimits::compile(&first, &RateLimits::default());
        assert_eq!(admitted(&limits, None, GET, 0), 5);
        let same = RateLimits::compile(&first, &limits);
        assert_eq!(admitted(&same, None, GET, 0), 0);
        let other = RateLimits::compile(&rules(json!([{"requests": requests(7)}])), &same);
        assert_eq!(admitted(&other, None, GET, 0), 7);
    }
}
