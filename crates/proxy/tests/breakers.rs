//! Circuit breakers, end to end: what is too much is refused at once and by name, and nothing that was taken is lost.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{Breaker, Outbound, item};
use api::kinds::Protocol;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use proxy::outbound::breaker::Limit;
use stage::*;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CART: &str = "cart.shop.mesh";

/// A caller with limits, and instances of `cart`.
struct Shop {
    web: Proxy,
    carts: Vec<Proxy>,
    apps: Vec<App>,
}

impl Shop {
    async fn with(instances: &[&'static str], breaker: Breaker) -> Self {
        let trusts = Trusts::of(&["west"]);
        let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
        let (mut carts, mut apps) = (Vec::new(), Vec::new());
        for name in instances {
            let app = App::http(name).await;
            let cart = Proxy::sidecar(&trusts, "west", "cart", name);
            cart.apply(&Plan::default().own("west", "cart", app.inbound(Protocol::Http), allow_all()).0);
            carts.push(cart);
            apps.push(app);
        }
        let endpoints: Vec<_> = instances.iter().zip(&carts).map(|(name, cart)| (*name, cart.inbound, true)).collect();
        web.apply(&plan(&endpoints, breaker).0);
        Self { web, carts, apps }
    }

    fn used(&self, limit: Limit) -> u32 {
        self.web.state.breakers.of(&service("cart")).used(limit)
    }

    async fn until_used(&self, limit: Limit, count: u32) {
        let reached = async {
            while self.used(limit) != count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(SOON, reached).await.unwrap_or_else(|_| panic!("{limit:?}: {}", self.used(limit)));
    }

    /// A request whose body does not end, so that the app cannot answer. It ends when the connection is dropped.
    async fn unfinished(&self) -> TcpStream {
        let mut caller = TcpStream::connect(self.web.outbound).await.unwrap();
        let head = format!("POST / HTTP/1.1\r\nhost: {CART}\r\ncontent-length: 5\r\n\r\n");
        caller.write_all(head.as_bytes()).await.unwrap();
        caller
    }
}

fn plan(endpoints: &[(&str, std::net::SocketAddr, bool)], breaker: Breaker) -> Plan {
    Plan::default()
        .own("west", "web", Vec::new(), allow_all())
        .outbound("cart", Protocol::Http, rule_to("cart"), &[])
        .local("cart", "west", endpoints)
        .change(item::outbound(&service("cart")), |outbound: &mut Outbound| outbound.breaker = breaker)
}

fn limits(field: &str, change: impl FnOnce(&mut Breaker)) -> Breaker {
    let policies = [(field.to_owned(), "shop/tight".to_owned())].into();
    let mut breaker = Breaker { policies, ..Breaker::default() };
    change(&mut breaker);
    breaker
}

#[tokio::test]
async fn a_request_too_many_is_refused_by_name_and_callers_that_leave_make_room() {
    let shop = Shop::with(&["cart-1"], limits("requestsMax", |breaker| breaker.requests_max = 2)).await;
    let (first, second) = (shop.unfinished().await, shop.unfinished().await);
    shop.until_used(Limit::Requests, 2).await;
    let mut client = Client::to(shop.web.outbound).await;
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (503, "CIRCUIT_OPEN"), "{}", answer.text);
    assert_eq!(answer.header("weft-policy"), "shop/tight");
    assert!(answer.text.contains("2 requests in use, as many as requestsMax of"), "{}", answer.text);
    let request = Request::post("/").header("host", CART).header("content-type", "application/grpc");
    let answer = client.send(request.body(Full::<Bytes>::default()).unwrap()).await;
    assert_eq!((answer.status(), answer.header("grpc-status")), (200, "8"), "gRPC: RESOURCE_EXHAUSTED");
    drop(first);
    shop.until_used(Limit::Requests, 1).await;
    assert_eq!(client.get(CART, "/").await.status(), 200);
    drop(second);
    shop.until_used(Limit::Requests, 0).await;
    let refused = shop.web.state.breakers.of(&service("cart")).refused(Limit::Requests);
    assert_eq!(refused, 2, "refusals are counted, and are not tried again");
    let flows = shop.web.state.counters.flows();
    assert!(flows.iter().any(|flow| flow.reason == api::RouteReason::CircuitOpen && flow.requests == 2), "{flows:?}");
}

#[tokio::test]
async fn an_upgraded_stream_is_a_request_in_flight_until_it_ends() {
    let shop = Shop::with(&["cart-1"], limits("requestsMax", |breaker| breaker.requests_max = 1)).await;
    let mut client = Client::to(shop.web.outbound).await;
    let request = Request::get("/").header("host", CART).header("connection", "Upgrade").header("upgrade", "echo");
    let mut response = client.raw(request.body(Full::default()).unwrap()).await;
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    assert_eq!(shop.used(Limit::Requests), 1);
    assert_eq!(Client::to(shop.web.outbound).await.get(CART, "/").await.header("weft-reason"), "CIRCUIT_OPEN");
    drop(upgraded);
    shop.until_used(Limit::Requests, 0).await;
}

#[tokio::test]
async fn a_breaker_that_opens_takes_no_endpoint_out() {
    let shop = Shop::with(&["cart-1", "cart-2"], limits("requestsMax", |breaker| breaker.requests_max = 1)).await;
    let held = shop.unfinished().await;
    shop.until_used(Limit::Requests, 1).await;
    let mut client = Client::to(shop.web.outbound).await;
    for _ in 0..50 {
        assert_eq!(client.get(CART, "/").await.header("weft-reason"), "CIRCUIT_OPEN");
    }
    drop(held);
    shop.until_used(Limit::Requests, 0).await;
    for _ in 0..50 {
        let answer = client.get(CART, "/").await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (200, ""), "answered locally, as usual");
    }
    let worker = shop.web.state.workers()[0].clone();
    let tiers = worker.callee(&service("cart"), 80).explain(worker.now_us());
    let places: Vec<_> = tiers.tiers.iter().flat_map(|tier| &tier.places).collect();
    assert!(places.iter().all(|place| place.out == 0 && place.health == 1.0), "nobody is out: {places:?}");
}

