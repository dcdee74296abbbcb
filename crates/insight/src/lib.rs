//! Folds what zones report and probe into health: zones, links, headline, journal.
//!
//! Pure, and the same function everywhere: global folds all zones, a zone folds itself and the peers it probes. The
//! observer calls [`fold`] when something arrived, and every [`OBSERVE_MS`], and keeps the [`Memory`] it returns.

mod fold;
mod memory;
mod observed;
mod verdict;

pub use fold::fold;
pub use memory::Memory;
pub use observed::{Link, Observed, Observer, ZoneObserved};
pub use verdict::verdict;

/// Between two observations, milliseconds: gateways probe that often.
pub const OBSERVE_MS: u64 = 2_000;
