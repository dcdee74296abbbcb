//! One connection from outside: TLS, what its requests may say, and on to the rules they follow.

use super::Ingress;
use crate::compile::Running;
use crate::error::Failure;
use crate::http::{filter, path};
use crate::limits::EDGE_URI_MAX;
use crate::listen::handshake;
use crate::outbound::hashing::ClientAddress;
use crate::outbound::http::{Arrival, Destination, Via, serve as route};
use crate::worker::Worker;
use api::RouteReason;
use api::kinds::ListenerProtocol;
use http::header::{FORWARDED, HOST};
use http::request::Parts;
use http::uri::{Authority, Scheme};
use http::{HeaderName, HeaderValue, Uri};
use rustls::ServerConfig;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// ALPN of listeners, the preferred one first.
pub const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];
/// Who called, for the app (de-facto standard; RFC 7239 names the same things otherwise).
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `http` or `https`.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// The host that was asked for, which a rewrite may change.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What proxies before an app say of its callers; nobody outside may.
const SPOOFABLE: [HeaderName; 9] = [
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_PROTO,
    FORWARDED_HOST,
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-forwarded-prefix"),
    HeaderName::from_static("x-forwarded-server"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-original-url"),
];

/// Where a connection came in.
#[derive(Clone, Debug)]
pub struct At {
    port: u16,
    from: IpAddr,
    secure: Secure,
}

/// What TLS said.
#[derive(Clone, Debug)]
enum Secure {
    No,
    Yes { server_name: Option<String> },
}

/// Serves one connection.
pub async fn serve(
    worker: Arc<Worker>,
    ingress: Arc<Ingress>,
    tls: Arc<ServerConfig>,
    port: u16,
    stream: TcpStream,
    peer: SocketAddr,
) {
    // A listener on an IPv6 address sees IPv4 callers mapped into it.
    let from = peer.ip().to_canonical();
    let Some(_admitted) = ingress.sources.admit(from, Instant::now()) else {
        return tracing::debug!(%peer, "refused: too many connections of one source");
    };
    let Some(protocol) = worker.running().listeners.get(&port).map(|listener| listener.protocol) else { return };
    match protocol {
        ListenerProtocol::Http => requests(worker, At { port, from, secure: Secure::No }, None, stream).await,
        ListenerProtocol::Https => match handshake::accept(tls, stream).await {
            Ok(stream) => {
                let (_, session) = stream.get_ref();
                let http2 = session.alpn_protocol() == Some(ALPN[0]);
                let server_name = session.server_name().map(str::to_ascii_lowercase);
                let at = At { port, from, secure: Secure::Yes { server_name } };
                requests(worker, at, Some(http2), stream).await;
            }
            Err(error) => tracing::debug!(%peer, port, %error, "a caller failed the handshake"),
        },
    }
}

async fn requests<I>(worker: Arc<Worker>, at: At, http2: Option<bool>, io: I)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (drain, arrival) = (worker.state.drain.clone(), Arrival::new(Via::Listener(at)));
    crate::http::serve::outside(io, http2, drain, move |request| {
        let (worker, arrival) = (worker.clone(), arrival.clone());
        async move { route(&worker, &arrival, request).await }
    })
    .await;
}

