//! What must hold in the simulated world, and for each planted bug the scenario that finds it.

use super::sim::{Life, S, World};
use super::{keys, outliers, subsets};
use crate::fault::{Fault, with};
use api::RouteReason;
use api::config::{Algorithm, Balancing, SpillMode};

pub(super) type Found = Result<(), String>;
pub(super) type Scenario = fn() -> Found;

pub(super) fn hold(fact: bool, words: impl FnOnce() -> String) -> Found {
    if fact { Ok(()) } else { Err(words()) }
}

pub(super) fn between(what: &str, value: f64, low: f64, high: f64) -> Found {
    hold(value >= low && value <= high, || format!("{what} is {value:.4}, not {low} to {high}"))
}

fn threshold_is_exact() -> Found {
    let mut world = World::new(1, &[10, 4], 50, 50.0, Balancing::default());
    for unready in 0..3 {
        world.workloads[unready].ready = false;
    }
    world.publish();
    world.run_for(10 * S);
    let remote = world.share(0, 10 * S, |one| world.zone_of(one) == Some(1));
    between("spill at exactly 70 %", remote, 0.0, 0.0)?;
    world.workloads[3].ready = false;
    world.publish();
    world.run_for(20 * S);
    let remote = world.share(11 * S, 30 * S, |one| world.zone_of(one) == Some(1));
    between("spill at 60 % of 70 %", remote, 1.0 / 7.0 - 0.01, 1.0 / 7.0 + 0.01)
}

fn switch_at_exactly_the_threshold() -> Found {
    let config = Balancing { mode: SpillMode::Switch, ..Balancing::default() };
    let mut world = World::new(13, &[10, 4], 20, 50.0, config);
    (0..3).for_each(|one| world.workloads[one].ready = false);
    world.publish();
    world.run_for(10 * S);
    between("moved at exactly 70 %", world.share(0, 10 * S, |one| world.zone_of(one) == Some(1)), 0.0, 0.0)?;
    world.workloads[3].ready = false;
    world.publish();
    world.run_for(10 * S);
    between("moved at 60 %", world.share(11 * S, 20 * S, |one| world.zone_of(one) == Some(1)), 1.0, 1.0)
}

fn flapping_summary_moves_traffic_once() -> Found {
    let mut world = World::new(14, &[0, 4, 4], 1, 10.0, Balancing::default());
    world.publish();
    let (mut moves, mut last) = (0, 1.0);
    for step in 0..60 {
        // A second with half of the endpoints, half a second with all of them.
        (0..2).for_each(|one| world.workloads[one].ready = step % 3 == 2);
        world.publish();
        world.run_for(S / 2);
        let share = world.balancer(0).explain(world.now_us).tiers[0].share;
        moves += u32::from((share - last).abs() > 0.1);
        last = share;
    }
    between("moves", f64::from(moves), 1.0, 1.0)
}

fn all_local_killed_and_back() -> Found {
    let mut world = World::new(2, &[4, 4], 100, 20.0, Balancing::default());
    world.publish();
    world.run_for(5 * S);
    (0..4).for_each(|one| world.workloads[one].life = Life::Dead);
    world.run_for(20 * S);
    between("failed", world.share(0, 25 * S, |one| !one.ok), 0.0, 0.0)?;
    let remote = world.share(6 * S, 25 * S, |one| world.zone_of(one) == Some(1));
    between("answered by the next tier", remote, 0.999, 1.0)?;
    (0..4).for_each(|one| world.workloads[one].life = Life::Up);
    world.run_for(45 * S);
    between("failed after the return", world.share(25 * S, 70 * S, |one| !one.ok), 0.0, 0.0)?;
    let local = |second: u64| world.share(second * S, (second + 1) * S, |one| world.zone_of(one) == Some(0));
    between("local in the first seconds", (25..28).map(local).fold(0.0, f64::max), 0.0, 0.25)?;
    // Until then every client has sent its one probe to each.
    for second in 29..69 {
        let (now, next) = (local(second), local(second + 1));
        hold(next >= now - 0.03, || format!("local share falls from {now} to {next} in second {second}"))?;
        hold(next <= now + 0.25, || format!("local share jumps from {now} to {next} in second {second}"))?;
    }
    between("local in the end", local(69), 0.999, 1.0)
}

fn three_dead_of_five_cost_no_request() -> Found {
    let mut world = World::new(3, &[5, 2], 200, 20.0, Balancing::default());
    world.publish();
    world.run_for(3 * S);
    (0..3).for_each(|one| world.workloads[one].life = Life::Dead);
    world.run_for(10 * S);
    between("failed", world.share(0, 13 * S, |one| !one.ok), 0.0, 0.0)
}

