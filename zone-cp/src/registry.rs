//! Proxies that are connected: whether they are ready, what they acknowledged, and what they report.

use crate::tally::Tally;
use api::report::{Flow, LinkProbe, ProxyReport, Traffic, item};
use api::{Key, ZoneName};
use control::documents::{below, item as read};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use sync_grpc::{Absence, Follower, Progress, Published};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// After a restart, proxies that were ready count as ready for so long without a word from them: their reconnect
/// delay is at most this.
pub const RESTART_GRACE: Duration = Duration::from_secs(7);
/// A proxy that is asked to reconnect (its class has changed) stays ready meanwhile.
const MOVE_GRACE: Duration = Duration::from_secs(3);
/// Changes of readiness are written down this much later, together with others. Whoever kills us within it restarts us
/// with workloads taken for unready, whose traffic goes elsewhere until they have reported.
const WRITE_DELAY: Duration = Duration::from_millis(100);
/// Channel on which a proxy follows what it runs.
pub const CONFIG: &str = "config";
/// Channel on which a proxy publishes how it is.
pub const REPORT: &str = "report";
/// Utilisation is kept in steps of 5 %: finer changes decide nothing and would be sent to everybody.
const LOAD_STEPS: f64 = 20.0;

/// Shared handle.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Readiness, load or round trips changed: configuration depends on it.
    ready: watch::Sender<u64>,
    /// Anything changed: reports depend on it.
    any: watch::Sender<u64>,
    file: PathBuf,
}

#[derive(Default)]
struct State {
    proxies: BTreeMap<Key, Proxy>,
    /// Assumed ready until then.
    assumed: BTreeMap<Key, Instant>,
    tally: Tally,
    sessions: u64,
}

/// One connected proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Tells two connections of one workload apart.
    session: u64,
    /// What it follows.
    pub view: Published,
    /// What it says; `None` until it does.
    pub said: Option<ProxyReport>,
    /// Utilisation of its app.
    pub load: Option<f64>,
    /// Probes of peers, by gateways.
    pub probes: BTreeMap<ZoneName, LinkProbe>,
    /// What it acknowledged of its configuration.
    pub progress: Progress,
    /// Unix milliseconds of its last acknowledgement.
    pub acked_ms: u64,
    /// Version it says it runs.
    pub version: String,
    cancel: CancellationToken,
    moving: bool,
}

impl Proxy {
    fn is_ready(&self) -> Option<bool> {
        self.said.as_ref().map(|said| said.ready && !said.draining)
    }

    /// Whether it has not acknowledged the latest configuration.
    pub fn is_behind(&self) -> bool {
        self.progress.acked != Some(self.view.head())
    }
}

/// What admission needs for a session.
pub struct Opened {
    /// Follows the proxy's report.
    pub report: Follower,
    /// What it acknowledges.
    pub progress: watch::Sender<BTreeMap<String, Progress>>,
    /// Ends the session.
    pub cancel: CancellationToken,
    /// Dropped when the stream ends.
    pub parting: Parting,
}

/// Says that a stream ended.
pub struct Parting {
    registry: Registry,
    key: Key,
    session: u64,
    watching: CancellationToken,
}

impl Registry {
    /// Assumes what was ready when we were last here.
    pub fn open(data: &Path) -> Self {
        let file = data.join("ready.json");
        let known: BTreeSet<Key> =
            std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let until = Instant::now() + RESTART_GRACE;
        let assumed = known.into_iter().map(|key| (key, until)).collect();
        let state = Mutex::new(State { assumed, ..State::default() });
        let shared = Shared { state, ready: watch::Sender::new(0), any: watch::Sender::new(0), file };
        Self { shared: Arc::new(shared) }
    }

    /// Fires when readiness, load or round trips changed.
    pub fn ready_changed(&self) -> watch::Receiver<u64> {
        self.shared.ready.subscribe()
    }

