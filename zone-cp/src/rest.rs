//! What only a zone control plane answers: workloads and their tokens, proxies and what they run, the copy of what
//! global owns.

use crate::authorities::{Authorities, common_name, workload_key};
use crate::program::Installed;
use crate::registry::Registry;
use crate::world::World;
use api::object::{MESH_LABEL, Metadata};
use api::{Key, Labels, MeshName, Name, Namespace, Object, SpiffeId, ZoneName};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use control::auth::Caller;
use control::rest::{Shared, json_body};
use control::{Answer, Invitations, Refused};
use http::StatusCode;
use identity::{Grant, TokenKind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use store::Expect;
use sync_grpc::Follower;
use tokio::sync::watch;

/// A registration is answered when it is programmed, at most this much later.
const PROGRAMMED_WITHIN: Duration = Duration::from_secs(2);

/// What these routes work with.
#[derive(Clone)]
pub struct Desk {
    /// The shared part.
    pub api: Shared,
    /// Our zone.
    pub zone: ZoneName,
    /// Tokens handed out.
    pub invitations: Arc<Invitations>,
    /// Whom newcomers pin.
    pub authorities: Authorities,
    /// Where proxies reach us.
    pub addresses: Vec<String>,
    /// What is programmed.
    pub installed: watch::Receiver<Arc<Installed>>,
    /// Proxies.
    pub registry: Registry,
    /// What is known.
    pub world: watch::Receiver<Arc<World>>,
    /// Our copy of what global owns.
    pub policy: Follower,
    /// Region of workloads that do not say theirs.
    pub region: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewWorkload {
    #[serde(default)]
    mesh: MeshName,
    #[serde(default)]
    namespace: Namespace,
    name: Name,
    #[serde(default)]
    labels: Labels,
    spec: Value,
}

/// Routes below `/api/v1`.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/workloads", post(register))
        .route("/workloads/{mesh}/{namespace}/{name}/token", post(token))
        .route("/proxies", get(proxies))
        .route("/proxies/{mesh}/{namespace}/{workload}/config", get(config))
        .route("/replica", get(replica))
        .route("/adopt", post(adopt))
        .with_state(desk)
}

/// `POST /workloads {mesh, namespace, name, labels, spec}`: writes the workload and makes a token for its proxy.
async fn register(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    sent: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let NewWorkload { mesh, namespace, name, mut labels, mut spec } = json_body(sent).await?;
    if let (Some(region), Some(fields)) = (&desk.region, spec.as_object_mut()) {
        let place = fields.entry("place").or_insert_with(|| json!({}));
        if let Some(place) = place.as_object_mut() {
            place.entry("region").or_insert_with(|| region.as_str().into());
        }
    }
    let snapshot = desk.installed.borrow().snapshot.clone();
    if snapshot.is_some_and(|snapshot| !snapshot.is_member(&mesh, &desk.zone)) {
        let detail = format!("zone {} does not belong to mesh {mesh}; add it to the Mesh at global", desk.zone);
        return Err(Refused::forbidden(detail));
    }
    labels.insert(MESH_LABEL.into(), mesh.to_string());
    let metadata = Metadata { name, namespace: Some(namespace), labels, annotations: Labels::new(), revision: None };
    let mut object =
        Object { api_version: api::API_VERSION.into(), kind: "Workload".into(), metadata, spec, status: None };
    let kind = policy::kind("Workload").expect("workloads are a kind");
    let key = control::rest::admit(&desk.api.site, kind, &mut object)?;
    let known = desk.api.store.get(&key).await?;
    let same = known
        .as_ref()
        .is_some_and(|known| known.spec == object.spec && known.metadata.labels == object.metadata.labels);
    if !same {
        let revision = desk.api.store.put(&key, object, Expect::Any).await?;
        control::rest::audit(caller, "register", &key, revision);
        desk.api.reached(revision).await;
    }
    desk.programmed(&key).await;
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(desk.invite(&key)?)))
}

/// `POST /workloads/{mesh}/{namespace}/{name}/token`
async fn token(State(desk): State<Desk>, Path(at): Path<(String, String, String)>) -> Answer<Json<Value>> {
    let key = desk.key(&at)?;
    if desk.api.store.get(&key).await?.is_none() {
        return Err(Refused::not_found(format!("workload {} is not registered here", common_name(&key))));
    }
    Ok(Json(desk.invite(&key)?))
}

