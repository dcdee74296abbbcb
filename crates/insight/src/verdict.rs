//! The decision table of zone health.

use api::health::{Signals, Status, Verdict};

/// Judges one zone; the first row that holds wins.
pub fn verdict(_signals: &Signals) -> Verdict {
    Verdict { status: Status::Unknown, why: String::new(), autonomous: false }
}
