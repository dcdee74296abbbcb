//! A watch over etcd that survives lost connections: it goes on behind the last change it handed out.

use super::connection::{Connection, is_compacted};
use super::root::{self, PREFIX, ROOT, Root};
use crate::{Change, Result, StoreError, Watch, document};
use etcd_client::{Event, EventType, GetOptions, WatchOptions, WatchResponse};
use futures_util::stream;
use std::time::Duration;
use tokio::sync::mpsc;
use tracing::warn;

/// Changes read ahead of a watcher; etcd holds back the rest.
const AHEAD: usize = 64;
/// Pause after a lost connection; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Why a stream of etcd ended.
enum End {
    /// Nobody listens any more, or an error was handed out.
    Done,
    /// The connection broke.
    Broken(String),
}

struct Watcher {
    connection: Connection,
    root: Root,
    after: u64,
    listener: mpsc::Sender<Result<Change>>,
}

/// Follows changes after a revision.
pub async fn open(connection: &Connection, after: u64) -> Result<Watch> {
    let (root, head) = root::read(connection).await?;
    let compacted = StoreError::Compacted { after };
    if after < root.base || after > root.revision(head) {
        return Err(compacted);
    }
    // Asked now, as etcd says it only after the watch began.
    let at = GetOptions::new().with_keys_only().with_revision(root.etcd_revision(after).max(1));
    match connection.get(ROOT.into(), Some(at)).await {
        Err(error) if is_compacted(&error) => return Err(compacted),
        answer => drop(answer?),
    }
    let (listener, changes) = mpsc::channel(AHEAD);
    tokio::spawn(Watcher { connection: connection.clone(), root, after, listener }.run());
    Ok(Box::pin(stream::unfold(changes, |mut changes| async {
        let change = changes.recv().await?;
        Some((change, changes))
    })))
}

impl Watcher {
    async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        loop {
            let before = self.after;
            let End::Broken(detail) = self.stream().await else { return };
            if self.after > before {
                pause = PAUSE_MIN;
            }
            warn!(place = self.connection.place, after = self.after, detail, "the watch broke; connecting again");
            tokio::select! {
                () = self.listener.closed() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            }
        }
    }

    async fn stream(&mut self) -> End {
        let next = self.root.etcd_revision(self.after) + 1;
        let options = WatchOptions::new().with_prefix().with_start_revision(next);
        let mut watches = self.connection.watches();
        let mut stream = match self.connection.answer(watches.watch(PREFIX, Some(options))).await {
            Ok(stream) => stream,
            Err(error) => return End::Broken(error.to_string()),
        };
        loop {
            let message = tokio::select! {
                () = self.listener.closed() => return End::Done,
                message = stream.message() => message,
            };
            let end = match message {
                Ok(Some(response)) => self.take(&response).await,
                Ok(None) => Some(End::Broken("the stream ended".to_owned())),
                Err(error) => Some(End::Broken(error.to_string())),
            };
            if let Some(end) = end {
                return end;
            }
        }
    }

    async fn take(&mut self, response: &WatchResponse) -> Option<End> {
        if response.compact_revision() > 0 {
            return self.refuse(StoreError::Compacted { after: self.after }).await;
        }
        if response.canceled() {
            return Some(End::Broken(response.cancel_reason().to_owned()));
        }
        for event in response.events() {
            let change = match self.change(event) {
                Ok(Some(change)) => change,
                Ok(None) => continue,
                Err(error) => return self.refuse(error).await,
            };
            if self.listener.send(Ok(change)).await.is_err() {
                return Some(End::Done);
            }
        }
        // Only now: the events of one revision come in one response, and are handed out together or again.
        if let Some(last) = response.events().last().and_then(Event::kv) {
            self.after = self.root.revision(last.mod_revision());
        }
        None
    }

    async fn refuse(&self, error: StoreError) -> Option<End> {
        // A listener that went away needs no error.
        let _ = self.listener.send(Err(error)).await;
        Some(End::Done)
    }

    /// `None` for events that are not about an object.
    fn change(&self, event: &Event) -> Result<Option<Change>> {
        let place = &self.connection.place;
        let Some(found) = event.kv() else { return Ok(None) };
        if found.key() == ROOT.as_bytes() {
            let now = Root::decode(place, found.value(), found.mod_revision())?;
            let same = now.history == self.root.history && now.offset == self.root.offset && !now.restoring;
            return if same { Ok(None) } else { Err(StoreError::Compacted { after: self.after }) };
        }
        let text = root::key_text(place, found.key())?;
        let revision = self.root.revision(found.mod_revision());
        let object = match event.event_type() {
            EventType::Put => Some(document::decode(place, text, found.value(), revision)?),
            EventType::Delete => None,
        };
        Ok(Some(Change { revision, key: document::key(place, text)?, object }))
    }
}
