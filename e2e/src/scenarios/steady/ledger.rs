//! `weft-scenarios plain ledger ADDRESS FILE`: an app that writes down every order it gets, and answers that stop in the
//! middle. HTTP/1.1 and HTTP/2.
//!
//! `POST /order/ID` adds a line to the file before it is answered. `GET /length` and `GET /chunked` begin an answer, with
//! and without a length, and never end it.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpListener;

/// What comes of an answer that never ends.
pub const BEGINNING: usize = 10_000;
/// What it says it will be.
const ANNOUNCED: u64 = 100_000;
/// An order takes so long, so that a kill finds some under way.
const WORK: Duration = Duration::from_millis(10);

/// Some bytes, and then an end or none.
struct Answer {
    bytes: Option<Bytes>,
    ends: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.ends => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.bytes, self.ends) {
            (Some(bytes), true) => SizeHint::with_exact(bytes.len() as u64),
            (None, true) => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

/// Serves until it is killed.
pub async fn serve(address: &str, file: &str) -> Result<()> {
    let file = Arc::new(File::options().create(true).append(true).open(file)?);
    let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let file = file.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let file = file.clone();
                async move { Ok::<_, Infallible>(answer(&file, &request).await) }
            });
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(file: &File, request: &Request<Incoming>) -> Response<Answer> {
    let path = request.uri().path();
    let whole =
        |text: &'static str| Response::new(Answer { bytes: Some(Bytes::from_static(text.as_bytes())), ends: true });
    let begun = || Response::new(Answer { bytes: Some(vec![b'x'; BEGINNING].into()), ends: false });
    match (request.method(), path.strip_prefix("/order/")) {
        (&Method::POST, Some(id)) => {
            let mut file = file;
            let written = file.write_all(format!("{id}\n").as_bytes());
            tokio::time::sleep(WORK).await;
            let mut response = whole("done\n");
            if written.is_err() {
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            }
            response
        }
        _ if path == "/length" => {
            let mut response = begun();
            response.headers_mut().insert(header::CONTENT_LENGTH, ANNOUNCED.into());
            response
        }
        _ if path == "/chunked" => begun(),
        _ => whole("here\n"),
    }
}
