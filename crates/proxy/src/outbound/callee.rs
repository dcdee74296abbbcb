//! One port of one service as one worker calls it: its balancer, its retry budget, its connections.
//!
//! The lock is held for the few steps of choosing and counting and never over an await; other threads take it only
//! to explain.

use super::breaker::{Breaker, Limit, Open, Share, Taken};
use crate::compile::{Places, Running};
use crate::error::ConnectError;
use crate::http::body::Outgoing;
use crate::http::headers;
use crate::http::retry::Budget;
use crate::inbound::load;
use crate::limits::{LINK_IDLE, LINKS_PER_PEER, STREAMS_MAX, STREAMS_PER_LINK};
use crate::pool::link::{Link, SendError, sentence};
use crate::pool::transport::Carries;
use crate::worker::Worker;
use api::config::{self, Retry, ServiceRef};
use api::{RouteReason, ZoneName};
use balance::{Ask, Balancer, Candidate, CandidateId, Choice, ConnectionId, Outcome, Target, Tiers};
use http::{Request, Response};
use hyper::body::Incoming;
use smallvec::SmallVec;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Time to open a warm connection; nobody waits for it.
const WARM_CONNECT: Duration = Duration::from_secs(3);

/// See the module's text.
pub struct Callee {
    /// Which service.
    pub service: ServiceRef,
    /// Which port, as callers name it.
    pub port: u16,
    breaker: Arc<Breaker>,
    state: Mutex<Inner>,
}

struct Inner {
    balancer: Balancer,
    /// What the balancer was last told.
    places: Option<Arc<Places>>,
    budget: Budget,
    links: HashMap<CandidateId, Vec<Held>>,
    opening: HashMap<CandidateId, Opening>,
}

/// A link, and how the balancer knows it.
#[derive(Clone)]
struct Held {
    link: Arc<Link>,
    connection: Option<ConnectionId>,
}

type Opening = watch::Receiver<Option<Result<Held, Arc<ConnectError>>>>;

/// No connection for this try.
#[derive(Debug)]
pub enum Refused {
    /// There is nobody to connect to.
    Nobody(RouteReason),
    /// A circuit breaker has no room for it.
    NoRoom(Open),
    /// This one did not take it.
    Connect {
        /// Not to be tried again by this request.
        id: CandidateId,
        /// Why.
        error: Arc<ConnectError>,
    },
}

