//! Connections to other proxies, to the app, and to external services.

pub mod gather;
pub mod link;
pub mod server;
pub mod transport;
