//! `weft`: the operator's command, and the parts of it that other programs of the workspace use.

#[macro_use]
pub mod output;
pub mod args;
pub mod client;
mod command;
pub mod context;
pub mod dev;
pub mod documents;
pub mod exit;
pub mod sse;

pub use command::run;
