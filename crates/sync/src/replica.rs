//! The follower's half: keeps the last good state, whatever the publisher or the network does.

use crate::fault::fault;
use crate::hash::hash_of;
use crate::message::{Confused, Cursor, Delta, Down, Hello, Inventory, Key, Lineage, Payload, Reject, Up, Welcome};
use crate::slice::Slice;
use std::collections::BTreeMap;
use std::fmt;

/// Bytes of one unfinished transaction: several times the largest view we plan for (100,000 items of 1 KiB).
const STAGED_BYTES_MAX: usize = 512 * 1024 * 1024;

/// Rejects told in one message; an operator who has more than these reads the first ones first.
const REJECTS_TOLD: usize = 1000;
/// Bytes of a reason that are kept; a schema error with its path takes about 200.
const REASON_BYTES_MAX: usize = 1000;

/// What to think of a publisher that tells another or an older history than the one held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Absence {
    /// The publisher is durable: it lost something. Keep everything, say so, and wait for an operator.
    Keep,
    /// The publisher is ephemeral: what it says now is how it is.
    Follow,
}

/// The publisher does not tell the history held here. What is held stays, and goes on being used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Estranged {
    /// What is held.
    pub held: Lineage,
    /// What the publisher offered.
    pub offered: Lineage,
}

impl fmt::Display for Estranged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { held, offered } = self;
        if held.history == offered.history {
            write!(
                f,
                "the publisher fell back from revision {} to {}; keeping what is held",
                held.revision, offered.revision
            )
        } else {
            write!(
                f,
                "the publisher lost its history at revision {} and offers {offered}; keeping what is held",
                held.revision
            )
        }
    }
}

/// Everything a follower must write down to begin again where it was.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kept {
    /// Up to where.
    pub cursor: Cursor,
    /// Of which truth.
    pub lineage: Option<Lineage>,
    /// The last good state.
    pub items: BTreeMap<Key, Payload>,
    /// What was refused.
    pub rejects: Vec<Reject>,
}

/// A complete, judged transaction. It shows once it is [`Replica::apply`]ed; a driver that cannot write it down drops
/// it and closes the stream, and it comes again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transaction {
    /// Where it leads.
    pub upto: Cursor,
    /// The truth as of `upto`.
    pub lineage: Lineage,
    /// Whether it comes from comparing everything: then `rejects` is all there is to refuse.
    pub compared: bool,
    /// Accepted items.
    pub set: Vec<(Key, Payload)>,
    /// Items that are no more.
    pub removed: Vec<Key>,
    /// Refused items.
    pub rejects: Vec<Reject>,
}

/// What a message led to.
#[derive(Debug, Eq, PartialEq)]
pub enum Received {
    /// Nothing to do.
    Nothing,
    /// Send these, in order.
    Reply(Vec<Up>),
    /// Write this down, [`Replica::apply`] it, and send what that returns.
    Transaction(Transaction),
}

/// A follower's copy of a view.
#[derive(Debug)]
pub struct Replica {
    absence: Absence,
    slice: Slice,
    kept: Kept,
    refused: BTreeMap<Key, String>,
    /// Refused by an earlier process; this one may understand it, so it asks to be offered everything again.
    reconsiders: bool,
    estranged: Option<Estranged>,
    session: Session,
    staged: Staged,
}

#[derive(Clone, Copy, Debug)]
enum Session {
    Apart,
    /// Said hello with this cursor.
    Greeted(Cursor),
    /// Welcomed. Deltas are of `epoch` and build on `base`, which is what was said last.
    Following {
        epoch: u64,
        base: Cursor,
        compares: bool,
    },
    /// Said that this history is not ours; what is still on its way is not for us.
    Declined,
}

/// Slices of a transaction, until the last one is here.
#[derive(Debug, Default)]
struct Staged {
    parts: u32,
    upto: Cursor,
    bytes: usize,
    set: Vec<(Key, Payload)>,
    removed: Vec<Key>,
}

impl Replica {
    /// A copy of nothing, yet.
    pub fn new(absence: Absence) -> Self {
        Self::restore(absence, Kept::default())
    }

    /// Begins again with what was written down.
    pub fn restore(absence: Absence, mut kept: Kept) -> Self {
        let refused: BTreeMap<_, _> = kept.rejects.drain(..).map(|Reject { key, reason }| (key, reason)).collect();
        Self {
            absence,
            slice: Slice::default(),
            kept,
            reconsiders: !refused.is_empty() && !fault!(RestartForgetsRejects),
            refused,
            estranged: None,
            session: Session::Apart,
            staged: Staged::default(),
        }
    }

