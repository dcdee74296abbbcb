//! Specs of the resources that are not traffic policies, one file each.

mod external_service;
mod gateway;
mod grpc_route;
mod http_route;
mod mesh;
mod service;
mod tcp_route;
mod workload;
mod zone;

pub use external_service::{ExternalEndpoint, ExternalService, ExternalTls, Through};
pub use gateway::{
    AllowedRoutes, CertificateRef, Gateway, GatewayListener, ListenerProtocol, ListenerTls, RouteNamespaces,
    RoutesFrom, TlsMode,
};
pub use grpc_route::{GrpcMatch, GrpcRoute, GrpcRule, MethodMatch};
pub use http_route::{
    BackendRef, Fraction, Header, HeaderMatch, HeaderModifier, HttpFilter, HttpMatch, HttpRoute, HttpRule, MatchType,
    Mirror, MirrorRef, ParentRef, PathMatch, PathMatchType, PathModifier, QueryMatch, Redirect, Rewrite, RouteTimeouts,
};
pub use mesh::{DefaultAuthorization, Mesh, MutualTls};
pub use service::{Protocol, Service, ServicePort};
pub use tcp_route::{TcpRoute, TcpRule};
pub use workload::{PROXY_PORT_DEFAULT, Place, Role, Workload, WorkloadPort};
pub use zone::{Zone, ZoneState};

use crate::object::{Owner, Scope};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

/// What every spec type says about its kind. Tables of kinds, paths, columns and completion come from here.
pub trait Spec: DeserializeOwned + JsonSchema + Serialize {
    /// PascalCase, as in documents.
    const KIND: &'static str;
    /// Lowercase, as in paths and on the command line.
    const PLURAL: &'static str;
    /// `apiVersion` of its documents.
    const API_VERSION: &'static str = crate::API_VERSION;
    /// Where its objects live.
    const SCOPE: Scope = Scope::Namespaced;
    /// Who writes it.
    const OWNER: Owner = Owner::Either;
    /// A valid spec, as YAML: shown in docs, and tested.
    const EXAMPLE: &'static str;

    /// What the schema cannot say: `(field path below spec, what is wrong)`.
    fn check(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}
