//! What both control planes share: the state of the store, the REST API with its page, and who may use it.
//!
//! ```text
//! store --watch--> Cache --> Objects --merge with what others own--> views, REST, watch
//! reports --> Programmed --> status of objects, ?wait
//! observations --insight::fold--> Board --> /overview, /stream
//! ```
#![warn(missing_docs)]

pub mod auth;
pub mod cache;
pub mod claims;
pub mod documents;
pub mod gui;
pub mod invitations;
pub mod issuer;
pub mod metrics;
pub mod objects;
pub mod openapi;
pub mod overview;
pub mod problem;
pub mod programmed;
pub mod renewal;
pub mod rest;
pub mod serve;
pub mod status;
pub mod stream;

pub use cache::Cache;
pub use invitations::Invitations;
pub use issuer::Issuer;
pub use objects::Objects;
pub use overview::Board;
pub use problem::{Answer, Refused};
pub use programmed::{Programmed, ZoneProgress};
pub use rest::{Api, Site, StatusView};

/// A store's lineage in the words of synchronisation.
pub fn lineage(objects: &Objects) -> sync::Lineage {
    sync::Lineage { history: objects.history, revision: objects.revision }
}

/// A task that ends with `end`.
pub async fn until(end: impl Future<Output = ()>, task: impl Future<Output = ()>) {
    tokio::select! {
        () = end => {}
        () = task => {}
    }
}
