//! Connections to one server that is no proxy of ours: the app, or an external service.
//!
//! HTTP/1.1 connections serve one request at a time; idle ones wait for the next. HTTP/2 connections are shared, and
//! another one is opened only when all are full.

use super::link::{Link, SendError, sentence};
use crate::http::body::{Broken, Outgoing, UntilEnd};
use crate::http::joined::Joined;
use crate::inbound::load::Working;
use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX, LINK_IDLE, LINKS_PER_PEER, STREAMS_PER_LINK};
use futures_util::{FutureExt, TryFutureExt};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};

/// How many idle HTTP/1.1 connections are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Keep {
    /// Further ones are closed.
    pub idle_max: usize,
    /// Older ones are closed.
    pub age_max: Duration,
}

/// Connections of one worker to one server.
pub struct Server {
    keep: Keep,
    start: Instant,
    idle: Mutex<Vec<Idle>>,
    shared: Mutex<Vec<Arc<Link>>>,
}

type Sender = http1::SendRequest<Outgoing>;

struct Idle {
    sender: Sender,
    since: Instant,
}

/// One request's place on a connection, held until its answer has ended. Then an HTTP/1.1 connection is idle again.
pub struct Seat {
    server: Arc<Server>,
    on: On,
    /// Not the first request on this connection: it may have been closed while nobody looked.
    pub used: bool,
    /// Counted until the answer has ended.
    pub working: Option<Working>,
}

enum On {
    Own(Option<Sender>),
    Shared(Arc<Link>),
}

impl UntilEnd for Seat {}

/// No answer.
pub struct Unanswered {
    /// The server saw nothing of the request.
    pub unsent: bool,
    /// The request, where it never left.
    pub request: Option<Box<Request<Outgoing>>>,
    /// The caller did not send all of its request.
    pub broken: Option<Broken>,
    /// For people.
    pub text: String,
}

impl Server {
    /// No connection yet.
    pub fn new(keep: Keep) -> Arc<Self> {
        Arc::new(Self { keep, start: Instant::now(), idle: Mutex::default(), shared: Mutex::default() })
    }

    /// A place on a connection that is open already.
    pub fn seat(self: &Arc<Self>, http2: bool) -> Option<Seat> {
        let on = if http2 { On::Shared(self.shared_link()?) } else { On::Own(Some(self.idle_sender()?)) };
        Some(self.sit(on, true))
    }

    /// The latest used that is ready, so that the others can age out.
    fn idle_sender(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = |one: &mut Idle| one.sender.is_ready() || matches!(one.sender.ready().now_or_never(), Some(Ok(())));
        let at = (0..idle.len()).rev().find(|at| ready(&mut idle[*at]))?;
        Some(idle.remove(at).sender)
    }

    /// The least loaded one, unless all are full and one more may be opened.
    fn shared_link(&self) -> Option<Arc<Link>> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.retain(|link| link.is_open());
        let least = shared.iter().min_by_key(|link| link.in_flight())?;
        let full = least.in_flight() >= STREAMS_PER_LINK && shared.len() < LINKS_PER_PEER;
        (!full).then(|| least.clone())
    }

    /// A place on a new connection over `io`.
    pub async fn begin<I>(self: &Arc<Self>, io: I, http2: bool) -> Result<Seat, hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        if http2 {
            let link = Arc::new(Link::begin(io).await?);
            self.shared.lock().unwrap_or_else(PoisonError::into_inner).push(link.clone());
            return Ok(self.sit(On::Shared(link), false));
        }
        let mut builder = http1::Builder::new();
        builder.max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(Joined(io))).await?;
        tokio::spawn(connection.with_upgrades());
        Ok(self.sit(On::Own(Some(sender)), false))
    }

    fn sit(self: &Arc<Self>, on: On, used: bool) -> Seat {
        if let On::Shared(link) = &on {
            link.count(true, self.now_us());
        }
        Seat { server: self.clone(), on, used, working: None }
    }

    fn now_us(&self) -> u64 {
        self.start.elapsed().as_micros() as u64
    }

    /// Closes what nobody used for long. False: nothing is left.
    pub fn sweep(&self) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|one| one.since.elapsed() < self.keep.age_max && !one.sender.is_closed());
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let unused = |link: &Link| self.now_us().saturating_sub(link.used_us()) > LINK_IDLE.as_micros() as u64;
        shared.retain(|link| link.is_open() && (link.in_flight() > 0 || !unused(link)));
        !idle.is_empty() || !shared.is_empty()
    }
}

impl Seat {
    /// Sends at once, and waits for the head of the answer.
    pub fn send(
        &mut self,
        request: Request<Outgoing>,
    ) -> impl Future<Output = Result<Response<Incoming>, Unanswered>> + use<> {
        // No `async fn`, which would keep the request and so copy it once more; the same in `Link::send`.
        match &mut self.on {
            On::Own(Some(sender)) => sender.try_send_request(request).map_err(unanswered).left_future(),
            On::Own(None) => unreachable!("only a drop takes the sender"),
            On::Shared(link) => {
                let unanswered = |error: SendError| Unanswered {
                    unsent: error.unsent,
                    request: None,
                    broken: None,
                    text: error.text,
                };
                link.send(request).map_err(unanswered).right_future()
            }
        }
    }
}

fn unanswered(mut error: TrySendError<Request<Outgoing>>) -> Unanswered {
    let request = error.take_message().map(Box::new);
    let error = error.into_error();
    // What a user of hyper did wrong: our request is well formed, so it is its body.
    let broken = error.is_user().then(|| Broken::of(&error));
    Unanswered { unsent: request.is_some(), request, broken, text: sentence(&error) }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Self { server, on, .. } = self;
        match on {
            On::Shared(link) => link.count(false, server.now_us()),
            On::Own(sender) => {
                let Some(sender) = sender.take().filter(|sender| !sender.is_closed()) else { return };
                let mut idle = server.idle.lock().unwrap_or_else(PoisonError::into_inner);
                if idle.len() >= server.keep.idle_max {
                    idle.retain(|one| !one.sender.is_closed());
                }
                if idle.len() < server.keep.idle_max {
                    idle.push(Idle { sender, since: Instant::now() });
                }
            }
        }
    }
}
