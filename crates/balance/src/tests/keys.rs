//! What must hold where keys are kept together.

use super::scenarios::{Found, Scenario, between, hold};
use super::sim::{Life, MS, S, World};
use crate::fault::Fault;
use api::config::{Algorithm, Balancing};
use std::collections::BTreeMap;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::RingHash, Algorithm::Maglev];

fn world(seed: u64, workloads: &[usize], clients: usize, per_second: f64, config: Balancing) -> World {
    let mut world = World::new(seed, workloads, clients, per_second, config);
    world.sessions = 500;
    world
}

fn config(algorithm: Algorithm) -> Balancing {
    Balancing { algorithm, ..Balancing::default() }
}

/// Who answered each session between two times, if it was always the same.
fn homes(world: &World, from_us: u64, to_us: u64) -> BTreeMap<u64, Option<usize>> {
    let mut homes = BTreeMap::new();
    for one in world.requests.iter().filter(|one| one.at_us >= from_us && one.at_us < to_us) {
        let (Some(key), Some(workload)) = (one.key, one.workload) else { continue };
        let home = homes.entry(key).or_insert(Some(workload));
        if *home != Some(workload) {
            *home = None;
        }
    }
    homes
}

/// Every session has one home for all clients; when that dies, its sessions move, once, and nobody else's; when it is
/// back, they go home by and by.
fn only_sessions_of_the_lost_move() -> Found {
    for algorithm in ALGORITHMS {
        let mut world = world(21, &[10], 20, 100.0, config(algorithm));
        world.publish();
        world.run_for(10 * S);
        let before = homes(&world, 0, 10 * S);
        hold(before.len() == 500, || format!("{} sessions", before.len()))?;
        hold(before.values().all(Option::is_some), || format!("{algorithm:?}: a session has two homes"))?;
        world.workloads[3].life = Life::Dead;
        world.run_for(20 * S);
        between("failed", world.share(10 * S, 30 * S, |one| !one.ok), 0.0, 0.0)?;
        let without = homes(&world, 12 * S, 30 * S);
        for (key, home) in &before {
            let now = without[key];
            hold(now.is_some(), || format!("{algorithm:?}: a session has two homes while one is dead"))?;
            let stays = now == *home;
            hold(stays != (*home == Some(3)), || format!("{algorithm:?}: moved from {home:?} to {now:?}"))?;
        }
        // Probes go to the dead one with its own sessions only, so the others were never disturbed, nor tried there.
        let strangers = world.tries.iter().filter(|one| one.at_us > 10 * S && one.workload == Some(3));
        let strangers = strangers.filter(|one| one.key.is_some_and(|key| before[&key] != Some(3))).count();
        hold(strangers == 0, || format!("{algorithm:?}: {strangers} strangers met the dead"))?;
        let met = world.tries.iter().filter(|one| one.at_us > 12 * S && one.workload == Some(3)).count();
        hold(met <= 20 * 6, || format!("{algorithm:?}: {met} tries at the dead, more than probes"))?;
        world.workloads[3].life = Life::Up;
        world.run_for(40 * S);
        hold(homes(&world, 60 * S, 70 * S) == before, || format!("{algorithm:?}: not everybody is home again"))?;
    }
    Ok(())
}

/// Sessions of one that was down for a deployment come back over the slow start, not at once.
fn sessions_return_slowly() -> Found {
    for algorithm in ALGORITHMS {
        let mut world = world(22, &[4], 20, 100.0, config(algorithm));
        world.workloads[2].ready = false;
        world.publish();
        world.run_for(5 * S);
        world.workloads[2].ready = true;
        world.publish();
        world.run_for(20 * S);
        let share = |from: u64, to: u64| world.share(from * S, to * S, |one| one.workload == Some(2));
        between("share in the first second back", share(5, 6), 0.005, 0.08)?;
        let (early, late, end) = (share(7, 8), share(12, 13), share(20, 25));
        hold(early < late && late < end, || format!("{algorithm:?}: {early} {late} {end}"))?;
        between("share in the end", end, 0.15, 0.35)?;
    }
    Ok(())
}

