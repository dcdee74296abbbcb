//! An HTTP client as an app has one: keep-alive connections to its proxy, and a note of every one that was closed.

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
const ANSWER_WAIT: Duration = Duration::from_secs(15);

/// Keep-alive connections to one address.
pub struct Caller {
    address: SocketAddr,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
    opened: AtomicU64,
    closed: Arc<AtomicU64>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// 0: nothing came back.
    pub status: u16,
    /// Why nothing did.
    pub error: String,
    /// Zone of the app that answered.
    pub zone: String,
    /// Workload that answered, such as `west/cart-1`.
    pub workload: String,
    /// The caller's identity as the app was told it.
    pub peer: String,
    /// Header `weft-reason`.
    pub reason: String,
    /// Header `weft-policy`.
    pub policy: String,
    /// Everything that was said.
    pub body: String,
}

impl Answer {
    /// Whether the app answered well.
    pub fn good(&self) -> bool {
        self.status == 200
    }
}

impl Caller {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        let (idle, opened, closed) = Default::default();
        Arc::new(Self { address, idle, opened, closed })
    }

    /// Connections that were closed, whoever did it, of all that were opened.
    pub fn connections(&self) -> (u64, u64) {
        (self.closed.load(Ordering::Relaxed), self.opened.load(Ordering::Relaxed))
    }

    /// `GET` to a service by its name.
    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.send(Method::GET, host, path, Bytes::new()).await
    }

    /// Any request. An answer of any kind is an [`Answer`]; so is none.
    pub async fn send(&self, method: Method, host: &str, path: &str, body: Bytes) -> Answer {
        let failed = |error: String| Answer { error, ..Answer::default() };
        match tokio::time::timeout(ANSWER_WAIT, self.exchange(method, host, path, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => failed(format!("{error:#}")),
            Err(_) => failed(format!("no answer within {} s", ANSWER_WAIT.as_secs())),
        }
    }

    async fn exchange(&self, method: Method, host: &str, path: &str, body: Bytes) -> anyhow::Result<Answer> {
        let mut sender = match self.take() {
            Some(sender) => sender,
            None => self.open().await?,
        };
        let request = Request::builder().method(method).uri(path).header(header::HOST, host).body(Full::new(body))?;
        let (head, incoming) = sender.send_request(request).await?.into_parts();
        let bytes = incoming.collect().await?.to_bytes();
        if sender.ready().await.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
        Ok(answer(head.status.as_u16(), &head.headers, &bytes))
    }

    fn take(&self) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|sender| !sender.is_closed());
        idle.pop()
    }

    async fn open(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.address).await?;
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

fn answer(status: u16, headers: &HeaderMap, bytes: &[u8]) -> Answer {
    let header = |name: &str| {
        let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        value.unwrap_or_default()
    };
    let said: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
    Answer {
        status,
        error: String::new(),
        zone: text("zone"),
        workload: text("workload"),
        peer: text("peer"),
        reason: header("weft-reason"),
        policy: header("weft-policy"),
        body: String::from_utf8_lossy(bytes).into_owned(),
    }
}
