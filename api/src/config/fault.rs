//! What calls suffer on purpose, as proxies are told.

use super::Rate;
use crate::share::Share;
use serde::{Deserialize, Serialize};

/// What calls suffer on purpose.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Faults {
    /// Wait before they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<DelayFault>,
    /// Are answered with a failure instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<AbortFault>,
    /// Are answered slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<SlowFault>,
    /// Only requests with this header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<HeaderFault>,
}

impl Faults {
    /// Whether nothing is injected.
    pub fn is_none(&self) -> bool {
        let Self { delay, abort, bandwidth, when: _ } = self;
        delay.is_none() && abort.is_none() && bandwidth.is_none()
    }
}

/// A wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct DelayFault {
    /// Microseconds.
    pub us: u64,
    /// Of how many calls.
    pub share: Share,
}

/// A failure instead of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct AbortFault {
    /// Of HTTP, and of gRPC where `grpc_status` says nothing.
    pub status: Option<u16>,
    /// Of gRPC.
    pub grpc_status: Option<u8>,
    /// Of how many calls.
    pub share: Share,
}

/// A slow answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct SlowFault {
    /// Bytes of each answer.
    pub rate: Rate,
    /// Of how many calls.
    pub share: Share,
}

/// A header that a request carries.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct HeaderFault {
    /// Its name.
    pub header: String,
    /// Its value.
    pub value: String,
}
