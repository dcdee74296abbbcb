//! A publisher or two, a follower with a disk, and the link between them; every step is checked against a model.

use crate::message::{Cursor, Down, Key, Lineage, Payload, Up};
use crate::{Absence, Feed, Kept, Received, Replica, Slice, View};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::AddAssign;

/// Small, so that transactions and inventories take several messages.
const SLICE: Slice = Slice { items: 5, bytes: 60 };
const KEYS: u64 = 40;
/// Messages of ended sessions that may still turn up.
const STALE_MAX: usize = 40;
/// Deliveries after which a quiet world must have converged.
const SETTLE_STEPS: usize = 20_000;

type State = BTreeMap<Key, Payload>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub seed: u64,
    pub link: Link,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Link {
    /// Loses everything at a reconnect; keeps its order otherwise.
    Lossy,
    /// Also repeats messages, of this session and of earlier ones, anywhere.
    Stale,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub transactions: u64,
    pub resyncs: u64,
    pub items_sent: u64,
    pub rejects: u64,
    pub declines: u64,
    pub adoptions: u64,
    pub restarts: u64,
    pub disk_failures: u64,
    pub confusions: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, more: Self) {
        let Self {
            transactions,
            resyncs,
            items_sent,
            rejects,
            declines,
            adoptions,
            restarts,
            disk_failures,
            confusions,
        } = more;
        self.transactions += transactions;
        self.resyncs += resyncs;
        self.items_sent += items_sent;
        self.rejects += rejects;
        self.declines += declines;
        self.adoptions += adoptions;
        self.restarts += restarts;
        self.disk_failures += disk_failures;
        self.confusions += confusions;
    }
}

/// xorshift64 (Marsaglia 2003): enough for a simulation, and the same everywhere.
struct Rng(u64);

