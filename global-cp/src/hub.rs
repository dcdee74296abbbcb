//! Keeps every zone in step: from the store's objects and the zones' exports to one view per zone, and from the zones'
//! reports to what operators see.

use crate::uplink::{self, Uplink};
use crate::views::{Encoded, Items, Membership, PEER, passed_on};
use api::kinds::Zone;
use api::report::{PolicyReport, ServiceExport, ZoneReport, item};
use api::{Key, Object, ZoneName};
use control::documents::{Documents, below, item as read};
use control::{Cache, Objects, Programmed, ZoneProgress};
use insight::{Link, Observed, Observer, ZoneObserved};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// Shared handle.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    data: PathBuf,
    cache: Cache,
    zones: Mutex<BTreeMap<ZoneName, Member>>,
    /// Zones that said something since the last round.
    dirty: Mutex<BTreeSet<ZoneName>>,
    wake: Notify,
    objects: watch::Sender<Arc<Objects>>,
    programmed: watch::Sender<Arc<Programmed>>,
}

/// A zone that may connect.
#[derive(Clone)]
struct Member {
    uplink: Arc<Uplink>,
    /// `None`: the store was lost and does not know this zone; it may connect and is told so.
    spec: Option<Zone>,
    watching: CancellationToken,
}

/// Objects that a zone owns, as it reports them.
#[derive(Default)]
struct Owned {
    documents: Documents,
    objects: Vec<(Key, Arc<Object>)>,
}

/// Changes of a view.
type Changes = Vec<(Arc<str>, Option<bytes::Bytes>)>;

/// What one round works with and keeps for the next.
#[derive(Default)]
struct Round {
    before: Option<Arc<Objects>>,
    encoded: Encoded,
    /// Objects that zones own.
    owned: BTreeMap<ZoneName, Owned>,
    /// Exports as last passed on.
    exports: BTreeMap<ZoneName, Items>,
}

impl Hub {
    /// Knows the zones of the store and those it kept files of.
    pub fn open(data: PathBuf, cache: Cache) -> std::io::Result<Self> {
        let objects = cache.now();
        let hub = Self {
            shared: Arc::new(Shared {
                data,
                zones: Mutex::default(),
                dirty: Mutex::default(),
                wake: Notify::new(),
                objects: watch::Sender::new(objects.clone()),
                programmed: watch::Sender::new(Arc::default()),
                cache,
            }),
        };
        for (zone, history) in uplink::known(&hub.shared.data)? {
            let exists = objects.items.contains_key(&key_of_zone(&zone));
            if exists {
                continue;
            }
            if history == objects.history {
                let path = uplink::folder(&hub.shared.data).join(zone.as_str());
                info!(%zone, "the zone was deleted while we were away");
                std::fs::remove_dir_all(path)?;
            } else {
                warn!(%zone, "the store does not know this zone: it seems to have lost its history");
                hub.add(&zone, None);
            }
        }
        Ok(hub)
    }

    /// All objects: the store's and those of zones.
    pub fn objects(&self) -> watch::Receiver<Arc<Objects>> {
        self.shared.objects.subscribe()
    }

    /// What zones report.
    pub fn programmed(&self) -> watch::Receiver<Arc<Programmed>> {
        self.shared.programmed.subscribe()
    }

    /// The uplink of a zone that may connect.
    pub fn uplink(&self, zone: &ZoneName) -> Option<Arc<Uplink>> {
        self.zones().get(zone).map(|member| member.uplink.clone())
    }

    /// Whether the store has this zone; its uplink follows in a moment.
    pub fn expects(&self, zone: &ZoneName) -> bool {
        self.shared.cache.now().items.contains_key(&key_of_zone(zone))
    }

    /// All uplinks.
    pub fn uplinks(&self) -> Vec<Arc<Uplink>> {
        self.zones().values().map(|member| member.uplink.clone()).collect()
    }

