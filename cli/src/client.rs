//! A small HTTP client for the REST interface of both control planes: JSON in, JSON or a problem out.
//!
//! One connection a request: the command makes few, and a connection that is not kept cannot be stale.

use crate::exit::Exit;
use crate::sse::Events;
use api::Problem;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest answer that is read: a list page of 500 documents of 64 KiB stays below it.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long a server may take unless `--timeout` says otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Why a request brought no answer, or the wrong one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("could not reach {server}: {source}")]
    Unreachable {
        /// Base URL.
        server: String,
        /// From the system.
        source: std::io::Error,
    },
    /// No answer in time.
    #[error("{server} did not answer within {limit} ({method} {path})")]
    Timeout {
        /// Base URL.
        server: String,
        /// Of the request.
        method: Method,
        /// Of the request.
        path: String,
        /// Allowed.
        limit: api::Span,
    },
    /// The connection broke, or what came is not HTTP.
    #[error("{server} broke off the answer to {method} {path}: {reason}")]
    Broken {
        /// Base URL.
        server: String,
        /// Of the request.
        method: Method,
        /// Of the request.
        path: String,
        /// From the HTTP library.
        reason: String,
    },
    /// The server refused, with words.
    #[error("{}", words(.0))]
    Problem(Box<Problem>),
    /// A URL that cannot be used.
    #[error("`{given}` is not a server's URL: {reason}")]
    Url {
        /// As given.
        given: String,
        /// Why.
        reason: &'static str,
    },
}

fn words(problem: &Problem) -> String {
    let Problem { title, detail, diagnostics, .. } = problem;
    let mut text = if detail.is_empty() { title.clone() } else { detail.clone() };
    for diagnostic in diagnostics {
        text.push_str(&format!("\n  {}: {}", diagnostic.field, diagnostic.message));
        if !diagnostic.help.is_empty() {
            text.push_str(&format!("; {}", diagnostic.help));
        }
    }
    text
}

impl ClientError {
    /// Which exit code this is.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Timeout { .. } | Self::Broken { .. } => Exit::Unreachable,
            Self::Url { .. } => Exit::Usage,
            Self::Problem(problem) => match problem.status {
                401 | 403 => Exit::Denied,
                404 => Exit::NotFound,
                409 | 412 => Exit::Conflict,
                429 | 502..=504 => Exit::Unreachable,
                500 => Exit::Bug,
                _ => Exit::No,
            },
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::Unreachable { .. } => {
                "is it running, and is the address right? `weft context list` shows what is configured".into()
            }
            Self::Timeout { .. } => "give --timeout for a longer wait".into(),
            Self::Broken { .. } | Self::Url { .. } => String::new(),
            Self::Problem(problem) => match problem.status {
                401 => {
                    "the token is in admin.token of the control plane's data folder; give that file with --token-file"
                        .into()
                }
                500 if !problem.request_id.is_empty() => format!("please report request {}", problem.request_id),
                _ => String::new(),
            },
        }
    }

    /// The problem, if the server sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// An answer of success.
#[derive(Debug)]
pub struct Answer {
    /// 2xx.
    pub status: StatusCode,
    /// As sent.
    pub headers: HeaderMap,
    /// `Null` when there was no body.
    pub body: Value,
}

/// One server and the right to ask it.
#[derive(Clone)]
pub struct Client {
    server: String,
    authority: String,
    token: Option<String>,
    timeout: Duration,
}

impl Client {
    /// For `http://HOST:PORT`.
    pub fn new(server: &str, token: Option<String>) -> Result<Self, ClientError> {
        let wrong = |reason| ClientError::Url { given: server.into(), reason };
        let given = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let uri: Uri = given.parse().map_err(|_| wrong("expected http://HOST:PORT"))?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong("only http is spoken to a control plane's API; reach a distant one through a tunnel"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if uri.path() != "/" && !uri.path().is_empty() {
            return Err(wrong("leave out the path"));
        }
        let port = authority.port_u16().unwrap_or(80);
        let authority = format!("{}:{port}", authority.host());
        Ok(Self { server: format!("http://{authority}"), authority, token, timeout: TIMEOUT_DEFAULT })
    }

    /// Allows this long for each answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Base URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// `GET`, expecting JSON. `path` is below `/api/v1`.
    pub async fn get(&self, path: &str) -> Result<Value, ClientError> {
        Ok(self.send(Method::GET, path, None, &[]).await?.body)
    }

    /// `POST`, expecting JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        Ok(self.send(Method::POST, path, Some(body), &[]).await?.body)
    }

