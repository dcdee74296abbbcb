//! What one fold remembers for the next: hysteresis, counters, the journal.

use crate::limits::{BETTER_AFTER_MS, EVENTS_MAX, WORSE_AFTER_MS};
use crate::rates::Counters;
use api::ZoneName;
use api::health::{Event, Status};
use api::kinds::ZoneState;
use std::collections::{BTreeMap, VecDeque};

/// Kept by the observer between folds. Starts empty.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    pub(crate) zones: BTreeMap<ZoneName, ZoneMemory>,
    /// By caller's and called zone.
    pub(crate) links: BTreeMap<(ZoneName, ZoneName), LinkMemory>,
    /// Newest first.
    pub(crate) events: VecDeque<Event>,
    pub(crate) last_event: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ZoneMemory {
    pub(crate) shown: Held<Status>,
    pub(crate) autonomous: bool,
    pub(crate) why: String,
    pub(crate) behind_since_ms: Option<u64>,
    pub(crate) state: ZoneState,
    pub(crate) counters: Counters,
}

#[derive(Clone, Debug)]
pub(crate) struct LinkMemory {
    /// Whether it is up.
    pub(crate) up: Held<bool>,
    /// It was up at least once.
    pub(crate) reached: bool,
    /// First probe.
    pub(crate) first_ms: u64,
    pub(crate) spills: Held<bool>,
}

/// A value with hysteresis: another one is believed when it was seen for long enough.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<T> {
    pub(crate) value: T,
    pub(crate) since_ms: u64,
    /// Since when something worse, or something better, is seen.
    worse_since_ms: Option<u64>,
    better_since_ms: Option<u64>,
}

impl<T: Copy + PartialEq> Held<T> {
    pub(crate) fn new(value: T, now_ms: u64) -> Self {
        Self { value, since_ms: now_ms, worse_since_ms: None, better_since_ms: None }
    }

    /// Without doubt. Returns whether this changed it.
    pub(crate) fn set(&mut self, value: T, now_ms: u64) -> bool {
        let changed = value != self.value;
        let since_ms = if changed { now_ms } else { self.since_ms };
        *self = Self { since_ms, ..Self::new(value, now_ms) };
        changed
    }

    /// Two observations for the worse, five for the better. Returns whether this changed it.
    pub(crate) fn see(&mut self, value: T, worse: bool, now_ms: u64) -> bool {
        if value == self.value {
            (self.worse_since_ms, self.better_since_ms) = (None, None);
            return false;
        }
        let (seen, other, after_ms) = match worse {
            true => (&mut self.worse_since_ms, &mut self.better_since_ms, WORSE_AFTER_MS),
            false => (&mut self.better_since_ms, &mut self.worse_since_ms, BETTER_AFTER_MS),
        };
        *other = None;
        let since_ms = *seen.get_or_insert(now_ms);
        now_ms.saturating_sub(since_ms) >= after_ms && self.set(value, now_ms)
    }
}

impl Memory {
    pub(crate) fn record(&mut self, at_ms: u64, zone: Option<&ZoneName>, status: Option<Status>, text: String) {
        self.last_event += 1;
        self.events.push_front(Event { id: self.last_event, at_ms, zone: zone.cloned(), status, text });
        self.events.truncate(EVENTS_MAX);
    }
}
