//! The words of the system: resources, references, proxy configuration, messages, problems.
//!
//! Everything that crosses a process border is spelled here and nowhere else. People write [`object::Object`]s
//! whose specs live in [`kinds`] (and, for traffic policies, in the `policy` crate); proxies run [`config`]; processes
//! tell each other [`report`]s; screens show [`health`]. There is no third representation of anything.

pub mod config;
pub mod duration;
pub mod health;
pub mod kinds;
pub mod name;
pub mod object;
pub mod problem;
pub mod reason;
pub mod report;
pub mod share;
pub mod size;
pub mod target;

/// Generated from `proto/weft/sync/v1/sync.proto`.
pub mod sync_v1 {
    #![allow(missing_docs, clippy::pedantic)]
    tonic::include_proto!("weft.sync.v1");
}

/// Generated from `proto/weft/identity/v1/identity.proto`.
pub mod identity_v1 {
    #![allow(missing_docs, clippy::pedantic)]
    tonic::include_proto!("weft.identity.v1");
}

pub use duration::Span;
pub use name::{Account, MeshName, Name, Namespace, SpiffeId, TrustDomain, ZoneName};
pub use object::{Key, Labels, Metadata, Object};
pub use problem::Problem;
pub use reason::RouteReason;
pub use share::Share;
pub use size::Size;
pub use target::TargetRef;

/// Value of `apiVersion` in Weft's own documents.
pub const API_VERSION: &str = "weft.dev/v1";
/// Value of `apiVersion` in routes, which are Gateway API kinds as they are.
pub const GATEWAY_API_VERSION: &str = "gateway.networking.k8s.io/v1";
/// `apiVersion` of TCPRoute, which Gateway API still keeps in its experimental channel.
pub const GATEWAY_API_EXPERIMENTAL: &str = "gateway.networking.k8s.io/v1alpha2";
