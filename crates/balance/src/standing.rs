//! In or out: how failures take a candidate or a connection out, and how single probes let it back in.

use crate::fault::{Fault, planted};
use crate::limits::{FORGIVEN_AFTER_US, MS, PROBE_LOST_US, RETURN_FIRST_US, RETURN_LAST_US};
use api::RouteReason;
use api::config::Ejection;

/// Why something is out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Why {
    /// No connection could be made.
    Refused,
    /// It showed no sign of life.
    Hung,
    /// It answered 5xx, or broke off, too often in a row.
    Failing,
}

impl Why {
    pub(crate) fn reason(self) -> RouteReason {
        match self {
            Self::Refused => RouteReason::ConnectFailed,
            Self::Hung | Self::Failing => RouteReason::Ejected,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    In {
        since_us: u64,
    },
    /// Takes nothing until then, afterwards one probe.
    Out {
        until_us: u64,
        why: Why,
    },
    /// One probe is on its way.
    Probing {
        since_us: u64,
        why: Why,
    },
}

/// Standing of one candidate or connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    state: State,
    /// Times out, not yet forgiven.
    setbacks: u32,
    /// Failures in a row.
    row: u32,
}

impl Standing {
    pub(crate) fn new(now_us: u64) -> Self {
        Self { state: State::In { since_us: now_us }, setbacks: 0, row: 0 }
    }

    pub(crate) fn is_in(&self) -> bool {
        matches!(self.state, State::In { .. })
    }

    pub(crate) fn out(&self) -> Option<Why> {
        match self.state {
            State::In { .. } => None,
            State::Out { why, .. } | State::Probing { why, .. } => Some(why),
        }
    }

    /// When it may be probed; `None`: it is in, or nothing is known that could bring it back.
    pub(crate) fn due_us(&self) -> Option<u64> {
        match self.state {
            State::In { .. } => None,
            State::Out { why: Why::Hung, .. } if planted(Fault::HungForever) => None,
            State::Out { until_us, .. } => Some(until_us),
            State::Probing { since_us, .. } if planted(Fault::ProbesFlood) => Some(since_us),
            State::Probing { since_us, .. } => Some(since_us + PROBE_LOST_US),
        }
    }

    pub(crate) fn probe(&mut self, now_us: u64) {
        if let State::Out { why, .. } | State::Probing { why, .. } = self.state {
            self.state = State::Probing { since_us: now_us, why };
        }
    }

    /// The probe ended without saying anything: the next request may be one.
    pub(crate) fn probe_said_nothing(&mut self, now_us: u64) {
        if matches!(self.state, State::Probing { .. }) {
            self.due_now(now_us);
        }
    }

    /// Something else says that now is a good time for a probe.
    pub(crate) fn due_now(&mut self, now_us: u64) {
        if let State::Out { why, .. } | State::Probing { why, .. } = self.state {
            self.state = State::Out { until_us: now_us, why };
        }
    }

    /// Returns whether this brought it back.
    pub(crate) fn succeeded(&mut self, now_us: u64) -> bool {
        self.row = 0;
        match self.state {
            State::In { since_us } => {
                if self.setbacks > 0 && now_us.saturating_sub(since_us) >= FORGIVEN_AFTER_US {
                    self.setbacks -= 1;
                    self.state = State::In { since_us: now_us };
                }
                false
            }
            // An answer from before the ejection.
            State::Out { why: Why::Failing, .. } => false,
            State::Out { .. } | State::Probing { .. } => {
                self.state = State::In { since_us: now_us };
                true
            }
        }
    }

    /// A 5xx, or no answer. Returns whether it should be ejected now; whether it may is the caller's to know.
    pub(crate) fn failed(&mut self, ejection: &Ejection) -> bool {
        self.row = self.row.saturating_add(1);
        match self.state {
            State::In { .. } => ejection.consecutive > 0 && self.row >= ejection.consecutive,
            State::Probing { .. } => true,
            State::Out { .. } => false,
        }
    }

    /// Takes it out. Late news of the same failure, while it is out already, change nothing.
    pub(crate) fn take_out(&mut self, why: Why, ejection: &Ejection, now_us: u64) -> bool {
        if matches!(self.state, State::Out { .. }) {
            return false;
        }
        let was_in = self.is_in();
        let (first, last) = match why {
            Why::Refused | Why::Hung => (RETURN_FIRST_US, RETURN_LAST_US),
            Why::Failing => (ejection.base_ms * MS, (ejection.max_ms * MS).max(ejection.base_ms * MS)),
        };
        let grown = match why {
            Why::Refused | Why::Hung => first.saturating_mul(1 << self.setbacks.min(16)),
            Why::Failing => first.saturating_mul(u64::from(self.setbacks) + 1),
        };
        self.state = State::Out { until_us: now_us.saturating_add(grown.min(last)), why };
        self.setbacks = self.setbacks.saturating_add(1);
        self.row = 0;
        was_in
    }
}