    /// The same, with messages of another size.
    pub fn sliced(self, slice: Slice) -> Self {
        Self { slice, ..self }
    }

    /// Starts a session, new or resumed. Half-received transactions are dropped.
    pub fn connect(&mut self) -> Up {
        if !fault!(KeepsHalfTransactions) {
            self.staged = Staged::default();
        }
        let cursor = self.kept.cursor;
        self.session = Session::Greeted(cursor);
        Up::Hello(Hello { cursor, lineage: self.kept.lineage, rejects: self.told(), compare: self.reconsiders })
    }

    /// Takes in a message. `accept` judges each new payload before any of its transaction shows.
    pub fn receive(
        &mut self,
        message: Down,
        accept: impl Fn(&Key, &Payload) -> Result<(), String>,
    ) -> Result<Received, Confused> {
        match (self.session, message) {
            (Session::Greeted(_) | Session::Declined, Down::Welcome(welcome)) => Ok(self.welcome(welcome)),
            (Session::Declined, Down::Resync | Down::Delta(_)) => Ok(Received::Nothing),
            (Session::Following { epoch, base, compares: false }, Down::Resync) if self.staged.parts == 0 => {
                self.session = Session::Following { epoch, base, compares: true };
                Ok(Received::Reply(self.inventory(base)))
            }
            (Session::Following { epoch, base, compares }, Down::Delta(delta)) if delta.compared == compares => {
                if delta.upto.epoch != epoch {
                    let known = Cursor { epoch, rev: base.rev };
                    return Err(Confused::Elsewhere { what: "delta", said: delta.upto, known });
                }
                if delta.from != base && !fault!(BuildsOnAnything) {
                    return Err(Confused::Elsewhere { what: "base of a delta", said: delta.from, known: base });
                }
                if !self.takes(delta.lineage) {
                    return Ok(self.decline(delta.lineage));
                }
                self.stage(delta, accept)
            }
            (session, message) => Err(Confused::Unexpected { message: name(&message), state: session.name() }),
        }
    }

    /// Shows a transaction. Returns the ack.
    pub fn apply(&mut self, transaction: Transaction) -> Up {
        let Transaction { upto, lineage, compared, set, removed, rejects } = transaction;
        if compared {
            self.refused.clear();
            self.reconsiders = false;
        }
        for key in removed {
            self.kept.items.remove(&key);
            self.refused.remove(&key);
        }
        for (key, payload) in set {
            if !fault!(RejectIsForever) {
                self.refused.remove(&key);
            }
            self.kept.items.insert(key, payload);
        }
        for Reject { key, reason } in rejects {
            if fault!(RejectRemoves) {
                self.kept.items.remove(&key);
            }
            self.refused.insert(key, reason);
        }
        self.kept.cursor = upto;
        self.kept.lineage = Some(lineage);
        if let Session::Following { epoch, .. } = self.session {
            self.session = Session::Following { epoch, base: upto, compares: false };
        }
        Up::Ack { upto, rejects: self.told() }
    }

    /// An operator's word: from now on `lineage` is the truth. Connect again to follow it; until it has sent
    /// something else, what is held stays.
    pub fn adopt(&mut self, lineage: Lineage) {
        if fault!(AdoptEmpties) {
            self.kept.items.clear();
        }
        self.kept.lineage = Some(lineage);
        self.estranged = None;
        self.session = Session::Apart;
    }

    /// The last good state.
    pub fn items(&self) -> &BTreeMap<Key, Payload> {
        &self.kept.items
    }

    /// Up to where; the default while nothing is held.
    pub fn cursor(&self) -> Cursor {
        self.kept.cursor
    }

    /// Which truth is held.
    pub fn lineage(&self) -> Option<Lineage> {
        self.kept.lineage
    }

    /// Set while the publisher tells another history than the one held.
    pub fn estranged(&self) -> Option<Estranged> {
        self.estranged
    }

    /// What stands refused.
    pub fn rejects(&self) -> Vec<Reject> {
        self.refused.iter().map(|(key, reason)| Reject { key: key.clone(), reason: reason.clone() }).collect()
    }

    /// What to write down to begin again here.
    pub fn kept(&self) -> Kept {
        Kept { rejects: self.rejects(), ..self.kept.clone() }
    }

