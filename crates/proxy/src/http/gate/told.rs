//! What the gate of a connection and whoever has that connection tell each other.

use super::Bad;
use crate::limits::STEPS_PER_TURN;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// One for each connection. Requests are numbered from 1, as they come.
#[derive(Debug, Default)]
pub struct Told {
    begun: AtomicU32,
    answered: AtomicU32,
    switched: AtomicBool,
    blamed: AtomicBool,
    refused: OnceLock<(u32, Bad)>,
    over: AtomicBool,
    steps: AtomicU32,
    spent: AtomicBool,
    leaving: AtomicBool,
    held: AtomicBool,
}

impl Told {
    /// A request begins. `Some`: it stands for one that was refused.
    pub fn begin(&self) -> Option<Bad> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.refused.get().filter(|(refused, _)| *refused == number).map(|(_, bad)| *bad)
    }

    /// The request that began last is answered; `switched`: bytes of another protocol follow; `blamed`: it was the caller's
    /// fault that it was not served.
    pub fn answered(&self, switched: bool, blamed: bool) {
        self.switched.store(switched, Ordering::Relaxed);
        self.blamed.store(blamed, Ordering::Relaxed);
        self.answered.store(self.begun.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Whether the last answer blamed the caller.
    pub fn is_blamed(&self) -> bool {
        self.blamed.load(Ordering::Relaxed)
    }

    /// Requests that began so far.
    pub fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
    }

    /// Whether request `number` was answered by another protocol; `None` while it is not answered.
    pub fn agreed(&self, number: u32) -> Option<bool> {
        (self.answered.load(Ordering::Acquire) >= number).then(|| self.switched.load(Ordering::Relaxed))
    }

    /// Request `number` stands for one that was refused. A connection is refused once.
    pub fn refuse(&self, number: u32, bad: Bad) {
        let _ = self.refused.set((number, bad));
    }

    /// The connection is polled.
    pub fn turn_begins(&self) {
        self.over.store(false, Ordering::Relaxed);
        self.steps.store(STEPS_PER_TURN, Ordering::Relaxed);
    }

    /// Whether a request may take one more step in this turn.
    pub fn step(&self) -> bool {
        let left = self.steps.load(Ordering::Relaxed);
        self.steps.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Nothing more may be read before the connection is polled again.
    pub fn turn_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_turn_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Whether there was more to do than this turn held.
    pub fn is_turn_used(&self) -> bool {
        self.is_turn_over() || self.steps.load(Ordering::Relaxed) == 0
    }

    /// The proxy leaves: the connection ends for no fault of the caller.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// We end the connection because of what the caller did. It has been told, and is not closed yet.
    pub fn hold(&self) {
        self.held.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Too much was taken back.
    pub fn spend(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }

    /// So much was taken back on it that the peer is about to lose patience, and others share it: another connection costs
    /// less than theirs.
    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }
}