    /// Any request with a JSON body and a JSON answer.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, ClientError> {
        let whole = async {
            let answer = self.open(method.clone(), path, body, headers).await?;
            let (head, incoming) = answer.into_parts();
            let bytes = Limited::new(incoming, ANSWER_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| self.broken(&method, path, error.to_string()))?
                .to_bytes();
            if head.status.is_success() {
                let body = if bytes.is_empty() {
                    Value::Null
                } else {
                    serde_json::from_slice(&bytes).map_err(|_| self.broken(&method, path, "it is not JSON".into()))?
                };
                return Ok(Answer { status: head.status, headers: head.headers, body });
            }
            Err(ClientError::Problem(Box::new(problem(head.status, &bytes))))
        };
        timeout(self.timeout, whole).await.unwrap_or_else(|_| Err(self.late(&method, path)))
    }

    /// Server-sent events. The time limit is for the head only.
    pub async fn events(&self, path: &str) -> Result<Events, ClientError> {
        let opening = self.open(Method::GET, path, None, &[("accept", "text/event-stream")]);
        let answer = timeout(self.timeout, opening).await.unwrap_or_else(|_| Err(self.late(&Method::GET, path)))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let bytes = answer.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            return Err(ClientError::Problem(Box::new(problem(status, &bytes))));
        }
        Ok(Events::new(answer.into_body()))
    }

    async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Result<Response<Incoming>, ClientError> {
        let unreachable = |source| ClientError::Unreachable { server: self.server.clone(), source };
        let stream = TcpStream::connect(&self.authority).await.map_err(unreachable)?;
        let broken = |error: hyper::Error| self.broken(&method, path, error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method.clone())
            .uri(format!("/api/v1{path}"))
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request.body(Full::new(bytes)).map_err(|error| self.broken(&method, path, error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }

    fn broken(&self, method: &Method, path: &str, reason: String) -> ClientError {
        ClientError::Broken { server: self.server.clone(), method: method.clone(), path: path.into(), reason }
    }

    fn late(&self, method: &Method, path: &str) -> ClientError {
        let (server, limit) = (self.server.clone(), api::Span(self.timeout));
        ClientError::Timeout { server, method: method.clone(), path: path.into(), limit }
    }
}

fn problem(status: StatusCode, bytes: &Bytes) -> Problem {
    let plain = || {
        let title = status.canonical_reason().unwrap_or("the request failed").to_lowercase();
        let detail = String::from_utf8_lossy(bytes).trim().chars().take(500).collect::<String>();
        Problem::new(status.as_u16(), "http", &format!("{title} ({})", status.as_u16()), detail)
    };
    let mut problem: Problem = serde_json::from_slice(bytes).unwrap_or_else(|_| plain());
    // The status line is what happened; a body may have been written by somebody in between.
    problem.status = status.as_u16();
    problem
}

/// Escapes one segment or value of a URL (RFC 3986 section 2.3: unreserved characters stay).
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_host_and_port() {
        for (given, server) in [
            ("127.0.0.1:5680", "http://127.0.0.1:5680"),
            ("http://global.example:5680/", "http://global.example:5680"),
            ("http://global.example", "http://global.example:80"),
            ("http://[::1]:5680", "http://[::1]:5680"),
        ] {
            assert_eq!(Client::new(given, None).unwrap().server(), server, "{given}");
        }
        for wrong in ["https://a:1", "http://a:1/api", "http://"] {
            assert!(Client::new(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_status_has_one_exit_code() {
        for (status, exit) in [
            (401, Exit::Denied),
            (404, Exit::NotFound),
            (409, Exit::Conflict),
            (422, Exit::No),
            (503, Exit::Unreachable),
            (500, Exit::Bug),
        ] {
            let problem = Problem::new(status, "x", "x", "");
            assert_eq!(ClientError::Problem(Box::new(problem)).exit(), exit, "{status}");
        }
    }

    #[test]
    fn selectors_survive_a_url() {
        assert_eq!(escape("a=b,c!=d"), "a%3Db%2Cc%21%3Dd");
    }
}
