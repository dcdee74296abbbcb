//! Objects: list, read, write, remove. A write is checked, admitted, stored at an expected revision, and if wanted
//! waited for until every proxy it is for runs it.

use super::listing::Query;
use super::outer::{BODY_BYTES_MAX, OBJECT_BYTES_MAX, body};
use super::{Shared, Site};
use crate::auth::Caller;
use crate::objects::Objects;
use crate::problem::{Answer, REQUEST_ID, Refused, mistake};
use crate::programmed;
use api::object::{MESH_LABEL, Owner, Scope, ZONE_LABEL};
use api::problem::Diagnostic;
use api::{Key, Object, Span};
use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path, Query as Parameters, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use policy::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::{Expect, StoreError};

/// Name of the header with the milliseconds a waited-for write took.
pub const CONVERGED_HEADER: &str = "weft-converged-ms";

type Given = Parameters<BTreeMap<String, String>>;

/// Place of one object in a path.
#[derive(Debug)]
struct Place {
    kind: &'static Kind,
    mesh: Option<String>,
    namespace: Option<String>,
    name: String,
}

impl Place {
    fn global((plural, name): (String, String)) -> Answer<Self> {
        let kind = kind_of(&plural)?;
        if kind.scope == Scope::Namespaced {
            let detail =
                format!("{} live in a mesh and namespace: /resources/{plural}/MESH/NAMESPACE/{name}", kind.name);
            return Err(Refused::not_found(detail));
        }
        Ok(Self { kind, mesh: None, namespace: None, name })
    }

    fn namespaced((plural, mesh, namespace, name): (String, String, String, String)) -> Answer<Self> {
        let kind = kind_of(&plural)?;
        if kind.scope == Scope::Global {
            let detail = format!("{} has no mesh and no namespace: /resources/{plural}/{name}", kind.name);
            return Err(Refused::not_found(detail));
        }
        Ok(Self { kind, mesh: Some(mesh), namespace: Some(namespace), name })
    }

    /// The one object of this place. What the control plane owns itself comes first; `zone` chooses among others.
    fn find(&self, objects: &Objects, site: &Site, zone: Option<&str>) -> Answer<(Key, Arc<Object>)> {
        let here = |key: &Key| {
            key.name.as_str() == self.name
                && key.mesh.as_ref().map(|mesh| mesh.as_str()) == self.mesh.as_deref()
                && key.namespace.as_ref().map(|namespace| namespace.as_str()) == self.namespace.as_deref()
        };
        let found: Vec<_> = objects
            .of_kind(self.kind.name)
            .filter(|(key, _)| {
                here(key) && zone.is_none_or(|zone| key.zone.as_ref().is_some_and(|z| z.as_str() == zone))
            })
            .collect();
        let own = found.iter().find(|(key, _)| key.zone.as_ref() == site.zone());
        match (own, &found[..]) {
            (Some((key, object)), _) | (None, [(key, object)]) => Ok(((*key).clone(), (*object).clone())),
            (None, []) => Err(Refused::not_found(format!("there is no {} `{}` here", self.kind.name, self.path()))),
            (None, several) => {
                let zones: Vec<String> =
                    several.iter().filter_map(|(key, _)| key.zone.as_ref().map(ToString::to_string)).collect();
                let detail = format!("several zones have one; choose with ?zone= among {}", zones.join(", "));
                Err(Refused::conflict(detail, None))
            }
        }
    }

    fn path(&self) -> String {
        match (&self.mesh, &self.namespace) {
            (Some(mesh), Some(namespace)) => format!("{mesh}/{namespace}/{}", self.name),
            _ => self.name.clone(),
        }
    }
}

fn kind_of(plural: &str) -> Answer<&'static Kind> {
    policy::by_plural(plural).ok_or_else(|| {
        let known: Vec<&str> = policy::KINDS.iter().map(|kind| kind.plural).collect();
        Refused::not_found(format!("there is no kind `{plural}`; known are {}", known.join(", ")))
    })
}

/// The object as shown: with what zones say about it.
fn shown(api: &Shared, key: &Key, object: &Object) -> Value {
    let mut object = object.clone();
    object.status = Some(programmed::status(&api.programmed.borrow(), key));
    serde_json::to_value(&object).unwrap_or_default()
}

