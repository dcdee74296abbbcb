//! Facts about folding, on a fake clock: zones with probes of each other, folded every half second.

use crate::{Link, Memory, Observed, Observer, ZoneObserved, fold};
use api::config::ServiceRef;
use api::health::{LinkState, Overview, Status, ZoneView};
use api::kinds::{Zone, ZoneState};
use api::report::{Flow, LinkProbe, ZoneReport};
use api::{RouteReason, ZoneName};
use std::collections::BTreeSet;
use std::sync::Arc;

const START_MS: u64 = 1_000_000;

struct World {
    now_ms: u64,
    memory: Memory,
    observer: Observer,
    names: Vec<ZoneName>,
    /// Directions that are cut.
    cut: BTreeSet<(usize, usize)>,
    /// Zones whose control link is lost, and since when.
    lost: Vec<Option<u64>>,
    reports: Vec<ZoneReport>,
    states: Vec<ZoneState>,
    joined: Vec<bool>,
    /// Probes that fail now were answered a moment ago.
    heard_before: bool,
}

fn name(name: &str) -> ZoneName {
    name.try_into().unwrap()
}

impl World {
    fn new(names: &[&str]) -> Self {
        let report = ZoneReport {
            proxies_ready: 10,
            proxies_total: 10,
            gateways_ready: 2,
            gateways_total: 2,
            applied: Some(("h".into(), 7)),
            version: "0.1.0".into(),
            ..ZoneReport::default()
        };
        Self {
            now_ms: START_MS,
            memory: Memory::default(),
            observer: Observer::Global,
            names: names.iter().map(|one| name(one)).collect(),
            cut: BTreeSet::new(),
            lost: vec![None; names.len()],
            reports: vec![report; names.len()],
            states: vec![ZoneState::Active; names.len()],
            joined: vec![true; names.len()],
            heard_before: false,
        }
    }

    fn cut_off(&mut self, zone: usize) {
        for peer in (0..self.names.len()).filter(|peer| *peer != zone) {
            self.cut.extend([(zone, peer), (peer, zone)]);
        }
    }

    fn observed(&mut self) -> Observed {
        let now_ms = self.now_ms;
        let zones = (0..self.names.len()).map(|zone| {
            let own = self.observer == Observer::Zone(self.names[zone].clone());
            let visible = self.observer == Observer::Global || own;
            if self.lost[zone].is_none() || own {
                let probes = (0..self.names.len()).filter(|peer| *peer != zone && self.joined[*peer]).map(|peer| {
                    let reachable = !self.cut.contains(&(zone, peer));
                    let error = if reachable { String::new() } else { "connection timed out".into() };
                    let rtt_us = reachable.then_some(12_000);
                    let loss = if reachable || self.heard_before { 0.0 } else { 1.0 };
                    LinkProbe { peer: self.names[peer].clone(), reachable, rtt_us, loss, error, at_ms: now_ms }
                });
                self.reports[zone].probes = probes.collect();
            }
            let link = Link { connected: self.lost[zone].is_none(), heard_ms: Some(self.lost[zone].unwrap_or(now_ms)) };
            ZoneObserved {
                name: self.names[zone].clone(),
                spec: Zone { region: None, state: self.states[zone] },
                joined: self.joined[zone],
                link: self.joined[zone].then_some(link),
                report: (self.joined[zone] && visible).then(|| Arc::new(self.reports[zone].clone())),
                exports: Vec::new(),
            }
        });
        Observed { observer: self.observer.clone(), revision: 7, zones: zones.collect() }
    }

    /// Folds every half second for so long; the last page.
    fn run(&mut self, ms: u64) -> Overview {
        let end = self.now_ms + ms;
        loop {
            let observed = self.observed();
            let (page, memory) = fold(&observed, std::mem::take(&mut self.memory), self.now_ms);
            self.memory = memory;
            if self.now_ms >= end {
                return page;
            }
            self.now_ms += 500;
        }
    }
}

fn zone<'a>(page: &'a Overview, name: &str) -> &'a ZoneView {
    page.zones.iter().find(|zone| zone.name.as_str() == name).unwrap()
}

#[test]
fn a_mesh_that_is_well_says_so() {
    let mut world = World::new(&["east", "north", "west"]);
    let page = world.run(0);
    assert_eq!(page.headline, "All 3 zones are healthy.");
    assert_eq!(page.observer, "global");
    assert_eq!(page.links.len(), 6);
    assert!(page.links.iter().all(|link| link.state == LinkState::Up && link.rtt_ms == Some(12.0)));
    assert_eq!(zone(&page, "east").why, "in sync, reachable from every peer");
    assert_eq!(zone(&page, "east").revision, Some(7));
}

#[test]
fn a_single_zone_has_no_peers_to_miss() {
    let page = World::new(&["west"]).run(0);
    assert_eq!(zone(&page, "west").why, "in sync; peers are not applicable");
    assert_eq!(page.headline, "west is healthy.");
    assert_eq!(World::new(&[]).run(0).headline, "There is no zone yet.");
}

