//! Every number of this crate, with its source.

/// Microseconds in a millisecond.
pub const MS: u64 = 1_000;
/// Microseconds in a second.
pub const SECOND: u64 = 1_000_000;

/// Between two observations of places: with [`WORSE_AFTER`] a soft change for the worse acts after one second.
pub const OBSERVE_US: u64 = 500 * MS;
/// Observations in a row before a place counts as worse. Hard facts (refused, hung, unready) act at once.
pub const WORSE_AFTER: u32 = 2;
/// Observations in a row before a place counts as better.
pub const BETTER_AFTER: u32 = 5;
/// Share of its weight with which an endpoint or zone returns (Envoy: `min_weight_percent`, 10 %).
pub const RAMP_FLOOR: f64 = 0.1;
/// Time over which a draining zone gives up its traffic: as long as the default slow start, which is its mirror image.
pub const DRAIN_US: u64 = 10 * SECOND;

/// First time out after a refused connection or a hang; doubles each time.
pub const RETURN_FIRST_US: u64 = SECOND;
/// Longest of these: a thawed endpoint is back within this and one probe.
pub const RETURN_LAST_US: u64 = 8 * SECOND;
/// A probe whose end nobody told by then is forgotten: the default timeout of a request (Envoy's route default, 15 s).
pub const PROBE_LOST_US: u64 = 15 * SECOND;
/// A request that cannot be tried again probes only when nothing else has for this long.
pub const PROBE_OVERDUE_US: u64 = 2 * SECOND;
/// In good standing this long, earlier ejections are forgotten (Envoy: one less each interval of good health).
pub const FORGIVEN_AFTER_US: u64 = 60 * SECOND;

/// Latency of an endpoint nothing is known of (linkerd's `default_rtt`, 30 ms).
pub const LATENCY_UNKNOWN_US: f64 = 30_000.0;
/// Time constant of peak-EWMA (Finagle and linkerd, 10 s).
pub const LATENCY_DECAY_US: f64 = 10_000_000.0;
/// Time constant of the recent failure share; as long as the latency's.
pub const FAILURE_DECAY_US: f64 = 10_000_000.0;
/// Good answers assumed besides those seen, so that one failure of three says little.
pub const FAILURE_PRIOR: f64 = 10.0;

/// Requests in flight to one endpoint that count as full use of it (Envoy's and Kuma's circuit breaker, 1024).
pub const IN_FLIGHT_FULL: f64 = 1024.0;
/// A utilisation told by an answer is worth something this long.
pub const LOAD_FRESH_US: u64 = 10 * SECOND;
/// Part of the way to the wished share that one observation goes when a place is overloaded. Below one half, hundreds
/// of clients that act on the same summary approach the limit without passing it back and forth.
pub const RELIEF_GAIN: f64 = 0.25;
/// The same on the way back.
pub const RECOVERY_GAIN: f64 = 0.1;
/// An overloaded place keeps this share, so that it can be seen to recover.
pub const RELIEF_FLOOR: f64 = 0.05;

/// A zone's load that did not change is acted upon again after this long: as often as zones look at theirs.
pub const SUMMARY_AGAIN_US: u64 = 2 * SECOND;

/// Connections through one gateway address, at most: enough to meet every workload of a usual service.
pub const CONNECTIONS_MAX: usize = 8;
/// Connections through one gateway address being opened at once, while others are usable.
pub const OPENING_MAX: u32 = 2;
/// An opening nobody told the end of is forgotten: longer than any connect timeout in use (Kuma's 5 s).
pub const OPENING_LOST_US: u64 = 6 * SECOND;

/// Rounding of sums of weights: far below the smallest share one can write (0.01 %).
pub const ROUNDING: f64 = 1e-9;
/// Random draws that look for a candidate that was not tried yet, before all are looked at.
pub const DRAWS_MAX: u32 = 4;

/// Parts of a Maglev table: a prime above a hundred times the endpoints of a usual service (Envoy's default; the paper's
/// small table). 256 KiB a service and worker.
pub const MAGLEV_SIZE: usize = 65_537;
/// Points of an endpoint of the smallest weight on a ring (ketama: 160): shares then differ by about 8 %.
pub const POINTS_PER_ENDPOINT: u32 = 160;
/// Least bound of a ring one can set (Envoy's `minimum_ring_size`).
pub const RING_POINTS_LEAST: u32 = 1_024;
/// Greatest (Envoy's `maximum_ring_size`).
pub const RING_POINTS_MOST: u32 = 8_388_608;
/// Endpoints a key passes by because they return slowly or have enough to do, before it takes the first of them.
pub const PASSED_MAX: usize = 256;

/// An endpoint is not worse than others for fewer failures than this, however alike the others are: where everybody
/// answers well, a deviation is a request in a thousand.
pub const WORSE_BY: f64 = 0.05;