/// `GET /proxies`
async fn proxies(State(desk): State<Desk>) -> Json<Value> {
    let connected = desk.registry.proxies();
    let installed = desk.installed.borrow().clone();
    let workloads = installed.snapshot.iter().flat_map(|snapshot| &snapshot.workloads);
    let items: Vec<Value> = workloads
        .map(|(key, entry)| {
            let proxy = connected.get(key);
            let rejects: Vec<Value> = proxy
                .iter()
                .flat_map(|proxy| &proxy.progress.rejects)
                .map(|reject| json!({"item": &*reject.key, "reason": reject.reason}))
                .collect();
            let said = proxy.and_then(|proxy| proxy.said.as_ref());
            json!({
                "mesh": key.mesh, "namespace": key.namespace, "workload": key.name, "role": entry.spec.role,
                "service": entry.spec.service, "address": entry.spec.address,
                "connected": proxy.is_some(), "ready": desk.registry.is_ready(key),
                "behind": proxy.is_some_and(|proxy| proxy.is_behind()), "rejects": rejects,
                "version": said.map_or_else(|| proxy.map(|proxy| proxy.version.as_str()).unwrap_or_default(), |said| &said.version),
                "unreadyPorts": said.map(|said| said.unready_ports.clone()).unwrap_or_default(),
                "unwell": said.map(|said| said.unwell.clone()).unwrap_or_default(),
                "draining": said.is_some_and(|said| said.draining),
                "certificateUntil": said.map(|said| said.certificate_until),
                "ackedMs": proxy.map(|proxy| proxy.acked_ms).filter(|at| *at > 0),
            })
        })
        .collect();
    Json(json!({ "items": items }))
}

/// `GET /proxies/{mesh}/{namespace}/{workload}/config`: what it runs, and where each value came from.
async fn config(State(desk): State<Desk>, Path(at): Path<(String, String, String)>) -> Answer<Json<Value>> {
    let key = desk.key(&at)?;
    let installed = desk.installed.borrow().clone();
    let class = installed.views.get(&key);
    let class = class.ok_or_else(|| Refused::not_found(format!("{} is not programmed here", common_name(&key))))?;
    let items: BTreeMap<String, Value> = class
        .view
        .items()
        .iter()
        .map(|(item, payload)| (item.to_string(), serde_json::from_slice(payload).unwrap_or_default()))
        .collect();
    let origins: BTreeMap<&String, Value> = class
        .origins
        .iter()
        .map(|(path, origin)| (path, json!({"policy": origin.policy, "covers": origin.covers})))
        .collect();
    Ok(Json(json!({ "items": items, "origins": origins })))
}

/// `GET /replica`: what a lost global can be restored from.
async fn replica(State(desk): State<Desk>) -> Answer<Json<Value>> {
    let world = desk.world.borrow().clone();
    let lineage = world.policy.lineage.ok_or_else(|| Refused::unavailable("global has told nothing yet"))?;
    let objects: Vec<&Object> =
        world.objects.items.iter().filter(|(key, _)| key.zone.is_none()).map(|(_, object)| &**object).collect();
    let estranged = world.policy.estranged.is_some();
    let answer =
        json!({"history": lineage.history, "revision": lineage.revision, "objects": objects, "estranged": estranged});
    Ok(Json(answer))
}

/// `POST /adopt`: an operator's word that what global tells now is the truth.
async fn adopt(State(desk): State<Desk>, Extension(caller): Extension<Caller>) -> Answer<Json<Value>> {
    let held = desk.policy.held();
    let Some(estranged) = held.estranged else {
        return Err(Refused::conflict("global tells the history this zone holds; there is nothing to adopt", None));
    };
    let policy = desk.policy.clone();
    let adopted = tokio::task::spawn_blocking(move || policy.adopt()).await;
    adopted
        .map_err(|error| Refused::unavailable(error.to_string()))?
        .map_err(|error| Refused::unavailable(error.to_string()))?;
    tracing::warn!(target: "weft::audit", ?caller, held = %estranged.held, adopted = %estranged.offered, "adopted another history");
    Ok(Json(json!({"history": estranged.offered.history, "revision": estranged.offered.revision})))
}

impl Desk {
    fn key(&self, (mesh, namespace, name): &(String, String, String)) -> Answer<Key> {
        let text = format!("{mesh}/{namespace}/{name}");
        workload_key(&self.zone, &text)
            .ok_or_else(|| Refused::not_found(format!("`{text}` is not MESH/NAMESPACE/WORKLOAD")))
    }

    /// A proxy that starts right after the answer finds its configuration.
    async fn programmed(&self, key: &Key) {
        let mut installed = self.installed.clone();
        let there = installed.wait_for(|installed| installed.views.contains_key(key));
        let _ = tokio::time::timeout(PROGRAMMED_WITHIN, there).await;
    }

    fn invite(&self, key: &Key) -> Answer<Value> {
        let grant = Grant {
            kind: TokenKind::Workload,
            addresses: self.addresses.clone(),
            pin: self.authorities.control().pin(),
            server: SpiffeId::zone_cp(&self.zone),
            subject: common_name(key),
        };
        let token = self.invitations.issue(grant)?;
        tracing::info!(target: "weft::audit", workload = %key, token = token.id, "workload token made");
        Ok(json!({"key": key, "token": token.to_string(), "expiresAt": token.expires_unix}))
    }
}
