//! Precomputes where requests go, so that a pick is a draw. Runs when something changed, never per request.

use crate::ask::CandidateId;
use crate::balancer::{Balancer, Lane};
use crate::fault::{Fault, planted};
use crate::limits::ROUNDING;
use crate::locality::{Locality, Rank};
use crate::member::Ramp;
use crate::place::{Supply, carries, place};
use api::RouteReason;
use api::kinds::ZoneState;

impl Balancer {
    /// Shares of all tiers and localities, from what the localities measured.
    pub(crate) fn settle(&mut self, now_us: u64) {
        self.panic = false;
        self.lanes.clear();
        if self.is_starved() || (!self.fill(now_us, believed) && !self.fill(now_us, anything)) {
            self.everything();
        }
        self.probe_at_us = self.next_probe_us();
    }

    /// A candidate came back after failures: its share grows from the floor.
    pub(crate) fn came_back(&mut self, id: CandidateId, now_us: u64) {
        if let Some(member) = self.member_mut(id) {
            member.ramp = Ramp::Back { since_us: now_us };
            let at = member.locality;
            self.changed(at, now_us);
        }
    }

    /// A hard fact about one locality.
    pub(crate) fn changed(&mut self, locality: usize, now_us: u64) {
        self.localities[locality].measure(&mut self.members, &self.config, now_us);
        self.settle(now_us);
    }

    /// `offers`: capacity of a locality, and the part of it that is wanted.
    fn fill(&mut self, now_us: u64, offers: fn(&Locality, u64) -> (f64, f64)) -> bool {
        let threshold = self.config.threshold.ratio();
        self.supplies.clear();
        for tier in &mut self.tiers {
            let (mut total, mut effective, mut wanted) = (0.0, 0.0, 0.0);
            for index in &tier.localities {
                let locality = &self.localities[*index];
                let (capacity, part) = offers(locality, now_us);
                total += locality.total;
                effective += capacity;
                wanted += capacity * part;
            }
            tier.supply = Supply { total, effective, wanted: if effective > 0.0 { wanted / effective } else { 0.0 } };
            self.supplies.push(tier.supply);
        }
        if place(&self.supplies, threshold, self.config.mode, &mut self.shares).is_none() {
            self.tiers.iter_mut().for_each(|tier| tier.share = 0.0);
            return false;
        }
        let mut upto = 0.0;
        for (rank, share) in self.shares.iter().enumerate() {
            self.tiers[rank].share = *share;
            if *share <= 0.0 {
                continue;
            }
            let tier = &self.tiers[rank];
            let whole = tier.supply.effective * tier.supply.wanted;
            let reason = self.reason(rank);
            for index in &tier.localities {
                let (capacity, part) = offers(&self.localities[*index], now_us);
                if capacity * part > 0.0 {
                    upto += share * capacity * part / whole;
                    self.lanes.push(Lane { locality: *index, upto, reason });
                }
            }
        }
        !self.lanes.is_empty()
    }

    /// So little is healthy anywhere that health is not believed (Envoy's panic threshold, over all tiers).
    fn is_starved(&self) -> bool {
        let least = self.config.panic.ratio();
        if least <= 0.0 || planted(Fault::PanicIgnored) {
            return false;
        }
        let places = self.tiers.iter().flat_map(|tier| &tier.localities).map(|index| &self.localities[*index]);
        let (healthy, total) = places
            .filter(|place| !forbidden(place))
            .fold((0.0, 0.0), |(healthy, total), place| (healthy + place.raw * place.total, total + place.total));
        healthy + ROUNDING < least * total
    }

    /// Panic: all candidates of all tiers, by weight, whatever is said of them.
    fn everything(&mut self) {
        if planted(Fault::NoPanic) {
            return;
        }
        let mut upto = 0.0;
        for index in self.tiers.iter().flat_map(|tier| &tier.localities) {
            let locality = &self.localities[*index];
            if locality.all.total() > 0.0 && !forbidden(locality) {
                upto += locality.total.max(ROUNDING);
                self.lanes.push(Lane { locality: *index, upto, reason: RouteReason::Panic });
            }
        }
        self.lanes.iter_mut().for_each(|lane| lane.upto /= upto);
        self.panic = !self.lanes.is_empty();
    }

    /// Why requests reach the tier at `rank`: the first reason an earlier tier gives for not carrying everything.
    pub(crate) fn reason(&self, rank: usize) -> RouteReason {
        let locality = |index: &usize| &self.localities[*index];
        if self.tiers[rank].localities.iter().all(|index| locality(index).rank != Rank::Remote) {
            return RouteReason::Local;
        }
        let threshold = self.config.threshold.ratio();
        let short = self.tiers[..rank]
            .iter()
            .filter(|tier| carries(&tier.supply, threshold, self.config.mode) < 1.0 - ROUNDING);
        let causes = short.flat_map(|tier| tier.localities.iter().map(|index| locality(index).cause(&self.members)));
        let mut causes = causes.filter(|cause| *cause != RouteReason::LocalNone);
        causes.next().unwrap_or(RouteReason::LocalNone)
    }

    fn next_probe_us(&self) -> u64 {
        let due = self.members.iter().flatten().filter(|member| member.ready).filter_map(|one| one.standing.due_us());
        due.min().unwrap_or(u64::MAX)
    }
}

/// Takes no traffic from elsewhere, not even in need.
pub(crate) fn forbidden(locality: &Locality) -> bool {
    locality.rank == Rank::Remote && locality.state == ZoneState::Disabled
}

/// As acted upon: with hysteresis, draining and relief.
fn believed(locality: &Locality, now_us: u64) -> (f64, f64) {
    (locality.applied * locality.total, locality.open(now_us) * locality.relief)
}

/// As it is: better than panic.
fn anything(locality: &Locality, _now_us: u64) -> (f64, f64) {
    let capacity = if forbidden(locality) { 0.0 } else { locality.hard * locality.total };
    (capacity, 1.0)
}
