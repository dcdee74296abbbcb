//! What must hold where endpoints are compared with each other.

use super::scenarios::{Found, Scenario, hold};
use super::sim::{S, World};
use crate::fault::Fault;
use api::RouteReason;
use api::Share;
use api::config::{Balancing, Ejection, FailureShare};

/// Only comparison: failures in a row say nothing.
fn config() -> Balancing {
    let ejection = Ejection { consecutive: u32::MAX, ..Ejection::default() };
    Balancing { ejection, ..Balancing::default() }
}

fn out(world: &World, client: usize) -> Vec<std::net::SocketAddr> {
    let balancer = world.balancer(client);
    let ejected = balancer.ejected(world.now_us);
    ejected.filter_map(|(id, _)| Some(balancer.candidate(id)?.1.address())).collect()
}

/// One of six fails a third of its answers, never many in a row: everybody who asks often enough takes it out, once,
/// and takes it back when it is well.
fn who_is_worse_than_the_others_goes() -> Found {
    let mut world = World::new(41, &[6], 3, 200.0, config());
    world.retries = 0;
    world.workloads[2].bad_of_1000 = 330;
    world.publish();
    world.run_for(25 * S);
    for client in 0..3 {
        let out = out(&world, client);
        hold(out.len() == 1 && out[0].ip().to_string() == "10.0.0.2", || format!("client {client}: {out:?} are out"))?;
    }
    world.workloads[2].bad_of_1000 = 0;
    world.run_for(90 * S);
    for client in 0..3 {
        let out = out(&world, client);
        hold(out.is_empty(), || format!("client {client}: {out:?} are out long after"))?;
    }
    Ok(())
}

/// Where everybody is nearly perfect nobody is worse for a request in a hundred.
fn a_bad_answer_now_and_then_is_no_reason() -> Found {
    let mut world = World::new(42, &[5], 3, 200.0, config());
    world.workloads[1].bad_of_1000 = 10;
    world.publish();
    world.run_for(60 * S);
    let lost = (0..3).map(|client| out(&world, client).len()).sum::<usize>();
    hold(lost == 0, || format!("{lost} ejections for one bad answer of a hundred"))
}

/// A client that asks seldom knows too little to compare.
fn few_requests_say_nothing() -> Found {
    let mut world = World::new(43, &[6], 30, 10.0, config());
    world.retries = 0;
    world.workloads.iter_mut().for_each(|one| one.bad_of_1000 = 100);
    world.publish();
    world.run_for(60 * S);
    let lost = (0..30).map(|client| out(&world, client).len()).sum::<usize>();
    hold(lost == 0, || format!("{lost} ejections by clients that know a few answers of each"))
}

/// An endpoint that failed while it started is not taken out for that much later.
fn the_past_is_past() -> Found {
    let fails =
        Ejection { failure_share: FailureShare { share: Share::percent(40), requests_min: 50 }, ..config().ejection };
    let mut world = World::new(44, &[3], 2, 200.0, Balancing { ejection: fails, ..config() });
    world.retries = 0;
    world.workloads[0].bad_of_1000 = 300;
    world.publish();
    world.run_for(15 * S);
    let before = out(&world, 0).len() + out(&world, 1).len();
    hold(before == 0, || format!("{before} are out for less than the share"))?;
    // Half of what comes now fails, which is enough by itself and would not be together with before.
    world.workloads[0].bad_of_1000 = 550;
    world.run_for(15 * S);
    let after = (0..2).filter(|client| out(&world, *client).len() == 1).count();
    hold(after == 2, || format!("{after} of 2 clients took out who fails 55 %"))
}

/// With two thirds of everything unready, a panic threshold of 50 % tries them all; without one it does not.
fn a_panic_threshold_tries_everybody() -> Found {
    for (panic, expect) in [(50, RouteReason::Panic), (0, RouteReason::Local)] {
        let mut world = World::new(45, &[6], 5, 50.0, Balancing { panic: Share::percent(panic), ..config() });
        (0..4).for_each(|one| world.workloads[one].ready = false);
        world.publish();
        world.run_for(5 * S);
        let asked = (0..6).filter(|one| world.tries.iter().any(|sample| sample.workload == Some(*one))).count();
        let said = world.share(0, 5 * S, |one| one.reason == expect);
        let right = asked == if panic > 0 { 6 } else { 2 } && said == 1.0;
        hold(right, || format!("at {panic} %: {asked} of 6 were asked, {said} said {expect}"))?;
    }
    Ok(())
}

/// Behind a gateway it is one workload's connections that are worse, not the gateway.
fn comparison_reaches_through_gateways() -> Found {
    let mut world = World::new(46, &[0, 6], 1, 1_000.0, config());
    world.retries = 0;
    world.workloads[3].bad_of_1000 = 400;
    world.publish();
    world.run_for(40 * S);
    hold(out(&world, 0).is_empty(), || format!("gateways are out: {:?}", out(&world, 0)))?;
    let late: Vec<_> = world.tries.iter().filter(|one| one.at_us > 15 * S).collect();
    let share = late.iter().filter(|one| one.workload == Some(3)).count() as f64 / late.len() as f64;
    hold(share < 0.08, || format!("{share} of the requests still meet the bad workload"))
}

pub const SCENARIOS: &[(&str, Scenario)] = &[
    ("who_is_worse_than_the_others_goes", who_is_worse_than_the_others_goes),
    ("a_bad_answer_now_and_then_is_no_reason", a_bad_answer_now_and_then_is_no_reason),
    ("few_requests_say_nothing", few_requests_say_nothing),
    ("the_past_is_past", the_past_is_past),
    ("a_panic_threshold_tries_everybody", a_panic_threshold_tries_everybody),
    ("comparison_reaches_through_gateways", comparison_reaches_through_gateways),
];

pub const FAULTS: &[(Fault, Scenario)] = &[
    (Fault::FewAreCompared, few_requests_say_nothing),
    (Fault::EveryDeviationEjects, a_bad_answer_now_and_then_is_no_reason),
    (Fault::TallyNeverEnds, the_past_is_past),
    (Fault::PanicIgnored, a_panic_threshold_tries_everybody),
];
