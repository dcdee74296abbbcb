//! What policies do to traffic, as the two apps at its ends see it: rate limits and faults.

#![allow(clippy::unwrap_used)]

mod stage;

use api::Share;
use api::config::{
    AbortFault, DelayFault, Faults, HeaderFault, Inbound, OutboundRule, Rate, RateLimitEach, RateLimitRule, SlowFault,
    item,
};
use api::kinds::Protocol;
use http::Request;
use http_body_util::Full;
use proxy::control::Applier;
use stage::*;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CART: &str = "cart.shop.mesh";
const HOUR_MS: u64 = 3_600_000;

/// `web` calls `cart`, and `cart` has limits.
struct Scene {
    trusts: Trusts,
    web: Proxy,
    cart: Proxy,
    /// One for the whole life of `cart`, as in a process: what did not change is kept.
    applier: Mutex<Applier>,
    app: App,
    protocol: Protocol,
}

impl Scene {
    async fn new(app: App, protocol: Protocol) -> Self {
        let trusts = Trusts::of(&["west"]);
        let (web, cart) =
            (Proxy::sidecar(&trusts, "west", "web", "web-1"), Proxy::sidecar(&trusts, "west", "cart", "cart-1"));
        let applier = Mutex::new(Applier::new(None, Vec::new()));
        let scene = Self { trusts, web, cart, applier, app, protocol };
        scene.limit(Vec::new());
        scene.route(&scene.web, "web", rule_to("cart"));
        scene
    }

    fn limit(&self, rate_limits: Vec<RateLimitRule>) {
        let Plan(items) = Plan::default().own("west", "cart", self.app.inbound(self.protocol), allow_all());
        let mut inbound: Inbound = serde_json::from_slice(&items[item::INBOUND]).unwrap();
        inbound.rate_limits = rate_limits;
        let Plan(items) = Plan(items).put(item::INBOUND.into(), &inbound);
        self.applier.lock().unwrap().apply(&self.cart.state, &items);
    }

    fn route(&self, caller: &Proxy, account: &str, rule: OutboundRule) {
        let plan = Plan::default()
            .own("west", account, Vec::new(), allow_all())
            .outbound("cart", self.protocol, rule, &[])
            .local("cart", "west", &[("cart-1", self.cart.inbound, true)]);
        caller.apply(&plan.0);
    }

    fn served(&self) -> u64 {
        self.app.served.load(Ordering::SeqCst)
    }

    /// A connection of bytes from an app next to `web`.
    async fn bytes(&self) -> TcpStream {
        let worker = self.web.state.workers()[0].clone();
        let named = proxy::vips::Named { service: service("cart"), zone: None };
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        tokio::spawn(proxy::listen::vips::one(worker, accepted, named, 80));
        client
    }
}

fn limit() -> RateLimitRule {
    RateLimitRule {
        policy: "shop/limit".into(),
        from: Vec::new(),
        to: Vec::new(),
        each: RateLimitEach::All,
        requests: None,
        connections: None,
        bandwidth: None,
    }
}

/// So few in an hour that none comes back within a test.
fn once(burst: u64) -> Option<Rate> {
    Some(Rate { count: burst, per_ms: HOUR_MS, burst })
}

fn bytes_a_second(count: u64) -> Option<Rate> {
    Some(Rate { count, per_ms: 1_000, burst: count / 10 })
}

#[tokio::test]
async fn as_many_requests_as_allowed_are_served_and_the_others_hear_when_to_come_again() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    scene.limit(vec![RateLimitRule { requests: once(20), ..limit() }]);
    let mut client = Client::to(scene.web.outbound).await;
    for i in 0..60 {
        let answer = client.get(CART, "/").await;
        if i < 20 {
            assert_eq!(answer.status(), 200, "request {i}: {}", answer.text);
            continue;
        }
        assert_eq!((answer.status(), answer.header("weft-reason")), (429, "RATE_LIMITED"), "request {i}");
        assert_eq!(answer.header("weft-policy"), "shop/limit");
        let wait: u64 = answer.header("retry-after").parse().unwrap();
        assert!((1..=180).contains(&wait), "one of 20 an hour comes back within 180 s: {wait}");
    }
    assert_eq!(scene.served(), 20, "none was tried again");
    let flows = scene.web.state.counters.flows();
    let limited: u64 = flows.iter().filter(|f| f.reason == api::RouteReason::RateLimited).map(|f| f.requests).sum();
    assert_eq!(limited, 40, "the caller's zone is told why");
}

