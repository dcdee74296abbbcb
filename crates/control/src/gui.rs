//! The page at `/`: what was built in `web/dist` when this program was compiled, or a plain page that says how to.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use rust_embed::RustEmbed;

/// Filled by the build script; holds a plain page when the real one was not built.
#[derive(RustEmbed)]
#[folder = "$OUT_DIR/web"]
struct Files;

const INDEX: &str = "index.html";

/// Serves a file; every other path is a place inside the page, which finds its way itself.
pub async fn page(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/api/") {
        return crate::problem::Refused::not_found(format!("{method} {} is not part of this API", uri.path()))
            .into_response();
    }
    if !matches!(method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = uri.path().trim_start_matches('/');
    let (name, file) = match Files::get(path) {
        Some(file) => (path, file),
        // A missing script must not answer with a page.
        None if path.contains('.') => return StatusCode::NOT_FOUND.into_response(),
        None => match Files::get(INDEX) {
            Some(file) => (INDEX, file),
            None => return StatusCode::NOT_FOUND.into_response(),
        },
    };
    let tag = format!("\"{}\"", crate::auth::hex(&file.metadata.sha256_hash()[..8]));
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    // Names below assets/ contain a hash of their content.
    let lasting = name.starts_with("assets/");
    let cache = if lasting { "public, max-age=31536000, immutable" } else { "no-cache" };
    let kind = HeaderValue::from_str(file.metadata.mimetype()).unwrap_or(HeaderValue::from_static("text/plain"));
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, HeaderValue::from_static(cache))];
    (headers, [(header::ETAG, tag)], file.data.into_owned()).into_response()
}

/// Changes with the page, so that a page left open knows it is old.
pub fn version() -> String {
    Files::get(INDEX).map(|file| crate::auth::hex(&file.metadata.sha256_hash()[..8])).unwrap_or_default()
}
