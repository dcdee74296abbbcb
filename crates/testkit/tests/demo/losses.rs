//! What dies, misbehaves or hangs, with no policy written about it: steps 4, 5, 6 and 11.

use crate::{CART, RATE, two_zones};
use std::time::Duration;
use testkit::{Mesh, Seen, mesh};

/// Answers that make a window.
const WINDOW: usize = 100;
/// A hanging proxy is out of rotation this soon, and nothing waits for it longer.
const OUT: Duration = Duration::from_secs(3);
/// A request this slow waited for the hanging one.
const SLOW: Duration = Duration::from_millis(500);

/// Loses every cart of west under load and restores them: nobody notices, and traffic comes home bit by bit.
pub async fn lose_all_and_return(mesh: &mut Mesh) {
    let mut load = mesh.load("west/web-1", CART, RATE);
    load.more(50).await;
    mesh.lose("west/cart-*").await;
    let gone = load.now();
    load.more(WINDOW).await;
    let after = load.seen().since(gone);
    assert_eq!(after.zone("west"), 0, "the dead do not answer");
    assert!(after.zone("east") > 0);

    mesh.restore("west/cart-*").await;
    load.until("the first answer from home", |seen| seen.since(gone).zone("west") > 0).await;
    let returned = load.seen().total();
    load.more(WINDOW).await;
    let first = Seen(load.seen().0[returned..returned + WINDOW].to_vec());
    assert!(first.zone("west") < WINDOW * 9 / 10, "slow start: {} of {WINDOW} went home at once", first.zone("west"));
    load.until("traffic is home", |seen| seen.last(WINDOW).zone("west") >= WINDOW - 5).await;
    let seen = load.stop().await;
    assert_eq!(seen.failed(), (0, String::new()), "of {}", seen.total());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_loses_every_workload_is_stood_in_for_and_its_traffic_comes_home_slowly() {
    let mut mesh = two_zones(|west| west).start().await;
    lose_all_and_return(&mut mesh).await;
    mesh.converged().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_workload_that_answers_errors_is_ejected_and_its_zone_is_not() {
    let mesh = mesh()
        .zone("west", |zone| zone.gateways(1).app("web", 1))
        .zone("east", |zone| zone.gateways(1).app("cart", 3))
        .start()
        .await;
    let mut load = mesh.load("west/web-1", "cart.shop.east.mesh", RATE * 2);
    load.until("all three answer", |seen| seen.workloads().len() == 3).await;
    mesh.app("east/cart-1").answers(500);
    let sick = load.now();
    let errors = |seen: &Seen| seen.0.iter().filter(|shot| shot.answer.status == 500).count();
    load.until("errors, then none", |seen| {
        errors(seen) > 0 && errors(&seen.last(WINDOW)) == 0 && seen.total() > WINDOW
    })
    .await;
    let after = load.seen().since(sick);
    assert!(errors(&after) <= 40, "{} errors before the ejection", errors(&after));
    assert_eq!(after.failed().0, errors(&after), "nothing else fails: {}", after.failed().1);
    assert_eq!(after.zone("east"), after.total(), "the zone stays");
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_is_lost_under_load_from_another_zone_and_no_request_fails() {
    let mut mesh = mesh()
        .zone("west", |zone| zone.gateways(2).app("cart", 2))
        .zone("east", |zone| zone.gateways(1).app("web", 1))
        .start()
        .await;
    let mut load = mesh.load("east/web-1", "cart.shop.west.mesh", RATE * 2);
    load.more(WINDOW).await;
    mesh.lose("west/gateway-1").await;
    let lost = load.now();
    load.until("a further window after the loss", |seen| seen.since(lost).total() >= 3 * WINDOW).await;
    mesh.restore("west/gateway-1").await;
    mesh.converged().await;
    mesh.lose("west/gateway-2").await;
    let lost = load.now();
    load.until("a window after the other's loss", |seen| seen.since(lost).total() >= WINDOW).await;
    let seen = load.stop().await;
    assert_eq!(seen.failed(), (0, String::new()), "of {}", seen.total());
    assert_eq!(seen.zone("west"), seen.total());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_proxy_is_out_of_rotation_within_three_seconds_and_returns() {
    let mut mesh = two_zones(|west| west.freezable("cart-1")).start().await;
    let mut load = mesh.load("west/web-1", CART, RATE);
    load.until("both answer", |seen| seen.workloads().len() == 2).await;
    mesh.freeze("west/cart-1");
    let frozen = load.now();
    let past = frozen + OUT + Duration::from_secs(1);
    load.until("a window after it must be out", |seen| seen.since(past).total() >= WINDOW).await;
    let during = load.seen().since(frozen);
    assert_eq!(during.failed(), (0, String::new()), "of {}", during.total());
    assert!(during.longest() <= OUT, "a request waited {:?}", during.longest());
    let late = during.0.iter().filter(|shot| shot.took >= SLOW).map(|shot| shot.at).max().unwrap_or(frozen);
    assert!(late - frozen <= OUT, "requests still waited for it after {:?}", late - frozen);
    mesh.converged().await; // its zone does not call it ready

    mesh.thaw("west/cart-1");
    let thawed = load.now();
    load.until("the thawed one answers", |seen| seen.since(thawed).workloads().contains_key("west/cart-1")).await;
    let seen = load.stop().await;
    assert_eq!(seen.failed(), (0, String::new()), "of {}", seen.total());
    mesh.converged().await;
}

/// What the proxies of cart ask their apps; quick, for a test.
const HEALTH: &str = "apiVersion: weft.dev/v1
kind: HealthCheck
metadata: {name: cart, namespace: shop}
spec:
  to:
    - targetRef: {kind: Service, name: cart}
      default: {http: {path: /healthz}, interval: 50ms}
";

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_answers_and_says_that_it_is_not_well_is_called_by_no_zone_until_it_is() {
    let mesh = two_zones(|west| west).start().await;
    mesh.apply(HEALTH).await;
    let mut near = mesh.load("west/web-1", CART, RATE);
    let far = "cart.shop.west.mesh";
    let mut pinned = mesh.load("west/web-1", far, RATE);
    near.until("both answer", |seen| seen.workloads().len() == 2).await;
    mesh.app("west/cart-1").ails();
    let only_the_other =
        |seen: &Seen| seen.total() > WINDOW && !seen.last(WINDOW).workloads().contains_key("west/cart-1");
    near.until("nobody calls it", only_the_other).await;
    pinned.until("not even who names its zone", only_the_other).await;
    mesh.app("west/cart-2").ails();
    near.until("the other zone stands in", |seen| seen.total() > WINDOW && seen.last(WINDOW).zone("east") == WINDOW)
        .await;
    mesh.app("west/cart-1").heals();
    mesh.app("west/cart-2").heals();
    near.until("both are back", |seen| seen.last(WINDOW).workloads().len() >= 2 && seen.last(WINDOW).zone("east") == 0)
        .await;
    let seen = near.stop().await;
    assert_eq!(seen.failed(), (0, String::new()), "of {}", seen.total());
    pinned.stop().await;
}
