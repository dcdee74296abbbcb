//! What a proxy asks, what it is told, and what it reports back.

use api::{Name, RouteReason, SpiffeId, ZoneName};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// One candidate of one [`Balancer`](crate::Balancer): a local endpoint or an address of a remote gateway. Stays the
/// same as long as the candidate stays known, and is never given to another one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct CandidateId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// One open connection through a gateway, pinned by the gateway to one remote workload.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct ConnectionId {
    /// The gateway's address.
    pub gateway: CandidateId,
    pub(crate) number: u32,
}

/// Whom an outcome is about: a candidate, or one connection through a gateway. Made `from` either id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Target {
    pub(crate) candidate: CandidateId,
    pub(crate) connection: Option<ConnectionId>,
}

impl From<CandidateId> for Target {
    fn from(candidate: CandidateId) -> Self {
        Self { candidate, connection: None }
    }
}

impl From<ConnectionId> for Target {
    fn from(connection: ConnectionId) -> Self {
        Self { candidate: connection.gateway, connection: Some(connection) }
    }
}

/// One question: where may this try of a request go?
#[derive(Clone, Copy, Debug, Default)]
pub struct Ask<'a> {
    /// Only this zone, because the caller or a route named it.
    pub zone: Option<&'a ZoneName>,
    /// Where earlier tries of this request went.
    pub tried: &'a [CandidateId],
    /// What hash algorithms keep together, as [`hash_key`](crate::hash_key) tells; `None`: anywhere.
    pub hash: Option<u64>,
    /// Never used to find out whether an endpoint is back, because it could not be tried again.
    pub precious: bool,
}

/// Where a try goes, and why.
#[derive(Clone, Debug)]
pub struct Choice {
    /// For [`started`](crate::Balancer::started) and [`finished`](crate::Balancer::finished) when there is no
    /// `connection`, and for [`Ask::tried`].
    pub id: CandidateId,
    /// Through a gateway: this open connection. `None`: open one more, then say
    /// [`connection_opened`](crate::Balancer::connection_opened) (or finish `id` with the failure).
    pub connection: Option<ConnectionId>,
    /// Its zone.
    pub zone: ZoneName,
    /// How to reach it.
    pub candidate: Arc<Candidate>,
    /// Why there.
    pub reason: RouteReason,
    /// This try finds out whether the candidate is back; nothing else is sent there meanwhile.
    pub probe: bool,
}

/// How a candidate is reached, and who must answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Candidate {
    /// A workload of the proxy's own zone, straight.
    Endpoint {
        /// Its name.
        workload: Name,
        /// Its proxy's inbound listener.
        address: SocketAddr,
        /// Expected in its certificate.
        identity: SpiffeId,
    },
    /// Some workload of another zone, through one address of one of its gateways.
    Gateway {
        /// Of the gateway.
        address: SocketAddr,
        /// Expected in the workload's certificate: any of these.
        identities: Arc<[SpiffeId]>,
    },
}

impl Candidate {
    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Endpoint { address, .. } | Self::Gateway { address, .. } => *address,
        }
    }
}

/// How a try ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The head of an answer came.
    Answered {
        /// From sending to the head, microseconds.
        latency_us: u64,
        /// HTTP status; TCP: 200.
        status: u16,
    },
    /// No connection: refused, unreachable or timed out. Nothing was sent.
    ConnectFailed,
    /// A connection, but no answer: reset, closed, handshake failed.
    Broken,
    /// No sign of life: an h2 ping or the oldest request waited longer than its bound.
    Hung,
    /// The caller went away. Says nothing about the candidate.
    Cancelled,
}

/// Where requests go now and why: for `explain`, status and screens.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tiers {
    /// In the order in which they are filled.
    pub tiers: Vec<Tier>,
    /// Nothing is healthy anywhere: everything is tried.
    pub panic: bool,
}

/// Places of equal rank.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tier {
    /// Effective capacity of total capacity, 0.0 to 1.0.
    pub health: f64,
    /// Share of all requests it can carry.
    pub carries: f64,
    /// Share of all requests it gets.
    pub share: f64,
    /// Why it gets requests at all.
    pub reason: RouteReason,
    /// Its zones; within the own zone: one line a rank.
    pub places: Vec<TierPlace>,
}

/// One zone of a tier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TierPlace {
    /// Which.
    pub zone: ZoneName,
    /// How near: `node`, `az`, `region`, `zone`, or `remote`.
    pub rank: &'static str,
    /// Ready endpoints, as the control plane says.
    pub ready: u32,
    /// All endpoints.
    pub total: u32,
    /// Candidates out after failures: endpoints, or addresses of gateways.
    pub out: u32,
    /// Connections out after failures; remote zones only.
    pub connections_out: u32,
    /// Effective capacity of total capacity, before hysteresis.
    pub health: f64,
    /// Utilisation, if known.
    pub load: Option<f64>,
    /// Share of all requests it gets.
    pub share: f64,
}