#[tokio::test]
async fn with_room_for_one_connection_all_requests_share_it() {
    let shop = Shop::with(&["cart-1", "cart-2"], limits("connectionsMax", |breaker| breaker.connections_max = 1)).await;
    let mut client = Client::to(shop.web.outbound).await;
    for i in 0..30 {
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "request {i}: {}", answer.text);
        assert_eq!(shop.used(Limit::Connections), 1);
    }
    assert_eq!(shop.carts.len(), 2);
}

#[tokio::test]
async fn who_would_wait_for_a_connection_behind_too_many_does_not_wait() {
    let shop = Shop::with(&[], Breaker::default()).await;
    // Accepts in the kernel, and never shakes hands.
    let silent = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let breaker = limits("pendingMax", |breaker| breaker.pending_max = 1);
    shop.web.apply(&plan(&[("cart-1", silent.local_addr().unwrap(), true)], breaker).0);
    let _waits = shop.unfinished().await;
    shop.until_used(Limit::Pending, 1).await;
    let sent = std::time::Instant::now();
    let answer = Client::to(shop.web.outbound).await.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (503, "CIRCUIT_OPEN"), "{}", answer.text);
    assert!(answer.text.contains("pendingMax of CircuitBreaker shop/tight"), "{}", answer.text);
    assert!(sent.elapsed() < Duration::from_millis(500), "it does not wait for the connect timeout");
    shop.until_used(Limit::Pending, 0).await;
    shop.until_used(Limit::Connections, 0).await;
}

#[tokio::test]
async fn without_room_for_a_retry_the_failure_is_passed_on() {
    let shop = Shop::with(&["cart-1"], limits("retriesMax", |breaker| breaker.retries_max = 0)).await;
    let answer = Client::to(shop.web.outbound).await.get(CART, "/fail").await;
    assert_eq!((answer.status(), answer.header("app")), (503, "cart-1"), "the app's own answer");
    assert_eq!(shop.apps[0].served.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert_eq!(shop.web.state.breakers.of(&service("cart")).refused(Limit::Retries), 1);
}

#[tokio::test]
async fn a_connection_of_bytes_too_many_is_closed_and_recorded() {
    let trusts = Trusts::of(&["west"]);
    let app = App::echo().await;
    let db = Proxy::sidecar(&trusts, "west", "cart", "cart-1");
    db.apply(&Plan::default().own("west", "cart", app.inbound(Protocol::Tcp), allow_all()).0);
    let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
    let breaker = limits("connectionsMax", |breaker| breaker.connections_max = 1);
    let plan = plan(&[("cart-1", db.inbound, true)], breaker);
    web.apply(&plan.change(item::outbound(&service("cart")), |o: &mut Outbound| o.ports[0].protocol = Protocol::Tcp).0);
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let worker = web.state.workers()[0].clone();
    tokio::spawn(async move {
        while let Ok((accepted, _)) = listener.accept().await {
            let named = proxy::vips::Named { service: service("cart"), zone: None };
            tokio::spawn(proxy::listen::vips::one(worker.clone(), accepted, named, 80));
        }
    });
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"x").await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, first.read_u8()).await.unwrap().unwrap(), b'x');
    let mut second = TcpStream::connect(address).await.unwrap();
    let read = tokio::time::timeout(SOON, second.read(&mut [0])).await.unwrap();
    assert!(matches!(read, Ok(0) | Err(_)), "closed at once: {read:?}");
    recorded(&web.state, |flows| flows.iter().any(|flow| flow.reason == api::RouteReason::CircuitOpen)).await;
    drop(first);
    let breaker = web.state.breakers.of(&service("cart"));
    let freed = async {
        while breaker.used(Limit::Connections) > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, freed).await.expect("a connection that ends makes room");
}
