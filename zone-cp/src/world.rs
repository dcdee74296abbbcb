//! What the zone knows: its copy of what global owns, and what was written here.

use api::ZoneName;
use bytes::Bytes;
use control::documents::Documents;
use control::{Cache, Objects};
use std::collections::BTreeMap;
use std::sync::Arc;
use sync_grpc::{Follower, Held};
use tokio::sync::watch;

/// Prefix of objects in the copy.
const OBJECT: &str = "object/";
/// Prefix of other zones' exports in the copy.
const PEER: &str = "peer/";

/// One state of everything known.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Global's objects and our own.
    pub objects: Arc<Objects>,
    /// The copy as it is held.
    pub policy: Arc<Held>,
}

impl World {
    /// Whether global has ever told us anything. Before that nothing is programmed: no policy is not "no policy".
    pub fn is_complete(&self) -> bool {
        self.policy.lineage.is_some()
    }

    /// What global passed on of other zones: items by zone, as that zone published them.
    pub fn passed_on(&self) -> BTreeMap<ZoneName, BTreeMap<Arc<str>, Bytes>> {
        let mut zones: BTreeMap<ZoneName, BTreeMap<Arc<str>, Bytes>> = BTreeMap::new();
        for (item, payload) in self.policy.items.iter() {
            let Some((zone, key)) = item.strip_prefix(PEER).and_then(|rest| rest.split_once('/')) else { continue };
            if let Ok(zone) = zone.parse() {
                zones.entry(zone).or_default().insert(key.into(), payload.clone());
            }
        }
        zones
    }
}

/// Keeps both channels equal to copy and store.
pub async fn follow(
    policy: Follower,
    cache: Cache,
    world: watch::Sender<Arc<World>>,
    objects: watch::Sender<Arc<Objects>>,
) {
    let (mut held, mut own) = (policy.watch(), cache.watch());
    let mut documents = Documents::default();
    loop {
        let (policy, written) = (held.borrow_and_update().clone(), own.borrow_and_update().clone());
        let merged = Arc::new(written.with(documents.read(OBJECT, policy.items.iter())));
        objects.send_if_modified(|present| {
            let differs = *present != merged;
            if differs {
                *present = merged.clone();
            }
            differs
        });
        let objects = objects.borrow().clone();
        world.send_replace(Arc::new(World { objects, policy }));
        let ended = tokio::select! {
            changed = held.changed() => changed.is_err(),
            changed = own.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}
