//! `weft dev app`: the app of the demo. It knows nothing of a mesh; it says who it is and what it saw.
//!
//! HTTP/1.1 and HTTP/2 without TLS on one port. Every path answers
//! `{"workload", "zone", "app", "path", "peer", ...}`, where `peer` is the caller's identity as the proxy told it.
//! `POST /__control {"status": 500, "delayMs": 200}` makes it misbehave, `{}` makes it well again.
//! With `--tcp` it sends back every byte instead, and answers the line `who` with the same JSON.

use crate::exit::Failure;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Longest request body that is read.
const BODY_BYTES_MAX: usize = 1 << 20;

/// Flags of the demo app.
#[derive(Clone, Debug, clap::Args)]
pub struct AppArgs {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Zone to say in answers
    #[arg(long)]
    zone: String,
    /// App to say in answers
    #[arg(long)]
    app: String,
    /// Workload to say in answers
    #[arg(long)]
    workload: String,
    /// Echo bytes instead of speaking HTTP
    #[arg(long)]
    tcp: bool,
}

/// What `POST /__control` takes.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Control {
    status: Option<u16>,
    delay_ms: u32,
}

struct App {
    args: AppArgs,
    status: AtomicU16,
    delay_ms: AtomicU32,
}

/// Serves until it is ended.
pub async fn serve(args: AppArgs) -> Result<(), Failure> {
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|error| Failure::no(format!("could not listen on {}: {error}", args.listen)))?;
    let app = Arc::new(App { args, status: AtomicU16::new(200), delay_ms: AtomicU32::new(0) });
    loop {
        // Out of descriptors is the only likely reason, and it passes.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        let _ = stream.set_nodelay(true);
        let app = app.clone();
        tokio::spawn(async move {
            if app.args.tcp {
                let _ = app.echo(stream).await;
            } else {
                let service = service_fn(move |request| {
                    let app = app.clone();
                    async move { app.answer(request).await }
                });
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            }
        });
    }
}

impl App {
    fn who(&self) -> Value {
        let AppArgs { zone, app, workload, .. } = &self.args;
        json!({"workload": workload, "zone": zone, "app": app})
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        if request.uri().path() == "/__control" && request.method() == Method::POST {
            return Ok(self.control(request).await);
        }
        let (request, body) = request.into_parts();
        // Apps read what they are sent. One that answers earlier hides from its caller that a body was wrong.
        let _ = Limited::new(body, BODY_BYTES_MAX).collect().await;
        let mut said = self.who();
        said["path"] = request.uri.path().into();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        said["peer"] = request.headers.get("weft-peer").map(text).into();
        if request.uri.path() == "/headers" {
            let headers = request.headers.iter();
            said["headers"] = headers.map(|(name, value)| (name.to_string(), Value::from(text(value)))).collect();
        }
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay.into())).await;
        }
        let status = StatusCode::from_u16(self.status.load(Ordering::Relaxed)).unwrap_or(StatusCode::OK);
        Ok(json_answer(status, &said))
    }

    async fn control(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let body = Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await;
        let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
        match serde_json::from_slice::<Control>(&bytes) {
            Ok(Control { status, delay_ms }) => {
                self.status.store(status.unwrap_or(200), Ordering::Relaxed);
                self.delay_ms.store(delay_ms, Ordering::Relaxed);
                json_answer(StatusCode::OK, &json!({"status": status.unwrap_or(200), "delayMs": delay_ms}))
            }
            Err(error) => json_answer(StatusCode::BAD_REQUEST, &json!({"error": error.to_string()})),
        }
    }

    async fn echo(&self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut read = BufReader::new(read);
        loop {
            let bytes = read.fill_buf().await?;
            if bytes.is_empty() {
                return write.shutdown().await;
            }
            let length = bytes.len();
            if bytes == b"who\n" {
                write.write_all(format!("{}\n", self.who()).as_bytes()).await?;
            } else {
                write.write_all(bytes).await?;
            }
            read.consume(length);
        }
    }
}

fn json_answer(status: StatusCode, value: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_control_is_refused() {
        assert!(serde_json::from_str::<Control>(r#"{"stauts": 500}"#).is_err());
        assert_eq!(serde_json::from_str::<Control>(r#"{"status": 500}"#).unwrap().status, Some(500));
        assert_eq!(serde_json::from_str::<Control>("{}").unwrap().delay_ms, 0);
    }
}
