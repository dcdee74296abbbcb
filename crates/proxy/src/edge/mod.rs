//! The gateway at a zone's edge.

pub mod gateway;
pub mod probe;
pub mod sni;
pub mod sources;
