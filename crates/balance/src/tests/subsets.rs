//! What must hold where each proxy calls a part of a large service.

use super::scenarios::{Found, Scenario, between, hold};
use super::sim::{Life, S, World};
use crate::fault::Fault;
use api::config::Balancing;
use std::collections::{BTreeMap, BTreeSet};

fn config(size: u32) -> Balancing {
    Balancing { subset: Some(size), ..Balancing::default() }
}

/// Whom each client called between two times.
fn called(world: &World, from_us: u64, to_us: u64) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut called: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for one in world.tries.iter().filter(|one| one.at_us >= from_us && one.at_us < to_us) {
        called.entry(one.client).or_default().extend(one.workload);
    }
    called
}

/// 400 proxies with 10 of 40 endpoints each: nobody calls more, everybody is called about equally.
fn subsets_cover_everybody_evenly() -> Found {
    let mut world = World::new(31, &[40], 400, 20.0, config(10));
    world.publish();
    world.run_for(5 * S);
    let most = called(&world, 0, 5 * S).values().map(BTreeSet::len).max().unwrap_or(0);
    hold(most == 10, || format!("a client calls {most} endpoints"))?;
    for workload in 0..40 {
        let share = 40.0 * world.share(0, 5 * S, |one| one.workload == Some(workload));
        between("load of one, of its fair part", share, 0.7, 1.35)?;
    }
    Ok(())
}

/// One that goes is replaced where it was, and nothing else changes.
fn one_lost_changes_one_place() -> Found {
    let mut world = World::new(32, &[40], 100, 100.0, config(10));
    world.publish();
    world.run_for(5 * S);
    let before = called(&world, 0, 5 * S);
    world.workloads[7].ready = false;
    world.publish();
    world.run_for(8 * S);
    let after = called(&world, 6 * S, 13 * S);
    for (client, now) in &after {
        let then = &before[client];
        let gone = then.difference(now).copied().collect::<Vec<_>>();
        let expected = if then.contains(&7) { vec![7] } else { Vec::new() };
        hold(gone == expected, || format!("client {client} lost {gone:?}"))?;
        hold(now.len() == 10, || format!("client {client} calls {}", now.len()))?;
    }
    Ok(())
}

/// The health of a place is that of all its endpoints, of which the subset shows a part.
fn a_place_is_as_well_as_all_of_it() -> Found {
    let mut world = World::new(33, &[40, 10], 50, 50.0, config(8));
    // 50 % of 70 %: two sevenths go elsewhere, though every subset is full of ready ones.
    (0..20).for_each(|one| world.workloads[one].ready = false);
    world.publish();
    world.run_for(10 * S);
    let away = world.share(S, 10 * S, |one| world.zone_of(one) == Some(1));
    between("spilled at 50 % of 70 %", away, 2.0 / 7.0 - 0.03, 2.0 / 7.0 + 0.03)
}

/// Failed answers take at most half of the subset, whatever is outside of it.
fn half_of_the_subset_stays() -> Found {
    let mut world = World::new(34, &[40], 10, 100.0, config(6));
    world.retries = 0;
    world.publish();
    world.workloads.iter_mut().for_each(|one| one.life = Life::Failing);
    world.run_for(20 * S);
    for client in 0..10 {
        let out = world.balancer(client).ejected(world.now_us).count();
        hold(out <= 3, || format!("client {client} took out {out} of its 6"))?;
    }
    Ok(())
}

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("subsets_cover_everybody_evenly", subsets_cover_everybody_evenly),
    ("one_lost_changes_one_place", one_lost_changes_one_place),
    ("a_place_is_as_well_as_all_of_it", a_place_is_as_well_as_all_of_it),
    ("half_of_the_subset_stays", half_of_the_subset_stays),
];

pub const FAULTS: &[(Fault, Scenario)] = &[
    (Fault::SubsetsAlike, subsets_cover_everybody_evenly),
    (Fault::SubsetHidesOthers, a_place_is_as_well_as_all_of_it),
    (Fault::SubsetEjectsAll, half_of_the_subset_stays),
];