    fn told(&self) -> Vec<Reject> {
        let mut rejects = self.rejects();
        rejects.truncate(REJECTS_TOLD);
        rejects
    }

    fn takes(&self, offered: Lineage) -> bool {
        match (self.absence, self.kept.lineage) {
            (Absence::Follow, _) | (Absence::Keep, None) => true,
            (Absence::Keep, Some(held)) => offered.continues(held) || fault!(FollowsAnyHistory),
        }
    }

    fn welcome(&mut self, Welcome { lineage, head }: Welcome) -> Received {
        if !self.takes(lineage) {
            return self.decline(lineage);
        }
        self.estranged = None;
        match self.session {
            Session::Greeted(base) => {
                self.session = Session::Following { epoch: head.epoch, base, compares: false };
                Received::Nothing
            }
            // It has caught up since we declined, so begin again.
            _ => Received::Reply(vec![self.connect()]),
        }
    }

    fn decline(&mut self, offered: Lineage) -> Received {
        let held = self.kept.lineage.unwrap_or_default();
        self.estranged = Some(Estranged { held, offered });
        self.session = Session::Declined;
        self.staged = Staged::default();
        Received::Reply(vec![Up::Decline { held }])
    }

    fn inventory(&self, at: Cursor) -> Vec<Up> {
        // A refused item is listed with what is held in its place, or not at all: so it is offered again.
        let held = self.kept.items.iter().map(|(key, payload)| (key.clone(), hash_of(payload)));
        let slices = self.slice.cut(held, |(key, _)| key.len() + size_of::<u64>());
        let count = slices.len();
        let number = |(part, held)| Up::Inventory(Inventory { at, part, held, last: part as usize + 1 == count });
        (0u32..).zip(slices).map(number).collect()
    }

    fn stage(
        &mut self,
        delta: Delta,
        accept: impl Fn(&Key, &Payload) -> Result<(), String>,
    ) -> Result<Received, Confused> {
        let Delta { from: _, upto, lineage, compared, part, last, set, removed } = delta;
        if part != self.staged.parts && !fault!(CountsNoSlices) {
            return Err(Confused::Slice { part, awaited: self.staged.parts });
        }
        if part > 0 && upto != self.staged.upto && !fault!(MixesTransactions) {
            return Err(Confused::Elsewhere { what: "slice", said: upto, known: self.staged.upto });
        }
        self.staged.upto = upto;
        let size: usize = set.iter().map(|(key, payload)| key.len() + payload.len()).sum();
        self.staged.bytes += size + removed.iter().map(|key| key.len()).sum::<usize>();
        if self.staged.bytes > STAGED_BYTES_MAX {
            return Err(Confused::TooMuch { what: "a transaction", limit: STAGED_BYTES_MAX });
        }
        self.staged.parts += 1;
        self.staged.set.extend(set);
        self.staged.removed.extend(removed);
        if fault!(ShowsSlices) {
            self.kept.items.extend(self.staged.set.iter().cloned());
        }
        if !last {
            return Ok(Received::Nothing);
        }
        let Staged { set: offered, removed, .. } = std::mem::take(&mut self.staged);
        let mut set = Vec::with_capacity(offered.len());
        let mut rejects = Vec::new();
        for (key, payload) in offered {
            // What is held was good once; it does not become bad by being said again.
            let held = self.kept.items.get(&key) == Some(&payload);
            match if held { Ok(()) } else { accept(&key, &payload) } {
                Ok(()) => set.push((key, payload)),
                Err(mut reason) => {
                    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
                    rejects.push(Reject { key, reason });
                }
            }
            if fault!(RejectBlocks) && !rejects.is_empty() {
                break;
            }
        }
        Ok(Received::Transaction(Transaction { upto, lineage, compared, set, removed, rejects }))
    }
}

impl Session {
    fn name(self) -> &'static str {
        match self {
            Session::Apart => "no session was open",
            Session::Greeted(_) => "a welcome was awaited",
            Session::Following { compares: false, .. } => "a delta was awaited",
            Session::Following { compares: true, .. } => "the answer to an inventory was awaited",
            Session::Declined => "the publisher was declined",
        }
    }
}

fn name(message: &Down) -> &'static str {
    match message {
        Down::Welcome(_) => "a welcome",
        Down::Resync => "a resync",
        Down::Delta(_) => "a delta",
    }
}
