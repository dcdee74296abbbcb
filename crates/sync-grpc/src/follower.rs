//! What a program follows: the last good state, whoever publishes it and whether the line is up or not.

use crate::journal::{Flush, Journal, JournalError};
use process::clock::unix_ms;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use sync::{
    Absence, Confused, Cursor, Down, Estranged, Key, Lineage, Payload, Received, Reject, Replica, Transaction, Up,
};
use tokio::sync::watch;

type Accept = dyn Fn(&Key, &Payload) -> Result<(), String> + Send + Sync;

/// The last good state of a followed view.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// All items.
    pub items: Arc<BTreeMap<Key, Payload>>,
    /// Up to where; the default while nothing was ever received.
    pub cursor: Cursor,
    /// Of which truth.
    pub lineage: Option<Lineage>,
    /// Set while the publisher tells another history than the one held; then what is held stays.
    pub estranged: Option<Estranged>,
    /// What stands refused.
    pub rejects: Vec<Reject>,
    /// Keys that the last transaction set or removed. Whoever may have missed a transaction compares `items` instead.
    pub changed: Vec<Key>,
}

/// The line to the publisher; with [`Held`] this is how fresh one's knowledge is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Link {
    /// Whether a stream is open. Then the peer answered within the last 3 s.
    pub connected: bool,
    /// Since when it is so, in Unix milliseconds; 0 before the first attempt.
    pub since_ms: u64,
    /// When the peer was last heard, in Unix milliseconds; 0 for never. While connected this is when it connected.
    pub last_heard_ms: u64,
    /// Attempts since the last connection.
    pub attempts: u32,
    /// Why there is no connection.
    pub error: Option<String>,
}

impl Link {
    /// Milliseconds since the peer was surely there; `None` for never.
    pub fn age_ms(&self, now_ms: u64) -> Option<u64> {
        match self {
            Link { connected: true, .. } => Some(0),
            Link { last_heard_ms: 0, .. } => None,
            Link { last_heard_ms, .. } => Some(now_ms.saturating_sub(*last_heard_ms)),
        }
    }
}

/// A followed view. Cheap to clone; survives reconnects.
#[derive(Clone)]
pub struct Follower {
    inner: Arc<Inner>,
}

struct Inner {
    copy: Mutex<LastGood>,
    held: watch::Sender<Arc<Held>>,
    link: watch::Sender<Link>,
    /// Fires when an operator adopted another history.
    adopted: watch::Sender<()>,
}

struct LastGood {
    replica: Replica,
    journal: Option<Journal>,
    accept: Arc<Accept>,
    /// Counts streams: a new one takes over from one that has not noticed its end.
    stream: u64,
    /// Another process has the journal; see [`Follower::leave_disk`].
    away: bool,
}

impl LastGood {
    fn journal(&mut self) -> Option<&mut Journal> {
        self.journal.as_mut().filter(|_| !self.away)
    }
}

