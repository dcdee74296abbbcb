//! The balancer of one service: state, and what changes it.

use crate::ask::{Ask, Candidate, CandidateId, Choice, ConnectionId, Outcome, Target, Tiers};
use api::config::{Balancing, Endpoints, ZoneInfo};
use api::kinds::Place;
use api::{RouteReason, ZoneName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything one proxy knows of the candidates of one service.
#[derive(Debug)]
pub struct Balancer {
    zone: ZoneName,
    place: Place,
    config: Balancing,
}

impl Balancer {
    /// For a proxy in `zone` at `place`; knows nothing before the first [`update`](Self::update).
    pub fn new(zone: ZoneName, place: Place, config: &Balancing) -> Self {
        Self { zone, place, config: config.clone() }
    }

    /// Replaces what is known. Statistics of candidates that stay are kept; newcomers and returners start slowly.
    pub fn update(
        &mut self,
        config: &Balancing,
        _sets: &[Arc<Endpoints>],
        _zones: &BTreeMap<ZoneName, ZoneInfo>,
        _now_us: u64,
    ) {
        self.config = config.clone();
    }

    /// Chooses where one try goes. `Err`: why it can go nowhere.
    pub fn pick(
        &mut self,
        _ask: &Ask<'_>,
        _now_us: u64,
        _rng: &mut impl FnMut() -> u64,
    ) -> Result<Choice, RouteReason> {
        let _ = (&self.zone, &self.place);
        Err(RouteReason::NoEndpoint)
    }

    /// A try was sent. Every `started` is followed by exactly one [`finished`](Self::finished).
    pub fn started(&mut self, _target: impl Into<Target>, _now_us: u64) {}

    /// A try ended.
    pub fn finished(&mut self, _target: impl Into<Target>, _now_us: u64, _outcome: Outcome) {}

    /// The data path saw a sign of life (a pong, a byte): a candidate that hung may be probed at once.
    pub fn alive(&mut self, _target: impl Into<Target>, _now_us: u64) {}

    /// An answer of this candidate told its utilisation, 0.0 to 1.0 and beyond.
    pub fn load(&mut self, _id: CandidateId, _load: f64, _now_us: u64) {}

    /// A connection through a gateway is ready for use.
    pub fn connection_opened(&mut self, gateway: CandidateId, _now_us: u64) -> ConnectionId {
        ConnectionId { gateway, number: 0 }
    }

    /// It is gone. Closing says nothing about health; failures are outcomes.
    pub fn connection_closed(&mut self, _connection: ConnectionId) {}

    /// Gateways of the next failover places that want more connections, so that failing over costs no handshake.
    pub fn wants(&self) -> impl Iterator<Item = (CandidateId, &Arc<Candidate>, u32)> {
        std::iter::empty()
    }

    /// Candidates that are out after failures, with the reason.
    pub fn ejected(&self, _now_us: u64) -> impl Iterator<Item = (CandidateId, RouteReason)> {
        std::iter::empty()
    }

    /// Zone and address of a candidate, while it is known.
    pub fn candidate(&self, _id: CandidateId) -> Option<(&ZoneName, &Arc<Candidate>)> {
        None
    }

    /// Where requests go now, and why.
    pub fn explain(&self, _now_us: u64) -> Tiers {
        Tiers::default()
    }

    /// Does what time brings (ramps, observations, ends of ejections). `pick` does it too.
    pub fn tick(&mut self, _now_us: u64) {}

    /// When [`tick`](Self::tick) has something to do next, if there is anything.
    pub fn next_event_us(&self) -> Option<u64> {
        None
    }
}
