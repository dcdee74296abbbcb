//! Every number of this crate, with its source.

/// Between two observations, milliseconds: gateways probe that often.
pub const OBSERVE_MS: u64 = 2_000;
/// The second observation in a row says worse: one interval after the first.
pub const WORSE_AFTER_MS: u64 = OBSERVE_MS;
/// The fifth observation in a row says better: four intervals after the first.
pub const BETTER_AFTER_MS: u64 = 4 * OBSERVE_MS;
/// A direction that never answered is given this long to start: five observations, as for the better.
pub const STARTING_MAX_MS: u64 = 5 * OBSERVE_MS;
/// Older than this, what we know of a zone is no basis for a verdict.
pub const OBSERVED_MAX_MS: u64 = 30_000;
/// A probe is told again at least every 15 s; three of these missed mean that nobody probes any more.
pub const PROBE_MAX_MS: u64 = 45_000;
/// Proxies may be behind this long before it counts: convergence usually takes well below a second.
pub const BEHIND_MAX_MS: u64 = 10_000;
/// Below this share of ready proxies a zone is degraded.
pub const PROXIES_MIN: f64 = 0.99;
/// Below this share of its life a certificate should have been renewed long ago: renewal begins at one half.
pub const CERTIFICATE_MIN: f64 = 0.25;
/// Above this utilisation a zone is degraded: the default at which traffic spills.
pub const LOAD_MAX: f64 = 0.9;
/// Fewer peers than this cannot outvote each other, so words name the pair.
pub const PEERS_FOR_MAJORITY: u32 = 3;

/// Rates are taken over this time: two reports at the slowest usual pace.
pub const RATE_WINDOW_MS: u64 = 10_000;
/// Samples of counters kept for that.
pub const RATE_SAMPLES_MAX: usize = 8;
/// Requests a second below which nobody needs to hear of a spill-over.
pub const SPILL_MIN: f64 = 0.1;
/// Entries of the journal.
pub const EVENTS_MAX: usize = 200;
/// An open stream counts as heard now; shown rounded down to this, so that pages do not change for it alone.
pub const SEEN_STEP_MS: u64 = 5_000;
