//! Logging in and out of the page.

use super::{Shared, json_body};
use crate::auth::COOKIE;
use crate::problem::Answer;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    token: String,
}

/// `POST /login {token}`: a cookie that scripts cannot read and other sites cannot send.
pub(super) async fn login(State(api): State<Shared>, headers: HeaderMap, body: Body) -> Answer<Response> {
    api.auth.check_page(&Method::GET, &headers)?;
    if headers.contains_key(header::ORIGIN) {
        api.auth.check_page(&Method::POST, &headers)?;
    }
    let Login { token } = json_body(body).await?;
    let session = api.auth.login(token.trim(), process::clock::unix_ms())?;
    tracing::info!("somebody logged in to the page");
    let secure = headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={session}; HttpOnly; SameSite=Strict; Path=/{secure}");
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// `POST /logout`
pub(super) async fn logout(State(api): State<Shared>, headers: HeaderMap) -> Response {
    api.auth.logout(&headers);
    let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
    (StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response()
}
