//! One zone at one rank: its health with hysteresis, and whom to choose from in it.

use crate::fault::{Fault, planted};
use crate::limits::{
    BETTER_AFTER, DRAIN_US, IN_FLIGHT_FULL, MS, RECOVERY_GAIN, RELIEF_FLOOR, RELIEF_GAIN, ROUNDING, SUMMARY_AGAIN_US,
    WORSE_AFTER,
};
use crate::measure::Failures;
use crate::member::Member;
use crate::table::Table;
use api::config::Balancing;
use api::kinds::ZoneState;
use api::{RouteReason, ZoneName};

/// How near a locality is. Ranks other than `Remote` are of the proxy's own zone.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Rank {
    Node,
    Az,
    Region,
    Zone,
    Remote,
}

impl Rank {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Az => "az",
            Self::Region => "region",
            Self::Zone => "zone",
            Self::Remote => "remote",
        }
    }
}

/// What a remote zone says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Summary {
    pub(crate) ready: u32,
    pub(crate) total: u32,
    pub(crate) weight: u32,
    pub(crate) load: Option<f64>,
}

/// Members of a locality with running sums of what they weigh.
#[derive(Debug, Default)]
pub(crate) struct Wheel {
    sums: Vec<(f64, u32)>,
    equal: bool,
}

impl Wheel {
    fn clear(&mut self) {
        self.sums.clear();
        self.equal = true;
    }

    fn push(&mut self, weight: f64, slot: u32) {
        if weight <= 0.0 {
            return;
        }
        let weight = if planted(Fault::WeightsIgnored) { 1.0 } else { weight };
        let before = self.total();
        self.equal &= self.sums.first().is_none_or(|(first, _)| (first - weight).abs() < ROUNDING);
        self.sums.push((before + weight, slot));
    }

