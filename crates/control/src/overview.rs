//! Keeps the Zones page: folds what is observed when something changed, and on a ticker only while somebody looks or
//! a change has not settled. Turns two pages into the difference that travels.

use crate::auth::{hex, random};
use crate::stream::event;
use api::health::{Event, LinkState, Overview, Status};
use bytes::Bytes;
use insight::{Memory, Observed, fold};
use process::clock::unix_ms;
use serde_json::{Map, Value, json};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, broadcast};
use tokio::time::{Instant, sleep_until};

/// Two folds are at least this far apart, so a page gets at most two deltas a second.
const FOLD_MIN: Duration = Duration::from_millis(500);
/// Between two folds while somebody looks.
const TICK: Duration = FOLD_MIN;
/// Between two folds while nobody looks and something is not well, or has just changed: verdicts need observations.
const OBSERVE: Duration = Duration::from_millis(insight::OBSERVE_MS);
/// A change is looked at once more after this, because a bad observation counts only when it is repeated.
const SETTLED_AFTER: Duration = Duration::from_millis(insight::OBSERVE_MS * 3 / 2);
/// Deltas kept for readers that are behind; whoever is further behind gets a snapshot.
const RING: usize = 32;

/// One serialised event, shared by all subscribers.
#[derive(Clone, Debug)]
pub struct Frame {
    /// `EPOCH.REVISION`.
    pub id: String,
    /// The event as it goes out.
    pub text: Bytes,
}

/// Handle to the page. Cheap to clone.
#[derive(Clone)]
pub struct Board {
    shared: Arc<Shared>,
}

struct Shared {
    observe: Box<dyn Fn() -> Observed + Send + Sync>,
    state: Mutex<State>,
    changed: Notify,
    /// Something changed since the last fold.
    dirty: AtomicBool,
    epoch: String,
}

struct State {
    memory: Memory,
    page: Arc<Overview>,
    folded_at: Option<Instant>,
    /// Counts pages that differ.
    revision: u64,
    /// `None` after the end.
    deltas: Option<broadcast::Sender<Frame>>,
}

/// One subscriber.
pub struct Looking {
    board: Board,
    deltas: broadcast::Receiver<Frame>,
}

