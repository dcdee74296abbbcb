//! The steps of the demo, in one process: what each of them claims, without its figures.

#![allow(clippy::unwrap_used)] // All of it is test.

mod absence;
mod edge;
mod losses;
mod routes;

use testkit::{Plan, ZonePlan, mesh};

/// The service most steps call.
const CART: &str = "cart.shop.mesh";
/// Requests a second of a load: enough to see a fault, little enough for a busy machine.
const RATE: u32 = 100;

/// Two zones that can stand in for each other.
fn two_zones(west: impl FnOnce(ZonePlan) -> ZonePlan) -> Plan {
    mesh()
        .zone("west", |zone| west(zone.gateways(1).app("web", 1).app("cart", 2)))
        .zone("east", |zone| zone.gateways(1).app("cart", 2))
}
