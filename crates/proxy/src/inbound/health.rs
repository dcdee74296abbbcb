//! What the app says of itself when a HealthCheck policy has it asked: over HTTP or gRPC, by this proxy alone.
//!
//! Accepting connections is looked at besides (`ready.rs`), and a refused one is a fact that acts at once. An answer is a
//! symptom: so many in a row change what holds.

use crate::http::body::{Answer, BodyError};
use crate::limits::{HEALTH_AGAIN, HEALTH_ANSWER_BYTES};
use crate::pool::link::sentence;
use api::config::{HealthCheck, Question};
use api::kinds::Protocol;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Path of gRPC's own question.
const GRPC_CHECK: &str = "/grpc.health.v1.Health/Check";
/// `SERVING` in `grpc.health.v1.HealthCheckResponse`: field 1, a varint, of value 1.
const SERVING: [u8; 2] = [0x08, 0x01];
/// Shares of an interval by which pauses differ, so that replicas do not ask what they share at the same moment.
const JITTER: f64 = 0.1;

/// What is asked now, and what is known.
#[derive(Debug, Default)]
pub struct Checks {
    check: HealthCheck,
    asked: BTreeMap<u16, Arc<Asked>>,
}

/// One port that is asked.
#[derive(Debug)]
struct Asked {
    http2: bool,
    opinion: Mutex<Opinion>,
}

/// What holds, and how many answers in a row disagree.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Opinion {
    /// `None`: not asked yet, so the first answer decides.
    well: Option<bool>,
    against: u32,
    /// What the latest bad answer was.
    said: String,
}

impl Opinion {
    /// Takes an answer in; true when something else holds from now on.
    fn learn(&mut self, answer: Result<(), String>, check: &HealthCheck) -> bool {
        let good = answer.is_ok();
        if let Err(said) = answer {
            self.said = said;
        }
        if self.well == Some(good) {
            self.against = 0;
            return false;
        }
        self.against += 1;
        let enough = if good { check.healthy } else { check.unhealthy };
        if self.well.is_some() && self.against < enough {
            return false;
        }
        (self.well, self.against) = (Some(good), 0);
        true
    }
}

impl Asked {
    fn opinion(&self) -> MutexGuard<'_, Opinion> {
        self.opinion.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checks {
    /// What a policy has asked of these ports. What was known stays known: a port that was fine before anybody asked is
    /// fine until so many answers say otherwise.
    pub fn new(
        check: &HealthCheck,
        ports: &BTreeMap<u16, Protocol>,
        before: &Self,
        fine: impl Fn(u16) -> bool,
    ) -> Self {
        let asks = |speaks: Protocol| match check.question {
            Question::Tcp => false,
            Question::Http { .. } => speaks.is_http(),
            Question::Grpc { .. } => speaks.is_http() && speaks != Protocol::Http,
        };
        let grpc = matches!(check.question, Question::Grpc { .. });
        let own =
            ports.iter().filter(|(_, speaks)| asks(**speaks)).map(|(port, speaks)| (*port, *speaks != Protocol::Http));
        let ports: Vec<(u16, bool)> = match (check.port, &check.question) {
            (_, Question::Tcp) => Vec::new(),
            (Some(port), _) => {
                vec![(port, grpc || ports.get(&port).is_some_and(|speaks| asks(*speaks) && *speaks != Protocol::Http))]
            }
            (None, _) => own.collect(),
        };
        let asked = |(port, http2): (u16, bool)| {
            let known = before.asked.get(&port).map(|asked| asked.opinion().clone());
            let opinion = known.unwrap_or_else(|| Opinion { well: fine(port).then_some(true), ..Opinion::default() });
            (port, Arc::new(Asked { http2, opinion: Mutex::new(opinion) }))
        };
        Self { check: check.clone(), asked: ports.into_iter().map(asked).collect() }
    }

    /// Whether this is what a policy says.
    pub fn is(&self, check: &HealthCheck) -> bool {
        self.check == *check
    }

    /// Whether anything is asked.
    pub fn asks(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Between two looks at whether ports accept connections.
    pub fn connect_every(&self) -> Duration {
        match self.check.question {
            Question::Tcp => Duration::from_millis(self.check.interval_ms),
            Question::Http { .. } | Question::Grpc { .. } => crate::limits::APP_CHECK,
        }
    }

    /// Why a port of the app is not well by its own word; `None`: it is, or nobody asks.
    pub fn unwell(&self, port: u16) -> Option<String> {
        let opinion = self.asked.get(&self.check.port.unwrap_or(port))?.opinion();
        (opinion.well != Some(true)).then(|| match opinion.well {
            None => "not asked yet".to_owned(),
            Some(_) => opinion.said.clone(),
        })
    }

    /// Asks every port once; whether something else holds from now on, and the pause before the next question.
    pub async fn ask(&self, address: IpAddr) -> (bool, Duration) {
        let asking = self.asked.iter().map(|(port, asked)| async move {
            let limit = Duration::from_millis(self.check.timeout_ms);
            let late = |_| Err(format!("no answer within {} ms", self.check.timeout_ms));
            let at = SocketAddr::new(address, *port);
            let answer = timeout(limit, ask(at, asked.http2, &self.check.question)).await.unwrap_or_else(late);
            let mut opinion = asked.opinion();
            let before = opinion.well;
            let news = opinion.learn(answer, &self.check);
            match (news, opinion.well) {
                (true, Some(true)) if before.is_some() => tracing::info!(port, "the app says that it is well again"),
                (true, Some(false)) => {
                    tracing::warn!(port, said = opinion.said, "the app is not well; reporting unready")
                }
                _ => {}
            }
            (news, opinion.well == Some(true) && opinion.against == 0)
        });
        let answers = futures_util::future::join_all(asking).await;
        let interval = Duration::from_millis(self.check.interval_ms);
        let settled = answers.iter().all(|(_, settled)| *settled);
        let pause = if settled { interval } else { interval.min(HEALTH_AGAIN) };
        (answers.iter().any(|(news, _)| *news), jittered(pause))
    }
}

fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
    pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * random)
}

