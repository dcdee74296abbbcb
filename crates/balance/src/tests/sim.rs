//! A small world of zones, workloads, gateways and clients in simulated time. Every client has its own balancer and
//! sees only its own traffic and the summaries everybody sees. One seed, one history.

use crate::{Ask, Balancer, Candidate, CandidateId, Choice, ConnectionId, Outcome};
use api::config::{
    Balancing, Endpoint, Endpoints, EndpointsPlace, FailoverTier, RemoteEndpoints, ServiceRef, ZoneInfo,
};
use api::kinds::{Place, ZoneState};
use api::{RouteReason, ZoneName};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

pub const MS: u64 = 1_000;
pub const S: u64 = 1_000_000;

/// SplitMix64.
pub fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Life {
    Up,
    /// Refuses connections, breaks those there are.
    Dead,
    /// Accepts, answers nothing.
    Frozen,
    /// Answers 500.
    Failing,
}

#[derive(Clone, Debug)]
pub struct Workload {
    pub zone: usize,
    pub life: Life,
    /// As the control plane says.
    pub ready: bool,
    pub weight: u32,
    pub latency_us: u64,
    /// While up: of a thousand answers, so many are 500.
    pub bad_of_1000: u64,
}

/// A finished request, or one try of it.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at_us: u64,
    pub client: usize,
    /// Whom the last try asked.
    pub workload: Option<usize>,
    pub ok: bool,
    pub reason: RouteReason,
    /// Whose session it was of.
    pub key: Option<u64>,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Request(usize),
    Finish(usize),
    Summaries,
}

struct Flight {
    client: usize,
    choice: Choice,
    workload: usize,
    tried: Vec<CandidateId>,
    key: Option<u64>,
    answered: bool,
    outcome: Outcome,
}

struct Client {
    balancer: Balancer,
    pinned: HashMap<ConnectionId, usize>,
}

pub struct World {
    pub now_us: u64,
    pub zones: Vec<ZoneName>,
    pub states: Vec<ZoneState>,
    pub cut: Vec<bool>,
    /// Requests a second a zone can serve.
    pub capacity: Vec<f64>,
    pub workloads: Vec<Workload>,
    pub config: Balancing,
    pub retries: usize,
    /// Sessions of which each request is one, the same for all clients. None: requests have no key.
    pub sessions: u64,
    /// Every other client is told of the endpoints from the last to the first.
    pub odd_listed_backwards: bool,
    pub requests: Vec<Sample>,
    pub tries: Vec<Sample>,
    clients: Vec<Client>,
    interval_us: u64,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    flights: HashMap<usize, Flight>,
    sequence: u64,
    served: Vec<u64>,
    load: Vec<f64>,
    rng: Box<dyn FnMut() -> u64>,
}

impl World {
    /// `workloads` of each zone; clients are in the first one, which fails over to the others in order.
    pub fn new(seed: u64, workloads: &[usize], clients: usize, per_second: f64, config: Balancing) -> Self {
        let zones: Vec<ZoneName> =
            (0..workloads.len()).map(|zone| format!("z{zone}").as_str().try_into().unwrap()).collect();
        let tiers = zones.iter().skip(1).map(|zone| FailoverTier { zones: vec![zone.clone()] });
        let config = Balancing { failover: tiers.collect(), ..config };
        let all = workloads.iter().enumerate().flat_map(|(zone, count)| (0..*count).map(move |_| zone));
        let workload =
            |zone| Workload { zone, life: Life::Up, ready: true, weight: 1, latency_us: 5 * MS, bad_of_1000: 0 };
        let client = |number| {
            let balancer = Balancer::new(zones[0].clone(), Place::default(), &config).called_by(number as u64);
            Client { balancer, pinned: HashMap::new() }
        };
        let count = zones.len();
        let mut world = Self {
            now_us: 0,
            states: vec![ZoneState::Active; count],
            cut: vec![false; count],
            capacity: vec![f64::INFINITY; count],
            workloads: all.map(workload).collect(),
            clients: (0..clients).map(client).collect(),
            zones,
            config,
            retries: 2,
            sessions: 0,
            odd_listed_backwards: false,
            requests: Vec::new(),
            tries: Vec::new(),
            interval_us: (1e6 / per_second) as u64,
            events: BinaryHeap::new(),
            flights: HashMap::new(),
            sequence: 0,
            served: vec![0; count],
            load: vec![0.0; count],
            rng: Box::new(random(seed)),
        };
        for client in 0..clients {
            let at = (world.rng)() % world.interval_us;
            world.at(at, Event::Request(client));
        }
        world.at(S, Event::Summaries);
        world
    }

