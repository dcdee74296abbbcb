//! What hash algorithms keep together, read off a request or connection; and the cookie of those who have none.
//!
//! The first entry of the policy's list that the request has decides. Without any, the request goes anywhere.

use super::http::Hold;
use crate::http::body::Answer;
use crate::worker::Worker;
use api::config::{Balancing, HashCookie, HashOn};
use balance::hash_key;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, Uri};
use std::net::IpAddr;

/// Address of a gateway's client, among a request's extensions. Without it, the caller is the proxy's own workload.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Where to look for the key of a request, compiled.
#[derive(Debug, PartialEq)]
pub struct Hashing(Vec<Source>);

#[derive(Debug, PartialEq)]
enum Source {
    Header(HeaderName),
    Cookie(HashCookie),
    Query(String),
    Caller,
}

/// The key of one request.
#[derive(Debug, Default)]
pub struct Key {
    /// For [`balance::Ask`].
    pub hash: Option<u64>,
    /// The caller had no cookie and gets this one.
    cookie: Option<HeaderValue>,
}

impl Hashing {
    /// `None`: the service's algorithm looks at no key. An entry that cannot be read is left out.
    pub fn compile(balancing: &Balancing) -> Option<Self> {
        if !balancing.algorithm.hashes() || balancing.hash_on.is_empty() {
            return None;
        }
        let source = |on: &HashOn| match on {
            HashOn::Header(name) => name.parse().ok().map(Source::Header),
            HashOn::Cookie(cookie) => Some(Source::Cookie(cookie.clone())),
            HashOn::Query(name) => Some(Source::Query(name.clone())),
            HashOn::Source => Some(Source::Caller),
        };
        Some(Self(balancing.hash_on.iter().filter_map(source).collect()))
    }

    /// The key of a request, as the backend will see it.
    pub fn of_request(&self, worker: &Worker, parts: &Parts) -> Key {
        for source in &self.0 {
            let hash = match source {
                Source::Header(name) => in_header(&parts.headers, name),
                Source::Query(name) => in_query(&parts.uri, name),
                Source::Caller => Some(match parts.extensions.get::<ClientAddress>() {
                    Some(ClientAddress(address)) => of_address(*address),
                    None => worker.caller,
                }),
                Source::Cookie(cookie) => match (in_cookies(&parts.headers, &cookie.name), cookie.ttl_s) {
                    (None, Some(ttl_s)) => return new_session(cookie, ttl_s, worker.random(), worker.random()),
                    (given, _) => given,
                },
            };
            if hash.is_some() {
                return Key { hash, cookie: None };
            }
        }
        Key::default()
    }

    /// The key of a connection of bytes: all it has is who makes it.
    pub fn of_connection(&self, worker: &Worker) -> Option<u64> {
        self.0.contains(&Source::Caller).then_some(worker.caller)
    }
}

impl Key {
    /// Gives the caller its cookie.
    pub fn told(self, response: &mut Response<Answer<Hold>>) {
        if let Some(cookie) = self.cookie {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
    }
}

/// Several fields of one name are one list (RFC 9110 section 5.3).
fn in_header(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    let rest = all.fold(hash_key(first.as_bytes()), |hash, value| hash.rotate_left(1) ^ hash_key(value.as_bytes()));
    (!first.is_empty()).then_some(rest)
}

fn in_cookies(headers: &HeaderMap, name: &str) -> Option<u64> {
    let pairs = headers.get_all(header::COOKIE).iter().flat_map(|value| value.as_bytes().split(|b| *b == b';'));
    let mut found = pairs.filter_map(|pair| {
        let (given, value) = pair.trim_ascii().split_at_checked(name.len())?;
        let value = value.strip_prefix(b"=")?;
        (given == name.as_bytes() && !value.is_empty()).then(|| hash_key(value))
    });
    found.next()
}

fn in_query(uri: &Uri, name: &str) -> Option<u64> {
    let (_, value) =
        uri.query()?.split('&').filter_map(|pair| pair.split_once('=')).find(|(given, _)| *given == name)?;
    (!value.is_empty()).then(|| hash_key(value.as_bytes()))
}

fn of_address(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => hash_key(&address.octets()),
        IpAddr::V6(address) => hash_key(&address.octets()),
    }
}

/// 128 random bits: two callers never share one by chance. It keeps a caller with an endpoint and proves nothing.
fn new_session(cookie: &HashCookie, ttl_s: u64, high: u64, low: u64) -> Key {
    let value = format!("{high:016x}{low:016x}");
    let HashCookie { name, path, .. } = cookie;
    let age = if ttl_s > 0 { format!("; Max-Age={ttl_s}") } else { String::new() };
    let text = format!("{name}={value}; Path={path}{age}; HttpOnly");
    Key { hash: Some(hash_key(value.as_bytes())), cookie: HeaderValue::from_str(&text).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_key_is_the_value_and_nothing_else() {
        let ann = Some(hash_key(b"ann"));
        for cookie in ["user=ann", "a=b; user=ann; user=bob", "xuser=no;user=ann", "user; user=ann"] {
            assert_eq!(in_cookies(&parts("/", &[("cookie", cookie)]).headers, "user"), ann, "{cookie}");
        }
        let split = parts("/", &[("cookie", "a=b"), ("cookie", "user=ann")]);
        assert_eq!(in_cookies(&split.headers, "user"), ann);
        for cookie in ["user=", "use=ann", "users=ann", "User=ann", ""] {
            assert_eq!(in_cookies(&parts("/", &[("cookie", cookie)]).headers, "user"), None, "{cookie}");
        }
        for uri in ["/?user=ann", "/a?x=1&user=ann&user=bob", "http://cart/?user=ann"] {
            assert_eq!(in_query(&uri.parse().unwrap(), "user"), ann, "{uri}");
        }
        for uri in ["/", "/?user", "/?user=", "/?xuser=ann", "/user=ann"] {
            assert_eq!(in_query(&uri.parse().unwrap(), "user"), None, "{uri}");
        }
        let user = HeaderName::from_static("x-user");
        assert_eq!(in_header(&parts("/", &[("x-user", "ann")]).headers, &user), ann);
        assert_eq!(in_header(&parts("/", &[("x-user", "")]).headers, &user), None);
        let list = |a, b| in_header(&parts("/", &[("x-user", a), ("x-user", b)]).headers, &user);
        assert_ne!(list("ann", "bob"), list("bob", "ann"));
    }

    #[test]
    fn an_address_is_the_same_in_both_families() {
        assert_eq!(of_address("::ffff:10.0.0.1".parse().unwrap()), of_address("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_new_session_goes_where_its_cookie_will() {
        let cookie = HashCookie { name: "cart".into(), ttl_s: Some(3600), path: "/shop".into() };
        let key = new_session(&cookie, 3600, 1, 2);
        let told = key.cookie.unwrap();
        let value = "00000000000000010000000000000002";
        assert_eq!(told, format!("cart={value}; Path=/shop; Max-Age=3600; HttpOnly"));
        let back = parts("/", &[("cookie", &format!("cart={value}"))]);
        assert_eq!(in_cookies(&back.headers, "cart"), key.hash);
        let until_closed = new_session(&cookie, 0, 1, 2).cookie.unwrap();
        assert_eq!(until_closed, format!("cart={value}; Path=/shop; HttpOnly"));
    }
}
