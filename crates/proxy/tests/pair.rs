//! Two sidecars, end to end: what an app sees of another one through mutual TLS.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{Authorization, AuthorizationAction, AuthorizationRule, PeerMatch, RequestMatch};
use api::kinds::{DefaultAuthorization, Protocol};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use stage::*;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One caller, and as many instances of `cart` as there are apps.
struct Pair {
    trusts: Trusts,
    web: Proxy,
    carts: Vec<Proxy>,
    apps: Vec<App>,
}

const NAMES: [&str; 3] = ["cart-1", "cart-2", "cart-3"];

impl Pair {
    async fn with(instances: usize, authorization: Authorization) -> Self {
        let trusts = Trusts::of(&["west"]);
        let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
        let (mut carts, mut apps) = (Vec::new(), Vec::new());
        for name in &NAMES[..instances] {
            let app = App::http(name).await;
            let cart = Proxy::sidecar(&trusts, "west", "cart", name);
            let ports = app.inbound(Protocol::Http);
            cart.apply(&Plan::default().own("west", "cart", ports, authorization.clone()).0);
            carts.push(cart);
            apps.push(app);
        }
        let pair = Self { trusts, web, carts, apps };
        pair.web.apply(&pair.plan().0);
        pair
    }

    fn plan(&self) -> Plan {
        let endpoints: Vec<_> = NAMES.iter().zip(&self.carts).map(|(name, cart)| (*name, cart.inbound, true)).collect();
        Plan::default()
            .own("west", "web", Vec::new(), allow_all())
            .outbound("cart", Protocol::Http, rule_to("cart"), &[])
            .local("cart", "west", &endpoints)
    }
}

const CART: &str = "cart.shop.mesh";

#[tokio::test]
async fn a_request_reaches_the_app_and_says_who_called_and_who_answered() {
    let pair = Pair::with(1, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    for host in [CART, "cart.shop.mesh:80", "cart.shop.west.mesh"] {
        let request = Request::post("/a//b?c=d")
            .header("host", host)
            .header("weft-peer", "spiffe://west.default/ns/shop/sa/admin")
            .body(Full::from("hello"))
            .unwrap();
        let answer = client.send(request).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        assert_eq!(answer.text, format!("cart-1 POST /a/b host={host} peer={} for=- body=hello", pair.web.id));
        assert_eq!((answer.header("weft-zone"), answer.header("weft-workload")), ("west", "cart-1"));
        assert_eq!(answer.header("weft-reason"), if host.contains("west") { "PINNED" } else { "" });
    }
    let flows = pair.web.state.counters.flows();
    assert_eq!(flows.iter().map(|flow| flow.requests).sum::<u64>(), 3);
}

#[tokio::test]
async fn names_nobody_has_are_answered_with_a_reason() {
    let pair = Pair::with(1, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    for (host, status, reason) in [
        ("nobody.shop.mesh", 404, "NO_ROUTE"),
        ("cart.shop.mesh:81", 404, "NO_ROUTE"),
        ("cart.shop.mars.mesh", 404, "NO_ROUTE"),
    ] {
        let answer = client.get(host, "/").await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (status, reason), "{host}");
    }
}

#[tokio::test]
async fn a_denied_caller_hears_which_policy_refused() {
    let rule = AuthorizationRule {
        policy: "shop/no-admin".into(),
        action: AuthorizationAction::Deny,
        audit: false,
        from: vec![PeerMatch { zone: None, namespace: None, account: Some("web".into()) }],
        to: vec![RequestMatch { ports: vec![80], methods: Vec::new(), paths: vec!["/admin*".into()] }],
    };
    let pair = Pair::with(1, Authorization { default: DefaultAuthorization::Allow, rules: vec![rule] }).await;
    let mut client = Client::to(pair.web.outbound).await;
    assert_eq!(client.get(CART, "/").await.status(), 200);
    for path in ["/admin", "/x/../admin", "//admin/x", "/%61dmin"] {
        let answer = client.get(CART, path).await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (403, "DENIED"), "{path}");
        assert_eq!(answer.header("weft-policy"), "shop/no-admin");
        assert!(answer.text.contains("shop/no-admin"), "{}", answer.text);
    }
    assert_eq!(pair.carts[0].state.counters.denials()["shop/no-admin"], 4);
}

#[tokio::test]
async fn a_killed_endpoint_costs_no_request() {
    let mut pair = Pair::with(2, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    for i in 0..200 {
        if i == 50 {
            pair.carts[0].kill();
        }
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "request {i}: {} {}", answer.header("weft-reason"), answer.text);
    }
}

