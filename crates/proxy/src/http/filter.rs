//! Filters of a rule, compiled: what they do to a request, to its answer, or instead of it.

use super::matching::Match;
use super::path;
use api::kinds::{HeaderModifier, HttpFilter, PathModifier, Redirect, Rewrite};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header, request};

/// Status of a redirect that names none (Gateway API).
const REDIRECT_DEFAULT: u16 = 302;

/// All filters of a rule, in its order.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    request: Vec<Step>,
    response: Vec<Headers>,
    redirect: Option<RedirectTo>,
}

#[derive(Clone, Debug)]
enum Step {
    Headers(Headers),
    Rewrite { host: Option<Authority>, path: Option<PathModifier> },
}

#[derive(Clone, Debug)]
struct Headers {
    remove: Vec<HeaderName>,
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
}

#[derive(Clone, Debug)]
struct RedirectTo {
    scheme: Option<String>,
    hostname: Option<String>,
    port: Option<u16>,
    path: Option<PathModifier>,
    status: StatusCode,
}

impl Filters {
    /// Compiles; the text says what is wrong.
    pub fn compile(given: &[HttpFilter]) -> Result<Self, String> {
        let mut filters = Self::default();
        for filter in given {
            match filter {
                HttpFilter::RequestHeaderModifier { request_header_modifier } => {
                    filters.request.push(Step::Headers(Headers::compile(request_header_modifier)?));
                }
                HttpFilter::ResponseHeaderModifier { response_header_modifier } => {
                    filters.response.push(Headers::compile(response_header_modifier)?);
                }
                HttpFilter::RequestRedirect { request_redirect } => {
                    filters.redirect = Some(RedirectTo::compile(request_redirect)?);
                }
                // Lowered to `OutboundRule::mirrors`; nothing to do to the request itself.
                HttpFilter::RequestMirror { .. } => {}
                HttpFilter::UrlRewrite { url_rewrite: Rewrite { hostname, path } } => {
                    let host = match hostname {
                        None => None,
                        Some(name) => Some(name.parse().map_err(|_| format!("`{name}` is not a host name"))?),
                    };
                    filters.request.push(Step::Rewrite { host, path: path.clone() });
                }
            }
        }
        Ok(filters)
    }

    /// The `Location` and status of a redirect, if the rule has one; then nothing is forwarded.
    pub fn redirect(&self, request: &request::Parts, matched: Option<&Match>) -> Option<(StatusCode, HeaderValue)> {
        let RedirectTo { scheme, hostname, port, path, status } = self.redirect.as_ref()?;
        let asked = authority(request);
        let named = scheme.is_some();
        let scheme = scheme.as_deref().or(request.uri.scheme_str()).unwrap_or("http");
        let host = hostname.as_deref().or_else(|| asked.as_ref().map(Authority::host)).unwrap_or_default();
        let port = match (*port, asked.as_ref().and_then(Authority::port_u16)) {
            (Some(port), _) => Some(port),
            // A scheme of its own means that scheme's own port (Gateway API, `HTTPRequestRedirectFilter.port`).
            (None, asked) if hostname.is_none() && !named => asked,
            _ => None,
        };
        let port = match (scheme, port) {
            ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
            (_, Some(port)) => format!(":{port}"),
        };
        let path = match path {
            Some(path) => modified(path, request.uri.path(), matched),
            None => request.uri.path().to_owned(),
        };
        let query = request.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some((*status, HeaderValue::from_str(&format!("{scheme}://{host}{port}{path}{query}")).ok()?))
    }

    /// Changes a request on its way to a backend.
    pub fn on_request(&self, request: &mut request::Parts, matched: Option<&Match>) {
        for step in &self.request {
            match step {
                Step::Headers(headers) => headers.apply(&mut request.headers),
                Step::Rewrite { host, path } => {
                    if let Some(host) = host {
                        set_authority(request, host);
                    }
                    if let Some(path) = path {
                        let path = modified(path, request.uri.path(), matched);
                        path::replace(&mut request.uri, &path);
                    }
                }
            }
        }
    }

    /// Changes an answer on its way to the caller.
    pub fn on_response(&self, headers: &mut HeaderMap) {
        for step in &self.response {
            step.apply(headers);
        }
    }
}

/// The host a request is for: of its URI, else of its `Host`.
pub fn authority(request: &request::Parts) -> Option<Authority> {
    match request.uri.authority() {
        Some(authority) => Some(authority.clone()),
        None => request.headers.get(header::HOST)?.to_str().ok()?.parse().ok(),
    }
}

/// Its host and its port.
pub fn host_and_port(authority: &Authority) -> (&str, Option<u16>) {
    let text = authority.as_str();
    // A name or an address, and perhaps a port, nearly always: then one walk tells.
    let mark = text.bytes().position(|b| matches!(b, b':' | b'@' | b'['));
    match mark.map(|at| (&text[..at], text[at..].strip_prefix(':').and_then(|port| port.parse().ok()))) {
        None => (text, None),
        Some((host, Some(port))) => (host, Some(port)),
        Some((_, None)) => (authority.host(), authority.port_u16()),
    }
}

fn set_authority(request: &mut request::Parts, host: &Authority) {
    let mut parts = std::mem::take(&mut request.uri).into_parts();
    if parts.scheme.is_some() {
        parts.authority = Some(host.clone());
    }
    request.uri = Uri::from_parts(parts).expect("an authority was exchanged for another");
    if let Ok(value) = HeaderValue::from_str(host.as_str()) {
        request.headers.insert(header::HOST, value);
    }
}

