//! Upgraded connections, such as WebSocket: HTTP/1.1 upgrades at both ends, extended CONNECT between proxies
//! (RFC 8441). What follows an upgrade is bytes: never retried, never replayed.
//!
//! An extended CONNECT says neither which method the app used nor that the callee ignored the wish and answered as to any
//! other request: a 2xx would be an agreement. [`headers::METHOD`] and [`headers::STATUS`] say so between our proxies.

use super::body::Outgoing;
use super::headers;
use crate::tcp::copy;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode, header, response};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use std::time::Duration;

/// The app asked for another protocol.
#[derive(Clone, Debug)]
pub struct Asked {
    protocol: HeaderValue,
    on_upgrade: OnUpgrade,
}

/// Takes the wish out of a request; its connection headers go with the others of one hop. HTTP/2 in clear text by
/// upgrade (`h2c`) was withdrawn by RFC 9113 and is ignored, as one may.
pub fn asked(parts: &mut Parts) -> Option<Asked> {
    let protocol = parts.headers.get(header::UPGRADE)?.clone();
    let connection = parts.headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let mut tokens = connection.flat_map(|value| value.split(','));
    let wished = tokens.any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    if !wished || protocol.as_bytes().eq_ignore_ascii_case(b"h2c") {
        return None;
    }
    let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
    Some(Asked { protocol, on_upgrade })
}

/// One try's request between proxies.
pub fn outgoing(parts: &Parts, asked: &Option<Asked>, body: Outgoing) -> Request<Outgoing> {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = parts.headers.clone();
    if let Some(asked) = asked {
        if parts.method != Method::GET {
            request.headers_mut().insert(headers::METHOD, headers::value(parts.method.as_str()));
        }
        *request.method_mut() = Method::CONNECT;
        *request.body_mut() = Outgoing::Empty;
        let protocol = asked.protocol.to_str().unwrap_or_default();
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    request
}

/// The outbound proxy's end: a 2xx to the extended CONNECT is a 101 to the app, and bytes flow, with `hold` held.
/// Gives `hold` back when the upgrade was refused or ignored and the answer is an ordinary one.
pub fn answered_outbound<H: Send + 'static>(
    parts: &mut response::Parts,
    asked: Asked,
    idle: Duration,
    hold: H,
) -> Option<H> {
    if let Some(status) = parts.headers.remove(headers::STATUS) {
        parts.status = StatusCode::from_bytes(status.as_bytes()).unwrap_or(StatusCode::BAD_GATEWAY);
        return Some(hold);
    }
    let Some(upstream) = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.status.is_success()) else {
        return Some(hold);
    };
    switch(parts, asked.protocol);
    relay(asked.on_upgrade, upstream, idle, hold);
    None
}

/// The inbound proxy's end: which protocol an extended CONNECT wants, as the app will hear it.
pub fn wanted(parts: &mut Parts) -> Option<Asked> {
    let protocol = parts.extensions.remove::<Protocol>().filter(|_| parts.method == Method::CONNECT)?;
    let protocol = HeaderValue::from_str(protocol.as_str()).ok()?;
    let on_upgrade = parts.extensions.remove::<OnUpgrade>()?;
    let method = parts.headers.remove(headers::METHOD).and_then(|told| Method::from_bytes(told.as_bytes()).ok());
    parts.method = method.filter(|method| *method != Method::CONNECT).unwrap_or(Method::GET);
    Some(Asked { protocol, on_upgrade })
}

/// Adds to the request for the app what an HTTP/1.1 upgrade needs.
pub fn ask_app(headers: &mut http::HeaderMap, asked: &Asked) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, asked.protocol.clone());
}

/// The app ignored the wish and answered as to any other request; see [`ignored`].
#[derive(Clone)]
struct Ignored;

/// Tells the caller's proxy that its wish was ignored: a status that agrees to nothing, and the real one beside it.
pub fn ignored<B>(response: &mut Response<B>) {
    if response.extensions_mut().remove::<Ignored>().is_some() {
        let status = headers::value(response.status().as_str());
        response.headers_mut().insert(headers::STATUS, status);
        *response.status_mut() = StatusCode::NOT_ACCEPTABLE;
    }
}

/// The app's 101 becomes a 200 between proxies, and bytes flow.
pub fn answered_inbound<H: Send + 'static>(
    parts: &mut response::Parts,
    asked: Asked,
    idle: Duration,
    hold: H,
) -> Option<H> {
    let app = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS);
    let Some(app) = app else {
        if parts.status.is_success() {
            parts.extensions.insert(Ignored);
        }
        return Some(hold);
    };
    parts.status = StatusCode::OK;
    relay(asked.on_upgrade, app, idle, hold);
    None
}

/// From the app straight to a server: a 101 is passed on as it is, and bytes flow, with `hold` held.
pub fn answered_by_server<H: Send + 'static>(
    parts: &mut response::Parts,
    asked: Asked,
    idle: Duration,
    hold: H,
) -> Option<H> {
    let server = parts.extensions.remove::<OnUpgrade>().filter(|_| parts.status == StatusCode::SWITCHING_PROTOCOLS);
    let Some(server) = server else { return Some(hold) };
    switch(parts, asked.protocol);
    relay(asked.on_upgrade, server, idle, hold);
    None
}

fn switch(parts: &mut response::Parts, protocol: HeaderValue) {
    parts.status = StatusCode::SWITCHING_PROTOCOLS;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    parts.headers.insert(header::UPGRADE, protocol);
}

fn relay<H: Send + 'static>(down: OnUpgrade, up: OnUpgrade, idle: Duration, hold: H) {
    tokio::spawn(async move {
        let _hold = hold;
        match tokio::try_join!(down, up) {
            Ok((down, up)) => {
                let copied = copy::both(TokioIo::new(down), TokioIo::new(up), idle).await;
                tracing::debug!(?copied, "upgraded connection ended");
            }
            Err(error) => tracing::debug!(%error, "an upgrade was agreed and then broke"),
        }
    });
}
