//! Who answers, how it is, and what it sees.

use super::Shared;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The stream to global, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Link {
    /// Open now.
    pub connected: bool,
    /// Milliseconds since something was heard; `None`: never.
    pub age_ms: Option<u64>,
    /// Why it is not open.
    pub error: Option<String>,
}

/// What `/status` says.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// One sentence with the worst fact.
    pub headline: String,
    /// `global` or `zone`.
    pub role: &'static str,
    /// A zone's stream to global; global has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<Link>,
    /// Set when global lost the history this zone holds: words.
    pub estranged: Option<String>,
    /// What was sent and acknowledged, by peer and channel.
    pub sync: BTreeMap<String, Value>,
}

/// `GET /meta`
pub(super) async fn meta(State(api): State<Shared>) -> Json<Value> {
    let objects = api.cache.now();
    Json(json!({
        "role": api.site.role(),
        "zone": api.site.zone(),
        "version": api.version,
        "history": objects.history,
        "revision": objects.revision,
        "store": api.store.name(),
    }))
}

/// `GET /status`
pub(super) async fn status(State(api): State<Shared>) -> Json<StatusView> {
    Json((api.status)())
}

/// `GET /overview`
pub(super) async fn overview(State(api): State<Shared>) -> Json<api::health::Overview> {
    Json(api.board.look())
}
