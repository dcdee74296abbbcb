//! The REST API that both control planes serve: `/api/v1`, its documents, its errors, and the page at `/`.

mod kinds;
mod listing;
mod meta;
mod outer;
mod resources;
mod session;
mod watching;

pub use meta::{Link, StatusView};
pub use outer::{BODY_BYTES_MAX, OBJECT_BYTES_MAX, body, json_body};
pub use resources::{CONVERGED_HEADER, admit, audit};

use crate::auth::Auth;
use crate::objects::Objects;
use crate::overview::Board;
use crate::programmed::Programmed;
use api::ZoneName;
use axum::Router;
use axum::routing::{get, post};
use std::sync::Arc;
use store::Store;
use tokio::sync::{Semaphore, watch};

/// Streams (`/stream` and `?watch=true`) that may be open at once; each costs one connection and no queue.
pub const STREAMS_MAX: usize = 256;

/// Which control plane answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Site {
    /// Where operators write policy.
    Global,
    /// A zone.
    Zone(ZoneName),
}

impl Site {
    /// `global` or `zone`.
    pub const fn role(&self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Zone(_) => "zone",
        }
    }

    /// The zone's name, in a zone.
    pub const fn zone(&self) -> Option<&ZoneName> {
        match self {
            Self::Global => None,
            Self::Zone(zone) => Some(zone),
        }
    }
}

/// Everything the shared part of the API reads and writes.
pub struct Api {
    /// Which control plane this is.
    pub site: Site,
    /// Its version.
    pub version: &'static str,
    /// What it writes to.
    pub store: Arc<dyn Store>,
    /// The state of its own store.
    pub cache: crate::cache::Cache,
    /// All objects it knows, its own and those of others.
    pub objects: watch::Receiver<Arc<Objects>>,
    /// What zones report.
    pub programmed: watch::Receiver<Arc<Programmed>>,
    /// Health of zones and links.
    pub board: Board,
    /// Who may come in.
    pub auth: Auth,
    /// What `/status` says.
    pub status: Box<dyn Fn() -> StatusView + Send + Sync>,
    /// Called with the seconds a waited-for write took to reach every proxy.
    pub converged: Box<dyn Fn(f64) + Send + Sync>,
    /// Room for streams.
    pub streams: Arc<Semaphore>,
}

impl Api {
    /// All objects, once they include what was written as `revision`: whoever wrote it finds it when reading next.
    pub async fn reached(&self, revision: u64) -> Arc<Objects> {
        let mut objects = self.objects.clone();
        match objects.wait_for(|objects| objects.revision >= revision).await {
            Ok(objects) => objects.clone(),
            // It is ending.
            Err(_) => self.objects.borrow().clone(),
        }
    }
}

/// Shared handle.
pub type Shared = Arc<Api>;

/// The whole API; `extra` holds the routes that only this control plane has, below `/api/v1`.
pub fn router(api: Shared, extra: Router) -> Router {
    let guarded = Router::new()
        .route("/meta", get(meta::meta))
        .route("/status", get(meta::status))
        .route("/overview", get(meta::overview))
        .route("/kinds", get(kinds::kinds))
        .route("/schemas/{kind}", get(kinds::schema))
        .route("/validate", post(kinds::validate))
        .route("/openapi.json", get(kinds::openapi))
        .route("/stream", get(crate::stream::stream))
        .route("/resources/{plural}", get(resources::list))
        .route(
            "/resources/{plural}/{name}",
            get(resources::get_global).put(resources::put_global).delete(resources::delete_global),
        )
        .route(
            "/resources/{plural}/{mesh}/{namespace}/{name}",
            get(resources::get).put(resources::put).delete(resources::delete),
        )
        .route("/logout", post(session::logout))
        .with_state(api.clone())
        .merge(extra)
        .fallback(outer::unknown)
        .layer(axum::middleware::from_fn_with_state(api.clone(), outer::guard));
    let open = Router::new().route("/login", post(session::login)).with_state(api.clone());
    Router::new()
        .nest("/api/v1", open.merge(guarded))
        .route(
            "/openapi.json",
            get(kinds::openapi).with_state(api.clone()).layer(axum::middleware::from_fn_with_state(api, outer::guard)),
        )
        .fallback(crate::gui::page)
        .method_not_allowed_fallback(outer::wrong_method)
        .layer(axum::middleware::from_fn(outer::every_request))
}
