//! New configuration: what stays keeps its statistics, what comes or comes back starts slowly.

use crate::ask::Candidate;
use crate::balancer::{Balancer, Rung};
use crate::compare::Tally;
use crate::connections::Connections;
use crate::locality::{Locality, Rank, Summary};
use crate::measure::{Failures, Latency};
use crate::member::{Key, Member, Ramp};
use crate::standing::Standing;
use crate::subset;
use crate::table::Seat;
use api::ZoneName;
use api::config::{Balancing, Endpoint, Endpoints, EndpointsPlace, RemoteEndpoints, ZoneInfo};
use api::kinds::{Place, ZoneState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One candidate, as the configuration has it.
struct Listed {
    key: Key,
    candidate: Candidate,
    weight: f64,
    ready: bool,
}

impl Balancer {
    /// Replaces what is known. Statistics of candidates that stay are kept; newcomers and returners start slowly.
    pub fn update(
        &mut self,
        config: &Balancing,
        sets: &[Arc<Endpoints>],
        zones: &BTreeMap<ZoneName, ZoneInfo>,
        now_us: u64,
    ) {
        self.config = config.clone();
        let first = self.index.is_empty();
        let mut before = std::mem::take(&mut self.localities);
        before.iter_mut().for_each(|place| place.members.clear());
        let mut stays = vec![false; self.members.len()];
        for set in sets {
            match &set.place {
                EndpointsPlace::Local(endpoints) => {
                    for endpoint in endpoints {
                        let rank = rank(&self.place, &endpoint.place);
                        let at = self.locality(&mut before, &set.zone, rank);
                        self.endpoint(at, endpoint, first, &mut stays, now_us);
                    }
                }
                EndpointsPlace::Remote(remote) => {
                    let at = self.locality(&mut before, &set.zone, Rank::Remote);
                    self.gateways(at, remote, first, &mut stays, now_us);
                }
            }
        }
        self.forget(&stays);
        for place in &mut self.localities {
            let state = zones.get(&place.zone).map_or(ZoneState::Active, |info| info.state);
            if state != place.state {
                // What it gave up while draining comes back as slowly as anything else.
                place.applied *= place.open(now_us);
                (place.state, place.state_since_us) = (state, now_us);
            }
        }
        self.rank_tiers();
        for index in 0..self.localities.len() {
            subset::choose(&self.localities[index], &mut self.members, &self.config, self.caller);
            self.seat(index);
            self.localities[index].measure(&mut self.members, &self.config, now_us);
            if first {
                self.localities[index].believe();
            }
        }
        self.observed_at_us.get_or_insert(now_us);
        self.settle(now_us);
    }

    /// The locality of `zone` at `rank`, taken over from before or new.
    fn locality(&mut self, before: &mut Vec<Locality>, zone: &ZoneName, rank: Rank) -> usize {
        let same = |place: &Locality| place.zone == *zone && place.rank == rank;
        if let Some(index) = self.localities.iter().position(same) {
            return index;
        }
        let place = match before.iter().position(same) {
            Some(index) => before.swap_remove(index),
            None => Locality::new(zone.clone(), rank),
        };
        self.localities.push(place);
        self.localities.len() - 1
    }

    fn endpoint(&mut self, at: usize, endpoint: &Endpoint, first: bool, stays: &mut Vec<bool>, now_us: u64) {
        let Endpoint { workload, address, identity, weight, ready, place: _ } = endpoint;
        let key = Key::Endpoint(workload.clone(), *address);
        let candidate =
            Candidate::Endpoint { workload: workload.clone(), address: *address, identity: identity.clone() };
        let listed = Listed { key, candidate, weight: f64::from(*weight), ready: *ready };
        self.member_for(at, listed, first, stays, now_us);
    }

    fn gateways(&mut self, at: usize, remote: &RemoteEndpoints, first: bool, stays: &mut Vec<bool>, now_us: u64) {
        let RemoteEndpoints { gateways, identities, ready, total, weight, load } = remote;
        let identities: Arc<[_]> = identities.as_slice().into();
        for address in gateways {
            let key = Key::Gateway(self.localities[at].zone.clone(), *address);
            let candidate = Candidate::Gateway { address: *address, identities: identities.clone() };
            self.member_for(at, Listed { key, candidate, weight: 1.0, ready: true }, first, stays, now_us);
        }
        let place = &mut self.localities[at];
        let summary = Summary { ready: *ready, total: *total, weight: *weight, load: *load };
        if place.summary != Some(summary) {
            place.summary = Some(summary);
            place.summary_at_us = now_us;
        }
    }

    fn member_for(&mut self, at: usize, listed: Listed, first: bool, stays: &mut Vec<bool>, now_us: u64) {
        let slot = match self.index.get(&listed.key) {
            Some(slot) => *slot,
            None => self.newcomer(&listed, at, first, now_us),
        };
        let Listed { key: _, candidate, weight, ready } = listed;
        let member = self.members[slot as usize].as_mut().expect("indexed members exist");
        if ready && !member.ready {
            member.ramp = match member.ramp {
                Ramp::New { .. } => Ramp::New { since_us: now_us },
                Ramp::Done | Ramp::Back { .. } => Ramp::Back { since_us: now_us },
            };
            // It was restarted, most likely: worth a probe now.
            member.standing.due_now(now_us);
        }
        if *member.candidate != candidate {
            member.candidate = Arc::new(candidate);
        }
        (member.weight, member.ready, member.locality) = (weight, ready, at);
        stays.resize(self.members.len(), false);
        // The same address written twice is one candidate.
        if !std::mem::replace(&mut stays[slot as usize], true) {
            self.localities[at].members.push(slot);
        }
    }

    fn newcomer(&mut self, listed: &Listed, at: usize, first: bool, now_us: u64) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.generations.push(0);
            self.members.len() as u32 - 1
        });
        self.members[slot as usize] = Some(Member {
            generation: self.generations[slot as usize],
            hash: listed.key.hash(),
            zone: self.localities[at].zone.clone(),
            key: listed.key.clone(),
            candidate: Arc::new(listed.candidate.clone()),
            weight: listed.weight,
            ready: listed.ready,
            standing: Standing::new(now_us),
            ramp: if first { Ramp::Done } else { Ramp::New { since_us: now_us } },
            counts: 1.0,
            chosen: true,
            tally: Tally::default(),
            in_flight: 0,
            latency: Latency::new(now_us),
            failures: Failures::default(),
            load: None,
            connections: Connections::default(),
            locality: at,
        });
        self.index.insert(listed.key.clone(), slot);
        slot
    }

    /// Drops every candidate that does not stay; its id never comes back.
    fn forget(&mut self, stays: &[bool]) {
        for (slot, member) in self.members.iter_mut().enumerate() {
            if stays.get(slot) == Some(&true) {
                continue;
            }
            if let Some(member) = member.take() {
                self.index.remove(&member.key);
                self.generations[slot] = self.generations[slot].wrapping_add(1);
                self.free.push(slot as u32);
            }
        }
    }

    /// Which keys belong to whom in one locality.
    fn seat(&mut self, locality: usize) {
        let place = &mut self.localities[locality];
        let mut seats = Vec::new();
        if self.config.algorithm.hashes() {
            let members = place.members.iter().filter_map(|slot| Some((*slot, self.members[*slot as usize].as_ref()?)));
            seats.extend(members.map(|(slot, member)| Seat { id: member.hash, weight: member.weight, slot }));
        }
        place.table.rebuild(&self.config, seats);
    }

    /// Own zone from near to far, then the failover list. Zones in neither are for pinned requests only.
    fn rank_tiers(&mut self) {
        let own = |place: &Locality| place.rank != Rank::Remote && place.zone == self.zone;
        let mut ranks: Vec<usize> = (0..self.localities.len()).filter(|index| own(&self.localities[*index])).collect();
        ranks.sort_by_key(|index| self.localities[*index].rank);
        let near = ranks.into_iter().map(|index| Rung { localities: vec![index], ..Rung::default() });
        let far = self.config.failover.iter().filter_map(|tier| {
            let listed = |index: &usize| {
                let place = &self.localities[*index];
                place.rank == Rank::Remote && tier.zones.contains(&place.zone)
            };
            let localities: Vec<usize> = (0..self.localities.len()).filter(listed).collect();
            (!localities.is_empty()).then(|| Rung { localities, ..Rung::default() })
        });
        self.tiers = near.chain(far).collect();
    }
}

/// How near `theirs` is, seen from `ours`. What is not known is not near.
fn rank(ours: &Place, theirs: &Place) -> Rank {
    let same = |a: &Option<String>, b: &Option<String>| a.is_some() && a == b;
    match () {
        () if same(&ours.node, &theirs.node) => Rank::Node,
        () if same(&ours.az, &theirs.az) => Rank::Az,
        () if same(&ours.region, &theirs.region) => Rank::Region,
        () => Rank::Zone,
    }
}
