//! Traffic from and to the outside, from documents written at global to what gateways say of them.

use http::Method;
use serde_json::{Value, json};
use testkit::{Mesh, ZonePlan, mesh, until};

const SHOP: &str = "shop.example.com";

fn west(zone: ZonePlan) -> ZonePlan {
    zone.edges(1).app("web", 1).app("cart", 1)
}

/// A Gateway at these ports, with a route to `cart`.
fn gateway(ports: &[u16]) -> String {
    let listener = |port: &u16| format!("    - {{name: p{port}, port: {port}, protocol: HTTP}}\n");
    let listeners: String = ports.iter().map(listener).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: shop}}
spec:
  listeners:
{listeners}---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: public, namespace: shop}}
spec:
  parentRefs: [{{kind: Gateway, name: public}}]
  hostnames: [{SHOP}]
  rules: [{{backendRefs: [{{name: cart}}]}}]
"
    )
}

async fn status(mesh: &Mesh) -> Value {
    mesh.global().get("/resources/gateways/default/shop/public").await.unwrap()["status"]["zones"]["west"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_opens_its_port_and_calls_with_its_own_identity() {
    let mesh = mesh().zone("west", west).zone("east", |zone| zone.gateways(1).app("cart", 1)).start().await;
    mesh.apply(&gateway(&[mesh.port("west/edge-1")])).await;
    let outside = mesh.from("west/edge-1");
    until("the port is open", async || match outside.get(SHOP, "/").await {
        answer if answer.good() => Ok(()),
        answer => Err(format!("{} {} {}", answer.status, answer.error, answer.body)),
    })
    .await;
    let answer = outside.get(SHOP, "/").await;
    assert_eq!((answer.zone.as_str(), answer.peer.as_str()), ("west", "spiffe://west.default/ns/default/sa/ingress"));
    let stranger = outside.get("other.example.com", "/").await;
    assert_eq!((stranger.status, stranger.reason.as_str()), (404, "NO_ROUTE"));
    assert_eq!(status(&mesh).await["programmed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_be_opened_is_in_the_status_of_the_gateway() {
    let mesh = mesh().zone("west", west).start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let spec = json!({"listeners": [{"name": "http", "port": port, "protocol": "HTTP"}]});
    let metadata = json!({"name": "public", "namespace": "shop"});
    let document =
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "metadata": metadata, "spec": spec});
    mesh.global().good(Method::PUT, "/resources/gateways/default/shop/public", Some(&document)).await.unwrap();
    until("the status says why", async || {
        let status = status(&mesh).await;
        let reason = status["rejects"][0]["reason"].as_str().unwrap_or_default();
        let said = reason.starts_with("listener http: address 127.0.0.1:") && reason.contains("is in use");
        if said && status["programmed"] == 0 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    drop(taken);
    until("it is taken back", async || match status(&mesh).await {
        status if status["programmed"] == 1 => Ok(()),
        status => Err(status.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_through_an_edge_gateway_is_decided_there() {
    let mesh = mesh().zone("west", west).start().await;
    let port = mesh.app("west/cart-1").port();
    let external = format!(
        "apiVersion: weft.dev/v1
kind: ExternalService
metadata: {{name: billing, namespace: shop}}
spec:
  hosts: [billing.example.com]
  ports: [{{port: 80}}]
  endpoints: [{{address: 127.0.0.1, port: {port}}}]
  through: EdgeGateway
"
    );
    mesh.apply(&external).await;
    let answer = mesh.from("west/web-1").get("billing.example.com", "/").await;
    assert!(answer.good() && answer.workload == "west/cart-1", "{} {}", answer.status, answer.body);
    assert_eq!(answer.peer, "", "nobody outside hears who called");
    mesh.apply(
        "apiVersion: weft.dev/v1
kind: Authorization
metadata: {name: billing, namespace: shop}
spec:
  targetRef: {kind: ExternalService, name: billing}
  rules: [{action: Deny, from: [{account: web}]}]
",
    )
    .await;
    let answer = mesh.from("west/web-1").get("billing.example.com", "/").await;
    assert_eq!((answer.status, answer.policy.as_str()), (403, "shop/billing"), "{}", answer.body);
}