#[tokio::test]
async fn over_time_as_many_pass_as_the_rate_says() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    scene.limit(vec![RateLimitRule { requests: Some(Rate { count: 100, per_ms: 1_000, burst: 10 }), ..limit() }]);
    let mut client = Client::to(scene.web.outbound).await;
    let began = Instant::now();
    let (mut served, mut refused) = (0_u32, 0);
    while began.elapsed() < Duration::from_secs(2) {
        match client.get(CART, "/").await.status() {
            200 => served += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    let most = 10.0 + 100.0 * began.elapsed().as_secs_f64() + 1.0;
    assert!(f64::from(served) <= most, "{served} of at most {most}");
    // A caller that is held up for a moment loses what would have been granted beyond the burst.
    assert!(f64::from(served) >= 0.7 * most && refused > 0, "{served} of {most}, {refused} refused");
}

#[tokio::test]
async fn every_caller_has_a_count_of_its_own_where_a_rule_says_so() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let other = Proxy::sidecar(&scene.trusts, "west", "job", "job-1");
    scene.route(&other, "job", rule_to("cart"));
    scene.limit(vec![RateLimitRule { each: RateLimitEach::Caller, requests: once(5), ..limit() }]);
    for caller in [&scene.web, &other] {
        let mut client = Client::to(caller.outbound).await;
        for i in 0..8 {
            assert_eq!(client.get(CART, "/").await.status(), if i < 5 { 200 } else { 429 }, "{} {i}", caller.id);
        }
    }
    assert_eq!(scene.served(), 10);
}

#[tokio::test]
async fn a_change_elsewhere_gives_nobody_a_second_burst() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let first = RateLimitRule { requests: once(3), ..limit() };
    scene.limit(vec![first.clone()]);
    let mut client = Client::to(scene.web.outbound).await;
    for _ in 0..3 {
        assert_eq!(client.get(CART, "/").await.status(), 200);
    }
    scene.limit(vec![RateLimitRule { policy: "shop/another".into(), requests: once(100), ..limit() }, first]);
    assert_eq!(client.get(CART, "/").await.status(), 429);
}

#[tokio::test]
async fn a_grpc_caller_hears_that_a_resource_is_exhausted() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    scene.limit(vec![RateLimitRule { requests: once(1), ..limit() }]);
    let mut client = Client::to(scene.web.outbound).await;
    let call = || {
        Request::post("/shop.Cart/Get")
            .header("host", CART)
            .header("content-type", "application/grpc")
            .body(Full::default())
    };
    assert_eq!(client.send(call().unwrap()).await.status(), 200);
    let answer = client.send(call().unwrap()).await;
    assert_eq!(
        (answer.status(), answer.header("grpc-status"), answer.header("weft-reason")),
        (200, "8", "RATE_LIMITED")
    );
}

#[tokio::test]
async fn a_connection_beyond_its_rate_hears_why() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    scene.limit(vec![RateLimitRule { connections: once(1), ..limit() }]);
    let mut client = Client::to(scene.web.outbound).await;
    for _ in 0..5 {
        assert_eq!(client.get(CART, "/").await.status(), 200, "one connection carries many requests");
    }
    let other = Proxy::sidecar(&scene.trusts, "west", "job", "job-1");
    scene.route(&other, "job", rule_to("cart"));
    let answer = Client::to(other.outbound).await.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (429, "RATE_LIMITED"), "{}", answer.text);
    assert_eq!(client.get(CART, "/").await.status(), 200, "the first one stays");
}

