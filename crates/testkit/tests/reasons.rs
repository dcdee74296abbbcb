//! What a caller is told of why: each reason of `docs/reference/reasons.md` that one mesh can show, shown by it. The
//! balancer's own tests show the rest.

#![allow(clippy::unwrap_used)] // All of it is test.

use bytes::Bytes;
use http::Method;
use std::net::TcpListener;
use std::time::Duration;
use testkit::{Answer, Mesh, mesh, until};

const CART: &str = "cart.shop.mesh";
const STOCK: &str = "stock.shop.mesh";

/// `stock` is in east only, with one workload.
async fn two_zones() -> Mesh {
    mesh()
        .zone("west", |zone| zone.gateways(1).app("web", 1).app("cart", 2))
        .zone("east", |zone| zone.gateways(1).app("cart", 1).app("stock", 1))
        .start()
        .await
}

async fn get(mesh: &Mesh, host: &str) -> Answer {
    mesh.from("west/web-1").get(host, "/").await
}

/// Waits until calls are told this reason.
async fn told(mesh: &Mesh, host: &str, reason: &str) {
    until(&format!("{host} is told {reason}"), async || {
        let answer = get(mesh, host).await;
        if answer.reason == reason { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

fn about(answer: &Answer) -> (u16, &str) {
    (answer.status, &answer.reason)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_from_an_unusual_place_says_why_it_came_from_there() {
    let mut mesh = two_zones().await;
    let usual = get(&mesh, CART).await;
    assert_eq!((usual.reason.as_str(), usual.zone.as_str()), ("", "west"), "LOCAL is not worth a word");
    assert_eq!(get(&mesh, "cart.shop.east.mesh").await.reason, "PINNED");
    assert_eq!(get(&mesh, STOCK).await.reason, "LOCAL_NONE");

    mesh.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: split, namespace: shop}
spec:
  parentRefs: [{kind: Service, name: cart}]
  rules:
    - backendRefs:
        - {name: cart, zone: west, weight: 1}
        - {name: cart, zone: east, weight: 1}
",
    )
    .await;
    let split = get(&mesh, CART).await;
    assert!(["SPLIT", "PINNED"].contains(&split.reason.as_str()), "{split:?}");
    mesh.delete("/resources/httproutes/default/shop/split").await;

    // A status that is worth another try: the answer is somebody else's.
    mesh.app("west/cart-1").answers(503);
    told(&mesh, CART, "RETRY_ELSEWHERE").await;
    mesh.app("west/cart-2").answers(503);
    told(&mesh, CART, "EJECTED").await;

    mesh.lose("west/cart-*").await;
    told(&mesh, CART, "LOCAL_UNREADY").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_leads_nowhere_is_told_why() {
    let mut mesh = two_zones().await;
    assert_eq!(about(&get(&mesh, "nobody.shop.mesh").await), (404, "NO_ROUTE"));
    let web = mesh.from("west/web-1");
    assert_eq!(about(&web.get(CART, "/%00").await), (400, "BAD_REQUEST"));

    // Nobody listens there: the port was free a moment ago, and is ours.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    mesh.apply(&format!(
        "
apiVersion: weft.dev/v1
kind: ExternalService
metadata: {{name: outside, namespace: shop}}
spec:
  hosts: [outside.example]
  ports: [{{port: 80}}]
  endpoints: [{{address: 127.0.0.1, port: {port}}}]
"
    ))
    .await;
    assert_eq!(about(&get(&mesh, "outside.example").await), (503, "CONNECT_FAILED"));

    mesh.apply(
        "
apiVersion: weft.dev/v1
kind: LoadBalancing
metadata: {name: at-home, namespace: shop}
spec:
  to: [{targetRef: {kind: Service, name: stock}, default: {failover: [{to: none}]}}]
",
    )
    .await;
    assert_eq!(about(&get(&mesh, STOCK).await), (503, "POLICY_FORBIDS"));
    mesh.delete("/resources/loadbalancings/default/shop/at-home").await;

    mesh.lose("east/gateway-1").await;
    until("no gateway of east answers", async || {
        let answer = get(&mesh, STOCK).await;
        let refused =
            answer.status == 503 && ["UNREACHABLE", "CONNECT_FAILED", "NO_ENDPOINT"].contains(&answer.reason.as_str());
        if refused { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_does_not_do_its_part_is_named() {
    let mut mesh = mesh().zone("west", |zone| zone.app("web", 1).app("stock", 1)).start().await;
    mesh.apply(
        "
apiVersion: weft.dev/v1
kind: Timeout
metadata: {name: short, namespace: shop}
spec:
  to: [{targetRef: {kind: Service, name: stock}, default: {request: 200ms}}]
",
    )
    .await;
    mesh.app("west/stock-1").takes(Duration::from_secs(5));
    assert_eq!(about(&get(&mesh, STOCK).await), (504, "REQUEST_TIMEOUT"));
    mesh.delete("/resources/timeouts/default/shop/short").await;

    // It breaks off while it works on a request that must not be sent twice.
    let web = mesh.from("west/web-1");
    let before = mesh.app("west/stock-1").begun();
    let asking = tokio::spawn(async move { web.send(Method::POST, STOCK, "/", Bytes::new()).await });
    until("the app works on it", async || match mesh.app("west/stock-1").begun() - before {
        0 => Err("not yet"),
        _ => Ok(()),
    })
    .await;
    mesh.stop_app("west/stock-1");
    let broken = asking.await.unwrap();
    assert_eq!(about(&broken), (502, "UPSTREAM_RESET"), "{broken:?}");

    let mut seen = Vec::new();
    until("its proxy says that it is gone", async || {
        let answer = get(&mesh, STOCK).await;
        seen.push(answer.reason.clone());
        if ["APP_UNREACHABLE", "LOCAL_UNREADY"].contains(&answer.reason.as_str()) {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await;
}