    /// What a fold needs.
    pub fn observe(&self) -> Observed {
        let revision = self.shared.cache.now().revision;
        let zones = self.zones().values().map(observed).collect();
        Observed { observer: Observer::Global, revision, zones }
    }

    /// The worst estrangement, in words.
    pub fn estranged(&self) -> Option<String> {
        let told = self.uplinks().into_iter().filter_map(|uplink| {
            let report: ZoneReport = read(&uplink.report.held().items, item::ZONE)?;
            let (revision, _) = report.estranged?;
            Some((revision, uplink.zone.clone()))
        });
        let (revision, zone) = told.max()?;
        Some(format!(
            "global lost its history at revision {revision}: zone {zone} keeps what it holds; restore from a zone's \
             replica (POST /api/v1/restore) or let zones adopt the present history"
        ))
    }

    /// Fills every view before it returns, because to a zone that connects an unfilled one is one from which everything
    /// was deleted. The future works until `end`, and calls `changed` when something on the overview may differ.
    pub fn run(self, changed: impl Fn() + Send, end: CancellationToken) -> impl Future<Output = ()> + Send {
        let mut round = Round::default();
        let mut cache = self.shared.cache.watch();
        let objects = cache.borrow_and_update().clone();
        self.step(&mut round, objects);
        self.follow(round, cache, changed, end)
    }

    async fn follow(
        self,
        mut round: Round,
        mut cache: watch::Receiver<Arc<Objects>>,
        changed: impl Fn() + Send,
        end: CancellationToken,
    ) {
        loop {
            changed();
            tokio::select! {
                () = end.cancelled() => break,
                () = self.shared.wake.notified() => {}
                changed = cache.changed() => if changed.is_err() { break },
            }
            let objects = cache.borrow_and_update().clone();
            self.step(&mut round, objects);
        }
        for member in self.zones().values() {
            member.watching.cancel();
            member.uplink.close(false);
        }
    }

    fn step(&self, round: &mut Round, objects: Arc<Objects>) {
        let dirty = std::mem::take(&mut *self.shared.dirty.lock().unwrap_or_else(PoisonError::into_inner));
        let store_moved = round.before.as_ref().is_none_or(|before| !Arc::ptr_eq(before, &objects));
        let mut spoke: BTreeSet<ZoneName> = dirty;
        if store_moved {
            spoke.extend(self.follow_zones(&objects));
        }
        if round.before.is_none() {
            spoke.extend(self.zones().keys().cloned());
        }
        let offers = self.take_in(round, &spoke);
        if store_moved {
            self.publish_objects(round, &objects);
        } else {
            let lineage = control::lineage(&objects);
            for uplink in self.uplinks() {
                let others = offers.iter().filter(|(from, _)| **from != uplink.zone);
                let changes: Vec<_> = others.flat_map(|(_, changes)| changes.clone()).collect();
                if !changes.is_empty() {
                    uplink.policy.transact(lineage, changes);
                }
            }
        }
        let owned = round.owned.values().flat_map(|owned| owned.objects.iter().cloned());
        let merged = objects.with(owned);
        self.shared.objects.send_if_modified(|present| {
            let differs = **present != merged;
            if differs {
                *present = Arc::new(merged);
            }
            differs
        });
        self.report(&spoke);
        round.before = Some(objects);
    }

