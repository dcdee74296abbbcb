//! What policies do to traffic on its way: one file per ability.

pub mod bucket;
pub mod callers;
pub mod fault;
pub mod mirror;
pub mod pace;
pub mod rate_limit;
