//! Timeout: how long a call may take.

use crate::kind::{Around, Grain, Outbound, Settings};
use api::Span;
use api::config::Timeouts;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds how long calls may take.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Timeout {
    /// Whole request with all its tries. `0s`: no limit. 15s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Span>,
    /// TCP connect and TLS handshake together. 1s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Span>,
    /// One try. `0s`: no limit of its own, as without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Span>,
    /// A stream without a byte in either direction. 5m unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Span>,
}

impl Outbound for Timeout {
    const KIND: &'static str = "Timeout";
    const PLURAL: &'static str = "timeouts";
    const EXAMPLE: &'static str = include_str!("example.yaml");
    const GRAIN: Grain = Grain::Rule;

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.connect == Some(Span::default()) {
            wrong.push(("connect".into(), "a connect timeout of zero never connects".into()));
        }
        if self.idle == Some(Span::default()) {
            wrong.push(("idle".into(), "an idle timeout of zero ends every stream at once".into()));
        }
        if let (Some(per_try), Some(request)) = (limit(self.per_try), limit(self.request))
            && per_try > request
        {
            wrong.push(("perTry".into(), format!("one try may take {per_try}, the whole request only {request}")));
        }
        wrong
    }

    fn lower(&self, into: &mut Settings, _: &Around) {
        let Self { request, connect, per_try, idle } = *self;
        let Timeouts { connect_ms, request_ms, per_try_ms, idle_ms } = &mut into.timeouts;
        if let Some(connect) = connect {
            *connect_ms = millis(connect);
        }
        if request.is_some() {
            *request_ms = limit(request).map(millis);
        }
        if per_try.is_some() {
            *per_try_ms = limit(per_try).map(millis);
        }
        if let Some(idle) = idle {
            *idle_ms = millis(idle);
        }
    }
}

/// Zero means that there is no limit.
fn limit(span: Option<Span>) -> Option<Span> {
    span.filter(|span| *span != Span::default())
}

/// At least one: rounding a short limit down to zero would turn it off.
fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX).max(1)
}
