//! CircuitBreaker: how much of everything calls to one service may take at a time.

use crate::kind::{Around, Grain, Outbound, Settings};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Refuses calls to a service at once, with reason `CIRCUIT_OPEN`, while too much of it is in use already. Counted by
/// each proxy for itself, over all ports of the service.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Connections; a request that would need one more is refused, and so is one more connection of a TCP service.
    /// 1024 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections_max: Option<u32>,
    /// Requests that wait for a connection, or for a stream of one. 1024 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_max: Option<u32>,
    /// Requests from their first byte to the last one of their answer; an upgraded stream is one until it ends. 1024
    /// unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_max: Option<u32>,
    /// Retries under way at a time, besides the budget of Retry. Without room for one the failure is passed on. 1024
    /// unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries_max: Option<u32>,
}

impl Outbound for CircuitBreaker {
    const KIND: &'static str = "CircuitBreaker";
    const PLURAL: &'static str = "circuitbreakers";
    const EXAMPLE: &'static str = include_str!("example.yaml");
    const GRAIN: Grain = Grain::Service;

    fn check(&self) -> Vec<(String, String)> {
        let Self { connections_max, pending_max, requests_max, retries_max: _ } = self;
        let given =
            [("connectionsMax", connections_max), ("pendingMax", pending_max), ("requestsMax", requests_max)].into_iter();
        let zero = given.filter(|(_, max)| **max == Some(0));
        let what = "would refuse every call; who may not call at all is said by Authorization";
        zero.map(|(field, _)| (field.into(), what.into())).collect()
    }

    fn lower(&self, into: &mut Settings, _: &Around) {
        let Self { connections_max, pending_max, requests_max, retries_max } = *self;
        let breaker = &mut into.breaker;
        for (given, max) in [
            (connections_max, &mut breaker.connections_max),
            (pending_max, &mut breaker.pending_max),
            (requests_max, &mut breaker.requests_max),
            (retries_max, &mut breaker.retries_max),
        ] {
            *max = given.unwrap_or(*max);
        }
    }
}