/// `GET /resources/{plural}`
pub(super) async fn list(
    State(api): State<Shared>,
    Path(plural): Path<String>,
    Parameters(given): Given,
) -> Answer<Response> {
    let kind = kind_of(&plural)?;
    let query = Query::read(&given)?;
    if query.watch {
        return super::watching::watch(api, kind, query);
    }
    let objects = api.objects.borrow().clone();
    let page = query.page(&objects, kind.name);
    let items: Vec<Value> = page.items.iter().map(|(key, object)| shown(&api, key, object)).collect();
    let answer = json!({"items": items, "total": page.total, "next": page.next, "revision": objects.revision});
    Ok(Json(answer).into_response())
}

/// `GET /resources/{plural}/{name}`
pub(super) async fn get_global(
    state: State<Shared>,
    Path(at): Path<(String, String)>,
    Parameters(given): Given,
) -> Answer<Response> {
    read(state, Place::global(at)?, given)
}

/// `GET /resources/{plural}/{mesh}/{namespace}/{name}`
pub(super) async fn get(
    state: State<Shared>,
    Path(at): Path<(String, String, String, String)>,
    Parameters(given): Given,
) -> Answer<Response> {
    read(state, Place::namespaced(at)?, given)
}

fn read(State(api): State<Shared>, place: Place, given: BTreeMap<String, String>) -> Answer<Response> {
    let zone = only(&given, &["zone"])?.get("zone").map(String::as_str);
    let objects = api.objects.borrow().clone();
    let (key, object) = place.find(&objects, &api.site, zone)?;
    let tag = object.metadata.revision.map(|revision| format!("\"{revision}\"")).unwrap_or_default();
    Ok(([(header::ETAG, tag)], Json(shown(&api, &key, &object))).into_response())
}

/// `PUT /resources/{plural}/{name}`
pub(super) async fn put_global(
    state: State<Shared>,
    caller: Extension<Caller>,
    Path(at): Path<(String, String)>,
    Parameters(given): Given,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    write(state, caller, Place::global(at)?, given, headers, body).await
}

/// `PUT /resources/{plural}/{mesh}/{namespace}/{name}`
pub(super) async fn put(
    state: State<Shared>,
    caller: Extension<Caller>,
    Path(at): Path<(String, String, String, String)>,
    Parameters(given): Given,
    headers: HeaderMap,
    body: Body,
) -> Answer<Response> {
    write(state, caller, Place::namespaced(at)?, given, headers, body).await
}

async fn write(
    State(api): State<Shared>,
    Extension(caller): Extension<Caller>,
    place: Place,
    given: BTreeMap<String, String>,
    headers: HeaderMap,
    sent: Body,
) -> Answer<Response> {
    let since = Instant::now();
    let given = only(&given, &["dryRun", "wait", "zone"])?;
    let wait = given.get("wait").map(|text| text.parse::<Span>()).transpose();
    let wait: Option<Duration> = wait.map_err(|error| Refused::bad_request(format!("wait: {error}")))?.map(Into::into);
    let bytes = body(sent, BODY_BYTES_MAX).await?;
    let mut object = document(&bytes)?;
    fits(&place, &mut object)?;
    let expect = expected(&headers, object.metadata.revision)?;
    let key = admit(&api.site, place.kind, &mut object)?;
    let present = api.store.get(&key).await?;
    check_expectation(&key, present.as_ref(), &expect, &api)?;
    let created = present.is_none();
    if given.get("dryRun").is_some_and(|dry| dry == "true") {
        let answer = serde_json::to_value(&object).unwrap_or_default();
        return Ok(([("weft-dry-run", "true")], Json(answer)).into_response());
    }
    let unchanged = present.filter(|present| same_wish(present, &object)).and_then(|present| present.metadata.revision);
    let revision = match unchanged {
        Some(revision) => revision,
        None => match api.store.put(&key, object, expect).await {
            Ok(revision) => {
                audit(caller, "put", &key, revision);
                revision
            }
            Err(StoreError::Conflict { .. }) => return Err(conflict(&api, &key).await),
            Err(error) => return Err(error.into()),
        },
    };
    let objects = api.reached(revision).await;
    let mut answer_headers = HeaderMap::new();
    if let Some(limit) = wait {
        let took = programmed::wait(api.programmed.clone(), objects.clone(), &key, revision, since, limit).await;
        if let Some(took) = took {
            (api.converged)(took.as_secs_f64());
            answer_headers.insert(CONVERGED_HEADER, (took.as_millis() as u64).into());
        }
    }
    let stored = objects.items.get(&key).map(|object| shown(&api, &key, object)).unwrap_or_default();
    if let Ok(tag) = format!("\"{revision}\"").parse() {
        answer_headers.insert(header::ETAG, tag);
    }
    let status = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, answer_headers, Json(stored)).into_response())
}

