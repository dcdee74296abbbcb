//! Two ends over real sockets with real certificates.

mod durable;
mod world;

use crate::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use world::*;

/// The promise of the design; the limits leave a little room below it.
const FROZEN_IS_GONE: Duration = Duration::from_secs(3);
const BACK_AFTER_THAW: Duration = Duration::from_secs(1);

#[tokio::test]
async fn one_stream_carries_both_directions_and_says_who_is_there() {
    let tls = tls();
    let (config, report) = (Published::new(lineage(1, 1)), Published::new(lineage(2, 1)));
    let (configured, reported) = (Follower::memory(Absence::Keep), Follower::memory(Absence::Follow));
    let mut ours = publishes("config", &config);
    ours.follow = follows("report", &reported).follow;
    let mut theirs = publishes("report", &report);
    theirs.follow = follows("config", &configured).follow;
    let offer = Offer::new(ours);
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    config.replace(items(2000, "a"));
    let client = Client::start(&tls, server.addr, theirs);
    report.commit([(key("ready"), Some(payload("yes")))]);

    until(&mut configured.watch(), "the config arrives", |held| *held.items == items(2000, "a")).await;
    until(&mut reported.watch(), "the report arrives", |held| held.items.get("ready") == Some(&payload("yes"))).await;
    assert_eq!(configured.held().lineage, Some(lineage(1, 1)));
    let head = config.commit([(key("item-0007"), None), (key("new"), Some(payload("b")))]);
    until(&mut configured.watch(), "the change arrives", |held| held.cursor == head).await;
    assert_eq!(configured.held().changed, [key("new"), key("item-0007")]);
    until(&mut offer.progress.subscribe(), "the ack arrives", |board| board["config"].acked == Some(head)).await;
    until(&mut client.progress.subscribe(), "the ack arrives", |board| board["report"].acked == Some(report.head()))
        .await;
    assert_eq!(offer.progress("config").sent_items, 2002);
    assert!(configured.link().borrow().connected);
    assert!(reported.link().borrow().connected);

    assert_eq!(offer.admitted.load(Ordering::Relaxed), 1);
    let peer = offer.peers.lock().unwrap().remove(0);
    assert_eq!(peer.id.unwrap().to_string(), ID);
    assert_eq!(peer.common_name.as_deref(), Some("default/shop/cart-1"));
    assert_eq!(peer.open.unwrap().name, "test");

    drop(client);
    until(&mut offer.open.subscribe(), "the session ends", |open| *open == 0).await;
    assert!(!reported.link().borrow().connected);
    server.stop().await;
}

#[tokio::test]
async fn a_reconnect_resumes_by_cursor_and_sends_nothing_again() {
    let tls = tls();
    let (view, follower) = (Published::new(lineage(1, 1)), Follower::memory(Absence::Keep));
    let head = view.replace(items(100, "a"));
    let offer = Offer::new(publishes("policy", &view));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let _client = Client::start(&tls, server.addr, follows("policy", &follower));
    let acked = |head| {
        move |board: &std::collections::BTreeMap<_, Progress>| {
            board.get("policy").is_some_and(|progress| progress.acked == Some(head))
        }
    };
    until(&mut offer.progress.subscribe(), "the first ack", acked(head)).await;
    for _ in 0..3 {
        let before = offer.admitted.load(Ordering::Relaxed);
        offer.kick();
        until(&mut offer.open.subscribe(), "it comes back", |open| {
            *open == 1 && offer.admitted.load(Ordering::Relaxed) > before
        })
        .await;
    }
    let head = view.commit([(key("one"), Some(payload("b")))]);
    until(&mut offer.progress.subscribe(), "the next ack", acked(head)).await;
    assert_eq!(offer.progress("policy").sent_items, 101);
}

#[tokio::test]
async fn a_restarted_publisher_with_equal_content_sends_only_hashes() {
    let tls = tls();
    let follower = Follower::memory(Absence::Keep);
    let first = Published::new(lineage(1, 5));
    first.replace(items(3000, "a"));
    let server = Server::start(&tls, Offer::new(publishes("policy", &first)), Admission::default()).await;
    let client = Client::start(&tls, server.addr, follows("policy", &follower));
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 3000).await;
    server.stop().await;

    let second = Published::new(lineage(1, 5));
    let offer = Offer::new(publishes("policy", &second));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    client.addresses.send_replace(vec![server.addr.to_string()]);
    until(&mut offer.open.subscribe(), "it comes to the other", |open| *open == 1).await;
    assert_eq!(follower.held().items.len(), 3000, "an unfilled view says nothing");
    let head = second.replace(items(3000, "a"));
    until(&mut follower.watch(), "it is in step", |held| held.cursor == head).await;
    until(&mut offer.progress.subscribe(), "and says so", |board| board["policy"].acked == Some(head)).await;
    assert_eq!(offer.progress("policy").sent_items, 0);
}

