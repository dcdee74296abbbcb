//! The follower's disk: torn, full, newer, gone.

use super::world::*;
use crate::*;
use std::fs::OpenOptions;
use std::io::Write;

#[tokio::test]
async fn a_durable_follower_begins_where_its_disk_is_without_any_publisher() {
    let tls = tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.journal");
    let view = Published::new(lineage(1, 1));
    view.replace(items(50, "a"));
    let offer = Offer::new(publishes("policy", &view));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let follower = Follower::durable(&path, Absence::Keep).unwrap();
    let client = Client::start(&tls, server.addr, follows("policy", &follower));
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 50).await;
    let before = std::fs::metadata(&path).unwrap().len();
    let head = view.transact(lineage(1, 2), [(key("item-0003"), None), (key("last"), Some(payload("b")))]);
    until(&mut follower.watch(), "the change arrives", |held| held.cursor == head).await;
    drop(client);
    server.stop().await;

    let again = Follower::durable(&path, Absence::Keep).unwrap();
    assert_eq!(again.held().items, follower.held().items);
    assert_eq!((again.held().cursor, again.held().lineage), (head, Some(lineage(1, 2))));

    // Wherever the last record is torn, the one before it stands, and the rest comes again.
    let whole = std::fs::read(&path).unwrap();
    for cut in [before as usize + 1, before as usize + 13, whole.len() - 1] {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let torn = Follower::durable(&path, Absence::Keep).unwrap();
        assert_eq!(*torn.held().items, items(50, "a"));
    }
    let torn = Follower::durable(&path, Absence::Keep).unwrap();
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let sent = offer.progress("policy").sent_items;
    let _client = Client::start(&tls, server.addr, follows("policy", &torn));
    until(&mut torn.watch(), "the rest comes again", |held| held.cursor == head).await;
    until(&mut offer.progress.subscribe(), "and only the rest", |board| board["policy"].sent_items == sent + 2).await;
    assert_eq!(Follower::durable(&path, Absence::Keep).unwrap().held().items, torn.held().items);
}

#[tokio::test]
async fn a_full_disk_keeps_the_last_good_state_and_acknowledges_nothing() {
    let tls = tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.journal");
    let follower = Follower::durable(&path, Absence::Keep).unwrap();
    let view = Published::new(lineage(1, 1));
    let good = view.replace(items(5, "a"));
    let offer = Offer::new(publishes("policy", &view));
    let server = Server::start(&tls, offer.clone(), Admission::default()).await;
    let _client = Client::start(&tls, server.addr, follows("policy", &follower));
    until(&mut offer.progress.subscribe(), "the first ack", |board| {
        board.get("policy").is_some_and(|progress| progress.acked == Some(good))
    })
    .await;

    let disk = follower.swap_file(OpenOptions::new().write(true).open("/dev/full").unwrap());
    let head = view.replace(items(5, "b"));
    until(&mut follower.link(), "the failure is told", |link| {
        link.error.as_ref().is_some_and(|error| error.contains("is the disk full"))
    })
    .await;
    assert_eq!(*follower.held().items, items(5, "a"));
    assert_eq!(offer.progress("policy").acked, Some(good));

    follower.swap_file(disk);
    until(&mut follower.watch(), "it goes on when there is room", |held| held.cursor == head).await;
    until(&mut offer.progress.subscribe(), "and says so", |board| board["policy"].acked == Some(head)).await;
    assert_eq!(*Follower::durable(&path, Absence::Keep).unwrap().held().items, items(5, "b"));
}

#[tokio::test]
async fn an_adoption_outlives_the_process() {
    let tls = tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.journal");
    let follower = Follower::durable(&path, Absence::Keep).unwrap();
    let view = Published::new(lineage(1, 9));
    view.replace(items(5, "a"));
    let server = Server::start(&tls, Offer::new(publishes("policy", &view)), Admission::default()).await;
    let client = Client::start(&tls, server.addr, follows("policy", &follower));
    until(&mut follower.watch(), "the content arrives", |held| held.items.len() == 5).await;
    view.transact(lineage(2, 1), [(key("item-0001"), None)]);
    until(&mut follower.watch(), "it is noticed", |held| held.estranged.is_some()).await;
    drop(client);
    until(&mut follower.link(), "the line is down", |link| !link.connected).await;
    follower.adopt().unwrap();
    let again = Follower::durable(&path, Absence::Keep).unwrap();
    assert_eq!(again.held().lineage, Some(lineage(2, 1)));
    assert_eq!(again.held().items.len(), 5);
    let _client = Client::start(&tls, server.addr, follows("policy", &again));
    until(&mut again.watch(), "the adopted history is followed", |held| held.items.len() == 4).await;
}

#[test]
fn a_grown_journal_is_rewritten_and_says_the_same() {
    use crate::journal::{Flush, Journal};
    use sync::{Replica, Transaction};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    let (mut journal, mut replica): (Journal, Replica) = Journal::open(&path, Absence::Keep, Flush::Disk).unwrap();
    let mut largest = 0;
    for rev in 1..2000 {
        let transaction = Transaction {
            upto: Cursor { epoch: 1, rev },
            lineage: lineage(1, rev),
            compared: false,
            set: vec![(Key::from(format!("item-{}", rev % 10)), Payload::from(vec![b'a'; 4096]))],
            removed: vec![Key::from(format!("item-{}", (rev + 5) % 10))],
            rejects: vec![Reject { key: Key::from(format!("bad-{}", rev % 3)), reason: "no".into() }],
        };
        journal.append(&transaction).unwrap();
        replica.apply(transaction);
        if journal.has_grown() {
            journal.rewrite(&replica.kept()).unwrap();
        }
        largest = largest.max(std::fs::metadata(&path).unwrap().len());
    }
    assert!(largest < 2 * JOURNAL_REWRITE_MIN, "{largest}");
    let (_, again) = Journal::open(&path, Absence::Keep, Flush::Disk).unwrap();
    assert_eq!(again.kept(), replica.kept());
    assert!(!folder.path().join("journal.new").exists());
}

#[test]
fn what_a_newer_version_wrote_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal");
    drop(Follower::durable(&path, Absence::Keep).unwrap());
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 2;
    std::fs::write(&path, &bytes).unwrap();
    let error = Follower::durable(&path, Absence::Keep).err().unwrap();
    assert!(error.to_string().contains("was written by a newer version"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);

    std::fs::File::create(&path).unwrap().write_all(b"something else entirely").unwrap();
    assert!(matches!(Follower::durable(&path, Absence::Keep), Err(JournalError::Foreign { .. })));
}

#[tokio::test]
async fn a_follower_that_left_its_disk_writes_nothing_until_it_is_back() {
    let tls = tls();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let config = Published::new(lineage(1, 1));
    config.replace(items(3, "a"));
    let server = Server::start(&tls, Offer::new(publishes("config", &config)), Admission::default()).await;
    let follower = Follower::kept(&path, Absence::Follow).unwrap();
    let _client = Client::start(&tls, server.addr, follows("config", &follower));
    until(&mut follower.watch(), "the config arrives", |held| *held.items == items(3, "a")).await;
    follower.leave_disk();
    let before = std::fs::read(&path).unwrap();
    config.replace(items(4, "b"));
    until(&mut follower.watch(), "the change is held", |held| *held.items == items(4, "b")).await;
    assert_eq!(std::fs::read(&path).unwrap(), before, "another process writes there");
    follower.back_to_disk().unwrap();
    assert_eq!(*Follower::kept(&path, Absence::Follow).unwrap().held().items, items(4, "b"));
}
