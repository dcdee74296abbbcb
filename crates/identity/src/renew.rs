//! When to ask for the next certificate.

use rustls_pki_types::UnixTime;
use std::time::Duration;

/// Half of the lifetime is left when the first try is made (Linkerd and SPIRE do the same), so an issuer may be gone
/// for 12 h of a 24 h certificate before anybody suffers.
const RENEW_FROM: f64 = 0.5;
/// The tries of a fleet that started together spread over this share of the lifetime.
const RENEW_SPREAD: f64 = 0.1;
/// First pause after a failed try.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// Longest pause between tries (istio ztunnel's ceiling).
const RETRY_MAX: Duration = Duration::from_secs(150);

/// The moment to renew. `jitter` is drawn from 0..1 by the caller; anything else is clamped.
pub fn renew_at(not_before: UnixTime, not_after: UnixTime, jitter: f64) -> UnixTime {
    let lifetime = not_after.as_secs().saturating_sub(not_before.as_secs()) as f64;
    let wait = lifetime * (RENEW_FROM + RENEW_SPREAD * jitter.clamp(0.0, 1.0));
    UnixTime::since_unix_epoch(Duration::from_secs(not_before.as_secs().saturating_add(wait as u64)))
}

/// The pause after the `attempt`th failure in a row (from 0): full jitter over a doubling ceiling.
pub fn retry_after(attempt: u32, jitter: f64) -> Duration {
    let ceiling = RETRY_FIRST.saturating_mul(1 << attempt.min(16)).min(RETRY_MAX);
    // Never quite zero, so that a failing issuer is not asked in a tight loop.
    (ceiling / 10).max(ceiling.mul_f64(jitter.clamp(0.0, 1.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn renewal_begins_at_half_time_and_spreads_over_a_tenth() {
        let day = 86_400;
        assert_eq!(renew_at(at(1_000), at(1_000 + day), 0.0), at(1_000 + day / 2));
        assert_eq!(renew_at(at(1_000), at(1_000 + day), 1.0), at(1_000 + day * 6 / 10));
        assert_eq!(renew_at(at(1_000), at(1_000 + day), f64::MAX), at(1_000 + day * 6 / 10));
        assert_eq!(renew_at(at(2_000), at(1_000), 0.5), at(2_000), "a reversed certificate is renewed at once");
    }

    #[test]
    fn a_failing_issuer_is_asked_ever_less_often_but_at_least_every_150_s() {
        assert_eq!(retry_after(0, 1.0), Duration::from_secs(1));
        assert_eq!(retry_after(3, 1.0), Duration::from_secs(8));
        assert_eq!(retry_after(u32::MAX, 1.0), Duration::from_secs(150));
        assert_eq!(retry_after(0, 0.0), Duration::from_millis(100));
    }
}
