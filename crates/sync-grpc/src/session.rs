//! One stream, either end: frames in, frames out, nothing else. One task, asleep while nothing happens.

use crate::follower::{Attached, FollowError, Follower, Step};
use crate::io::Heard;
use crate::limits::{BYE_TIMEOUT, FRAMES_WAITING_MAX, OPENING_MAX, PROTOCOL};
use crate::published::Published;
use crate::wire::{self, Malformed, Message};
use api::sync_v1::frame::Body;
use api::sync_v1::{Bye, Frame, Open};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use sync::{Confused, Cursor, Down, Feed, Reject, Up};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{StreamExt, StreamMap};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

/// One side's channels on one stream, by name.
#[derive(Clone, Default)]
pub struct Channels {
    /// What we publish.
    pub publish: Vec<(String, Published)>,
    /// What we follow.
    pub follow: Vec<(String, Follower)>,
}

/// What the other side acknowledged on a channel we publish, and what that took.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// Applied (and written down, where it keeps a copy) up to here.
    pub acked: Option<Cursor>,
    /// What it refuses at present.
    pub rejects: Vec<Reject>,
    /// Whether it keeps another history than the one we tell.
    pub declined: bool,
    /// Items sent, removals included, over all streams.
    pub sent_items: u64,
    /// Bytes of keys and payloads sent, over all streams.
    pub sent_bytes: u64,
}

/// By channel.
pub(crate) type Board = watch::Sender<BTreeMap<String, Progress>>;

/// How a stream ended.
#[derive(Debug)]
pub(crate) enum End {
    Cancelled,
    /// The other side closed without a word.
    Closed,
    Bye {
        reason: String,
        retry_after: Option<Duration>,
    },
    Failed(SessionError),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error("the stream broke: {}", .0.message())]
    Broken(#[from] Status),
    #[error("channel {channel}: {source}")]
    Confused { channel: String, source: Confused },
    #[error("channel {channel}: {source}")]
    Follow { channel: String, source: FollowError },
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("more than {FRAMES_WAITING_MAX} frames wait to be sent; does the peer follow the protocol?")]
    Flooded,
    #[error("no opening message; does the peer speak this protocol?")]
    NotOpened,
    #[error("the peer speaks protocol {0}, this program speaks {PROTOCOL}; upgrade the older of the two")]
    Version(u32),
}

/// The two directions of a stream, after both sides opened it.
pub(crate) struct Line {
    pub inbound: Streaming<Frame>,
    pub outbound: mpsc::Sender<Frame>,
    pub heard: Heard,
    pub cancel: CancellationToken,
    /// The listener stops, which ends the session as well.
    pub closing: CancellationToken,
    /// A place among those that are opening.
    pub permit: Option<OwnedSemaphorePermit>,
}

struct Sending {
    name: String,
    view: Published,
    feed: Feed,
    /// Whether the other side said that it will follow.
    followed: bool,
    progress: Progress,
}

struct Taking {
    name: String,
    copy: Arc<Attached>,
}

enum Outgoing {
    Up(usize, Up),
    Down(usize, Down),
}

struct Drive<'a> {
    sending: Vec<Sending>,
    taking: Vec<Taking>,
    /// What the engine said and HTTP/2 has not taken yet: at most one transaction per channel, by reference.
    outbox: VecDeque<Outgoing>,
    board: &'a Board,
}

/// What this side says first.
pub(crate) fn open(name: &str, version: &str, channels: &Channels) -> Frame {
    let names = |channels: Vec<&String>| channels.into_iter().cloned().collect();
    let open = Open {
        protocol: PROTOCOL,
        version: version.to_owned(),
        capabilities: Vec::new(),
        name: name.to_owned(),
        follows: names(channels.follow.iter().map(|(name, _)| name).collect()),
        publishes: names(channels.publish.iter().map(|(name, _)| name).collect()),
    };
    Frame { channel: String::new(), body: Some(Body::Open(open)) }
}

/// What this side says last.
pub(crate) fn bye(reason: &str, retry_after: Option<Duration>) -> Frame {
    let retry_after_ms = retry_after.map_or(0, |after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1));
    Frame { channel: String::new(), body: Some(Body::Bye(Bye { reason: reason.to_owned(), retry_after_ms })) }
}

