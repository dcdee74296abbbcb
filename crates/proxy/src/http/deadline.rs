//! A deadline that travels: what is left of a request's time goes along with it, so that nobody works for a caller who
//! has left.

use super::headers;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

/// What gRPC callers say (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>, "Timeout").
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Digits of `grpc-timeout` (the same page).
const GRPC_DIGITS_MAX: usize = 8;

/// The time the caller gives: of our own header, or of gRPC's; the shorter one.
pub fn asked(headers: &HeaderMap) -> Option<Duration> {
    // One walk: two look-ups of what is not there nearly always cost more.
    let (ours, grpcs) = (headers::DEADLINE, GRPC_TIMEOUT);
    let said = |(name, value): (&HeaderName, &HeaderValue)| match () {
        () if *name == ours => millis(value),
        () if *name == grpcs => grpc(value),
        () => None,
    };
    headers.iter().filter_map(said).min()
}

/// The time our own header gives.
pub fn left(headers: &HeaderMap) -> Option<Duration> {
    millis(headers.get(headers::DEADLINE)?)
}

/// Says what is left. Less than a millisecond is one: zero would be no time at all.
pub fn tell(headers: &mut HeaderMap, left: Duration) {
    let ms = u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1);
    headers.insert(headers::DEADLINE, HeaderValue::from(ms));
}

fn millis(value: &HeaderValue) -> Option<Duration> {
    Some(Duration::from_millis(value.to_str().ok()?.parse().ok()?))
}

fn grpc(value: &HeaderValue) -> Option<Duration> {
    let (count, unit) = value.to_str().ok()?.split_at_checked(value.len().checked_sub(1)?)?;
    if count.len() > GRPC_DIGITS_MAX || !count.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = count.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_both_holds_and_nonsense_does_not() {
        for (ours, grpc, expect) in [
            (None, None, None),
            (Some("250"), None, Some(250)),
            (None, Some("2S"), Some(2_000)),
            (Some("250"), Some("100m"), Some(100)),
            (Some("50"), Some("1H"), Some(50)),
            (None, Some("1500u"), Some(1)),
            (None, Some("123456789m"), None),
            (None, Some("m"), None),
            (None, Some("-1S"), None),
            (None, Some("1x"), None),
            (None, Some(""), None),
            (Some("soon"), None, None),
        ] {
            let mut headers = HeaderMap::new();
            ours.map(|value| headers.insert(headers::DEADLINE, HeaderValue::from_static(value)));
            grpc.map(|value| headers.insert(GRPC_TIMEOUT, HeaderValue::from_static(value)));
            assert_eq!(asked(&headers).map(|left| left.as_millis()), expect, "{ours:?} {grpc:?}");
        }
    }

    #[test]
    fn what_is_told_is_read_back_and_never_zero() {
        let mut headers = HeaderMap::new();
        for (left_us, expect_ms) in [(1_500_000, 1_500), (10, 1)] {
            tell(&mut headers, Duration::from_micros(left_us));
            assert_eq!(left(&headers), Some(Duration::from_millis(expect_ms)));
        }
    }
}
