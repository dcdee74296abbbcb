//! What only the global control plane answers: zones, their tokens and states, and the restore of a lost store.

use crate::hub::key_of_zone;
use api::health::ZoneView;
use api::kinds::{Zone, ZoneState};
use api::{Key, Object, SpiffeId, ZoneName};
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use control::auth::Caller;
use control::rest::{Shared, body, json_body};
use control::{Answer, Invitations, Issuer, Refused};
use http::StatusCode;
use identity::{Grant, TokenKind};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use store::{Expect, StoreError};

/// Largest backup: 250 objects of the largest size, tens of thousands of ordinary ones.
const RESTORE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What these routes work with.
#[derive(Clone)]
pub struct Desk {
    /// The shared part.
    pub api: Shared,
    /// Tokens handed out.
    pub invitations: Arc<Invitations>,
    /// Whom newcomers pin.
    pub issuer: Issuer,
    /// Where zones reach us.
    pub addresses: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewZone {
    name: ZoneName,
    #[serde(default)]
    region: Option<String>,
}

/// A zone's replica as it is; what it says besides is not looked at.
#[derive(Deserialize)]
struct Backup {
    history: u64,
    revision: u64,
    objects: Vec<Object>,
}

/// Routes below `/api/v1`.
pub fn routes(desk: Desk) -> Router {
    Router::new()
        .route("/zones", get(list).post(create))
        .route("/zones/{zone}/token", post(token))
        .route("/zones/{zone}/drain", post(drain))
        .route("/zones/{zone}/undrain", post(undrain))
        .route("/zones/{zone}/disable", post(disable))
        .route("/restore", post(restore))
        .with_state(desk)
}

async fn list(State(desk): State<Desk>) -> Json<Value> {
    let items: Vec<ZoneView> = desk.api.board.look().zones;
    Json(json!({ "items": items }))
}

/// `POST /zones {name, region?}`
async fn create(
    State(desk): State<Desk>,
    Extension(caller): Extension<Caller>,
    sent: Body,
) -> Answer<(StatusCode, Json<Value>)> {
    let NewZone { name, region } = json_body(sent).await?;
    let spec = serde_json::to_value(Zone { region, state: ZoneState::Active }).unwrap_or_default();
    let object = json!({"apiVersion": api::API_VERSION, "kind": "Zone", "metadata": {"name": name}, "spec": spec});
    let object: Object = serde_json::from_value(object).map_err(|error| Refused::bad_request(error.to_string()))?;
    let diagnostics = policy::validate(&object);
    if !diagnostics.is_empty() {
        return Err(Refused::invalid(diagnostics));
    }
    let key = key_of_zone(&name);
    let revision = match desk.api.store.put(&key, object, Expect::Absent).await {
        Ok(revision) => revision,
        Err(StoreError::Conflict { current, .. }) => {
            let detail = format!("zone {name} exists already; POST /api/v1/zones/{name}/token makes a new join token");
            return Err(Refused::conflict(detail, current.and_then(|object| serde_json::to_value(*object).ok())));
        }
        Err(error) => return Err(error.into()),
    };
    control::rest::audit(caller, "create", &key, revision);
    desk.api.reached(revision).await;
    Ok((StatusCode::CREATED, Json(desk.invite(&name)?)))
}

/// `POST /zones/{zone}/token`
async fn token(State(desk): State<Desk>, Path(zone): Path<ZoneName>) -> Answer<Json<Value>> {
    desk.present(&zone).await?;
    Ok(Json(desk.invite(&zone)?))
}

async fn drain(desk: State<Desk>, caller: Extension<Caller>, zone: Path<ZoneName>) -> Answer<Json<Value>> {
    desk.set_state(caller.0, &zone, ZoneState::Draining).await
}

async fn undrain(desk: State<Desk>, caller: Extension<Caller>, zone: Path<ZoneName>) -> Answer<Json<Value>> {
    desk.set_state(caller.0, &zone, ZoneState::Active).await
}

async fn disable(desk: State<Desk>, caller: Extension<Caller>, zone: Path<ZoneName>) -> Answer<Json<Value>> {
    desk.set_state(caller.0, &zone, ZoneState::Disabled).await
}

/// `POST /restore {history, revision, objects}`: only into an empty store.
async fn restore(State(desk): State<Desk>, sent: Body) -> Answer<Json<Value>> {
    let bytes = body(sent, RESTORE_BYTES_MAX).await?;
    let backup = serde_json::from_slice(&bytes);
    let Backup { history, revision, objects } =
        backup.map_err(|error| Refused::bad_request(format!("the backup does not read: {error}")))?;
    let mut entries: Vec<(Key, Object)> = Vec::new();
    for object in objects {
        let named = format!("{} `{}`", object.kind, object.metadata.name);
        let key = control::objects::key_of(&object);
        match key.ok_or_else(|| Refused::bad_request(format!("{named} is of a kind this version does not know")))? {
            // What zones own comes back from them.
            key if key.zone.is_some() => {}
            key => entries.push((key, object)),
        }
    }
    let count = entries.len();
    let lineage = store::Lineage { history, revision };
    match desk.api.store.restore(lineage, entries).await {
        Ok(()) => {}
        Err(error @ StoreError::NotEmpty { .. }) => return Err(Refused::conflict(error.to_string(), None)),
        Err(error) => return Err(error.into()),
    }
    tracing::warn!(history, revision, count, "store restored from a backup");
    desk.api.cache.relist();
    let mut state = desk.api.cache.watch();
    let reached = state.wait_for(|objects| objects.history == history && objects.revision >= revision);
    reached.await.map_err(|_| Refused::unavailable("the control plane is ending"))?;
    Ok(Json(json!({ "objects": count, "history": history, "revision": revision })))
}

impl Desk {
    async fn present(&self, zone: &ZoneName) -> Answer<Object> {
        let found = self.api.store.get(&key_of_zone(zone)).await?;
        found.ok_or_else(|| Refused::not_found(format!("there is no zone `{zone}`; create it first")))
    }

    fn invite(&self, zone: &ZoneName) -> Answer<Value> {
        let grant = Grant {
            kind: TokenKind::Join,
            addresses: self.addresses.clone(),
            pin: self.issuer.pin(),
            server: SpiffeId::global_cp(),
            subject: zone.to_string(),
        };
        let token = self.invitations.issue(grant)?;
        tracing::info!(target: "weft::audit", %zone, token = token.id, "join token made");
        Ok(json!({"zone": zone, "token": token.to_string(), "expiresAt": token.expires_unix}))
    }

    async fn set_state(&self, caller: Caller, zone: &ZoneName, state: ZoneState) -> Answer<Json<Value>> {
        let key = key_of_zone(zone);
        // Somebody else may write the zone meanwhile; what we change is one field, so we may try again.
        loop {
            let mut object = self.present(zone).await?;
            let mut spec: Zone = object.spec_as().unwrap_or_default();
            spec.state = state;
            object.spec = serde_json::to_value(&spec).unwrap_or_default();
            let expect = object.metadata.revision.map_or(Expect::Any, Expect::Revision);
            match self.api.store.put(&key, object, expect).await {
                Ok(revision) => {
                    control::rest::audit(caller, "state", &key, revision);
                    self.api.reached(revision).await;
                    return Ok(Json(json!({"zone": zone, "state": state, "revision": revision})));
                }
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
