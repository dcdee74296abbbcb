//! What circuit breakers are told.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How much calls to one service may have in use at a time, counted by each proxy over all ports of the service.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Breaker {
    /// Connections to its proxies and gateways.
    pub connections_max: u32,
    /// Requests that wait for a connection or a stream.
    pub pending_max: u32,
    /// Requests whose answer has not ended.
    pub requests_max: u32,
    /// Retries whose answer has not ended.
    pub retries_max: u32,
    /// Policy (`NAMESPACE/NAME`) that set a limit, by the field of the document: `requestsMax`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<String, String>,
}

impl Default for Breaker {
    /// 1,024 each (Envoy's circuit breakers and Kuma's default policy; Envoy has 3 retries, where ours have a budget).
    fn default() -> Self {
        Self {
            connections_max: 1_024,
            pending_max: 1_024,
            requests_max: 1_024,
            retries_max: 1_024,
            policies: BTreeMap::new(),
        }
    }
}
