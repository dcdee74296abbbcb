//! Which rule a request follows: Gateway API matches over compiled values.

use api::kinds::{HttpMatch, PathMatch, PathMatchType};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method};

/// One match, compiled: names and values are parsed once.
#[derive(Clone, Debug)]
pub struct Match {
    path: PathIs,
    method: Option<Method>,
    headers: Vec<(HeaderName, HeaderValue)>,
    query: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
enum PathIs {
    Any,
    Exact(String),
    /// Without a trailing slash.
    Prefix(String),
}

impl Match {
    /// Compiles; the text says what is wrong.
    pub fn compile(given: &HttpMatch) -> Result<Self, String> {
        let HttpMatch { path, headers, query_params, method } = given;
        let path = match path {
            None => PathIs::Any,
            Some(PathMatch { kind: PathMatchType::Exact, value }) => PathIs::Exact(value.clone()),
            Some(PathMatch { kind: PathMatchType::PathPrefix, value }) => match value.trim_end_matches('/') {
                "" => PathIs::Any,
                prefix => PathIs::Prefix(prefix.to_owned()),
            },
        };
        let method = match method {
            None => None,
            Some(method) => Some(method.parse().map_err(|_| format!("`{method}` is not a method"))?),
        };
        let headers = headers
            .iter()
            .map(|header| {
                let name = header.name.parse().map_err(|_| format!("`{}` is not a header name", header.name))?;
                let value =
                    header.value.parse().map_err(|_| format!("header {} has an impossible value", header.name))?;
                Ok((name, value))
            })
            .collect::<Result<_, String>>()?;
        let query = query_params.iter().map(|query| (query.name.clone(), query.value.clone())).collect();
        Ok(Self { path, method, headers, query })
    }

    /// Whether all parts hold.
    pub fn matches(&self, request: &Parts) -> bool {
        let path = request.uri.path();
        let path_holds = match &self.path {
            PathIs::Any => true,
            PathIs::Exact(exact) => path == exact,
            PathIs::Prefix(prefix) => below(path, prefix).is_some(),
        };
        path_holds
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.headers.iter().all(|(name, value)| request.headers.get(name) == Some(value))
            && (self.query.is_empty() || {
                let query = request.uri.query().unwrap_or_default();
                self.query.iter().all(|(name, value)| first(query, name).is_some_and(|given| given == *value))
            })
    }

    /// The prefix that this match took from the path; what `ReplacePrefixMatch` replaces.
    pub fn prefix(&self) -> &str {
        match &self.path {
            PathIs::Prefix(prefix) => prefix,
            PathIs::Any | PathIs::Exact(_) => "",
        }
    }
}

/// What follows `prefix` in `path`, where it ends at a path element.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(prefix)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// First value of a query parameter, unescaped.
fn first(query: &str, name: &str) -> Option<String> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(given, value)| (unescape(given) == name).then(|| unescape(value)))
}

fn unescape(text: &str) -> String {
    let digit = |byte: &u8| (*byte as char).to_digit(16);
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        out.push(match (*byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) if digit(high).is_some() && digit(low).is_some() => {
                rest = after;
                u8::from_str_radix(&String::from_utf8_lossy(&tail[..2]), 16).unwrap_or(b'%')
            }
            (byte, _) => byte,
        });
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn holds(given: &str, method: &str, uri: &str, headers: &[(&str, &str)]) -> bool {
        let given: HttpMatch = serde_json::from_str(given).unwrap();
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Match::compile(&given).unwrap().matches(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn prefixes_end_at_path_elements() {
        let prefix = r#"{"path":{"value":"/a"}}"#;
        for (path, expect) in [("/a", true), ("/a/", true), ("/a/b", true), ("/ab", false), ("/", false)] {
            assert_eq!(holds(prefix, "GET", path, &[]), expect, "{path}");
        }
        assert!(holds(r#"{"path":{"value":"/a/"}}"#, "GET", "/a", &[]));
        assert!(!holds(r#"{"path":{"type":"Exact","value":"/a"}}"#, "GET", "/a/", &[]));
    }

    #[test]
    fn all_parts_must_hold() {
        let given = r#"{"method":"POST","headers":[{"name":"X-Tier","value":"gold"}],
            "queryParams":[{"name":"v","value":"a b"}]}"#;
        assert!(holds(given, "POST", "/?v=a%20b&v=c", &[("x-tier", "gold")]));
        assert!(holds(given, "POST", "/?w&v=a+b", &[("x-tier", "gold")]));
        assert!(!holds(given, "GET", "/?v=a%20b", &[("x-tier", "gold")]));
        assert!(!holds(given, "POST", "/?v=c&v=a%20b", &[("x-tier", "gold")]));
        assert!(!holds(given, "POST", "/?v=a%20b", &[("x-tier", "tin")]));
    }
}