#[tokio::test]
async fn an_app_that_is_gone_costs_no_request_of_any_method() {
    let mut pair = Pair::with(2, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    for i in 0..100 {
        if i == 30 {
            pair.apps[0].stop().await;
        }
        let request = Request::post("/").header("host", CART).body(Full::from("x")).unwrap();
        let answer = client.send(request).await;
        assert_eq!(answer.status(), 200, "request {i}: {} {}", answer.header("weft-reason"), answer.text);
    }
}

#[tokio::test]
async fn a_frozen_endpoint_holds_nobody_longer_than_two_seconds() {
    let pair = Pair::with(2, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    for _ in 0..20 {
        client.get(CART, "/").await;
    }
    let thaw = pair.carts[0].freeze();
    let mut longest = Duration::ZERO;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        let sent = Instant::now();
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "{} {}", answer.header("weft-reason"), answer.text);
        longest = longest.max(sent.elapsed());
    }
    assert!(longest < Duration::from_millis(2_500), "one request waited {longest:?}");
    drop(thaw);
}

#[tokio::test]
async fn a_frozen_app_lets_its_requests_go_elsewhere() {
    let pair = Pair::with(1, allow_all()).await;
    let frozen = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let cart = Proxy::sidecar(&pair.trusts, "west", "cart", "cart-2");
    let ports = vec![api::config::InboundPort {
        port: 80,
        target: frozen.local_addr().unwrap().port(),
        protocol: Protocol::Http,
    }];
    cart.apply(&Plan::default().own("west", "cart", ports, allow_all()).0);
    let watched = cart.state.clone();
    tokio::spawn(async move { watched.apps.watch().await });
    let endpoints = [("cart-1", pair.carts[0].inbound, true), ("cart-2", cart.inbound, true)];
    pair.web.apply(&pair.plan().local("cart", "west", &endpoints).0);
    let mut client = Client::to(pair.web.outbound).await;
    let mut longest = Duration::ZERO;
    for _ in 0..20 {
        let sent = Instant::now();
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "{} {}", answer.header("weft-reason"), answer.text);
        longest = longest.max(sent.elapsed());
    }
    assert!(longest < Duration::from_secs(3), "one request waited {longest:?}");
    assert!(!cart.state.apps.unready().is_empty());
}

#[tokio::test]
async fn an_app_that_answers_nowhere_is_unreachable_and_said_to_be() {
    let mut pair = Pair::with(1, allow_all()).await;
    pair.apps[0].stop().await;
    let mut client = Client::to(pair.web.outbound).await;
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (503, "APP_UNREACHABLE"), "{}", answer.text);
}

#[tokio::test]
async fn an_answer_worth_another_try_is_tried_and_then_passed_on() {
    let pair = Pair::with(1, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    let answer = client.get(CART, "/fail").await;
    assert_eq!((answer.status(), answer.header("app")), (503, "cart-1"));
    let served = pair.apps[0].served.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(served, 3, "one try and two more");
    let request = Request::post("/fail").header("host", CART).body(Full::<Bytes>::default()).unwrap();
    client.send(request).await;
    let posted = pair.apps[0].served.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(posted, 4, "a POST that reached the app is not repeated");
}

#[tokio::test]
async fn a_configuration_swap_drops_no_connection() {
    let pair = Pair::with(1, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    assert_eq!(client.get(CART, "/").await.status(), 200);
    let mut rule = rule_to("cart");
    rule.filters = vec![
        serde_json::from_str(
            r#"{"type":"ResponseHeaderModifier","responseHeaderModifier":{"set":[{"name":"swapped","value":"yes"}]}}"#,
        )
        .unwrap(),
    ];
    pair.web.apply(&pair.plan().outbound("cart", Protocol::Http, rule, &[]).0);
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("swapped")), (200, "yes"), "the same connection, the new route");
    let denied = Authorization { default: DefaultAuthorization::Deny, rules: Vec::new() };
    let ports = pair.apps[0].inbound(Protocol::Http);
    pair.carts[0].apply(&Plan::default().own("west", "cart", ports, denied).0);
    assert_eq!(client.get(CART, "/").await.status(), 403, "the peer's connection stays too");
}

