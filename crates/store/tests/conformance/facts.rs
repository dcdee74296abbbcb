//! Facts about writing, reading, restarting and restoring.

use crate::bench::{Bench, key, object, put, says};
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{Expect, Lineage, OBJECT_BYTES_MAX, Store, StoreError};

pub async fn a_write_is_found_at_its_revision(bench: &Bench) {
    let store = bench.open().await;
    let empty = store.list().await.unwrap();
    assert!(empty.objects.is_empty());
    let first = put(&*store, "a", 1).await;
    let second = put(&*store, "b", 2).await;
    let third = put(&*store, "a", 3).await;
    assert!(empty.revision < first && first < second && second < third);

    let found = store.get(&key("a")).await.unwrap().expect("written");
    assert_eq!((says(&found), found.metadata.revision), (3, Some(third)));
    let listing = store.list().await.unwrap();
    assert_eq!(listing.revision, third);
    let listed: Vec<_> = listing.objects.iter().map(|object| (says(object), object.metadata.revision)).collect();
    assert_eq!(listed, [(3, Some(third)), (2, Some(second))]);
    assert_eq!(store.lineage().await.unwrap().revision, third);
    assert!(store.get(&key("c")).await.unwrap().is_none());
}

pub async fn what_others_say_about_an_object_is_not_stored(bench: &Bench) {
    let store = bench.open().await;
    let mut given = object("a", 1);
    given.metadata.revision = Some(777);
    given.status = Some(serde_json::json!({ "programmed": 3 }));
    let revision = store.put(&key("a"), given, Expect::Any).await.unwrap();
    let found = store.get(&key("a")).await.unwrap().unwrap();
    assert_eq!((found.metadata.revision, found.status), (Some(revision), None));
}

pub async fn a_conflict_carries_what_is_there(bench: &Bench) {
    let store = bench.open().await;
    let current = |result: Result<u64, StoreError>| match result {
        Err(StoreError::Conflict { current, .. }) => current.map(|object| (says(&object), object.metadata.revision)),
        other => panic!("no conflict but {other:?}"),
    };
    let first = store.put(&key("a"), object("a", 1), Expect::Absent).await.unwrap();
    let again = store.put(&key("a"), object("a", 2), Expect::Absent).await;
    assert_eq!(current(again), Some((1, Some(first))));
    let second = store.put(&key("a"), object("a", 2), Expect::Revision(first)).await.unwrap();
    let late = store.put(&key("a"), object("a", 3), Expect::Revision(first)).await;
    assert_eq!(current(late), Some((2, Some(second))));
    assert_eq!(current(store.delete(&key("a"), Expect::Revision(first)).await), Some((2, Some(second))));
    assert_eq!(current(store.put(&key("b"), object("b", 1), Expect::Revision(second)).await), None);
    assert_eq!(current(store.delete(&key("b"), Expect::Revision(second)).await), None);
    // A refused write leaves no trace.
    assert_eq!(store.lineage().await.unwrap().revision, second);
}

pub async fn a_deleted_object_is_gone_and_can_come_back(bench: &Bench) {
    let store = bench.open().await;
    let first = put(&*store, "a", 1).await;
    let deleted = store.delete(&key("a"), Expect::Revision(first)).await.unwrap();
    assert!(deleted > first);
    assert!(store.get(&key("a")).await.unwrap().is_none());
    assert!(store.list().await.unwrap().objects.is_empty());
    assert_eq!(store.delete(&key("a"), Expect::Any).await.unwrap(), deleted, "nothing to delete, nothing changed");
    let back = store.put(&key("a"), object("a", 2), Expect::Absent).await.unwrap();
    assert!(back > deleted);
}