/// While a zone spills, a session is in one zone and not sometimes in another.
fn sessions_stay_in_their_zone_while_it_spills() -> Found {
    for algorithm in ALGORITHMS {
        let mut world = world(23, &[10, 4], 10, 100.0, config(algorithm));
        (0..6).for_each(|one| world.workloads[one].ready = false);
        world.publish();
        world.run_for(20 * S);
        let mut zones: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for one in world.requests.iter().filter(|one| one.at_us > 5 * S) {
            let (Some(key), Some(zone)) = (one.key, world.zone_of(one)) else { continue };
            zones.entry(key).or_default().push(zone);
        }
        let torn = zones.values().filter(|zones| zones.iter().any(|zone| *zone != zones[0])).count();
        hold(torn == 0, || format!("{algorithm:?}: {torn} of {} sessions are torn", zones.len()))?;
        let away = zones.values().filter(|zones| zones[0] == 1).count() as f64 / zones.len() as f64;
        between("sessions elsewhere at 40 % of 70 %", away, 0.35, 0.51)?;
    }
    Ok(())
}

fn sessions_spread_by_weight() -> Found {
    for algorithm in ALGORITHMS {
        let mut world = world(24, &[3], 10, 100.0, config(algorithm));
        world.workloads[0].weight = 4;
        world.sessions = 5_000;
        world.publish();
        world.run_for(10 * S);
        between("share of weight 4 of 6", world.share(0, 10 * S, |one| one.workload == Some(0)), 0.6, 0.73)?;
    }
    Ok(())
}

/// A session everybody wants does not drown its endpoint when a bound is set, and goes to few others.
fn a_bound_holds_for_a_hot_session() -> Found {
    for algorithm in ALGORITHMS {
        let mut world = world(25, &[5], 1, 2_000.0, Balancing { bound_percent: Some(150), ..config(algorithm) });
        world.sessions = 1;
        world.workloads.iter_mut().for_each(|one| one.latency_us = 50 * MS);
        world.publish();
        world.run_for(5 * S);
        for workload in 0..5 {
            let share = world.share(S, 5 * S, |one| one.workload == Some(workload));
            between("share of one of five at 150 %", share, 0.0, 0.32)?;
        }
    }
    Ok(())
}

/// Clients that were told of the endpoints in another order agree on homes.
fn order_of_arrival_does_not_matter() -> Found {
    for algorithm in ALGORITHMS {
        let mut world = world(26, &[8], 10, 100.0, config(algorithm));
        world.odd_listed_backwards = true;
        world.publish();
        world.run_for(5 * S);
        let homes = homes(&world, 0, 5 * S);
        let torn = homes.values().filter(|home| home.is_none()).count();
        hold(torn == 0, || format!("{algorithm:?}: {torn} of {} sessions have two homes", homes.len()))?;
    }
    Ok(())
}

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("only_sessions_of_the_lost_move", only_sessions_of_the_lost_move),
    ("sessions_return_slowly", sessions_return_slowly),
    ("sessions_stay_in_their_zone_while_it_spills", sessions_stay_in_their_zone_while_it_spills),
    ("sessions_spread_by_weight", sessions_spread_by_weight),
    ("a_bound_holds_for_a_hot_session", a_bound_holds_for_a_hot_session),
    ("order_of_arrival_does_not_matter", order_of_arrival_does_not_matter),
];

pub const FAULTS: &[(Fault, Scenario)] = &[
    (Fault::TableByArrival, order_of_arrival_does_not_matter),
    (Fault::TableForgetsWeights, sessions_spread_by_weight),
    (Fault::KeyMeetsAnybody, only_sessions_of_the_lost_move),
    (Fault::KeyForgetsPlace, sessions_stay_in_their_zone_while_it_spills),
    (Fault::KeyProbesStrangers, only_sessions_of_the_lost_move),
    (Fault::KeysReturnAtOnce, sessions_return_slowly),
    (Fault::BoundIgnored, a_bound_holds_for_a_hot_session),
];