impl Board {
    /// A page made of what `observe` answers.
    pub fn new(observe: impl Fn() -> Observed + Send + Sync + 'static) -> Self {
        let (deltas, _) = broadcast::channel(RING);
        let state = State {
            memory: Memory::default(),
            page: Arc::default(),
            folded_at: None,
            revision: 0,
            deltas: Some(deltas),
        };
        let epoch = hex(&random::<4>());
        let shared = Shared {
            observe: Box::new(observe),
            state: Mutex::new(state),
            changed: Notify::new(),
            dirty: AtomicBool::new(true),
            epoch,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Says that something observed has changed.
    pub fn changed(&self) {
        self.shared.dirty.store(true, Ordering::Release);
        self.shared.changed.notify_one();
    }

    /// Which run of the process numbers the pages.
    pub fn epoch(&self) -> &str {
        &self.shared.epoch
    }

    /// The page now; folded again when something changed, or time did.
    pub fn look(&self) -> Overview {
        self.fold_if_due();
        Overview::clone(&self.state().page)
    }

    /// Follows the page.
    pub fn subscribe(&self) -> Looking {
        self.fold_if_due();
        let state = self.state();
        let deltas = match &state.deltas {
            Some(deltas) => deltas.subscribe(),
            None => broadcast::channel(1).1,
        };
        drop(state);
        self.changed();
        Looking { board: self.clone(), deltas }
    }

    /// Folds as things change until `end`; then every subscriber is told goodbye. While all is well and nobody looks,
    /// nothing happens at all.
    pub async fn run(self, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        // Whoever is there needs a moment to say so; until then everybody looks lost.
        let first = Instant::now() + TICK;
        let mut settled = first;
        loop {
            let last = self.state().folded_at;
            let soonest = last.map_or(first, |at| at + FOLD_MIN);
            let pause = if self.is_watched() { Some(TICK) } else { self.is_unsettled(settled).then_some(OBSERVE) };
            let tick = async {
                match pause {
                    Some(pause) => sleep_until(last.map_or(first, |at| at + pause)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = &mut end => break,
                () = self.shared.changed.notified() => {
                    sleep_until(soonest).await;
                    settled = Instant::now() + SETTLED_AFTER;
                }
                () = tick => {}
            }
            self.fold();
        }
        self.state().deltas = None;
    }

    /// Whether the page may change though nothing else does: something is not well, or was not a moment ago.
    fn is_unsettled(&self, settled: Instant) -> bool {
        let page = self.state().page.clone();
        let unwell = page.zones.iter().any(|zone| zone.status != Status::Healthy && zone.seen_ms.is_some());
        Instant::now() < settled || unwell || page.links.iter().any(|link| link.state == LinkState::Down)
    }

    fn is_watched(&self) -> bool {
        self.state().deltas.as_ref().is_some_and(|deltas| deltas.receiver_count() > 0)
    }

    fn fold_if_due(&self) {
        let old = self.state().folded_at.is_none_or(|at| at.elapsed() >= FOLD_MIN);
        if old || self.shared.dirty.load(Ordering::Acquire) {
            self.fold();
        }
    }

    fn fold(&self) {
        self.shared.dirty.store(false, Ordering::Release);
        let observed = (self.shared.observe)();
        let mut state = self.state();
        let (page, memory) = fold(&observed, std::mem::take(&mut state.memory), unix_ms());
        state.memory = memory;
        state.folded_at = Some(Instant::now());
        let before = std::mem::replace(&mut state.page, Arc::new(page));
        let Some(delta) = difference(&before, &state.page) else { return };
        state.revision += 1;
        let watched = state.deltas.as_ref().filter(|deltas| deltas.receiver_count() > 0);
        if let Some(deltas) = watched {
            let id = self.id(state.revision);
            let text = event("delta", Some(&id), &delta.to_string()).into();
            let _ = deltas.send(Frame { id, text });
        }
    }

    fn id(&self, revision: u64) -> String {
        format!("{}.{revision}", self.shared.epoch)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Looking {
    /// The whole page as an event. Deltas that came before it are skipped.
    pub fn snapshot(&mut self) -> Frame {
        let state = self.board.state();
        if let Some(deltas) = &state.deltas {
            self.deltas = deltas.subscribe();
        }
        let id = self.board.id(state.revision);
        let data = serde_json::to_string(&*state.page).unwrap_or_default();
        drop(state);
        Frame { text: event("snapshot", Some(&id), &data).into(), id }
    }

    /// The next delta.
    pub async fn next(&mut self) -> Result<Frame, broadcast::error::RecvError> {
        self.deltas.recv().await
    }
}

/// Changed fields of changed rows, new events, and the names of rows that are gone. `None`: only the time differs.
fn difference(before: &Overview, after: &Overview) -> Option<Value> {
    let Overview { headline, observer, revision, at_ms, zones, links, events } = after;
    let mut delta = Map::new();
    let mut put = |name: &str, value: Value| drop(delta.insert(name.to_owned(), value));
    if *headline != before.headline {
        put("headline", json!(headline));
    }
    if *observer != before.observer {
        put("observer", json!(observer));
    }
    if *revision != before.revision {
        put("revision", json!(revision));
    }
    let (changed, gone_zones) = rows(&before.zones, zones, |zone| vec![zone.name.to_string()], &["name"]);
    if !changed.is_empty() {
        put("zones", changed.into());
    }
    let ends = |link: &api::health::LinkView| vec![link.from.to_string(), link.to.to_string()];
    let (changed, gone_links) = rows(&before.links, links, ends, &["from", "to"]);
    if !changed.is_empty() {
        put("links", changed.into());
    }
    let newest = before.events.iter().map(|event| event.id).max();
    let new: Vec<&Event> = events.iter().filter(|event| newest.is_none_or(|newest| event.id > newest)).collect();
    if !new.is_empty() {
        put("events", json!(new));
    }
    if !gone_zones.is_empty() || !gone_links.is_empty() {
        let names: Vec<&String> = gone_zones.iter().flatten().collect();
        put("gone", json!({"zones": names, "links": gone_links}));
    }
    if delta.is_empty() {
        return None;
    }
    delta.insert("atMs".into(), json!(at_ms));
    Some(Value::Object(delta))
}

/// Rows that changed, reduced to their key and the fields that differ; and keys of rows that are gone.
fn rows<T: serde::Serialize + PartialEq>(
    before: &[T],
    after: &[T],
    key: impl Fn(&T) -> Vec<String>,
    keys: &[&str],
) -> (Vec<Value>, Vec<Vec<String>>) {
    let known: std::collections::BTreeMap<Vec<String>, &T> = before.iter().map(|row| (key(row), row)).collect();
    let mut changed = Vec::new();
    for row in after {
        let old = known.get(&key(row));
        if old.is_some_and(|old| *old == row) {
            continue;
        }
        let mut value = serde_json::to_value(row).unwrap_or_default();
        let old = old.and_then(|old| serde_json::to_value(old).ok());
        if let (Some(Value::Object(old)), Value::Object(fields)) = (old, &mut value) {
            fields.retain(|name, value| keys.contains(&name.as_str()) || old.get(name) != Some(value));
        }
        changed.push(value);
    }
    let present: std::collections::BTreeSet<Vec<String>> = after.iter().map(key).collect();
    let gone = known.into_keys().filter(|key| !present.contains(key)).collect();
    (changed, gone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::health::ZoneView;

    fn zone(name: &str, rps: f64) -> ZoneView {
        serde_json::from_value(json!({
            "name": name, "region": null, "state": "Active", "status": "healthy", "why": "", "autonomous": false,
            "sinceMs": 1, "seenMs": 1, "revision": 1, "behind": 0, "rejected": 0, "proxiesReady": 1, "proxiesTotal": 1,
            "gatewaysReady": 1, "gatewaysTotal": 1, "rps": rps, "local": 1.0, "failed": 0.0, "capacity": 1.0, "version": "0"
        }))
        .unwrap()
    }

    fn page(zones: Vec<ZoneView>, at_ms: u64) -> Overview {
        Overview { zones, at_ms, ..Overview::default() }
    }

    #[test]
    fn only_fields_that_changed_travel() {
        let before = page(vec![zone("east", 1.0), zone("west", 1.0)], 1);
        assert_eq!(difference(&before, &page(before.zones.clone(), 2)), None, "time alone is no news");
        let mut west = zone("west", 2.0);
        west.status = Status::Degraded;
        let delta = difference(&before, &page(vec![west], 3)).unwrap();
        assert_eq!(delta["zones"], json!([{"name": "west", "rps": 2.0, "status": "degraded"}]));
        assert_eq!(delta["gone"], json!({"zones": ["east"], "links": []}));
        assert_eq!(delta["atMs"], 3);
    }
}
