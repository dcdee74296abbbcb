//! Two zones: failing over through a gateway that reads nothing but a server name.

#![allow(clippy::unwrap_used)]

mod stage;

use api::kinds::Protocol;
use proxy::edge::probe::{self, Probes};
use stage::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CART: &str = "cart.shop.mesh";

struct Zones {
    web: Proxy,
    west: Proxy,
    gateway: Proxy,
    _apps: [App; 3],
    east: [Proxy; 2],
    trusts: Trusts,
}

async fn zones(exported: &[&str]) -> Zones {
    let trusts = Trusts::of(&["west", "east"]);
    let apps = [App::http("west-1").await, App::http("east-1").await, App::http("east-2").await];
    let west = Proxy::sidecar(&trusts, "west", "cart", "west-1");
    west.apply(&Plan::default().own("west", "cart", apps[0].inbound(Protocol::Http), allow_all()).0);
    let east = [Proxy::sidecar(&trusts, "east", "cart", "east-1"), Proxy::sidecar(&trusts, "east", "cart", "east-2")];
    for (proxy, app) in east.iter().zip(&apps[1..]) {
        proxy.apply(&Plan::default().own("east", "cart", app.inbound(Protocol::Http), allow_all()).0);
    }
    let gateway = Proxy::gateway(&trusts, "east");
    let endpoints = [("east-1", east[0].inbound, true), ("east-2", east[1].inbound, true)];
    gateway.apply(&Plan::default().edge("east", exported, &[]).local("cart", "east", &endpoints).0);
    let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
    let plan = Plan::default()
        .own("west", "web", Vec::new(), allow_all())
        .zone("east")
        .outbound("cart", Protocol::Http, rule_to("cart"), &["east"])
        .local("cart", "west", &[("west-1", west.inbound, true)])
        .remote("cart", "east", &[gateway.inbound], 2);
    web.apply(&plan.0);
    Zones { web, west, gateway, _apps: apps, east, trusts }
}

#[tokio::test]
async fn when_the_local_instance_dies_the_other_zone_answers_within_half_a_second() {
    let mut zones = zones(&["cart"]).await;
    let mut client = Client::to(zones.web.outbound).await;
    for _ in 0..20 {
        let answer = client.get(CART, "/").await;
        assert_eq!((answer.status(), answer.header("weft-zone")), (200, "west"));
    }
    zones.west.kill();
    for i in 0..50 {
        let sent = Instant::now();
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "request {i}: {} {}", answer.header("weft-reason"), answer.text);
        assert_eq!(answer.header("weft-zone"), "east");
        assert!(answer.header("weft-workload").starts_with("east-"));
        assert!(!answer.header("weft-reason").is_empty(), "an unusual place is explained");
        assert!(sent.elapsed() < Duration::from_millis(500), "request {i} took {:?}", sent.elapsed());
    }
}

#[tokio::test]
async fn a_zone_whose_app_has_too_much_to_do_shares_with_the_next() {
    let zones = zones(&["cart"]).await;
    let mut client = Client::to(zones.web.outbound).await;
    let (west, worker) = (&zones.west.state, zones.west.state.workers()[0].clone());
    // Twice the requests that are full use of an app.
    let at_work: Vec<_> = (0..2_048).map(|_| worker.apps.in_flight.begin()).collect();
    assert_eq!(west.load.measure(west), Some(2.0));
    let since = Instant::now();
    loop {
        let answer = client.get(CART, "/").await;
        assert_eq!((answer.status(), answer.header("weft-load")), (200, ""), "{}", answer.text);
        if answer.header("weft-zone") == "east" {
            assert_eq!(answer.header("weft-reason"), "LOCAL_OVERLOADED");
            break;
        }
        assert!(since.elapsed() < SOON, "everything stays in a zone at 200 %");
    }
    drop(at_work);
    assert_eq!(west.load.measure(west), Some(0.0));
}

#[tokio::test]
async fn a_zone_named_by_the_caller_answers() {
    let zones = zones(&["cart"]).await;
    let mut client = Client::to(zones.web.outbound).await;
    let answer = client.get("cart.shop.east.mesh", "/").await;
    assert_eq!((answer.status(), answer.header("weft-zone")), (200, "east"), "{}", answer.text);
    assert_eq!(answer.header("weft-reason"), "PINNED");
    assert!(zones.gateway.edge.relayed() >= 1);
}

#[tokio::test]
async fn what_is_not_exported_is_refused_and_counted() {
    let zones = zones(&[]).await;
    let mut client = Client::to(zones.web.outbound).await;
    let answer = client.get("cart.shop.east.mesh", "/").await;
    assert_eq!(answer.status(), 503, "{}", answer.text);
    assert!(zones.gateway.edge.refusals()["not exported"] >= 1);
}

#[tokio::test]
async fn gateways_probe_each_other() {
    let trusts = Trusts::of(&["west", "east"]);
    let east = Proxy::gateway(&trusts, "east");
    east.apply(&Plan::default().edge("east", &[], &[]).0);
    let west = Proxy::gateway(&trusts, "west");
    west.apply(&Plan::default().edge("west", &[], &[("east", east.inbound)]).0);
    let probes = Arc::new(Probes::default());
    tokio::spawn(probe::run(west.state.clone(), probes.clone()));
    let mut news = west.state.news();
    let verdict = tokio::time::timeout(SOON, async {
        loop {
            if let Some(verdict) = probes.verdicts(1).remove(&zone("east")).filter(|verdict| verdict.reachable) {
                return verdict;
            }
            news.changed().await.unwrap();
        }
    });
    let verdict = verdict.await.unwrap();
    assert!(verdict.rtt_us.is_some_and(|rtt| rtt > 0));
}

#[tokio::test]
async fn a_killed_gateway_leaves_its_requests_to_another() {
    let mut zones = zones(&["cart"]).await;
    let second = Proxy::gateway(&zones.trusts, "east");
    let endpoints = [("east-1", zones.east[0].inbound, true), ("east-2", zones.east[1].inbound, true)];
    second.apply(&Plan::default().edge("east", &["cart"], &[]).local("cart", "east", &endpoints).0);
    let plan = Plan::default()
        .own("west", "web", Vec::new(), allow_all())
        .zone("east")
        .outbound("cart", Protocol::Http, rule_to("cart"), &["east"])
        .remote("cart", "east", &[zones.gateway.inbound, second.inbound], 2);
    zones.web.apply(&plan.0);
    let mut client = Client::to(zones.web.outbound).await;
    for i in 0..100 {
        if i == 30 {
            zones.gateway.kill();
        }
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "request {i}: {} {}", answer.header("weft-reason"), answer.text);
        assert_eq!(answer.header("weft-zone"), "east");
    }
}
