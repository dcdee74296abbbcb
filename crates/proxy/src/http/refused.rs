//! How often something hostile was refused before it was a request, by why. For metrics: such traffic has no service to
//! be counted under.

use super::gate::Bad;
use super::meter::Flood;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One for the process: refusals are rare, and who sends them has no claim to speed.
static COUNTS: Mutex<BTreeMap<&'static str, u64>> = Mutex::new(BTreeMap::new());

/// Why, as the metric says it.
pub trait Why {
    /// A label.
    fn why(&self) -> &'static str;
}

impl Why for Bad {
    fn why(&self) -> &'static str {
        match self {
            Self::LineEnd => "line_end",
            Self::RequestLine => "request_line",
            Self::Target | Self::Authority => "target",
            Self::Host => "host",
            Self::Folded | Self::Name | Self::Value | Self::Pretender => "header",
            Self::RequestLineLong | Self::TooLarge => "too_large",
            Self::Length | Self::Coding | Self::Both => "framing",
            Self::Chunk => "chunk",
            Self::Slow => "slow_head",
            Self::SlowBody => "slow_body",
        }
    }
}

impl Why for Flood {
    fn why(&self) -> &'static str {
        match self {
            Self::Control => "control_frames",
            Self::WindowUpdates => "window_updates",
            Self::Empty => "empty_frames",
            Self::Continuations => "continuations",
            Self::Resets => "resets",
            Self::Unserved => "unserved",
            Self::SlowBlock => "slow_head",
        }
    }
}

/// A connection beyond a bound.
pub struct Crowd;

impl Why for Crowd {
    fn why(&self) -> &'static str {
        "connections"
    }
}

/// One more.
pub fn count(what: &impl Why) {
    *counts().entry(what.why()).or_default() += 1;
}

/// All so far.
pub fn all() -> BTreeMap<&'static str, u64> {
    counts().clone()
}

fn counts() -> MutexGuard<'static, BTreeMap<&'static str, u64>> {
    COUNTS.lock().unwrap_or_else(PoisonError::into_inner)
}
