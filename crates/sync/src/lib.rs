//! Replicates a [`View`] to its followers: by delta, in whole transactions, acknowledged, resumable.
//!
//! Nothing in here knows a socket, a clock or a task. A driver carries messages between one [`Feed`] (the publisher's
//! half, one per follower) and one [`Replica`] (the follower's half), so that a seeded simulation can run thousands of
//! lossy sessions in a second.
//!
//! ```text
//!           Hello, Inventory, Ack, Decline
//!         <--------------------------------
//! View -> Feed                      Replica -> whoever uses the items
//!         -------------------------------->
//!              Welcome, Resync, Delta
//! ```
//!
//! Three rules carry the rest:
//! 1. *Every delta says what it builds on.* A replica applies it to exactly that, or not at all, so a message of
//!    another session, lost or repeated, is noticed instead of believed.
//! 2. *One transaction is in flight.* Changes made meanwhile wait in the view, where they coalesce: a slow follower
//!    gets fewer and larger deltas, and no follower has a queue.
//! 3. *Absence never deletes.* A publisher says which history it tells ([`Lineage`]); a replica that keeps
//!    ([`Absence::Keep`]) declines an unknown or older one and goes on showing what it holds.

mod fault;
mod feed;
mod hash;
mod message;
mod replica;
mod slice;
mod view;

pub use feed::Feed;
pub use hash::{Hash, hash_of};
pub use message::{Confused, Cursor, Delta, Down, Hello, Inventory, Key, Lineage, Payload, Reject, Rev, Up, Welcome};
pub use replica::{Absence, Estranged, Kept, Received, Replica, Transaction};
pub use slice::{SLICE_BYTES, SLICE_ITEMS, Slice};
pub use view::{REMOVALS_KEPT, View};

#[cfg(test)]
mod simulate;
