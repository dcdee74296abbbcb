//! Connections through one gateway address. Each is pinned to one remote workload, so each is judged by itself.

use crate::ask::{CandidateId, ConnectionId, Outcome};
use crate::compare::Tally;
use crate::fault::{Fault, planted};
use crate::key::mix_with;
use crate::limits::{CONNECTIONS_MAX, OPENING_LOST_US, OPENING_MAX};
use crate::measure::Latency;
use crate::standing::{Standing, Why};
use api::config::Ejection;

#[derive(Debug)]
struct Connection {
    number: u32,
    in_flight: u32,
    latency: Latency,
    standing: Standing,
    tally: Tally,
}

/// The open ones, and how many are being opened.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    open: Vec<Connection>,
    next: u32,
    opening: u32,
    opening_at_us: u64,
}

impl Connections {
    pub(crate) fn opened(&mut self, gateway: CandidateId, now_us: u64) -> ConnectionId {
        self.opening = self.opening.saturating_sub(1);
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        let (latency, standing) = (Latency::new(now_us), Standing::new(now_us));
        self.open.push(Connection { number, in_flight: 0, latency, standing, tally: Tally::default() });
        ConnectionId { gateway, number }
    }

    pub(crate) fn closed(&mut self, number: u32) {
        self.open.retain(|connection| connection.number != number);
    }

    pub(crate) fn opening_ended(&mut self) {
        self.opening = self.opening.saturating_sub(1);
    }

    /// Whether any connection works, as far as is known.
    pub(crate) fn any_good(&self) -> bool {
        self.open.iter().any(|connection| connection.standing.is_in())
    }

    pub(crate) fn out(&self) -> u32 {
        self.open.iter().filter(|connection| !connection.standing.is_in()).count() as u32
    }

    /// How many more are wanted, for `ready` workloads behind the gateway.
    pub(crate) fn missing(&self, ready: u32) -> u32 {
        (wanted(ready) as u32).saturating_sub(self.open.len() as u32 + self.opening)
    }

    pub(crate) fn is_open(&self) -> bool {
        self.opening > 0 || !self.open.is_empty()
    }

    /// The better of two random usable ones; `None`: open one more.
    pub(crate) fn pick(
        &mut self,
        ready: u32,
        key: Option<u64>,
        may_probe: bool,
        now_us: u64,
        rng: &mut impl FnMut() -> u64,
    ) -> Option<(u32, bool)> {
        if self.opening > 0 && now_us.saturating_sub(self.opening_at_us) > OPENING_LOST_US {
            self.opening = 0;
        }
        if let Some(key) = key
            && let Some(kept) = self.by_key(key, may_probe, now_us)
        {
            return Some(kept);
        }
        if may_probe && key.is_none() {
            let due = self.open.iter_mut().find(|one| one.standing.due_us().is_some_and(|due| due <= now_us));
            if let Some(one) = due {
                one.standing.probe(now_us);
                return Some((one.number, true));
            }
        }
        let good = self.open.iter().filter(|one| one.standing.is_in()).count();
        // Bad ones count: whoever replaced each of them would meet the same workloads again and again.
        let room = self.open.len() < 2 * wanted(ready);
        if good == 0 && !room {
            let any = &self.open[(rng() % self.open.len() as u64) as usize];
            return Some((any.number, false));
        }
        if good == 0 || (self.missing(ready) > 0 && self.opening < OPENING_MAX) {
            self.opening += 1;
            self.opening_at_us = now_us;
            return None;
        }
        let draw = |random: u64| {
            let nth = (random % good as u64) as usize;
            self.open.iter().filter(|one| one.standing.is_in()).nth(nth).expect("counted above")
        };
        let (a, b) = (draw(rng()), draw(rng()));
        let cost = |one: &Connection| one.latency.cost(one.in_flight, now_us);
        let better = if cost(b) < cost(a) { b } else { a };
        Some((better.number, false))
    }

