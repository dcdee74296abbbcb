//! Closed-loop load at saturation: each lane sends its next request as soon as it has the answer to the last one, on
//! connections that stay. Every request without a whole answer counts, with its words; a request that a kept connection
//! gave back unsent, because it had been closed in good order, is sent on a new one, as any client does.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// A request without an answer after this long has failed.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// Pause after a failure, so that a proxy that is gone is not asked a million times.
const AFTER_FAILURE: Duration = Duration::from_millis(5);
/// Failures that are quoted.
const EXAMPLES_MAX: usize = 3;
/// Bytes of one echo.
const ECHO_BYTES: usize = 256;

/// What the lanes speak.
#[derive(Clone, Debug)]
pub enum Speaks {
    /// HTTP/1.1 to a host, a connection a lane.
    Http1(String),
    /// HTTP/2 to a host, all lanes on one connection.
    Http2(String),
    /// Bytes that must come back, a new connection each time.
    Bytes,
    /// The same, on one connection a lane for as long as it lasts.
    KeptBytes,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Lap {
    /// Whole answers.
    pub good: usize,
    /// Everything else.
    pub failed: usize,
    /// Connections opened.
    pub opened: usize,
    /// A few failures in words.
    pub examples: Vec<String>,
    /// Of good ones, sorted.
    latencies_us: Vec<u32>,
    /// How long it took.
    pub lasted: Duration,
}

impl Lap {
    /// Milliseconds within which this share was answered.
    pub fn within_ms(&self, share: f64) -> f64 {
        let rank = (self.latencies_us.len() as f64 * share).ceil() as usize;
        self.latencies_us.get(rank.saturating_sub(1)).map_or(0.0, |us| f64::from(*us) / 1e3)
    }

    /// Counts another as if they were one.
    pub fn add(&mut self, other: Self) {
        self.good += other.good;
        self.failed += other.failed;
        self.opened += other.opened;
        self.examples.extend(other.examples);
        self.latencies_us.extend(other.latencies_us);
        self.latencies_us.sort_unstable();
        self.lasted += other.lasted;
    }

    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.good as f64 / self.lasted.as_secs_f64().max(1e-3)
    }
}

impl std::fmt::Display for Lap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.within_ms(0.5), self.within_ms(0.99));
        let (rate, opened) = (self.rate(), self.opened);
        write!(f, "{} answered, {} failed ({rate:.0}/s, p50 {p50:.1} ms, p99 {p99:.1} ms", self.good, self.failed)?;
        write!(f, ", {opened} connections)")?;
        self.examples.iter().try_for_each(|example| write!(f, "; {example}"))
    }
}

struct Counted {
    lap: Mutex<(Lap, Instant)>,
}

impl Counted {
    fn with(&self, change: impl FnOnce(&mut Lap)) {
        change(&mut self.lap.lock().unwrap_or_else(PoisonError::into_inner).0);
    }

    fn done(&self, since: Instant, done: Result<()>) {
        self.with(|lap| match done {
            Ok(()) => {
                lap.good += 1;
                lap.latencies_us.push(since.elapsed().as_micros() as u32);
            }
            Err(error) => {
                lap.failed += 1;
                if lap.examples.len() < EXAMPLES_MAX {
                    lap.examples.push(format!("{error:#}"));
                }
            }
        });
    }
}

/// A load that runs, on a thread of its own.
pub struct Hammer {
    counted: Arc<Counted>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Hammer {
    /// Begins.
    pub fn start(to: SocketAddr, speaks: Speaks, lanes: usize) -> Self {
        let counted = Arc::new(Counted { lap: Mutex::new((Lap::default(), Instant::now())) });
        let stop = CancellationToken::new();
        let (own, stopped) = (counted.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime needs a few descriptors");
            let mut all = tokio::task::JoinSet::new();
            let shared = Arc::new(tokio::sync::Mutex::new(None));
            let _inside = runtime.enter();
            for _ in 0..lanes {
                all.spawn_on(lane(to, speaks.clone(), own.clone(), stopped.clone(), shared.clone()), runtime.handle());
            }
            runtime.block_on(async { while all.join_next().await.is_some() {} });
        });
        Self { counted, stop, thread: Some(thread) }
    }