    /// Opens uplinks of new zones and closes those of deleted ones; answers the new.
    fn follow_zones(&self, objects: &Objects) -> BTreeSet<ZoneName> {
        let mut wanted: BTreeMap<ZoneName, Zone> = BTreeMap::new();
        for (key, spec) in objects.specs::<Zone>() {
            if let Ok(zone) = key.name.as_str().parse() {
                wanted.insert(zone, spec);
            }
        }
        let mut fresh = BTreeSet::new();
        let gone: Vec<ZoneName> = {
            let mut zones = self.zones();
            for (zone, member) in zones.iter_mut() {
                if let Some(spec) = wanted.get(zone) {
                    if member.spec.is_none() {
                        member.uplink.remember(objects.history);
                    }
                    member.spec = Some(spec.clone());
                }
            }
            // Zones that a lost store does not know were never deleted by anybody.
            let gone = zones.iter().filter(|(zone, member)| !wanted.contains_key(*zone) && member.spec.is_some());
            gone.map(|(zone, _)| zone.clone()).collect()
        };
        for zone in gone {
            info!(%zone, "zone deleted: it is cut off, and others forget what it offered");
            if let Some(member) = self.zones().remove(&zone) {
                member.watching.cancel();
                member.uplink.close(true);
            }
            fresh.insert(zone);
        }
        for (zone, spec) in wanted {
            if !self.zones().contains_key(&zone)
                && let Some(uplink) = self.add(&zone, Some(spec))
            {
                uplink.remember(objects.history);
                fresh.insert(zone);
            }
        }
        fresh
    }

    fn add(&self, zone: &ZoneName, spec: Option<Zone>) -> Option<Arc<Uplink>> {
        let lineage = control::lineage(&self.shared.cache.now());
        let uplink = match Uplink::open(&self.shared.data, zone, lineage) {
            Ok(uplink) => uplink,
            Err(error) => {
                error!(%zone, %error, "what was kept of the zone cannot be opened; it cannot connect");
                return None;
            }
        };
        let watching = CancellationToken::new();
        let member = Member { uplink: uplink.clone(), spec, watching: watching.clone() };
        self.zones().insert(zone.clone(), member);
        tokio::spawn(watching.run_until_cancelled_owned(listen(self.clone(), uplink.clone())));
        Some(uplink)
    }

    /// Reads what zones newly offer and own; answers changes for the views of others.
    fn take_in(&self, round: &mut Round, spoke: &BTreeSet<ZoneName>) -> BTreeMap<ZoneName, Changes> {
        let mut offers = BTreeMap::new();
        for zone in spoke {
            let Some(uplink) = self.uplink(zone) else {
                let gone = round.exports.remove(zone).unwrap_or_default();
                let changes = gone.into_keys().map(|key| (format!("{PEER}{zone}/{key}").into(), None)).collect();
                offers.insert(zone.clone(), changes);
                round.owned.remove(zone);
                continue;
            };
            let held = uplink.exports.held();
            let before = round.exports.entry(zone.clone()).or_default();
            let mut changes: Changes =
                passed_on(zone, &held.items).map(|(key, payload)| (key, Some(payload))).collect();
            let removed = before.keys().filter(|key| !held.items.contains_key(*key));
            changes.extend(removed.map(|key| (format!("{PEER}{zone}/{key}").into(), None)));
            *before = BTreeMap::clone(&held.items);
            offers.insert(zone.clone(), changes);
            let owned = round.owned.entry(zone.clone()).or_default();
            owned.objects = owned.documents.read(item::OBJECT, uplink.report.held().items.iter());
        }
        offers
    }

    /// Content and lineage in one step, for every zone.
    fn publish_objects(&self, round: &mut Round, objects: &Arc<Objects>) {
        let membership = Membership::of(objects);
        let lineage = control::lineage(objects);
        let items: Vec<_> = round
            .encoded
            .encode(objects)
            .map(|(key, item, payload)| (key.clone(), item.clone(), payload.clone()))
            .collect();
        for uplink in self.uplinks() {
            let shown = items.iter().filter(|(key, ..)| membership.shows(key, &uplink.zone));
            let mut wanted: Items = shown.map(|(_, item, payload)| (item.clone(), payload.clone())).collect();
            for (from, exports) in round.exports.iter().filter(|(from, _)| **from != uplink.zone) {
                wanted.extend(passed_on(from, exports));
            }
            let present = uplink.policy.items();
            let gone: Vec<_> = present.keys().filter(|key| !wanted.contains_key(*key)).cloned().collect();
            let changed = wanted.into_iter().filter(|(key, payload)| present.get(key) != Some(payload));
            let changes: Vec<_> = changed
                .map(|(key, payload)| (key, Some(payload)))
                .chain(gone.into_iter().map(|key| (key, None)))
                .collect();
            uplink.policy.transact(lineage, changes);
        }
        tracing::debug!(revision = lineage.revision, "views follow the store");
    }

