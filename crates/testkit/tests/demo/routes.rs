//! Where requests go, and who may make them: steps 1, 2, 3, 7 and 10.

use crate::{CART, RATE, two_zones};
use testkit::{mesh, until};

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_answered_in_the_zone_of_the_caller() {
    let mesh = two_zones(|west| west).start().await;
    let seen = mesh.from("west/web-1").times(CART, 400).await;
    assert_eq!(seen.failed(), (0, String::new()));
    assert_eq!(seen.zone("west"), 400);
    assert_eq!(seen.workloads().len(), 2, "both workloads answer: {:?}", seen.workloads());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_may_say_the_zone_and_the_callee_sees_who_really_called() {
    let mesh = two_zones(|west| west).start().await;
    let seen = mesh.from("west/web-1").times("cart.shop.east.mesh", 100).await;
    assert_eq!(seen.failed(), (0, String::new()));
    assert_eq!(seen.zone("east"), 100);
    for shot in &seen.0 {
        assert_eq!(shot.answer.peer, "spiffe://west.default/ns/shop/sa/web");
    }
}

const SPLIT: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart-split, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: cart}]
  rules:
    - backendRefs:
        - {name: cart, zone: west, weight: 90}
        - {name: cart, zone: east, weight: 10}
";

#[tokio::test(flavor = "multi_thread")]
async fn a_route_splits_requests_between_zones_by_weight() {
    let mesh = two_zones(|west| west).start().await;
    mesh.apply(SPLIT).await;
    let seen = mesh.from("west/web-1").times(CART, 2_000).await;
    assert_eq!(seen.failed(), (0, String::new()));
    // Three standard deviations of 2,000 draws are 2 %.
    assert!((160..=240).contains(&seen.zone("east")), "{} of 2000 in east", seen.zone("east"));
    assert_eq!(seen.zone("west") + seen.zone("east"), 2_000);

    mesh.delete("/resources/httproutes/default/shop/cart-split").await;
    let seen = mesh.from("west/web-1").times(CART, 200).await;
    assert_eq!(seen.zone("west"), 200, "without the route everything is at home again");
}

const NOT_FROM_EAST: &str = "
apiVersion: weft.dev/v1
kind: Authorization
metadata: {name: not-from-east, namespace: shop}
spec:
  targetRef: {kind: Service, name: payments}
  rules: [{action: Deny, from: [{zone: east}]}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_names_its_policy_to_the_caller_and_in_the_status() {
    let mesh = mesh()
        .zone("west", |zone| zone.gateways(1).app("web", 1).app("payments", 2))
        .zone("east", |zone| zone.gateways(1).app("web", 1))
        .start()
        .await;
    let (east, west) = (mesh.from("east/web-1"), mesh.from("west/web-1"));
    let host = "payments.shop.mesh";
    assert!(east.get(host, "/").await.good(), "nothing forbids it yet");

    mesh.apply(NOT_FROM_EAST).await;
    let served: u64 = ["west/payments-1", "west/payments-2"].map(|name| mesh.app(name).served()).iter().sum();
    for _ in 0..20 {
        let denied = east.get(host, "/").await;
        assert_eq!((denied.status, denied.reason.as_str()), (403, "DENIED"), "{denied:?}");
        assert!(denied.policy.contains("not-from-east") && denied.body.contains("not-from-east"), "{denied:?}");
    }
    let reached: u64 = ["west/payments-1", "west/payments-2"].map(|name| mesh.app(name).served()).iter().sum();
    assert_eq!(reached, served, "no denied request reaches an app");
    assert!(west.get(host, "/").await.good(), "others may call");

    let path = "/resources/authorizations/default/shop/not-from-east";
    until("the status counts the denials", async || {
        let status = mesh.global().get(path).await.map_err(|error| error.to_string())?["status"].clone();
        let denied = status["zones"]["west"]["denied"].as_u64();
        if denied == Some(20) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    mesh.delete(path).await;
    assert!(east.get(host, "/").await.good(), "without the policy it may call again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_on_every_proxy_when_its_write_is_answered_and_closes_no_connection() {
    let mesh = two_zones(|west| west).start().await;
    let caller = mesh.from("west/web-1");
    let mut load = mesh.load("west/web-1", CART, RATE);
    load.more(20).await;
    for seconds in 10..20 {
        let timeout = format!(
            "apiVersion: weft.dev/v1
kind: Timeout
metadata: {{name: cart-changing, namespace: shop}}
spec: {{to: [{{targetRef: {{kind: Service, name: cart}}, default: {{request: {seconds}s}}}}]}}"
        );
        mesh.apply(&timeout).await;
        for zone in ["west", "east"] {
            let proxies = mesh.control(zone).get("/proxies").await.unwrap();
            let behind = |item: &&serde_json::Value| item["behind"] == true;
            let late: Vec<_> = proxies["items"].as_array().unwrap().iter().filter(behind).collect();
            assert!(late.is_empty(), "{late:?}");
        }
    }
    let status = mesh.global().get("/resources/timeouts/default/shop/cart-changing").await.unwrap()["status"].clone();
    for zone in ["west", "east"] {
        let told = &status["zones"][zone];
        assert!(told["total"].as_u64() > Some(0) && told["programmed"] == told["total"], "{status}");
    }
    let seen = load.stop().await;
    assert_eq!(seen.failed(), (0, String::new()));
    let (closed, opened) = caller.connections();
    assert_eq!(closed, 0, "of {opened} connections");
}