/// `DELETE /resources/{plural}/{name}`
pub(super) async fn delete_global(
    state: State<Shared>,
    caller: Extension<Caller>,
    Path(at): Path<(String, String)>,
    Parameters(given): Given,
    headers: HeaderMap,
) -> Answer<Response> {
    remove(state, caller, Place::global(at)?, given, headers).await
}

/// `DELETE /resources/{plural}/{mesh}/{namespace}/{name}`
pub(super) async fn delete(
    state: State<Shared>,
    caller: Extension<Caller>,
    Path(at): Path<(String, String, String, String)>,
    Parameters(given): Given,
    headers: HeaderMap,
) -> Answer<Response> {
    remove(state, caller, Place::namespaced(at)?, given, headers).await
}

async fn remove(
    State(api): State<Shared>,
    Extension(caller): Extension<Caller>,
    place: Place,
    given: BTreeMap<String, String>,
    headers: HeaderMap,
) -> Answer<Response> {
    let zone = only(&given, &["zone"])?.get("zone").map(String::as_str);
    let objects = api.objects.borrow().clone();
    let (key, object) = place.find(&objects, &api.site, zone)?;
    may_write(&api.site, place.kind, &object)?;
    match api.store.delete(&key, expected(&headers, None)?).await {
        Ok(revision) => {
            audit(caller, "delete", &key, revision);
            api.reached(revision).await;
            Ok(Json(json!({ "revision": revision })).into_response())
        }
        Err(StoreError::Conflict { .. }) => Err(conflict(&api, &key).await),
        Err(error) => Err(error.into()),
    }
}

/// Reads a document, telling an oversized or malformed one apart.
fn document(bytes: &[u8]) -> Answer<Object> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Refused::bad_request(format!("the body is not JSON: {error}")))?;
    let object: Object =
        serde_json::from_value(value).map_err(|error| Refused::invalid(vec![envelope_mistake(&error)]))?;
    if bytes.len() > OBJECT_BYTES_MAX {
        let detail = format!(
            "{} `{}` has {} KiB; at most {} KiB are allowed",
            object.kind,
            object.metadata.name,
            bytes.len() / 1024,
            OBJECT_BYTES_MAX / 1024
        );
        return Err(Refused::too_large(detail));
    }
    Ok(object)
}

/// A document whose envelope does not read.
pub(super) fn envelope_mistake(error: &serde_json::Error) -> Diagnostic {
    let help = "a document has apiVersion, kind, metadata {name, namespace, labels, annotations} and spec";
    mistake("W1001", "", error.to_string(), help)
}

/// The document must be the one the path names; what the path says and the document leaves out is filled in.
fn fits(place: &Place, object: &mut Object) -> Answer<()> {
    let mut wrong = Vec::new();
    let mut differs = |field: &str, said: &str, path: &str| {
        if said != path {
            let message = format!("the document says `{said}`, the path `{path}`");
            wrong.push(mistake("W1002", field, message, "make them equal"));
        }
    };
    differs("kind", &object.kind, place.kind.name);
    differs("metadata.name", object.metadata.name.as_str(), &place.name);
    if let (Some(mesh), Some(namespace)) = (&place.mesh, &place.namespace) {
        let labelled = object.metadata.labels.entry(MESH_LABEL.into()).or_insert_with(|| mesh.clone());
        differs("metadata.labels.weft.dev/mesh", labelled, mesh);
        match &object.metadata.namespace {
            Some(said) => differs("metadata.namespace", said.as_str(), namespace),
            None => match namespace.parse() {
                Ok(namespace) => object.metadata.namespace = Some(namespace),
                Err(error) => wrong.push(mistake("W1003", "metadata.namespace", format!("{error}"), "")),
            },
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Refused::invalid(wrong)) }
}