#[test]
fn a_zone_that_is_cut_off_is_partitioned_within_six_seconds_and_alone() {
    let mut world = World::new(&["east", "north", "west"]);
    world.run(10_000);
    world.cut_off(2);
    // Probes go every two seconds, so the first one that fails may be that late; here they fail at once.
    let page = world.run(4_000);
    assert_eq!(zone(&page, "west").status, Status::Partitioned);
    assert!(zone(&page, "west").why.starts_with("control link is up but 0 of 2 peers can reach its gateways"));
    assert_eq!(page.zones[0].name.as_str(), "west", "worst first");
    for well in ["east", "north"] {
        assert_eq!(zone(&page, well).status, Status::Healthy, "{well} is not to blame");
    }
    assert!(page.headline.starts_with("west is partitioned: "), "{}", page.headline);
    world.cut.clear();
    let page = world.run(7_000);
    assert_eq!(zone(&page, "west").status, Status::Partitioned, "better only after five observations");
    let page = world.run(2_000);
    assert_eq!(zone(&page, "west").status, Status::Healthy);
    let texts: Vec<_> = page.events.iter().map(|event| event.text.as_str()).collect();
    assert!(texts.contains(&"east no longer reaches west") && texts.contains(&"east reaches west again"), "{texts:?}");
    assert!(page.events.windows(2).all(|pair| pair[0].id > pair[1].id), "newest first");
}

#[test]
fn one_lost_probe_changes_nothing() {
    let mut world = World::new(&["east", "west"]);
    world.run(4_000);
    world.cut_off(1);
    let page = world.run(1_000);
    assert_eq!(zone(&page, "west").status, Status::Healthy);
    world.cut.clear();
    assert_eq!(zone(&world.run(10_000), "west").status, Status::Healthy);
}

#[test]
fn one_direction_shows_in_the_matrix_and_is_never_offline() {
    let mut world = World::new(&["east", "north", "west"]);
    world.run(2_000);
    world.cut.insert((0, 2));
    let page = world.run(4_000);
    let state = |from: &str, to: &str| {
        page.links.iter().find(|link| link.from.as_str() == from && link.to.as_str() == to).unwrap().state
    };
    assert_eq!((state("east", "west"), state("west", "east")), (LinkState::Down, LinkState::Up));
    assert_eq!(zone(&page, "west").why, "1/2 peers reach it, it reaches 2/2 (between it and east)");
    assert!(page.zones.iter().all(|zone| zone.status != Status::Offline));
}

#[test]
fn a_lost_control_link_is_shown_at_once_and_forgotten_at_once() {
    let mut world = World::new(&["east", "west"]);
    world.run(4_000);
    world.lost[1] = Some(world.now_ms);
    let page = world.run(500);
    let west = zone(&page, "west");
    assert_eq!((west.status, west.autonomous), (Status::Degraded, true));
    assert_eq!(west.why, "serving traffic, but cut off from the global control plane");
    world.run(60_000);
    let page = world.run(0);
    assert_eq!(zone(&page, "west").status, Status::Degraded, "peers still see it");
    world.lost[1] = None;
    assert_eq!(zone(&world.run(500), "west").status, Status::Healthy);
}

#[test]
fn silent_and_unreachable_is_offline_and_silence_alone_is_unknown() {
    let mut world = World::new(&["east", "north", "west"]);
    world.run(4_000);
    world.lost[2] = Some(world.now_ms);
    world.cut_off(2);
    let page = world.run(5_000);
    assert_eq!(zone(&page, "west").status, Status::Offline);
    let mut world = World::new(&["west"]);
    world.run(4_000);
    world.lost[0] = Some(world.now_ms);
    let page = world.run(41_000);
    assert_eq!(zone(&page, "west").why, "no fresh observation for 41 s");
    assert_eq!(zone(&page, "west").status, Status::Unknown);
    assert_eq!(zone(&page, "west").seen_ms, world.lost[0]);
}

#[test]
fn a_zone_that_never_joined_waits() {
    let mut world = World::new(&["east", "west"]);
    world.joined[0] = false;
    let page = world.run(0);
    assert!(zone(&page, "east").why.starts_with("has not joined yet"));
    assert_eq!(zone(&page, "west").status, Status::Healthy);
    assert!(page.links.is_empty());
    assert_eq!(page.headline, "west is healthy. 1 zone has not joined yet.");
}