#[tokio::test]
async fn connections_of_bytes_beyond_their_rate_are_closed() {
    let scene = Scene::new(App::echo().await, Protocol::Tcp).await;
    scene.limit(vec![RateLimitRule { connections: once(3), ..limit() }]);
    for i in 0..6 {
        let mut client = scene.bytes().await;
        let mut back = [0; 2];
        let answered = async {
            client.write_all(b"hi").await?;
            client.read_exact(&mut back).await
        };
        let answered = tokio::time::timeout(SOON, answered).await.expect("answered or closed");
        assert_eq!(answered.is_ok(), i < 3, "connection {i}: {answered:?}");
    }
}

#[tokio::test]
async fn an_answer_takes_as_long_as_its_bandwidth_wants() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    scene.limit(vec![RateLimitRule { bandwidth: bytes_a_second(512 * 1024), ..limit() }]);
    let mut client = Client::to(scene.web.outbound).await;
    let body = "x".repeat(384 * 1024);
    let began = Instant::now();
    let request = Request::post("/").header("host", CART).body(Full::from(body.clone())).unwrap();
    let answer = client.send(request).await;
    assert!(answer.text.ends_with(&body), "nothing is lost");
    // 384 KiB less the tenth of a second that goes out at once, at 512 KiB/s: 0.65 s.
    let took = began.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn bytes_towards_a_caller_take_as_long_as_their_bandwidth_wants() {
    let scene = Scene::new(App::echo().await, Protocol::Tcp).await;
    scene.limit(vec![RateLimitRule { bandwidth: bytes_a_second(512 * 1024), ..limit() }]);
    let mut client = scene.bytes().await;
    let sent = vec![42; 384 * 1024];
    let began = Instant::now();
    let (mut read, mut write) = client.split();
    let sending = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let ((), read) = tokio::join!(sending, tokio::time::timeout(SOON, read.read_to_end(&mut got)));
    read.unwrap().unwrap();
    assert_eq!(got, sent);
    let took = began.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_secs(3)).contains(&took), "{took:?}");
}

fn faulty(faults: Faults) -> OutboundRule {
    OutboundRule { faults, ..rule_to("cart") }
}

fn abort(status: Option<u16>, grpc_status: Option<u8>, share: Share) -> Option<AbortFault> {
    Some(AbortFault { status, grpc_status, share })
}

#[tokio::test]
async fn an_aborted_request_is_answered_as_the_policy_says_and_reaches_nobody() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let faults = Faults { abort: abort(Some(503), Some(10), Share::ALL), ..Faults::default() };
    scene.route(&scene.web, "web", faulty(faults));
    let mut client = Client::to(scene.web.outbound).await;
    for _ in 0..10 {
        let answer = client.get(CART, "/").await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (503, "FAULT_INJECTED"), "{}", answer.text);
    }
    let request = Request::post("/shop.Cart/Get").header("host", CART).header("content-type", "application/grpc");
    let answer = client.send(request.body(Full::default()).unwrap()).await;
    assert_eq!((answer.status(), answer.header("grpc-status")), (200, "10"));
    assert_eq!(scene.served(), 0, "and it was not tried again");
    assert!(scene.web.state.ejected().is_empty(), "nothing counts against the endpoint");
    // And there is nothing to recover from.
    scene.route(&scene.web, "web", rule_to("cart"));
    assert_eq!(client.get(CART, "/").await.status(), 200);
}

#[tokio::test]
async fn a_share_of_requests_is_hit_and_the_others_are_not() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let share = Share::percent(30);
    scene.route(&scene.web, "web", faulty(Faults { abort: abort(Some(500), None, share), ..Faults::default() }));
    let mut client = Client::to(scene.web.outbound).await;
    let mut aborted = 0;
    for _ in 0..1_000 {
        match client.get(CART, "/").await.status() {
            500 => aborted += 1,
            200 => {}
            other => panic!("{other}"),
        }
    }
    // 30 % of 1,000, within five standard deviations of a fair coin of that weight.
    assert!((228..=372).contains(&aborted), "{aborted} of 1000");
    assert_eq!(scene.served(), 1_000 - aborted);
}