/// Why a stream cannot go on with a follower.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FollowError {
    #[error(transparent)]
    Confused(#[from] Confused),
    #[error("a newer connection of the same peer took over")]
    Superseded,
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// What a message led to.
pub(crate) enum Step {
    Reply(Vec<Up>),
    /// Must be [`Attached::commit`]ted before anything else.
    Write(Transaction),
}

impl Follower {
    /// Keeps what it follows in memory only.
    pub fn memory(absence: Absence) -> Self {
        Self::of(Replica::new(absence), None)
    }

    /// Begins with what `path` holds. Every transaction is written there, and synced, before it is acknowledged.
    pub fn durable(path: &Path, absence: Absence) -> Result<Self, JournalError> {
        Self::journaled(path, absence, Flush::Disk)
    }

    /// Like [`durable`](Self::durable) without waiting for the disk: it outlives the process but perhaps not a power
    /// cut, after which an older state is held until the publisher is heard again.
    pub fn kept(path: &Path, absence: Absence) -> Result<Self, JournalError> {
        Self::journaled(path, absence, Flush::Kernel)
    }

    fn journaled(path: &Path, absence: Absence, flush: Flush) -> Result<Self, JournalError> {
        let (journal, replica) = Journal::open(path, absence, flush)?;
        Ok(Self::of(replica, Some(journal)))
    }

    /// Judges each new payload; the reason of an `Err` goes back to the publisher, and the last good item stays.
    /// Called before the follower is handed to a stream.
    pub fn accepting(self, accept: impl Fn(&Key, &Payload) -> Result<(), String> + Send + Sync + 'static) -> Self {
        self.copy().accept = Arc::new(accept);
        self
    }

    /// Sees every state from now on; slow readers skip some.
    pub fn watch(&self) -> watch::Receiver<Arc<Held>> {
        self.inner.held.subscribe()
    }

    /// The state now.
    pub fn held(&self) -> Arc<Held> {
        self.inner.held.borrow().clone()
    }

    /// The line to the publisher.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.subscribe()
    }

    /// An operator's word: the history that the publisher offers is the truth. Without effect when not estranged.
    /// Blocks for one write when durable.
    pub fn adopt(&self) -> Result<(), JournalError> {
        let mut copy = self.copy();
        let Some(Estranged { offered, .. }) = copy.replica.estranged() else { return Ok(()) };
        if let Some(journal) = copy.journal() {
            journal.append_adoption(offered)?;
        }
        copy.replica.adopt(offered);
        self.show(&copy.replica, Vec::new());
        drop(copy);
        self.inner.adopted.send_replace(());
        Ok(())
    }

    /// Another process reads the copy on disk and goes on writing it: this one goes on in memory.
    pub fn leave_disk(&self) {
        self.copy().away = true;
    }

    /// It did not after all: what is held now is written down, in the place of what was there. Blocks for the disk.
    pub fn back_to_disk(&self) -> Result<(), JournalError> {
        let mut copy = self.copy();
        let LastGood { replica, journal, away, .. } = &mut *copy;
        *away = false;
        journal.as_mut().map_or(Ok(()), |journal| journal.rewrite(&replica.kept()))
    }

    /// Takes the follower for a stream; an earlier stream loses it.
    pub(crate) fn attach(&self) -> (Attached, Up) {
        let mut copy = self.copy();
        copy.stream += 1;
        let attached = Attached { follower: self.clone(), stream: copy.stream };
        let hello = copy.replica.connect();
        drop(copy);
        self.inner.link.send_modify(|link| {
            let now = unix_ms();
            *link = Link { connected: true, since_ms: now, last_heard_ms: now, attempts: 0, error: None };
        });
        (attached, hello)
    }

    /// Fires when an operator adopted another history.
    pub(crate) fn adoptions(&self) -> watch::Receiver<()> {
        self.inner.adopted.subscribe()
    }

    /// An attempt to connect failed.
    pub(crate) fn missed(&self, error: &str) {
        self.inner.link.send_modify(|link| {
            if link.connected || link.since_ms == 0 {
                link.since_ms = unix_ms();
            }
            link.connected = false;
            link.attempts = link.attempts.saturating_add(1);
            link.error = Some(error.to_owned());
        });
    }

    fn of(replica: Replica, journal: Option<Journal>) -> Self {
        let accept: Arc<Accept> = Arc::new(|_: &Key, _: &Payload| Ok(()));
        let follower = Self {
            inner: Arc::new(Inner {
                copy: Mutex::new(LastGood { replica, journal, accept, stream: 0, away: false }),
                held: watch::Sender::new(Arc::default()),
                link: watch::Sender::new(Link::default()),
                adopted: watch::Sender::new(()),
            }),
        };
        let copy = follower.copy();
        follower.show(&copy.replica, copy.replica.items().keys().cloned().collect());
        drop(copy);
        follower
    }

    fn show(&self, replica: &Replica, changed: Vec<Key>) {
        self.inner.held.send_replace(Arc::new(Held {
            items: Arc::new(replica.items().clone()),
            cursor: replica.cursor(),
            lineage: replica.lineage(),
            estranged: replica.estranged(),
            rejects: replica.rejects(),
            changed,
        }));
    }

    /// Shows everything but the items, which have not changed.
    fn show_state(&self, replica: &Replica) {
        let items = self.inner.held.borrow().items.clone();
        self.inner.held.send_replace(Arc::new(Held {
            items,
            cursor: replica.cursor(),
            lineage: replica.lineage(),
            estranged: replica.estranged(),
            rejects: replica.rejects(),
            changed: Vec::new(),
        }));
    }

    fn copy(&self) -> MutexGuard<'_, LastGood> {
        self.inner.copy.lock().expect("no thread panics while it holds a replica")
    }

    #[cfg(test)]
    pub(crate) fn swap_file(&self, file: std::fs::File) -> std::fs::File {
        self.copy().journal.as_mut().unwrap().swap_file(file)
    }
}

