//! Every bound of the data path, each with the source of its number.

use std::time::Duration;

/// Header fields of one message, counted after cookies are split (Envoy, hyper and HAProxy: 100).
pub const HEADERS_MAX: usize = 100;
/// Bytes of one header block inside the mesh (Envoy 60 KiB, ztunnel 64 KiB).
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one header block from outside (Envoy 60 KiB, HAProxy's buffer 16 KiB).
pub const EDGE_HEADER_BYTES_MAX: usize = 32 * 1024;
/// Bytes of path and query from outside (hyper 64 KiB, nginx and Apache 8 KiB).
pub const EDGE_URI_MAX: usize = 8 * 1024;
/// Streams one caller outside may have open on one connection (Envoy's edge guide, HAProxy: 100).
pub const EDGE_STREAMS_MAX: u32 = 100;
/// Window of one stream from outside (Envoy's edge guide).
pub const EDGE_STREAM_WINDOW: u32 = 64 * 1024;
/// Window of one connection from outside (Envoy's edge guide).
pub const EDGE_WINDOW: u32 = 1024 * 1024;
/// Bytes a stream may hold on its way to the outside (Envoy's edge guide has 32 KiB of buffers).
pub const EDGE_SEND_BUFFER: usize = 64 * 1024;
/// From the end of one request from outside to the end of the next one's head (nginx: 60 s for a head, 75 s between).
pub const EDGE_NEXT_HEAD: Duration = Duration::from_secs(60);
/// Pause between tries to open a listener whose port is taken.
pub const LISTEN_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of a certificate chain or key in PEM (64 KiB is the most a handshake message of rustls may hold).
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a request line inside the mesh (HAProxy's whole buffer; hyper 64 KiB).
pub const REQUEST_LINE_MAX: usize = 16 * 1024;
/// Bytes of a request line from outside: [`EDGE_URI_MAX`], and room for a host, a method and a version.
pub const EDGE_REQUEST_LINE_MAX: usize = EDGE_URI_MAX + 512;
/// From the first byte of a request's head to its last (hyper 30 s, nginx 60 s; lowered).
pub const HEADER_DEADLINE: Duration = Duration::from_secs(10);
/// From accepting a connection from outside to its first byte (Envoy's listener filters 15 s; lowered).
pub const EDGE_FIRST_BYTE: Duration = Duration::from_secs(5);
/// Least bytes a second of a request body from outside, over [`BODY_WINDOW`] (Apache's mod_reqtimeout: 500).
pub const BODY_RATE_MIN: u64 = 1024;
/// Window of [`BODY_RATE_MIN`] (Apache's mod_reqtimeout: 20 s; lowered).
pub const BODY_WINDOW: Duration = Duration::from_secs(8);
/// Bytes of chunk extensions and trailers in one body (hyper's bounds for each).
pub const CHUNK_EXTRA_BYTES_MAX: usize = 16 * 1024;
/// Bytes of extensions of one chunk (Go's net/http bounds the line of a chunk's size by as much).
pub const CHUNK_EXTENSION_BYTES_MAX: usize = 4 * 1024;
/// Bytes kept that a caller sends before the protocol it asked for is agreed.
pub const SWITCH_BYTES_MAX: usize = 64 * 1024;
/// Window after which debts of an HTTP/2 connection are forgiven (HAProxy counts glitches over 10 s).
pub const FRAME_WINDOW: Duration = Duration::from_secs(10);
/// PING, SETTINGS, PRIORITY and unknown frames beyond what traffic explains, over [`FRAME_WINDOW`] (Envoy holds
/// 1,000 answers to control frames).
pub const CONTROL_FRAMES_MAX: u32 = 1_000;
/// Bytes moved that explain one control frame or WINDOW_UPDATE: gRPC pings for each message it gets, and Envoy allows 20
/// window updates for each DATA frame, which has at least nine bytes.
pub const BYTES_PER_FRAME: usize = 8;
/// WINDOW_UPDATE frames beyond what traffic explains, over [`FRAME_WINDOW`] (Envoy: 5, and 2 for each stream).
pub const WINDOW_UPDATES_MAX: u32 = 1_000;
/// Empty DATA, HEADERS and CONTINUATION frames in a row (Envoy 1, h2 100; an app may flush nothing now and then).
pub const EMPTY_FRAMES_MAX: u32 = 10;
/// CONTINUATION frames of one header block: [`HEADER_BYTES_MAX`] fills four (CVE-2024-27316).
pub const CONTINUATIONS_MAX: u32 = 16;
/// Debt of hasty resets over [`FRAME_WINDOW`]: one adds 2, a request takes 1 off, so callers that cancel half of what they
/// ask never get there, and one that cancels all does after this many (Envoy 500, HAProxy's advice hundreds).
pub const RESETS_MAX: u32 = 500;
/// The same for a peer's proxy, whose connection carries requests of all its callers: cutting it would hurt the others,
/// and each of them has been held to [`RESETS_MAX`] already.
pub const PEER_RESETS_MAX: u32 = 10_000;
/// Requests of one HTTP/2 connection that are read before other connections have a turn: about a millisecond of work, and
/// as many as a busy connection brings at a time.
pub const REQUESTS_PER_TURN: u32 = 32;
/// Steps of requests under way on one connection before others have a turn.
pub const STEPS_PER_TURN: u32 = 32;
/// [`REQUESTS_PER_TURN`] of a new connection: whoever opens one to ask for all it may at once is heard, but not first.
pub const REQUESTS_PER_YOUNG_TURN: u32 = 8;
/// A connection is new until it has asked so often: more than may be open and refused before it ends ([`STREAMS_MAX`],
/// [`UNSERVED_MAX`]), so that only who was served leaves youth behind.
pub const YOUNG_REQUESTS: u32 = 2_000;
/// Requests of one connection that nobody could serve: more than may be open, or malformed. From so many in
/// [`FRAME_WINDOW`] on, the connection rests between turns. Callers that begin before they know our settings are honest, and
/// few: gRPC waits for them, and Go asks 100 at first.
pub const UNSERVED_FREE: u32 = 256;
/// From so many on it ends (h2's own default for resets that a server had to send; nginx: as many as may be open).
pub const UNSERVED_MAX: u32 = 1_000;
/// How long it rests. With [`REQUESTS_PER_YOUNG_TURN`] it takes more than nine seconds to its end, and costs next to nothing
/// meanwhile: whoever was ended at once would come again at once, with as many requests that must be served.
pub const UNSERVED_REST: Duration = Duration::from_millis(100);
/// How long a connection that ended by its caller's fault stays before it is closed; nothing is read from it, and the answer
/// or GOAWAY was sent at once. Four connections that flood come again four times a second instead of thousands of times, and
/// an answer is read before the bytes behind the request make the kernel reset the connection (RFC 9112 section 9.6).
pub const LINGER: Duration = Duration::from_secs(1);
/// Connections that stay so at a time, some 30 KiB each; others are closed at once.
pub const LINGERING_MAX: usize = 256;
/// Connections accepted before those that are there have a turn: a crowd waits in the kernel's queue, not its elders here.
pub const ACCEPTS_PER_TURN: u32 = 4;
/// A worker with more to do than it can looks at its sockets after so many steps of tasks (tokio: 61). A step takes some
/// tens of microseconds, and a look one.
pub const STEPS_PER_LOOK: u32 = 16;
/// A stream taken back within this was opened in haste (Envoy 1 s).
pub const HASTY_RESET: Duration = Duration::from_secs(1);
/// Streams one peer may have open on one connection. A peer opens further connections at
/// [`STREAMS_PER_LINK`], well below (HAProxy 100, ztunnel 200).
pub const STREAMS_MAX: u32 = 250;
/// Requests one connection of callers may have under way, in times what the default circuit has free: the alpha of
/// Choudhury and Hahne, for which switches take 1 to 8. One connection alone gets two thirds, four get 8 of 9 parts.
pub const SHARE_OF_FREE: u32 = 2;
/// Bytes of one body on their way to us that nobody has read: 20 MB/s over 50 ms (ztunnel 4 MiB).
pub const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same of all streams of a connection. Far more than one stream's, so that some who read slowly do not hold up the
/// others: hyper's adaptive windows are one size for both, and a single slow reader stops a connection (ztunnel 16 MiB,
/// Envoy 24 MiB).
pub const CONNECTION_WINDOW: u32 = 64 * 1024 * 1024;
/// Requests in flight at which a further connection to the same peer is opened.
pub const STREAMS_PER_LINK: usize = 200;
/// Connections to one peer and server name, for one worker.
pub const LINKS_PER_PEER: usize = 4;
/// Streams the peer reset before we looked at them (h2's default; rapid reset, CVE-2023-44487).
pub const PENDING_RESETS_MAX: usize = 20;
/// The same of a peer's proxy. It takes back the requests of a caller who left all at once, as many as may be open
/// ([`STREAMS_MAX`]), and they share the connection with those of everybody else.
pub const PEER_PENDING_RESETS_MAX: usize = 250;
/// Requests we took back on one connection whose late answers are recognised, for a second each. Beyond, h2 takes an answer
/// on its way for a mistake of the peer, and after [`PEER_LOCAL_ERROR_RESETS_MAX`] ends the connection for all others, too. As
/// many as a peer forgives, so that there is no beyond (h2: 50).
pub const CANCELLED_MAX: usize = PEER_RESETS_MAX as usize;
/// Resets we had to send because of the peer's mistakes, those of [`UNSERVED_MAX`] included (h2's default after
/// CVE-2025-8671).
pub const LOCAL_ERROR_RESETS_MAX: usize = 1_024;
/// The same between proxies. h2 counts over the whole life of a connection, also what is nobody's mistake, such as the rest
/// of an upload that was refused early; and such a connection is shared and lives for days.
pub const PEER_LOCAL_ERROR_RESETS_MAX: usize = 10_000;
/// Bytes a stream may hold on its way out (hyper 400 KiB).
pub const STREAM_SEND_BUFFER: usize = 256 * 1024;
/// Bytes gathered before a connection writes (nginx and Pingora: 64 KiB).
pub const GATHER_BYTES: usize = 64 * 1024;
/// Bytes of a message of HTTP/1.1 that are joined to be written at once: most heads and short bodies, in a page of memory.
pub const JOINED_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a request body kept for another try (linkerd's replay buffer).
pub const REPLAY_BYTES_MAX: usize = 64 * 1024;
/// Buffer of a relayed byte stream, held only while bytes flow (measured: -27 % CPU per GB against 8 KiB).
pub const RELAY_BYTES: usize = 64 * 1024;
/// Copies of requests that one worker has under way; further ones are dropped (as many as streams at Envoy's edge).
pub const MIRRORS_MAX: usize = 100;
/// From the request to the end of the copy's answer (Envoy's route default).
pub const MIRROR_TIME: Duration = Duration::from_secs(15);
/// Bytes of an answer to a copy that are read before it is cut off.
pub const MIRROR_ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Callers that have a rate limit of their own, for each rule that gives them one; 16 KiB. Further ones share one.
pub const LIMITED_CALLERS_MAX: usize = 1_024;
/// Places of that table looked at for one caller (open addressing; 8 fill it to more than 95 %).
pub const LIMITED_CALLERS_TRIED: usize = 8;
/// Bytes that go out at once where a bandwidth is limited, at most; a twentieth of a second's otherwise.
pub const PACED_BYTES_MAX: usize = 64 * 1024;
/// And at least, as a segment holds no more than 1,460.
pub const PACED_BYTES_MIN: usize = 1_024;
/// Bytes of a limited bandwidth are promised so far ahead, in their order; who comes then asks again.
pub const PACED_AHEAD: Duration = Duration::from_secs(10);
/// A connection beyond its rate hears why for this long, and ends.
pub const REFUSED_CONNECTION: Duration = Duration::from_secs(5);
/// TLS handshake of somebody who calls us (Envoy 15 s, linkerd 10 s; lowered).
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// First bytes of a redirected connection whose protocol nobody declared. Short, because protocols in which the
/// server speaks first wait for it in full; see `listen::detect`.
pub const DETECT: Duration = Duration::from_millis(200);
/// Preamble of an opaque connection between proxies.
pub const PREAMBLE: Duration = Duration::from_secs(5);
/// Keep-alive connections of apps without a request (Envoy 1 h).
pub const APP_IDLE: Duration = Duration::from_secs(3600);
/// A peer that sends nothing for this long while requests wait is asked by an HTTP/2 ping.
pub const PING_EVERY: Duration = Duration::from_millis(500);
/// And given up after this much longer: with [`PING_EVERY`] a frozen peer is found in at most 1.5 s.
pub const PING_ANSWER: Duration = Duration::from_secs(1);
/// Connections between proxies that carry nothing are closed after this (Envoy 1 h).
pub const LINK_IDLE: Duration = Duration::from_secs(3600);
/// Idle HTTP/1.1 connections to the app, per port and worker.
pub const APP_LINKS_IDLE: usize = 64;
/// Age of an idle connection to the app; most servers close theirs after 60 s or more (nginx 75 s).
pub const APP_LINK_IDLE: Duration = Duration::from_secs(50);
/// Idle HTTP/1.1 connections to one endpoint of an external service, per worker.
pub const EXTERNAL_LINKS_IDLE: usize = 64;
/// Age of such a connection; many load balancers close theirs after 60 s (AWS's default).
pub const EXTERNAL_LINK_IDLE: Duration = Duration::from_secs(50);
/// Server names for which connections to one endpoint are kept, where callers choose the name.
pub const EXTERNAL_NAMES_MAX: usize = 64;
/// An endpoint of an external service that failed is asked last for this long.
pub const EXTERNAL_AVOID: Duration = Duration::from_secs(5);
/// Connect to the app, which is on this host.
pub const APP_CONNECT: Duration = Duration::from_secs(1);
/// Pause between checks of an app port that failed.
pub const APP_RECHECK: Duration = Duration::from_millis(250);
/// Pause between checks of app ports that answer.
pub const APP_CHECK: Duration = Duration::from_secs(5);
/// Longest pause between questions to an app whose answers disagree with what holds, or that is not well.
pub const HEALTH_AGAIN: Duration = Duration::from_secs(1);
/// Bytes of an answer of `grpc.health.v1`: a frame's head and one small field, with room for later ones.
pub const HEALTH_ANSWER_BYTES: usize = 1024;
/// TCP keep-alive (gRPC and ztunnel ping after 10 s; we do sooner by HTTP/2 where requests wait).
pub const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
/// Unacknowledged bytes for this long end a connection (gRPC, ztunnel).
pub const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections one listener serves at a time: ten thousand (Envoy's edge guide) that may be idle, and room for everybody
/// else's.
pub const CONNECTIONS_MAX: usize = 12_000;
/// Connections the whole process serves at a time, or [`FILES_TAKEN`] if that is less (Envoy's overload guide).
pub const PROCESS_CONNECTIONS_MAX: usize = 50_000;
/// Of the files the process may open, so many for those who come, as numerator and denominator. The rest is for connections
/// towards the other side, which idle ones have none of, and of which a service has 1,024 unless a CircuitBreaker says
/// otherwise.
pub const FILES_TAKEN: (usize, usize) = (3, 5);
/// Files the kernel has room for from the start: [`CONNECTIONS_MAX`] in, as many out, and others. A quarter of a mebibyte.
pub const FILES_READY: usize = 32_768;
/// Connections a gateway takes from one address (limits per client at the edge: Envoy's guide 1,000).
pub const CONNECTIONS_PER_SOURCE: usize = 1_000;
/// New connections a second a gateway takes from one address, over [`SOURCE_WINDOW`].
pub const CONNECTS_PER_SOURCE: u32 = 500;
/// Window of [`CONNECTS_PER_SOURCE`].
pub const SOURCE_WINDOW: Duration = Duration::from_secs(1);
/// Addresses a gateway remembers; beyond, the oldest window is forgotten.
pub const SOURCES_MAX: usize = 10_000;
/// Bytes of a ClientHello we gather to find the server name (RFC 8446: a record holds 16 KiB).
pub const CLIENT_HELLO_MAX: usize = 16 * 1024;
/// Tries in which nothing was sent, such as refused connections; they load no app and need no budget.
pub const UNSENT_TRIES_MAX: u32 = 6;
/// Retry budget is counted over this window (linkerd: 10 s).
pub const BUDGET_WINDOW_SECONDS: u64 = 10;
/// Distinct (service, zone, code, reason) counters of one worker; further ones count as `other` (CVE-2025-43915).
pub const SERIES_MAX: usize = 10_000;
/// Bytes of the access log that a worker gathers before it writes (nginx's example for buffered logs).
pub const ACCESS_BYTES: usize = 32 * 1024;
/// And how long it keeps fewer than that.
pub const ACCESS_WAIT: Duration = Duration::from_millis(200);
/// Finishing requests after SIGTERM (Kuma 30 s).
pub const DRAIN: Duration = Duration::from_secs(30);
/// A drain waits so long for the next request on a kept connection of HTTP/1.1, to answer it with `close` (Apache keeps
/// such connections for 5 s at all times; apps under load use theirs many times a second).
pub const LAST_REQUEST: Duration = Duration::from_secs(2);
/// Memory and workers are looked at this often (Envoy's overload manager: 250 ms).
pub const OVERLOAD_TICK: Duration = Duration::from_millis(250);
/// Thousandths of memory from which on idle connections are closed sooner (Envoy's example: 85 %).
pub const IDLE_SHRUNK_AT: u32 = 850;
/// What idle connections are granted at the end of that (Envoy's example: 2 s).
pub const IDLE_SHRUNK: Duration = Duration::from_secs(2);
/// Thousandths of memory at which a proxy becomes unready: before anything is refused.
pub const UNREADY_AT: u32 = 900;
/// And below which it is ready again, so that readiness does not flap.
pub const READY_AGAIN_BELOW: u32 = 850;
/// Thousandths of memory at which new connections are closed (Envoy's example: 92 %).
pub const CONNECTIONS_REFUSED_AT: u32 = 920;
/// Thousandths of memory at which requests are refused (Envoy's example: 95 %).
pub const REQUESTS_REFUSED_AT: u32 = 950;
/// Requests under way in one process (linkerd: 100,000).
pub const IN_FLIGHT_MAX: usize = 100_000;
/// A worker's queue is sampled this often.
pub const DELAY_SAMPLE: Duration = Duration::from_millis(50);
/// A wait in a worker's queue that is too long: a peer takes a proxy for frozen after [`PING_ANSWER`], so a quarter of it.
pub const DELAY_TARGET: Duration = Duration::from_millis(250);
/// When even the shortest wait of so long was too long, the queue stands (RFC 8289 section 4.3 has 100 ms for links of
/// 5 ms; the same proportion, and no shorter than what a busy scheduler may take).
pub const DELAY_STANDS: Duration = Duration::from_secs(1);
/// Thousandths of requests by which more are refused at each sample while a queue stands.
pub const SHED_STEP_UP: u32 = 25;
/// And by which fewer are, once it does not: slower, so that it does not swing.
pub const SHED_STEP_DOWN: u32 = 10;
/// Some requests are served whatever happens, so that an end of overload is seen.
pub const SHED_MAX: u32 = 950;
/// After a hot restart, sockets that nobody wants any more are closed after this: virtual addresses settle at once.
pub const LEFT_OVER: Duration = Duration::from_secs(10);
/// Probes of peer gateways.
pub const PROBE_EVERY: Duration = Duration::from_secs(2);
/// A probe without answer is lost after this.
pub const PROBE_ANSWER: Duration = Duration::from_secs(1);
/// Probes of which round trip and loss are told.
pub const PROBES_KEPT: usize = 10;
/// A gateway waits so long for a workload's first bytes before it asks another; the ClientHello is all that was sent.
pub const FIRST_ANSWER: Duration = Duration::from_millis(700);
/// Connect from a gateway to a workload of its zone (linkerd 1 s; same zone, so lowered).
pub const GATEWAY_CONNECT: Duration = Duration::from_millis(700);
/// A workload that refused a gateway is asked last for this long.
pub const GATEWAY_AVOID: Duration = Duration::from_secs(5);
/// Ports and services that get virtual addresses.
pub const VIPS_MAX: usize = 4_096;
/// Requests at one app that count as full use of it (Envoy's and Kuma's circuit breaker, 1024; balancers use the same).
pub const APP_IN_FLIGHT_FULL: f64 = 1024.0;
/// Utilisation from which answers tell it: well below the 90 % at which places spill, and no header for most answers.
pub const LOAD_TOLD_FROM_PERCENT: u64 = 50;
