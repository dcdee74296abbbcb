//! Two zones: what one offers reaches the other through global, and straight when global is gone.

use crate::scene::*;
use serde_json::json;

const ANY: &str = "127.0.0.1:0";
const FROM_EAST: &str = "endpoints/default/shop/cart/east";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn capacity_crosses_zones_with_and_without_global() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    let west = zone(&folder.path().join("west"), Some(&invite(&global, "west").await)).await;
    let east_data = folder.path().join("east");
    let east = zone(&east_data, Some(&invite(&global, "east").await)).await;
    for zone in [&west, &east] {
        until("the zone is in step", || async { zone.running.policy.borrow().lineage }).await;
    }
    let web = proxy(&west, &register(&west, "web-1", web()).await, |_| Ok(())).await;
    let cart = proxy(&east, &register(&east, "cart-1", cart()).await, |_| Ok(())).await;
    let ready = |count: u32| move |item: &serde_json::Value| item["place"]["remote"]["ready"] == count;
    let item = web.item(FROM_EAST, ready(1)).await;
    assert_eq!(item["place"]["remote"]["identities"][0], "spiffe://east.default/ns/shop/sa/cart");
    let anchors = web.config.held().items.contains_key("trust/east.default");
    assert!(anchors, "the other zone's anchors come along");

    // A gateway that leads straight to the door for peers: what a real one does with this server name.
    let door = east.running.peer;
    let gateway = json!({"address": door.ip(), "proxyPort": door.port(), "role": "EastWestGateway"});
    register(&east, "gateway-1", gateway).await;
    web.item(FROM_EAST, |item| item["place"]["remote"]["gateways"][0] == door.to_string()).await;
    until("west follows east straight", || async {
        let overview = west.api.get("/overview").await.body;
        let zones = overview["zones"].as_array().cloned().unwrap_or_default();
        zones.iter().any(|zone| zone["name"] == "east" && !zone["seenMs"].is_null()).then_some(())
    })
    .await;
    global.running.stop().await;
    say(&cart.report, false);
    web.item(FROM_EAST, ready(0)).await;
    say(&cart.report, true);
    web.item(FROM_EAST, ready(1)).await;

    // Restarted without global, the zone begins with the newest it was told, by whichever road.
    say(&cart.report, false);
    web.item(FROM_EAST, ready(0)).await;
    web.end();
    west.running.stop().await;
    let west = zone(&folder.path().join("west"), None).await;
    let token = register(&west, "web-2", crate::scene::web()).await;
    let web = proxy(&west, &token, |_| Ok(())).await;
    let first = web.item(FROM_EAST, |_| true).await;
    assert!(ready(0)(&first), "{first}");
    web.end();
    cart.end();
}