    /// Fires when anything changed.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.any.subscribe()
    }

    /// A proxy connects. An earlier connection of the same workload ends.
    pub fn connect(&self, key: &Key, view: Published, version: String) -> Opened {
        let report = Follower::memory(Absence::Follow);
        let progress = watch::Sender::new(BTreeMap::new());
        let (cancel, watching) = (CancellationToken::new(), CancellationToken::new());
        let mut state = self.state();
        state.sessions += 1;
        let session = state.sessions;
        let proxy = Proxy {
            session,
            view,
            said: None,
            load: None,
            probes: BTreeMap::new(),
            progress: Progress::default(),
            acked_ms: 0,
            version,
            cancel: cancel.clone(),
            moving: false,
        };
        if let Some(earlier) = state.proxies.insert(key.clone(), proxy) {
            earlier.cancel.cancel();
            if earlier.is_ready() == Some(true) {
                state.assumed.insert(key.clone(), Instant::now() + MOVE_GRACE);
            }
        }
        drop(state);
        let watcher = watch_proxy(self.clone(), key.clone(), session, report.clone(), progress.subscribe());
        tokio::spawn(watching.clone().run_until_cancelled_owned(watcher));
        self.bump(false);
        let parting = Parting { registry: self.clone(), key: key.clone(), session, watching };
        Opened { report, progress, cancel, parting }
    }

    /// Asks a proxy to come back, because it belongs to another view now.
    pub fn move_away(&self, key: &Key) {
        if let Some(proxy) = self.state().proxies.get_mut(key) {
            proxy.moving = true;
            proxy.cancel.cancel();
        }
    }

    /// Cuts a proxy off whose workload is gone.
    pub fn cut(&self, key: &Key) {
        if let Some(proxy) = self.state().proxies.get(key) {
            proxy.cancel.cancel();
        }
    }

    /// All connected proxies.
    pub fn proxies(&self) -> BTreeMap<Key, Proxy> {
        self.state().proxies.clone()
    }

    /// Whether a workload may be called.
    pub fn is_ready(&self, key: &Key) -> bool {
        self.state().is_ready(key)
    }

    /// Utilisation of a workload's app.
    pub fn load(&self, key: &Key) -> Option<f64> {
        self.state().proxies.get(key)?.load
    }

    /// The best probe of each peer, of all gateways.
    pub fn probes(&self) -> BTreeMap<ZoneName, LinkProbe> {
        let mut best: BTreeMap<ZoneName, LinkProbe> = BTreeMap::new();
        for probe in self.state().proxies.values().flat_map(|proxy| proxy.probes.values()) {
            let rank = |probe: &LinkProbe| (!probe.reachable, probe.rtt_us.unwrap_or(u64::MAX));
            let known = best.get(&probe.peer);
            if known.is_none_or(|known| rank(probe) < rank(known)) {
                best.insert(probe.peer.clone(), probe.clone());
            }
        }
        best
    }

    /// Requests of all proxies, since the zone control plane started.
    pub fn flows(&self) -> Vec<Flow> {
        self.state().tally.flows()
    }

    /// Ends assumptions in time and writes readiness down.
    pub async fn run(self) {
        let mut ready = self.ready_changed();
        let mut written = None;
        loop {
            let soonest = self.state().assumed.values().min().copied();
            let expire = async {
                match soonest {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expire => {
                    let now = Instant::now();
                    self.state().assumed.retain(|_, until| *until > now);
                    self.bump(true);
                }
                changed = ready.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    tokio::time::sleep(WRITE_DELAY).await;
                    ready.mark_unchanged();
                    self.write(&mut written);
                }
            }
        }
    }

    /// Most changes are of load and round trips: then there is nothing to write.
    fn write(&self, written: &mut Option<BTreeSet<Key>>) {
        let ready: BTreeSet<Key> = {
            let state = self.state();
            state.proxies.keys().chain(state.assumed.keys()).filter(|key| state.is_ready(key)).cloned().collect()
        };
        if written.as_ref() == Some(&ready) {
            return;
        }
        let bytes = control::documents::payload(&ready);
        match process::write_atomic(&self.shared.file, &bytes, 0o600) {
            Ok(()) => *written = Some(ready),
            Err(error) => {
                warn!(%error, "readiness is not written down; a restart will take proxies for unready until they report");
            }
        }
    }

    fn update(&self, key: &Key, session: u64, change: impl FnOnce(&mut Proxy, &mut Tally)) {
        let mut state = self.state();
        let before = state.essence(key);
        let State { proxies, tally, .. } = &mut *state;
        match proxies.get_mut(key) {
            Some(proxy) if proxy.session == session => change(proxy, tally),
            _ => return,
        }
        let differs = state.essence(key) != before;
        drop(state);
        self.bump(differs);
    }

    fn bump(&self, readiness: bool) {
        if readiness {
            self.shared.ready.send_modify(|count| *count += 1);
        }
        self.shared.any.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What configuration depends on: readiness, load, and `(reachable, distance)` of probed peers.
type Essence = (bool, Option<u64>, Vec<(ZoneName, bool, Option<u32>)>);

impl State {
    fn is_ready(&self, key: &Key) -> bool {
        let said = self.proxies.get(key).and_then(Proxy::is_ready);
        said.unwrap_or_else(|| self.assumed.get(key).is_some_and(|until| *until > Instant::now()))
    }

    fn essence(&self, key: &Key) -> Essence {
        let proxy = self.proxies.get(key);
        let load = proxy.and_then(|proxy| proxy.load).map(|load| (load * LOAD_STEPS) as u64);
        let probes = proxy.iter().flat_map(|proxy| proxy.probes.values());
        let probes = probes.map(|probe| (probe.peer.clone(), probe.reachable, probe.distance())).collect();
        (self.is_ready(key), load, probes)
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        self.watching.cancel();
        let mut state = self.registry.state();
        let ours = state.proxies.get(&self.key).is_some_and(|proxy| proxy.session == self.session);
        if !ours {
            return;
        }
        let was = state.is_ready(&self.key);
        let proxy = state.proxies.remove(&self.key);
        let moving = proxy.is_some_and(|proxy| proxy.moving);
        if was && moving {
            state.assumed.insert(self.key.clone(), Instant::now() + MOVE_GRACE);
        } else {
            state.assumed.remove(&self.key);
        }
        drop(state);
        info!(workload = %self.key, moving, "proxy disconnected");
        self.registry.bump(true);
    }
}

async fn watch_proxy(
    registry: Registry,
    key: Key,
    session: u64,
    report: Follower,
    mut progress: watch::Receiver<BTreeMap<String, Progress>>,
) {
    let mut held = report.watch();
    // Something may have come before this task ran.
    held.mark_changed();
    loop {
        tokio::select! {
            changed = held.changed() => {
                if changed.is_err() {
                    return;
                }
                let items = held.borrow_and_update().items.clone();
                registry.update(&key, session, |proxy, tally| {
                    proxy.said = read(&items, item::PROXY);
                    proxy.probes = below::<LinkProbe>(&items, item::PROBE).map(|(_, probe)| (probe.peer.clone(), probe)).collect();
                    if let Some(Traffic { flows, load }) = read(&items, item::TRAFFIC) {
                        proxy.load = load.map(|load: f64| (load * LOAD_STEPS).round() / LOAD_STEPS);
                        tally.take(&key, &flows);
                    }
                });
            }
            changed = progress.changed() => {
                if changed.is_err() {
                    return;
                }
                let latest = progress.borrow_and_update().get(CONFIG).cloned().unwrap_or_default();
                registry.update(&key, session, |proxy, _| {
                    if proxy.progress.acked != latest.acked {
                        proxy.acked_ms = process::clock::unix_ms();
                    }
                    proxy.progress = latest;
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sync_grpc::Lineage;

    #[tokio::test]
    async fn a_round_trip_that_decides_nothing_wakes_nobody_who_programs() {
        let data = tempfile::tempdir().unwrap();
        let registry = Registry::open(data.path());
        let gateway: Key = "Workload/default/west/mesh/gateway-1".parse().unwrap();
        let _opened = registry.connect(&gateway, Published::new(Lineage::default()), String::new());
        let (ready, any) = (registry.ready_changed(), registry.changed());
        let told = |rtt_us| {
            let (ready_was, any_was) = (*ready.borrow(), *any.borrow());
            let peer: ZoneName = "east".parse().unwrap();
            let probe =
                LinkProbe { peer, reachable: true, rtt_us: Some(rtt_us), loss: 0.0, error: String::new(), at_ms: 0 };
            registry.update(&gateway, 1, |proxy, _| proxy.probes = BTreeMap::from([(probe.peer.clone(), probe)]));
            (*ready.borrow() > ready_was, *any.borrow() > any_was)
        };
        assert_eq!(told(200), (true, true), "the first");
        assert_eq!(told(900), (false, true), "the page shows it, and zones keep their order");
        assert_eq!(told(2_100), (true, true), "farther away");
    }
}
