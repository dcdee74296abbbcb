//! HTTP/2 over a connection that stands already, as gRPC clients want it.

use crate::io::Connection;
use crate::limits::{PING_INTERVAL, PING_TIMEOUT, WINDOW_BYTES};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::rt::{Sleep, Timer};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tonic::body::Body;

/// Sends requests over one connection, which ends with the last of them and this.
pub(crate) struct Requests(SendRequest<Body>);

impl Requests {
    /// Greets the other side, and probes it from then on whenever the line is quiet.
    pub(crate) async fn begin(connection: Connection) -> Result<Self, hyper::Error> {
        let (requests, connection) = Builder::new(TokioExecutor::new())
            .timer(Alarms(TokioTimer::new()))
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .handshake(TokioIo::new(connection))
            .await?;
        // Its end shows in the requests.
        tokio::spawn(connection);
        Ok(Self(requests))
    }
}

impl tower::Service<Request<Body>> for Requests {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// Timers that are set anew instead of moved. Tokio leaves a timer that moves on at its old place and wakes the process
/// there once more for nothing; on a quiet line that is one wake for each that does something.
#[derive(Clone, Debug)]
struct Alarms(TokioTimer);

impl Timer for Alarms {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.0.sleep(duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.sleep_until(deadline)
    }

    fn now(&self) -> Instant {
        self.0.now()
    }
}
