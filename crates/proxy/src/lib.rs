//! The data path: what `weft-dataplane` and `weft-gateway` are made of.
//!
//! One request is a walk over compiled tables ([`compile`]) that one atomic pointer leads to ([`state`]). Each worker
//! is a thread with its own sockets, balancers and connections ([`worker`]); control streams, probes and reports
//! live on the thread that called [`Runtime::run`](runtime::run).
//!
//! - [`outbound`]: from the app to whoever it calls; [`inbound`]: from other proxies to the app;
//! - [`edge`]: the gateway between zones; [`pool`]: connections between proxies;
//! - [`dns`] and [`redirect`]: how an app that knows nothing of the mesh gets here;
//! - [`http`], [`tcp`], [`listen`]: what they all need of protocols and sockets;
//! - [`filter`]: what policies do to traffic on its way;
//! - [`http::body`]: when a request body can be sent a second time, and who owns it.

pub mod access;
pub mod admin;
pub mod compile;
pub mod config;
pub mod control;
pub mod dns;
pub mod edge;
pub mod enroll;
pub mod error;
pub mod filter;
pub mod hash;
pub mod http;
pub mod inbound;
pub mod limits;
pub mod listen;
pub mod metrics;
pub mod outbound;
pub mod pool;
pub mod record;
pub mod redirect;
pub mod report;
pub mod runtime;
pub mod state;
pub mod tcp;
pub mod vips;
pub mod worker;

pub use config::{Config, Gateway, Mode, Role, Sidecar};
