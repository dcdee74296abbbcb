//! What hash algorithms keep together.

use api::config::{self, Algorithm};
use api::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most entries of `hashOn`: every request may have to look at all of them.
const ENTRIES_MAX: usize = 8;

/// A part of a request that makes it belong together with others that have the same.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum HashOn {
    /// The value of this header.
    Header(String),
    /// The value of a cookie.
    Cookie(Cookie),
    /// The value of this parameter of the query.
    Query(String),
    /// The caller: the workload, or for a gateway's clients their address. All that a TCP connection has.
    Source,
}

/// A cookie, and whether callers without it get one.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Cookie {
    /// Its name.
    pub name: String,
    /// Callers without it get one of this age; `0s`: until the browser closes. Omitted: they get none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// Path for which they get it. / unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl HashOn {
    /// As proxies are told.
    pub(super) fn lower(&self) -> config::HashOn {
        match self {
            Self::Header(name) => config::HashOn::Header(name.to_ascii_lowercase()),
            Self::Query(name) => config::HashOn::Query(name.clone()),
            Self::Source => config::HashOn::Source,
            Self::Cookie(Cookie { name, ttl, path }) => config::HashOn::Cookie(config::HashCookie {
                name: name.clone(),
                ttl_s: ttl.map(|ttl| ttl.0.as_secs()),
                path: path.clone().unwrap_or_else(|| "/".into()),
            }),
        }
    }
}

/// What is wrong with the list, and with what stands beside it.
pub(super) fn check(
    list: Option<&[HashOn]>,
    algorithm: Option<Algorithm>,
    wrong: &mut Vec<(String, String)>,
) {
    let mut say = |at: String, what: String| wrong.push((at, what));
    match (list, algorithm) {
        (Some(_), Some(other)) if !other.hashes() => {
            let what = format!("algorithm {other:?} does not look at hashOn; use RingHash or Maglev, or leave hashOn out");
            say("hashOn".into(), what);
        }
        (None, Some(hash)) if hash.hashes() => {
            let what = format!(
                "algorithm {hash:?} without hashOn sends requests anywhere; say what to keep together, such as hashOn: [source]"
            );
            say("algorithm".into(), what);
        }
        _ => {}
    }
    let Some(list) = list else { return };
    if list.is_empty() {
        say("hashOn".into(), "needs at least one entry; or leave it out".into());
    }
    if list.len() > ENTRIES_MAX {
        say("hashOn".into(), format!("must have at most {ENTRIES_MAX} entries"));
    }
    for (i, entry) in list.iter().enumerate() {
        match entry {
            HashOn::Header(name) if !is_token(name) => {
                say(format!("hashOn[{i}].header"), format!("`{name}` is not a header name"));
            }
            HashOn::Query(name) if name.is_empty() => {
                say(format!("hashOn[{i}].query"), "needs the name of a parameter".into());
            }
            HashOn::Cookie(Cookie { name, ttl, path }) => {
                if !is_token(name) {
                    say(format!("hashOn[{i}].cookie.name"), format!("`{name}` is not a cookie name"));
                }
                match path {
                    Some(_) if ttl.is_none() => say(
                        format!("hashOn[{i}].cookie.path"),
                        "a path is for a cookie that callers get; add ttl (0s: until the browser closes), or leave path out"
                            .into(),
                    ),
                    Some(path) if !is_path(path) => {
                        let what = format!("`{path}` is not the path of a cookie; begin with / and leave out ; and spaces");
                        say(format!("hashOn[{i}].cookie.path"), what);
                    }
                    _ => {}
                }
            }
            HashOn::Header(_) | HashOn::Query(_) | HashOn::Source => {}
        }
    }
}

/// A token of RFC 9110 section 5.6.2: names of headers, and of cookies (RFC 6265 section 4.1.1).
fn is_token(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// `path-value` of RFC 6265 section 4.1.1, without spaces.
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b';')
}
