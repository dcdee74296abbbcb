//! The app behind the proxies: it answers everybody, and keeps what should never have come to it.

use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;

/// Connections the app lets wait, as most servers do (Go: as many as the system allows).
const BACKLOG: i32 = 4_096;
/// Answer of the app; more than one window of a caller that reads nothing.
const ANSWER_BYTES: usize = 2_048;

/// Requests the app should never have got, as it saw them.
#[derive(Clone, Debug, Default)]
pub struct Smuggled(Arc<Mutex<Vec<String>>>);

impl Smuggled {
    fn add(&self, request: &Request<Incoming>) {
        let seen = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// All of them since it was last asked.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An app, on a thread that ends with the process.
pub fn serve(smuggled: Smuggled) -> Result<SocketAddr> {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("app".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(accept(listener, smuggled))
    })?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener, smuggled: Smuggled) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let smuggled = smuggled.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            // What its own proxy asks to learn whether the app still answers comes of no client.
            let asked = request.method() == Method::OPTIONS && request.uri().path() == "*";
            if request.uri().path() != "/" && !asked {
                smuggled.add(&request);
            }
            async move {
                // A body that never comes is waited for, as most apps do.
                let _ = request.into_body().collect().await;
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(&[b'.'; ANSWER_BYTES]))))
            }
        });
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