/// A follower in the hands of one stream.
pub(crate) struct Attached {
    follower: Follower,
    stream: u64,
}

impl Attached {
    /// Takes in a message of the publisher.
    pub(crate) fn receive(&self, message: Down) -> Result<Step, FollowError> {
        let mut copy = self.copy()?;
        let accept = copy.accept.clone();
        let before = copy.replica.estranged();
        let step = match copy.replica.receive(message, |key, payload| accept(key, payload))? {
            Received::Nothing => Step::Reply(Vec::new()),
            Received::Reply(out) => Step::Reply(out),
            Received::Transaction(transaction) => Step::Write(transaction),
        };
        let now = copy.replica.estranged();
        if now != before {
            match now {
                Some(estranged) => tracing::warn!(%estranged, "a publisher does not tell the history held here"),
                None => tracing::info!("the publisher tells the history held here again"),
            }
            self.follower.show_state(&copy.replica);
        }
        Ok(step)
    }

    /// Whether the next [`commit`](Self::commit) waits for a disk.
    pub(crate) fn waits_for_disk(&self) -> bool {
        self.copy().is_ok_and(|mut copy| copy.journal().is_some_and(|journal| journal.waits() || journal.has_grown()))
    }

    /// Writes a transaction down, shows it, and returns the ack.
    pub(crate) fn commit(&self, transaction: Transaction) -> Result<Up, FollowError> {
        let mut copy = self.copy()?;
        let has_grown = copy.journal().is_some_and(|journal| journal.has_grown());
        if let Some(journal) = copy.journal() {
            journal.append(&transaction)?;
        }
        let set = transaction.set.iter().map(|(key, _)| key);
        let changed: Vec<Key> = set.chain(&transaction.removed).cloned().collect();
        let ack = copy.replica.apply(transaction);
        if changed.is_empty() {
            self.follower.show_state(&copy.replica);
        } else {
            self.follower.show(&copy.replica, changed);
        }
        let LastGood { replica, journal, away, .. } = &mut *copy;
        if let Some(journal) = journal.as_mut().filter(|_| !*away && has_grown)
            && let Err(error) = journal.rewrite(&replica.kept())
        {
            // What matters is written; the file is only longer than need be.
            tracing::warn!(%error, "journal not rewritten");
        }
        Ok(ack)
    }

    /// Begins anew on the same stream, after an adoption.
    pub(crate) fn greet_again(&self) -> Result<Up, FollowError> {
        Ok(self.copy()?.replica.connect())
    }

    /// The stream ended.
    pub(crate) fn detach(&self, heard_ms: u64, error: Option<String>) {
        if self.copy().is_ok() {
            let now = unix_ms();
            self.follower.inner.link.send_modify(|link| {
                let last_heard_ms = heard_ms.max(link.last_heard_ms);
                *link = Link { connected: false, since_ms: now, last_heard_ms, attempts: link.attempts, error };
            });
        }
    }

    fn copy(&self) -> Result<MutexGuard<'_, LastGood>, FollowError> {
        let copy = self.follower.copy();
        if copy.stream == self.stream { Ok(copy) } else { Err(FollowError::Superseded) }
    }
}
