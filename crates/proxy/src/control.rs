//! The link to our zone's control plane: configuration comes down, reports go up; and what runs when it is gone.

use crate::compile::{self, Compiler, Items};
use crate::enroll;
use crate::report::Reports;
use crate::state::State;
use crate::vips::Vips;
use api::TrustDomain;
use api::config::{Trust, item};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use sync_grpc::{Absence, Channels, Dial, Follower, Held, JournalError, dial};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Last good configuration, in the data folder.
const JOURNAL: &str = "config";

/// Follows `config`, keeping the last good of it on disk. Items that cannot be run are refused one by one.
pub fn follower(data: &Path) -> Result<Follower, JournalError> {
    // Not synced: dozens of proxies on one host would queue for its disk at every change, and after a power cut their
    // zone tells them anew.
    let follower = Follower::kept(&data.join(JOURNAL), Absence::Follow)?;
    Ok(follower.accepting(|key, payload| compile::check(key, payload)))
}

/// Keeps one stream to the control plane until cancelled.
pub async fn link(
    state: Arc<State>,
    follower: Follower,
    reports: Reports,
    addresses: watch::Receiver<Vec<String>>,
    version: String,
    cancel: CancellationToken,
) {
    let (credentials, trust, zone) = (state.credentials.clone(), state.trust.clone(), state.own.zone.clone());
    let tls = Arc::new(move |_: &str| enroll::control_tls(&credentials, &trust, &zone));
    let name = state.credentials.current().common_name().unwrap_or("proxy").to_owned();
    let channels = Channels {
        publish: vec![("report".to_owned(), reports.published())],
        follow: vec![("config".to_owned(), follower)],
    };
    let progress = watch::Sender::new(BTreeMap::new());
    dial(Dial { addresses, tls, name, version }, channels, progress, cancel).await;
}

/// Runs what is followed, from the first moment on what the last run left.
pub struct Applier {
    compiler: Compiler,
    vips: Option<Vips>,
    kept: Vec<Trust>,
    trusted: BTreeSet<TrustDomain>,
}

impl Applier {
    /// `kept` anchors stay whatever the items say.
    pub fn new(vips: Option<Vips>, kept: Vec<Trust>) -> Self {
        Self { compiler: Compiler::default(), vips, kept, trusted: BTreeSet::new() }
    }

    /// Applies every change until the publisher's end is gone.
    pub async fn follow(mut self, state: Arc<State>, mut held: watch::Receiver<Arc<Held>>) {
        loop {
            let items = held.borrow_and_update().items.clone();
            self.apply(&state, &items);
            if held.changed().await.is_err() {
                return;
            }
        }
    }

    /// Runs these items. A publisher that says nothing of ourselves is not believed: absence never weakens.
    pub fn apply(&mut self, state: &State, items: &Items) {
        let own = items.contains_key(item::INBOUND) || items.contains_key(item::GATEWAY);
        let before = state.running().clone();
        if !own {
            if before.is_configured() {
                tracing::warn!("the control plane says nothing about this proxy; going on with the last configuration");
            }
            return;
        }
        let (running, wrong) = self.compiler.compile(items);
        for (key, error) in wrong {
            tracing::warn!(%key, error, "an item cannot be run; it is left out");
        }
        self.trust(state, &running.trust);
        let ports = running.inbound.iter().flat_map(|inbound| &inbound.ports);
        let ports = ports.map(|port| (port.target, port.protocol)).collect();
        let health = running.inbound.as_ref().map(|inbound| inbound.health.clone()).unwrap_or_default();
        state.apps.set(ports, &health);
        let names = self.vips.as_mut().map(|vips| vips.names(&running)).unwrap_or_default();
        tracing::debug!(services = running.services.len(), endpoints = running.places.len(), "new configuration");
        // What is reported of a configuration is that there is one, and what is wrong with its listeners.
        let news = !before.is_configured() || !before.listeners.is_empty() || !running.listeners.is_empty();
        // After trust, so that whoever hears of the change finds the anchors it is about.
        state.run(running, names);
        if news {
            state.tell();
        }
    }

    fn trust(&mut self, state: &State, wanted: &BTreeMap<TrustDomain, Arc<Trust>>) {
        for trust in wanted.values() {
            if let Err(error) = state.trust.set(trust) {
                tracing::warn!(domain = %trust.domain, %error, "anchors cannot be used; keeping those before");
            }
        }
        let gone: Vec<_> = self.trusted.iter().filter(|domain| !wanted.contains_key(*domain)).cloned().collect();
        for domain in gone {
            if !self.kept.iter().any(|kept| kept.domain == domain) {
                state.distrust(&domain);
            }
        }
        self.trusted = wanted.keys().cloned().collect();
    }
}
