//! Connections between proxies.

pub mod gather;
pub mod link;
pub mod transport;
