//! What all threads of one proxy share: the configuration pointer, trust, counters, and little else.

use crate::compile::Running;
use crate::edge::ingress::Problems;
use crate::inbound::load::Load;
use crate::inbound::ready::Apps;
use crate::listen::open::Listening;
use crate::outbound::breaker::Breakers;
use crate::overload::{Connections, Overload};
use crate::record::Counters;
use crate::vips::Names;
use crate::worker::Worker;
use api::config::EndpointsPlace;
use api::kinds::Place;
use api::{RouteReason, SpiffeId, TrustDomain, ZoneName};
use arc_swap::ArcSwap;
use identity::{LiveCredentials, TrustStore};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Who this proxy is; fixed for the life of its certificate chain.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its zone.
    pub zone: ZoneName,
    /// Its identity.
    pub id: SpiffeId,
    /// Its workload's name, the last part of `MESH/NAMESPACE/WORKLOAD`.
    pub workload: String,
}

/// A certificate that does not say who we are.
#[derive(Debug, thiserror::Error)]
#[error("the certificate of {id} is not one of a workload or gateway; remove the data folder and use a new token")]
pub struct OwnError {
    id: SpiffeId,
}

impl Own {
    /// Read from the certificate.
    pub fn of(credentials: &LiveCredentials) -> Result<Self, OwnError> {
        let current = credentials.current();
        let id = current.id().clone();
        let by_workload = id.as_workload().map(|(zone, ..)| zone);
        let by_gateway = || id.trust_domain().as_str().strip_suffix(".control").and_then(|zone| zone.parse().ok());
        let zone = by_workload.or_else(by_gateway).ok_or_else(|| OwnError { id: id.clone() })?;
        let workload = current.common_name().and_then(|name| name.rsplit('/').next()).unwrap_or_default().to_owned();
        Ok(Self { zone, id, workload })
    }
}

/// One proxy.
pub struct State {
    /// Who we are.
    pub own: Own,
    /// Our certificate.
    pub credentials: LiveCredentials,
    /// Whom to trust.
    pub trust: TrustStore,
    /// Counters of all workers.
    pub counters: Counters,
    /// How much of each called service is in use.
    pub breakers: Breakers,
    /// How much it has to do.
    pub load: Load,
    /// Whether the app answers.
    pub apps: Apps,
    /// Where the app is.
    pub app_address: IpAddr,
    /// What is wrong with listeners; only on edge gateways.
    pub listener_problems: Problems,
    /// Say in answers who gave them.
    pub answer_headers: bool,
    /// Cancelled: take no new work, and end connections as their requests end.
    pub drain: CancellationToken,
    /// Cancelled somewhat earlier: tell others that we are leaving.
    pub leaving: CancellationToken,
    /// Cancelled: workers end where they stand, and their sockets with them.
    pub gone: CancellationToken,
    /// Connections being served.
    pub connections: Connections,
    /// What it gives up for want of memory or time.
    pub overload: Arc<Overload>,
    /// Sockets that listen.
    pub listening: Listening,
    running: ArcSwap<Running>,
    names: watch::Sender<Arc<Names>>,
    changed: watch::Sender<u64>,
    moved: watch::Sender<u64>,
    distrusted: watch::Sender<u64>,
    workers: RwLock<Vec<Arc<Worker>>>,
    worker_count: AtomicUsize,
    ejected: Mutex<BTreeMap<usize, BTreeMap<String, RouteReason>>>,
    news: watch::Sender<u64>,
    start: Instant,
}

impl State {
    /// Nothing configured yet.
    pub fn new(
        own: Own,
        credentials: LiveCredentials,
        trust: TrustStore,
        app_address: IpAddr,
        answer_headers: bool,
    ) -> Arc<Self> {
        let news = watch::Sender::new(0);
        let overload = Arc::<Overload>::default();
        Arc::new(Self {
            own,
            credentials,
            trust,
            counters: Counters::default(),
            load: Load::default(),
            breakers: Breakers::default(),
            apps: Apps::new(app_address, news.clone()),
            app_address,
            listener_problems: Problems::default(),
            answer_headers,
            drain: CancellationToken::new(),
            leaving: CancellationToken::new(),
            gone: CancellationToken::new(),
            connections: Connections::new(overload.clone()),
            overload,
            listening: Listening::default(),
            running: ArcSwap::default(),
            names: watch::Sender::default(),
            changed: watch::Sender::new(0),
            moved: watch::Sender::new(0),
            distrusted: watch::Sender::new(0),
            workers: RwLock::default(),
            worker_count: AtomicUsize::new(0),
            ejected: Mutex::default(),
            news,
            start: Instant::now(),
        })
    }

