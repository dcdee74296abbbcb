//! The end that is dialled: admits, opens, and gives each stream a task.

use crate::admission::{Admission, Gate};
use crate::io::Peer;
use crate::limits::{CHANNELS_MAX, FRAMES_IN_FLIGHT, MESSAGE_BYTES_MAX, OPEN_TIMEOUT, RETRY_AFTER_MAX};
use crate::session::{self, Channels, End, Line, Progress, SessionError};
use api::sync_v1::sync_server::{Sync as SyncRpc, SyncServer};
use api::sync_v1::{Frame, Open};
use std::any::Any;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

/// Decides who may open a stream, and what is on it.
pub trait Admit: Send + Sync + 'static {
    /// Called once per stream, after the peer's certificate was verified. Must not block.
    fn admit(&self, peer: &Peer, open: &Open) -> Result<Session, Refusal>;
}

/// Why not, and when to ask again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// For the people on the other side.
    pub reason: String,
    /// When to come back; `None`: not without a change.
    pub retry_after: Option<Duration>,
}

/// An admitted stream.
pub struct Session {
    /// What this side publishes and follows.
    pub channels: Channels,
    /// Where to tell what the peer acknowledged.
    pub progress: watch::Sender<BTreeMap<String, Progress>>,
    /// Ends the session.
    pub cancel: CancellationToken,
    /// Dropped when the stream has ended.
    pub guard: Box<dyn Any + Send>,
}

/// The replication service.
pub struct Service {
    admit: Arc<dyn Admit>,
    gate: Gate,
}

/// The replication service, to be added to the routes of a listener.
pub fn service(admit: Arc<dyn Admit>, admission: Admission) -> SyncServer<Service> {
    SyncServer::new(Service { admit, gate: Gate::new(admission) })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

type Frames = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

#[tonic::async_trait]
impl SyncRpc for Service {
    type ReplicateStream = Frames;

    async fn replicate(&self, request: Request<Streaming<Frame>>) -> Result<Response<Frames>, Status> {
        let Some(mut peer) = request.extensions().get::<Peer>().cloned() else {
            return Err(Status::unauthenticated("this service is only for connections with client certificates"));
        };
        let mut inbound = request.into_inner();
        let permit = match self.gate.enter(Instant::now()) {
            Ok(permit) => permit,
            Err(after) => return Ok(refuse("too many are opening a session", Some(after))),
        };
        let open = match timeout(OPEN_TIMEOUT, session::opened(&mut inbound)).await {
            Ok(Ok(open)) => open,
            Ok(Err(End::Failed(error @ SessionError::Version(_)))) => {
                return Ok(refuse(&error.to_string(), Some(RETRY_AFTER_MAX)));
            }
            Ok(Err(_)) | Err(_) => return Err(Status::invalid_argument(SessionError::NotOpened.to_string())),
        };
        if open.follows.len() + open.publishes.len() > CHANNELS_MAX {
            return Ok(refuse("more channels than one stream carries", None));
        }
        peer.open = Some(open.clone());
        let Session { channels, progress, cancel, guard } = match self.admit.admit(&peer, &open) {
            Ok(session) => session,
            Err(Refusal { reason, retry_after }) => return Ok(refuse(&reason, retry_after)),
        };
        let (outbound, frames) = mpsc::channel(FRAMES_IN_FLIGHT);
        let first = session::open("", env!("CARGO_PKG_VERSION"), &channels);
        outbound.try_send(first).expect("a new channel has a place");
        let Peer { id, addr, heard, closing, .. } = peer;
        tokio::spawn(async move {
            let id = id.map(|id| id.to_string()).unwrap_or_default();
            tracing::debug!(peer = id, %addr, name = open.name, version = open.version, "session opened");
            let line = Line { inbound, outbound, heard, cancel, closing, permit: Some(permit) };
            let end = session::drive(line, channels, &open, &progress).await;
            tracing::debug!(peer = id, %addr, %end, "session ended");
            drop(guard);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(frames).map(Ok))))
    }
}

fn refuse(reason: &str, retry_after: Option<Duration>) -> Response<Frames> {
    let frame = session::bye(reason, retry_after);
    Response::new(Box::pin(tokio_stream::once(Ok(frame))))
}
