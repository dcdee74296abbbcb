//! What the observer knows when it folds.

use api::ZoneName;
use api::kinds::Zone;
use api::report::{ServiceExport, ZoneReport};
use std::sync::Arc;

/// Whose view is computed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Observer {
    /// All zones, over their control links.
    Global,
    /// A zone: itself, and the peers it probes.
    Zone(ZoneName),
}

/// Everything one fold needs.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Whose view.
    pub observer: Observer,
    /// Policy revision of the observer's store.
    pub revision: u64,
    /// Every zone the observer knows of.
    pub zones: Vec<ZoneObserved>,
}

/// What is known of one zone.
#[derive(Clone, Debug)]
pub struct ZoneObserved {
    /// Which.
    pub name: ZoneName,
    /// As operators want it.
    pub spec: Zone,
    /// Has connected at least once.
    pub joined: bool,
    /// Its control stream: to global for global's view and for a zone's own line; to the observer for a zone's peers.
    /// `None`: the observer has no stream with it at all (a peer from which nothing is used).
    pub link: Option<Link>,
    /// Its latest report, which is current as long as its link is: reports travel when they change. The observing
    /// zone's own report is always current.
    pub report: Option<Arc<ZoneReport>>,
    /// What it offers.
    pub exports: Vec<Arc<ServiceExport>>,
}

/// A control stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Link {
    /// It is open. That is an observation of now: a stream without a sign of life is closed within 3 s.
    pub connected: bool,
    /// Unix milliseconds at which the other side was last heard; `None`: never. Counts while it is closed.
    pub heard_ms: Option<u64>,
}

impl Observed {
    /// Whether what a zone reported still holds: reports travel when they change, as long as the stream is open.
    pub(crate) fn is_current(&self, zone: &ZoneObserved) -> bool {
        let own = matches!(&self.observer, Observer::Zone(own) if *own == zone.name);
        own || zone.link.is_some_and(|link| link.connected)
    }
}
