//! Copies of requests: what arrives at a mirror, and that a request knows nothing of it.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{Mirror, OutboundRule};
use api::kinds::Protocol;
use api::{RouteReason, config};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy::record::Direction;
use stage::*;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const CART: &str = "cart.shop.mesh";

/// What an app saw of one request: method and path, its host, the mark, its body; `None`: the body broke off.
type Seen = (String, String, String, Option<Bytes>);

/// `web` calls `cart`; `next` gets copies.
struct Scene {
    web: Proxy,
    cart: Proxy,
    next: Proxy,
    app: App,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Scene {
    async fn new() -> Self {
        let trusts = Trusts::of(&["west"]);
        let app = App::http("cart-1").await;
        let (port, seen) = noting().await;
        let start = |account, workload| Proxy::sidecar(&trusts, "west", account, workload);
        let (web, cart, next) = (start("web", "web-1"), start("cart", "cart-1"), start("next", "next-1"));
        cart.apply(&Plan::default().own("west", "cart", app.inbound(Protocol::Http), allow_all()).0);
        let ports = vec![config::InboundPort { port: 80, target: port, protocol: Protocol::Http }];
        next.apply(&Plan::default().own("west", "next", ports, allow_all()).0);
        let scene = Self { web, cart, next, app, seen };
        scene.route(mirrored(1, 1));
        scene
    }

    fn route(&self, rule: OutboundRule) {
        let plan = Plan::default()
            .own("west", "web", Vec::new(), allow_all())
            .outbound("cart", Protocol::Http, rule, &[])
            .outbound("next", Protocol::Http, rule_to("next"), &[])
            .local("cart", "west", &[("cart-1", self.cart.inbound, true)])
            .local("next", "west", &[("next-1", self.next.inbound, true)]);
        self.web.apply(&plan.0);
    }

    /// Copies that ended so, by the records of the caller's proxy.
    fn ended(&self, reason: RouteReason) -> u64 {
        let sum = self.web.state.counters.sum();
        let mirrors = sum.iter().filter(|(series, _)| series.direction == Direction::Mirror && series.reason == reason);
        mirrors.map(|(_, count)| count.requests).sum()
    }

    async fn wait_for(&self, reason: RouteReason, count: u64) {
        let began = Instant::now();
        while self.ended(reason) < count {
            assert!(began.elapsed() < SOON, "{} of {count} copies ended as {reason}", self.ended(reason));
            tokio::task::yield_now().await;
        }
    }
}

/// A rule that sends copies to `next`.
fn mirrored(numerator: u32, denominator: u32) -> OutboundRule {
    let mirror = Mirror { service: service("next"), port: 80, zone: None, numerator, denominator };
    OutboundRule { name: "shop/shadow#0".into(), mirrors: vec![mirror], ..rule_to("cart") }
}

/// An app that tells what it saw, and answers with an error.
async fn noting() -> (u16, mpsc::UnboundedReceiver<Seen>) {
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, seen) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tell = tell.clone();
            let serve = service_fn(move |request: Request<Incoming>| {
                let tell = tell.clone();
                async move {
                    let (parts, body) = request.into_parts();
                    let header =
                        |name: &str| parts.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
                    let body = body.collect().await.ok().map(|body| body.to_bytes());
                    let what = format!("{} {}", parts.method, parts.uri);
                    let _ = tell.send((what, header("host"), header("weft-mirror"), body));
                    Response::builder().status(500).body(Full::<Bytes>::from("nobody hears this"))
                }
            });
            tokio::spawn(async move {
                let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), serve).await;
            });
        }
    });
    (port, seen)
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("host", CART).body(Full::from(body.into())).unwrap()
}

async fn next(seen: &mut mpsc::UnboundedReceiver<Seen>) -> Seen {
    tokio::time::timeout(SOON, seen.recv()).await.expect("a copy arrives").unwrap()
}

#[tokio::test]
async fn a_copy_arrives_with_its_body_and_its_mark_and_its_answer_is_dropped() {
    let mut scene = Scene::new().await;
    let mut client = Client::to(scene.web.outbound).await;
    let answer = client.send(post("/a?b=c", "hello")).await;
    assert_eq!((answer.status(), answer.header("app"), answer.header("weft-reason")), (200, "cart-1", ""));
    assert!(answer.text.ends_with("body=hello"));
    let expect = ("POST /a?b=c".to_owned(), CART.to_owned(), "shop/shadow#0".to_owned(), Some("hello".into()));
    assert_eq!(next(&mut scene.seen).await, expect);
    assert_eq!(client.get(CART, "/none").await.status(), 200);
    assert_eq!(next(&mut scene.seen).await.3, Some(Bytes::new()));
    scene.wait_for(RouteReason::Mirrored, 2).await;
    // Users asked twice, whatever was copied.
    let flows = scene.web.state.counters.flows();
    let (requests, failed) = flows.iter().fold((0, 0), |sum, flow| (sum.0 + flow.requests, sum.1 + flow.failed));
    assert_eq!((requests, failed), (2, 0));
    let inbound = scene.next.state.counters.sum();
    assert!(inbound.keys().all(|series| series.reason == RouteReason::Mirrored), "{inbound:?}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_goes_to_the_backend_only() {
    let mut scene = Scene::new().await;
    let mut client = Client::to(scene.web.outbound).await;
    let body = "x".repeat(65 * 1024);
    let answer = client.send(post("/long", body.clone())).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.text.ends_with(&body));
    scene.wait_for(RouteReason::Overloaded, 1).await;
    client.send(post("/short", "y")).await;
    assert_eq!(next(&mut scene.seen).await.0, "POST /short", "no part of the long one came before");
}

#[tokio::test]
async fn a_share_of_requests_is_copied() {
    let scene = Scene::new().await;
    scene.route(mirrored(1, 4));
    let mut client = Client::to(scene.web.outbound).await;
    for _ in 0..400 {
        assert_eq!(client.get(CART, "/").await.status(), 200);
    }
    let copies = scene.ended(RouteReason::Mirrored);
    // A quarter of 400, within five standard deviations; the last few may still be under way.
    assert!((55..=145).contains(&copies), "{copies} of 400");
}

#[tokio::test]
async fn a_dead_mirror_costs_nobody_anything() {
    let mut scene = Scene::new().await;
    scene.next.kill();
    let mut client = Client::to(scene.web.outbound).await;
    for i in 0..50 {
        let answer = client.send(post("/", format!("{i}"))).await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (200, ""), "request {i}: {}", answer.text);
    }
    scene.wait_for(RouteReason::ConnectFailed, 1).await;
    assert_eq!(scene.app.served.load(std::sync::atomic::Ordering::SeqCst), 50);
}

#[tokio::test]
async fn a_frozen_mirror_makes_nobody_wait_and_holds_no_more_than_its_places() {
    let scene = Scene::new().await;
    let mut client = Client::to(scene.web.outbound).await;
    assert_eq!(client.get(CART, "/").await.status(), 200);
    scene.wait_for(RouteReason::Mirrored, 1).await;
    let thaw = scene.next.freeze();
    let mut longest = Duration::ZERO;
    for _ in 0..300 {
        let sent = Instant::now();
        assert_eq!(client.get(CART, "/").await.status(), 200);
        longest = longest.max(sent.elapsed());
    }
    assert!(longest < Duration::from_secs(1), "one request waited {longest:?}");
    assert!(scene.web.state.workers()[0].mirrors.available_permits() <= proxy::limits::MIRRORS_MAX);
    drop(thaw);
}
