//! Headers that proxies take away, add, and count.

use super::gate::Bad;
use super::gate::head::{frames, is_host, same_host};
use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX};
use http::Version;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use smallvec::SmallVec;

/// Why a request went where it went, or failed.
pub const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// Zone that answered.
pub const ZONE: HeaderName = HeaderName::from_static("weft-zone");
/// Workload that answered.
pub const WORKLOAD: HeaderName = HeaderName::from_static("weft-workload");
/// Verified identity of the caller, for the app.
pub const PEER: HeaderName = HeaderName::from_static("weft-peer");
/// Utilisation of the app, in percent; between proxies only.
pub const LOAD: HeaderName = HeaderName::from_static("weft-load");
/// Policy that refused, `NAMESPACE/NAME`.
pub const POLICY: HeaderName = HeaderName::from_static("weft-policy");
/// What is left of the request's time, in milliseconds.
pub const DEADLINE: HeaderName = HeaderName::from_static("weft-deadline-ms");
/// On copies of requests: the rule that made them, `NAMESPACE/ROUTE#INDEX`. Apps see it, too.
pub const MIRROR: HeaderName = HeaderName::from_static("weft-mirror");
/// Between proxies: the method of a request that asks for another protocol, where it is not GET.
pub const METHOD: HeaderName = HeaderName::from_static("weft-method");
/// Between proxies: the status of an app that ignored such a wish.
pub const STATUS: HeaderName = HeaderName::from_static("weft-status");
/// Every header of ours begins so; nobody outside may set one.
const OURS: &str = "weft-";

/// Headers of one connection only (RFC 9110 section 7.6.1 and RFC 9113 section 8.2.2), and [`TE`](header::TE), of which
/// `trailers` travels. `Trailer` is none of them: it tells the receiver which trailers come, and hyper sends no others over
/// HTTP/1.1.
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "transfer-encoding",
    "upgrade",
    "te",
];

/// Headers by which others carry identities; only a proxy that verified one may set them.
const SPOOFABLE: [HeaderName; 1] = [HeaderName::from_static("x-forwarded-client-cert")];

/// Removes headers of one hop, those that `Connection` names included. `TE: trailers` survives, as gRPC needs it.
pub fn strip_hop(headers: &mut HeaderMap) {
    // Asked of each header of each message, and as texts they differ by their lengths nearly always.
    let hop = |name: &HeaderName| HOP_BY_HOP.into_iter().find(|hop| *hop == name.as_str());
    let present: SmallVec<[&str; 8]> = headers.keys().filter_map(hop).collect();
    if present.is_empty() {
        return;
    }
    let named: SmallVec<[HeaderName; 4]> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        // What they nearly always say. It names nothing, or what goes anyway.
        .filter(|value| !["keep-alive", "close"].contains(value))
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::TE && *name != header::HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in present {
        let Some(value) = headers.remove(name) else { continue };
        let trailers =
            || value.to_str().is_ok_and(|te| te.split(',').any(|t| t.trim().eq_ignore_ascii_case("trailers")));
        if name == "te" && trailers() {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
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

/// Removes everything that only we may say, also where `_` stands for `-`: many apps cannot tell them apart.
pub fn strip_ours(headers: &mut HeaderMap) {
    let ours: SmallVec<[HeaderName; 4]> = headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in &ours {
        headers.remove(name);
    }
}

fn is_ours(name: &str) -> bool {
    let same = |name: &[u8], wanted: &[u8]| {
        name.len() == wanted.len() && name.iter().zip(wanted).all(|(b, w)| b == w || (*b == b'_' && *w == b'-'))
    };
    let name = name.as_bytes();
    name.get(..OURS.len()).is_some_and(|start| same(start, OURS.as_bytes()))
        || SPOOFABLE.iter().any(|wanted| same(name, wanted.as_str().as_bytes()))
}

/// What HTTP/2 carries and whoever reads it as HTTP/1 would take for a second framing or another host. HTTP/1 itself
/// has passed the gate.
pub fn one_reading(request: &Parts) -> Result<(), Bad> {
    if request.version != Version::HTTP_2 {
        return Ok(());
    }
    let mut lengths = request.headers.get_all(header::CONTENT_LENGTH).iter();
    if lengths.next().is_some() && lengths.next().is_some() {
        return Err(Bad::Length);
    }
    if request.headers.keys().any(|name| frames(name.as_str().as_bytes())) {
        return Err(Bad::Pretender);
    }
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    match (host.map(HeaderValue::as_bytes).into_iter().chain(authority).all(is_host), host, authority) {
        (false, ..) => Err(Bad::Host),
        _ if second.is_some() => Err(Bad::Host),
        (_, Some(host), Some(authority)) if !same_host(host.as_bytes(), authority) => Err(Bad::Authority),
        _ => Ok(()),
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
            ("weft_peer", "spiffe://west.default/ns/a/sa/admin"),
            ("x-forwarded-client-cert", "By=..."),
            ("x_forwarded-client_cert", "By=..."),
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
