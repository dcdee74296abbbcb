//! Retry: which failed requests are tried again, and how often all of them together.

use crate::kind::{Around, Grain, Outbound, Settings};
use api::{Share, Span, config};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most tries after the first. More would only make an outage longer.
pub const TRIES_MAX: u32 = 10;

/// Tries failed requests again on another endpoint.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Tries after the first, at most 10. 0 turns retries off. 2 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u32>,
    /// Statuses worth another try. Replaces, never extends, a less specific list. 502, 503 and 504 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_status: Option<Vec<u16>>,
    /// Share of requests that may be retries. 20% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<Share>,
    /// Retries a second that the budget always allows. 10 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_second: Option<u32>,
    /// First back-off; doubles with every try, with full jitter. 25ms unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Span>,
    /// Longest back-off. 250ms unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_max: Option<Span>,
    /// Also methods that are not idempotent, such as POST, after the request may have been seen. False unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsafe_methods: Option<bool>,
}

impl Outbound for Retry {
    const KIND: &'static str = "Retry";
    const PLURAL: &'static str = "retries";
    const EXAMPLE: &'static str = include_str!("example.yaml");
    const GRAIN: Grain = Grain::Rule;

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.max.is_some_and(|max| max > TRIES_MAX) {
            wrong.push(("max".into(), format!("must be at most {TRIES_MAX}")));
        }
        for (i, status) in self.on_status.iter().flatten().enumerate() {
            if !(400..=599).contains(status) {
                wrong.push((format!("onStatus[{i}]"), format!("{status} is no failure; use statuses from 400 to 599")));
            }
        }
        if let (Some(first), Some(longest)) = (self.backoff, self.backoff_max)
            && first > longest
        {
            wrong.push(("backoff".into(), format!("the first back-off, {first}, is longer than the longest, {longest}")));
        }
        wrong
    }

    fn lower(&self, into: &mut Settings, _: &Around) {
        let Self { max, on_status, budget, per_second, backoff, backoff_max, unsafe_methods } = self;
        let without = std::mem::take(&mut into.retry);
        let millis = |span: &Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        let backoff_ms = backoff.as_ref().map_or(without.backoff_ms, millis);
        into.retry = config::Retry {
            max: max.unwrap_or(without.max),
            on_status: on_status.clone().unwrap_or(without.on_status),
            budget: budget.unwrap_or(without.budget),
            budget_min_per_second: per_second.unwrap_or(without.budget_min_per_second),
            backoff_ms,
            // Two documents may each be right and disagree here: the longer one holds.
            backoff_max_ms: backoff_max.as_ref().map_or(without.backoff_max_ms, millis).max(backoff_ms),
            unsafe_methods: unsafe_methods.unwrap_or(without.unsafe_methods),
        };
    }
}