#[tokio::test]
async fn an_endpoint_with_another_identity_gets_no_request() {
    let pair = Pair::with(1, allow_all()).await;
    let impostor = Proxy::sidecar(&pair.trusts, "west", "other", "cart-1");
    let ports = pair.apps[0].inbound(Protocol::Http);
    impostor.apply(&Plan::default().own("west", "cart", ports, allow_all()).0);
    pair.web.apply(&pair.plan().local("cart", "west", &[("cart-1", impostor.inbound, true)]).0);
    let mut client = Client::to(pair.web.outbound).await;
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (503, "IDENTITY_REFUSED"), "{}", answer.text);
    assert_eq!(pair.apps[0].served.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_publisher_that_says_nothing_of_us_is_not_believed() {
    let pair = Pair::with(1, allow_all()).await;
    pair.web.apply(&Plan::default().0);
    pair.carts[0].apply(&Plan::default().zone("west").0);
    let mut client = Client::to(pair.web.outbound).await;
    assert_eq!(client.get(CART, "/").await.status(), 200, "the last good configuration runs on");
}

#[tokio::test]
async fn weights_split_between_services_and_an_empty_one_gives_its_share_away() {
    let pair = Pair::with(1, allow_all()).await;
    let mut rule = rule_to("cart");
    let backend = |name, weight| api::config::Backend { service: service(name), port: 80, zone: None, weight };
    rule.backends = vec![backend("cart", 1), backend("gone", 99)];
    pair.web.apply(&pair.plan().outbound("cart", Protocol::Http, rule, &[]).local("gone", "west", &[]).0);
    let mut client = Client::to(pair.web.outbound).await;
    for _ in 0..20 {
        let answer = client.get(CART, "/").await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (200, "SPLIT"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_request_ends_at_its_deadline_and_says_so() {
    let pair = Pair::with(1, allow_all()).await;
    let silent = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let target = silent.local_addr().unwrap().port();
    let ports = vec![api::config::InboundPort { port: 80, target, protocol: Protocol::Http }];
    pair.carts[0].apply(&Plan::default().own("west", "cart", ports, allow_all()).0);
    let mut rule = rule_to("cart");
    rule.timeouts.request_ms = Some(300);
    pair.web.apply(&pair.plan().outbound("cart", Protocol::Http, rule, &[]).0);
    let mut client = Client::to(pair.web.outbound).await;
    let sent = Instant::now();
    let answer = client.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (504, "REQUEST_TIMEOUT"), "{}", answer.text);
    assert!(sent.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_withdrawn_trust_domain_cuts_its_live_connections() {
    let pair = Pair::with(1, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    assert_eq!(client.get(CART, "/").await.status(), 200);
    let cart = &pair.carts[0].state;
    cart.distrust(pair.web.id.trust_domain());
    let answer = client.get(CART, "/").await;
    assert!(answer.status() >= 502, "{} {}", answer.status(), answer.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_at_once_are_all_answered() {
    let pair = Pair::with(3, allow_all()).await;
    let outbound = pair.web.outbound;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..64 {
        callers.spawn(async move {
            let mut client = Client::to(outbound).await;
            for i in 0..50 {
                let body = "x".repeat(100 * (i % 5));
                let request = Request::post("/").header("host", CART).body(Full::from(body.clone())).unwrap();
                let answer = client.send(request).await;
                assert_eq!(answer.status(), 200, "caller {caller}, request {i}: {}", answer.text);
                assert!(answer.text.ends_with(&format!("body={body}")));
            }
        });
    }
    while let Some(done) = callers.join_next().await {
        done.unwrap();
    }
    for app in &pair.apps {
        let served = app.served.load(std::sync::atomic::Ordering::SeqCst);
        assert!(served > 200, "the load is spread: {served}");
    }
}

#[tokio::test]
async fn an_upgraded_connection_carries_bytes_both_ways() {
    let pair = Pair::with(1, allow_all()).await;
    let mut client = Client::to(pair.web.outbound).await;
    let request =
        Request::get("/socket").header("host", CART).header("connection", "Upgrade").header("upgrade", "echo");
    let mut response = client.raw(request.body(Full::default()).unwrap()).await;
    assert_eq!(response.status(), 101);
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut io = hyper_util::rt::TokioIo::new(upgraded);
    io.write_all(b"over the mesh").await.unwrap();
    let mut back = [0; 13];
    tokio::time::timeout(SOON, io.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"over the mesh");
}

#[tokio::test]
async fn bytes_pass_and_a_half_closed_connection_still_answers() {
    let trusts = Trusts::of(&["west"]);
    let app = App::echo().await;
    let db = Proxy::sidecar(&trusts, "west", "db", "db-1");
    db.apply(&Plan::default().own("west", "db", app.inbound(Protocol::Tcp), allow_all()).0);
    let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
    let plan = Plan::default()
        .own("west", "web", Vec::new(), allow_all())
        .outbound("db", Protocol::Tcp, rule_to("db"), &[])
        .local("db", "west", &[("db-1", db.inbound, true)]);
    web.apply(&plan.0);
    let worker = web.state.workers()[0].clone();
    let named = proxy::vips::Named { service: service("db"), zone: None };
    let listener = tokio::net::TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let mut client = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    tokio::spawn(proxy::listen::vips::one(worker, accepted, named, 80));
    let sent = vec![42; 200_000];
    let (mut read, mut write) = client.split();
    let sending = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let reading = tokio::time::timeout(SOON, read.read_to_end(&mut got));
    let ((), read) = tokio::join!(sending, reading);
    read.unwrap().unwrap();
    assert_eq!(got, sent);
}