fn one_bad_remote_workload() -> Found {
    let mut world = World::new(4, &[0, 4, 4], 40, 50.0, Balancing::default());
    world.publish();
    world.run_for(5 * S);
    world.workloads[0].life = Life::Failing;
    world.run_for(20 * S);
    let tries: Vec<_> = world.tries.iter().filter(|one| one.at_us > 10 * S).collect();
    let bad = tries.iter().filter(|one| one.workload == Some(0)).count() as f64 / tries.len() as f64;
    between("tries at the bad workload", bad, 0.0, 0.02)?;
    let elsewhere = world.share(10 * S, 25 * S, |one| world.zone_of(one) == Some(2));
    between("left the zone", elsewhere, 0.0, 0.01)?;
    for workload in 1..4 {
        let share = world.share(10 * S, 25 * S, |one| one.workload == Some(workload));
        between("share of a good workload", share, 0.25, 0.42)?;
    }
    let out = (0..40).filter(|client| world.balancer(*client).ejected(world.now_us).count() > 0).count();
    hold(out == 0, || format!("{out} clients ejected a gateway for one workload behind it"))
}

fn frozen_endpoint() -> Found {
    let mut world = World::new(5, &[3, 3], 30, 50.0, Balancing::default());
    world.publish();
    world.run_for(5 * S);
    world.workloads[1].life = Life::Frozen;
    world.run_for(30 * S);
    // Tries are recorded when they end, two seconds after they began.
    for client in 0..30 {
        let asked = |one: &&super::sim::Sample| one.client == client && one.workload == Some(1);
        let probes = world.tries.iter().filter(|one| one.at_us > 10 * S).filter(asked).count();
        hold(probes <= 7, || format!("client {client} sent {probes} requests to a frozen endpoint"))?;
    }
    world.workloads[1].life = Life::Up;
    world.run_for(40 * S);
    let share = world.share(60 * S, 75 * S, |one| one.workload == Some(1));
    between("share after the thaw", share, 0.28, 0.39)
}

fn nothing_healthy_is_panic() -> Found {
    let mut world = World::new(6, &[2, 2], 20, 20.0, Balancing::default());
    world.publish();
    world.run_for(2 * S);
    world.workloads.iter_mut().for_each(|one| one.life = Life::Dead);
    world.run_for(10 * S);
    let tried = world.requests.iter().filter(|one| one.at_us > 3 * S);
    let refused = tried.filter(|one| one.workload.is_none()).count();
    hold(refused == 0, || format!("{refused} requests were refused instead of tried"))?;
    let panics = world.share(4 * S, 12 * S, |one| one.reason == RouteReason::Panic);
    between("said panic", panics, 0.5, 1.0)?;
    world.workloads.iter_mut().for_each(|one| one.life = Life::Up);
    world.run_for(10 * S);
    between("failed a second after the return", world.share(13 * S, 22 * S, |one| !one.ok), 0.0, 0.0)
}

fn failing_answers_eject_at_most_half() -> Found {
    let mut world = World::new(7, &[6], 20, 50.0, Balancing::default());
    world.retries = 0;
    world.publish();
    world.workloads.iter_mut().for_each(|one| one.life = Life::Failing);
    world.run_for(10 * S);
    let out = (0..20).map(|client| world.balancer(client).ejected(world.now_us).count()).max().unwrap_or(0);
    between("ejected of six", out as f64, 3.0, 3.0)
}

fn slow_endpoint_gets_less() -> Found {
    let mut world = World::new(8, &[5], 20, 200.0, Balancing::default());
    world.workloads[0].latency_us *= 10;
    world.publish();
    world.run_for(10 * S);
    between("share of the slow one", world.share(2 * S, 10 * S, |one| one.workload == Some(0)), 0.0, 0.08)
}

fn overload_spills_without_swinging() -> Found {
    let mut world = World::new(9, &[8, 8], 300, 10.0, Balancing::default());
    // 3,000 requests a second for a zone that serves 2,000: 1,800 stay.
    world.capacity = vec![2_000.0, 10_000.0];
    world.publish();
    world.run_for(120 * S);
    let local = |second: u64| world.share(second * S, (second + 1) * S, |one| world.zone_of(one) == Some(0));
    let shares: Vec<f64> = (60..120).map(local).collect();
    let mean = shares.iter().sum::<f64>() / shares.len() as f64;
    let swing = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / shares.len() as f64).sqrt();
    between("local share at 90 % of what the zone can", mean, 0.55, 0.65)?;
    between("its swing", swing, 0.0, 0.03)?;
    let reasons = world.share(60 * S, 120 * S, |one| one.reason == RouteReason::LocalOverloaded);
    between("said overloaded", reasons, 0.35, 0.45)
}

