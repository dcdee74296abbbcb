//! From observations to the Zones page.

use crate::memory::Memory;
use crate::observed::Observed;
use api::health::Overview;

/// Computes the page and what to remember for the next fold. `now_ms` is Unix milliseconds.
pub fn fold(observed: &Observed, memory: Memory, now_ms: u64) -> (Overview, Memory) {
    (Overview { revision: observed.revision, at_ms: now_ms, ..Overview::default() }, memory)
}
