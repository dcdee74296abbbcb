//! Whether a process is ready, and what is missing when it is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Named conditions, all of which must be met. Clones share them.
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Condition to reason, for those that are not met.
    missing: Arc<watch::Sender<BTreeMap<String, String>>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self { missing: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }
}

impl Readiness {
    /// Ready until something is required.
    pub fn new() -> Self {
        Self::default()
    }

    /// `condition` is not met (any more), and why, for people: `require("config", "none received yet")`.
    pub fn require(&self, condition: &str, why: impl Into<String>) {
        let why = why.into();
        self.missing
            .send_if_modified(|missing| missing.insert(condition.to_owned(), why.clone()).as_ref() != Some(&why));
    }

    /// `condition` is met.
    pub fn met(&self, condition: &str) {
        self.missing.send_if_modified(|missing| missing.remove(condition).is_some());
    }

    /// Sets `condition` from a fact.
    pub fn set(&self, condition: &str, met: bool, why: &str) {
        if met { self.met(condition) } else { self.require(condition, why) }
    }

    /// Whether nothing is missing.
    pub fn is_ready(&self) -> bool {
        self.missing.borrow().is_empty()
    }

    /// Conditions that are not met, with the reason.
    pub fn missing(&self) -> BTreeMap<String, String> {
        self.missing.borrow().clone()
    }

    /// Follows what is missing.
    pub fn watch(&self) -> watch::Receiver<BTreeMap<String, String>> {
        self.missing.subscribe()
    }

    /// Resolves when nothing is missing.
    pub async fn ready(&self) {
        // The sender lives in `self`, so the channel cannot close meanwhile.
        let _ = self.watch().wait_for(BTreeMap::is_empty).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ready_is_when_every_condition_is_met() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        readiness.require("config", "none received yet");
        readiness.require("certificate", "not issued yet");
        readiness.met("config");
        assert_eq!(readiness.missing().into_keys().collect::<Vec<_>>(), ["certificate"]);
        readiness.set("certificate", true, "");
        readiness.ready().await;
    }
}