impl At {
    /// Makes of a request from outside one that may be decided about: one host, one spelling of its path, and nothing
    /// said of callers but by us.
    pub fn receive(&self, parts: &mut Parts) -> Result<(), Failure> {
        parts.extensions.insert(ClientAddress(self.from));
        let bad = |text: &str| Failure::new(RouteReason::BadRequest, text);
        let length = parts.uri.path_and_query().map_or(0, |whole| whole.as_str().len());
        if length > EDGE_URI_MAX {
            return Err(bad("the path and query are too long"));
        }
        // Many apps read `a_b` and `a-b` as one name (CGI), and so would miss that we took one away.
        if parts.headers.keys().any(|name| name.as_str().contains('_')) {
            return Err(bad("names of header fields with `_` are not taken here"));
        }
        path::normalise(&mut parts.uri).map_err(|error| bad(&error.to_string()))?;
        let host = filter::authority(parts).filter(|host| !host.as_str().contains('@'));
        let host = host.ok_or_else(|| bad("the request names no valid host"))?;
        for name in &SPOOFABLE {
            parts.headers.remove(name);
        }
        let (scheme, proto) = match self.secure {
            Secure::No => (Scheme::HTTP, "http"),
            Secure::Yes { .. } => (Scheme::HTTPS, "https"),
        };
        let value = |text: &str| HeaderValue::from_str(text).map_err(|_| bad("the request names no valid host"));
        let fields = &mut parts.headers;
        fields.insert(FORWARDED_FOR, value(&self.from.to_string())?);
        fields.insert(FORWARDED_PROTO, HeaderValue::from_static(proto));
        fields.insert(FORWARDED_HOST, value(host.as_str())?);
        fields.insert(HOST, value(host.as_str())?);
        if parts.uri.path() != "*" {
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            (uri.scheme, uri.authority) = (Some(scheme), Some(host));
            if uri.path_and_query.is_none() {
                uri.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
            }
            parts.uri = Uri::from_parts(uri).map_err(|_| bad("the request names no valid path"))?;
        }
        Ok(())
    }

    /// The rules a request follows.
    pub fn destination<'a>(&self, running: &'a Running, asked: Option<&Authority>) -> Result<Destination<'a>, Failure> {
        let host = asked.map(|asked| asked.host().trim_end_matches('.').to_ascii_lowercase()).unwrap_or_default();
        let Self { port, secure, .. } = self;
        let nobody = |what: &str| Failure::new(RouteReason::NoRoute, format!("{what} `{host}` on port {port}"));
        let listener = running.listeners.get(port).ok_or_else(|| nobody("no listener any more for"))?;
        let at = listener.host(&host).ok_or_else(|| nobody("no listener answers for"))?;
        if let Secure::Yes { server_name } = secure {
            let shown = server_name.as_ref().map_or(listener.nameless(), |name| listener.host(name));
            if shown.is_none_or(|shown| shown.certificate != at.certificate) {
                let text = format!("this connection was not made for `{host}`; open another one for it");
                return Err(Failure::new(RouteReason::Misdirected, text));
            }
        }
        let service = at.route(&host).ok_or_else(|| nobody("no route answers for"))?;
        let port = service.port(Some(*port)).ok_or_else(|| nobody("no route answers for"))?;
        Ok(Destination { service, port, zone: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn received(request: http::request::Builder) -> Result<Parts, Failure> {
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let secure = Secure::Yes { server_name: None };
        At { port: 443, from: IpAddr::from([192, 0, 2, 1]), secure }.receive(&mut parts).map(|()| parts)
    }

    #[test]
    fn what_callers_say_of_callers_is_replaced() {
        let mut request = Request::get("/a//b?c").header("host", "shop.example.com:443");
        for name in &SPOOFABLE {
            request = request.header(name, "203.0.113.9");
        }
        let parts = received(request).unwrap();
        let said = |name: &str| parts.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(said("x-forwarded-for"), Some("192.0.2.1"));
        assert_eq!(said("x-forwarded-proto"), Some("https"));
        assert_eq!(said("x-forwarded-host"), Some("shop.example.com:443"));
        for gone in ["forwarded", "x-real-ip", "x-forwarded-port", "x-original-url"] {
            assert_eq!(said(gone), None, "{gone}");
        }
        assert_eq!(parts.uri.to_string(), "https://shop.example.com:443/a/b?c");
    }

    #[test]
    fn one_host_and_one_spelling_or_none() {
        let long = format!("/{}", "a".repeat(EDGE_URI_MAX));
        for (what, request) in [
            ("no host", Request::get("/")),
            ("a user in the host", Request::get("/").header("host", "me@shop.example.com")),
            ("two names for one header", Request::get("/").header("host", "a").header("x_real_ip", "1")),
            ("above the root", Request::get("/../a").header("host", "a")),
            ("too long", Request::get(long).header("host", "a")),
        ] {
            assert_eq!(received(request).map(|_| ()).unwrap_err().reason, RouteReason::BadRequest, "{what}");
        }
        // RFC 9112 section 3.2.2: an absolute form wins over Host.
        let parts = received(Request::get("http://a.example.com/").header("host", "b.example.com")).unwrap();
        assert_eq!(parts.headers["host"], "a.example.com");
    }
}
