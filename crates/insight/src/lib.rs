//! Folds what zones report and probe into health: zones, links, headline, journal.
//!
//! Pure, and the same function everywhere: global folds all zones, a zone folds itself and the peers it probes. The
//! observer calls [`fold`] when something arrived, and every [`OBSERVE_MS`] while somebody looks or something has not
//! settled, and keeps the [`Memory`] it returns.
//!
//! ```text
//! probes --hysteresis--> links --+
//! reports, streams --------------+--> Signals --verdict--> hysteresis --> ZoneView, journal, headline
//! counters --window--> rates ----+
//! ```
#![warn(missing_docs)]

mod fold;
mod headline;
mod limits;
mod links;
mod memory;
mod observed;
mod rates;
mod signals;
mod verdict;

#[cfg(test)]
mod tests;

pub use fold::fold;
pub use limits::OBSERVE_MS;
pub use memory::Memory;
pub use observed::{Link, Observed, Observer, ZoneObserved};
pub use verdict::verdict;
