//! Absence never deletes: a zone without global, and a global without its past.

use crate::scene::*;
use serde_json::json;

const ANY: &str = "127.0.0.1:0";
const OUTBOUND: &str = "outbound/default/shop/cart";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_zone_serves_from_its_own_copy_while_global_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    let data = folder.path().join("west");
    let west = zone(&data, Some(&invite(&global, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    register(&west, "cart-1", cart()).await;
    let token = register(&west, "web-1", web()).await;
    let put = global.api.put("/resources/timeouts/default/shop/cart?wait=5s", &timeout("cart", "7s")).await;
    assert_eq!(put.status, 201);
    let before = west.api.get("/replica").await.body;
    global.running.stop().await;
    west.running.stop().await;

    let west = zone(&data, None).await;
    assert_eq!(west.api.get("/replica").await.body, before);
    let fresh = register(&west, "web-2", web()).await;
    assert_ne!(fresh.to_string(), token.to_string());
    let proxy = proxy(&west, &fresh, |_| Ok(())).await;
    proxy.item(OUTBOUND, |outbound| request_ms(outbound) == 7000).await;
    let status = west.api.get("/status").await.body;
    assert_eq!(status["link"]["connected"], false);
    assert!(status["headline"].as_str().unwrap().contains("our own copy"), "{status}");
    proxy.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_global_that_lost_its_store_is_recognised_and_restored_from_a_zone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("global");
    let first = global(&data, ANY.parse().unwrap()).await;
    let sync = first.running.sync;
    let west = zone(&folder.path().join("west"), Some(&invite(&first, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    register(&west, "cart-1", cart()).await;
    let web = proxy(&west, &register(&west, "web-1", web()).await, |_| Ok(())).await;
    first.api.put("/resources/timeouts/default/shop/cart?wait=5s", &timeout("cart", "7s")).await;
    web.item(OUTBOUND, |outbound| request_ms(outbound) == 7000).await;
    first.running.stop().await;
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("store") {
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }

    let empty = global(&data, sync).await;
    let words = until("the zone says that global lost its history", || async {
        west.api.get("/status").await.body["estranged"].as_str().map(str::to_owned)
    })
    .await;
    assert!(words.contains("lost its history at revision"), "{words}");
    let words = until("global says it too", || async {
        empty.api.get("/status").await.body["estranged"].as_str().map(str::to_owned)
    })
    .await;
    assert!(words.contains("west"), "{words}");
    let outbound = web.item(OUTBOUND, |_| true).await;
    assert_eq!(*request_ms(&outbound), 7000, "what the zone holds goes on");

    let backup = west.api.get("/replica").await.body;
    let restored = empty.api.post("/restore", &backup).await;
    assert_eq!(restored.status, 200, "{}", restored.body);
    until("the zone follows again", || async {
        west.api.get("/status").await.body["estranged"].is_null().then_some(())
    })
    .await;
    assert_eq!(empty.api.get("/resources/timeouts").await.body["total"], 1);
    let put = empty.api.put("/resources/timeouts/default/shop/cart?wait=5s", &timeout("cart", "9s")).await;
    assert!(put.headers.contains("weft-converged-ms"), "{}", put.body);
    web.item(OUTBOUND, |outbound| request_ms(outbound) == 9000).await;
    web.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_adopts_another_history_only_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("global");
    let first = global(&data, ANY.parse().unwrap()).await;
    let sync = first.running.sync;
    let west = zone(&folder.path().join("west"), Some(&invite(&first, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    first.api.put("/resources/timeouts/default/shop/cart?wait=5s", &timeout("cart", "7s")).await;
    assert_eq!(west.api.post("/adopt", &json!({})).await.status, 409, "there is nothing to adopt");
    first.running.stop().await;
    let _ = std::fs::remove_dir_all(data.join("store"));
    let _ = std::fs::remove_file(data.join("store"));

    let empty = global(&data, sync).await;
    until("the zone is estranged", || async {
        west.api.get("/status").await.body["estranged"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(empty.api.post("/zones", &json!({"name": "west"})).await.status, 201);
    let held = west.api.get("/replica").await.body;
    assert_eq!(held["objects"].as_array().unwrap().len(), 2, "still the old history: {held}");
    assert_eq!(west.api.post("/adopt", &json!({})).await.status, 200);
    until("the new history is here", || async {
        let objects = west.api.get("/replica").await.body["objects"].as_array().cloned().unwrap_or_default();
        (objects.len() == 1 && objects[0]["kind"] == "Zone").then_some(())
    })
    .await;
}
