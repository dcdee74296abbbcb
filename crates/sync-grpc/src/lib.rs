//! Drives [`sync`] over mutually authenticated gRPC.
//!
//! A [`Published`] view and a [`Follower`] are what programs hold; both are cheap to clone and outlive any connection.
//! [`dial`] and [`service`] carry them: one stream per pair of processes, any number of channels on it, in both
//! directions. Each stream is one task that sleeps until a frame comes, a view changes or the line breaks; nothing
//! polls, and what a slow follower has not taken yet waits in the view, not in a queue.

mod admission;
mod chance;
mod dial;
mod follower;
mod io;
mod journal;
mod limits;
mod published;
mod requests;
mod serve;
mod service;
mod session;
mod silence;
mod wire;

pub use admission::Admission;
pub use dial::{Dial, TlsFor, dial};
pub use follower::{Follower, Held, Link};
pub use io::Peer;
pub use journal::JournalError;
pub use limits::*;
pub use published::Published;
pub use serve::{ServeError, serve};
pub use service::{Admit, Refusal, Service, Session, service};
pub use session::{Channels, Progress};
pub use sync::{Absence, Cursor, Estranged, Key, Lineage, Payload, Reject};

#[cfg(test)]
mod tests;
