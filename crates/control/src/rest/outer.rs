//! What holds for every request: an id, strict headers, a size limit, and somebody who may ask.

use super::Shared;
use crate::problem::{Answer, REQUEST_ID, Refused};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde::de::DeserializeOwned;

/// Longest request body: four times the largest object, so that it can be named in the refusal. Kubernetes allows 3 MiB
/// for a request and 1.5 MiB for an object; ours are smaller because every zone keeps a copy.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Largest object, as JSON.
pub const OBJECT_BYTES_MAX: usize = 256 * 1024;

const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// Scripts and styles only from here, nothing inline, no frames, no connections elsewhere.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; font-src 'self'; worker-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
     frame-ancestors 'none'";

/// Outermost: gives the request an id that answers and logs share, and the answer its security headers.
pub(super) async fn every_request(request: Request, next: Next) -> Response {
    let id = crate::auth::hex(&crate::auth::random::<8>());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = REQUEST_ID.scope(id.clone(), next.run(request)).await;
    tracing::debug!(%method, path, status = response.status().as_u16(), request_id = id, "answered");
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID_HEADER, id);
    }
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    for (name, value) in fixed {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets nobody through who has not proved who they are.
pub(super) async fn guard(State(api): State<Shared>, mut request: Request, next: Next) -> Response {
    match api.auth.check(request.method(), request.headers(), process::clock::unix_ms()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

/// No such path below `/api/v1`.
pub(super) async fn unknown(method: Method, uri: Uri) -> Refused {
    Refused::not_found(format!("{method} {} is not part of this API; see /openapi.json", uri.path()))
}

/// The path exists, the method does not.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Refused {
    let detail = format!("{method} is not possible on {}; see /openapi.json", uri.path());
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "wrong-method", "this method is not possible here", detail)
}

/// The whole body, refused by name when it is over `limit`.
pub async fn body(body: Body, limit: usize) -> Answer<Bytes> {
    to_bytes(body, limit)
        .await
        .map_err(|_| Refused::too_large(format!("the body is over the limit of {} KiB, or ended early", limit / 1024)))
}

/// The body as a JSON value of a known type; unknown fields are refused where the type says so.
pub async fn json_body<T: DeserializeOwned>(given: Body) -> Answer<T> {
    let bytes = body(given, BODY_BYTES_MAX).await?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Refused::bad_request(format!("the body is not what is expected: {error}")))
}
