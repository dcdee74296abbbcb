//! What the admin endpoint says beyond health and metrics: what runs, and where requests would go.

use crate::state::State;
use axum::Json;
use axum::Router;
use axum::extract::State as Shared;
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Routes to add to the admin endpoint.
pub fn routes(state: Arc<State>) -> Router {
    Router::new().route("/config", get(config)).route("/endpoints", get(endpoints)).with_state(state)
}

/// The configuration that runs now.
async fn config(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let running = state.running().clone();
    let services: BTreeMap<String, &api::config::Outbound> =
        running.services.iter().map(|(name, service)| (name.to_string(), &service.config)).collect();
    let endpoints: BTreeMap<String, Vec<&api::config::Endpoints>> = running
        .places
        .iter()
        .map(|(name, places)| (name.to_string(), places.sets.iter().map(|set| &**set).collect()))
        .collect();
    let names = state.names().borrow().clone();
    let addresses: BTreeMap<String, String> = names
        .addresses()
        .map(|(address, named)| (address.to_string(), named.service.host(named.zone.as_ref())))
        .collect();
    Json(json!({
        "id": state.own.id, "zone": state.own.zone, "workload": state.own.workload,
        "inbound": running.inbound.as_deref(), "gateway": running.gateway.as_deref(),
        "outbound": services, "endpoints": endpoints, "zones": &*running.zones, "addresses": addresses,
        "trust": running.trust.keys().collect::<Vec<_>>(),
    }))
}

/// What the balancers of each service called so far think, worker by worker.
async fn endpoints(Shared(state): Shared<Arc<State>>) -> Json<Value> {
    let now_us = state.now_us();
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for worker in state.workers() {
        for callee in worker.callees() {
            let tiers = json!(callee.explain(now_us));
            all.entry(format!("{}:{}", callee.service, callee.port)).or_default().push(tiers);
        }
    }
    Json(json!(all))
}
