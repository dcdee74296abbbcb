//! Who gets copies of requests, as proxies are told.

use super::ServiceRef;
use crate::name::ZoneName;
use serde::{Deserialize, Serialize};

/// Who gets copies of requests, without anybody waiting for the answer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    /// Which service.
    pub service: ServiceRef,
    /// Port called there.
    pub port: u16,
    /// Only this zone.
    pub zone: Option<ZoneName>,
    /// Of so many requests..
    pub numerator: u32,
    /// ..in so many.
    pub denominator: u32,
}
