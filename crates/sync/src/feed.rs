//! The publisher's half: one per follower, a few words of state, no queue.

use crate::fault::fault;
use crate::hash::Hash;
use crate::message::{Confused, Cursor, Delta, Down, Hello, Inventory, Key, Lineage, Payload, Reject, Up, Welcome};
use crate::slice::Slice;
use crate::view::View;
use std::collections::BTreeMap;

/// Items a follower may list: ten times the largest view we plan for (100,000 workloads in one zone).
const INVENTORY_ITEMS_MAX: usize = 1_000_000;

/// What the publisher knows of one follower in one session.
#[derive(Debug, Default)]
pub struct Feed {
    state: State,
    slice: Slice,
    /// The lineage last said, which is what a decline declines.
    offered: Lineage,
    acked: Option<Cursor>,
    rejects: Vec<Reject>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    AwaitHello,
    /// Said hello to a view that was never filled: an answer now would read "there is nothing".
    AwaitView {
        cursor: Cursor,
        compare: bool,
    },
    AwaitInventory {
        at: Cursor,
        parts: u32,
        held: BTreeMap<Key, Hash>,
    },
    /// Holds everything up to the cursor.
    Idle(Cursor),
    /// A transaction is on its way. Further changes wait in the view, where they coalesce.
    AwaitAck(Cursor),
    /// Keeps another history than the one offered.
    Declined,
}

impl Feed {
    /// A session that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with messages of another size.
    pub fn sliced(slice: Slice) -> Self {
        Self { slice, ..Self::default() }
    }

    /// Takes in a message; what comes back goes out, in order.
    pub fn receive(&mut self, message: Up, view: &View, lineage: Lineage) -> Result<Vec<Down>, Confused> {
        match (std::mem::take(&mut self.state), message) {
            (State::AwaitHello | State::Declined, Up::Hello(hello)) => {
                let Hello { cursor, lineage: _, rejects, compare } = hello;
                self.rejects = rejects;
                self.state = State::AwaitView { cursor, compare };
                Ok(self.poll(view, lineage))
            }
            (State::AwaitInventory { at, parts, mut held }, Up::Inventory(slice)) => {
                if slice.at != at {
                    return Err(Confused::Elsewhere { what: "inventory", said: slice.at, known: at });
                }
                if slice.part != parts {
                    return Err(Confused::Slice { part: slice.part, awaited: parts });
                }
                let Inventory { at, part: _, held: more, last } = slice;
                held.extend(more);
                if held.len() > INVENTORY_ITEMS_MAX {
                    return Err(Confused::TooMuch { what: "inventory", limit: INVENTORY_ITEMS_MAX });
                }
                if !last && !fault!(HalfInventory) {
                    self.state = State::AwaitInventory { at, parts: parts + 1, held };
                    return Ok(Vec::new());
                }
                Ok(self.send(at, true, differences(view, held), view, lineage))
            }
            (State::AwaitAck(sent), Up::Ack { upto, rejects }) => {
                if upto != sent {
                    return Err(Confused::Elsewhere { what: "ack", said: upto, known: sent });
                }
                self.acked = Some(sent);
                self.rejects = rejects;
                self.state = State::Idle(if fault!(AckMeansHead) { view.head() } else { sent });
                Ok(self.poll(view, lineage))
            }
            (
                State::AwaitHello | State::AwaitInventory { .. } | State::Idle(_) | State::AwaitAck(_),
                Up::Decline { .. },
            ) => {
                self.acked = None;
                self.state = State::Declined;
                Ok(self.poll(view, lineage))
            }
            (state, message) => Err(Confused::Unexpected { message: name(&message), state: state.name() }),
        }
    }

