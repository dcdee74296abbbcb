//! Sessions through real proxies: they stay where they are, and move only when their endpoint is lost.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{Algorithm, HashCookie, HashOn, Outbound, item};
use api::kinds::Protocol;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use stage::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

const CART: &str = "cart.shop.mesh";
const NAMES: [&str; 4] = ["cart-1", "cart-2", "cart-3", "cart-4"];

/// Two callers with proxies of their own, and four instances of `cart`.
struct Shop {
    callers: Vec<Proxy>,
    carts: Vec<Proxy>,
    apps: Vec<App>,
}

impl Shop {
    async fn with(algorithm: Algorithm, hash_on: Vec<HashOn>) -> Self {
        let trusts = Trusts::of(&["west"]);
        let callers: Vec<Proxy> =
            ["web-1", "web-2"].iter().map(|name| Proxy::sidecar(&trusts, "west", "web", name)).collect();
        let (mut carts, mut apps) = (Vec::new(), Vec::new());
        for name in NAMES {
            let app = App::http(name).await;
            let cart = Proxy::sidecar(&trusts, "west", "cart", name);
            cart.apply(&Plan::default().own("west", "cart", app.inbound(Protocol::Http), allow_all()).0);
            carts.push(cart);
            apps.push(app);
        }
        let endpoints: Vec<_> = NAMES.iter().zip(&carts).map(|(name, cart)| (*name, cart.inbound, true)).collect();
        let plan = Plan::default()
            .own("west", "web", Vec::new(), allow_all())
            .outbound("cart", Protocol::Http, rule_to("cart"), &[])
            .local("cart", "west", &endpoints);
        let key = item::outbound(&service("cart"));
        let mut outbound: Outbound = serde_json::from_slice(&plan.0[key.as_str()]).unwrap();
        (outbound.balancing.algorithm, outbound.balancing.hash_on) = (algorithm, hash_on);
        let plan = plan.put(key, &outbound);
        callers.iter().for_each(|caller| caller.apply(&plan.0));
        Self { callers, carts, apps }
    }

    async fn clients(&self) -> Vec<Client> {
        let mut clients = Vec::new();
        for caller in &self.callers {
            clients.push(Client::to(caller.outbound).await);
        }
        clients
    }
}

fn request(field: Option<(&str, &str)>) -> Request<Full<Bytes>> {
    let mut request = Request::get("/").header("host", CART);
    if let Some((name, value)) = field {
        request = request.header(name, value);
    }
    request.body(Full::default()).unwrap()
}

/// Who answers each of these fields, asked three times through each caller: always the same one.
async fn homes(clients: &mut [Client], fields: &[(&'static str, String)]) -> BTreeMap<String, String> {
    let mut homes = BTreeMap::new();
    for _ in 0..3 {
        for client in &mut *clients {
            for (name, value) in fields {
                let answer = client.send(request(Some((name, value)))).await;
                assert_eq!(answer.status(), 200, "{}", answer.text);
                assert_eq!(answer.header("set-cookie"), "", "who has a cookie gets none");
                let home = homes.entry(value.clone()).or_insert_with(|| answer.header("app").to_owned());
                assert_eq!(home, answer.header("app"), "{value}");
            }
        }
    }
    homes
}

#[tokio::test]
async fn a_session_stays_and_moves_only_when_its_endpoint_is_lost() {
    for algorithm in [Algorithm::RingHash, Algorithm::Maglev] {
        let cookie = HashCookie { name: "cart".into(), ttl_s: Some(0), path: "/".into() };
        let mut shop = Shop::with(algorithm, vec![HashOn::Cookie(cookie)]).await;
        let mut clients = shop.clients().await;
        let (mut sessions, mut first) = (Vec::new(), BTreeMap::new());
        for _ in 0..24 {
            let answer = clients[0].send(request(None)).await;
            let told = answer.header("set-cookie").to_owned();
            let (cookie, rest) = told.split_once(';').expect("who has no cookie gets one");
            assert_eq!(rest, " Path=/; HttpOnly");
            first.insert(cookie.to_owned(), answer.header("app").to_owned());
            sessions.push(("cookie", cookie.to_owned()));
        }
        let before = homes(&mut clients, &sessions).await;
        assert_eq!(before, first, "the first answer came from somewhere else");
        let used: BTreeSet<&String> = before.values().collect();
        assert!(used.len() >= 3, "{used:?}");
        shop.carts[0].kill();
        let after = homes(&mut clients, &sessions).await;
        for (session, home) in &before {
            let stays = after[session] == *home;
            assert_eq!(stays, home != "cart-1", "{session} was at {home}, is at {}", after[session]);
        }
    }
}

#[tokio::test]
async fn the_first_key_a_request_has_decides() {
    let list = vec![HashOn::Header("x-user".into()), HashOn::Query("user".into()), HashOn::Source];
    let shop = Shop::with(Algorithm::Maglev, list).await;
    let mut clients = shop.clients().await;
    let users: Vec<_> = (0..12).map(|user| ("x-user", format!("user-{user}"))).collect();
    let homes = homes(&mut clients, &users).await;
    assert!(homes.values().collect::<BTreeSet<_>>().len() >= 3, "{homes:?}");
    // The same value by another way is the same key.
    for (user, home) in &homes {
        let path = format!("/?user={user}");
        assert_eq!(clients[1].get(CART, &path).await.header("app"), home);
    }
    // Without any, the caller itself is one.
    for client in &mut clients {
        let home = client.get(CART, "/").await.header("app").to_owned();
        for _ in 0..10 {
            assert_eq!(client.get(CART, "/").await.header("app"), home);
        }
    }
}

#[tokio::test]
async fn an_app_that_is_gone_is_out_at_once() {
    let mut shop = Shop::with(Algorithm::RoundRobin, Vec::new()).await;
    let mut client = Client::to(shop.callers[0].outbound).await;
    shop.apps[0].stop().await;
    for i in 0..40 {
        let answer = client.get(CART, "/").await;
        assert_eq!(answer.status(), 200, "request {i}: {}", answer.text);
    }
    let met: u64 = shop.carts[0].state.counters.flows().iter().map(|flow| flow.requests).sum();
    assert!(met <= 3, "{met} requests met an app that is gone");
    let since = Instant::now();
    while !shop.callers[0].state.ejected().keys().any(|name| name.ends_with("cart-1")) {
        assert!(since.elapsed() < SOON, "{:?}", shop.callers[0].state.ejected());
        client.get(CART, "/").await;
    }
}
