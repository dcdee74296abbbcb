//! Every limit of this crate, with the source of its number.

use std::time::Duration;

/// Major version of the protocol spoken here.
pub const PROTOCOL: u32 = 1;
/// The dialling side probes a quiet line this often. With [`PING_TIMEOUT`] a frozen peer is gone within 2.9 s; the promise
/// is 3 s. What an idle control plane costs is mostly these probes.
pub const PING_INTERVAL: Duration = Duration::from_millis(2000);
/// A probe that is not answered in this time ends the connection.
pub const PING_TIMEOUT: Duration = Duration::from_millis(900);
/// A listener drops a connection over which nothing came for this long: the dialling side pings.
pub const SILENCE_MAX: Duration = Duration::from_millis(2900);
/// A SYN is repeated after 1 s (RFC 6298 section 2); two lost ones mean that nobody is there.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A handshake with the only address there is. Longer than [`BACKOFF_MAX`], so that while a peer is frozen one
/// handshake is nearly always waiting for the thaw.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(6);
/// A handshake when another address could be tried instead: six round trips around the world.
pub const HANDSHAKE_TIMEOUT_WITH_CHOICE: Duration = Duration::from_millis(1500);
/// A server waits this long for a handshake and again for the first bytes after it; then the peer counts as frozen.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_millis(2500);
/// Handshakes a listener does at once: about 1 ms of CPU each, so a quarter of a second of work at most.
pub const HANDSHAKES_MAX: usize = 256;
/// The first message must come this soon.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// A session counts as opening until its followers are in step, and no longer than this.
pub const OPENING_MAX: Duration = Duration::from_secs(10);
/// First step of the reconnect delay; doubles up to [`BACKOFF_MAX`], and a random share of it is waited ("full
/// jitter", Brooker 2015: least work for the server in a storm).
pub const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// Longest reconnect delay.
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Longest delay that a server may ask for.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A session that lasted this long was a good one: the next delay begins small again.
pub const STEADY_AFTER: Duration = Duration::from_secs(5);
/// How long the last words may take to be sent.
pub const BYE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a listener that stops waits for its connections.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest message: a slice of `sync::SLICE_BYTES` plus one oversized item.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest item; a slice with one of these still fits a message.
pub const ITEM_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Frames handed to HTTP/2 before it has taken them; more wait as references in the session.
pub const FRAMES_IN_FLIGHT: usize = 4;
/// Frames of started transactions on one stream: eight channels of a million items each.
pub const FRAMES_WAITING_MAX: usize = 16_384;
/// Channels on one stream; today's programs use three at most.
pub const CHANNELS_MAX: usize = 64;
/// A journal smaller than this is never rewritten.
pub const JOURNAL_REWRITE_MIN: u64 = 1024 * 1024;
/// A journal this many times larger than its last snapshot is rewritten, so that writing costs at most this factor.
pub const JOURNAL_REWRITE_FACTOR: u64 = 4;
/// Largest record in a journal: twice the largest transaction a replica accepts.
pub const JOURNAL_RECORD_MAX: u32 = 1024 * 1024 * 1024;
/// HTTP/2 flow control: enough for a slice per round trip and some more; HTTP/2's own 64 KiB would hold back a resync.
pub const WINDOW_BYTES: u32 = 1024 * 1024;
