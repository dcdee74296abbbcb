//! Facts about single decisions; histories of many clients are in `scenarios`.

mod keys;
mod outliers;
mod scenarios;
mod sim;
mod subsets;

use crate::{Ask, Balancer, CandidateId, Choice, Outcome};
use api::config::{
    Balancing, Endpoint, Endpoints, EndpointsPlace, FailoverTier, RemoteEndpoints, ServiceRef, ZoneInfo,
};
use api::kinds::{Place, ZoneState};
use api::{RouteReason, ZoneName};
use sim::{MS, S, random};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A service of local endpoints and remote zones, and one proxy in zone `here`.
struct Given {
    balancer: Balancer,
    config: Balancing,
    local: Vec<(u32, bool, Place)>,
    /// Name, gateways, ready, total, load.
    remote: Vec<(&'static str, u16, u32, u32, Option<f64>)>,
    states: BTreeMap<&'static str, ZoneState>,
    now_us: u64,
    rng: Box<dyn FnMut() -> u64>,
}

fn zone(name: &str) -> ZoneName {
    name.try_into().unwrap()
}

fn given(local: usize, remote: &[(&'static str, u32)]) -> Given {
    let config = Balancing {
        failover: remote.iter().map(|(name, _)| FailoverTier { zones: vec![zone(name)] }).collect(),
        ..Balancing::default()
    };
    let mut given = Given {
        balancer: Balancer::new(zone("here"), Place::default(), &config),
        config,
        local: vec![(1, true, Place::default()); local],
        remote: remote.iter().map(|(name, ready)| (*name, 1, *ready, *ready, None)).collect(),
        states: BTreeMap::new(),
        now_us: S,
        rng: Box::new(random(7)),
    };
    given.update();
    given
}

impl Given {
    fn update(&mut self) {
        let service =
            ServiceRef { mesh: Default::default(), namespace: Default::default(), name: "cart".try_into().unwrap() };
        let set = |zone: ZoneName, place| Arc::new(Endpoints { service: service.clone(), zone, place });
        let account = "app".try_into().unwrap();
        let identity = api::SpiffeId::workload(&zone("here"), &Default::default(), &Default::default(), &account);
        let endpoint = |(index, (weight, ready, place)): (usize, &(u32, bool, Place))| Endpoint {
            workload: format!("w{index}").as_str().try_into().unwrap(),
            address: ([10, 0, 0, index as u8], 15008).into(),
            identity: identity.clone(),
            weight: *weight,
            ready: *ready,
            place: place.clone(),
        };
        let local = EndpointsPlace::Local(self.local.iter().enumerate().map(endpoint).collect());
        let mut sets = vec![set(zone("here"), local)];
        for (nth, (name, gateways, ready, total, load)) in self.remote.iter().enumerate() {
            let (ready, total, load) = (*ready, *total, *load);
            let gateways = (0..*gateways).map(|one| ([10, 1, nth as u8, one as u8], 15443).into()).collect();
            let remote = RemoteEndpoints { gateways, identities: Vec::new(), ready, total, weight: ready, load };
            sets.push(set(zone(name), EndpointsPlace::Remote(remote)));
        }
        let info = |(name, state): (&&str, &ZoneState)| {
            (zone(name), ZoneInfo { zone: zone(name), region: None, state: *state })
        };
        let zones = self.states.iter().map(info).collect();
        self.balancer.update(&self.config, &sets, &zones, self.now_us);
    }

    fn pick(&mut self, tried: &[CandidateId]) -> Result<Choice, RouteReason> {
        self.balancer.pick(&Ask { tried, ..Ask::default() }, self.now_us, &mut self.rng)
    }

    fn pinned(&mut self, name: &str) -> Result<Choice, RouteReason> {
        self.balancer.pick(&Ask { zone: Some(&zone(name)), ..Ask::default() }, self.now_us, &mut self.rng)
    }

    /// Zones and reasons of many picks that all go well, over so long.
    fn spread(&mut self, count: u64, us: u64) -> BTreeMap<(String, RouteReason), f64> {
        let mut seen = BTreeMap::new();
        for _ in 0..count {
            let choice = self.pick(&[]).unwrap();
            *seen.entry((choice.zone.to_string(), choice.reason)).or_insert(0.0) += 1.0 / count as f64;
            self.answer(&choice, 200);
            self.now_us += us / count;
        }
        seen
    }

    fn answer(&mut self, choice: &Choice, status: u16) {
        let answered = Outcome::Answered { latency_us: 5 * MS, status };
        let connection = match (&*choice.candidate, choice.connection) {
            (crate::Candidate::Gateway { .. }, None) => Some(self.balancer.connection_opened(choice.id, self.now_us)),
            (_, connection) => connection,
        };
        match connection {
            Some(connection) => {
                self.balancer.started(connection, self.now_us);
                self.balancer.finished(connection, self.now_us, answered);
            }
            None => {
                self.balancer.started(choice.id, self.now_us);
                self.balancer.finished(choice.id, self.now_us, answered);
            }
        }
    }

    fn check(&mut self, expect: &[(&str, RouteReason, f64)]) {
        let seen = self.spread(4_000, 400 * MS);
        assert_eq!(seen.len(), expect.len(), "{seen:?}, not {expect:?}");
        for (zone, reason, share) in expect {
            let got = seen.get(&((*zone).to_owned(), *reason)).copied().unwrap_or(0.0);
            assert!((got - share).abs() < 0.03, "{seen:?}, not {expect:?}");
        }
    }

    /// Time passes, observation by observation.
    fn wait(&mut self, us: u64) {
        let end = self.now_us + us;
        while self.now_us < end {
            self.now_us += 100 * MS;
            self.balancer.tick(self.now_us);
        }
    }
}

#[test]
fn the_reason_says_why_requests_leave_the_zone() {
    given(3, &[("west", 3)]).check(&[("here", RouteReason::Local, 1.0)]);
    given(0, &[("west", 3)]).check(&[("west", RouteReason::LocalNone, 1.0)]);
    let mut unready = given(3, &[("west", 3)]);
    unready.local.iter_mut().for_each(|one| one.1 = false);
    unready.update();
    unready.check(&[("west", RouteReason::LocalUnready, 1.0)]);
    let mut refused = given(1, &[("west", 3)]);
    let choice = refused.pick(&[]).unwrap();
    refused.balancer.finished(choice.id, refused.now_us, Outcome::ConnectFailed);
    refused.check(&[("west", RouteReason::Ejected, 1.0)]);
    let mut unreachable = given(0, &[("west", 3), ("east", 3)]);
    let choice = unreachable.pick(&[]).unwrap();
    unreachable.balancer.finished(choice.id, unreachable.now_us, Outcome::ConnectFailed);
    unreachable.check(&[("east", RouteReason::Unreachable, 1.0)]);
}

#[test]
fn a_zone_outside_the_failover_list_is_never_used_unless_it_is_named() {
    let mut given = given(0, &[("west", 3)]);
    given.config.failover.clear();
    given.update();
    assert_eq!(given.pick(&[]).unwrap_err(), RouteReason::PolicyForbids);
    assert_eq!(given.pinned("west").unwrap().reason, RouteReason::Pinned);
    assert_eq!(given.pinned("nowhere").unwrap_err(), RouteReason::NoEndpoint);
    given.remote.clear();
    given.update();
    assert_eq!(given.pick(&[]).unwrap_err(), RouteReason::NoEndpoint);
}

#[test]
fn a_draining_zone_gives_up_its_traffic_gradually_and_gets_it_back_slowly() {
    let mut given = given(3, &[("west", 3)]);
    given.states.insert("here", ZoneState::Draining);
    given.update();
    given.wait(5 * S);
    given.check(&[("here", RouteReason::Local, 0.5), ("west", RouteReason::Draining, 0.5)]);
    given.wait(6 * S);
    given.check(&[("west", RouteReason::Draining, 1.0)]);
    given.states.insert("here", ZoneState::Active);
    given.update();
    let share = |given: &Given| given.balancer.explain(given.now_us).tiers[0].share;
    given.wait(S);
    assert_eq!(share(&given), 0.0);
    let mut last = 0.0;
    for _ in 0..14 {
        given.wait(S);
        assert!(share(&given) >= last);
        last = share(&given);
    }
    assert_eq!(last, 1.0);
}

#[test]
fn a_zone_that_drains_serves_on_when_nobody_else_can() {
    let mut given = given(3, &[]);
    given.states.insert("here", ZoneState::Disabled);
    given.update();
    given.check(&[("here", RouteReason::Local, 1.0)]);
}

#[test]
fn a_disabled_zone_takes_nothing_not_even_in_need() {
    let mut given = given(1, &[("west", 3)]);
    given.states.insert("west", ZoneState::Disabled);
    given.local[0].1 = false;
    given.update();
    given.check(&[("here", RouteReason::Panic, 1.0)]);
    assert_eq!(given.pinned("west").unwrap_err(), RouteReason::PolicyForbids);
}

#[test]
fn nearer_endpoints_come_first_and_spill_within_the_zone() {
    let mut given = given(4, &[]);
    let place = |az: &str| Place { az: Some(az.into()), ..Place::default() };
    given.balancer = Balancer::new(zone("here"), place("a"), &given.config);
    (0..4).for_each(|one| given.local[one].2 = place(if one < 2 { "a" } else { "b" }));
    given.update();
    let near = |given: &mut Given| {
        let mut near = 0;
        for _ in 0..2_000 {
            let choice = given.pick(&[]).unwrap();
            near += u32::from(choice.candidate.address().ip().to_string().as_str() < "10.0.0.2");
            given.answer(&choice, 200);
        }
        f64::from(near) / 2_000.0
    };
    assert_eq!(near(&mut given), 1.0);
    given.local[0].1 = false;
    given.update();
    let share = near(&mut given);
    assert!((share - 0.5 / 0.7).abs() < 0.04, "{share}");
}

#[test]
fn a_growing_service_does_not_look_like_a_failing_one() {
    let mut given = given(6, &[("west", 6)]);
    given.local.resize(10, (1, true, Place::default()));
    given.update();
    given.wait(2 * S);
    given.check(&[("here", RouteReason::Local, 1.0)]);
}

#[test]
fn another_try_goes_to_another_endpoint_then_to_another_zone() {
    let mut given = given(3, &[("west", 3)]);
    for _ in 0..50 {
        let first = given.pick(&[]).unwrap();
        given.answer(&first, 200);
    }
    let first = given.pick(&[]).unwrap();
    given.balancer.finished(first.id, given.now_us, Outcome::ConnectFailed);
    let second = given.pick(&[first.id]).unwrap();
    assert_eq!(second.zone, zone("here"));
    assert_ne!(second.id, first.id);
    given.balancer.finished(second.id, given.now_us, Outcome::ConnectFailed);
    let third = given.pick(&[first.id, second.id]).unwrap();
    assert_eq!((third.zone, third.reason), (zone("west"), RouteReason::RetryElsewhere));
    // A place of which nothing good is known is left at once.
    let mut unknown = self::given(3, &[("west", 3)]);
    let first = unknown.pick(&[]).unwrap();
    unknown.balancer.finished(first.id, unknown.now_us, Outcome::ConnectFailed);
    assert_eq!(unknown.pick(&[first.id]).unwrap().zone, zone("west"));
    // Everything was tried: once more.
    let mut alone = self::given(1, &[]);
    let first = alone.pick(&[]).unwrap();
    assert_eq!(alone.pick(&[first.id]).unwrap().id, first.id);
}

#[test]
fn a_hung_endpoint_gets_one_probe_at_a_time_and_no_precious_one() {
    let mut given = given(2, &[]);
    let hung = given.pick(&[]).unwrap().id;
    given.balancer.finished(hung, given.now_us, Outcome::Hung);
    assert_eq!(given.balancer.ejected(given.now_us).collect::<Vec<_>>(), [(hung, RouteReason::Ejected)]);
    for _ in 0..100 {
        assert_ne!(given.pick(&[]).unwrap().id, hung);
    }
    given.now_us += S;
    let precious = Ask { precious: true, ..Ask::default() };
    assert!(!given.balancer.pick(&precious, given.now_us, &mut given.rng).unwrap().probe);
    let probe = given.pick(&[]).unwrap();
    assert!(probe.probe && probe.id == hung);
    for _ in 0..100 {
        assert_ne!(given.pick(&[]).unwrap().id, hung);
    }
    // Still hung: twice as long.
    given.balancer.finished(hung, given.now_us, Outcome::Hung);
    given.now_us += 3 * S / 2;
    assert_ne!(given.pick(&[]).unwrap().id, hung);
    // A sign of life lets the next request find out.
    given.balancer.alive(hung, given.now_us);
    let probe = given.pick(&[]).unwrap();
    assert!(probe.probe && probe.id == hung);
    given.answer(&probe, 200);
    assert_eq!(given.balancer.ejected(given.now_us).count(), 0);
}

#[test]
fn a_candidate_that_left_is_not_confused_with_its_successor() {
    let mut given = given(1, &[]);
    let old = given.pick(&[]).unwrap().id;
    given.local.clear();
    given.update();
    assert!(given.balancer.candidate(old).is_none());
    given.local = vec![(1, true, Place::default())];
    given.update();
    given.balancer.finished(old, given.now_us, Outcome::ConnectFailed);
    assert_eq!(given.balancer.ejected(given.now_us).count(), 0);
    assert_ne!(given.pick(&[]).unwrap().id, old);
}

#[test]
fn connections_grow_to_the_workloads_behind_and_one_stays_warm_in_the_next_zone() {
    let mut given = given(0, &[("west", 3), ("east", 3)]);
    given.spread(50, S);
    let wants: Vec<_> = given.balancer.wants().map(|(id, candidate, more)| (id, candidate.address(), more)).collect();
    let [(id, address, 1)] = wants[..] else { panic!("{wants:?}") };
    assert_eq!(address, ([10, 1, 1, 0], 15443).into(), "the one in east; west has its three");
    given.balancer.connection_opened(id, given.now_us);
    assert_eq!(given.balancer.wants().count(), 0);
}

#[test]
fn connections_to_a_zone_where_everybody_fails_are_bounded() {
    let mut given = given(0, &[("west", 2)]);
    let mut opened = 0;
    for _ in 0..200 {
        let choice = given.pick(&[]).unwrap();
        let connection = choice.connection.unwrap_or_else(|| {
            opened += 1;
            given.balancer.connection_opened(choice.id, given.now_us)
        });
        given.balancer.started(connection, given.now_us);
        given.balancer.finished(connection, given.now_us, Outcome::ConnectFailed);
        given.now_us += MS;
    }
    assert!(opened <= 4, "{opened}");
}

#[test]
fn a_quiet_balancer_has_nothing_to_do() {
    let mut given = given(2, &[("west", 2)]);
    assert_eq!(given.balancer.next_event_us(), None);
    let choice = given.pick(&[]).unwrap();
    given.balancer.finished(choice.id, given.now_us, Outcome::ConnectFailed);
    assert!(given.balancer.next_event_us().is_some());
}