#[test]
fn a_zone_sees_itself_and_the_peers_it_probes() {
    let mut world = World::new(&["east", "west"]);
    world.observer = Observer::Zone(name("west"));
    let page = world.run(2_000);
    assert_eq!(zone(&page, "east").why, "west reaches its gateways");
    assert_eq!(zone(&page, "west").status, Status::Healthy);
    // Global dies: the zone knows that it serves.
    world.lost[1] = Some(world.now_ms);
    let page = world.run(500);
    let west = zone(&page, "west");
    assert_eq!((west.status, west.autonomous), (Status::Degraded, true));
    assert_eq!(zone(&page, "east").status, Status::Healthy);
    // The peer disappears: one witness is too few to call it offline.
    world.lost[0] = Some(world.now_ms);
    world.cut_off(0);
    let page = world.run(4_000);
    assert_eq!(zone(&page, "east").status, Status::Partitioned);
    assert_eq!(zone(&page, "east").why, "west cannot reach its gateways");
    assert_eq!(zone(&page, "west").why, "it reaches 0/1 peers, and is cut off from the global control plane");
}

#[test]
fn complaints_need_two_observations_and_five_to_go() {
    let mut world = World::new(&["east", "west"]);
    world.run(2_000);
    let since = zone(&world.run(0), "west").since_ms;
    world.reports[1].proxies_ready = 5;
    assert_eq!(zone(&world.run(1_500), "west").status, Status::Healthy);
    let page = world.run(1_000);
    assert_eq!(zone(&page, "west").why, "5 of 10 proxies ready");
    assert!(zone(&page, "west").since_ms > since);
    world.reports[1].proxies_ready = 10;
    assert_eq!(zone(&world.run(7_000), "west").status, Status::Degraded);
    assert_eq!(zone(&world.run(2_000), "west").status, Status::Healthy);
}

#[test]
fn rates_follow_growing_counters_and_survive_their_restart() {
    let mut world = World::new(&["east", "west"]);
    let service =
        ServiceRef { mesh: Default::default(), namespace: Default::default(), name: "cart".try_into().unwrap() };
    let flow = |zone: &str, reason, requests| Flow {
        service: service.clone(),
        zone: Some(name(zone)),
        reason,
        requests,
        failed: requests / 10,
        latency_us: 0,
    };
    for second in 0..20 {
        let (local, spilled) = (second * 300, second * 100);
        world.reports[1].flows =
            vec![flow("west", RouteReason::Local, local), flow("east", RouteReason::LocalUnready, spilled)];
        world.run(1_000);
    }
    let page = world.run(0);
    let near = |value: f64, wanted: f64| assert!((value - wanted).abs() < wanted * 0.15, "{value}, not {wanted}");
    near(zone(&page, "west").rps, 400.0);
    near(zone(&page, "west").local.unwrap(), 0.75);
    near(zone(&page, "west").failed.unwrap(), 0.1);
    let link = page.links.iter().find(|link| link.from.as_str() == "west").unwrap();
    near(link.spill_rps, 100.0);
    assert!(page.headline.ends_with("/s served by another zone than usual."), "{}", page.headline);
    assert!(page.events.iter().any(|event| event.text == "west spills over to east"));
    world.reports[1].flows = vec![flow("west", RouteReason::Local, 5)];
    let page = world.run(4_000);
    assert!(zone(&page, "west").rps < 500.0, "a restarted counter is no burst");
    let page = world.run(15_000);
    assert_eq!((zone(&page, "west").rps, zone(&page, "west").local), (0.0, None));
    assert_eq!(page.headline, "All 2 zones are healthy.");
}

#[test]
fn what_operators_set_is_recorded_beside_the_status() {
    let mut world = World::new(&["east", "west"]);
    world.run(1_000);
    world.states[1] = ZoneState::Draining;
    let page = world.run(500);
    assert_eq!((zone(&page, "west").state, zone(&page, "west").status), (ZoneState::Draining, Status::Healthy));
    assert_eq!(page.events[0].text, "west is set to draining");
    assert_eq!(page.headline, "All 2 zones are healthy. west is draining.");
}

#[test]
fn the_journal_is_bounded() {
    let mut world = World::new(&["east", "west"]);
    for _ in 0..150 {
        world.lost[1] = Some(world.now_ms);
        world.run(500);
        world.lost[1] = None;
        world.run(500);
    }
    let page = world.run(0);
    assert_eq!(page.events.len(), crate::limits::EVENTS_MAX);
    assert!(page.events[0].id > 200);
}

#[test]
fn a_link_that_is_still_starting_is_no_partition_and_a_link_that_never_starts_is() {
    let mut world = World::new(&["west", "east"]);
    world.cut_off(1);
    let page = world.run(4_000);
    assert!(page.zones.iter().all(|zone| zone.status != Status::Partitioned), "{page:?}");
    world.cut.clear();
    let page = world.run(500);
    assert!(page.links.iter().all(|link| link.state == LinkState::Up), "the first good probe is believed at once");

    let mut world = World::new(&["west", "east"]);
    world.cut_off(1);
    assert_eq!(zone(&world.run(12_000), "east").status, Status::Partitioned);
}

#[test]
fn a_link_that_was_up_before_anybody_looked_is_not_taken_for_starting() {
    let mut world = World::new(&["west", "east"]);
    world.cut_off(1);
    world.heard_before = true;
    assert_eq!(zone(&world.run(3_000), "east").status, Status::Partitioned);
}
