//! Without global, and with a global that is not what it was: steps 8, 9 and 12.

use crate::losses::lose_all_and_return;
use crate::{CART, RATE, two_zones};
use serde_json::{Value, json};
use testkit::{Api, Mesh, until};

const TIMEOUT: &str = "/resources/timeouts/default/shop/cart-patience";

/// A policy whose loss would be seen.
async fn patience(mesh: &Mesh, seconds: u32) {
    let timeout = format!(
        "apiVersion: weft.dev/v1
kind: Timeout
metadata: {{name: cart-patience, namespace: shop}}
spec: {{to: [{{targetRef: {{kind: Service, name: cart}}, default: {{request: {seconds}s}}}}]}}"
    );
    mesh.apply(&timeout).await;
}

async fn documents(zone: &Api) -> Vec<Value> {
    zone.get("/replica").await.unwrap()["objects"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_global_zones_restart_register_and_fail_over() {
    let mut mesh = two_zones(|west| west).start().await;
    patience(&mesh, 7).await;
    mesh.converged().await;
    let held = documents(&mesh.control("west")).await;
    mesh.lose("global").await;

    let mut load = mesh.load("west/web-1", CART, RATE);
    load.more(2 * RATE as usize).await;
    let restart = load.now();
    mesh.lose("west/cp").await;
    load.more(50).await;
    mesh.restore("west/cp").await;
    mesh.converged().await;
    assert_eq!(documents(&mesh.control("west")).await, held, "it starts from its own copy");

    let added = load.now();
    let newcomer = mesh.add("west", "cart").await;
    load.until("the newcomer answers", |seen| seen.workloads().contains_key(newcomer.as_str())).await;
    let seen = load.stop().await;
    assert_eq!(seen.failed(), (0, String::new()), "of {}", seen.total());
    let strays = seen.0.iter().filter(|shot| shot.answer.zone != "west").map(|shot| shot.at.as_millis());
    assert_eq!(
        seen.zone("west"),
        seen.total(),
        "restart at {restart:?}, added at {added:?}, elsewhere at {:?}",
        strays.collect::<Vec<_>>()
    );
    mesh.converged().await;
    lose_all_and_return(&mut mesh).await;
}

/// Items and bytes that global has sent a zone on the present stream.
async fn sent(mesh: &Mesh, zone: &str) -> (u64, u64) {
    let status = mesh.global().get("/status").await.unwrap();
    let policy = &status["sync"][zone]["channels"]["policy"];
    let count = |field: &str| policy[field].as_u64().unwrap_or_else(|| panic!("no {field} in {status}"));
    (count("sentItems"), count("sentBytes"))
}

#[tokio::test(flavor = "multi_thread")]
async fn when_global_returns_only_what_changed_is_sent() {
    let mut mesh = two_zones(|west| west).start().await;
    patience(&mesh, 7).await;
    mesh.converged().await;
    let whole =
        documents(&mesh.control("west")).await.iter().map(|object| object.to_string().len() as u64).sum::<u64>();
    mesh.lose("global").await;
    mesh.restore("global").await;
    mesh.converged().await;
    for zone in ["west", "east"] {
        let (items, bytes) = sent(&mesh, zone).await;
        assert!(bytes < whole / 2, "{zone} held everything and was sent {items} items, {bytes} bytes of {whole}");
    }

    let (items, _) = sent(&mesh, "west").await;
    patience(&mesh, 8).await;
    until("one change is one item", async || match sent(&mesh, "west").await.0 - items {
        1 => Ok(()),
        other => Err(format!("{other} items")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_global_that_lost_its_store_unlearns_nobody_and_is_restored_from_a_zone() {
    let mut mesh = two_zones(|west| west).start().await;
    patience(&mesh, 7).await;
    mesh.converged().await;
    let west = mesh.control("west");
    let held = documents(&west).await;
    let mut load = mesh.load("west/web-1", CART, RATE);
    mesh.lose("global").await;
    mesh.forget_everything();
    mesh.restore("global").await;

    for zone in ["west", "east"] {
        let api = mesh.control(zone);
        until("the zone says that global lost its history", async || {
            let status = api.get("/status").await.map_err(|error| error.to_string())?;
            let words = status["estranged"].as_str().unwrap_or_default();
            if words.contains("lost its history") { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }
    load.more(50).await;
    assert_eq!(documents(&west).await, held, "nothing is unlearned");
    let answer = mesh.from("west/web-1").get(CART, "/").await;
    assert_eq!(answer.peer, "spiffe://west.default/ns/shop/sa/web", "mutual TLS goes on");

    let mut backup = west.get("/replica").await.unwrap();
    backup.as_object_mut().unwrap().remove("estranged");
    let restored = mesh.global().good(http::Method::POST, "/restore", Some(&backup)).await.unwrap();
    assert_eq!(restored.body["objects"], json!(held.len()));
    for zone in ["west", "east"] {
        let api = mesh.control(zone);
        until("the zone follows global again", async || {
            let status = api.get("/status").await.map_err(|error| error.to_string())?;
            let follows = status["estranged"].is_null() && status["link"]["connected"] == true;
            if follows { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }
    let back = mesh.global().get(TIMEOUT).await.unwrap();
    assert_eq!(back["spec"]["to"][0]["default"]["request"], "7s");
    patience(&mesh, 8).await;
    mesh.converged().await;
    let seen = load.stop().await;
    assert_eq!(seen.failed(), (0, String::new()), "of {}", seen.total());
}
