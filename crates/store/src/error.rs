//! What can go wrong with a store, for people: what failed, on what, and what to do.

use api::{Key, Object};
use std::path::PathBuf;

/// An operation that did not happen, or (only [`StoreError::Unavailable`] on a write) may have.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The object is not at the expected revision.
    #[error("{key} was changed meanwhile: {}; read it again and apply your change to what is there", found(.current))]
    Conflict {
        /// Which object.
        key: Key,
        /// What is there, with its revision; `None` when nothing is.
        current: Option<Box<Object>>,
    },
    /// The store no longer knows every change after the revision.
    #[error("changes after revision {after} are no longer kept; list everything and watch from there")]
    Compacted {
        /// Where the watch wanted to begin.
        after: u64,
    },
    /// No room.
    #[error("the disk is full: nothing was written; free space in {place}")]
    Full {
        /// Folder, or address of the store.
        place: String,
    },
    /// An object of unreasonable size.
    #[error("{key} has {bytes} bytes as JSON; a store takes at most {limit}; split it into smaller objects")]
    Large {
        /// Which object.
        key: Key,
        /// As JSON.
        bytes: usize,
        /// What a store takes.
        limit: usize,
    },
    /// Written by a newer version.
    #[error(
        "the store {place} was written by a newer version (format {found}, this one knows up to {known}); \
         install that version again, or restore a backup into an empty store"
    )]
    Newer {
        /// File, or address of the store.
        place: String,
        /// Format of the store.
        found: u64,
        /// Newest format this program knows.
        known: u64,
    },
    /// Another process has the file open.
    #[error("the store {path} is in use by another process; stop it or choose another with --store")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The content makes no sense.
    #[error("the store {place} is damaged: {detail}; restore a backup into an empty store")]
    Corrupt {
        /// File, or address of the store.
        place: String,
        /// What makes no sense.
        detail: String,
    },
    /// The store does not answer. A write may or may not have happened.
    #[error(
        "the store {place} does not answer: {detail}; is it running and reachable? read an object before writing it again"
    )]
    Unavailable {
        /// File, or address of the store.
        place: String,
        /// In its words.
        detail: String,
    },
    /// Restoring over something.
    #[error("the store holds {objects} objects; a backup is restored into an empty store only")]
    NotEmpty {
        /// How many are there.
        objects: usize,
    },
    /// A restore was interrupted, and what is there is half a backup.
    #[error("the store {place} holds half of a backup, as a restore was interrupted; restore it again")]
    HalfRestored {
        /// Address of the store.
        place: String,
    },
    /// The file cannot be opened, read or written.
    #[error("cannot use the store {place}: {detail}; is its folder there, and writable by this user?")]
    Unusable {
        /// The file.
        place: String,
        /// The kernel's words.
        detail: String,
    },
    /// Not the name of a store.
    #[error("`{given}` is not a store; write memory, file:PATH or etcd:http://HOST:2379,http://HOST:2379")]
    Url {
        /// As written.
        given: String,
    },
    /// A store this program was built without.
    #[error("this program was built without {feature}; build it with `--features {feature}` or choose --store file")]
    NotBuilt {
        /// The cargo feature.
        feature: &'static str,
    },
}

fn found(current: &Option<Box<Object>>) -> String {
    match current.as_ref().map(|object| object.metadata.revision) {
        None => "it is not there".to_owned(),
        Some(Some(revision)) => format!("it is at revision {revision}"),
        Some(None) => "it is there".to_owned(),
    }
}

impl StoreError {
    /// Whether doing the same again later can help without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    pub(crate) fn conflict(key: &Key, current: Option<Object>) -> Self {
        Self::Conflict { key: key.clone(), current: current.map(Box::new) }
    }

    pub(crate) fn corrupt(place: &str, detail: impl ToString) -> Self {
        Self::Corrupt { place: place.to_owned(), detail: detail.to_string() }
    }
}