    /// The one that `key` belongs to of those that are in, or may be found out about (rendezvous hashing): a further
    /// connection takes its share of keys and no more.
    fn by_key(&mut self, key: u64, may_probe: bool, now_us: u64) -> Option<(u32, bool)> {
        let due = |one: &Connection| may_probe && one.standing.due_us().is_some_and(|due| due <= now_us);
        let open = self.open.iter_mut().filter(|one| one.standing.is_in() || due(one));
        let owner = open.max_by_key(|one| mix_with(key, u64::from(one.number)))?;
        let probe = !owner.standing.is_in();
        if probe {
            owner.standing.probe(now_us);
        }
        Some((owner.number, probe))
    }

    /// Those that are in, for comparison.
    pub(crate) fn tallies(&self) -> impl Iterator<Item = (u32, Tally)> {
        self.open.iter().filter(|one| one.standing.is_in()).map(|one| (one.number, one.tally))
    }

    pub(crate) fn begin_tallies(&mut self) {
        self.open.iter_mut().for_each(|one| one.tally = Tally::default());
    }

    /// After a comparison, while enough others stay in.
    pub(crate) fn eject(&mut self, number: u32, ejection: &Ejection, now_us: u64) {
        let may = (self.out() as usize) < most_out(self.open.len(), ejection);
        if let Some(one) = self.open.iter_mut().find(|one| one.number == number).filter(|_| may) {
            one.standing.take_out(Why::Failing, ejection, now_us);
        }
    }

    pub(crate) fn started(&mut self, number: u32) {
        if let Some(one) = self.open.iter_mut().find(|one| one.number == number) {
            one.in_flight += 1;
        }
    }

    pub(crate) fn alive(&mut self, number: u32, now_us: u64) {
        if let Some(one) = self.open.iter_mut().find(|one| one.number == number)
            && one.standing.out() == Some(Why::Hung)
        {
            one.standing.due_now(now_us);
        }
    }

    /// Returns whether the gateway itself must be at fault: several connections, all hung.
    pub(crate) fn finished(&mut self, number: u32, outcome: Outcome, ejection: &Ejection, now_us: u64) -> bool {
        let (total, out) = (self.open.len(), self.out() as usize);
        let Some(one) = self.open.iter_mut().find(|one| one.number == number) else { return false };
        one.in_flight = one.in_flight.saturating_sub(1);
        // One always stays, and never more than the set share is out; a hang is no matter of opinion.
        let may_eject = out < most_out(total, ejection) || !one.standing.is_in();
        match outcome {
            Outcome::Answered { latency_us, status } if status < 500 => {
                one.latency.observe(latency_us, now_us);
                one.tally.count(false);
                one.standing.succeeded(now_us);
            }
            Outcome::Answered { latency_us, .. } => {
                one.latency.observe_failure(latency_us, now_us);
                one.tally.count(true);
                if one.standing.failed(ejection) && may_eject {
                    one.standing.take_out(Why::Failing, ejection, now_us);
                }
            }
            // The workload's proxy answers and its app does not: nobody is there.
            Outcome::ConnectFailed => {
                one.standing.take_out(Why::Refused, ejection, now_us);
            }
            Outcome::Broken => {
                one.tally.count(true);
                if one.standing.failed(ejection) && may_eject {
                    one.standing.take_out(Why::Failing, ejection, now_us);
                }
            }
            Outcome::Hung => {
                one.standing.take_out(Why::Hung, ejection, now_us);
                return total >= 2 && self.open.iter().all(|one| one.standing.out() == Some(Why::Hung));
            }
            Outcome::Cancelled => one.standing.probe_said_nothing(now_us),
        }
        planted(Fault::ConnectionBlamesGateway) && one.standing.out().is_some()
    }
}

fn wanted(ready: u32) -> usize {
    (ready.max(1) as usize).min(CONNECTIONS_MAX)
}

/// How many of `total` may be out after failed answers: the set share, at least one of several, never all.
pub(crate) fn most_out(total: usize, ejection: &Ejection) -> usize {
    if planted(Fault::EjectsAll) {
        return total;
    }
    let share = (total as f64 * ejection.share_max.ratio() + crate::limits::ROUNDING).floor() as usize;
    if ejection.share_max == api::Share::NONE { 0 } else { share.max(1).min(total.saturating_sub(1)) }
}
