//! Scenarios on real processes: a mesh started with `weft dev up`, used only as anybody could use it.

pub mod caller;
pub mod demo;
pub mod dns;
pub mod idle;
pub mod judges;
pub mod load;
pub mod mesh;
pub mod row;
pub mod scenarios;
pub mod steps;
