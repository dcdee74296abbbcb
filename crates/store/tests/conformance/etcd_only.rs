//! Facts about etcd that no other store can have: it is another process, and may be gone or half filled.

use crate::bench::{Bench, key, object, put, says};
use etcd_client::{Client, PutOptions};
use futures_util::StreamExt;
use std::net::TcpListener;
use std::time::{Duration, Instant};
use store::{Etcd, Expect, Lineage, StoreError};

const ROOT: &str = "/weft/v1/history";

/// Writes the root record as somebody else left it.
async fn set_root(client: &mut Client, root: &str) {
    client.put(ROOT, root, None::<PutOptions>).await.unwrap();
}

#[tokio::test]
async fn a_watch_survives_a_crash_of_etcd() {
    let Some(bench) = Bench::etcd("a_watch_survives_a_crash_of_etcd").await else { return };
    let store = bench.open().await;
    let begin = put(&*store, "a", 1).await;
    let mut watch = store.watch(begin).await.unwrap();
    put(&*store, "a", 2).await;
    assert_eq!(says(&watch.next().await.unwrap().unwrap().object.unwrap()), 2);

    bench.server().restart();
    // A second client tells when it is back; the first finds out by itself.
    put(&*bench.open().await, "a", 3).await;
    let change = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("in time");
    assert_eq!(says(&change.unwrap().unwrap().object.unwrap()), 3);
    put(&*store, "a", 4).await;
    assert_eq!(says(&watch.next().await.unwrap().unwrap().object.unwrap()), 4);
}

#[tokio::test]
async fn an_etcd_that_is_not_there_is_said_in_time() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begun = Instant::now();
    let refused = store::open(&format!("etcd:http://{unused}")).await.err().expect("refused");
    assert!(matches!(refused, StoreError::Unavailable { .. }) && refused.is_transient(), "{refused}");
    let said = refused.to_string();
    assert!(said.contains(&format!("the store etcd at http://{unused} does not answer: ")), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn processes_that_start_together_agree_on_one_history() {
    let Some(bench) = Bench::etcd("processes_that_start_together_agree_on_one_history").await else { return };
    let (one, other) = tokio::join!(bench.open(), bench.open());
    assert_eq!(one.lineage().await.unwrap().history, other.lineage().await.unwrap().history);
    // And each sees what the other writes.
    let mut watch = other.watch(other.lineage().await.unwrap().revision).await.unwrap();
    let revision = put(&*one, "a", 1).await;
    assert_eq!(watch.next().await.unwrap().unwrap().revision, revision);
    assert!(other.put(&key("a"), object("a", 2), Expect::Absent).await.is_err());
}

#[tokio::test]
async fn half_of_a_backup_is_not_served_and_can_be_restored_again() {
    let Some(bench) = Bench::etcd("half_of_a_backup_is_not_served_and_can_be_restored_again").await else { return };
    let store = bench.open().await;
    let mut client = bench.server().client().await;
    // What a restore leaves that was killed between two of its transactions.
    put(&*store, "half", 1).await;
    set_root(&mut client, r#"{"format":1,"history":5,"offset":0,"base":0,"restoring":true}"#).await;

    let refused = store.list().await.unwrap_err();
    assert!(matches!(refused, StoreError::HalfRestored { .. }), "{refused}");
    assert!(store.put(&key("a"), object("a", 1), Expect::Any).await.is_err());
    let lineage = Lineage { history: 4711, revision: 9000 };
    store.restore(lineage, vec![(key("whole"), object("whole", 2))]).await.unwrap();
    let listing = store.list().await.unwrap();
    assert!(listing.objects.iter().map(says).eq([2]));
    assert_eq!(store.lineage().await.unwrap().history, 4711);
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused() {
    let Some(bench) = Bench::etcd("what_a_newer_version_wrote_is_refused").await else { return };
    drop(bench.open().await);
    let mut client = bench.server().client().await;
    set_root(&mut client, r#"{"format":2,"history":5}"#).await;
    let refused = Etcd::connect(&[bench.server().url()]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Newer { found: 2, known: 1, .. }), "{refused}");
}
