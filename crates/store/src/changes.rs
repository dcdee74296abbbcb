//! A watch over a store that keeps a log of changes itself: no queue per watcher, only a place in the log.

use crate::{Change, Lineage, Result, StoreError, Watch};
use futures_util::future::BoxFuture;
use futures_util::stream;
use std::collections::VecDeque;
use tokio::sync::watch;

/// Changes read from the log at a time.
pub const REPLAY: usize = 64;

/// Reads up to [`REPLAY`] changes after a revision; `None` when the store is gone.
pub type Read = Box<dyn Fn(u64) -> BoxFuture<'static, Option<Result<Vec<Change>>>> + Send>;

struct Watcher {
    /// History the watch is about; a restore begins another and ends the watch.
    history: u64,
    after: u64,
    /// Read, not yet handed out.
    pending: VecDeque<Change>,
    head: watch::Receiver<Lineage>,
    read: Read,
}

/// Follows the log behind `read` from `after`, woken by `head`.
pub fn follow(after: u64, head: watch::Receiver<Lineage>, read: Read) -> Watch {
    let history = head.borrow().history;
    let watcher = Watcher { history, after, pending: VecDeque::new(), head, read };
    Box::pin(stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        match watcher.next().await? {
            Ok(change) => Some((Ok(change), Some(watcher))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Change>> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                self.after = change.revision;
                return Some(Ok(change));
            }
            let (history, after) = (self.history, self.after);
            let news = |head: &Lineage| head.history != history || head.revision > after;
            let head = *self.head.wait_for(news).await.ok()?;
            if head.history != history {
                return Some(Err(StoreError::Compacted { after }));
            }
            match (self.read)(after).await? {
                Ok(changes) => self.pending = changes.into(),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
