//! What stands before hyper on an app's connection: HTTP/1 that can be read in two ways is refused, slow heads and
//! bodies are ended, and HTTP/2 is metered. Connections between proxies, which are HTTP/2 by agreement, pass it as well.
//!
//! Bytes are judged where they lie, in the buffer hyper gave us. Only a head that came in pieces is kept here until it
//! is whole, so hyper never sees part of one. A refused head is replaced by a request of our own (`REFUSED`), so that
//! the refusal is answered in its turn, behind requests that came before it on the same connection.

pub mod chunks;
pub mod head;
#[cfg(test)]
mod tests;
mod told;

use super::line;
use super::meter::{Flood, Meter, PREFACE, say_goodbye};
use super::rate_min;
use super::refused;
use crate::limits::{
    EDGE_FIRST_BYTE, EDGE_HEADER_BYTES_MAX, EDGE_REQUEST_LINE_MAX, HEADER_BYTES_MAX, HEADER_DEADLINE, REQUEST_LINE_MAX,
    SWITCH_BYTES_MAX,
};
use chunks::Chunks;
pub use head::Bad;
use head::{Framing, Head, HeadMax, HeadReader};
use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::yield_now;
use tokio::time::{Sleep, sleep};
pub use told::Told;

/// Takes the place of a refused head.
pub const REFUSED: &[u8] = b"GET /refused HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// A head that comes in pieces is read by so many bytes, one piece a turn: more than the extensions a chunk may have, so
/// that a bad one is often seen with its head.
const PIECE_BYTES: usize = 16 * 1024;

/// Who is on the other side.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The app of this proxy.
    Mesh,
    /// Somebody without identity, where a workload takes plaintext.
    Plain,
    /// Anybody.
    Edge,
}

/// What the listener takes.
#[derive(Debug)]
struct Bounds {
    head: HeadMax,
    /// From the first byte of a head to its last.
    head_deadline: Duration,
    /// The first byte of a connection.
    first_byte: Option<Duration>,
    /// Least bytes of a body in each such time.
    body_pace: Option<(u64, Duration)>,
}

const MESH: Bounds = Bounds {
    head: HeadMax { bytes: HEADER_BYTES_MAX, line_bytes: REQUEST_LINE_MAX, underscores: true },
    head_deadline: HEADER_DEADLINE,
    first_byte: None,
    body_pace: None,
};
const PLAIN: Bounds = Bounds { head: MESH.head, ..EDGE };
const EDGE: Bounds = Bounds {
    head: HeadMax { bytes: EDGE_HEADER_BYTES_MAX, line_bytes: EDGE_REQUEST_LINE_MAX, underscores: false },
    head_deadline: HEADER_DEADLINE,
    first_byte: Some(EDGE_FIRST_BYTE),
    body_pace: Some(rate_min::LEAST),
};

/// Where in the stream we are.
enum State {
    /// At the beginning: HTTP/2 tells itself by its preface.
    First,
    Head(HeadReader),
    Length {
        left: u64,
        switches: bool,
    },
    Chunked {
        chunks: Chunks,
        switches: bool,
    },
    /// Behind a request for another protocol, which is not agreed yet.
    Asked,
    /// Bytes of another protocol.
    Through,
    Http2(Meter),
    /// [`REFUSED`] was the last.
    Refused(Bad),
    /// A body cannot be followed any more.
    Broken(Bad),
    Flooded(Flood),
}

/// Why bytes do not pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stop {
    Refuse(Bad),
    Break(Bad),
    Flood(Flood),
}

/// The decisions, without IO.
struct Judge {
    bounds: &'static Bounds,
    state: State,
    heads: u32,
    body_bytes: u64,
    told: Arc<Told>,
}