    /// The configuration of this moment.
    pub fn running(&self) -> arc_swap::Guard<Arc<Running>> {
        self.running.load()
    }

    /// Swaps configuration. Connections stay; the next request on each sees it. Workers are woken for what they look
    /// after by themselves, and for nothing else.
    pub fn run(&self, running: Arc<Running>, names: Names) {
        self.breakers.keep(|service| running.services.contains_key(service));
        let before = self.running.swap(running.clone());
        let renamed = self.names.send_if_modified(|held| {
            let differs = **held != names;
            if differs {
                *held = Arc::new(names);
            }
            differs
        });
        self.changed.send_modify(|count| *count += 1);
        if renamed || running.moves(&before) {
            self.moved.send_modify(|count| *count += 1);
        }
    }

    /// Changes with every configuration that has other endpoints, services, ports or names.
    pub fn moved(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    /// Changes with every configuration.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Configurations run so far.
    pub fn swaps(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Believes nobody of this domain any more, and ends what they have open.
    pub fn distrust(&self, domain: &TrustDomain) {
        self.trust.remove(domain);
        self.distrusted.send_modify(|count| *count += 1);
    }

    /// Resolves when this domain is not trusted any more. Unlike [`Self::changed`] it sleeps through new configurations,
    /// as each of thousands of connections waits for it.
    pub async fn distrusted(&self, domain: &TrustDomain) {
        let mut distrusted = self.distrusted.subscribe();
        // The sender is ours, so that the wait cannot fail.
        let _ = distrusted.wait_for(|_| self.trust.get(domain).is_none()).await;
    }

    /// Names and virtual addresses of this moment.
    pub fn names(&self) -> watch::Receiver<Arc<Names>> {
        self.names.subscribe()
    }

    /// Changes when there is something to report.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// There is something to report.
    pub fn tell(&self) {
        self.news.send_modify(|count| *count += 1);
    }

    /// Whether others were told that we are leaving.
    pub fn drain_begun(&self) -> bool {
        self.leaving.is_cancelled()
    }

    /// Microseconds of the clock balancers use.
    pub fn now_us(&self) -> u64 {
        self.us(Instant::now())
    }

    /// The same at another moment.
    pub fn us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.start).as_micros() as u64
    }

    /// Where this workload is, if its zone told.
    pub fn place(&self) -> Place {
        let running = self.running();
        let service = running.inbound.as_ref().and_then(|inbound| inbound.service.as_ref());
        let sets = service.and_then(|service| running.places.get(service)).map(|places| places.sets.as_slice());
        let local = sets.unwrap_or_default().iter().filter_map(|set| match &set.place {
            EndpointsPlace::Local(endpoints) => Some(endpoints),
            EndpointsPlace::Remote(_) => None,
        });
        let own = local.flatten().find(|endpoint| endpoint.workload.as_str() == self.own.workload);
        own.map(|endpoint| endpoint.place.clone()).unwrap_or_default()
    }

    /// Adds a worker; its number.
    pub fn add_worker(&self, worker: Arc<Worker>) -> usize {
        let mut workers = self.workers.write().unwrap_or_else(PoisonError::into_inner);
        workers.push(worker);
        self.worker_count.store(workers.len(), Ordering::Relaxed);
        workers.len() - 1
    }

    /// How many workers there are.
    pub fn worker_count(&self) -> usize {
        self.worker_count.load(Ordering::Relaxed)
    }

    /// All workers.
    pub fn workers(&self) -> Vec<Arc<Worker>> {
        self.workers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What a worker has ejected now.
    pub fn set_ejected(&self, worker: usize, ejected: BTreeMap<String, RouteReason>) {
        let mut all = self.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(&worker).is_some_and(|held| *held == ejected) || (ejected.is_empty() && !all.contains_key(&worker)) {
            return;
        }
        all.insert(worker, ejected);
        drop(all);
        self.tell();
    }

    /// What any worker has ejected.
    pub fn ejected(&self) -> BTreeMap<String, RouteReason> {
        let all = self.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        all.values().flatten().map(|(name, reason)| (name.clone(), *reason)).collect()
    }
}
