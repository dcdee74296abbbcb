//! What the gate of a connection and whoever has that connection tell each other.

use super::Bad;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

/// One for each connection. Requests are numbered from 1, as they come.
#[derive(Debug, Default)]
pub struct Told {
    begun: AtomicU32,
    answered: AtomicU32,
    switched: AtomicBool,
    refused: OnceLock<(u32, Bad)>,
    over: AtomicBool,
    spent: AtomicBool,
}

impl Told {
    /// A request begins. `Some`: it stands for one that was refused.
    pub fn begin(&self) -> Option<Bad> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        self.refused.get().filter(|(refused, _)| *refused == number).map(|(_, bad)| *bad)
    }

    /// The request that began last is answered; `switched`: bytes of another protocol follow.
    pub fn answered(&self, switched: bool) {
        self.switched.store(switched, Ordering::Relaxed);
        self.answered.store(self.begun.load(Ordering::Relaxed), Ordering::Release);
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

    /// Nothing more may be read before the connection is polled again.
    pub fn turn_over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_turn_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
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

/// A connection that reads at most one turn's requests each time it is polled. h2 asks for more after each request it hands
/// on, so that the gate alone cannot tell whether somebody else was served meanwhile.
pub struct Turns<C> {
    told: Arc<Told>,
    /// hyper's.
    pub connection: C,
}

impl<C> Turns<C> {
    /// Of what reads through the gate that gave `told`.
    pub fn new(told: Arc<Told>, connection: C) -> Self {
        Self { told, connection }
    }
}

impl<C: Future + Unpin> Future for Turns<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        self.told.over.store(false, Ordering::Relaxed);
        Pin::new(&mut self.connection).poll(cx)
    }
}
