//! The REST API over a socket: what is refused, what conflicts, what is listed, what is followed.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod http;

use clap::Parser;
use http::Client;
use process::{CommonOptions, Process};
use serde_json::{Value, json};
use std::time::Duration;

struct Scene {
    api: Client,
    running: Option<global_cp::Running>,
    _folder: tempfile::TempDir,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let args = ["weft-global-cp", "--api-listen", "127.0.0.1:0", "--sync-listen", "127.0.0.1:0", "--store", "memory"];
    let mut options = global_cp::Options::parse_from(args);
    options.common = CommonOptions {
        data_dir: Some(folder.path().join("global")),
        admin_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..CommonOptions::default()
    };
    let process = Process::new(global_cp::PROGRAM, options.common.clone());
    let running = global_cp::start(process, options).await.unwrap();
    let api = Client { at: running.api, token: running.token.clone() };
    Scene { api, running: Some(running), _folder: folder }
}

fn timeout(name: &str, request: &str) -> Value {
    json!({"apiVersion": "weft.dev/v1", "kind": "Timeout", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"to": [{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": request}}]}})
}

const CART: &str = "/resources/timeouts/default/shop/cart";

#[tokio::test]
async fn nobody_comes_in_without_the_token() {
    let scene = scene().await;
    let nobody = Client { token: String::new(), ..scene.api.clone() };
    for path in ["/meta", "/kinds", "/overview", "/stream", "/resources/timeouts", "/openapi.json", "/nothing"] {
        let answer = nobody.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert_eq!(answer.body["code"], "unauthenticated");
        assert!(answer.headers.contains("www-authenticate"), "{path}");
        assert_ne!(answer.body["requestId"], "");
    }
    let login = nobody.post("/login", &json!({"token": scene.api.token})).await;
    assert_eq!(login.status, 204);
    let cookie = login.headers.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap().to_owned();
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap();
    assert_eq!(nobody.send("GET", "/meta", &[("cookie", session)], None).await.status, 200);
    let forged = [("cookie", session), ("origin", "http://evil.example")];
    assert_eq!(nobody.send("PUT", CART, &forged, Some(&timeout("cart", "1s"))).await.status, 403);
}

#[tokio::test]
async fn bad_documents_are_refused_with_all_their_mistakes() {
    let scene = scene().await;
    let wrong_unit = timeout("cart", "5 parsecs");
    let mut unknown_field = timeout("cart", "1s");
    unknown_field["spec"]["tow"] = json!([]);
    let mut envelope = timeout("cart", "1s");
    envelope["metadata"]["nmae"] = json!("x");
    let other_name = timeout("other", "1s");
    let mut foreign = timeout("cart", "1s");
    foreign["metadata"]["labels"] = json!({"weft.dev/zone": "west"});
    let mut large = timeout("cart", "1s");
    large["metadata"]["annotations"] = json!({"note": "x".repeat(300 * 1024)});
    let mut huge = timeout("cart", "1s");
    huge["metadata"]["annotations"] = json!({"note": "x".repeat(1100 * 1024)});
    let workload = json!({"apiVersion": "weft.dev/v1", "kind": "Workload",
        "metadata": {"name": "cart", "namespace": "shop"}, "spec": {"address": "10.0.0.1"}});
    let at_workloads = "/resources/workloads/default/shop/cart";
    for (what, path, document, status, code) in [
        ("a wrong unit", CART, &wrong_unit, 422, "invalid-document"),
        ("an unknown field", CART, &unknown_field, 422, "invalid-document"),
        ("an unknown field of the envelope", CART, &envelope, 422, "invalid-document"),
        ("another name than the path's", CART, &other_name, 422, "invalid-document"),
        ("a zone's document", CART, &foreign, 403, "forbidden"),
        ("a kind that zones own", at_workloads, &workload, 403, "forbidden"),
        ("an object over the limit", CART, &large, 413, "too-large"),
        ("a body over the limit", CART, &huge, 413, "too-large"),
        ("an unknown kind", "/resources/timeoutz/default/shop/cart", &wrong_unit, 404, "not-found"),
        ("a namespaced kind without a namespace", "/resources/timeouts/cart", &wrong_unit, 404, "not-found"),
        ("an unknown parameter", "/resources/timeouts/default/shop/cart?wiat=1s", &wrong_unit, 400, "bad-request"),
    ] {
        let answer = scene.api.put(path, document).await;
        assert_eq!((answer.status, answer.body["code"].as_str()), (status, Some(code)), "{what}: {}", answer.body);
        assert!(answer.headers.contains("application/problem+json"), "{what}");
        if status == 422 {
            assert!(!answer.body["diagnostics"].as_array().unwrap().is_empty(), "{what}");
        }
    }
    assert_eq!(scene.api.get("/resources/timeouts").await.body["total"], 0, "nothing of it was stored");
    let checked = scene.api.post("/validate", &json!({"object": unknown_field})).await;
    assert!(checked.body["diagnostics"][0]["field"].as_str().unwrap().contains("tow"), "{}", checked.body);
}

#[tokio::test]
async fn a_write_based_on_an_older_revision_conflicts_and_shows_what_is_there() {
    let scene = scene().await;
    let first = scene.api.put(CART, &timeout("cart", "1s")).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let revision = first.body["metadata"]["revision"].as_u64().unwrap();
    let second = scene.api.put(CART, &timeout("cart", "2s")).await;
    assert_eq!(second.status, 200);
    let again = scene.api.put(CART, &timeout("cart", "2s")).await;
    assert_eq!(
        again.body["metadata"]["revision"], second.body["metadata"]["revision"],
        "an equal write changes nothing"
    );

    let mut stale = timeout("cart", "3s");
    stale["metadata"]["revision"] = json!(revision);
    let conflict = scene.api.put(CART, &stale).await;
    assert_eq!((conflict.status, conflict.body["code"].as_str()), (409, Some("conflict")));
    assert_eq!(conflict.body["current"]["metadata"]["revision"], second.body["metadata"]["revision"]);
    let tag = format!("\"{revision}\"");
    for (header, value, status) in
        [("if-match", tag.as_str(), 409), ("if-none-match", "*", 409), ("if-match", "x", 400)]
    {
        let answer = scene.api.send("PUT", CART, &[(header, value)], Some(&timeout("cart", "3s"))).await;
        assert_eq!(answer.status, status, "{header}: {value}");
    }
    let dry = scene.api.put(&format!("{CART}?dryRun=true"), &timeout("cart", "9s")).await;
    assert_eq!(dry.status, 200);
    let stored = scene.api.get(CART).await;
    assert_eq!(stored.body["spec"]["to"][0]["default"]["request"], "2s");
    assert_eq!(stored.body["status"]["accepted"], true);
    assert_eq!(scene.api.send("DELETE", CART, &[("if-match", &tag)], None).await.status, 409);
    assert_eq!(scene.api.delete(CART).await.status, 200);
    assert_eq!(scene.api.get(CART).await.status, 404);
    assert_eq!(scene.api.delete(CART).await.status, 404);
}

/// Many at once, so that whoever merges what is known has something to do between a write and the next read.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_written_is_read_next() {
    let scene = scene().await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let api = scene.api.clone();
        writers.spawn(async move {
            for i in 0..25 {
                let name = format!("t{writer}-{i}");
                let path = format!("/resources/timeouts/default/shop/{name}");
                assert_eq!(api.put(&path, &timeout(&name, "1s")).await.status, 201);
                assert_eq!(api.get(&path).await.status, 200, "{name}");
                if i % 2 == 0 {
                    assert_eq!(api.delete(&path).await.status, 200);
                    assert_eq!(api.get(&path).await.status, 404, "{name}");
                }
            }
        });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn lists_page_select_and_search() {
    let scene = scene().await;
    for i in 0..7 {
        let mut document = timeout(&format!("t-{i}"), "1s");
        document["metadata"]["labels"] = json!({"tier": if i % 2 == 0 { "gold" } else { "tin" }});
        let path = format!("/resources/timeouts/default/shop/t-{i}");
        assert_eq!(scene.api.put(&path, &document).await.status, 201);
    }
    for (query, total) in [
        ("", 7),
        ("?labels=tier%3Dgold", 4),
        ("?labels=tier!=gold", 3),
        ("?mesh=default&namespace=shop", 7),
        ("?namespace=other", 0),
        ("?q=t-3", 1),
    ] {
        let answer = scene.api.get(&format!("/resources/timeouts{query}")).await;
        assert_eq!(answer.body["total"], total, "{query}: {}", answer.body);
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = scene.api.get(&format!("/resources/timeouts?limit=3{after}")).await.body;
        let names = page["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].to_string());
        seen.extend(names);
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 7);
    seen.dedup();
    assert_eq!(seen.len(), 7, "no object twice");
}

#[tokio::test]
async fn a_watch_shows_what_is_there_and_then_every_change() {
    let scene = scene().await;
    scene.api.put(CART, &timeout("cart", "1s")).await;
    let api = scene.api.clone();
    let changes = tokio::spawn(async move {
        api.follow("/resources/timeouts?watch=true", |text| text.contains("event: delete")).await
    });
    // The stream may begin at any moment, so the object comes and goes until it has been seen to go.
    while !changes.is_finished() {
        scene.api.put(CART, &timeout("cart", "1s")).await;
        scene.api.follow("/resources/timeouts?watch=true", |text| text.contains("\"name\":\"cart\"")).await;
        assert_eq!(scene.api.delete(CART).await.status, 200);
    }
    let text = changes.await.unwrap();
    assert!(text.contains("event: put") && text.contains("id: "), "{text}");
}

#[tokio::test]
async fn the_stream_greets_shows_everything_and_says_goodbye() {
    let mut scene = scene().await;
    let text = scene.api.follow("/stream", |text| text.contains("event: snapshot")).await;
    assert!(text.find("event: hello").unwrap() < text.find("event: snapshot").unwrap());
    let api = scene.api.clone();
    let created = tokio::spawn(async move { api.follow("/stream", |text| text.contains("event: bye")).await });
    scene.api.follow("/stream", |text| text.contains("event: snapshot")).await;
    let zone = scene.api.post("/zones", &json!({"name": "west", "region": "us"})).await;
    assert_eq!(zone.status, 201, "{}", zone.body);
    scene.api.follow("/stream", |text| text.contains("\"west\"")).await;
    scene.running.take().unwrap().stop().await;
    let text = tokio::time::timeout(Duration::from_secs(5), created).await.unwrap().unwrap();
    assert!(text.contains("retryAfterMs"), "{text}");
}

#[tokio::test]
async fn zones_are_created_once_and_drained_and_described() {
    let scene = scene().await;
    let first = scene.api.post("/zones", &json!({"name": "west"})).await;
    assert!(first.body["token"].as_str().unwrap().starts_with("weft-join."), "{}", first.body);
    assert_eq!(scene.api.post("/zones", &json!({"name": "west"})).await.status, 409);
    assert_eq!(scene.api.post("/zones", &json!({"name": "global"})).await.status, 400);
    assert_eq!(scene.api.post("/zones/west/token", &json!({})).await.status, 200);
    assert_eq!(scene.api.post("/zones/nowhere/token", &json!({})).await.status, 404);
    for (verb, state) in [("drain", "Draining"), ("disable", "Disabled"), ("undrain", "Active")] {
        assert_eq!(scene.api.post(&format!("/zones/west/{verb}"), &json!({})).await.status, 200);
        assert_eq!(scene.api.get("/resources/zones/west").await.body["spec"]["state"], state);
    }
    assert_eq!(scene.api.get("/zones").await.body["items"][0]["name"], "west");
    assert_eq!(scene.api.get("/meta").await.body["role"], "global");
    let kinds = scene.api.get("/kinds").await.body;
    assert_eq!(kinds["items"].as_array().unwrap().len(), policy::KINDS.len());
    assert!(scene.api.get("/schemas/timeouts").await.body["properties"].is_object());
    assert_eq!(scene.api.get("/openapi.json").await.body["openapi"], "3.1.0");
    let again = scene.api.post("/restore", &json!({"history": 5, "revision": 9, "objects": []})).await;
    assert_eq!(again.status, 409, "a store that holds something is not overwritten");
}