    /// Tells every client what the control plane says now.
    pub fn publish(&mut self) {
        let service =
            ServiceRef { mesh: Default::default(), namespace: Default::default(), name: "cart".try_into().unwrap() };
        let mut sets = Vec::new();
        for (zone, name) in self.zones.iter().enumerate() {
            let mine = || self.workloads.iter().enumerate().filter(move |(_, one)| one.zone == zone);
            let place = if zone == 0 {
                EndpointsPlace::Local(mine().map(|(index, one)| endpoint(name, index, one)).collect())
            } else {
                let ready = || mine().filter(|(_, one)| one.ready);
                EndpointsPlace::Remote(RemoteEndpoints {
                    gateways: (0..2).map(|nth| gateway(zone, nth)).collect(),
                    identities: Vec::new(),
                    ready: ready().count() as u32,
                    total: mine().count() as u32,
                    weight: ready().map(|(_, one)| one.weight).sum(),
                    load: self.capacity[zone].is_finite().then_some(self.load[zone]),
                })
            };
            sets.push(Arc::new(Endpoints { service: service.clone(), zone: name.clone(), place }));
        }
        let info = |(zone, state): (&ZoneName, &ZoneState)| {
            (zone.clone(), ZoneInfo { zone: zone.clone(), region: None, state: *state })
        };
        let zones: BTreeMap<_, _> = self.zones.iter().zip(&self.states).map(info).collect();
        let mut backwards = sets.clone();
        if let EndpointsPlace::Local(endpoints) = &mut Arc::make_mut(&mut backwards[0]).place {
            endpoints.reverse();
        }
        for (number, client) in self.clients.iter_mut().enumerate() {
            let sets = if self.odd_listed_backwards && number % 2 == 1 { &backwards } else { &sets };
            client.balancer.update(&self.config, sets, &zones, self.now_us);
        }
    }

