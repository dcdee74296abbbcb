//! Facts about watches.

use crate::bench::{Bench, KEPT, key, put, says};
use futures_util::{FutureExt, StreamExt};
use store::{Change, Expect, Lineage, StoreError, Watch};

/// The next changes, as name and what the object says; `None` for a deletion.
async fn next(watch: &mut Watch, count: usize) -> Vec<(u64, String, Option<usize>)> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let Change { revision, key, object } = watch.next().await.expect("goes on").unwrap();
        if let Some(object) = &object {
            assert_eq!(object.metadata.revision, Some(revision));
        }
        seen.push((revision, key.name.to_string(), object.as_ref().map(says)));
    }
    seen
}

pub async fn a_watch_shows_every_change_once_and_in_order(bench: &Bench) {
    const EACH: usize = 50;
    let store = bench.open().await;
    let begin = store.list().await.unwrap().revision;
    let mut early = store.watch(begin).await.unwrap();
    let writers = ["a", "b", "c"].map(|name| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut wrote = Vec::new();
            for n in 0..EACH {
                wrote.push((put(&*store, name, n).await, name.to_owned(), Some(n)));
            }
            wrote.push((store.delete(&key(name), Expect::Any).await.unwrap(), name.to_owned(), None));
            wrote
        })
    });
    // Some of it while it happens ...
    let mut seen = next(&mut early, EACH).await;
    let mut wrote = Vec::new();
    for writer in writers {
        wrote.extend(writer.await.unwrap());
    }
    wrote.sort();
    // ... and the rest afterwards.
    seen.extend(next(&mut early, wrote.len() - EACH).await);
    assert_eq!(seen, wrote);
    let mut late = store.watch(begin).await.unwrap();
    assert_eq!(next(&mut late, wrote.len()).await, wrote);
    assert!(late.next().now_or_never().is_none(), "nothing more has happened");
}

pub async fn a_watch_continues_after_any_revision(bench: &Bench) {
    let store = bench.open().await;
    let mut revisions = Vec::new();
    for n in 0..5 {
        revisions.push(put(&*store, "a", n).await);
    }
    for n in 0..5 {
        let mut watch = store.watch(revisions[n]).await.unwrap();
        let rest: Vec<_> = next(&mut watch, 4 - n).await.into_iter().map(|(revision, ..)| revision).collect();
        assert_eq!(rest, revisions[n + 1..]);
    }
}

pub async fn a_watch_continues_over_a_restart(bench: &Bench) {
    let store = bench.open().await;
    if !bench.is_durable() {
        return;
    }
    let begin = put(&*store, "a", 0).await;
    let before = put(&*store, "a", 1).await;
    let deleted = store.delete(&key("a"), Expect::Any).await.unwrap();
    let store = bench.restart(store).await;
    let mut watch = store.watch(begin).await.unwrap();
    let after = put(&*store, "a", 2).await;
    let name = || "a".to_owned();
    let wanted = [(before, name(), Some(1)), (deleted, name(), None), (after, name(), Some(2))];
    assert_eq!(next(&mut watch, 3).await, wanted);
}

pub async fn a_watch_over_a_gap_is_refused(bench: &Bench) {
    let store = bench.open().await;
    let begin = put(&*store, "a", 0).await;
    put(&*store, "a", 1).await;
    bench.forget(&*store).await;
    let refused = store.watch(begin).await.err().expect("refused");
    assert!(matches!(refused, StoreError::Compacted { after } if after == begin), "{refused}");
    // The way out that the error names.
    let listing = store.list().await.unwrap();
    let mut watch = store.watch(listing.revision).await.unwrap();
    let revision = put(&*store, "a", 2).await;
    assert_eq!(next(&mut watch, 1).await, [(revision, "a".to_owned(), Some(2))]);
}

pub async fn a_watch_from_the_future_is_refused(bench: &Bench) {
    let store = bench.open().await;
    let revision = put(&*store, "a", 0).await;
    let refused = store.watch(revision + 1000).await.err();
    assert!(matches!(refused, Some(StoreError::Compacted { .. })), "it can only be about another history");
}

pub async fn a_slow_watcher_costs_the_writers_nothing(bench: &Bench) {
    let store = bench.open().await;
    let begin = put(&*store, "a", 0).await;
    let mut slow = store.watch(begin).await.unwrap();
    for n in 1..=KEPT {
        put(&*store, "a", n).await;
    }
    let seen: Vec<_> = next(&mut slow, KEPT).await.into_iter().map(|(_, _, says)| says.unwrap()).collect();
    assert!(seen.into_iter().eq(1..=KEPT), "everything the store keeps is still shown");
}

pub async fn a_restore_ends_the_watches_of_the_history_before(bench: &Bench) {
    let store = bench.open().await;
    let begin = store.lineage().await.unwrap().revision;
    let mut watch = store.watch(begin).await.unwrap();
    store.restore(Lineage { history: 4711, revision: 9000 }, Vec::new()).await.unwrap();
    let end = watch.next().await.expect("an error, not silence");
    assert!(matches!(end, Err(StoreError::Compacted { .. })), "{end:?}");
    assert!(watch.next().await.is_none());
}
