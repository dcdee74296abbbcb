//! Gateways at a zone's edge: between zones, and for traffic from outside.

pub mod egress;
pub mod gateway;
pub mod ingress;
pub mod probe;
pub mod sni;
pub mod sources;