/// Checks who may write it here and whether it is right; gives it its owner's label and its key.
pub fn admit(site: &Site, kind: &'static Kind, object: &mut Object) -> Answer<Key> {
    may_write(site, kind, object)?;
    object.status = None;
    object.metadata.revision = None;
    object.metadata.labels.remove(ZONE_LABEL);
    let diagnostics = policy::validate(object);
    if !diagnostics.is_empty() {
        return Err(Refused::invalid(diagnostics));
    }
    if let Some(zone) = site.zone() {
        object.metadata.labels.insert(ZONE_LABEL.into(), zone.to_string());
    }
    object.key(kind.scope).map_err(|error| Refused::invalid(vec![mistake("W1003", "metadata", error.to_string(), "")]))
}

fn may_write(site: &Site, kind: &Kind, object: &Object) -> Answer<()> {
    let written_in = object.metadata.labels.get(ZONE_LABEL);
    match (site, kind.owner, written_in) {
        (Site::Global, Owner::Zone, _) => {
            let detail = format!("{} is written in its zone: send it to that zone's control plane", kind.name);
            Err(Refused::forbidden(detail))
        }
        (Site::Global, _, Some(zone)) => {
            let detail = format!("this {} belongs to zone {zone}: send it to that zone's control plane", kind.name);
            Err(Refused::forbidden(detail))
        }
        (Site::Zone(_), Owner::Global, _) => {
            let detail = format!("{} is written at the global control plane: send it there", kind.name);
            Err(Refused::forbidden(detail))
        }
        (Site::Zone(own), _, Some(zone)) if zone != own.as_str() => {
            let detail = format!("this {} belongs to zone {zone}, not to {own}: send it there", kind.name);
            Err(Refused::forbidden(detail))
        }
        (Site::Zone(own), Owner::Either, None) if object.metadata.revision.is_some() => {
            let detail =
                format!("this {} came from the global control plane; change it there, not in {own}", kind.name);
            Err(Refused::forbidden(detail))
        }
        _ => Ok(()),
    }
}

/// From `If-Match`, `If-None-Match: *`, or the document's own revision.
fn expected(headers: &HeaderMap, written: Option<u64>) -> Answer<Expect> {
    if headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == "*") {
        return Ok(Expect::Absent);
    }
    let Some(tag) = headers.get(header::IF_MATCH) else {
        return Ok(written.map_or(Expect::Any, Expect::Revision));
    };
    let revision = tag.to_str().ok().and_then(|tag| tag.trim_start_matches("W/").trim_matches('"').parse().ok());
    revision.map(Expect::Revision).ok_or_else(|| Refused::bad_request("If-Match must hold a revision, such as \"42\""))
}

fn check_expectation(key: &Key, present: Option<&Object>, expect: &Expect, api: &Shared) -> Answer<()> {
    let revision = present.and_then(|present| present.metadata.revision);
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => present.is_none(),
        Expect::Revision(wanted) => revision == Some(*wanted),
    };
    if holds {
        return Ok(());
    }
    let detail = match revision {
        Some(revision) => {
            format!("somebody changed it, and it is at revision {revision} now; read it again, change that and write")
        }
        None => "it does not exist any more; write it without a revision to make it anew".into(),
    };
    Err(Refused::conflict(detail, present.map(|present| shown(api, key, present))))
}

async fn conflict(api: &Shared, key: &Key) -> Refused {
    let current = api.store.get(key).await.ok().flatten().map(|object| shown(api, key, &object));
    Refused::conflict("somebody else wrote it just now; read it again, change that and write", current)
}

/// Whether a write would change nothing.
fn same_wish(present: &Object, wanted: &Object) -> bool {
    let Object { api_version, kind: _, metadata, spec, status: _ } = wanted;
    *api_version == present.api_version
        && *spec == present.spec
        && metadata.labels == present.metadata.labels
        && metadata.annotations == present.metadata.annotations
}

fn only<'a>(given: &'a BTreeMap<String, String>, known: &[&str]) -> Answer<&'a BTreeMap<String, String>> {
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            Err(Refused::bad_request(format!("there is no parameter `{name}`; known are {}", known.join(", "))))
        }
        None => Ok(given),
    }
}

/// One line in the log for every change of what is stored.
pub fn audit(caller: Caller, verb: &'static str, key: &Key, revision: u64) {
    let request_id = REQUEST_ID.try_with(Clone::clone).unwrap_or_default();
    tracing::info!(target: "weft::audit", ?caller, verb, %key, revision, request_id, "written");
}