impl Callee {
    /// Knows nothing before the first request.
    pub fn new(service: ServiceRef, port: u16, balancer: Balancer, breaker: Arc<Breaker>) -> Arc<Self> {
        let state =
            Inner { balancer, places: None, budget: Budget::default(), links: HashMap::new(), opening: HashMap::new() };
        Arc::new(Self { service, port, breaker, state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request in, if its breaker has room, and counts it towards the retry budget.
    pub fn admit(&self, running: &Running, share: &Arc<Share>, now_us: u64) -> Result<Taken, Open> {
        let mut state = self.lock();
        state.refresh(running, &self.service, now_us);
        state.budget.request(now_us / 1_000_000);
        state.limited(|limits| self.breaker.take_request(limits, share))
    }

    /// Lets a connection of bytes in, if its breaker has room.
    pub fn admit_bytes(&self, running: &Running, now_us: u64) -> Result<Taken, Open> {
        let mut state = self.lock();
        state.refresh(running, &self.service, now_us);
        state.take(&self.breaker, Limit::Connections)
    }

    /// Takes a retry from the budget, if the breaker has room for one more.
    pub fn take_retry(&self, retry: &Retry, now_us: u64) -> Option<Taken> {
        let mut state = self.lock();
        let taken = state.take(&self.breaker, Limit::Retries).ok()?;
        state.budget.take(retry, now_us / 1_000_000).then_some(taken)
    }

    /// Chooses, without connecting: for connections of bytes.
    pub fn choose(&self, worker: &Worker, running: &Running, ask: &Ask<'_>) -> Result<Choice, RouteReason> {
        let now_us = worker.now_us();
        let mut state = self.lock();
        state.refresh(running, &self.service, now_us);
        state.balancer.pick(ask, now_us, &mut || worker.random())
    }

    /// Chooses, and gives an HTTP/2 connection to whoever was chosen.
    pub async fn lease(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        running: &Running,
        ask: &Ask<'_>,
        connect: Duration,
    ) -> Result<Lease, Refused> {
        let (choice, opening, _waits) = {
            let now_us = worker.now_us();
            let mut state = self.lock();
            state.refresh(running, &self.service, now_us);
            let mut tried: SmallVec<[CandidateId; 4]> = SmallVec::from_slice(ask.tried);
            loop {
                let ask = Ask { tried: &tried, ..*ask };
                let choice = state.balancer.pick(&ask, now_us, &mut || worker.random()).map_err(Refused::Nobody)?;
                if let Some(held) = state.open_link(&choice) {
                    return state.lease(self, worker, held, choice);
                }
                let waits = match state.take(&self.breaker, Limit::Pending) {
                    Ok(waits) => waits,
                    Err(open) => {
                        state.give_up(&choice, now_us);
                        return Err(Refused::NoRoom(open));
                    }
                };
                if let Some(opening) = state.opening.get(&choice.id).cloned() {
                    // Somebody else opens one already; the balancer counts ours as given up.
                    if matches!(*choice.candidate, Candidate::Gateway { .. }) {
                        state.give_up(&choice, now_us);
                    }
                    break (choice, opening, waits);
                }
                match state.take(&self.breaker, Limit::Connections) {
                    Ok(taken) => {
                        let (candidate, zone) = (choice.candidate.clone(), choice.zone.clone());
                        let opening = self.open(&mut state, worker, choice.id, candidate, zone, connect, taken);
                        break (choice, opening, waits);
                    }
                    // Without room for another connection an open one is shared, to this candidate or to another.
                    Err(open) => {
                        state.give_up(&choice, now_us);
                        if let Some(held) = state.least_used(choice.id) {
                            return state.lease(self, worker, held, choice);
                        }
                        if tried.contains(&choice.id) {
                            return Err(Refused::NoRoom(open));
                        }
                        tried.push(choice.id);
                    }
                }
            }
        };
        match settled(opening).await {
            Some(Ok(held)) => self.lock().lease(self, worker, held, choice),
            Some(Err(error)) => Err(Refused::Connect { id: choice.id, error }),
            None => Err(Refused::Nobody(RouteReason::ConnectFailed)),
        }
    }

    /// Opens a connection as a task of its own, so that a caller who leaves does not undo it for those who wait too.
    #[allow(clippy::too_many_arguments)] // One connection is all of these; a struct would only rename them.
    fn open(
        self: &Arc<Self>,
        state: &mut Inner,
        worker: &Arc<Worker>,
        id: CandidateId,
        candidate: Arc<Candidate>,
        zone: ZoneName,
        limit: Duration,
        taken: Taken,
    ) -> Opening {
        let (done, opening) = watch::channel(None);
        state.opening.insert(id, opening.clone());
        let (callee, worker) = (self.clone(), worker.clone());
        tokio::spawn(async move {
            let opened = callee.connect(&worker, &candidate, &zone, limit).await;
            let result = callee.settle(&worker, id, &candidate, opened, taken);
            done.send_replace(Some(result));
        });
        opening
    }

    async fn connect(
        &self,
        worker: &Worker,
        candidate: &Candidate,
        zone: &ZoneName,
        limit: Duration,
    ) -> Result<Link, ConnectError> {
        let address = candidate.address();
        let server_name = self.service.server_name(self.port, zone);
        let expected = identities(candidate);
        let tls = worker.transport.connect(address, &server_name, expected, Carries::Http, limit).await?;
        let failed = |source| ConnectError::Handshake { address, server_name: server_name.clone(), source };
        Link::begin(tls).await.map_err(|error| failed(std::io::Error::other(sentence(&error))))
    }

    fn settle(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        id: CandidateId,
        candidate: &Candidate,
        opened: Result<Link, ConnectError>,
        taken: Taken,
    ) -> Result<Held, Arc<ConnectError>> {
        let now_us = worker.now_us();
        let mut state = self.lock();
        state.opening.remove(&id);
        let link = match opened {
            Ok(link) => Arc::new(link),
            Err(error) => {
                tracing::debug!(service = %self.service, %error, "no connection");
                if matches!(candidate, Candidate::Endpoint { .. }) {
                    state.balancer.started(id, now_us);
                }
                state.balancer.finished(id, now_us, Outcome::ConnectFailed);
                return Err(Arc::new(error));
            }
        };
        let connection = match candidate {
            Candidate::Endpoint { .. } => None,
            Candidate::Gateway { .. } => Some(state.balancer.connection_opened(id, now_us)),
        };
        let held = Held { link: link.clone(), connection };
        link.count(true, now_us);
        link.count(false, now_us);
        state.links.entry(id).or_default().push(held.clone());
        drop(state);
        // Whoever waits for its end must not keep it open.
        let (callee, closed, link) = (Arc::downgrade(self), link.closed(), Arc::downgrade(&link));
        tokio::spawn(async move {
            closed.cancelled().await;
            drop(taken);
            if let Some(callee) = callee.upgrade() {
                callee.closed(id, connection, &link);
            }
        });
        Ok(held)
    }

    fn closed(&self, id: CandidateId, connection: Option<ConnectionId>, link: &Weak<Link>) {
        let mut state = self.lock();
        if let Some(held) = state.links.get_mut(&id) {
            held.retain(|held| !std::ptr::eq(Arc::as_ptr(&held.link), link.as_ptr()));
            if held.is_empty() {
                state.links.remove(&id);
            }
        }
        if let Some(connection) = connection {
            state.balancer.connection_closed(connection);
        }
    }

    /// Lets the balancer do what time brings, opens warm connections, lets go of unused ones. False when the service
    /// is gone and nothing is left of it.
    pub fn tend(
        self: &Arc<Self>,
        worker: &Arc<Worker>,
        running: &Running,
        ejected: &mut BTreeMap<String, RouteReason>,
    ) -> bool {
        let now_us = worker.now_us();
        let mut state = self.lock();
        state.refresh(running, &self.service, now_us);
        state.balancer.tick(now_us);
        let Inner { balancer, links, .. } = &mut *state;
        let idle_max = worker.state.overload.idle(LINK_IDLE);
        let idle =
            |link: &Link| link.in_flight() == 0 && now_us.saturating_sub(link.used_us()) > idle_max.as_micros() as u64;
        links.retain(|id, held| {
            let known = balancer.candidate(*id).is_some();
            held.retain(|held| known && !idle(&held.link));
            !held.is_empty()
        });
        for (id, reason) in state.balancer.ejected(now_us) {
            if let Some((zone, candidate)) = state.balancer.candidate(id) {
                ejected.insert(format!("{}/{zone}/{}", self.service, name(candidate)), reason);
            }
        }
        // Only HTTP is kept warm: connections of bytes cannot be shared.
        let http = running.services.get(&self.service).and_then(|s| s.ports.get(&self.port));
        if http.is_some_and(|port| port.protocol.is_http()) {
            let wants: Vec<_> = state.balancer.wants().map(|(id, candidate, _)| (id, candidate.clone())).collect();
            for (id, candidate) in wants {
                let zone = state.balancer.candidate(id).map(|(zone, _)| zone.clone());
                let Some(zone) = zone.filter(|_| !state.opening.contains_key(&id)) else { continue };
                if let Ok(taken) = state.take(&self.breaker, Limit::Connections) {
                    self.open(&mut state, worker, id, candidate, zone, WARM_CONNECT, taken);
                }
            }
        }
        running.places.contains_key(&self.service) || !state.links.is_empty()
    }

    /// Where requests go now, and why.
    pub fn explain(&self, now_us: u64) -> Tiers {
        self.lock().balancer.explain(now_us)
    }

    /// A try that is not one of a [`Lease`] began.
    pub fn started(&self, target: Target, now_us: u64) {
        self.lock().balancer.started(target, now_us);
    }

    /// And ended.
    pub fn finished(&self, target: Target, now_us: u64, outcome: Outcome) {
        self.lock().balancer.finished(target, now_us, outcome);
    }

    /// An answer told how much its app has to do.
    fn loaded(&self, id: CandidateId, load: f64, now_us: u64) {
        self.lock().balancer.load(id, load, now_us);
    }

    /// A connection of bytes through a gateway is open.
    pub fn connection_opened(&self, id: CandidateId, now_us: u64) -> ConnectionId {
        self.lock().balancer.connection_opened(id, now_us)
    }

    /// It is gone.
    pub fn connection_closed(&self, connection: ConnectionId) {
        self.lock().balancer.connection_closed(connection);
    }
}

impl Inner {
    fn refresh(&mut self, running: &Running, service: &ServiceRef, now_us: u64) {
        let Some(places) = running.places.get(service) else {
            if self.places.take().is_some() {
                self.balancer.update(&api::config::Balancing::default(), &[], &BTreeMap::new(), now_us);
            }
            return;
        };
        if self.places.as_ref().is_some_and(|held| Arc::ptr_eq(held, places)) {
            return;
        }
        self.balancer.update(&places.balancing, &places.sets, &places.zones, now_us);
        self.places = Some(places.clone());
    }

    /// Takes one more of what is limited.
    fn take(&self, breaker: &Arc<Breaker>, limit: Limit) -> Result<Taken, Open> {
        self.limited(|limits| breaker.take(limit, limits))
    }

    /// By the limits that hold now.
    fn limited<T>(&self, take: impl FnOnce(&config::Breaker) -> T) -> T {
        match &self.places {
            Some(places) => take(&places.breaker),
            None => take(&config::Breaker::default()),
        }
    }

    /// Nothing came of this choice, which says nothing about the candidate.
    fn give_up(&mut self, choice: &Choice, now_us: u64) {
        match (&*choice.candidate, choice.connection) {
            // It was to be opened, and the balancer counts on it.
            (Candidate::Gateway { .. }, None) => {}
            (Candidate::Endpoint { .. }, _) if choice.probe => self.balancer.started(choice.id, now_us),
            _ => return,
        }
        self.balancer.finished(choice.id, now_us, Outcome::Cancelled);
    }

    /// The connection to this candidate that is used least.
    fn least_used(&self, id: CandidateId) -> Option<Held> {
        let links = self.links.get(&id)?;
        links.iter().filter(|held| held.link.is_open()).min_by_key(|held| held.link.in_flight()).cloned()
    }

    /// An open connection for this choice, unless one more should be opened.
    fn open_link(&mut self, choice: &Choice) -> Option<Held> {
        let links = self.links.get_mut(&choice.id)?;
        // One that is not to be used any more ends with the last request on it.
        for gone in links.extract_if(.., |held| !held.link.is_open()).filter_map(|held| held.connection) {
            self.balancer.connection_closed(gone);
        }
        match (&*choice.candidate, choice.connection) {
            (Candidate::Gateway { .. }, None) => None,
            (Candidate::Gateway { .. }, wanted) => links.iter().find(|held| held.connection == wanted).cloned(),
            (Candidate::Endpoint { .. }, _) => {
                let least = links.iter().min_by_key(|held| held.link.in_flight())?;
                let full = least.link.in_flight() >= STREAMS_PER_LINK && links.len() < LINKS_PER_PEER;
                (!full).then(|| least.clone())
            }
        }
    }

    fn lease(
        &mut self,
        callee: &Arc<Callee>,
        worker: &Arc<Worker>,
        held: Held,
        choice: Choice,
    ) -> Result<Lease, Refused> {
        // Beyond what the peer allows at once, the request waits for a stream until its head is there.
        let waits = match held.link.in_flight() >= STREAMS_MAX as usize {
            true => Some(self.take(&callee.breaker, Limit::Pending).map_err(Refused::NoRoom)?),
            false => None,
        };
        let target = held.connection.map_or_else(|| Target::from(choice.id), Target::from);
        let now_us = worker.now_us();
        self.balancer.started(target, now_us);
        held.link.count(true, now_us);
        Ok(Lease {
            callee: callee.clone(),
            worker: worker.clone(),
            link: held.link,
            target,
            choice,
            started_us: now_us,
            outcome: Outcome::Cancelled,
            waits,
            taken: SmallVec::new(),
        })
    }
}

/// One request on one connection. Its end tells the balancer how it went; that it was dropped is an end as well.
pub struct Lease {
    callee: Arc<Callee>,
    worker: Arc<Worker>,
    link: Arc<Link>,
    target: Target,
    /// Where it goes and why.
    pub choice: Choice,
    started_us: u64,
    outcome: Outcome,
    waits: Option<Taken>,
    taken: SmallVec<[Taken; 2]>,
}

impl Lease {
    /// Sends, and waits for the head of the answer.
    pub async fn send(&mut self, request: Request<Outgoing>) -> Result<Response<Incoming>, SendError> {
        let mut sent = self.link.send(request).await;
        if let Ok(response) = &mut sent
            && let Some(load) = load::told(response.headers_mut())
        {
            self.callee.loaded(self.choice.id, load, self.worker.now_us());
        }
        self.waits = None;
        self.outcome = match &sent {
            // Its proxy is there and its app is not: nothing more should go there.
            Ok(response) if is_gone(response) => Outcome::ConnectFailed,
            Ok(response) => self.answered(response.status().as_u16()),
            Err(SendError { hung: true, .. }) => Outcome::Hung,
            // The connection was closing in good order; that is no failure.
            Err(SendError { unsent: true, .. }) => Outcome::Cancelled,
            Err(_) => Outcome::Broken,
        };
        sent
    }

    /// Holds on to what a breaker counts until the end of the answer.
    pub fn hold(&mut self, taken: impl IntoIterator<Item = Taken>) {
        self.taken.extend(taken);
    }

    /// The body of the answer ended before its end.
    pub fn cut(&self, reason: RouteReason) {
        self.worker.state.counters.cut(&self.callee.service, reason);
    }

    /// The try's own deadline passed: as if it had answered 504.
    pub fn late(&mut self) {
        self.outcome = self.answered(504);
    }

    /// How it went says nothing about the endpoint: the caller is to blame, or it was a copy.
    pub fn blameless(&mut self) {
        self.outcome = Outcome::Cancelled;
    }

    fn answered(&self, status: u16) -> Outcome {
        Outcome::Answered { latency_us: self.worker.now_us().saturating_sub(self.started_us), status }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let now_us = self.worker.now_us();
        self.link.count(false, now_us);
        self.callee.finished(self.target, now_us, self.outcome);
    }
}

/// The peer's proxy answered in place of an app that does not take connections. Only proxies can say so.
fn is_gone(response: &Response<Incoming>) -> bool {
    response.status() == http::StatusCode::SERVICE_UNAVAILABLE
        && response.headers().get(headers::REASON).is_some_and(|told| told == RouteReason::AppUnreachable.as_str())
}

async fn settled(mut opening: Opening) -> Option<Result<Held, Arc<ConnectError>>> {
    let settled = opening.wait_for(Option::is_some).await.ok()?;
    settled.clone()
}

/// Who may answer.
pub fn identities(candidate: &Candidate) -> &[api::SpiffeId] {
    match candidate {
        Candidate::Endpoint { identity, .. } => std::slice::from_ref(identity),
        Candidate::Gateway { identities, .. } => identities,
    }
}

/// As people call it: the workload, or the gateway's address.
pub fn name(candidate: &Candidate) -> Arc<str> {
    match candidate {
        Candidate::Endpoint { workload, .. } => workload.clone().into(),
        Candidate::Gateway { address, .. } => address.to_string().into(),
    }
}