    /// Call after the view or its lineage changed. Sends at most one transaction at a time.
    pub fn poll(&mut self, view: &View, lineage: Lineage) -> Vec<Down> {
        match self.state {
            State::AwaitView { .. } if view.is_blank() => Vec::new(),
            State::AwaitView { cursor, compare } => {
                let mut answer = vec![self.welcome(view, lineage)];
                if view.can_resume(cursor) {
                    self.acked = Some(cursor);
                }
                self.state = State::Idle(cursor);
                answer.extend(if compare { self.resync(cursor) } else { self.poll(view, lineage) });
                answer
            }
            State::Idle(at) if !view.can_resume(at) => self.resync(at),
            State::Idle(at) if at != view.head() => {
                let changes = view.since(at.rev).map(|(key, payload)| (key.clone(), payload.cloned()));
                self.send(at, false, changes.collect(), view, lineage)
            }
            // It declined an earlier lineage; perhaps it takes this one.
            State::Declined if self.offered != lineage && !fault!(DeclineIsForever) => {
                self.state = State::AwaitHello;
                vec![self.welcome(view, lineage)]
            }
            _ => Vec::new(),
        }
    }

    /// What the follower refuses at present; goes into policy status.
    pub fn rejects(&self) -> &[Reject] {
        &self.rejects
    }

    /// What the follower has applied, as far as this session knows.
    pub fn acked(&self) -> Option<Cursor> {
        self.acked
    }

    /// Whether the follower keeps another history than ours.
    pub fn declined(&self) -> bool {
        matches!(self.state, State::Declined)
    }

    fn resync(&mut self, at: Cursor) -> Vec<Down> {
        self.state = State::AwaitInventory { at, parts: 0, held: BTreeMap::new() };
        vec![Down::Resync]
    }

    fn welcome(&mut self, view: &View, lineage: Lineage) -> Down {
        self.offered = lineage;
        Down::Welcome(Welcome { lineage, head: view.head() })
    }

    fn send(
        &mut self,
        from: Cursor,
        compared: bool,
        changes: Vec<(Key, Option<Payload>)>,
        view: &View,
        lineage: Lineage,
    ) -> Vec<Down> {
        let upto = view.head();
        self.offered = lineage;
        self.state = State::AwaitAck(upto);
        let slices = self.slice.cut(changes, |(key, payload)| key.len() + payload.as_ref().map_or(0, Payload::len));
        let count = slices.len();
        let deltas = (0u32..).zip(slices).map(|(part, changes)| {
            let mut delta = Delta {
                from,
                upto,
                lineage,
                compared,
                part,
                last: part as usize + 1 == count,
                set: Vec::new(),
                removed: Vec::new(),
            };
            for (key, payload) in changes {
                match payload {
                    Some(payload) => delta.set.push((key, payload)),
                    None => delta.removed.push(key),
                }
            }
            Down::Delta(delta)
        });
        deltas.collect()
    }
}

impl State {
    fn name(&self) -> &'static str {
        match self {
            State::AwaitHello => "a hello was awaited",
            State::AwaitView { .. } => "the view was not filled yet",
            State::AwaitInventory { .. } => "an inventory was awaited",
            State::Idle(_) => "nothing was awaited",
            State::AwaitAck(_) => "an ack was awaited",
            State::Declined => "the follower had declined",
        }
    }
}

fn name(message: &Up) -> &'static str {
    match message {
        Up::Hello(_) => "a hello",
        Up::Inventory(_) => "an inventory",
        Up::Ack { .. } => "an ack",
        Up::Decline { .. } => "a decline",
    }
}

/// What turns `held` into the view, in an order that depends on nothing else.
fn differences(view: &View, mut held: BTreeMap<Key, Hash>) -> Vec<(Key, Option<Payload>)> {
    let mut changes: Vec<_> = view
        .hashed()
        .filter(|(key, hash, _)| held.remove(*key) != Some(*hash))
        .map(|(key, _, payload)| (key.clone(), Some(payload.clone())))
        .collect();
    if !fault!(ResyncKeepsGone) {
        changes.extend(held.into_keys().map(|key| (key, None)));
    }
    changes
}