fn modified(how: &PathModifier, path: &str, matched: Option<&Match>) -> String {
    match how {
        PathModifier::ReplaceFullPath { replace_full_path } => replace_full_path.clone(),
        PathModifier::ReplacePrefixMatch { replace_prefix_match } => {
            let rest = path.strip_prefix(matched.map_or("", Match::prefix)).unwrap_or(path);
            let path = format!("{}/{}", replace_prefix_match.trim_end_matches('/'), rest.trim_start_matches('/'));
            match rest.is_empty() && path.len() > 1 {
                true => path.trim_end_matches('/').to_owned(),
                false => path,
            }
        }
    }
}

impl Headers {
    fn compile(given: &HeaderModifier) -> Result<Self, String> {
        let name = |name: &str| name.parse::<HeaderName>().map_err(|_| format!("`{name}` is not a header name"));
        let pairs = |list: &[api::kinds::Header]| {
            list.iter()
                .map(|header| {
                    let value = HeaderValue::from_str(&header.value);
                    Ok((
                        name(&header.name)?,
                        value.map_err(|_| format!("header {} has an impossible value", header.name))?,
                    ))
                })
                .collect::<Result<Vec<_>, String>>()
        };
        Ok(Self {
            remove: given.remove.iter().map(|given| name(given)).collect::<Result<_, _>>()?,
            set: pairs(&given.set)?,
            add: pairs(&given.add)?,
        })
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

impl RedirectTo {
    fn compile(given: &Redirect) -> Result<Self, String> {
        let Redirect { scheme, hostname, port, path, status_code } = given.clone();
        let code = status_code.unwrap_or(REDIRECT_DEFAULT);
        let status = StatusCode::from_u16(code).ok().filter(StatusCode::is_redirection);
        let status = status.ok_or_else(|| format!("{code} is not the status of a redirect"))?;
        Ok(Self { scheme, hostname, port, path, status })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn request(uri: &str) -> request::Parts {
        Request::builder()
            .uri(uri)
            .header("host", "cart.shop.mesh:8080")
            .header("x-old", "1")
            .body(())
            .unwrap()
            .into_parts()
            .0
    }

    fn filters(json: &str) -> Filters {
        Filters::compile(&[serde_json::from_str(json).unwrap()]).unwrap()
    }

    fn prefix(prefix: &str) -> Match {
        Match::compile(&serde_json::from_str(&format!(r#"{{"path":{{"value":"{prefix}"}}}}"#)).unwrap()).unwrap()
    }

    #[test]
    fn headers_are_removed_then_set_then_added() {
        let filters = filters(
            r#"{"type":"RequestHeaderModifier","requestHeaderModifier":{"remove":["X-Old"],
            "set":[{"name":"x-new","value":"a"}],"add":[{"name":"x-new","value":"b"}]}}"#,
        );
        let mut parts = request("/");
        filters.on_request(&mut parts, None);
        assert!(!parts.headers.contains_key("x-old"));
        assert_eq!(parts.headers.get_all("x-new").iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_prefix_is_replaced_as_gateway_api_tells() {
        // The table of HTTPPathModifier in the Gateway API reference.
        for (path, matched, with, expect) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "/", "/bar"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
        ] {
            let filters = filters(&format!(
                r#"{{"type":"URLRewrite","urlRewrite":{{"path":{{"type":"ReplacePrefixMatch","replacePrefixMatch":"{with}"}}}}}}"#
            ));
            let mut parts = request(&format!("{path}?q=1"));
            filters.on_request(&mut parts, Some(&prefix(matched)));
            assert_eq!(parts.uri.to_string(), format!("{expect}?q=1"), "{path} {matched} {with}");
        }
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_name() {
        for (redirect, status, location) in [
            (r#"{"scheme":"https","port":443,"statusCode":301}"#, 301, "https://cart.shop.mesh/a?b=c"),
            (r#"{"scheme":"https"}"#, 302, "https://cart.shop.mesh/a?b=c"),
            (r#"{"scheme":"https","port":8443,"statusCode":308}"#, 308, "https://cart.shop.mesh:8443/a?b=c"),
            (r#"{"hostname":"other"}"#, 302, "http://other/a?b=c"),
            (r#"{"hostname":"other","port":80}"#, 302, "http://other/a?b=c"),
            (
                r#"{"path":{"type":"ReplaceFullPath","replaceFullPath":"/z"},"statusCode":303}"#,
                303,
                "http://cart.shop.mesh:8080/z?b=c",
            ),
        ] {
            let filters = filters(&format!(r#"{{"type":"RequestRedirect","requestRedirect":{redirect}}}"#));
            let (code, to) = filters.redirect(&request("/a?b=c"), None).unwrap();
            assert_eq!((code.as_u16(), to.to_str().unwrap()), (status, location), "{redirect}");
        }
    }

    #[test]
    fn hosts_and_ports_are_those_the_library_reads() {
        let read = [
            "cart",
            "cart.shop.mesh:8080",
            "cart:",
            "cart:+80",
            "cart:65536",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:80",
            "ann@cart",
            "ann@cart:80",
            "ann:80@cart",
            "ann:pw@[::1]:80",
            ":80",
        ]
        .into_iter()
        .filter_map(|text| text.parse::<Authority>().ok())
        .map(|authority| {
            let (host, port) = host_and_port(&authority);
            assert_eq!((host, port), (authority.host(), authority.port_u16()), "{authority}");
        });
        assert!(read.count() > 8);
    }

    #[test]
    fn a_rewritten_host_is_what_the_backend_sees() {
        let filters = filters(r#"{"type":"URLRewrite","urlRewrite":{"hostname":"one.example"}}"#);
        let mut parts = request("/");
        filters.on_request(&mut parts, None);
        assert_eq!(parts.headers["host"], "one.example");
    }
}
