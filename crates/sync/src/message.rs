//! What travels between a [`Feed`](crate::Feed) and a [`Replica`](crate::Replica), and the words it is said in.

use crate::hash::Hash;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Names an item within its view.
pub type Key = Arc<str>;
/// What an item says; opaque here, shared and never copied.
pub type Payload = Bytes;
/// A place in one view's history.
pub type Rev = u64;

/// A place in a history of a view. The default, which no view is ever at, means "I hold nothing of any history".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cursor {
    /// Names the history: a view made anew gets a new one.
    pub epoch: u64,
    /// The place in it.
    pub rev: Rev,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}@{}", self.epoch, self.rev)
    }
}

/// The truth a publisher tells: which store, and how far. Survives the publisher's process, unlike a [`Cursor`].
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Lineage {
    /// Random, made with the publisher's store and kept with it.
    pub history: u64,
    /// The store's revision.
    pub revision: u64,
}

impl Lineage {
    /// Whether this continues `held`: the same history, not behind it.
    pub fn continues(self, held: Lineage) -> bool {
        self.history == held.history && self.revision >= held.revision
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {} of history {:016x}", self.revision, self.history)
    }
}

/// From follower to publisher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Up {
    /// Opens a session.
    Hello(Hello),
    /// A slice of the answer to [`Down::Resync`].
    Inventory(Inventory),
    /// "Applied up to here, and refused these, now or earlier." A reject never blocks the items around it.
    Ack {
        /// The [`Delta::upto`] of the transaction.
        upto: Cursor,
        /// Everything that stands refused.
        rejects: Vec<Reject>,
    },
    /// "Yours is not the history I hold, or an older part of it; I keep mine."
    Decline {
        /// What the follower holds.
        held: Lineage,
    },
}

/// "I hold everything up to here, except what I refused."
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Hello {
    /// Where to resume.
    pub cursor: Cursor,
    /// Of which truth, when anything is held.
    pub lineage: Option<Lineage>,
    /// Everything that stands refused.
    pub rejects: Vec<Reject>,
    /// Please compare hashes, even if the cursor could be resumed.
    pub compare: bool,
}

/// Hashes of what is held, so that only differences travel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inventory {
    /// What the follower last said: the differences will build on it.
    pub at: Cursor,
    /// Counts the slices, from 0.
    pub part: u32,
    /// Items by key, ascending over all slices.
    pub held: Vec<(Key, Hash)>,
    /// Whether this is the last slice.
    pub last: bool,
}

/// From publisher to follower.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Down {
    /// Answers Hello, before anything else; also says that a declined publisher has moved on.
    Welcome(Welcome),
    /// The cursor is of another history or too old: send an inventory.
    Resync,
    /// A slice of a transaction.
    Delta(Delta),
}

/// Who is speaking.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Welcome {
    /// The truth the publisher tells.
    pub lineage: Lineage,
    /// Where its view is; all deltas of the session are of this epoch.
    pub head: Cursor,
}

/// One slice of a transaction. Nothing of it shows before the slice with `last`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delta {
    /// What it builds on: the cursor the follower last said.
    pub from: Cursor,
    /// Where the transaction leads.
    pub upto: Cursor,
    /// The truth as of `upto`.
    pub lineage: Lineage,
    /// Whether it answers an inventory; else it is all that changed after `from`.
    pub compared: bool,
    /// Counts the slices, from 0.
    pub part: u32,
    /// Whether this is the last slice.
    pub last: bool,
    /// New and changed items.
    pub set: Vec<(Key, Payload)>,
    /// Items that are no more.
    pub removed: Vec<Key>,
}

/// An item that a follower refused, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reject {
    /// Which item.
    pub key: Key,
    /// For people: what is wrong with it.
    pub reason: String,
}

/// The other side said something it cannot have said in this session. The driver closes the stream; both halves
/// resume from what they truly hold.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Confused {
    /// A message that has no place in the present state.
    #[error("{message} came while {state}; the stream is closed and resumes by cursor")]
    Unexpected {
        /// What came.
        message: &'static str,
        /// What was expected, in words.
        state: &'static str,
    },
    /// A message about something else than what this session is about.
    #[error("{what} is of {said}, not of {known}; the stream is closed and resumes by cursor")]
    Elsewhere {
        /// Which message or field.
        what: &'static str,
        /// What it said.
        said: Cursor,
        /// What it had to say.
        known: Cursor,
    },
    /// A slice is missing, repeated, or of another transaction.
    #[error("slice {part} came instead of slice {awaited}; the stream is closed and resumes by cursor")]
    Slice {
        /// Which came.
        part: u32,
        /// Which was next.
        awaited: u32,
    },
    /// More than this side is ready to hold for a peer.
    #[error("{what} is larger than {limit}; does the peer follow the protocol?")]
    TooMuch {
        /// What grew.
        what: &'static str,
        /// Its limit.
        limit: usize,
    },
}
