//! Answers that say no: RFC 9457 problem details carrying the id of the request they answer.

use api::problem::{Diagnostic, MEDIA_TYPE, Problem};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use store::StoreError;

tokio::task_local! {
    /// Id of the request being answered, set by the outermost layer.
    pub(crate) static REQUEST_ID: String;
}

/// A problem as an answer.
#[derive(Debug)]
pub struct Refused(pub Box<Problem>);

/// What a REST function answers.
pub type Answer<T> = Result<T, Refused>;

impl Refused {
    /// With the status's usual code word.
    pub fn new(status: StatusCode, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(status.as_u16(), code, title, detail)))
    }

    /// 400: the request itself is malformed.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", "the request is malformed", detail)
    }

    /// 401.
    pub fn unauthenticated(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "who asks is not known", detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "this may not be done here", detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "there is no such thing", detail)
    }

    /// 409 with the document as it is stored now.
    pub fn conflict(detail: impl Into<String>, current: Option<serde_json::Value>) -> Self {
        let mut refused = Self::new(StatusCode::CONFLICT, "conflict", "the document has changed meanwhile", detail);
        refused.0.current = current;
        refused
    }

    /// 413, naming the limit.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "the document is too large", detail)
    }

    /// 422 with everything that is wrong in the document.
    pub fn invalid(diagnostics: Vec<Diagnostic>) -> Self {
        let detail = match diagnostics.len() {
            1 => "1 mistake in the document".to_owned(),
            n => format!("{n} mistakes in the document"),
        };
        let mut refused =
            Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-document", "the document is not valid", detail);
        refused.0.diagnostics = diagnostics;
        refused
    }

    /// 503: try again.
    pub fn unavailable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "this cannot be answered just now", detail)
    }
}

/// One mistake, for [`Refused::invalid`].
pub fn mistake(code: &str, field: &str, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
    Diagnostic {
        code: code.into(),
        field: field.into(),
        message: message.into(),
        help: help.into(),
        ..Diagnostic::default()
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut problem = self.0;
        problem.request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = with_type(&problem);
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"weft\""));
        }
        response
    }
}

/// The problem's JSON with its `type` (RFC 9457 section 3.1.1): a relative reference that ends in the code.
fn with_type(problem: &Problem) -> Vec<u8> {
    let mut value = serde_json::to_value(problem).unwrap_or_default();
    value["type"] = format!("/problems/{}", problem.code).into();
    value.to_string().into_bytes()
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { .. } => Self::conflict(error.to_string(), None),
            StoreError::Full { .. } => {
                Self::new(StatusCode::INSUFFICIENT_STORAGE, "store-full", "the store is full", error.to_string())
            }
            other => {
                tracing::error!(error = %other, "the store failed");
                Self::unavailable(other.to_string())
            }
        }
    }
}