fn weights_are_kept() -> Found {
    let config = Balancing { algorithm: Algorithm::Random, ..Balancing::default() };
    let mut world = World::new(10, &[2], 20, 100.0, config);
    world.workloads[0].weight = 3;
    world.publish();
    world.run_for(10 * S);
    between("share of weight 3 of 4", world.share(0, 10 * S, |one| one.workload == Some(0)), 0.73, 0.77)
}

fn load_is_fair() -> Found {
    for algorithm in [Algorithm::PeakEwma, Algorithm::LeastRequest, Algorithm::RoundRobin, Algorithm::Random] {
        let config = Balancing { algorithm, ..Balancing::default() };
        let mut world = World::new(11, &[10], 200, 20.0, config);
        world.publish();
        world.run_for(10 * S);
        for workload in 0..10 {
            let share = world.share(0, 10 * S, |one| one.workload == Some(workload));
            between(&format!("share of one of ten by {algorithm:?}"), share, 0.085, 0.115)?;
        }
    }
    Ok(())
}

fn cut_zone_is_left() -> Found {
    let mut world = World::new(12, &[0, 3, 3], 40, 20.0, Balancing::default());
    world.publish();
    world.run_for(5 * S);
    world.cut[1] = true;
    world.run_for(15 * S);
    between("failed", world.share(0, 20 * S, |one| !one.ok), 0.0, 0.0)?;
    let third = world.share(8 * S, 20 * S, |one| world.zone_of(one) == Some(2));
    between("left the zone within three seconds", third, 0.99, 1.0)?;
    world.cut[1] = false;
    world.run_for(40 * S);
    let back = world.share(50 * S, 60 * S, |one| world.zone_of(one) == Some(1));
    between("came back", back, 0.99, 1.0)
}

const SCENARIOS: &[(&str, Scenario)] = &[
    ("threshold_is_exact", threshold_is_exact),
    ("switch_at_exactly_the_threshold", switch_at_exactly_the_threshold),
    ("flapping_summary_moves_traffic_once", flapping_summary_moves_traffic_once),
    ("all_local_killed_and_back", all_local_killed_and_back),
    ("three_dead_of_five_cost_no_request", three_dead_of_five_cost_no_request),
    ("one_bad_remote_workload", one_bad_remote_workload),
    ("frozen_endpoint", frozen_endpoint),
    ("nothing_healthy_is_panic", nothing_healthy_is_panic),
    ("failing_answers_eject_at_most_half", failing_answers_eject_at_most_half),
    ("slow_endpoint_gets_less", slow_endpoint_gets_less),
    ("overload_spills_without_swinging", overload_spills_without_swinging),
    ("weights_are_kept", weights_are_kept),
    ("load_is_fair", load_is_fair),
    ("cut_zone_is_left", cut_zone_is_left),
];

#[test]
fn every_scenario_holds() {
    let all = [SCENARIOS, keys::SCENARIOS, subsets::SCENARIOS, outliers::SCENARIOS];
    let wrong: Vec<String> =
        all.into_iter().flatten().filter_map(|(name, run)| Some(format!("{name}: {}", run().err()?))).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_planted_bug_is_found() {
    let table: &[(Fault, Scenario)] = &[
        (Fault::ThresholdExclusive, switch_at_exactly_the_threshold),
        (Fault::SpillsEverything, threshold_is_exact),
        (Fault::NoSlowStart, all_local_killed_and_back),
        (Fault::NoHysteresis, flapping_summary_moves_traffic_once),
        (Fault::RetriesForget, three_dead_of_five_cost_no_request),
        (Fault::ConnectionBlamesGateway, one_bad_remote_workload),
        (Fault::HungForever, frozen_endpoint),
        (Fault::ProbesFlood, frozen_endpoint),
        (Fault::NoPanic, nothing_healthy_is_panic),
        (Fault::EjectsAll, failing_answers_eject_at_most_half),
        (Fault::PrefersWorse, slow_endpoint_gets_less),
        (Fault::ReliefOvershoots, overload_spills_without_swinging),
        (Fault::WeightsIgnored, weights_are_kept),
    ];
    let all = [table, keys::FAULTS, subsets::FAULTS, outliers::FAULTS];
    let missed: Vec<Fault> = all
        .into_iter()
        .flatten()
        .filter(|(fault, run)| with(Some(*fault), run).is_ok())
        .map(|(fault, _)| *fault)
        .collect();
    assert!(missed.is_empty(), "the simulator does not find {missed:?}");
}