/// Reads what the other side says first.
pub(crate) async fn opened(inbound: &mut Streaming<Frame>) -> Result<Open, End> {
    match inbound.message().await.map_err(|status| End::Failed(status.into()))?.map(|frame| frame.body) {
        Some(Some(Body::Open(open))) if open.protocol == PROTOCOL => Ok(open),
        Some(Some(Body::Open(open))) => Err(End::Failed(SessionError::Version(open.protocol))),
        Some(Some(Body::Bye(bye))) => Err(said_bye(bye)),
        None => Err(End::Closed),
        Some(_) => Err(End::Failed(SessionError::NotOpened)),
    }
}

fn said_bye(Bye { reason, retry_after_ms }: Bye) -> End {
    End::Bye { reason, retry_after: (retry_after_ms > 0).then(|| Duration::from_millis(retry_after_ms)) }
}

/// Runs a stream to its end.
pub(crate) async fn drive(line: Line, channels: Channels, peer: &Open, board: &Board) -> End {
    let Line { mut inbound, outbound, heard, cancel, closing, mut permit } = line;
    let Channels { publish, follow } = channels;
    let mut views = StreamMap::new();
    let mut adoptions = StreamMap::new();
    let mut drive = Drive { sending: Vec::new(), taking: Vec::new(), outbox: VecDeque::new(), board };
    for (index, (name, view)) in publish.into_iter().enumerate() {
        views.insert(index, WatchStream::from_changes(view.changes()));
        let progress = board.borrow().get(&name).cloned().unwrap_or_default();
        let followed = peer.follows.contains(&name);
        drive.sending.push(Sending { name, view, feed: Feed::new(), followed, progress });
    }
    for (index, (name, follower)) in follow.into_iter().enumerate() {
        adoptions.insert(index, WatchStream::from_changes(follower.adoptions()));
        let (copy, hello) = follower.attach();
        drive.outbox.push_back(Outgoing::Up(index, hello));
        drive.taking.push(Taking { name, copy: Arc::new(copy) });
    }
    let in_step_by = sleep(OPENING_MAX);
    tokio::pin!(in_step_by);
    let end = loop {
        if permit.is_some() && drive.in_step() {
            permit = None;
        }
        if drive.outbox.len() > FRAMES_WAITING_MAX {
            break End::Failed(SessionError::Flooded);
        }
        let went = tokio::select! {
            () = cancel.cancelled() => break End::Cancelled,
            () = closing.cancelled() => break End::Cancelled,
            () = outbound.closed() => break End::Closed,
            () = &mut in_step_by, if permit.is_some() => {
                permit = None;
                Ok(())
            }
            place = outbound.reserve(), if !drive.outbox.is_empty() => match (place, drive.next_frame()) {
                (Ok(place), Some(frame)) => {
                    place.send(frame);
                    Ok(())
                }
                _ => break End::Closed,
            },
            came = inbound.message() => match came {
                Ok(Some(Frame { body: Some(Body::Bye(bye)), .. })) => break said_bye(bye),
                Ok(Some(frame)) => drive.receive(frame).await,
                Ok(None) => break End::Closed,
                Err(status) => break End::Failed(status.into()),
            },
            Some((index, ())) = views.next(), if !views.is_empty() => {
                drive.poll(index);
                Ok(())
            }
            Some((index, ())) = adoptions.next(), if !adoptions.is_empty() => drive.greet_again(index),
        };
        if let Err(error) = went {
            break End::Failed(error);
        }
    };
    for Taking { copy, .. } in &drive.taking {
        copy.detach(heard.last_ms(), Some(end.to_string()));
    }
    if let Some(last) = end.last_words() {
        let _ = timeout(BYE_TIMEOUT, outbound.send(last)).await;
        drop(outbound);
        // Whoever dialled keeps the connection until the other side has heard it.
        let listen = async { while let Ok(Some(_)) = inbound.message().await {} };
        let _ = timeout(BYE_TIMEOUT, listen).await;
    }
    end
}

