//! The balancer of one service: its state, and the small questions about it.

use crate::ask::{Candidate, CandidateId, ConnectionId};
use crate::compare::Tallied;
use crate::limits::OBSERVE_US;
use crate::locality::Locality;
use crate::member::{Key, Member};
use crate::place::Supply;
use api::config::Balancing;
use api::kinds::Place;
use api::{RouteReason, ZoneName};
use std::collections::HashMap;
use std::sync::Arc;

/// Everything one proxy knows of the candidates of one service.
///
/// Endpoints the control plane calls unready get nothing while anything else is usable; when nothing is, they are tried
/// too, because what the data path sees outranks what the control path last said.
#[derive(Debug)]
pub struct Balancer {
    pub(crate) zone: ZoneName,
    pub(crate) place: Place,
    /// Number of who calls, for subsets.
    pub(crate) caller: u64,
    pub(crate) config: Balancing,
    /// By slot.
    pub(crate) members: Vec<Option<Member>>,
    pub(crate) generations: Vec<u32>,
    pub(crate) free: Vec<u32>,
    pub(crate) index: HashMap<Key, u32>,
    pub(crate) localities: Vec<Locality>,
    /// In the order in which they are filled.
    pub(crate) tiers: Vec<Rung>,
    /// Localities that get something, with running sums of their shares.
    pub(crate) lanes: Vec<Lane>,
    pub(crate) panic: bool,
    pub(crate) observed_at_us: Option<u64>,
    /// The next time some candidate may be probed; `u64::MAX`: none is out.
    pub(crate) probe_at_us: u64,
    /// Reused by every settling.
    pub(crate) supplies: Vec<Supply>,
    pub(crate) shares: Vec<f64>,
    /// Reused by every comparison.
    pub(crate) tallied: Vec<Tallied>,
    pub(crate) compared_at_us: u64,
}

/// One tier.
#[derive(Debug, Default)]
pub(crate) struct Rung {
    pub(crate) localities: Vec<usize>,
    pub(crate) supply: Supply,
    pub(crate) share: f64,
}

/// One locality that gets a share of all requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub(crate) locality: usize,
    /// Running sum of shares.
    pub(crate) upto: f64,
    pub(crate) reason: RouteReason,
}

impl Balancer {
    /// For a proxy in `zone` at `place`; knows nothing before the first [`update`](Self::update).
    pub fn new(zone: ZoneName, place: Place, config: &Balancing) -> Self {
        Self {
            zone,
            place,
            caller: 0,
            config: config.clone(),
            members: Vec::new(),
            generations: Vec::new(),
            free: Vec::new(),
            index: HashMap::new(),
            localities: Vec::new(),
            tiers: Vec::new(),
            lanes: Vec::new(),
            panic: false,
            observed_at_us: None,
            probe_at_us: u64::MAX,
            supplies: Vec::new(),
            shares: Vec::new(),
            tallied: Vec::new(),
            compared_at_us: 0,
        }
    }

    /// Who calls, as [`hash_key`](crate::hash_key) tells: proxies with different numbers have different subsets.
    #[must_use]
    pub fn called_by(self, caller: u64) -> Self {
        Self { caller, ..self }
    }

    /// Zone and address of a candidate, while it is known.
    pub fn candidate(&self, id: CandidateId) -> Option<(&ZoneName, &Arc<Candidate>)> {
        self.member(id).map(|member| (&member.zone, &member.candidate))
    }

    /// Candidates that are out after failures, with the reason.
    pub fn ejected(&self, _now_us: u64) -> impl Iterator<Item = (CandidateId, RouteReason)> {
        self.members().filter_map(|(id, member)| Some((id, member.standing.out()?.reason())))
    }

    /// A connection through a gateway is ready for use. Proof that the gateway works.
    pub fn connection_opened(&mut self, gateway: CandidateId, now_us: u64) -> ConnectionId {
        let Some(member) = self.member_mut(gateway) else {
            return ConnectionId { gateway, number: u32::MAX };
        };
        let id = member.connections.opened(gateway, now_us);
        if member.standing.succeeded(now_us) {
            self.came_back(gateway, now_us);
        }
        id
    }

    /// It is gone. Closing says nothing about health; failures are outcomes.
    pub fn connection_closed(&mut self, connection: ConnectionId) {
        if let Some(member) = self.member_mut(connection.gateway) {
            member.connections.closed(connection.number);
        }
    }

    /// Gateways that want more connections: as many as they have workloads behind them where requests go, and one in
    /// the next place, so that failing over costs no handshake.
    pub fn wants(&self) -> impl Iterator<Item = (CandidateId, &Arc<Candidate>, u32)> {
        let used = self.tiers.iter().rposition(|tier| tier.share > 0.0).map_or(0, |last| last + 1);
        let tiers = self.tiers.iter().take(used + 1);
        let members = tiers.flat_map(|tier| {
            let places = tier.localities.iter().map(|index| &self.localities[*index]);
            places.flat_map(move |place| {
                let ready = place.summary.map_or(0, |summary| summary.ready);
                place.usable.slots().map(move |slot| (slot, ready, tier.share > 0.0))
            })
        });
        members.filter_map(|(slot, ready, used)| {
            let member = self.members[slot as usize].as_ref()?;
            let missing = match used {
                _ if ready == 0 => 0,
                true => member.connections.missing(ready),
                false => u32::from(!member.connections.is_open()),
            };
            let id = CandidateId { slot, generation: member.generation };
            (missing > 0).then_some((id, &member.candidate, missing))
        })
    }

    /// Does what time brings (ramps, observations, ends of ejections). `pick` does it too.
    pub fn tick(&mut self, now_us: u64) {
        let before = *self.observed_at_us.get_or_insert(now_us);
        let passed = now_us.saturating_sub(before);
        if passed < OBSERVE_US {
            return;
        }
        self.observed_at_us = Some(now_us);
        self.compare(now_us);
        for index in 0..self.localities.len() {
            self.localities[index].measure(&mut self.members, &self.config, now_us);
            self.localities[index].observe(&self.members, &self.config, passed, now_us);
        }
        self.settle(now_us);
    }

    /// When [`tick`](Self::tick) has something to do next, if there is anything.
    pub fn next_event_us(&self) -> Option<u64> {
        let last = self.observed_at_us?;
        let settled = self.localities.iter().all(|place| place.settled(last));
        (!settled || self.probe_at_us != u64::MAX).then_some(last + OBSERVE_US)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (CandidateId, &Member)> {
        self.members.iter().enumerate().filter_map(|(slot, member)| {
            let member = member.as_ref()?;
            Some((CandidateId { slot: slot as u32, generation: member.generation }, member))
        })
    }

    pub(crate) fn member(&self, id: CandidateId) -> Option<&Member> {
        self.members.get(id.slot as usize)?.as_ref().filter(|member| member.generation == id.generation)
    }

    pub(crate) fn member_mut(&mut self, id: CandidateId) -> Option<&mut Member> {
        self.members.get_mut(id.slot as usize)?.as_mut().filter(|member| member.generation == id.generation)
    }
}
