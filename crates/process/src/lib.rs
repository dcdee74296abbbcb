//! What every program of Weft needs: options, logs, metrics, an admin endpoint, readiness, drain, named tasks and a
//! data folder nobody else uses.
//!
//! A program is `process::main(name, options, Runtime::Control, |process| async move { .. })`; everything else is
//! reached through the [`Process`] it is given.

mod admin;
mod bind;
pub mod clock;
mod data_dir;
mod drain;
mod file;
mod handover;
mod log;
mod metrics;
mod notify;
mod priority;
mod program;
mod readiness;
mod tasks;

pub use admin::Admin;
pub use bind::{BindError, bind, bind_std, bind_udp};
pub use data_dir::{DataDir, DataDirError};
pub use drain::Drain;
pub use file::{WriteError, write_atomic};
pub use handover::{HandoverError, Heir, Inherited, Offer};
pub use log::{LogFormat, LogOptions, log_format, start};
pub use metrics::Metrics;
pub use notify::serving;
pub use program::{CommonOptions, Process, Runtime, aside, main, report, sentence};
pub use readiness::Readiness;
pub use tasks::{Outcome, Tasks};
