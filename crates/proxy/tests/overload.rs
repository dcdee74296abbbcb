//! A proxy with too much to do says so, in order, and serves the rest.

#![allow(clippy::unwrap_used)]

mod stage;

use api::kinds::Protocol;
use stage::*;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const CART: &str = "cart.shop.mesh";

struct Pair {
    web: Proxy,
    carts: Vec<Proxy>,
    _apps: Vec<App>,
}

/// One caller, and two instances of what it calls.
async fn pair() -> Pair {
    let trusts = Trusts::of(&["west"]);
    let (mut carts, mut apps) = (Vec::new(), Vec::new());
    for name in ["cart-1", "cart-2"] {
        let app = App::http(name).await;
        let cart = Proxy::sidecar(&trusts, "west", "cart", name);
        cart.apply(&Plan::default().own("west", "cart", app.inbound(Protocol::Http), allow_all()).0);
        carts.push(cart);
        apps.push(app);
    }
    let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
    let endpoints: Vec<_> =
        ["cart-1", "cart-2"].iter().zip(&carts).map(|(name, cart)| (*name, cart.inbound, true)).collect();
    let plan = Plan::default()
        .own("west", "web", Vec::new(), allow_all())
        .outbound("cart", Protocol::Http, rule_to("cart"), &[])
        .local("cart", "west", &endpoints);
    web.apply(&plan.0);
    Pair { web, carts, _apps: apps }
}

#[tokio::test]
async fn without_memory_connections_are_closed_and_requests_refused_with_their_reason() {
    let pair = pair().await;
    let mut client = Client::to(pair.web.outbound).await;
    assert_eq!(client.get(CART, "/").await.status(), 200);
    let overload = &pair.web.state.overload;
    assert!(overload.learn(930, false), "readiness falls");
    assert_eq!(client.get(CART, "/").await.status(), 200, "who is connected is served");
    let mut newcomer = tokio::net::TcpStream::connect(pair.web.outbound).await.unwrap();
    let closed = tokio::time::timeout(SOON, newcomer.read(&mut [0])).await.unwrap();
    assert!(matches!(closed, Ok(0) | Err(_)), "nobody else is");
    overload.learn(950, false);
    let refused = client.get(CART, "/").await;
    assert_eq!((refused.status(), refused.header("weft-reason")), (503, "OVERLOADED"), "{}", refused.text);
    overload.learn(500, false);
    assert_eq!(client.get(CART, "/").await.status(), 200);
}

#[tokio::test]
async fn what_an_overloaded_proxy_refuses_another_one_serves() {
    let pair = pair().await;
    pair.carts[0].state.overload.learn(990, false);
    let mut client = Client::to(pair.web.outbound).await;
    for _ in 0..20 {
        let answer = client.get(CART, "/").await;
        assert_eq!((answer.status(), answer.header("app")), (200, "cart-2"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_queue_that_stands_makes_a_worker_refuse_a_share() {
    let pair = pair().await;
    let worker = pair.web.state.workers().remove(0);
    let hog = pair.web.hog(Duration::from_millis(300));
    let mut client = Client::to(pair.web.outbound).await;
    let mut late_first = false;
    let refused = tokio::time::timeout(SOON * 3, async {
        loop {
            let answer = client.get(CART, "/").await;
            late_first |= worker.load.is_late() && worker.load.shed() == 0;
            if answer.status() != 200 {
                return answer;
            }
        }
    });
    let refused = refused.await.expect("a share is refused");
    assert_eq!((refused.status(), refused.header("weft-reason")), (503, "OVERLOADED"), "{}", refused.text);
    assert!(refused.text.contains("wait too long"), "{}", refused.text);
    assert!(late_first, "readiness falls before anything is refused");
    hog.abort();
    let over = tokio::time::timeout(SOON * 3, async {
        while worker.load.shed() > 0 {
            tokio::task::yield_now().await;
            client.get(CART, "/").await;
        }
    });
    over.await.expect("it ends when the queue is gone");
}
