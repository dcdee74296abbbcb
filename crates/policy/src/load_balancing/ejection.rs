//! When failing endpoints are taken out.

use api::config;
use api::{Share, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// When failing endpoints are taken out, and for how long.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ejection {
    /// Failed answers in a row. 5 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
    /// First time out; grows with each one. 30s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Span>,
    /// Longest time out. 5m unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Span>,
    /// Share of a service's endpoints that may be out at once. 50% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_max: Option<Share>,
    /// Time over which answers are counted for `successRate` and `failureShare`. 10s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// Takes out endpoints that succeed less often than the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_rate: Option<SuccessRate>,
    /// Takes out endpoints that fail too large a share of their requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_share: Option<FailureShare>,
}

/// Takes out endpoints whose share of good answers is below the mean by so many standard deviations, and by 5% at
/// least.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuccessRate {
    /// How many standard deviations. 0 turns it off. 1.9 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deviations: Option<f64>,
    /// Endpoints that must have had enough requests. 5 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints_min: Option<u32>,
    /// Requests of one endpoint within the interval that are enough. 100 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_min: Option<u32>,
}

/// Takes out endpoints that fail this share of their requests.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailureShare {
    /// At or above this share. 0% turns it off. 85% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
    /// Requests of one endpoint within the interval that are enough. 50 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_min: Option<u32>,
}

impl Ejection {
    pub(super) fn check(&self, wrong: &mut Vec<(String, String)>) {
        if self.consecutive == Some(0) {
            wrong.push(("ejection.consecutive".into(), "must be at least 1; shareMax: 0% turns ejection off".into()));
        }
        if let (Some(base), Some(max)) = (self.base, self.max)
            && base > max
        {
            wrong.push(("ejection.base".into(), format!("the first time out, {base}, is longer than the longest, {max}")));
        }
        if self.interval.is_some_and(|interval| interval.0.is_zero()) {
            wrong.push(("ejection.interval".into(), "must be longer than 0s".into()));
        }
        if let Some(SuccessRate { deviations, endpoints_min, requests_min: _ }) = &self.success_rate {
            if deviations.is_some_and(|deviations| !(0.0..=10.0).contains(&deviations)) {
                wrong.push(("ejection.successRate.deviations".into(), "must be between 0 and 10; 0 turns it off".into()));
            }
            if endpoints_min.is_some_and(|endpoints| endpoints < 2) {
                let what = "must be at least 2; one endpoint alone is not better or worse than others";
                wrong.push(("ejection.successRate.endpointsMin".into(), what.into()));
            }
        }
    }

    /// As proxies are told; `without` stands for what is not set.
    pub(super) fn lower(self, without: config::Ejection) -> config::Ejection {
        let Self { consecutive, base, max, share_max, interval, success_rate, failure_share } = self;
        let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        let base_ms = base.map_or(without.base_ms, millis);
        let SuccessRate { deviations, endpoints_min, requests_min } = success_rate.unwrap_or_default();
        let rate = without.success_rate;
        let success_rate = config::SuccessRate {
            deviations: deviations.unwrap_or(rate.deviations),
            endpoints_min: endpoints_min.unwrap_or(rate.endpoints_min),
            requests_min: requests_min.unwrap_or(rate.requests_min),
        };
        let FailureShare { share, requests_min } = failure_share.unwrap_or_default();
        let failure_share = config::FailureShare {
            share: share.unwrap_or(without.failure_share.share),
            requests_min: requests_min.unwrap_or(without.failure_share.requests_min),
        };
        config::Ejection {
            consecutive: consecutive.unwrap_or(without.consecutive),
            base_ms,
            max_ms: max.map_or(without.max_ms, millis).max(base_ms),
            share_max: share_max.unwrap_or(without.share_max),
            interval_ms: interval.map_or(without.interval_ms, millis),
            success_rate,
            failure_share,
        }
    }
}
