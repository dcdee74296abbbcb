//! Counts HTTP/2 frames on their way to h2, and ends a connection whose frames are mostly work for us.
//!
//! h2 bounds memory; it leaves floods of PING, SETTINGS, WINDOW_UPDATE, PRIORITY and unknown frames open for ever. Here
//! only frame heads are looked at, nine bytes each. What a peer may send without sense is a debt: it grows with each
//! such frame, useful work pays it off, and after [`FRAME_WINDOW`] it is forgiven.

use crate::limits::{
    BYTES_PER_FRAME, CONTINUATIONS_MAX, CONTROL_FRAMES_MAX, EMPTY_FRAMES_MAX, FRAME_WINDOW, HASTY_RESET,
    PEER_RESETS_MAX, REQUESTS_PER_TURN, REQUESTS_PER_YOUNG_TURN, RESETS_MAX, UNSERVED_FREE, UNSERVED_MAX,
    UNSERVED_REST, WINDOW_UPDATES_MAX, YOUNG_REQUESTS,
};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;

/// How a client begins (RFC 9113 section 3.4).
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// Begins a request, or an answer (RFC 9113 section 6.2).
const HEADERS: u8 = 1;
const END_STREAM: u8 = 1;
/// A bit beside the number of a stream that receivers ignore (RFC 9113 section 4.1). With it, one stream would be newer than
/// all that follow.
const RESERVED: u32 = 1 << 31;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// GOAWAY: no stream was certainly served, ENHANCE_YOUR_CALM (RFC 9113 sections 6.8 and 7).
const GOODBYE: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b];

/// Too much of what.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq, thiserror::Error)]
pub enum Flood {
    /// PING, SETTINGS, PRIORITY, GOAWAY and frames nobody knows.
    #[error("too many control frames")]
    Control,
    /// WINDOW_UPDATE.
    #[error("too many window updates")]
    WindowUpdates,
    /// DATA, HEADERS and CONTINUATION with nothing in them.
    #[error("too many empty frames")]
    Empty,
    /// One header block in many pieces.
    #[error("a header block in too many frames")]
    Continuations,
    /// Requests that are taken back (CVE-2023-44487).
    #[error("too many resets")]
    Resets,
    /// Requests nobody could serve: beyond the streams that may be open, or malformed.
    #[error("too many requests that were refused unread")]
    Unserved,
    /// A header block without an end, for too long.
    #[error("a header block did not end in time")]
    SlowBlock,
}

/// Finds the heads of frames in a stream of bytes, however it is cut.
#[derive(Clone, Debug)]
struct Heads {
    /// Bytes of the present frame, or of the preface, that are no head.
    skip: usize,
    head: [u8; HEAD_BYTES],
    /// Of `head`, read so far.
    have: usize,
}

/// The head of a frame (RFC 9113 section 4.1).
struct FrameHead {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Heads {
    /// The next one that ends in `bytes`, which begin behind it afterwards.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<FrameHead> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = &bytes[skipped..];
        let count = (HEAD_BYTES - self.have).min(bytes.len());
        self.head[self.have..self.have + count].copy_from_slice(&bytes[..count]);
        self.have += count;
        *bytes = &bytes[count..];
        if self.have < HEAD_BYTES {
            return None;
        }
        self.have = 0;
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
        Some(FrameHead { length: self.skip, kind, flags, stream: u32::from_be_bytes(stream) & !RESERVED })
    }
}

/// Counts one direction of one connection.
#[derive(Clone, Debug)]
pub struct Meter {
    heads: Heads,
    /// Requests that began since somebody else had a turn.
    turn: u32,
    /// Whether the other side asks, and we serve.
    serves: bool,
    /// Requests so far.
    asked: u32,
    /// Of these, what was never served, as far as it is forgiven.
    unserved_forgiven: u32,
    since: Instant,
    control: u32,
    window_updates: u32,
    resets: u32,
    resets_max: u32,
    /// Newest stream so far, and the newest one at a moment; those up to `old` are older than [`HASTY_RESET`].
    newest: u32,
    mark: (Instant, u32),
    old: u32,
    empty: u32,
    continuations: u32,
    /// A header block has begun and not ended; nothing else may come on this connection before.
    open_block: bool,
    /// Header blocks so far.
    blocks: u32,
    /// The other side said that it leaves.
    left: bool,
    /// Bytes moved that have not paid yet, less than one frame's worth.
    moved: usize,
    /// Bytes of acknowledgements we have to send.
    acks_owed: usize,
}