/// Asks one question over a connection of its own; the error says what was wrong with the answer.
async fn ask(at: SocketAddr, http2: bool, question: &Question) -> Result<(), String> {
    let words = |error: &dyn std::error::Error| sentence(error);
    let (method, path, host, body): (&str, &str, &str, Answer<()>) = match question {
        Question::Tcp => return Ok(()),
        Question::Http { method, path, host, .. } => (method.as_str(), path.as_str(), host.as_str(), Answer::text("")),
        Question::Grpc { service } => ("POST", GRPC_CHECK, "localhost", Answer::text(grpc_question(service))),
    };
    let tcp = TcpStream::connect(at).await.map_err(|error| words(&error))?;
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|error| words(&error))?;
    let fields = request.headers_mut();
    fields.insert(http::header::USER_AGENT, http::HeaderValue::from_static("weft-health"));
    if let Question::Grpc { .. } = question {
        fields.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
        fields.insert(http::header::TE, http::HeaderValue::from_static("trailers"));
    }
    let io = TokioIo::new(tcp);
    if http2 {
        *request.uri_mut() = format!("http://{host}{path}").parse::<Uri>().map_err(|error| words(&error))?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), io).await.map_err(|error| words(&error))?;
        drive(connection, async { judge(sender.send_request(request).await, question).await }).await
    } else {
        *request.uri_mut() = path.parse::<Uri>().map_err(|error| words(&error))?;
        let host = http::HeaderValue::from_str(host).map_err(|error| words(&error))?;
        request.headers_mut().insert(http::header::HOST, host);
        request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
        let (mut sender, connection) = http1::handshake(io).await.map_err(|error| words(&error))?;
        drive(connection, async { judge(sender.send_request(request).await, question).await }).await
    }
}

/// Drives a connection for as long as its one request takes.
async fn drive<T>(
    connection: impl Future<Output = Result<(), hyper::Error>>,
    request: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let (mut connection, mut request) = (std::pin::pin!(connection), std::pin::pin!(request));
    tokio::select! {
        biased;
        done = &mut request => done,
        ended = &mut connection => match ended {
            // The answer may be there already.
            Ok(()) => request.await,
            Err(error) => Err(sentence(&error)),
        },
    }
}

async fn judge(answer: Result<Response<Incoming>, hyper::Error>, question: &Question) -> Result<(), String> {
    let (parts, body) = answer.map_err(|error| sentence(&error))?.into_parts();
    match question {
        Question::Tcp => Ok(()),
        Question::Http { path, statuses, .. } => {
            let status = parts.status.as_u16();
            let good = if statuses.is_empty() { parts.status.is_success() } else { statuses.contains(&status) };
            if good { Ok(()) } else { Err(format!("{path} answered {status}")) }
        }
        Question::Grpc { service } => {
            let (message, trailers) = whole(body).await.map_err(|error| sentence(&*error))?;
            let status = [&trailers, &parts.headers].into_iter().find_map(|fields| fields.get("grpc-status"));
            match status.map(http::HeaderValue::as_bytes) {
                Some(b"0") if message.get(5..) == Some(&SERVING[..]) => Ok(()),
                Some(b"0") => Err(format!("grpc.health.v1 says that `{service}` is not serving")),
                Some(status) => Err(format!("grpc.health.v1 answered status {}", String::from_utf8_lossy(status))),
                None => Err(format!("no answer of gRPC; status {}", parts.status)),
            }
        }
    }
}

/// `HealthCheckRequest { service }`, field 1 of type string, in a frame of gRPC.
fn grpc_question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(length as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame
}

async fn whole(mut body: Incoming) -> Result<(Vec<u8>, HeaderMap), BodyError> {
    let (mut bytes, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => bytes.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
        if bytes.len() > HEALTH_ANSWER_BYTES {
            return Err("the answer is too long for one of grpc.health.v1".into());
        }
    }
    Ok((bytes, trailers))
}

#[cfg(test)]
#[path = "health/tests.rs"]
mod tests;
