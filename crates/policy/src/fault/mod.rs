//! Fault: what a call suffers on purpose, so that callers can be seen to bear it.
//!
//! Injected where the call is made, before an endpoint is chosen: no callee notices, and nothing counts against one.

use crate::kind::{Around, Grain, Outbound, Settings};
use api::config::{AbortFault, DelayFault, HeaderFault, Rate, SlowFault};
use api::{Share, Size, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest delay. More would only hold memory.
pub const DELAY_MAX: Span = Span::seconds(3_600);
/// Slowest answers.
pub const RATE_MIN: Size = Size(1_024);
/// Highest status of gRPC (<https://grpc.io/docs/guides/status-codes/>).
const GRPC_STATUS_MAX: u8 = 16;

/// Delays, aborts or slows down calls on purpose.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// Lets calls wait before they are sent. The wait counts towards their timeout, as a slow callee's would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Answers calls with a failure instead of sending them. TCP: closes the connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<Abort>,
    /// Slows answers down, each for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Slow>,
    /// Only requests with this header. Omitted: all, and TCP too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<When>,
}

/// Lets calls wait.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delay {
    /// How long. Nothing waits without it.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub time: Option<Span>,
    /// Of how many calls. 100% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// Answers calls with a failure.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Abort {
    /// With this status; gRPC calls with what gRPC makes of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// gRPC calls with this one, 1 to 16. Alone, it aborts nothing but gRPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u8>,
    /// How many calls. 100% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// Slows answers down.
#[derive(Clone, Copy, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slow {
    /// Bytes a second of each answer. Nothing is slow without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Size>,
    /// How many answers. 100% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<Share>,
}

/// A header that a request carries.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct When {
    /// Its name; case does not matter.
    pub header: String,
    /// Its value, exactly.
    pub value: String,
}

impl Outbound for Fault {
    const KIND: &'static str = "Fault";
    const PLURAL: &'static str = "faults";
    const EXAMPLE: &'static str = include_str!("example.yaml");
    const GRAIN: Grain = Grain::Rule;

    fn check(&self) -> Vec<(String, String)> {
        let Self { delay, abort, bandwidth, when } = self;
        let mut wrong = Vec::new();
        let mut say = |field: &str, what: String| wrong.push((field.into(), what));
        if delay.and_then(|delay| delay.time).is_some_and(|time| time == Span::default() || time > DELAY_MAX) {
            say("delay.for", format!("must be longer than 0s and at most {DELAY_MAX}"));
        }
        let Abort { status, grpc_status, share: _ } = abort.unwrap_or_default();
        if let Some(status) = status.filter(|status| !(400..=599).contains(status)) {
            say("abort.status", format!("{status} is no failure; use statuses from 400 to 599"));
        }
        if grpc_status.is_some_and(|status| !(1..=GRPC_STATUS_MAX).contains(&status)) {
            say("abort.grpcStatus", format!("must be between 1 and {GRPC_STATUS_MAX}"));
        }
        if bandwidth.and_then(|slow| slow.rate).is_some_and(|rate| rate < RATE_MIN) {
            say("bandwidth.rate", format!("must be at least {RATE_MIN}"));
        }
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if when.as_ref().is_some_and(|when| when.header.is_empty() || !when.header.bytes().all(token)) {
            say("when.header", "must be the name of a header".into());
        }
        wrong
    }

    fn lower(&self, into: &mut Settings, _: &Around) {
        let Self { delay, abort, bandwidth, when } = self;
        let share = |share: Option<Share>| share.unwrap_or(Share::ALL);
        let some = |share: &Share| *share != Share::NONE;
        let faults = &mut into.faults;
        let Delay { time, share: of } = delay.unwrap_or_default();
        faults.delay = time
            .map(|Span(time)| DelayFault { us: u64::try_from(time.as_micros()).unwrap_or(u64::MAX), share: share(of) })
            .filter(|delay| some(&delay.share));
        let Abort { status, grpc_status, share: of } = abort.unwrap_or_default();
        let abort = AbortFault { status, grpc_status, share: share(of) };
        faults.abort = (status.is_some() || grpc_status.is_some()).then_some(abort).filter(|abort| some(&abort.share));
        let Slow { rate, share: of } = bandwidth.unwrap_or_default();
        faults.bandwidth = rate
            .map(|Size(bytes)| Rate { count: bytes, per_ms: 1_000, burst: (bytes / 10).max(RATE_MIN.0) })
            .map(|rate| SlowFault { rate, share: share(of) })
            .filter(|slow| some(&slow.share));
        faults.when = when.clone().map(|When { header, value }| HeaderFault { header, value });
    }
}