    pub fn run_for(&mut self, us: u64) {
        let end = self.now_us + us;
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= end
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.now_us = at;
            match event {
                Event::Request(client) => {
                    let jitter = self.interval_us / 2 + (self.rng)() % self.interval_us;
                    self.at(at + jitter, Event::Request(client));
                    let key =
                        (self.sessions > 0).then(|| crate::hash_key(&((self.rng)() % self.sessions).to_le_bytes()));
                    self.send(client, Vec::new(), key);
                }
                Event::Finish(flight) => self.finish(flight),
                Event::Summaries => self.summaries(),
            }
        }
        self.now_us = end;
    }

    pub fn balancer(&self, client: usize) -> &Balancer {
        &self.clients[client].balancer
    }

    /// Share of finished requests between two times for which `wanted` holds.
    pub fn share(&self, from_us: u64, to_us: u64, wanted: impl Fn(&Sample) -> bool) -> f64 {
        let all = || self.requests.iter().filter(|one| one.at_us >= from_us && one.at_us < to_us);
        all().filter(|one| wanted(one)).count() as f64 / (all().count() as f64).max(1.0)
    }

    pub fn zone_of(&self, sample: &Sample) -> Option<usize> {
        sample.workload.map(|workload| self.workloads[workload].zone)
    }

    fn at(&mut self, at_us: u64, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at_us, self.sequence, event)));
    }

    fn send(&mut self, client: usize, tried: Vec<CandidateId>, key: Option<u64>) {
        let ask = Ask { tried: &tried, hash: key, ..Ask::default() };
        let picked = self.clients[client].balancer.pick(&ask, self.now_us, &mut self.rng);
        let Ok(choice) = picked else {
            let reason = picked.expect_err("matched above");
            self.requests.push(Sample { at_us: self.now_us, client, workload: None, ok: false, reason, key });
            return;
        };
        let (workload, gateway_cut, fresh) = self.reach(client, &choice);
        let one = &self.workloads[workload];
        let jitter = (self.rng)() % 1000;
        let latency_us = one.latency_us * (500 + jitter) / 1000;
        let bad = one.bad_of_1000 > 0 && (self.rng)() % 1000 < one.bad_of_1000;
        let (after, outcome) = match one.life {
            _ if gateway_cut && fresh => (S, Outcome::ConnectFailed),
            _ if gateway_cut => (2 * S, Outcome::Hung),
            Life::Up if bad => (latency_us, Outcome::Answered { latency_us, status: 500 }),
            Life::Up => (latency_us, Outcome::Answered { latency_us, status: 200 }),
            Life::Failing => (MS, Outcome::Answered { latency_us: MS, status: 500 }),
            Life::Dead if fresh => (MS, Outcome::ConnectFailed),
            Life::Dead => (MS, Outcome::Broken),
            Life::Frozen if fresh && matches!(*choice.candidate, Candidate::Gateway { .. }) => {
                (S, Outcome::ConnectFailed)
            }
            Life::Frozen => (2 * S, Outcome::Hung),
        };
        let mut choice = choice;
        let made = !matches!(outcome, Outcome::ConnectFailed);
        let state = &mut self.clients[client];
        if fresh && made && matches!(*choice.candidate, Candidate::Gateway { .. }) {
            let connection = state.balancer.connection_opened(choice.id, self.now_us);
            state.pinned.insert(connection, workload);
            choice.connection = Some(connection);
        }
        match choice.connection {
            Some(connection) => state.balancer.started(connection, self.now_us),
            None => state.balancer.started(choice.id, self.now_us),
        }
        let answered = matches!(outcome, Outcome::Answered { .. });
        let id = self.sequence as usize + 1;
        let flight = Flight { client, choice, workload, tried, key, answered, outcome };
        self.at(self.now_us + after, Event::Finish(id));
        self.flights.insert(id, flight);
    }

    /// The workload a choice leads to; whether its zone is cut off; whether a connection has to be made.
    fn reach(&mut self, client: usize, choice: &Choice) -> (usize, bool, bool) {
        let zone = self.zones.iter().position(|zone| *zone == choice.zone).unwrap();
        match (&*choice.candidate, choice.connection) {
            (Candidate::Endpoint { workload, .. }, _) => {
                (workload.as_str()[1..].parse().unwrap(), self.cut[zone], true)
            }
            (Candidate::Gateway { .. }, Some(connection)) => {
                (self.clients[client].pinned[&connection], self.cut[zone], false)
            }
            (Candidate::Gateway { .. }, None) => {
                // By least connections of this client, among those its control plane calls ready.
                let mut counts: BTreeMap<usize, usize> = self
                    .workloads
                    .iter()
                    .enumerate()
                    .filter(|(_, one)| one.zone == zone && one.ready)
                    .map(|(index, _)| (index, 0))
                    .collect();
                for workload in self.clients[client].pinned.values() {
                    counts.entry(*workload).and_modify(|count| *count += 1);
                }
                let least = counts.values().min().copied().unwrap_or(0);
                let equal: Vec<usize> =
                    counts.iter().filter(|(_, count)| **count == least).map(|(one, _)| *one).collect();
                let any = self.workloads.iter().position(|one| one.zone == zone).unwrap();
                let nth = (self.rng)() as usize % equal.len().max(1);
                (equal.get(nth).copied().unwrap_or(any), self.cut[zone], true)
            }
        }
    }

    fn finish(&mut self, flight: usize) {
        let Flight { client, choice, workload, mut tried, key, answered, outcome } =
            self.flights.remove(&flight).expect("every flight finishes once");
        let state = &mut self.clients[client];
        let (zone, now_us) = (self.workloads[workload].zone, self.now_us);
        match choice.connection {
            Some(connection) => {
                state.balancer.finished(connection, now_us, outcome);
                if outcome == Outcome::Broken {
                    state.balancer.connection_closed(connection);
                    state.pinned.remove(&connection);
                }
            }
            None => state.balancer.finished(choice.id, now_us, outcome),
        }
        let ok = matches!(outcome, Outcome::Answered { status: 200, .. });
        let sample = Sample { at_us: now_us, client, workload: Some(workload), ok, reason: choice.reason, key };
        self.tries.push(sample);
        if answered {
            self.served[zone] += 1;
            if zone == 0 && self.capacity[0].is_finite() {
                state.balancer.load(choice.id, self.load[0], now_us);
            }
        }
        if !ok && tried.len() < self.retries {
            tried.push(choice.id);
            return self.send(client, tried, key);
        }
        self.requests.push(sample);
    }

    /// Once a second: utilisation, as zones report it.
    fn summaries(&mut self) {
        for zone in 0..self.zones.len() {
            self.load[zone] = self.served[zone] as f64 / self.capacity[zone];
            self.served[zone] = 0;
        }
        self.publish();
        self.at(self.now_us + S, Event::Summaries);
    }
}

fn endpoint(zone: &ZoneName, index: usize, one: &Workload) -> Endpoint {
    let account = "app".try_into().unwrap();
    Endpoint {
        workload: format!("w{index}").as_str().try_into().unwrap(),
        address: SocketAddr::from(([10, 0, (index >> 8) as u8, index as u8], 15008)),
        identity: api::SpiffeId::workload(zone, &Default::default(), &Default::default(), &account),
        weight: one.weight,
        ready: one.ready,
        place: Place::default(),
    }
}

fn gateway(zone: usize, nth: usize) -> SocketAddr {
    SocketAddr::from(([10, 1, zone as u8, nth as u8], 15443))
}
