//! An HTTP client as an app has one: keep-alive connections to its proxy, and a note of every one that was closed.

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// A request without an answer after this long has failed.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// Keep-alive connections to one address.
pub struct Caller {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    opened: AtomicU64,
    closed: Arc<AtomicU64>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// 0: no answer.
    pub status: u16,
    /// Why there was no answer.
    pub error: String,
    /// Zone of the app that answered.
    pub zone: String,
    /// Workload that answered.
    pub workload: String,
    /// Caller's identity as the app saw it.
    pub peer: String,
    /// Header `weft-reason`.
    pub reason: String,
    /// Body, where it was not the app's JSON.
    pub body: String,
}

impl Reply {
    /// Whether the app answered well.
    pub fn good(&self) -> bool {
        self.status == 200
    }

    /// One line about a failure.
    pub fn words(&self) -> String {
        let Self { status, error, reason, body, .. } = self;
        format!("{status} {reason} {error}{}", body.trim())
    }
}

impl Caller {
    /// Connects when needed.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        let (idle, opened, closed) = Default::default();
        Arc::new(Self { address, idle, opened, closed })
    }

    /// Connections opened and closed so far.
    pub fn connections(&self) -> (u64, u64) {
        (self.opened.load(Ordering::Relaxed), self.closed.load(Ordering::Relaxed))
    }

    /// `GET` to a service by its name.
    pub async fn get(&self, host: &str, path: &str) -> Reply {
        self.send(Method::GET, host, path, Bytes::new()).await
    }

    /// Any request. An answer of any kind is a [`Reply`]; so is none.
    pub async fn send(&self, method: Method, host: &str, path: &str, body: Bytes) -> Reply {
        let failed = |error: String| Reply { error, ..Reply::default() };
        match tokio::time::timeout(ANSWER_WAIT, self.exchange(method, host, path, body)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => failed(format!("{error:#}")),
            Err(_) => failed(format!("no answer within {} s", ANSWER_WAIT.as_secs())),
        }
    }

    async fn exchange(&self, method: Method, host: &str, path: &str, body: Bytes) -> Result<Reply> {
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))?;
        let answer = sender.send_request(request).await.context("the connection broke")?;
        let (head, incoming) = answer.into_parts();
        let bytes = incoming.collect().await.context("the answer broke off")?.to_bytes();
        if sender.ready().await.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
        Ok(reply(head.status.as_u16(), &head.headers, &bytes))
    }

    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>> {
        let stream =
            TcpStream::connect(self.address).await.with_context(|| format!("connecting to {}", self.address))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        let closed = self.closed.clone();
        tokio::spawn(async move {
            let _ = connection.await;
            closed.fetch_add(1, Ordering::Relaxed);
        });
        Ok(sender)
    }
}

fn reply(status: u16, headers: &HeaderMap, bytes: &[u8]) -> Reply {
    let reason = headers.get("weft-reason").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let mut reply = Reply { status, reason: reason.unwrap_or_default(), ..Reply::default() };
    match serde_json::from_slice::<Value>(bytes) {
        Ok(said) if said["workload"].is_string() => {
            let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
            (reply.zone, reply.workload, reply.peer) = (text("zone"), text("workload"), text("peer"));
        }
        _ => reply.body = String::from_utf8_lossy(bytes).into_owned(),
    }
    reply
}
