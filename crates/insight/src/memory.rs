//! What one fold remembers for the next: hysteresis, counters, the journal.

/// Kept by the observer between folds. Starts empty.
#[derive(Clone, Debug, Default)]
pub struct Memory {}
