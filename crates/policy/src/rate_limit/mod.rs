//! RateLimit: how often a workload may be called, and how fast it answers.
//!
//! Enforced where the call arrives, so that a callee protects itself. Every proxy counts for itself: a limit holds for
//! each instance of a workload, and a service of three instances takes three times as much.

use crate::called::{self, Caller, Request};
use crate::kind::{Inbound, InboundRule};
use api::config::{Rate, RateLimitEach, RateLimitRule};
use api::{Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Most requests or connections in one `per`, and most at once. A proxy's core serves fewer.
pub const COUNT_MAX: u32 = 1_000_000;
/// Longest `per`. Whoever counts over days wants a quota, which outlives a proxy.
pub const PER_MAX: Span = Span::seconds(3_600);
/// Slowest bandwidth: below it an answer's head alone would take seconds.
pub const BANDWIDTH_MIN: Size = Size(1_024);
/// Part of a second's bytes that may go out at once, so that pacing stays smooth.
const BANDWIDTH_BURST: u64 = 10;

/// Bounds how often each instance of a workload is called. Every rule that matches holds.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Any of these callers. Omitted: anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Caller>,
    /// Any of these requests. Omitted: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Request>,
    /// Who shares a count. All callers together unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub each: Option<Each>,
    /// Requests in every `per`, on average. Others are answered 429 with `retry-after`, gRPC with RESOURCE_EXHAUSTED.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u32>,
    /// New connections of callers' proxies in every `per`, on average. Others are closed. HTTP requests share few
    /// connections, so this is mostly about TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Time over which requests and connections are counted. 1s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Span>,
    /// Requests or connections that may come at once after a pause. As many as in one `per` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Bytes a second of answers, and of bytes towards callers of TCP. What is faster waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Size>,
}

/// Who shares a count.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
pub enum Each {
    /// All callers together.
    #[default]
    All,
    /// Every verified identity has a count of its own.
    Caller,
}

impl Inbound for RateLimit {
    const KIND: &'static str = "RateLimit";
    const PLURAL: &'static str = "ratelimits";
    const EXAMPLE: &'static str = include_str!("example.yaml");

    fn check(&self) -> Vec<(String, String)> {
        let Self { from, to, each: _, requests, connections, per, burst, bandwidth } = self;
        let mut wrong = called::check(from, to);
        let mut say = |field: &str, what: String| wrong.push((field.into(), what));
        for (field, count) in [("requests", requests), ("connections", connections), ("burst", burst)] {
            if count.is_some_and(|count| count == 0 || count > COUNT_MAX) {
                say(field, format!("must be between 1 and {COUNT_MAX}"));
            }
        }
        if per.is_some_and(|per| per < Span::millis(1) || per > PER_MAX) {
            say("per", format!("must be between 1ms and {PER_MAX}"));
        }
        if bandwidth.is_some_and(|bandwidth| bandwidth < BANDWIDTH_MIN) {
            say("bandwidth", format!("must be at least {BANDWIDTH_MIN}"));
        }
        match (requests, connections) {
            (None, None) if bandwidth.is_none() => {
                say("requests", "the rule limits nothing; name `requests`, `connections` or `bandwidth`".into());
            }
            (None, None) if burst.is_some() => say("burst", "there is no count that it would be the burst of".into()),
            (Some(_), Some(_)) if burst.is_some() => {
                say("burst", "cannot be told apart for requests and connections; write two rules".into());
            }
            _ => {}
        }
        for (i, request) in to.iter().enumerate() {
            if connections.is_some() && !(request.methods.is_empty() && request.paths.is_empty()) {
                say(&format!("to[{i}]"), "a connection has no method and no path; name ports only".into());
            }
        }
        wrong
    }

    fn lower(&self, policy: &str) -> InboundRule {
        let Self { from, to, each, requests, connections, per, burst, bandwidth } = self;
        let per_ms = millis(per.unwrap_or(Span::seconds(1)));
        let rate = |count: &u32| Rate {
            count: u64::from(*count),
            per_ms,
            burst: u64::from(burst.unwrap_or(*count)),
        };
        let bytes = |Size(bytes): &Size| Rate {
            count: *bytes,
            per_ms: 1_000,
            burst: (bytes / BANDWIDTH_BURST).max(BANDWIDTH_MIN.0),
        };
        InboundRule::RateLimit(RateLimitRule {
            policy: policy.into(),
            from: from.iter().map(Caller::lower).collect(),
            to: to.iter().map(Request::lower).collect(),
            each: match each.unwrap_or_default() {
                Each::All => RateLimitEach::All,
                Each::Caller => RateLimitEach::Caller,
            },
            requests: requests.as_ref().map(rate),
            connections: connections.as_ref().map(rate),
            bandwidth: bandwidth.as_ref().map(bytes),
        })
    }
}

/// At least one: a time that rounds down to zero would be no time.
fn millis(Span(span): Span) -> u64 {
    u64::try_from(span.max(Duration::from_millis(1)).as_millis()).unwrap_or(u64::MAX)
}