impl Judge {
    /// How many of `bytes` may pass now. They begin where the last passed byte ended.
    fn pass(&mut self, bytes: &[u8]) -> (usize, Option<Stop>) {
        let mut at = 0;
        // Where the head began that these bytes hold with the beginning of its body.
        let mut head_at = None;
        while at < bytes.len() {
            let rest = &bytes[at..];
            match &mut self.state {
                State::Head(reader) => match reader.read(rest, &self.bounds.head) {
                    Ok(Some(head)) => {
                        head_at = Some(at);
                        at += head.bytes;
                        self.heads += 1;
                        self.state = behind(head);
                    }
                    Ok(None) => break,
                    Err(bad) => {
                        self.refuse(bad);
                        return (at, Some(Stop::Refuse(bad)));
                    }
                },
                State::Length { left, switches } => {
                    let count = (*left).min(rest.len() as u64);
                    *left -= count;
                    at += count as usize;
                    self.body_bytes += count;
                    if *left == 0 {
                        self.state = next(*switches);
                    }
                }
                State::Chunked { chunks, switches } => match chunks.take(rest) {
                    Ok((count, ended)) => {
                        at += count;
                        self.body_bytes += count as u64;
                        if ended {
                            self.state = next(*switches);
                        }
                    }
                    // Nobody has seen its head yet: it goes to no other side.
                    Err(bad) if let Some(head_at) = head_at => {
                        self.heads -= 1;
                        self.refuse(bad);
                        return (head_at, Some(Stop::Refuse(bad)));
                    }
                    Err(bad) => {
                        self.state = State::Broken(bad);
                        return (at, Some(Stop::Break(bad)));
                    }
                },
                State::Http2(meter) => match meter.read(rest) {
                    Ok(count) if count < rest.len() => {
                        at += count;
                        break;
                    }
                    Ok(_) => at = bytes.len(),
                    Err(flood) => {
                        self.state = State::Flooded(flood);
                        return (at, Some(Stop::Flood(flood)));
                    }
                },
                State::Through => at = bytes.len(),
                State::First => match rest.len().min(PREFACE.len()) {
                    count if rest[..count] != PREFACE[..count] => self.state = State::Head(HeadReader::default()),
                    count if count < PREFACE.len() => break,
                    _ => self.state = State::Http2(Meter::server()),
                },
                State::Asked => {
                    self.state = match self.told.agreed(self.heads) {
                        None => break,
                        Some(true) => State::Through,
                        Some(false) => State::Head(HeadReader::default()),
                    };
                }
                State::Refused(_) | State::Broken(_) | State::Flooded(_) => break,
            }
        }
        (at, None)
    }

    fn refuse(&mut self, bad: Bad) {
        // A connection is refused once: nothing is read from it afterwards.
        self.told.refuse(self.heads + 1, bad);
        self.state = State::Refused(bad);
    }
}

fn behind(head: Head) -> State {
    let Head { bytes: _, body, switches } = head;
    match body {
        Framing::Length(0) => next(switches),
        Framing::Length(left) => State::Length { left, switches },
        Framing::Chunked => State::Chunked { chunks: Chunks::default(), switches },
    }
}

fn next(switches: bool) -> State {
    if switches { State::Asked } else { State::Head(HeadReader::default()) }
}

/// What is waited for, and so how long. Numbered, so that no request inherits the time of an earlier one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wait {
    FirstByte,
    Head(u32),
    Body(u32),
    /// Of HTTP/2.
    Block(u32),
}

/// Fires in its turn.
type Timer = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection whose bytes are judged.
pub struct Gate<I> {
    io: I,
    judge: Judge,
    /// Bytes that wait, for the rest of a head or for an agreement.
    held: Vec<u8>,
    /// Of these, judged and to be passed on.
    ready: usize,
    timer: Option<(Wait, Timer)>,
    paced_bytes: u64,
    /// The last turn is over and the next one has not begun.
    waits: bool,
    /// Nothing is read until then.
    rest: Option<Pin<Box<Sleep>>>,
    /// Nothing more will come.
    ended: bool,
    /// What we send to a peer that will end the connection if we take too much back. It sees plain writes only: a link
    /// gathers its bytes before they come here, and so never writes slices.
    own: Option<Box<Meter>>,
}

impl<I> Gate<I> {
    /// Before `io`. The other half goes to whoever serves the connection.
    pub fn new(io: I, side: Side) -> (Self, Arc<Told>) {
        Self::bounded(
            io,
            match side {
                Side::Mesh => &MESH,
                Side::Plain => &PLAIN,
                Side::Edge => &EDGE,
            },
        )
    }

    /// For a connection that is HTTP/2 by agreement.
    pub fn http2(io: I, meter: Meter) -> (Self, Arc<Told>) {
        let (mut gate, told) = Self::new(io, Side::Mesh);
        gate.judge.state = State::Http2(meter);
        (gate, told)
    }

    /// For our own connection to a peer.
    pub fn link(io: I) -> (Self, Arc<Told>) {
        let (gate, told) = Self::http2(io, Meter::client());
        (Self { own: Some(Box::new(Meter::own())), ..gate }, told)
    }