pub async fn concurrent_writers_lose_nothing(bench: &Bench) {
    const WRITERS: usize = 8;
    const TIMES: usize = 10;
    let store = bench.open().await;
    put(&*store, "sum", 0).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let store: Arc<dyn Store> = store.clone();
        writers.push(tokio::spawn(async move {
            let mut revisions = Vec::new();
            while revisions.len() < TIMES {
                let present = store.get(&key("sum")).await.unwrap().unwrap();
                let expect = Expect::Revision(present.metadata.revision.unwrap());
                match store.put(&key("sum"), object("sum", says(&present) + 1), expect).await {
                    Ok(revision) => revisions.push(revision),
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            revisions
        }));
    }
    let mut revisions = BTreeSet::new();
    for writer in writers {
        revisions.extend(writer.await.unwrap());
    }
    assert_eq!(revisions.len(), WRITERS * TIMES, "every write has a revision of its own");
    assert_eq!(says(&store.get(&key("sum")).await.unwrap().unwrap()), WRITERS * TIMES);
}

pub async fn an_unreasonably_large_object_is_refused(bench: &Bench) {
    let store = bench.open().await;
    let mut large = object("a", 1);
    large.spec["fill"] = "x".repeat(OBJECT_BYTES_MAX - 400).into();
    store.put(&key("a"), large.clone(), Expect::Any).await.expect("just fits");
    large.spec["fill"] = "x".repeat(OBJECT_BYTES_MAX).into();
    let refused = store.put(&key("a"), large, Expect::Any).await.unwrap_err();
    assert!(matches!(refused, StoreError::Large { limit: OBJECT_BYTES_MAX, .. }), "{refused}");
}

pub async fn many_objects_are_listed_completely(bench: &Bench) {
    let store = bench.open().await;
    let names: Vec<String> = (0..200).map(|n| format!("o{n:03}")).collect();
    for (n, name) in names.iter().enumerate() {
        put(&*store, name, n).await;
    }
    let listed = store.list().await.unwrap().objects;
    assert!(listed.iter().map(says).eq(0..200), "in the order of their keys");
}

pub async fn revisions_and_history_survive_a_restart(bench: &Bench) {
    let store = bench.open().await;
    if !bench.is_durable() {
        return;
    }
    put(&*store, "a", 1).await;
    let (lineage, listing) = (store.lineage().await.unwrap(), store.list().await.unwrap());
    let store = bench.restart(store).await;
    assert_eq!(store.lineage().await.unwrap(), lineage);
    assert_eq!(store.list().await.unwrap(), listing);
    assert!(put(&*store, "a", 2).await > lineage.revision);
}

pub async fn a_new_store_is_a_new_history(bench: &Bench) {
    let one = bench.open().await.lineage().await.unwrap();
    let other = Bench::file().open().await.lineage().await.unwrap();
    assert!(one.history != 0 && other.history != 0 && one.history != other.history);
}

fn backup(count: usize) -> Vec<(api::Key, api::Object)> {
    let names = (0..count).map(|n| (format!("o{n:03}"), n));
    names.map(|(name, n)| (key(&name), object(&name, n))).collect()
}

pub async fn a_backup_fills_an_empty_store_and_its_history_goes_on(bench: &Bench) {
    let store = bench.open().await;
    // Not new, but empty.
    let there = put(&*store, "a", 1).await;
    store.delete(&key("a"), Expect::Revision(there)).await.unwrap();
    let lineage = Lineage { history: 4711, revision: 9000 };
    store.restore(lineage, backup(250)).await.unwrap();

    let now = store.lineage().await.unwrap();
    assert_eq!(now.history, 4711);
    assert!(now.revision >= 9000);
    let listing = store.list().await.unwrap();
    assert!(listing.objects.iter().map(says).eq(0..250));
    assert!(listing.objects.iter().all(|object| object.metadata.revision.unwrap() <= listing.revision));
    let seventh = listing.objects[7].metadata.revision.unwrap();
    let next = store.put(&key("o007"), object("o007", 8), Expect::Revision(seventh)).await.unwrap();
    assert!(next > 9000);
    let before = store.watch(8999).await.err();
    assert!(matches!(before, Some(StoreError::Compacted { after: 8999 })), "what was before is not here");
    if bench.is_durable() {
        assert_eq!(bench.restart(store).await.lineage().await.unwrap(), Lineage { history: 4711, revision: next });
    }
}

pub async fn a_backup_is_not_restored_over_anything(bench: &Bench) {
    let store = bench.open().await;
    put(&*store, "a", 1).await;
    let before = (store.lineage().await.unwrap(), store.list().await.unwrap());
    let refused = store.restore(Lineage { history: 4711, revision: 9000 }, backup(3)).await.unwrap_err();
    assert!(matches!(refused, StoreError::NotEmpty { objects: 1 }), "{refused}");
    assert_eq!((store.lineage().await.unwrap(), store.list().await.unwrap()), before);
}
