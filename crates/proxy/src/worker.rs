//! One worker: a thread with a runtime of its own, its listeners, its balancers and connections.

use crate::compile::{Running, Service};
use crate::error::Failure;
use crate::hash::Quick;
use crate::inbound::app::AppLinks;
use crate::limits::MIRRORS_MAX;
use crate::outbound::callee::Callee;
use crate::outbound::outside::Outside;
use crate::overload::{LetIn, Load};
use crate::pool::transport::Transport;
use crate::record::Cells;
use crate::state::State;
use api::RouteReason;
use api::config::{Balancing, ServiceRef};
use balance::Balancer;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SetOnce};
use tokio::time::{Instant, sleep};

/// Ramps, ends of ejections and warm connections are looked after this often, where a service is called at all.
const TEND_EVERY: Duration = Duration::from_millis(500);

/// One worker.
pub struct Worker {
    /// Shared with the others.
    pub state: Arc<State>,
    /// Its counters.
    pub cells: Arc<Cells>,
    /// Its requests under way, and how long they wait for it.
    pub load: Load,
    /// Its connections to the app.
    pub apps: AppLinks,
    /// Where its tasks run, once it does.
    pub runtime: SetOnce<Handle>,
    /// Its TLS settings and their sessions.
    pub transport: Transport,
    /// Number of the workload that calls, the same in every process: its subsets, and what `source` keeps together.
    pub caller: u64,
    /// Places for copies of requests under way.
    pub mirrors: Arc<Semaphore>,
    callees: Mutex<Quick<ServiceRef, Quick<u16, Arc<Callee>>>>,
    outsides: Mutex<Quick<ServiceRef, Quick<u16, Arc<Outside>>>>,
    random: AtomicU64,
}

impl Worker {
    /// `seed` differs between workers and processes.
    pub fn new(state: Arc<State>, seed: u64) -> Arc<Self> {
        let cells = state.counters.worker();
        let transport = Transport::new(state.credentials.clone(), state.trust.clone());
        let apps = AppLinks::default();
        let runtime = SetOnce::new();
        let caller = balance::hash_key(format!("{}/{}", state.own.id, state.own.workload).as_bytes());
        Arc::new(Self {
            state,
            cells,
            load: Load::default(),
            apps,
            runtime,
            transport,
            caller,
            mirrors: Arc::new(Semaphore::new(MIRRORS_MAX)),
            callees: Mutex::default(),
            outsides: Mutex::default(),
            random: AtomicU64::new(seed),
        })
    }

    /// Who is called by this name and port; made at the first call.
    pub fn callee(&self, service: &ServiceRef, port: u16) -> Arc<Callee> {
        let mut callees = self.callees.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(callee) = callees.get(service).and_then(|ports| ports.get(&port)) {
            return callee.clone();
        }
        let (breaker, own) = (self.state.breakers.of(service), self.state.own.zone.clone());
        let balancer = Balancer::new(own, self.state.place(), &Balancing::default()).called_by(self.caller);
        let callee = Callee::new(service.clone(), port, balancer, breaker);
        callees.entry(service.clone()).or_default().insert(port, callee.clone());
        callee
    }

    /// The same for a service outside the mesh; `None` when it is not.
    pub fn outside(&self, service: &Arc<Service>, port: u16) -> Option<Arc<Outside>> {
        let mut outsides = self.outsides.lock().unwrap_or_else(PoisonError::into_inner);
        let held = outsides.get(&service.config.service).and_then(|ports| ports.get(&port));
        let outside = match held {
            Some(held) => held.for_service(service, port)?,
            None => Outside::new(service, port, self.state.breakers.of(&service.config.service))?,
        };
        if !held.is_some_and(|held| Arc::ptr_eq(held, &outside)) {
            outsides.entry(service.config.service.clone()).or_default().insert(port, outside.clone());
        }
        Some(outside)
    }

    /// Lets go of what nobody uses outside the mesh. False: nothing is left.
    fn tend_outside(&self, running: &Running) -> bool {
        let mut outsides = self.outsides.lock().unwrap_or_else(PoisonError::into_inner);
        outsides.retain(|service, ports| {
            ports.values().for_each(|outside| outside.sweep());
            running.services.contains_key(service)
        });
        !outsides.is_empty()
    }

    /// All that were called.
    pub fn callees(&self) -> Vec<Arc<Callee>> {
        let callees = self.callees.lock().unwrap_or_else(PoisonError::into_inner);
        callees.values().flat_map(Quick::values).cloned().collect()
    }

    /// Next random number (splitmix64; Steele, Lea and Flood 2014).
    pub fn random(&self) -> u64 {
        let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The same, within `0.0..1.0`.
    pub fn chance(&self) -> f64 {
        (self.random() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Microseconds of the clock balancers use.
    pub fn now_us(&self) -> u64 {
        self.state.now_us()
    }

    /// The same at another moment.
    pub fn us(&self, at: Instant) -> u64 {
        self.state.us(at.into_std())
    }

    /// Looks after balancers and connections until the worker ends.
    pub async fn tend(self: Arc<Self>, number: usize) {
        let mut moved = self.state.moved();
        loop {
            let callees = self.callees();
            let running = self.state.running().clone();
            let quiet = !self.tend_outside(&running) && callees.is_empty();
            let mut ejected = BTreeMap::new();
            for callee in callees {
                if !callee.tend(&self, &running, &mut ejected) {
                    self.forget(&callee);
                }
            }
            self.state.set_ejected(number, ejected);
            self.apps.sweep();
            tokio::select! {
                _ = moved.changed() => {}
                () = sleep(TEND_EVERY), if !quiet => {}
                () = sleep(TEND_EVERY * 10), if quiet => {}
            }
        }
    }

    fn forget(&self, callee: &Callee) {
        let mut callees = self.callees.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ports) = callees.get_mut(&callee.service) {
            ports.remove(&callee.port);
            if ports.is_empty() {
                callees.remove(&callee.service);
            }
        }
    }

    /// Lets a request in, or refuses it because there is too much to do.
    pub fn admit(&self) -> Result<LetIn<'_>, Failure> {
        let admitted = self.load.admit(&self.state.overload, self.state.worker_count(), || self.chance());
        admitted.map_err(|why| Failure::new(RouteReason::Overloaded, why))
    }

    /// The configuration of this moment.
    pub fn running(&self) -> arc_swap::Guard<Arc<Running>> {
        self.state.running()
    }
}