impl Rng {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

struct Publisher {
    view: View,
    lineage: Lineage,
    state: State,
}

pub(super) struct World {
    rng: Rng,
    link: Link,
    wildness: u64,
    absence: Absence,
    epochs: u64,
    publisher: Publisher,
    /// The true publisher, while an impostor without its history is up.
    away: Option<Publisher>,
    feed: Feed,
    replica: Replica,
    disk: Kept,
    /// Whether the follower's program understands `!` payloads.
    understands: bool,
    down: VecDeque<Down>,
    up: VecDeque<Up>,
    stale_down: VecDeque<Down>,
    stale_up: VecDeque<Up>,
    /// Every state and lineage that was ever published.
    history: HashMap<Cursor, (Lineage, State)>,
    /// What the follower must show, worked out without the engine.
    model: State,
    adopted: bool,
    /// No more disk failures.
    calm: bool,
    pub(super) counts: Counts,
}

impl World {
    pub(super) fn new(Settings { seed, link }: Settings) -> Self {
        let absence = if seed % 3 == 0 { Absence::Follow } else { Absence::Keep };
        let lineage = Lineage { history: 1, revision: 1 };
        let mut world = Self {
            rng: Rng((seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            link,
            wildness: 1 + seed % 4,
            absence,
            epochs: 1,
            publisher: Publisher { view: View::new(1), lineage, state: State::new() },
            away: None,
            feed: Feed::default(),
            replica: Replica::new(absence).sliced(SLICE),
            disk: Kept::default(),
            understands: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            stale_down: VecDeque::new(),
            stale_up: VecDeque::new(),
            history: HashMap::new(),
            model: State::new(),
            adopted: false,
            calm: false,
            counts: Counts::default(),
        };
        world.reconnect();
        world
    }

    /// One random thing happens; then everything is checked.
    pub(super) fn step(&mut self) -> Result<(), String> {
        match self.rng.below(1000) {
            0..300 => self.edit(),
            300..950 => self.deliver()?,
            950..965 => (0..20).for_each(|_| self.edit()), // a burst while the link stalls
            965..975 => self.reconnect(),
            975..980 => {
                let keep = self.rng.below(10);
                let head = self.publisher.view.head();
                self.publisher.view.compact(head.rev.saturating_sub(keep));
            }
            980..985 => self.restart_publisher()?,
            985..990 => {
                // Perhaps another version, newer or older.
                self.understands = self.rng.below(3) == 0;
                self.restart_follower();
            }
            990..993 => self.lose_history(),
            993..996 => self.return_publisher(),
            996..998 => self.lag_behind()?,
            _ => self.adopt(),
        }
        if self.link == Link::Stale {
            // Some worlds are wild, where little is ever finished; some are calm, where much is believed.
            match self.rng.below(400) {
                at if at < 3 * self.wildness => self.reconnect(),
                at if at < 10 * self.wildness => self.inject(),
                _ => {}
            }
        }
        self.check()
    }

    /// Nothing more happens, and the link delivers: everything must arrive.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.calm = true;
        self.edit(); // so that the view is surely filled
        self.drain()?;
        if let Some(estranged) = self.replica.estranged() {
            if !self.feed.declined() {
                return Err(format!("{estranged}, and the publisher was not told"));
            }
            self.return_publisher();
            self.drain()?;
            self.lose_history();
            self.edit();
            self.drain()?;
            if self.absence == Absence::Keep && self.replica.estranged().is_none() {
                return Err("a lost history went unnoticed".into());
            }
            self.adopt();
            self.drain()?;
        }
        self.converged("at the end")?;
        let refused = self.replica.rejects().len();
        let sent = self.counts.items_sent;
        self.reconnect();
        self.drain()?;
        self.converged("after a reconnect")?;
        self.expect_sent(sent, "a resumed session")?;
        self.restart_publisher()?;
        self.drain()?;
        self.converged("after a restart of the publisher")?;
        self.expect_sent(sent + refused as u64, "a restarted publisher with equal content")?;
        self.lag_behind()?;
        self.drain()?;
        self.converged("after a publisher that lagged behind caught up")?;
        self.understands = true;
        self.restart_follower();
        self.drain()?;
        self.converged("after an upgrade of the follower")?;
        if !self.replica.rejects().is_empty() || self.replica.items() != &self.publisher.state {
            return Err("an upgraded follower was not offered what it refused before".into());
        }
        Ok(())
    }

    fn expect_sent(&self, expected: u64, what: &str) -> Result<(), String> {
        let sent = self.counts.items_sent;
        (sent == expected).then_some(()).ok_or(format!("{what} sent {} items too many", sent.abs_diff(expected)))
    }

    fn converged(&self, when: &str) -> Result<(), String> {
        let head = self.publisher.view.head();
        let facts = [
            ("the replica", Some(self.replica.cursor())),
            ("the feed", self.feed.acked()),
            ("the disk", Some(self.disk.cursor)),
        ];
        match facts.into_iter().find(|(_, at)| *at != Some(head)) {
            Some((who, at)) => Err(format!("{when}: {who} is at {at:?}, not at {head:?}")),
            None if self.feed.rejects() != self.replica.rejects() => Err(format!("{when}: rejects are not known")),
            None => Ok(()),
        }
    }

    /// After every step the follower shows the model, and refuses exactly what it does not show.
    fn check(&self) -> Result<(), String> {
        if self.replica.items() != &self.model {
            return Err(format!("torn, lost or wrong state at {:?}", self.replica.cursor()));
        }
        let at = self.replica.cursor();
        let Some((_, state)) = self.history.get(&at) else {
            return if at == Cursor::default() { Ok(()) } else { Err(format!("{at:?} was never published")) };
        };
        let differs: Vec<&Key> =
            state.iter().filter(|(key, now)| self.model.get(*key) != Some(now)).map(|x| x.0).collect();
        let refused = self.replica.rejects();
        if !refused.iter().map(|reject| &reject.key).eq(differs.iter().copied()) {
            return Err(format!("refuses {refused:?}, but does not show {differs:?}"));
        }
        Ok(())
    }

    fn accepts(understands: bool) -> impl Fn(&Key, &Payload) -> Result<(), String> {
        move |_, payload| match payload.first() {
            Some(b'!') if !understands => Err("not understood".into()),
            _ => Ok(()),
        }
    }

    fn edit(&mut self) {
        let count = 1 + self.rng.below(12);
        let mut changes = Vec::new();
        for _ in 0..count {
            let key = Key::from(format!("item-{:02}", self.rng.below(KEYS)));
            let bang = if self.rng.below(20) == 0 { "!" } else { "" };
            let payload = Payload::from(format!("{bang}v{}", self.rng.below(9)));
            changes.push((key, (self.rng.below(4) != 0).then_some(payload)));
        }
        self.publisher.commit(changes);
        self.record();
        self.poll();
    }

    fn record(&mut self) {
        let Publisher { view, lineage, state } = &self.publisher;
        self.history.insert(view.head(), (*lineage, state.clone()));
    }

    fn poll(&mut self) {
        let out = self.feed.poll(&self.publisher.view, self.publisher.lineage);
        self.send(out);
    }

    fn send(&mut self, messages: Vec<Down>) {
        for message in messages {
            match &message {
                Down::Welcome(_) => {}
                Down::Resync => self.counts.resyncs += 1,
                Down::Delta(delta) => self.counts.items_sent += (delta.set.len() + delta.removed.len()) as u64,
            }
            self.down.push_back(message);
        }
    }

    fn deliver(&mut self) -> Result<(), String> {
        if self.rng.below(2) == 0 {
            self.deliver_down()
        } else {
            self.deliver_up();
            Ok(())
        }
    }

    fn deliver_up(&mut self) {
        let Some(message) = self.up.pop_front() else { return };
        Self::bury(&mut self.stale_up, &message);
        self.counts.declines += u64::from(matches!(message, Up::Decline { .. }));
        match self.feed.receive(message, &self.publisher.view, self.publisher.lineage) {
            Ok(out) => self.send(out),
            Err(_) => self.confused(),
        }
    }

    fn deliver_down(&mut self) -> Result<(), String> {
        let Some(message) = self.down.pop_front() else { return Ok(()) };
        Self::bury(&mut self.stale_down, &message);
        match self.replica.receive(message, Self::accepts(self.understands)) {
            Ok(Received::Nothing) => {}
            Ok(Received::Reply(out)) => self.up.extend(out),
            Ok(Received::Transaction(_)) if !self.calm && self.rng.below(30) == 0 => {
                self.counts.disk_failures += 1;
                self.reconnect();
            }
            Ok(Received::Transaction(transaction)) => {
                self.counts.transactions += 1;
                self.counts.rejects += transaction.rejects.len() as u64;
                let before = self.replica.lineage();
                let ack = self.replica.apply(transaction);
                self.disk = self.replica.kept();
                self.up.push_back(ack);
                self.applied(before)?;
            }
            Err(_) => self.confused(),
        }
        Ok(())
    }

    /// Moves the model to where the replica says it is.
    fn applied(&mut self, before: Option<Lineage>) -> Result<(), String> {
        let at = self.replica.cursor();
        let Some((lineage, state)) = self.history.get(&at) else {
            return Err(format!("{at:?} was never published"));
        };
        let continues = before.is_none_or(|before| lineage.continues(before));
        if self.absence == Absence::Keep && !continues && !std::mem::take(&mut self.adopted) {
            return Err(format!("went from {before:?} to {lineage:?} without being told"));
        }
        let accepts = Self::accepts(self.understands);
        self.model.retain(|key, _| state.contains_key(key));
        for (key, payload) in state {
            if accepts(key, payload).is_ok() {
                self.model.insert(key.clone(), payload.clone());
            }
        }
        Ok(())
    }

    fn bury<T: Clone>(stale: &mut VecDeque<T>, message: &T) {
        stale.truncate(STALE_MAX - 1);
        stale.push_front(message.clone());
    }

    fn inject(&mut self) {
        let Self { rng, down, up, stale_down, stale_up, .. } = self;
        if rng.below(4) != 0 {
            Self::dig_up(rng, stale_down, down);
        } else {
            Self::dig_up(rng, stale_up, up);
        }
    }

    /// Preferably a recent message, preferably next: these come nearest to being believed.
    fn dig_up<T: Clone>(rng: &mut Rng, stale: &VecDeque<T>, link: &mut VecDeque<T>) {
        let depth = if rng.below(3) == 0 { STALE_MAX } else { 8 }.min(stale.len());
        if depth > 0 {
            let at = if rng.below(2) == 0 { 0 } else { rng.below(link.len() as u64 + 1) as usize };
            link.insert(at, stale[rng.below(depth as u64) as usize].clone());
        }
    }

    fn confused(&mut self) {
        self.counts.confusions += 1;
        self.reconnect();
    }

    fn reconnect(&mut self) {
        for message in self.down.drain(..) {
            Self::bury(&mut self.stale_down, &message);
        }
        for message in self.up.drain(..) {
            Self::bury(&mut self.stale_up, &message);
        }
        self.feed = Feed::sliced(SLICE);
        self.up.push_back(self.replica.connect());
    }

    fn blank(&mut self, lineage: Lineage) -> Publisher {
        self.epochs += 1;
        Publisher { view: View::new(self.epochs), lineage, state: State::new() }
    }

    /// Equal content, another epoch. The follower connects before the view is filled again.
    fn restart_publisher(&mut self) -> Result<(), String> {
        self.counts.restarts += 1;
        let state = self.publisher.state.clone();
        self.publisher = self.blank(self.publisher.lineage);
        self.publisher.state = state;
        self.reconnect();
        for _ in 0..self.rng.below(6) {
            self.deliver_up();
            self.deliver_down()?;
        }
        self.publisher.view.replace(self.publisher.state.clone());
        self.record();
        self.poll();
        Ok(())
    }

    /// Another process, with what the disk remembers.
    fn restart_follower(&mut self) {
        self.counts.restarts += 1;
        self.replica = Replica::restore(self.absence, self.disk.clone()).sliced(SLICE);
        self.reconnect();
    }

    /// Somebody else answers: another history, or an old backup, empty or with little in it.
    fn lose_history(&mut self) {
        let lineage = if self.rng.below(3) == 0 {
            Lineage { history: self.publisher.lineage.history, revision: 0 }
        } else {
            Lineage { history: 100 + self.epochs, revision: self.rng.below(9) }
        };
        let next = self.blank(lineage);
        let previous = std::mem::replace(&mut self.publisher, next);
        self.away.get_or_insert(previous);
        self.publisher.view.replace(State::new());
        self.record();
        self.reconnect();
    }

    fn return_publisher(&mut self) {
        if let Some(publisher) = self.away.take() {
            self.publisher = publisher;
            self.reconnect();
        }
    }

    /// A second publisher of the same truth answers, a little behind, and catches up while we are connected.
    fn lag_behind(&mut self) -> Result<(), String> {
        let Lineage { history, revision } = self.publisher.lineage;
        let behind = self.blank(Lineage { history, revision: revision.saturating_sub(3) });
        let ahead = std::mem::replace(&mut self.publisher, behind);
        self.publisher.view.replace(State::new());
        self.record();
        self.reconnect();
        for _ in 0..self.rng.below(8) {
            self.deliver_up();
            self.deliver_down()?;
        }
        self.publisher.lineage = ahead.lineage;
        self.publisher.state = ahead.state;
        self.publisher.view.replace(self.publisher.state.clone());
        self.record();
        self.poll();
        Ok(())
    }

    fn adopt(&mut self) {
        if let Some(estranged) = self.replica.estranged() {
            self.counts.adoptions += 1;
            self.replica.adopt(estranged.offered);
            self.disk = self.replica.kept();
            self.adopted = true;
            self.away = None;
            self.reconnect();
        }
    }

    fn drain(&mut self) -> Result<(), String> {
        for _ in 0..SETTLE_STEPS {
            if self.down.is_empty() && self.up.is_empty() {
                return self.check();
            }
            self.deliver()?;
        }
        Err("the two never come to rest".into())
    }
}

impl Publisher {
    fn commit(&mut self, changes: Vec<(Key, Option<Payload>)>) {
        for (key, payload) in &changes {
            match payload {
                Some(payload) => self.state.insert(key.clone(), payload.clone()),
                None => self.state.remove(key),
            };
        }
        self.lineage.revision += 1;
        self.view.commit(changes);
    }
}
