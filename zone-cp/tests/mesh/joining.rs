//! Who may become a zone, and who may become a proxy.

use crate::scene::*;
use api::SpiffeId;
use api::report::item;
use identity::{Credentials, Expect, Grant, LiveCredentials, TokenBook, TokenKind, TrustStore, UnixTime};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sync_grpc::{Absence, Channels, Dial, Follower, Lineage, Published};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const ANY: &str = "127.0.0.1:0";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_token_works_once_and_only_where_it_was_made() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("global");
    std::fs::create_dir_all(&data).unwrap();
    let issuer = control::Issuer::open(&data.join("authority"), SpiffeId::global_cp()).unwrap();
    let grant = |zone: &str, sync: &str| Grant {
        kind: TokenKind::Join,
        addresses: vec![sync.into()],
        pin: issuer.pin(),
        server: SpiffeId::global_cp(),
        subject: zone.into(),
    };
    let mut book = TokenBook::new();
    let hour_ago = UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() - 3600));
    let mut expired = book.issue(grant("north", ANY), hour_ago).unwrap();
    book.save(&data.join("tokens")).unwrap();
    let global = global(&data, ANY.parse().unwrap()).await;
    let at = global.running.sync.to_string();
    expired.addresses = vec![at.clone()];
    let foreign = TokenBook::new().issue(grant("west", &at), UnixTime::now()).unwrap();

    let good = invite(&global, "west").await;
    let north = json!({"apiVersion": "weft.dev/v1", "kind": "Zone", "metadata": {"name": "north"}, "spec": {}});
    assert_eq!(global.api.put("/resources/zones/north", &north).await.status, 201);
    for (what, token, words) in
        [("expired", expired.to_string(), "expired"), ("foreign", foreign.to_string(), "not made here")]
    {
        let refused = try_zone(&folder.path().join(what), Some(&token)).await.err().expect(what);
        assert!(refused.to_string().contains(words), "{what}: {refused}");
    }
    let west = zone(&folder.path().join("west"), Some(&good)).await;
    assert_eq!(west.running.zone.as_str(), "west");
    let used = try_zone(&folder.path().join("again"), Some(&good)).await.err().expect("used");
    assert!(used.to_string().contains("was used"), "{used}");

    let other = tempfile::tempdir().unwrap();
    let stranger = crate::scene::global(other.path(), ANY.parse().unwrap()).await;
    let mut lured: identity::Token = invite(&global, "east").await.parse().unwrap();
    lured.addresses = vec![stranger.running.sync.to_string()];
    let refused = try_zone(&folder.path().join("lured"), Some(&lured.to_string())).await.err().expect("lured");
    assert!(refused.to_string().contains("is not the control plane that made this token"), "{refused}");

    let none = try_zone(&folder.path().join("none"), None).await.err().expect("no token");
    assert!(none.to_string().contains("weft zone create"), "{none}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zone_is_who_its_certificate_says_and_speaks_for_itself_only() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    invite(&global, "east").await;
    let data = folder.path().join("west");
    let west = zone(&data, Some(&invite(&global, "west").await)).await;
    west.running.stop().await;

    // West's certificate in the hands of somebody who says to be east and offers east's identities.
    let live = LiveCredentials::new(Credentials::load(&data).unwrap().unwrap());
    let trust = TrustStore::load(&data.join("global.trust")).unwrap();
    let exports = Published::new(Lineage { history: 7, revision: 1 });
    let service = json!({"mesh": "default", "namespace": "shop", "name": "cart"});
    let stolen = json!({"service": service, "ports": [], "ready": 1, "total": 1, "weight": 1, "load": null,
        "identities": ["spiffe://east.default/ns/shop/sa/cart"]});
    let key = format!("{}default/shop/cart", item::EXPORT);
    exports.commit([(key.as_str().into(), Some(control::documents::payload(&stolen)))]);
    let policy = Follower::memory(Absence::Follow);
    let tls = identity::client_config(&live, &trust, Expect::id(SpiffeId::global_cp()), ALPN);
    let dial = Dial {
        addresses: watch::Sender::new(vec![global.running.sync.to_string()]).subscribe(),
        tls: Arc::new(move |address| (tls.clone(), zone_cp::rpc::server_name(address))),
        name: "east".into(),
        version: "test".into(),
    };
    let channels =
        Channels { publish: vec![("exports".into(), exports)], follow: vec![("policy".into(), policy.clone())] };
    let progress = watch::Sender::new(BTreeMap::new());
    let mut seen = progress.subscribe();
    let cancel = CancellationToken::new();
    tokio::spawn(sync_grpc::dial(dial, channels, progress, cancel.clone()));
    let refused = |all: &BTreeMap<String, sync_grpc::Progress>| {
        all.get("exports").is_some_and(|exports| !exports.rejects.is_empty())
    };
    let all = tokio::time::timeout(Duration::from_secs(10), seen.wait_for(refused)).await.unwrap().unwrap().clone();
    let reject = &all["exports"].rejects[0];
    assert!(reject.reason.contains("zone west may not offer identity"), "{}", reject.reason);
    let status = global.api.get("/status").await.body;
    assert_eq!(status["sync"]["west"]["connected"], true);
    assert_eq!(status["sync"]["east"]["connected"], false, "the name in the opening message counts for nothing");

    // Deleted: cut off at once, and not let in again.
    assert_eq!(global.api.delete("/resources/zones/west").await.status, 200);
    let mut link = policy.link();
    let gone = link.wait_for(|link| link.error.as_deref().is_some_and(|error| error.contains("was deleted")));
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap().unwrap();
    cancel.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_is_refused_unless_certificate_and_registration_agree() {
    let folder = tempfile::tempdir().unwrap();
    let global = global(&folder.path().join("global"), ANY.parse().unwrap()).await;
    let west = zone(&folder.path().join("west"), Some(&invite(&global, "west").await)).await;
    until("the zone is in step", || async { west.running.policy.borrow().lineage }).await;
    let token = register(&west, "cart-1", cart()).await;
    let (live, trust) = bootstrap(&token).await.unwrap();
    let again = bootstrap(&token).await.unwrap_err();
    assert!(again.message().contains("was used"), "{again}");

    let proxy = connect(&west, live.clone(), &trust, |_| Ok(()));
    proxy.item("inbound", |inbound| inbound["identity"] == "spiffe://west.default/ns/shop/sa/cart").await;

    // The workload becomes somebody else: the certificate it has is not that one's.
    let mut other = cart();
    other["account"] = json!("other");
    register(&west, "cart-1", other).await;
    let mut link = proxy.config.link();
    let refused = link.wait_for(|link| link.error.as_deref().is_some_and(|error| error.contains("but workload")));
    tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap().unwrap();

    // And one that is gone is nobody.
    assert_eq!(west.api.delete("/resources/workloads/default/shop/cart-1").await.status, 200);
    let mut link = proxy.config.link();
    let refused = link.wait_for(|link| link.error.as_deref().is_some_and(|error| error.contains("is not registered")));
    tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap().unwrap();
    proxy.end();
}