    pub(crate) fn total(&self) -> f64 {
        self.sums.last().map_or(0.0, |(sum, _)| *sum)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> {
        self.sums.iter().map(|(_, slot)| *slot)
    }

    /// `at` in 0.0 to 1.0 of the whole.
    pub(crate) fn at(&self, at: f64) -> Option<u32> {
        let wanted = at * self.total();
        let index = self.sums.partition_point(|(sum, _)| *sum <= wanted).min(self.sums.len().checked_sub(1)?);
        Some(self.sums[index].1)
    }

    /// The `turn`th in turn. Unequal weights follow the golden ratio, which spreads any number of turns evenly.
    pub(crate) fn turn(&self, turn: u64) -> Option<u32> {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        match self.equal {
            true if self.sums.is_empty() => None,
            true => Some(self.sums[(turn % self.sums.len() as u64) as usize].1),
            false => self.at((turn as f64 * GOLDEN).fract()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Locality {
    pub(crate) zone: ZoneName,
    pub(crate) rank: Rank,
    pub(crate) members: Vec<u32>,
    /// Remote zones only.
    pub(crate) summary: Option<Summary>,
    pub(crate) summary_at_us: u64,
    pub(crate) state: ZoneState,
    pub(crate) state_since_us: u64,
    pub(crate) usable: Wheel,
    pub(crate) all: Wheel,
    /// With a hash algorithm: whom keys belong to.
    pub(crate) table: Table,
    /// Weight of usable members; the most that counts of one; requests in flight to all.
    pub(crate) usable_weight: f64,
    pub(crate) counts_most: f64,
    pub(crate) in_flight: u32,
    pub(crate) failures: Failures,
    /// Failures without any success since, and whether there ever was a success.
    pub(crate) trouble: u32,
    pub(crate) proven: bool,
    pub(crate) turn: u64,
    /// Total capacity, with newcomers counted as far as they are in.
    pub(crate) total: f64,
    /// Health now; health if nothing failed; health as acted upon.
    pub(crate) raw: f64,
    pub(crate) hard: f64,
    pub(crate) applied: f64,
    worse: u32,
    better: u32,
    rising: bool,
    /// Share it should get of what it could, for its load.
    pub(crate) relief: f64,
    overloaded: u32,
    relieved_at_us: u64,
}

impl Locality {
    /// Begins with nothing and grows, unless it is believed at once.
    pub(crate) fn new(zone: ZoneName, rank: Rank) -> Self {
        Self {
            zone,
            rank,
            members: Vec::new(),
            summary: None,
            summary_at_us: 0,
            state: ZoneState::Active,
            state_since_us: 0,
            usable: Wheel::default(),
            all: Wheel::default(),
            table: Table::default(),
            usable_weight: 0.0,
            counts_most: 0.0,
            in_flight: 0,
            failures: Failures::default(),
            trouble: 0,
            proven: false,
            turn: 0,
            total: 0.0,
            raw: 0.0,
            hard: 0.0,
            applied: 0.0,
            worse: 0,
            better: 0,
            rising: false,
            relief: 1.0,
            overloaded: 0,
            relieved_at_us: 0,
        }
    }

    /// Sums up its members. What hard facts took away acts at once; everything else waits for [`observe`](Self::observe).
    pub(crate) fn measure(&mut self, members: &mut [Option<Member>], config: &Balancing, now_us: u64) {
        self.usable.clear();
        self.all.clear();
        (self.usable_weight, self.counts_most, self.in_flight) = (0.0, 0.0, 0);
        let (mut total, mut said, mut asked, mut ready, mut effective) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for slot in &self.members {
            let Some(member) = members[*slot as usize].as_mut() else { continue };
            let (counts, of) = member.ramped(config.slow_start_ms, now_us);
            let well = 1.0 - member.failures.share(now_us);
            let weight = member.weight * of;
            total += weight;
            said += if member.ready { weight } else { 0.0 };
            self.in_flight += member.in_flight;
            if !member.chosen {
                continue;
            }
            asked += if member.ready { weight } else { 0.0 };
            self.all.push(member.weight, *slot);
            if member.usable() {
                ready += weight;
                effective += member.weight * counts * well;
                self.usable_weight += member.weight;
                self.counts_most = self.counts_most.max(counts);
                self.usable.push(member.weight * counts * well, *slot);
            }
        }
        match self.summary {
            None => {
                // The subset stands for all that are said to be ready.
                let stands_for =
                    if planted(Fault::SubsetHidesOthers) { 1.0 / asked } else { part(said, total) / asked };
                let health = |of: f64| if asked > 0.0 { of * stands_for } else { 0.0 };
                (self.total, self.hard, self.raw) = (total, health(ready), health(effective));
            }
            Some(Summary { ready, total, weight, .. }) => {
                let each = if ready > 0 { f64::from(weight) / f64::from(ready) } else { 1.0 };
                self.total = f64::from(total.max(ready)) * each;
                // Gateways only pass on: any one of them reaches everything there is.
                let reached = self.usable.total() > 0.0 && ready > 0;
                self.hard = if reached { 1.0 } else { 0.0 };
                let well = 1.0 - self.failures.share(now_us);
                self.raw = if reached { part(f64::from(weight), self.total) * well } else { 0.0 };
            }
        }
        self.applied = self.applied.min(self.hard);
    }

    /// Acts as measured, without hysteresis: what is known first is taken as it is.
    pub(crate) fn believe(&mut self) {
        self.applied = self.raw;
    }

    /// One observation: two for the worse, five for the better, and then no faster than slow start.
    pub(crate) fn observe(&mut self, members: &[Option<Member>], config: &Balancing, passed_us: u64, now_us: u64) {
        let slow_start_us = (config.slow_start_ms * MS) as f64;
        if self.raw < self.applied - ROUNDING {
            (self.better, self.rising) = (0, false);
            self.worse += 1;
            if self.worse >= WORSE_AFTER {
                self.applied = self.raw;
            }
        } else if self.raw > self.applied + ROUNDING {
            self.worse = 0;
            self.better += 1;
            self.rising |= self.better >= BETTER_AFTER;
            if planted(Fault::NoHysteresis) {
                self.applied = self.raw;
            }
            if self.rising {
                let step = if slow_start_us > 0.0 { passed_us as f64 / slow_start_us } else { 1.0 };
                let step = if planted(Fault::NoSlowStart) { 1.0 } else { step };
                self.applied = self.raw.min(self.applied + step);
            }
        } else {
            (self.worse, self.better) = (0, 0);
            // Once risen all the way, the next fall has to prove its end again.
            self.rising &= self.raw + ROUNDING < 1.0;
        }
        self.relieve(members, config, now_us);
    }

    /// Utilisation: what the zone or its endpoints say, or what is seen in flight, whichever is more.
    pub(crate) fn load(&self, members: &[Option<Member>], now_us: u64) -> Option<f64> {
        let mine = || self.members.iter().filter_map(|slot| members[*slot as usize].as_ref());
        let in_flight: f64 = mine().map(|member| f64::from(member.in_flight)).sum();
        let endpoints = self.summary.map_or(mine().filter(|member| member.usable()).count() as u32, |all| all.ready);
        let seen = in_flight / (IN_FLIGHT_FULL * f64::from(endpoints.max(1)));
        let told = match self.summary {
            Some(summary) => summary.load,
            None => {
                let loads = || mine().filter(|member| member.usable()).filter_map(|member| member.fresh_load(now_us));
                let count = loads().count();
                (count > 0).then(|| loads().sum::<f64>() / count as f64)
            }
        };
        told.map(|told| told.max(seen)).or((seen > 0.5).then_some(seen))
    }

    /// Moves the share towards the one at which the place is just at its limit. Each observation goes a part of the
    /// way, because everybody else who sees the same load does the same.
    fn relieve(&mut self, members: &[Option<Member>], config: &Balancing, now_us: u64) {
        let limit = config.spill_at.ratio();
        // One summary says the same to everybody: it is acted upon once, and again when it stays what it is.
        let told = self.summary_at_us.max(self.relieved_at_us.saturating_add(SUMMARY_AGAIN_US));
        if self.summary.is_some() && now_us < told && self.relieved_at_us >= self.summary_at_us {
            return;
        }
        self.relieved_at_us = now_us;
        let Some(load) = self.load(members, now_us).filter(|load| *load > 0.0 && limit > 0.0) else {
            self.relief = nearly_all(self.relief + (1.0 - self.relief) * RECOVERY_GAIN);
            return;
        };
        let wished = (self.relief * limit / load).clamp(RELIEF_FLOOR, 1.0);
        if planted(Fault::ReliefOvershoots) {
            self.relief = if load > limit { RELIEF_FLOOR } else { 1.0 };
            return;
        }
        if wished < self.relief {
            self.overloaded += 1;
            if self.overloaded >= WORSE_AFTER {
                self.relief += (wished - self.relief) * RELIEF_GAIN;
            }
        } else {
            self.overloaded = 0;
            self.relief = nearly_all(self.relief + (wished - self.relief) * RECOVERY_GAIN);
        }
    }

    /// Share a draining or disabled zone should still get.
    pub(crate) fn open(&self, now_us: u64) -> f64 {
        match self.state {
            ZoneState::Active => 1.0,
            ZoneState::Draining => 1.0 - (now_us.saturating_sub(self.state_since_us) as f64 / DRAIN_US as f64).min(1.0),
            ZoneState::Disabled => 0.0,
        }
    }

    /// Whether nothing here changes by itself.
    pub(crate) fn settled(&self, now_us: u64) -> bool {
        let drained = match self.state {
            ZoneState::Draining => self.open(now_us) <= 0.0,
            ZoneState::Active | ZoneState::Disabled => true,
        };
        (self.raw - self.applied).abs() <= ROUNDING && self.relief >= 1.0 && drained
    }

    /// Why it does not carry everything.
    pub(crate) fn cause(&self, members: &[Option<Member>]) -> RouteReason {
        if self.state != ZoneState::Active {
            return RouteReason::Draining;
        }
        if self.members.is_empty() {
            return RouteReason::LocalNone;
        }
        let mine = || self.members.iter().filter_map(|slot| members[*slot as usize].as_ref());
        let unready = mine().filter(|member| !member.ready).count();
        let out = mine().filter(|member| member.ready && !member.standing.is_in()).count();
        match self.rank {
            Rank::Remote if self.usable.total() <= 0.0 => RouteReason::Unreachable,
            _ if self.relief < 1.0 && self.applied >= self.hard - ROUNDING => RouteReason::LocalOverloaded,
            _ if out > 0 && out >= unready => RouteReason::Ejected,
            _ if unready > 0 => RouteReason::LocalUnready,
            _ if self.relief < 1.0 => RouteReason::LocalOverloaded,
            // Back in number, not yet in trust.
            _ => RouteReason::Ejected,
        }
    }
}

fn part(of: f64, whole: f64) -> f64 {
    if whole > 0.0 { of / whole } else { 0.0 }
}

/// The last percent of a recovery is not worth waiting for.
fn nearly_all(share: f64) -> f64 {
    if share > 0.99 { 1.0 } else { share }
}
