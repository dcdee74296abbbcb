//! From a document to the proxies that run it, and back to its status.

use crate::scene::*;
use serde_json::json;
use std::time::Duration;

const ANY: &str = "127.0.0.1:0";
const OUTBOUND: &str = "outbound/default/shop/cart";
const LOCAL: &str = "endpoints/default/shop/cart/west";
const CART: &str = "/resources/timeouts/default/shop/cart";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_reaches_proxies_and_its_status_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    let west = zone(&folder.path().join("west"), Some(&invite(&global, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    let accept = |text: &str| if text.contains("66000") { Err("no such number".into()) } else { Ok(()) };
    let web = proxy(&west, &register(&west, "web-1", web()).await, accept).await;
    let cart = proxy(&west, &register(&west, "cart-1", cart()).await, accept).await;
    cart.item("inbound", |_| true).await;
    web.item(OUTBOUND, |_| true).await;

    let put = global.api.put(&format!("{CART}?wait=5s"), &timeout("cart", "7s")).await;
    assert_eq!(put.status, 201, "{}", put.body);
    assert!(put.headers.contains("weft-converged-ms"), "{}", put.headers);
    assert_eq!(put.body["status"]["zones"]["west"]["programmed"], 2, "{}", put.body);
    web.item(OUTBOUND, |outbound| request_ms(outbound) == 7000).await;
    let shown = west.api.get("/proxies/default/shop/web-1/config").await.body;
    assert_eq!(*request_ms(&shown["items"][OUTBOUND]), 7000);
    let origins = shown["origins"].as_object().unwrap();
    assert!(origins.values().any(|origin| origin["policy"] == "Timeout/default/-/shop/cart"), "{origins:?}");

    // A refused item keeps the last good one, ends the wait, and shows in the status.
    let put = global.api.put(&format!("{CART}?wait=5s"), &timeout("cart", "66s")).await;
    assert!(!put.headers.contains("weft-converged-ms"), "{}", put.headers);
    let west_status = &put.body["status"]["zones"]["west"];
    assert_eq!(west_status["programmed"], 0, "{}", put.body);
    assert_eq!(west_status["rejects"][0]["reason"], "no such number", "{}", put.body);
    web.item(OUTBOUND, |outbound| request_ms(outbound) == 7000).await;
    let repaired = global.api.put(&format!("{CART}?wait=5s"), &timeout("cart", "8s")).await;
    assert!(repaired.headers.contains("weft-converged-ms"), "{}", repaired.body);

    // Readiness goes from one proxy to the others, whichever way it is lost.
    let ready = |wanted: bool| move |item: &serde_json::Value| item["place"]["local"][0]["ready"] == wanted;
    web.item(LOCAL, ready(true)).await;
    say(&cart.report, false);
    web.item(LOCAL, ready(false)).await;
    say(&cart.report, true);
    web.item(LOCAL, ready(true)).await;
    cart.end();
    web.item(LOCAL, ready(false)).await;
    let proxies = west.api.get("/proxies").await.body;
    let gone = proxies["items"].as_array().unwrap().iter().find(|item| item["workload"] == "cart-1").unwrap();
    assert_eq!((&gone["connected"], &gone["ready"]), (&json!(false), &json!(false)));
    web.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_writes_what_is_its_own_and_global_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    let west = zone(&folder.path().join("west"), Some(&invite(&global, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    let web = proxy(&west, &register(&west, "web-1", web()).await, |_| Ok(())).await;
    register(&west, "cart-1", cart()).await;

    let mesh = json!({"apiVersion": "weft.dev/v1", "kind": "Mesh", "metadata": {"name": "default"}, "spec": {}});
    let refused = west.api.put("/resources/meshes/default", &mesh).await;
    assert_eq!(refused.status, 403);
    assert!(refused.body["detail"].as_str().unwrap().contains("global"), "{}", refused.body);
    global.api.put(CART, &timeout("cart", "7s")).await;
    web.item(OUTBOUND, |outbound| request_ms(outbound) == 7000).await;
    let taken = until("the zone shows what global wrote", || async {
        let found = west.api.get(CART).await;
        (found.status == 200).then_some(found.body)
    })
    .await;
    let refused = west.api.put(CART, &taken).await;
    assert_eq!(refused.status, 403, "what global wrote is not changed in a zone: {}", refused.body);

    let own = "/resources/timeouts/default/shop/own";
    let put = west.api.put(&format!("{own}?wait=5s"), &timeout("own", "3s")).await;
    assert_eq!(put.body["metadata"]["labels"]["weft.dev/zone"], "west", "{}", put.body);
    assert!(put.headers.contains("weft-converged-ms"), "{}", put.headers);
    let seen = until("global shows it", || async {
        let found = global.api.get(&format!("{own}?zone=west")).await;
        (found.status == 200).then_some(found.body)
    })
    .await;
    assert_eq!(seen["metadata"]["labels"]["weft.dev/zone"], "west");
    assert_eq!(global.api.delete(own).await.status, 403, "what a zone wrote is not removed at global");
    let workloads = global.api.get("/resources/workloads?zone=west").await.body;
    assert_eq!(workloads["total"], 2);
    assert_eq!(west.api.put(own, &put.body).await.status, 200, "a document read back can be written again");
    assert_eq!(west.api.delete(own).await.status, 200);
    web.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_that_begins_to_matter_makes_no_proxy_unready() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    let west = zone(&folder.path().join("west"), Some(&invite(&global, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    let web = proxy(&west, &register(&west, "web-1", web()).await, |_| Ok(())).await;
    let labelled = json!({"namespace": "shop", "name": "cart-1", "labels": {"version": "v2"}, "spec": cart()});
    let token = west.api.post("/workloads", &labelled).await.body["token"].as_str().unwrap().parse().unwrap();
    let one = proxy(&west, &token, |_| Ok(())).await;
    let two = proxy(&west, &register(&west, "cart-2", cart()).await, |_| Ok(())).await;
    let all_ready = |item: &serde_json::Value| {
        item["place"]["local"].as_array().is_some_and(|list| list.len() == 2 && list.iter().all(|e| e["ready"] == true))
    };
    web.item(LOCAL, all_ready).await;

    // From now on cart-1 and cart-2 are of different classes: one of them has to follow another view.
    let mut held = web.config.watch();
    held.mark_unchanged();
    let policy = json!({"apiVersion": "weft.dev/v1", "kind": "Timeout", "metadata": {"name": "v2", "namespace": "shop"},
        "spec": {"targetRef": {"kind": "Workload", "labels": {"version": "v2"}},
            "to": [{"targetRef": {"kind": "Service", "name": "web"}, "default": {"request": "2s"}}]}});
    let put = global.api.put("/resources/timeouts/default/shop/v2?wait=8s", &policy).await;
    assert!(put.headers.contains("weft-converged-ms"), "{}", put.body);
    let other = "outbound/default/shop/web";
    one.item(other, |outbound| request_ms(outbound) == 2000).await;
    two.item(other, |outbound| request_ms(outbound) == 15000).await;
    while tokio::time::timeout(Duration::from_millis(300), held.changed()).await.is_ok() {
        let item = held.borrow_and_update().items.get(LOCAL).cloned().unwrap();
        assert!(all_ready(&serde_json::from_slice(&item).unwrap()), "a proxy was unready for a moment");
    }
    for proxy in [&web, &one, &two] {
        proxy.end();
    }
}