impl Meter {
    /// Of what an app, or anybody outside, sends to us.
    pub fn server() -> Self {
        Self { serves: true, ..Self::new(PREFACE.len(), RESETS_MAX) }
    }

    /// Of what a peer's proxy sends to us, for all its callers.
    pub fn peer() -> Self {
        Self { serves: true, ..Self::new(PREFACE.len(), PEER_RESETS_MAX) }
    }

    /// Of what a server sends to us. It may refuse as many streams as it wants.
    pub fn client() -> Self {
        Self::new(0, u32::MAX)
    }

    /// Of what we send to a peer's proxy, which counts as [`Self::peer`] does: halfway to what it forgives.
    pub fn own() -> Self {
        Self::new(PREFACE.len(), PEER_RESETS_MAX / 2)
    }

    fn new(skip: usize, resets_max: u32) -> Self {
        let now = Instant::now();
        Self {
            heads: Heads { skip, head: [0; HEAD_BYTES], have: 0 },
            turn: 0,
            serves: false,
            asked: 0,
            unserved_forgiven: 0,
            since: now,
            control: 0,
            window_updates: 0,
            resets: 0,
            resets_max,
            newest: 0,
            mark: (now, 0),
            old: 0,
            empty: 0,
            continuations: 0,
            open_block: false,
            blocks: 0,
            left: false,
            moved: 0,
            acks_owed: 0,
        }
    }

    /// Looks at the next bytes; how many of them may pass now. Fewer than all when its turn is over.
    pub fn read(&mut self, bytes: &[u8]) -> Result<usize, Flood> {
        let mut rest = bytes;
        while let Some(head) = self.heads.next(&mut rest) {
            self.turn += u32::from(head.kind == HEADERS);
            self.frame(head)?;
            if self.turn_is_over() {
                break;
            }
        }
        Ok(bytes.len() - rest.len())
    }

    /// Whether others should have a turn before more is read: a connection full of requests is read to its end otherwise,
    /// and everybody else waits. Answers take no turns: there are as many as we asked for.
    pub fn turn_is_over(&self) -> bool {
        let most = if self.asked < YOUNG_REQUESTS { REQUESTS_PER_YOUNG_TURN } else { REQUESTS_PER_TURN };
        self.serves && self.turn >= most
    }

    /// Begins the next turn, when `begun` of all requests so far are served or were. How long this connection rests before:
    /// whoever mostly sends what nobody can serve is listened to slowly, as that costs work and brings none.
    pub fn next_turn(&mut self, begun: u32) -> Result<Option<Duration>, Flood> {
        self.turn = 0;
        let all = self.asked.wrapping_sub(begun);
        let unserved = all.wrapping_sub(self.unserved_forgiven);
        if unserved <= UNSERVED_FREE {
            return Ok(None);
        }
        if self.forgiven() {
            self.unserved_forgiven = all;
            return Ok(None);
        }
        if unserved > UNSERVED_MAX { Err(Flood::Unserved) } else { Ok(Some(UNSERVED_REST)) }
    }

    /// Looks at what we sent; whether we have taken back more than we should on one connection.
    pub fn sent(&mut self, mut bytes: &[u8]) -> bool {
        let mut over = false;
        while let Some(head) = self.heads.next(&mut bytes) {
            over |= self.frame(head) == Err(Flood::Resets);
        }
        over
    }

    /// The header block whose rest is waited for, by its number.
    pub fn waits_for_block(&self) -> Option<u32> {
        self.open_block.then_some(self.blocks)
    }