    /// Turns reports into the status of policies.
    fn report(&self, spoke: &BTreeSet<ZoneName>) {
        let mut next = Programmed::clone(&self.shared.programmed.borrow());
        for zone in spoke {
            let Some(uplink) = self.uplink(zone).filter(|uplink| uplink.joined()) else {
                next.remove(zone);
                continue;
            };
            let held = uplink.report.held();
            // A zone that has connected and not reported yet has applied nothing, as far as anybody knows.
            let report: ZoneReport = read(&held.items, item::ZONE).unwrap_or_default();
            let policies = below::<PolicyReport>(&held.items, item::POLICY)
                .filter_map(|(key, report)| Some((key.parse().ok()?, Arc::new(report))))
                .collect();
            let applied = report.applied.map(|(_, revision)| revision);
            next.insert(zone.clone(), ZoneProgress { applied, applied_own: None, behind: report.behind, policies });
        }
        self.shared.programmed.send_if_modified(|present| {
            let differs = **present != next;
            if differs {
                *present = Arc::new(next);
            }
            differs
        });
    }

    fn spoke(&self, zone: &ZoneName) {
        self.shared.dirty.lock().unwrap_or_else(PoisonError::into_inner).insert(zone.clone());
        self.shared.wake.notify_one();
    }

    fn zones(&self) -> std::sync::MutexGuard<'_, BTreeMap<ZoneName, Member>> {
        self.shared.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Key of a Zone object.
pub fn key_of_zone(zone: &ZoneName) -> Key {
    let name = zone.as_str().parse().expect("a zone's name is a name");
    Key { kind: "Zone".into(), mesh: None, zone: None, namespace: None, name }
}

async fn listen(hub: Hub, uplink: Arc<Uplink>) {
    let (mut exports, mut report) = (uplink.exports.watch(), uplink.report.watch());
    let mut link = uplink.report.link();
    let mut connected = link.borrow().connected;
    loop {
        let ended = tokio::select! {
            changed = exports.changed() => changed.is_err(),
            changed = report.changed() => changed.is_err(),
            changed = link.changed() => {
                // Signs of life come every second and are no news; comings and goings are.
                let now = link.borrow_and_update().connected;
                if now == std::mem::replace(&mut connected, now) && changed.is_ok() {
                    continue;
                }
                changed.is_err()
            }
        };
        if ended {
            return;
        }
        exports.mark_unchanged();
        report.mark_unchanged();
        hub.spoke(&uplink.zone);
    }
}

fn observed(member: &Member) -> ZoneObserved {
    let Member { uplink, spec, .. } = member;
    ZoneObserved {
        name: uplink.zone.clone(),
        spec: spec.clone().unwrap_or_default(),
        joined: uplink.joined(),
        link: Some(heard(&uplink.report)),
        report: read::<ZoneReport>(&uplink.report.held().items, item::ZONE).map(Arc::new),
        exports: below::<ServiceExport>(&uplink.exports.held().items, item::EXPORT)
            .map(|(_, export)| Arc::new(export))
            .collect(),
    }
}

/// The state of a line, in the words of the overview.
fn heard(follower: &sync_grpc::Follower) -> Link {
    let link = follower.link();
    let link = link.borrow();
    let now = process::clock::unix_ms();
    Link { connected: link.connected, heard_ms: link.age_ms(now).map(|age| now.saturating_sub(age)) }
}
