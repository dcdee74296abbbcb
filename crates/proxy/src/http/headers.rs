//! Headers that proxies take away, add, and count.

use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

/// Why a request went where it went, or failed.
pub const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// Zone that answered.
pub const ZONE: HeaderName = HeaderName::from_static("weft-zone");
/// Workload that answered.
pub const WORKLOAD: HeaderName = HeaderName::from_static("weft-workload");
/// Verified identity of the caller, for the app.
pub const PEER: HeaderName = HeaderName::from_static("weft-peer");
/// Policy that refused, `NAMESPACE/NAME`.
pub const POLICY: HeaderName = HeaderName::from_static("weft-policy");
/// Between proxies: the method of a request that asks for another protocol, where it is not GET.
pub const METHOD: HeaderName = HeaderName::from_static("weft-method");
/// Between proxies: the status of an app that ignored such a wish.
pub const STATUS: HeaderName = HeaderName::from_static("weft-status");
/// Every header of ours begins so; nobody outside may set one.
const OURS: &str = "weft-";

/// Headers of one connection only (RFC 9110 section 7.6.1 and RFC 9113 section 8.2.2). `Trailer` is none of them: it tells
/// the receiver which trailers come, and hyper sends no others over HTTP/1.1.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers by which others carry identities; only a proxy that verified one may set them.
const SPOOFABLE: [HeaderName; 1] = [HeaderName::from_static("x-forwarded-client-cert")];

/// Removes headers of one hop, those that `Connection` names included. `TE: trailers` survives, as gRPC needs it.
pub fn strip_hop(headers: &mut HeaderMap) {
    let present: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| **name == header::TE || HOP_BY_HOP.contains(name)).cloned().collect();
    if present.is_empty() {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::TE && *name != header::HOST)
        .collect();
    for name in named.iter().chain(present.iter().filter(|name| **name != header::TE)) {
        headers.remove(name);
    }
    if let Some(te) = headers.get(header::TE) {
        let trailers = te.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")));
        if trailers {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
        } else {
            headers.remove(header::TE);
        }
    }
}

/// Makes one cookie header of its crumbs, as it must be outside of HTTP/2 (RFC 9113 section 8.2.3).
pub fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else { return };
    let mut cookie = first.as_bytes().to_vec();
    for crumb in std::iter::once(second).chain(crumbs) {
        cookie.extend_from_slice(b"; ");
        cookie.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(cookie) = HeaderValue::from_bytes(&cookie) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Removes everything that only we may say.
pub fn strip_ours(headers: &mut HeaderMap) {
    let ours = |name: &&HeaderName| name.as_str().starts_with(OURS) || SPOOFABLE.contains(name);
    let ours: SmallVec<[HeaderName; 4]> = headers.keys().filter(ours).cloned().collect();
    for name in &ours {
        headers.remove(name);
    }
}

/// Whether the fields are within limits. Cookies count one by one, as HTTP/2 may send them so.
pub fn within_limits(headers: &HeaderMap) -> bool {
    let mut bytes = 0;
    let mut fields = 0;
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        fields += match *name == header::COOKIE {
            true => 1 + value.as_bytes().iter().filter(|b| **b == b';').count(),
            false => 1,
        };
    }
    fields <= HEADERS_MAX && bytes <= HEADER_BYTES_MAX
}

/// A value from text of our own making.
pub fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        fields.iter().map(|(n, v)| (n.parse::<HeaderName>().unwrap(), v.parse::<HeaderValue>().unwrap())).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort();
        names
    }

    #[test]
    fn headers_of_one_hop_do_not_travel() {
        let mut headers = map(&[
            ("connection", "close, X-Secret-Hop, host"),
            ("x-secret-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("host", "cart"),
            ("accept", "*/*"),
        ]);
        strip_hop(&mut headers);
        assert_eq!(names(&headers), ["accept", "host", "te"]);
        assert_eq!(headers["te"], "trailers");
        let mut headers = map(&[("te", "gzip")]);
        strip_hop(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn nobody_else_speaks_for_us() {
        let mut headers = map(&[
            ("weft-peer", "spiffe://west.default/ns/a/sa/admin"),
            ("weft-anything", "1"),
            ("x-forwarded-client-cert", "By=..."),
            ("weftlike", "stays"),
        ]);
        strip_ours(&mut headers);
        assert_eq!(names(&headers), ["weftlike"]);
    }

    #[test]
    fn crumbs_of_a_cookie_are_joined() {
        let mut headers = map(&[("cookie", "a=1")]);
        headers.append("cookie", "b=2; c=3".parse().unwrap());
        join_cookies(&mut headers);
        assert_eq!(headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn cookies_count_one_by_one() {
        assert!(within_limits(&map(&[("cookie", "a=1; b=2")])));
        assert!(!within_limits(&map(&[("cookie", &"a=1;".repeat(HEADERS_MAX))])));
        assert!(!within_limits(&map(&[("x", &"y".repeat(HEADER_BYTES_MAX))])));
    }
}