#[tokio::test]
async fn only_requests_with_the_header_suffer() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let when = Some(HeaderFault { header: "X-Fault".into(), value: "yes".into() });
    scene.route(
        &scene.web,
        "web",
        faulty(Faults { abort: abort(Some(500), None, Share::ALL), when, ..Faults::default() }),
    );
    let mut client = Client::to(scene.web.outbound).await;
    for (value, status) in [("yes", 500), ("no", 200), ("YES", 200)] {
        let request = Request::get("/").header("host", CART).header("x-fault", value).body(Full::default()).unwrap();
        assert_eq!(client.send(request).await.status(), status, "{value}");
    }
    assert_eq!(client.get(CART, "/").await.status(), 200);
}

#[tokio::test]
async fn a_delay_is_waited_for_and_counts_towards_the_timeout() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let delay = Some(DelayFault { us: 300_000, share: Share::ALL });
    scene.route(&scene.web, "web", faulty(Faults { delay, ..Faults::default() }));
    let mut client = Client::to(scene.web.outbound).await;
    let began = Instant::now();
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (200, "FAULT_INJECTED"));
    assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
    let mut late = faulty(Faults { delay, ..Faults::default() });
    late.timeouts.request_ms = Some(100);
    scene.route(&scene.web, "web", late);
    let began = Instant::now();
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (504, "REQUEST_TIMEOUT"));
    assert!(
        (Duration::from_millis(100)..Duration::from_millis(290)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.served(), 1, "the second one was never sent");
}

#[tokio::test]
async fn a_slow_answer_is_whole() {
    let scene = Scene::new(App::http("cart-1").await, Protocol::Http).await;
    let rate = bytes_a_second(256 * 1024).unwrap();
    scene.route(
        &scene.web,
        "web",
        faulty(Faults { bandwidth: Some(SlowFault { rate, share: Share::ALL }), ..Faults::default() }),
    );
    let body = "x".repeat(192 * 1024);
    let began = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let (outbound, body) = (scene.web.outbound, body.clone());
        callers.spawn(async move {
            let mut client = Client::to(outbound).await;
            let request = Request::post("/").header("host", CART).body(Full::from(body.clone())).unwrap();
            let answer = client.send(request).await;
            assert!(answer.text.ends_with(&body), "nothing is lost");
            assert_eq!(answer.header("weft-reason"), "FAULT_INJECTED");
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    // 192 KiB less a tenth of a second's, at 256 KiB/s: 0.65 s, and each answer has its own pace.
    let took = began.elapsed();
    assert!((Duration::from_millis(600)..Duration::from_millis(1_900)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn connections_of_bytes_are_closed_and_delayed_too() {
    let scene = Scene::new(App::echo().await, Protocol::Tcp).await;
    let delay = Some(DelayFault { us: 200_000, share: Share::ALL });
    for (faults, open) in [
        (Faults { delay, ..Faults::default() }, true),
        (Faults { abort: abort(Some(503), None, Share::ALL), ..Faults::default() }, false),
        (Faults { abort: abort(None, Some(14), Share::ALL), ..Faults::default() }, true),
    ] {
        let delayed = faults.delay.is_some();
        scene.route(&scene.web, "web", faulty(faults));
        let began = Instant::now();
        let mut client = scene.bytes().await;
        let mut back = [0; 2];
        let answered = async {
            client.write_all(b"hi").await?;
            client.read_exact(&mut back).await
        };
        let answered = tokio::time::timeout(SOON, answered).await.expect("answered or closed");
        assert_eq!(answered.is_ok(), open, "{answered:?}");
        assert!(!delayed || began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    }
}
