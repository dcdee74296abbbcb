//! One draw: place, candidate, connection. No allocation, and no work that grows with the number of endpoints.

use crate::ask::{Ask, CandidateId, Choice};
use crate::balancer::{Balancer, Lane};
use crate::fault::{Fault, planted};
use crate::key::{mix_with, unit};
use crate::limits::{DRAWS_MAX, PROBE_OVERDUE_US};
use crate::locality::Rank;
use crate::settle::forbidden;
use api::config::Algorithm;
use api::{RouteReason, ZoneName};

/// Use of a key that chooses places: another one than choosing endpoints.
const PLACES: u64 = 1;

/// Which members of a locality may be chosen.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Of {
    Usable,
    All,
}

impl Balancer {
    /// Chooses where one try goes. `Err`: why it can go nowhere.
    ///
    /// A try after a failure goes to another candidate of the same place while that place is known to work, then to
    /// another zone, so that three dead endpoints at once cost a request nothing but time.
    pub fn pick(&mut self, ask: &Ask<'_>, now_us: u64, rng: &mut impl FnMut() -> u64) -> Result<Choice, RouteReason> {
        self.tick(now_us);
        let key = ask.hash.filter(|_| self.config.algorithm.hashes());
        if ask.tried.is_empty()
            && now_us >= self.probe_at_us
            && let Some((slot, reason)) = self.probe(ask, key, now_us)
        {
            return Ok(self.choice(slot, reason, key, true, now_us, rng));
        }
        let tried = if planted(Fault::RetriesForget) { &[] } else { ask.tried };
        // While places share requests, a key stays with its place.
        let at = match key {
            Some(key) if !planted(Fault::KeyForgetsPlace) => mix_with(key, PLACES),
            _ => rng(),
        };
        let (lane, of) = self.lane(ask.zone, unit(at)).ok_or_else(|| self.refusal(ask.zone))?;
        let found = match tried {
            [] => self.draw(lane.locality, of, tried, key, now_us, rng).map(|slot| (slot, lane.reason)),
            _ => self.draw_again(ask.zone, lane, of, tried, key, now_us, rng),
        };
        // Everything was tried: once more as if nothing had been.
        let found = found.or_else(|| Some((self.draw(lane.locality, of, &[], key, now_us, rng)?, lane.reason)));
        let (slot, reason) = found.ok_or_else(|| self.refusal(ask.zone))?;
        Ok(self.choice(slot, reason, key, false, now_us, rng))
    }

    /// Somebody whose time out is over, to be tried once.
    fn probe(&mut self, ask: &Ask<'_>, key: Option<u64>, now_us: u64) -> Option<(u32, RouteReason)> {
        let patience = if ask.precious { PROBE_OVERDUE_US } else { 0 };
        let (mut next, mut found) = (u64::MAX, None);
        for (slot, member) in self.members.iter().enumerate() {
            let Some(member) = member.as_ref().filter(|member| member.ready) else { continue };
            let Some(due) = member.standing.due_us() else { continue };
            next = next.min(due);
            let place = &self.localities[member.locality];
            let wanted = match ask.zone {
                Some(zone) => *zone == member.zone,
                None => self.tiers.iter().any(|tier| tier.localities.contains(&member.locality)),
            };
            // A session goes to nobody but its own to find that out.
            let own = |key| self.owner(member.locality, key) == Some(slot as u32) || planted(Fault::KeyProbesStrangers);
            if found.is_none()
                && wanted
                && member.chosen
                && due + patience <= now_us
                && !forbidden(place)
                && key.is_none_or(own)
            {
                found = Some(slot as u32);
            }
        }
        self.probe_at_us = next;
        let slot = found?;
        let member = self.members[slot as usize].as_mut().expect("found above");
        member.standing.probe(now_us);
        let (at, pinned) = (member.locality, ask.zone.is_some());
        let reason = match self.tiers.iter().position(|tier| tier.localities.contains(&at)) {
            _ if pinned => RouteReason::Pinned,
            Some(rank) => self.reason(rank),
            None => RouteReason::Local,
        };
        Some((slot, reason))
    }

    /// The locality for a number in 0.0 to 1.0; within one zone, if it is named.
    fn lane(&self, zone: Option<&ZoneName>, at: f64) -> Option<(Lane, Of)> {
        let Some(zone) = zone else {
            let lane = self.lanes.iter().find(|lane| at < lane.upto).or(self.lanes.last())?;
            return Some((*lane, if self.panic { Of::All } else { Of::Usable }));
        };
        let mut places =
            self.localities.iter().enumerate().filter(|(_, place)| place.zone == *zone && !forbidden(place));
        let usable = places.clone().filter(|(_, place)| place.usable.total() > 0.0);
        // Within a zone, capacity decides: whoever names a zone did not ask for a node.
        let whole: f64 = usable.clone().map(|(_, place)| place.usable.total()).sum();
        let mut left = at * whole;
        let mut last = None;
        for (locality, place) in usable {
            last = Some(Lane { locality, upto: 1.0, reason: RouteReason::Pinned });
            left -= place.usable.total();
            if left < 0.0 {
                break;
            }
        }
        match last {
            Some(lane) => Some((lane, Of::Usable)),
            None => {
                let (locality, _) = places.find(|(_, place)| place.all.total() > 0.0)?;
                Some((Lane { locality, upto: 1.0, reason: RouteReason::Panic }, Of::All))
            }
        }
    }