    /// What was counted since the last lap.
    pub fn lap(&self) -> Lap {
        let mut held = self.counted.lap.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut lap, since) = std::mem::replace(&mut *held, (Lap::default(), Instant::now()));
        lap.lasted = since.elapsed();
        lap.latencies_us.sort_unstable();
        lap
    }

    /// Answers so far in this lap.
    pub fn good(&self) -> usize {
        self.counted.lap.lock().unwrap_or_else(PoisonError::into_inner).0.good
    }

    /// Sends no more, waits for what is under way, and gives the last lap.
    pub async fn stop(mut self) -> Lap {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.lap()
    }
}

impl Drop for Hammer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Shared = Arc<tokio::sync::Mutex<Option<http2::SendRequest<Full<Bytes>>>>>;

async fn lane(to: SocketAddr, speaks: Speaks, counted: Arc<Counted>, stop: CancellationToken, shared: Shared) {
    let (mut kept, mut stream) = (None, None);
    while !stop.is_cancelled() {
        let since = Instant::now();
        let one = async {
            match &speaks {
                Speaks::Http1(host) => ask_1(to, host, &mut kept, &counted).await,
                Speaks::Http2(host) => ask_2(to, host, &shared, &counted).await,
                Speaks::Bytes => echo(to, &mut None, &counted).await,
                Speaks::KeptBytes => echo(to, &mut stream, &counted).await,
            }
        };
        let done = tokio::time::timeout(ANSWER_WAIT, one).await;
        let done = done.unwrap_or_else(|_| bail!("no answer within {} s", ANSWER_WAIT.as_secs()));
        let failed = done.is_err();
        counted.done(since, done);
        if failed {
            (kept, stream) = (None, None);
            tokio::time::sleep(AFTER_FAILURE).await;
        }
    }
}

async fn connect(to: SocketAddr, counted: &Counted) -> Result<TcpStream> {
    let stream = TcpStream::connect(to).await.with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    counted.with(|lap| lap.opened += 1);
    Ok(stream)
}

fn request(host: &str, version: Version) -> Result<Request<Full<Bytes>>> {
    let builder = Request::builder().version(version);
    let builder = match version {
        Version::HTTP_2 => builder.uri(format!("http://{host}/")),
        _ => builder.uri("/").header(header::HOST, host),
    };
    Ok(builder.body(Full::default())?)
}

async fn ask_1(
    to: SocketAddr,
    host: &str,
    kept: &mut Option<http1::SendRequest<Full<Bytes>>>,
    counted: &Counted,
) -> Result<()> {
    loop {
        let mut sender = match kept.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                let (sender, connection) = http1::handshake(TokioIo::new(connect(to, counted).await?)).await?;
                tokio::spawn(connection);
                sender
            }
        };
        match sender.try_send_request(request(host, Version::HTTP_11)?).await {
            Ok(response) => {
                whole(response).await?;
                if sender.ready().await.is_ok() {
                    *kept = Some(sender);
                }
                return Ok(());
            }
            Err(mut error) => {
                if error.take_message().is_none() {
                    return Err(error.into_error()).context("no answer");
                }
            }
        }
    }
}

async fn ask_2(to: SocketAddr, host: &str, shared: &Shared, counted: &Counted) -> Result<()> {
    loop {
        let mut sender = {
            let mut held = shared.lock().await;
            match held.as_ref().filter(|sender| !sender.is_closed()) {
                Some(sender) => sender.clone(),
                None => {
                    let io = TokioIo::new(connect(to, counted).await?);
                    let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                    tokio::spawn(connection);
                    held.insert(sender).clone()
                }
            }
        };
        match sender.try_send_request(request(host, Version::HTTP_2)?).await {
            Ok(response) => return whole(response).await,
            Err(mut error) => {
                if error.take_message().is_none() {
                    return Err(error.into_error()).context("no answer");
                }
                shared.lock().await.take();
            }
        }
    }
}

async fn whole(response: http::Response<Incoming>) -> Result<()> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("the answer broke off")?.to_bytes();
    if head.status != 200 {
        bail!("{}: {}", head.status.as_u16(), String::from_utf8_lossy(&body).trim());
    }
    Ok(())
}

async fn echo(to: SocketAddr, kept: &mut Option<TcpStream>, counted: &Counted) -> Result<()> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => connect(to, counted).await?,
    };
    let mut back = [0; ECHO_BYTES];
    stream.write_all(&[7; ECHO_BYTES]).await.context("the connection broke")?;
    stream.read_exact(&mut back).await.context("the bytes did not come back")?;
    *kept = Some(stream);
    Ok(())
}