#[tokio::test]
async fn a_reject_keeps_the_last_good_item_and_its_reason_is_known() {
    let tls = tls();
    let view = Published::new(lineage(1, 1));
    let follower = Follower::memory(Absence::Keep)
        .accepting(|_, payload| if payload.starts_with(b"!") { Err("no".to_owned()) } else { Ok(()) });
    view.replace(items(3, "good"));
    let offer = Offer::new(publishes("config", &view));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let _client = Client::start(&tls, server.addr, follows("config", &follower));
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 3).await;
    let head = view.commit([(key("item-0001"), Some(payload("!"))), (key("item-0002"), Some(payload("better")))]);
    until(&mut follower.watch(), "the change arrives", |held| held.cursor == head).await;
    let held = follower.held();
    assert_eq!(held.items["item-0001"], payload("good"));
    assert_eq!(held.items["item-0002"], payload("better"));
    let rejects = [Reject { key: key("item-0001"), reason: "no".into() }];
    until(&mut offer.progress.subscribe(), "the reject is known", |board| board["config"].rejects == rejects).await;
    view.commit([(key("item-0001"), Some(payload("fine")))]);
    until(&mut offer.progress.subscribe(), "it is gone", |board| board["config"].rejects.is_empty()).await;
    assert_eq!(follower.held().items["item-0001"], payload("fine"));
}

#[tokio::test]
async fn a_lost_history_deletes_nothing_until_it_is_adopted() {
    let tls = tls();
    let follower = Follower::memory(Absence::Keep);
    let view = Published::new(lineage(1, 8844));
    view.replace(items(10, "a"));
    let offer = Offer::new(publishes("policy", &view));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let _client = Client::start(&tls, server.addr, follows("policy", &follower));
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 10).await;

    view.transact(lineage(2, 1), items(10, "a").into_keys().map(|key| (key, None)));
    until(&mut follower.watch(), "it is noticed", |held| held.estranged.is_some()).await;
    until(&mut offer.progress.subscribe(), "and said", |board| board["policy"].declined).await;
    let held = follower.held();
    assert_eq!(*held.items, items(10, "a"));
    let told = held.estranged.unwrap().to_string();
    assert!(told.starts_with("the publisher lost its history at revision 8844"), "{told}");
    assert!(follower.link().borrow().connected, "and yet they talk");

    view.set_lineage(lineage(1, 8845));
    let head = view.replace(items(10, "b"));
    until(&mut follower.watch(), "the true one is heard again", |held| held.cursor == head).await;
    assert_eq!(follower.held().estranged, None);

    let head = view.transact(lineage(3, 1), items(9, "b").into_keys().map(|key| (key, None)));
    until(&mut follower.watch(), "it is noticed", |held| held.estranged.is_some()).await;
    assert_eq!(follower.held().items.len(), 10);
    follower.adopt().unwrap();
    until(&mut follower.watch(), "it is adopted", |held| held.cursor == head).await;
    assert_eq!(follower.held().items.len(), 1);
    assert_eq!(follower.held().lineage, Some(lineage(3, 1)));
}

#[tokio::test]
async fn a_frozen_peer_is_dropped_by_both_sides_and_is_back_after_the_thaw() {
    let tls = tls();
    let (view, follower) = (Published::new(lineage(1, 1)), Follower::memory(Absence::Keep));
    view.replace(items(3, "a"));
    let offer = Offer::new(publishes("policy", &view));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let wire = Wire::to(server.addr).await;
    let _client = Client::start(&tls, wire.addr, follows("policy", &follower));
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 3).await;

    let start = Instant::now();
    wire.frozen.send_replace(true);
    let (mut link, mut open) = (follower.link(), offer.open.subscribe());
    tokio::join!(
        until(&mut link, "the follower notices", |link| !link.connected),
        until(&mut open, "the publisher notices", |open| *open == 0),
    );
    assert!(start.elapsed() < FROZEN_IS_GONE, "{:?}", start.elapsed());
    assert_eq!(follower.held().items.len(), 3);
    let link = follower.link().borrow().clone();
    assert!(link.last_heard_ms <= link.since_ms && link.error.is_some(), "{link:?}");

    let head = view.replace(items(3, "b"));
    let start = Instant::now();
    wire.frozen.send_replace(false);
    until(&mut follower.watch(), "it is back", |held| held.cursor == head).await;
    assert!(start.elapsed() < BACK_AFTER_THAW, "{:?}", start.elapsed());
    assert!(follower.link().borrow().connected);
}

