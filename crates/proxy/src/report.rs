//! What a proxy tells its zone: its state, its traffic, and a gateway its probes. Published when something changed, and
//! never more often than once a second.

use crate::edge::probe::{Probes, is_news};
use crate::state::State;
use api::report::{LinkProbe, ProxyReport, Traffic, item};
use bytes::Bytes;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use sync_grpc::{Key, Lineage, Published};
use tokio::time::{Instant, sleep, sleep_until};

/// Counters are published at most this often.
const TRAFFIC_EVERY: Duration = Duration::from_secs(1);
/// Changes of state wait this long for others to come along; short, because failover depends on readiness.
const GATHER: Duration = Duration::from_millis(10);

/// Utilisation is told in steps of 5 %, as zones keep it.
const LOAD_STEPS: f64 = 20.0;

/// The published view, and what it last said.
#[derive(Clone)]
pub struct Reports {
    published: Published,
}

impl Default for Reports {
    fn default() -> Self {
        // A report has no history: whoever follows takes what the present process says.
        let lineage = Lineage { history: process::clock::unix_ms(), revision: 0 };
        Self { published: Published::new(lineage) }
    }
}

impl Reports {
    /// To put on the stream.
    pub fn published(&self) -> Published {
        self.published.clone()
    }

    /// Publishes until the process ends.
    pub async fn run(self, state: Arc<State>, probes: Option<Arc<Probes>>, version: String) {
        let mut news = state.news();
        let mut last = None;
        let mut traffic = Traffic::default();
        let mut told: BTreeMap<_, LinkProbe> = BTreeMap::new();
        let mut traffic_at = Instant::now();
        loop {
            news.borrow_and_update();
            let report = report(&state, &version);
            if last.as_ref() != Some(&report) {
                self.put(item::PROXY, &report);
                last = Some(report);
            }
            if let Some(probes) = &probes {
                self.probes(probes, &mut told);
            }
            if Instant::now() >= traffic_at {
                traffic_at = Instant::now() + TRAFFIC_EVERY;
                let now = Traffic { flows: state.counters.flows(), load: load(&state) };
                if now != traffic {
                    self.put(item::TRAFFIC, &now);
                    traffic = now;
                }
            }
            tokio::select! {
                _ = news.changed() => sleep(GATHER).await,
                () = sleep_until(traffic_at) => {}
            }
        }
    }

    fn probes(&self, probes: &Probes, told: &mut BTreeMap<api::ZoneName, LinkProbe>) {
        let verdicts = probes.verdicts(process::clock::unix_ms());
        let gone: Vec<_> = told.keys().filter(|peer| !verdicts.contains_key(*peer)).cloned().collect();
        for peer in gone {
            told.remove(&peer);
            self.published.commit([(Key::from(item::probe(&peer)), None)]);
        }
        for (peer, verdict) in verdicts {
            if is_news(told.get(&peer), &verdict) {
                self.put(&item::probe(&peer), &verdict);
                told.insert(peer, verdict);
            }
        }
    }

    fn put(&self, key: &str, value: &impl Serialize) {
        let payload = serde_json::to_vec(value).expect("reports are plain data");
        self.published.commit([(Key::from(key), Some(Bytes::from(payload)))]);
    }
}

/// In steps, so that a report differs only where something would be decided.
fn load(state: &State) -> Option<f64> {
    state.load.measure(state).map(|load| (load * LOAD_STEPS).round() / LOAD_STEPS)
}

fn report(state: &State, version: &str) -> ProxyReport {
    let unready_ports = state.apps.unready();
    let running = state.running();
    let draining = state.drain_begun();
    ProxyReport {
        version: version.to_owned(),
        ready: running.is_configured() && unready_ports.is_empty() && !draining && !state.overload.is_unready(),
        unready_ports,
        unwell: state.apps.unwell(),
        draining,
        certificate_until: state.credentials.current().not_after().as_secs(),
        ejected: state.ejected(),
        denied: state.counters.denials(),
        listener_problems: state.listener_problems.of(&running),
    }
}
