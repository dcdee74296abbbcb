//! One suite of facts for every store: what memory, a file and etcd promise alike.

#![allow(clippy::unwrap_used)] // clippy knows tests by their attribute, not the functions they share

#[path = "conformance/bench.rs"]
mod bench;
#[cfg(feature = "etcd")]
#[path = "conformance/etcd_only.rs"]
mod etcd_only;
#[path = "conformance/facts.rs"]
mod facts;
#[path = "conformance/watches.rs"]
mod watches;

use bench::Bench;
use std::time::Duration;

/// No fact takes longer unless something hangs.
const FACT_MAX: Duration = Duration::from_secs(60);

/// Makes a test of each fact for each store.
macro_rules! suite {
    ($($module:ident::$fact:ident,)*) => {
        mod memory {$(
            #[tokio::test]
            async fn $fact() {
                let bench = super::Bench::memory();
                tokio::time::timeout(super::FACT_MAX, super::$module::$fact(&bench)).await.expect("in time");
            }
        )*}
        mod file {$(
            #[tokio::test]
            async fn $fact() {
                let bench = super::Bench::file();
                tokio::time::timeout(super::FACT_MAX, super::$module::$fact(&bench)).await.expect("in time");
            }
        )*}
        #[cfg(feature = "etcd")]
        mod etcd {$(
            #[tokio::test]
            async fn $fact() {
                let Some(bench) = super::Bench::etcd(stringify!($fact)).await else { return };
                tokio::time::timeout(super::FACT_MAX, super::$module::$fact(&bench)).await.expect("in time");
            }
        )*}
    };
}

suite! {
    facts::a_write_is_found_at_its_revision,
    facts::what_others_say_about_an_object_is_not_stored,
    facts::a_conflict_carries_what_is_there,
    facts::a_deleted_object_is_gone_and_can_come_back,
    facts::concurrent_writers_lose_nothing,
    facts::an_unreasonably_large_object_is_refused,
    facts::many_objects_are_listed_completely,
    facts::revisions_and_history_survive_a_restart,
    facts::a_new_store_is_a_new_history,
    facts::a_backup_fills_an_empty_store_and_its_history_goes_on,
    facts::a_backup_is_not_restored_over_anything,
    watches::a_watch_shows_every_change_once_and_in_order,
    watches::a_watch_continues_after_any_revision,
    watches::a_watch_continues_over_a_restart,
    watches::a_watch_over_a_gap_is_refused,
    watches::a_watch_from_the_future_is_refused,
    watches::a_slow_watcher_costs_the_writers_nothing,
    watches::a_restore_ends_the_watches_of_the_history_before,
}