impl Drive<'_> {
    async fn receive(&mut self, Frame { channel, body }: Frame) -> Result<(), SessionError> {
        match wire::read(body)? {
            None => Ok(()),
            Some(Message::Up(message)) => match self.sending.iter().position(|one| one.name == channel) {
                Some(index) => self.feed(index, message),
                None => ignore(&channel),
            },
            Some(Message::Down(message)) => match self.taking.iter().position(|one| one.name == channel) {
                Some(index) => self.take(index, message).await,
                None => ignore(&channel),
            },
        }
    }

    fn feed(&mut self, index: usize, message: Up) -> Result<(), SessionError> {
        let Sending { name, view, feed, progress, .. } = &mut self.sending[index];
        let out = view.look(|view, lineage| feed.receive(message, view, lineage));
        let out = out.map_err(|source| SessionError::Confused { channel: name.clone(), source })?;
        progress.acked = feed.acked();
        progress.rejects = feed.rejects().to_vec();
        progress.declined = feed.declined();
        self.board.send_if_modified(|board| {
            let changed = board.get(name) != Some(progress);
            if changed {
                board.insert(name.clone(), progress.clone());
            }
            changed
        });
        self.outbox.extend(out.into_iter().map(|message| Outgoing::Down(index, message)));
        Ok(())
    }

    fn poll(&mut self, index: usize) {
        let Sending { view, feed, .. } = &mut self.sending[index];
        let out = view.look(|view, lineage| feed.poll(view, lineage));
        self.outbox.extend(out.into_iter().map(|message| Outgoing::Down(index, message)));
    }

    async fn take(&mut self, index: usize, message: Down) -> Result<(), SessionError> {
        let Taking { name, copy } = &self.taking[index];
        let failed = |source| SessionError::Follow { channel: name.clone(), source };
        match copy.receive(message).map_err(failed)? {
            Step::Reply(out) => self.outbox.extend(out.into_iter().map(|message| Outgoing::Up(index, message))),
            Step::Write(transaction) => {
                let ack = if copy.waits_for_disk() {
                    // An fsync may take a tenth of a second on a busy disk, and other streams share this thread.
                    let copy = copy.clone();
                    let written = tokio::task::spawn_blocking(move || copy.commit(transaction)).await;
                    written.expect("committing does not panic, and is not aborted").map_err(failed)?
                } else {
                    copy.commit(transaction).map_err(failed)?
                };
                self.outbox.push_back(Outgoing::Up(index, ack));
            }
        }
        Ok(())
    }

    fn greet_again(&mut self, index: usize) -> Result<(), SessionError> {
        let Taking { name, copy } = &self.taking[index];
        let hello = copy.greet_again().map_err(|source| SessionError::Follow { channel: name.clone(), source })?;
        self.outbox.push_back(Outgoing::Up(index, hello));
        Ok(())
    }

    fn next_frame(&mut self) -> Option<Frame> {
        Some(match self.outbox.pop_front()? {
            Outgoing::Up(index, message) => {
                Frame { channel: self.taking[index].name.clone(), body: Some(wire::up(message)) }
            }
            Outgoing::Down(index, message) => {
                let Sending { name, progress, .. } = &mut self.sending[index];
                if let Down::Delta(delta) = &message {
                    progress.sent_items += (delta.set.len() + delta.removed.len()) as u64;
                    let set = delta.set.iter().map(|(key, payload)| key.len() + payload.len());
                    let removed = delta.removed.iter().map(|key| key.len());
                    progress.sent_bytes += set.chain(removed).sum::<usize>() as u64;
                }
                Frame { channel: name.clone(), body: Some(wire::down(message)) }
            }
        })
    }

    /// Whether everyone who follows us has what there was when it came.
    fn in_step(&self) -> bool {
        let mut followed = self.sending.iter().filter(|one| one.followed);
        followed.all(|one| one.feed.acked().is_some() || one.feed.declined())
    }
}

/// A peer of another minor version may have channels that we have not.
fn ignore(channel: &str) -> Result<(), SessionError> {
    tracing::debug!(channel, "a frame for a channel that this side does not have");
    Ok(())
}

impl End {
    /// What to tell the other side.
    fn last_words(&self) -> Option<Frame> {
        match self {
            End::Cancelled => Some(bye("going away", Some(crate::limits::BACKOFF_MIN))),
            End::Failed(SessionError::Broken(_)) | End::Closed | End::Bye { .. } => None,
            End::Failed(error) => Some(bye(&error.to_string(), Some(crate::limits::STEADY_AFTER))),
        }
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Cancelled => f.write_str("closed by this side"),
            End::Closed => f.write_str("closed by the peer"),
            End::Bye { reason, .. } => write!(f, "closed by the peer: {reason}"),
            End::Failed(error) => error.fmt(f),
        }
    }
}