    /// Whether the other side is a caller, and did not say that it leaves.
    pub fn has_caller(&self) -> bool {
        self.serves && !self.left
    }

    /// We sent something: whoever receives it may acknowledge it. Our own acknowledgements explain nothing.
    pub fn wrote(&mut self, bytes: usize) {
        let work = bytes.saturating_sub(self.acks_owed);
        self.acks_owed = self.acks_owed.saturating_sub(bytes);
        self.pay(work);
    }

    fn pay(&mut self, bytes: usize) {
        let moved = self.moved + bytes;
        let frames = u32::try_from(moved / BYTES_PER_FRAME).unwrap_or(u32::MAX);
        self.moved = moved % BYTES_PER_FRAME;
        self.control = self.control.saturating_sub(frames);
        self.window_updates = self.window_updates.saturating_sub(frames);
    }

    fn frame(&mut self, FrameHead { length, kind, flags, stream }: FrameHead) -> Result<(), Flood> {
        const DATA: u8 = 0;
        const RST_STREAM: u8 = 3;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const WINDOW_UPDATE: u8 = 8;
        const GOAWAY: u8 = 7;
        const CONTINUATION: u8 = 9;
        self.left |= kind == GOAWAY;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.open_block = flags & END_HEADERS == 0;
            self.blocks = self.blocks.wrapping_add(u32::from(kind == HEADERS));
        }
        let empty = length == 0 && (kind != DATA || flags & END_STREAM == 0);
        match kind {
            DATA | HEADERS | CONTINUATION if empty => {
                self.empty += 1;
                if self.empty > EMPTY_FRAMES_MAX {
                    return Err(Flood::Empty);
                }
            }
            DATA => {
                self.empty = 0;
                self.pay(length);
            }
            HEADERS => {
                (self.empty, self.continuations) = (0, 0);
                // Trailers belong to a stream that is there.
                self.asked = self.asked.wrapping_add(u32::from(stream > self.newest));
                self.newest = self.newest.max(stream);
                self.resets = self.resets.saturating_sub(1);
                self.window_updates = self.window_updates.saturating_sub(2);
                self.control = self.control.saturating_sub(1);
            }
            CONTINUATION => {
                self.continuations += 1;
                if self.continuations > CONTINUATIONS_MAX {
                    return Err(Flood::Continuations);
                }
            }
            RST_STREAM if self.hasty(stream) => {
                self.resets = self.resets.saturating_add(2);
                if self.resets > self.resets_max && !self.forgiven() {
                    return Err(Flood::Resets);
                }
            }
            RST_STREAM => {}
            WINDOW_UPDATE => {
                self.window_updates += 1;
                if self.window_updates > WINDOW_UPDATES_MAX && !self.forgiven() {
                    return Err(Flood::WindowUpdates);
                }
            }
            _ => {
                if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
                    self.acks_owed += HEAD_BYTES + if kind == PING { length } else { 0 };
                }
                self.control += 1;
                if self.control > CONTROL_FRAMES_MAX && !self.forgiven() {
                    return Err(Flood::Control);
                }
            }
        }
        Ok(())
    }

    /// Whether a stream is taken back soon after it was opened. Callers whose patience ends later are honest, also when
    /// that happens to all they ask. Numbers of streams grow, so one number tells the age of all.
    fn hasty(&mut self, stream: u32) -> bool {
        let now = Instant::now();
        if now.duration_since(self.mark.0) >= HASTY_RESET {
            self.old = self.mark.1;
            self.mark = (now, self.newest);
        }
        stream > self.old
    }

    /// Asked only where a debt is too high, so that nobody else looks at the clock.
    fn forgiven(&mut self) -> bool {
        let now = Instant::now();
        let over = now.duration_since(self.since) >= FRAME_WINDOW;
        if over {
            (self.since, self.control, self.window_updates, self.resets) = (now, 0, 0, 0);
        }
        over
    }
}