#[tokio::test]
async fn whoever_never_answers_is_left_alone() {
    let tls = tls();
    // A client that connects and says nothing.
    let server = Server::start(&tls, Offer::new(Channels::default()), Admission::default()).await;
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    let start = Instant::now();
    let dropped = timeout(SOON, silent.read(&mut [0; 16])).await.unwrap();
    assert!(matches!(dropped, Ok(0) | Err(_)));
    assert!(start.elapsed() < FROZEN_IS_GONE, "{:?}", start.elapsed());
    // A client that shakes hands and says nothing.
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let mut silent = tokio_rustls::TlsConnector::from(tls.client.clone()).connect(name, tcp).await.unwrap();
    let start = Instant::now();
    let mut said = Vec::new();
    let _ = timeout(SOON, silent.read_to_end(&mut said)).await.unwrap();
    assert!(start.elapsed() < FROZEN_IS_GONE, "{:?}", start.elapsed());

    // A server that listens and says nothing, next to one that works.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (view, follower) = (Published::new(lineage(1, 1)), Follower::memory(Absence::Keep));
    view.replace(items(3, "a"));
    let server = Server::start(&tls, Offer::new(publishes("policy", &view)), Admission::default()).await;
    let mute = mute.local_addr().map(|addr| (addr, mute)).unwrap();
    let client = Client::start(&tls, mute.0, follows("policy", &follower));
    client.addresses.send_replace(vec![mute.0.to_string(), server.addr.to_string()]);
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 3).await;
}

#[tokio::test]
async fn the_refused_come_back_when_they_were_told_to() {
    let tls = tls();
    let view = Published::new(lineage(1, 1));
    let head = view.replace(items(3, "a"));
    let offer = Offer::new(publishes("policy", &view));
    let admission = Admission { max_concurrent_opens: 8, per_second: 2 };
    let server = Server::start(&tls, offer.clone(), admission).await;
    let start = Instant::now();
    let followers: Vec<Follower> = (0..6).map(|_| Follower::memory(Absence::Keep)).collect();
    let _clients: Vec<Client> =
        followers.iter().map(|follower| Client::start(&tls, server.addr, follows("policy", follower))).collect();
    for follower in &followers {
        until(&mut follower.watch(), "everybody gets in", |held| held.cursor == head).await;
    }
    assert!(start.elapsed() > Duration::from_secs(1), "two per second were admitted, and two at once");
    assert_eq!(offer.admitted.load(Ordering::Relaxed), 6);
}

#[tokio::test]
async fn another_major_version_is_told_so() {
    use api::sync_v1::{Frame, frame::Body, sync_client::SyncClient};
    let tls = tls();
    let server = Server::start(&tls, Offer::new(Channels::default()), Admission::default()).await;
    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(tls.client.clone()).connect(name, tcp).await.unwrap();
    let mut once = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        std::future::ready(once.take().ok_or(std::io::ErrorKind::NotFound).map_err(std::io::Error::from))
    });
    let channel =
        tonic::transport::Endpoint::from_static("http://weft").connect_with_connector(connector).await.unwrap();
    let mut open = crate::session::open("later", "9", &Channels::default());
    if let Some(Body::Open(open)) = &mut open.body {
        open.protocol = 2;
    }
    let mut answers = SyncClient::new(channel).replicate(tokio_stream::once(open)).await.unwrap().into_inner();
    let Some(Frame { body: Some(Body::Bye(bye)), .. }) = answers.message().await.unwrap() else { panic!("no bye") };
    assert!(bye.reason.contains("protocol 2"), "{}", bye.reason);
    assert!(bye.retry_after_ms > 0);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_new_connection_takes_over_from_one_that_hangs() {
    let tls = tls();
    let report = Follower::memory(Absence::Follow);
    let offer = Offer::new(follows("report", &report));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let (old, new) = (Published::new(lineage(1, 1)), Published::new(lineage(2, 1)));
    old.replace(items(3, "old"));
    let _first = Client::start(&tls, server.addr, publishes("report", &old));
    until(&mut report.watch(), "the first is heard", |held| held.items.len() == 3).await;
    new.replace(items(5, "new"));
    let second = Client::start(&tls, server.addr, publishes("report", &new));
    until(&mut report.watch(), "the second is heard", |held| *held.items == items(5, "new")).await;
    drop(_first);
    new.replace(items(6, "new"));
    until(&mut report.watch(), "and stays", |held| held.items.len() == 6).await;
    drop(second);
    until(&mut offer.open.subscribe(), "all end", |open| *open == 0).await;
    assert!(!report.link().borrow().connected);
}