    fn bounded(io: I, bounds: &'static Bounds) -> (Self, Arc<Told>) {
        let told = Arc::<Told>::default();
        let judge = Judge { bounds, state: State::First, heads: 0, body_bytes: 0, told: told.clone() };
        (
            Self {
                io,
                judge,
                held: Vec::new(),
                ready: 0,
                timer: None,
                paced_bytes: 0,
                waits: false,
                rest: None,
                ended: false,
                own: None,
            },
            told,
        )
    }

    fn wait(&self) -> Option<(Wait, Duration)> {
        let Judge { bounds, state, heads, .. } = &self.judge;
        match state {
            State::First if self.held.is_empty() => bounds.first_byte.map(|limit| (Wait::FirstByte, limit)),
            State::First | State::Head(_) if !self.held.is_empty() => Some((Wait::Head(*heads), bounds.head_deadline)),
            State::Length { .. } | State::Chunked { .. } => {
                bounds.body_pace.map(|(_, window)| (Wait::Body(*heads), window))
            }
            State::Http2(meter) => meter.waits_for_block().map(|number| (Wait::Block(number), bounds.head_deadline)),
            _ => None,
        }
    }

    /// Nothing came. Ready when that has been so for too long, with what was changed by it.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some((wait, limit)) = self.wait() else {
            self.timer = None;
            return Poll::Pending;
        };
        if self.timer.as_ref().is_none_or(|(running, _)| *running != wait) {
            self.timer = Some((wait, Box::pin(line::after(limit))));
            self.paced_bytes = self.judge.body_bytes;
        }
        let Some((_, timer)) = &mut self.timer else { return Poll::Pending };
        ready!(timer.as_mut().poll(cx));
        self.timer = None;
        match wait {
            Wait::FirstByte => {
                self.judge.state = State::Broken(Bad::Slow);
                self.stop(Stop::Break(Bad::Slow), 0);
            }
            Wait::Head(_) => {
                self.judge.refuse(Bad::Slow);
                self.stop(Stop::Refuse(Bad::Slow), 0);
            }
            Wait::Block(_) => {
                self.judge.state = State::Flooded(Flood::SlowBlock);
                self.stop(Stop::Flood(Flood::SlowBlock), 0);
            }
            Wait::Body(_) => {
                let least = self.judge.bounds.body_pace.map_or(0, |(bytes, _)| bytes);
                if self.judge.body_bytes - self.paced_bytes < least {
                    self.judge.state = State::Broken(Bad::SlowBody);
                    self.stop(Stop::Break(Bad::SlowBody), 0);
                }
            }
        }
        Poll::Ready(())
    }

    /// Behind the first `pass` of the held bytes nothing passes any more.
    fn stop(&mut self, stop: Stop, pass: usize) {
        tracing::debug!(?stop, "refused what a caller sent");
        match &stop {
            Stop::Refuse(bad) | Stop::Break(bad) => refused::count(bad),
            Stop::Flood(flood) => refused::count(flood),
        }
        self.held.truncate(pass);
        if let Stop::Refuse(_) = stop {
            self.held.extend_from_slice(REFUSED);
        }
        self.ready = self.held.len();
    }
}