    /// One of the locality's members, by the service's algorithm; `None` when all were tried.
    #[allow(clippy::too_many_arguments)] // One draw is all of these; a struct would only rename them.
    fn draw(
        &mut self,
        locality: usize,
        of: Of,
        tried: &[CandidateId],
        key: Option<u64>,
        now_us: u64,
        rng: &mut impl FnMut() -> u64,
    ) -> Option<u32> {
        if let Some(key) = key {
            return self.draw_by_key(locality, of, tried, key);
        }
        let turn = self.localities[locality].turn;
        self.localities[locality].turn = turn.wrapping_add(1);
        let place = &self.localities[locality];
        let wheel = if of == Of::Usable { &place.usable } else { &place.all };
        let fresh =
            |slot: u32| self.members[slot as usize].as_ref().is_some_and(|one| !knows(tried, slot, one.generation));
        let mut random = |turns: u64| match self.config.algorithm {
            Algorithm::RoundRobin => wheel.turn(turn.wrapping_add(turns)),
            _ => wheel.at(unit(rng())),
        };
        let mut one = || (0..DRAWS_MAX).filter_map(|turns| random(u64::from(turns))).find(|slot| fresh(*slot));
        let first = one().or_else(|| wheel.slots().find(|slot| fresh(*slot)))?;
        let member = |slot: u32| self.members[slot as usize].as_ref().expect("wheels hold members");
        let cost = |slot: u32| match self.config.algorithm {
            Algorithm::PeakEwma => member(slot).cost(now_us),
            _ => f64::from(member(slot).in_flight),
        };
        match self.config.algorithm {
            // A request without a key goes anywhere.
            Algorithm::RoundRobin | Algorithm::Random | Algorithm::RingHash | Algorithm::Maglev => Some(first),
            Algorithm::PeakEwma | Algorithm::LeastRequest => {
                // Two draws of the same one compare nothing; one more draw is cheap.
                let second = one().filter(|second| *second != first).or_else(one).unwrap_or(first);
                let better = cost(second) < cost(first);
                Some(if better != planted(Fault::PrefersWorse) { second } else { first })
            }
        }
    }

    /// For another try: the same place once, if it is known to work; then another zone; then whatever is left.
    #[allow(clippy::too_many_arguments)] // As above.
    fn draw_again(
        &mut self,
        pinned: Option<&ZoneName>,
        lane: Lane,
        of: Of,
        tried: &[CandidateId],
        key: Option<u64>,
        now_us: u64,
        rng: &mut impl FnMut() -> u64,
    ) -> Option<(u32, RouteReason)> {
        let place = &self.localities[lane.locality];
        let works = place.proven && place.trouble <= 1;
        if tried.len() == 1
            && works
            && let Some(slot) = self.draw(lane.locality, of, tried, key, now_us, rng)
        {
            return Some((slot, lane.reason));
        }
        // Another zone first, in the order of tiers, then any other place.
        for elsewhere in [true, false] {
            for rank in 0..self.tiers.len() {
                for nth in 0..self.tiers[rank].localities.len() {
                    let index = self.tiers[rank].localities[nth];
                    let place = &self.localities[index];
                    let zone_tried = tried.iter().any(|id| self.member(*id).is_some_and(|one| one.zone == place.zone));
                    if pinned.is_some_and(|zone| *zone != place.zone) || forbidden(place) || (elsewhere && zone_tried) {
                        continue;
                    }
                    if let Some(slot) = self.draw(index, Of::Usable, tried, key, now_us, rng) {
                        let reason = if elsewhere { RouteReason::RetryElsewhere } else { lane.reason };
                        return Some((slot, reason));
                    }
                }
            }
        }
        let slot = self.draw(lane.locality, of, tried, key, now_us, rng)?;
        Some((slot, lane.reason))
    }

    fn choice(
        &mut self,
        slot: u32,
        reason: RouteReason,
        key: Option<u64>,
        probe: bool,
        now_us: u64,
        rng: &mut impl FnMut() -> u64,
    ) -> Choice {
        let panic = self.panic;
        let member = self.members[slot as usize].as_mut().expect("wheels hold members");
        let id = CandidateId { slot, generation: member.generation };
        let place = &self.localities[member.locality];
        let (mut connection, mut proves) = (None, probe);
        if place.rank == Rank::Remote {
            let ready = place.summary.map_or(1, |summary| summary.ready);
            // A gateway that is being probed is asked for a new connection: the old ones may be what hangs.
            if !probe || member.connections.any_good() {
                let picked = member.connections.pick(ready, key, !panic, now_us, rng);
                connection = picked.map(|(number, _)| crate::ask::ConnectionId { gateway: id, number });
                proves |= picked.is_some_and(|(_, probe)| probe);
            }
        }
        Choice { id, connection, zone: member.zone.clone(), candidate: member.candidate.clone(), reason, probe: proves }
    }

    fn refusal(&self, zone: Option<&ZoneName>) -> RouteReason {
        let here = |index: usize| zone.is_none_or(|zone| self.localities[index].zone == *zone);
        let any = (0..self.localities.len())
            .filter(|index| here(*index))
            .any(|index| !self.localities[index].members.is_empty());
        // There are candidates, and none may be used: its zone is disabled, or not in the failover list.
        if any { RouteReason::PolicyForbids } else { RouteReason::NoEndpoint }
    }
}

pub(crate) fn knows(tried: &[CandidateId], slot: u32, generation: u32) -> bool {
    tried.iter().any(|id| id.slot == slot && id.generation == generation)
}
