//! Every kind of document people may write: its table entry, its checks, and what it lowers to.
//!
//! A policy is a folder: spec type, checks, lowering, example, cases. To add one, write the folder and add one line to
//! `policies!` below; REST, CLI, schemas, reference pages and the GUI's forms are read off [`KINDS`].

mod called;
mod check;
mod code;
pub mod document;
mod kind;
mod shape;

pub use api::problem::{Diagnostic, Place};
pub use check::{check_spec, validate};
pub use code::Code;
pub use kind::{Around, Grain, Inbound, InboundRule, Kind, Lower, Outbound, Settings, ZoneAround};
pub use shape::{Rules, To, Traffic};

use api::kinds::{ExternalService, Gateway, GrpcRoute, HttpRoute, Mesh, Service, TcpRoute, Workload, Zone};

macro_rules! policies {
    ($($module:ident: $spec:ident is $lower:ident,)*) => {
        $(pub mod $module;)*
        /// Every kind, resources first. Tables, paths, completion and reference pages come from here.
        pub const KINDS: &[Kind] = &[
            Kind::resource::<Mesh>(),
            Kind::resource::<Zone>(),
            Kind::resource::<Workload>(),
            Kind::resource::<Service>(),
            Kind::resource::<ExternalService>(),
            Kind::resource::<Gateway>(),
            Kind::resource::<HttpRoute>(),
            Kind::resource::<GrpcRoute>(),
            Kind::resource::<TcpRoute>(),
            $(Kind::$lower::<$module::$spec>(),)*
        ];
    };
}

policies! {
    timeout: Timeout is outbound,
    retry: Retry is outbound,
    load_balancing: LoadBalancing is outbound,
    circuit_breaker: CircuitBreaker is outbound,
    health_check: HealthCheck is outbound,
    fault: Fault is outbound,
    authorization: Authorization is inbound,
    rate_limit: RateLimit is inbound,
}

/// The kind of this name, as in documents: `Timeout`.
pub fn kind(name: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.name == name)
}

/// The kind of this plural, as in paths: `timeouts`.
pub fn by_plural(plural: &str) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.plural == plural)
}

#[cfg(test)]
mod tests;