impl<I> Gate<I> {
    /// Ready when this connection may be read: others had their turn since it had its own.
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(rest) = &mut self.rest {
            ready!(rest.as_mut().poll(cx));
            self.rest = None;
        }
        let Judge { state, told, .. } = &mut self.judge;
        let State::Http2(meter) = state else { return Poll::Ready(()) };
        if !meter.turn_is_over() {
            return Poll::Ready(());
        }
        if !self.waits {
            self.waits = true;
            return others_first(told, cx);
        }
        if told.is_turn_over() {
            return Poll::Pending;
        }
        self.waits = false;
        match meter.next_turn(told.begun()) {
            Ok(None) => Poll::Ready(()),
            Ok(Some(time)) => {
                self.rest = Some(Box::pin(sleep(time)));
                self.poll_turn(cx)
            }
            Err(flood) => {
                self.judge.state = State::Flooded(flood);
                self.stop(Stop::Flood(flood), 0);
                Poll::Ready(())
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Gate<I> {
    /// Straight into hyper's buffer.
    fn poll_straight(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = out.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(cx, out))?;
        let bytes = &out.filled()[before..];
        self.ended |= bytes.is_empty();
        let (pass, stop) = self.judge.pass(bytes);
        if pass == bytes.len() && stop.is_none() {
            return Poll::Ready(Ok(true));
        }
        match stop {
            Some(stop) => self.stop(stop, 0),
            None => self.held.extend_from_slice(&bytes[pass..]),
        }
        out.set_filled(before + pass);
        Poll::Ready(Ok(pass > 0))
    }

    /// More of what is held already.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Read>> {
        if matches!(self.judge.state, State::Asked) && self.held.len() >= SWITCH_BYTES_MAX {
            // Whoever serves the connection polls again when it has answered.
            return Poll::Pending;
        }
        // Held are the bytes that came, and no room for those that may.
        let mut room = [MaybeUninit::uninit(); PIECE_BYTES];
        let mut piece = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut piece))?;
        if piece.filled().is_empty() {
            self.ended = true;
            return Poll::Ready(Ok(Read::Done));
        }
        self.held.extend_from_slice(piece.filled());
        self.judge_held();
        Poll::Ready(Ok(if piece.remaining() == 0 && self.ready == 0 { Read::Later } else { Read::Again }))
    }

    fn judge_held(&mut self) {
        let (pass, stop) = self.judge.pass(&self.held);
        self.ready = pass;
        if let Some(stop) = stop {
            self.stop(stop, pass);
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gate<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.ready > 0 {
                let count = this.ready.min(out.remaining());
                out.put_slice(&this.held[..count]);
                this.held.drain(..count);
                this.ready -= count;
                if this.held.is_empty() {
                    this.held = Vec::new();
                }
                return Poll::Ready(Ok(()));
            }
            ready!(this.poll_turn(cx));
            match &this.judge.state {
                // The answer to it ends the connection; an end told here would end it before.
                State::Refused(_) => return Poll::Pending,
                State::Broken(bad) => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, *bad);
                    if this.is_fault() {
                        this.judge.told.hold();
                    }
                    return Poll::Ready(Err(error));
                }
                State::Flooded(flood) => {
                    let flood = *flood;
                    say_goodbye(&mut this.io, cx);
                    this.judge.told.hold();
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, flood)));
                }
                State::Asked | State::Http2(_) if !this.held.is_empty() => {
                    this.judge_held();
                    if this.ready > 0 {
                        continue;
                    }
                }
                _ => {}
            }
            let read = match this.held.is_empty() {
                true => this.poll_straight(cx, out).map_ok(|done| if done { Read::Done } else { Read::Again }),
                false => this.poll_more(cx),
            };
            match read {
                Poll::Ready(Ok(Read::Done)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(Read::Again)) => {}
                Poll::Ready(Ok(Read::Later)) => ready!(others_first(&this.judge.told, cx)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => ready!(this.poll_late(cx)),
            }
        }
    }
}

/// Ends the turn of this connection.
fn others_first(told: &Told, cx: &mut Context<'_>) -> Poll<()> {
    told.turn_over();
    // Polled once, it wakes us when the worker has done all it had to do and looked at its sockets.
    pin!(yield_now()).poll(cx)
}

/// What a read brought.
enum Read {
    /// Something for hyper, or the end.
    Done,
    /// Something to keep; there may be more.
    Again,
    /// The same, and it was much: others first.
    Later,
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Gate<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, bytes))?;
        this.wrote(written);
        if let Some(own) = &mut this.own
            && own.sent(&bytes[..written])
        {
            this.judge.told.spend();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, slices))?;
        this.wrote(written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.is_fault() {
            // Whoever serves the connection closes it, in its own time.
            this.judge.told.hold();
            return Pin::new(&mut this.io).poll_flush(cx);
        }
        Pin::new(&mut this.io).poll_shutdown(cx)
    }
}

impl<I> Gate<I> {
    /// Whether it is the caller's fault when the connection ends now, and neither side leaves. Who was slow is not kept: it
    /// comes again as slowly.
    fn is_fault(&self) -> bool {
        let Judge { state, told, .. } = &self.judge;
        let fault = match state {
            State::Http2(meter) => meter.has_caller(),
            State::Refused(bad) | State::Broken(bad) => !bad.is_slow(),
            _ => told.is_blamed(),
        };
        fault && !self.ended && !told.is_leaving()
    }

    fn wrote(&mut self, bytes: usize) {
        if let State::Http2(meter) = &mut self.judge.state {
            meter.wrote(bytes);
        }
    }
}