/// Tells the other side why, as far as there is room for it: the connection ends in any case.
pub fn say_goodbye<I: AsyncWrite + Unpin>(io: &mut I, cx: &mut Context<'_>) {
    if let Poll::Ready(Ok(_)) = Pin::new(&mut *io).poll_write(cx, &GOODBYE) {
        let _ = Pin::new(io).poll_flush(cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(length: usize, kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes = (length as u32).to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD_BYTES + length, 0);
        bytes
    }

    fn numbered(mut frame: Vec<u8>, stream: u32) -> Vec<u8> {
        frame[5..HEAD_BYTES].copy_from_slice(&stream.to_be_bytes());
        frame
    }

    /// All of it, in as many turns as it takes.
    fn read(meter: &mut Meter, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            bytes = &bytes[meter.read(bytes)?..];
            if meter.turn_is_over() {
                meter.next_turn(meter.asked)?;
            }
        }
        Ok(())
    }

    /// How many times a caller may send `frames` before that is a flood.
    fn taken(frames: &[Vec<u8>], times: usize) -> Result<(), (usize, Flood)> {
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        for i in 0..times {
            for bytes in frames {
                // In pieces, as a network would.
                let (one, other) = bytes.split_at(bytes.len() / 2);
                read(&mut meter, one).and_then(|()| read(&mut meter, other)).map_err(|flood| (i, flood))?;
            }
        }
        Ok(())
    }

    #[test]
    fn floods_end_at_their_limits() {
        let control = CONTROL_FRAMES_MAX as usize;
        for (kind, length) in [(PING, 8), (4, 6), (2, 5), (0xfa, 100)] {
            assert_eq!(taken(&[frame(length, kind, 0)], 2_000), Err((control, Flood::Control)), "kind {kind}");
        }
        let updates = WINDOW_UPDATES_MAX as usize;
        assert_eq!(taken(&[frame(4, 8, 0)], 5_000), Err((updates, Flood::WindowUpdates)));
        for kind in [0, 1, 9] {
            assert_eq!(taken(&[frame(0, kind, 0)], 99), Err((EMPTY_FRAMES_MAX as usize, Flood::Empty)));
        }
        assert_eq!(taken(&[frame(1, 9, 0)], 99), Err((CONTINUATIONS_MAX as usize, Flood::Continuations)));
        // The stream of `frame` is number 1, which stays new: nothing was opened before it.
        let rapid = taken(&[frame(20, 1, 5), frame(4, 3, 0)], 5_000).unwrap_err();
        assert_eq!(rapid.1, Flood::Resets);
        assert!(rapid.0 <= RESETS_MAX as usize, "{rapid:?}");
    }

    #[test]
    fn honest_callers_are_never_counted_out() {
        // Each request with a PING and two window updates, every second one cancelled.
        let request = [frame(60, 1, 5), frame(8, PING, 0), frame(4, 8, 0), frame(4, 8, 0)];
        let cancelled = [frame(60, 1, 5), frame(4, 3, 0)];
        let both: Vec<_> = request.into_iter().chain(cancelled).collect();
        assert_eq!(taken(&both, 20_000), Ok(()));
        // An upload that pings, with an empty frame now and then.
        assert_eq!(taken(&[frame(10, 0, 0), frame(0, 0, 0), frame(8, PING, 0)], 20_000), Ok(()));
        // A long download that is acknowledged bit by bit.
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        for _ in 0..100_000 {
            // A message of 15 bytes, and the answer to the last PING.
            meter.wrote(HEAD_BYTES + 15 + HEAD_BYTES + 8);
            for bytes in [frame(4, 8, 0), frame(4, 8, 0), frame(8, PING, 0)] {
                read(&mut meter, &bytes).unwrap();
            }
        }
    }

    /// How many requests one turn takes, and what comes of it when all but `unserved` of all so far began.
    fn turn(meter: &mut Meter, unserved: u32) -> (u32, Result<Option<Duration>, Flood>) {
        let first = meter.asked;
        let streams = (first..first + REQUESTS_PER_TURN).map(|n| 2 * n + 1);
        let bytes: Vec<u8> = streams.flat_map(|stream| numbered(frame(20, 1, 5), stream)).collect();
        let passed = meter.read(&bytes).unwrap();
        let read = meter.asked - first;
        let next = meter.next_turn(meter.asked - unserved.min(meter.asked));
        // What is in the last frame.
        assert_eq!(meter.read(&bytes[passed..][..20]), Ok(20));
        (read, next)
    }

    #[test]
    fn requests_are_read_in_turns_which_are_short_at_first() {
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        while meter.asked + REQUESTS_PER_YOUNG_TURN < YOUNG_REQUESTS {
            assert_eq!(turn(&mut meter, 0), (REQUESTS_PER_YOUNG_TURN, Ok(None)));
        }
        // The last of youth.
        assert_eq!(turn(&mut meter, 0).1, Ok(None));
        assert_eq!(turn(&mut meter, 0), (REQUESTS_PER_TURN, Ok(None)));
        assert_eq!(read(&mut meter, &frame(1 << 20, 0, 0)), Ok(()), "data is no turn");
    }

    #[test]
    fn whoever_asks_what_nobody_can_serve_rests_and_is_ended() {
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        let (mut free, mut rested) = (0, Duration::ZERO);
        let served = 100;
        let end = loop {
            let unserved = (meter.asked + REQUESTS_PER_YOUNG_TURN).saturating_sub(served);
            match turn(&mut meter, unserved).1 {
                Ok(None) => free = meter.asked - served.min(meter.asked),
                Ok(Some(rest)) => rested += rest,
                Err(flood) => break flood,
            }
        };
        assert_eq!(end, Flood::Unserved);
        assert!(free.abs_diff(UNSERVED_FREE) <= REQUESTS_PER_YOUNG_TURN, "{free}");
        assert!((9..10).contains(&rested.as_secs()), "{rested:?}");
        // So slowly that nobody minds.
        let mut slow = Meter::server();
        slow.read(PREFACE).unwrap();
        for _ in 0..UNSERVED_MAX {
            slow.since -= FRAME_WINDOW;
            assert_eq!(turn(&mut slow, u32::MAX).1, Ok(None));
        }
    }

    #[test]
    fn whoever_sends_hears_of_resets_before_the_peer_minds() {
        let (mut own, mut peer) = (Meter::own(), Meter::peer());
        assert!(!own.sent(PREFACE));
        read(&mut peer, PREFACE).unwrap();
        let cancelled = [frame(20, 1, 5), frame(4, 3, 0)].concat();
        let told = (0..PEER_RESETS_MAX).find(|_| {
            read(&mut peer, &cancelled).unwrap();
            own.sent(&cancelled)
        });
        assert!(told.is_some_and(|told| told.abs_diff(PEER_RESETS_MAX / 2) <= 1), "{told:?}");
    }

    #[test]
    fn a_reserved_bit_makes_no_stream_newer() {
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        read(&mut meter, &numbered(frame(20, 1, 5), 1 | RESERVED)).unwrap();
        read(&mut meter, &numbered(frame(20, 1, 5), 3)).unwrap();
        assert_eq!((meter.newest, meter.asked), (3, 2));
    }

    #[test]
    fn callers_that_lose_patience_late_are_honest() {
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        meter.read(&frame(20, 1, 5)).unwrap();
        // As if it had been opened then.
        meter.mark = (meter.mark.0 - HASTY_RESET, 1);
        for _ in 0..2 * RESETS_MAX {
            read(&mut meter, &frame(4, 3, 0)).unwrap();
        }
        assert_eq!(meter.resets, 0, "a stream older than {HASTY_RESET:?} may be reset");
    }

    #[test]
    fn an_acknowledged_ping_does_not_pay_for_the_next() {
        let mut meter = Meter::server();
        meter.read(PREFACE).unwrap();
        let flood = (0..5_000).find(|_| {
            meter.wrote(HEAD_BYTES + 8);
            meter.read(&frame(8, PING, 0)).is_err()
        });
        assert_eq!(flood, Some(CONTROL_FRAMES_MAX as usize));
    }
}
