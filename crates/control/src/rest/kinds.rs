//! What can be written: kinds, their schemas, and a check without a write.

use super::{Shared, json_body};
use crate::problem::{Answer, Refused};
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Draft {
    object: Value,
}

/// `GET /kinds`
pub(super) async fn kinds() -> Json<Value> {
    let items: Vec<Value> = policy::KINDS
        .iter()
        .map(|kind| {
            json!({
                "kind": kind.name, "plural": kind.plural, "apiVersion": kind.api_version,
                "scope": kind.scope, "owner": kind.owner, "policy": kind.is_policy, "example": kind.example,
            })
        })
        .collect();
    Json(json!({ "items": items }))
}

/// `GET /schemas/{kind}`, by kind or plural.
pub(super) async fn schema(Path(kind): Path<String>) -> Answer<Json<Value>> {
    let found = policy::kind(&kind).or_else(|| policy::by_plural(&kind));
    let found = found.ok_or_else(|| Refused::not_found(format!("there is no kind `{kind}`; see /api/v1/kinds")))?;
    Ok(Json(serde_json::to_value((found.schema)()).unwrap_or_default()))
}

/// `POST /validate {object}`
pub(super) async fn validate(body: Body) -> Answer<Json<Value>> {
    let Draft { object } = json_body(body).await?;
    let diagnostics = match serde_json::from_value(object) {
        Ok(object) => policy::validate(&object),
        Err(error) => vec![super::resources::envelope_mistake(&error)],
    };
    Ok(Json(json!({ "diagnostics": diagnostics })))
}

/// `GET /openapi.json`
pub(super) async fn openapi(State(api): State<Shared>) -> Json<Value> {
    Json(crate::openapi::document(&api.site, api.version))
}
