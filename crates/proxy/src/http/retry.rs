//! Whether a failed try is worth another, and how many the service may have.

use crate::limits::{BUDGET_WINDOW_SECONDS, UNSENT_TRIES_MAX};
use api::config::Retry;
use http::{Method, StatusCode};
use std::time::Duration;

/// How a try ended that did not bring an answer to pass on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Nothing reached the app: connection refused, stream refused, or the peer's proxy said so.
    Unsent,
    /// Sent, and then the connection broke or the peer froze: the app may have worked on it.
    Broken,
    /// Answered with this status.
    Status(StatusCode),
    /// The try's own deadline passed.
    Late,
    /// Nothing moved for as long as a stream may stand still, which was long enough for one request.
    Idle,
    /// There is nobody to send it to; asking again at once would be told the same.
    Nobody,
    /// A circuit breaker had no room for it; asking again would only add to what is too much already.
    NoRoom,
}

/// Whether sending the request again can do harm (RFC 9110 section 9.2.2), not counting the budget.
pub fn safe(ended: Ended, method: &Method, retry: &Retry, replayable: bool) -> bool {
    let repeatable = method.is_idempotent() || retry.unsafe_methods;
    replayable
        && match ended {
            Ended::Unsent => true,
            Ended::Idle | Ended::Nobody | Ended::NoRoom => false,
            Ended::Broken | Ended::Late => repeatable,
            Ended::Status(status) => repeatable && retry.on_status.contains(&status.as_u16()),
        }
}

/// Further tries of one request so far.
#[derive(Debug, Default)]
pub struct Tries {
    retries: u32,
    unsent: u32,
}

impl Tries {
    /// After a try that [may be repeated](safe): the pause before the next one, or `None` when it was the last.
    /// `take` takes from the budget; `random` is within `0.0..1.0`.
    pub fn again(&mut self, ended: Ended, retry: &Retry, take: impl FnOnce() -> bool, random: f64) -> Option<Duration> {
        if ended == Ended::Unsent {
            self.unsent += 1;
            return match self.unsent {
                // Nothing was sent: the first further try costs nobody anything, so it does not wait.
                1 => Some(Duration::ZERO),
                2..=UNSENT_TRIES_MAX => Some(backoff(retry, self.unsent - 2, random)),
                _ => None,
            };
        }
        if self.retries >= retry.max || !take() {
            return None;
        }
        self.retries += 1;
        Some(backoff(retry, self.retries - 1, random))
    }
}

/// Pause before try `number` (0 is the first retry): doubling, with full jitter by `random` in `0.0..1.0`.
fn backoff(retry: &Retry, number: u32, random: f64) -> Duration {
    let most = retry.backoff_ms.saturating_mul(1 << number.min(16)).min(retry.backoff_max_ms);
    Duration::from_secs_f64(most as f64 * random.clamp(0.0, 1.0) / 1_000.0)
}

const SLOTS: usize = BUDGET_WINDOW_SECONDS as usize;

/// Retries of one service over the last seconds: a share of its requests, plus some a second that are always allowed.
///
/// A ring of one-second slots; both numbers are exact over the window and nothing else is stored.
#[derive(Debug, Default)]
pub struct Budget {
    requests: [u32; SLOTS],
    retries: [u32; SLOTS],
    now: u64,
}

impl Budget {
    /// Counts a first try.
    pub fn request(&mut self, now_s: u64) {
        self.turn(now_s);
        self.requests[(now_s % SLOTS as u64) as usize] += 1;
    }

    /// Takes a retry, if there is one.
    pub fn take(&mut self, retry: &Retry, now_s: u64) -> bool {
        self.turn(now_s);
        let sum = |slots: &[u32; SLOTS]| slots.iter().map(|n| u64::from(*n)).sum::<u64>();
        let allowed =
            sum(&self.requests) as f64 * retry.budget.ratio() + f64::from(retry.budget_min_per_second) * SLOTS as f64;
        let taken = (sum(&self.retries) as f64) < allowed;
        if taken {
            self.retries[(now_s % SLOTS as u64) as usize] += 1;
        }
        taken
    }

    fn turn(&mut self, now_s: u64) {
        let passed = now_s.saturating_sub(self.now).min(SLOTS as u64);
        for second in 0..passed {
            let slot = ((now_s - second) % SLOTS as u64) as usize;
            self.requests[slot] = 0;
            self.retries[slot] = 0;
        }
        self.now = self.now.max(now_s);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::Share;

    #[test]
    fn a_request_is_sent_again_only_where_that_is_safe() {
        let retry = Retry::default();
        let unsafe_too = Retry { unsafe_methods: true, ..Retry::default() };
        let (get, post) = (Method::GET, Method::POST);
        let bad_gateway = Ended::Status(StatusCode::BAD_GATEWAY);
        for (ended, method, retry, replayable, expect) in [
            (Ended::Unsent, &post, &retry, true, true),
            (Ended::Unsent, &post, &retry, false, false),
            (Ended::Broken, &post, &retry, true, false),
            (Ended::Broken, &post, &unsafe_too, true, true),
            (Ended::Broken, &get, &retry, true, true),
            (Ended::Broken, &get, &retry, false, false),
            (Ended::Late, &get, &retry, true, true),
            (bad_gateway, &get, &retry, true, true),
            (bad_gateway, &post, &retry, true, false),
            (Ended::Status(StatusCode::INTERNAL_SERVER_ERROR), &get, &retry, true, false),
        ] {
            assert_eq!(safe(ended, method, retry, replayable), expect, "{ended:?} {method} {replayable}");
        }
    }

    #[test]
    fn the_budget_is_a_share_of_requests_and_a_floor() {
        let retry = Retry { budget: Share::percent(20), budget_min_per_second: 1, ..Retry::default() };
        let mut budget = Budget::default();
        for _ in 0..100 {
            budget.request(50);
        }
        let taken = (0..100).filter(|_| budget.take(&retry, 50)).count();
        assert_eq!(taken, 20 + 10);
        assert!(!budget.take(&retry, 59));
        // The window has passed: only the floor is left.
        assert_eq!((0..100).filter(|_| budget.take(&retry, 61)).count(), 10);
    }

    #[test]
    fn back_off_doubles_up_to_its_limit_with_full_jitter() {
        let retry = Retry::default();
        assert_eq!(backoff(&retry, 0, 0.0), Duration::ZERO);
        assert_eq!(backoff(&retry, 0, 1.0), Duration::from_millis(25));
        assert_eq!(backoff(&retry, 2, 1.0), Duration::from_millis(100));
        assert_eq!(backoff(&retry, 40, 1.0), Duration::from_millis(250));
    }
}
