//! Services outside the mesh: plain TCP or TLS to their addresses, in order of preference.

use super::breaker::Limit;
use super::forward::Forward;
use super::http::{Hold, Notes};
use crate::compile::Port;
use crate::error::Failure;
use crate::http::body::{Answer, Outgoing};
use crate::http::headers;
use crate::limits::{HEADER_BYTES_MAX, HEADERS_MAX, RELAY_BYTES};
use crate::pool::link::sentence;
use crate::tcp::copy;
use crate::worker::Worker;
use api::RouteReason;
use api::config::{External, Outbound};
use http::request::Parts;
use http::{HeaderValue, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Where Debian, Fedora and Alpine keep the system's roots.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
/// An external connection without a byte in either direction (Envoy's TCP proxy: 1 h).
const IDLE: Duration = Duration::from_secs(3600);

/// Plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Sends one request over a connection of its own.
pub async fn forward(
    this: &Forward<'_>,
    external: &External,
    port: &Port,
    mut parts: Parts,
    body: Incoming,
    notes: &mut Notes,
) -> Result<Response<Answer<Hold>>, Failure> {
    notes.tries = 1;
    let host = this.authority.as_ref().map(|authority| authority.host().to_owned()).unwrap_or_default();
    let limit = Duration::from_millis(this.rule.timeouts.connect_ms);
    let Outbound { service, breaker: limits, .. } = &this.service.config;
    let breaker = this.worker.state.breakers.of(service);
    let take = |limit| breaker.take(limit, limits).map_err(|open| open.failure(service));
    let hold = Hold::External([take(Limit::Requests)?, take(Limit::Connections)?]);
    let io = open(external, port.port, &host, limit)
        .await
        .map_err(|error| Failure::new(RouteReason::ConnectFailed, format!("{service}: {error}")))?;
    let reset = |error: hyper::Error| Failure::new(RouteReason::UpstreamReset, sentence(&error));
    let mut builder = http1::Builder::new();
    builder.max_headers(HEADERS_MAX).max_buf_size(HEADER_BYTES_MAX.max(RELAY_BYTES));
    let (mut sender, connection) = builder.handshake(TokioIo::new(io)).await.map_err(reset)?;
    tokio::spawn(connection);
    headers::strip_hop(&mut parts.headers);
    if let Some(authority) = this.authority.as_ref().and_then(|a| HeaderValue::from_str(a.as_str()).ok()) {
        parts.headers.insert(header::HOST, authority);
    }
    parts.version = Version::HTTP_11;
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| http::uri::PathAndQuery::from_static("/"));
    parts.uri = Uri::from(path);
    let sending = sender.send_request(Request::from_parts(parts, Outgoing::Once(body)));
    let response = match this.rule.timeouts.request_ms {
        None => sending.await,
        Some(ms) => timeout(Duration::from_millis(ms), sending)
            .await
            .map_err(|_| Failure::new(RouteReason::RequestTimeout, format!("{host} did not answer within {ms} ms")))?,
    };
    let (mut parts, body) = response.map_err(reset)?.into_parts();
    headers::strip_hop(&mut parts.headers);
    headers::strip_ours(&mut parts.headers);
    Ok(Response::from_parts(parts, Answer::upstream(body, hold)))
}

/// Copies one connection of bytes; the time it took to connect.
pub async fn relay(
    worker: &Worker,
    service: &Outbound,
    external: &External,
    port: u16,
    app: TcpStream,
    limit: Duration,
) -> Result<Duration, RouteReason> {
    let began = Instant::now();
    let breaker = worker.state.breakers.of(&service.service);
    let _taken = breaker.take(Limit::Connections, &service.breaker).map_err(|open| {
        let failure = open.failure(&service.service);
        tracing::debug!(text = failure.text, "no room for an app's connection");
        failure.reason
    })?;
    match open(external, port, "", limit).await {
        Ok(io) => {
            let took = began.elapsed();
            let copied = copy::both(app, io, IDLE).await;
            tracing::debug!(?copied, "external connection ended");
            Ok(took)
        }
        Err(error) => {
            tracing::debug!(%error, "no connection to an external service");
            Err(RouteReason::ConnectFailed)
        }
    }
}

async fn open(external: &External, port: u16, host: &str, limit: Duration) -> io::Result<Box<dyn Stream>> {
    let mut last = io::Error::other("the external service has no endpoint");
    for (address, at) in &external.endpoints {
        let connecting = async {
            let tcp = TcpStream::connect((address.as_str(), at.unwrap_or(port))).await?;
            crate::pool::transport::tune(&tcp);
            let Some((server_name, roots)) = &external.tls else { return Ok(Box::new(tcp) as Box<dyn Stream>) };
            let name = server_name.as_deref().unwrap_or(if host.is_empty() { address } else { host });
            let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
            let tls = TlsConnector::from(config(roots.as_deref())?).connect(name, tcp).await?;
            Ok(Box::new(tls) as Box<dyn Stream>)
        };
        match timeout(limit, connecting).await {
            Ok(Ok(io)) => return Ok(io),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} did not answer in time")),
        }
    }
    Err(last)
}

fn config(roots: Option<&str>) -> io::Result<Arc<ClientConfig>> {
    let pem = match roots {
        Some(pem) => pem.as_bytes().to_vec(),
        None => SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default(),
    };
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    if store.is_empty() {
        return Err(io::Error::other("no roots to verify an external service with; name them in `tls.roots`"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(Arc::new(builder.map_err(io::Error::other)?.with_root_certificates(store).with_no_client_auth()))
}
