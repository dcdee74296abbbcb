//! Programs proxies: from what the zone knows to one view per class of equal proxies.
//!
//! A change of documents resolves every class and publishes what differs; a change of readiness touches only the items
//! that all classes share, and never resolves anything.

use crate::authorities::Authorities;
use crate::registry::Registry;
use crate::source::Exports;
use crate::world::World;
use api::kinds::Role;
use api::report::ServiceExport;
use api::{Key, MeshName, ZoneName};
use bytes::Bytes;
use resolve::{ClassKey, Origin, PeerZone, Snapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use sync::{Cursor, Lineage};
use sync_grpc::Published;
use tokio::sync::watch;
use tracing::{debug, warn};

/// Other zones, as the newest road tells.
pub type PeerBook = BTreeMap<ZoneName, PeerZone>;

/// What one class of proxies runs.
#[derive(Clone)]
pub struct ClassView {
    /// The configuration.
    pub view: Published,
    /// Where each value came from.
    pub origins: Arc<BTreeMap<String, Origin>>,
    /// Where the view was when a document's revision was in it.
    pub required: BTreeMap<Key, (u64, Cursor)>,
    mesh: Option<MeshName>,
}

/// What is programmed at present.
#[derive(Clone, Default)]
pub struct Installed {
    /// What it was made from; `None` before the first time.
    pub snapshot: Option<Arc<Snapshot>>,
    /// What of global's truth is in it.
    pub lineage: Option<Lineage>,
    /// The view of each workload's proxy.
    pub views: Arc<BTreeMap<Key, Arc<ClassView>>>,
    /// Revision and reach of each document.
    pub documents: Arc<BTreeMap<Key, (u64, Vec<Key>)>>,
    /// Documents that this version cannot use, and why.
    pub refused: Arc<Vec<(Key, String)>>,
}

/// What programs.
pub struct Programmer {
    /// Our zone.
    pub zone: ZoneName,
    /// What is known.
    pub world: watch::Receiver<Arc<World>>,
    /// Other zones.
    pub peers: watch::Receiver<Option<Arc<PeerBook>>>,
    /// Proxies.
    pub registry: Registry,
    /// Trust.
    pub authorities: Authorities,
    /// What we offer.
    pub exports: Exports,
    /// Where gateways hand over connections of peers.
    pub peer_address: SocketAddr,
    /// What is programmed.
    pub installed: watch::Sender<Arc<Installed>>,
}

/// What the programmer keeps between rounds.
#[derive(Default)]
struct Kept {
    classes: BTreeMap<Option<ClassKey>, Arc<ClassView>>,
    shared: BTreeMap<MeshName, BTreeMap<String, Bytes>>,
    shape: Shape,
}

/// What of other zones resolution depends on; the rest of what they say is in shared items.
type Shape = Vec<(ZoneName, Option<u32>, Vec<(String, Vec<u16>)>)>;

impl Programmer {
    /// Works until nobody changes anything any more.
    pub async fn run(mut self) {
        let mut ready = self.registry.ready_changed();
        let mut authorities = self.authorities.changed();
        let mut kept = Kept::default();
        let mut documents_moved = true;
        loop {
            let world = self.world.borrow_and_update().clone();
            let peers = self.peers.borrow_and_update().clone();
            ready.mark_unchanged();
            authorities.mark_unchanged();
            // Before both are known nothing is programmed: "not read yet" must not look like "gone".
            let known = peers.filter(|_| world.is_complete());
            if let Some(peers) = &known {
                process::aside(|| self.round(&mut kept, &world, peers, documents_moved));
            }
            documents_moved = tokio::select! {
                changed = self.world.changed() => match changed { Ok(()) => true, Err(_) => return },
                changed = authorities.changed() => match changed { Ok(()) => true, Err(_) => return },
                changed = self.peers.changed() => match changed { Ok(()) => false, Err(_) => return },
                changed = ready.changed() => match changed { Ok(()) => false, Err(_) => return },
            } || self.world.has_changed().unwrap_or(true)
                || authorities.has_changed().unwrap_or(true)
                || known.is_none();
        }
    }

    fn round(&self, kept: &mut Kept, world: &World, peers: &PeerBook, documents_moved: bool) {
        let present = self.installed.borrow().clone();
        let mut refused = present.refused.clone();
        let mut snapshot = match &present.snapshot {
            Some(snapshot) if !documents_moved => Snapshot::clone(snapshot),
            _ => {
                let objects = world.objects.items.values().map(|object| &**object);
                let (snapshot, wrong) = Snapshot::from_objects(self.zone.clone(), objects);
                self.authorities.ensure(meshes(&snapshot, &self.zone));
                for (key, reason) in &wrong {
                    warn!(%key, reason, "this version cannot use the document");
                }
                refused = Arc::new(wrong);
                snapshot
            }
        };
        for (key, entry) in &mut snapshot.workloads {
            entry.ready = self.registry.is_ready(key);
            entry.load = self.registry.load(key);
        }
        snapshot.peers = peers.clone();
        for (zone, probe) in self.registry.probes() {
            if let Some(peer) = snapshot.peers.get_mut(&zone) {
                peer.distance = probe.distance();
            }
        }
        snapshot.own_trust = self.authorities.trust();
        snapshot.zone_cp = Some(self.peer_address);
        let snapshot = Arc::new(snapshot);
        let shape = shape(&snapshot);
        let resolve_again = documents_moved || shape != kept.shape || present.snapshot.is_none();
        kept.shape = shape;
        let next = if resolve_again {
            self.resolve(kept, world, &snapshot)
        } else {
            self.share(kept, &snapshot);
            Installed { snapshot: Some(snapshot.clone()), ..Installed::clone(&present) }
        };
        self.exports.publish(resolve::exports(&snapshot));
        let lineage = world.policy.lineage;
        self.installed.send_replace(Arc::new(Installed { lineage, refused, ..next }));
        if resolve_again {
            self.settle(&present);
        }
    }

    /// Resolves every class, publishes what differs.
    fn resolve(&self, kept: &mut Kept, world: &World, snapshot: &Arc<Snapshot>) -> Installed {
        let classes = resolve::classes(snapshot);
        kept.shared = classes
            .keys()
            .map(|class| class.mesh.clone())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|mesh| (mesh.clone(), resolve::shared(snapshot, &mesh)))
            .collect();
        let documents = documents(snapshot, world);
        let mut old = std::mem::take(&mut kept.classes);
        let mut views = BTreeMap::new();
        let in_use: BTreeMap<Key, Published> =
            self.registry.proxies().into_iter().map(|(key, proxy)| (key, proxy.view)).collect();
        let mut todo: Vec<(Option<ClassKey>, Vec<Key>)> =
            classes.into_iter().map(|(class, members)| (Some(class), members)).collect();
        let gateways = snapshot.workloads.iter().filter(|(_, entry)| entry.spec.role == Role::EastWestGateway);
        todo.push((None, gateways.map(|(key, _)| key.clone()).collect()));
        // Classes that go on keep their view; a new one takes over the view that its members follow, if it is free, so
        // that renaming a class makes nobody reconnect.
        let mut claimed: BTreeSet<u64> =
            todo.iter().filter_map(|(class, _)| Some(old.get(class)?.view.head().epoch)).collect();
        for (class, members) in todo {
            let before = old.remove(&class);
            let inherited = before.as_ref().map(|before| before.view.clone()).or_else(|| {
                let free = |view: &&Published| !claimed.contains(&view.head().epoch);
                members.iter().filter_map(|key| in_use.get(key)).find(free).cloned()
            });
            let view = inherited.unwrap_or_else(|| Published::new(Lineage::default()));
            claimed.insert(view.head().epoch);
            let (items, origins, mesh) = match &class {
                Some(class) => {
                    let resolved = resolve::resolve(snapshot, class);
                    (resolved.items, resolved.origins, Some(class.mesh.clone()))
                }
                None => (resolve::gateway(snapshot), BTreeMap::new(), None),
            };
            let head = view.replace(merged(&items, mesh.as_ref().and_then(|mesh| kept.shared.get(mesh))));
            let required = required(before.as_deref(), &documents, &members, head);
            let class_view = Arc::new(ClassView { view, origins: Arc::new(origins), required, mesh });
            for member in members {
                views.insert(member, class_view.clone());
            }
            kept.classes.insert(class, class_view);
        }
        debug!(classes = kept.classes.len(), documents = documents.len(), "resolved");
        Installed {
            snapshot: Some(snapshot.clone()),
            views: Arc::new(views),
            documents: Arc::new(documents),
            ..Installed::default()
        }
    }

    /// Publishes only what all classes share.
    fn share(&self, kept: &mut Kept, snapshot: &Snapshot) {
        for (mesh, before) in &mut kept.shared {
            let now = resolve::shared(snapshot, mesh);
            let changes = changes(before, &now);
            if !changes.is_empty() {
                for class in kept.classes.values().filter(|class| class.mesh.as_ref() == Some(mesh)) {
                    class.view.commit(changes.iter().cloned());
                }
            }
            *before = now;
        }
        if let Some(gateways) = kept.classes.get(&None) {
            gateways.view.replace(merged(&resolve::gateway(snapshot), None));
        }
    }

    /// Proxies of another view than theirs come back to the right one; proxies without a workload are cut off.
    fn settle(&self, before: &Installed) {
        let installed = self.installed.borrow().clone();
        for (key, proxy) in self.registry.proxies() {
            match installed.views.get(&key) {
                Some(class) if class.view.head().epoch == proxy.view.head().epoch => {}
                Some(_) => self.registry.move_away(&key),
                None => self.registry.cut(&key),
            }
        }
        let identity = |installed: &Installed, key: &Key| {
            let entry = installed.snapshot.as_ref()?.workloads.get(key).cloned()?;
            Some(self.authorities.identity(key, &entry))
        };
        for key in installed.views.keys() {
            if let Some(was) = identity(before, key)
                && Some(was) != identity(&installed, key)
            {
                self.registry.cut(key);
            }
        }
    }
}

/// Meshes that need an authority: those described and those lived in, as far as we belong to them; `default` always.
fn meshes(snapshot: &Snapshot, zone: &ZoneName) -> BTreeSet<MeshName> {
    let lived_in = snapshot.workloads.keys().filter_map(|key| key.mesh.clone());
    let all = snapshot.meshes.keys().cloned().chain(lived_in).chain([MeshName::default()]);
    all.filter(|mesh| snapshot.is_member(mesh, zone)).collect()
}

fn shape(snapshot: &Snapshot) -> Shape {
    let offered = |export: &ServiceExport| {
        (export.service.to_string(), export.ports.iter().map(|port| port.port).collect::<Vec<_>>())
    };
    let peers = snapshot.peers.iter();
    peers.map(|(zone, peer)| (zone.clone(), peer.distance, peer.exports.iter().map(offered).collect())).collect()
}

/// Revision and reach of every document whose progress is reported.
fn documents(snapshot: &Snapshot, world: &World) -> BTreeMap<Key, (u64, Vec<Key>)> {
    let reported = world.objects.items.iter().filter(|(key, _)| control::programmed::is_reported(&key.kind));
    reported
        .map(|(key, object)| {
            (key.clone(), (object.metadata.revision.unwrap_or_default(), resolve::reach(snapshot, key)))
        })
        .collect()
}

/// For each document that reaches members of this class, where its present revision came in.
fn required(
    before: Option<&ClassView>,
    documents: &BTreeMap<Key, (u64, Vec<Key>)>,
    members: &[Key],
    head: Cursor,
) -> BTreeMap<Key, (u64, Cursor)> {
    let members: BTreeSet<&Key> = members.iter().collect();
    documents
        .iter()
        .filter(|(_, (_, reach))| reach.iter().any(|key| members.contains(key)))
        .map(|(key, (revision, _))| {
            let known = before.and_then(|before| before.required.get(key)).filter(|(known, _)| known == revision);
            (key.clone(), known.copied().unwrap_or((*revision, head)))
        })
        .collect()
}

fn merged(own: &BTreeMap<String, Bytes>, shared: Option<&BTreeMap<String, Bytes>>) -> BTreeMap<Arc<str>, Bytes> {
    let all = own.iter().chain(shared.into_iter().flatten());
    all.map(|(key, payload)| (key.as_str().into(), payload.clone())).collect()
}

fn changes(before: &BTreeMap<String, Bytes>, now: &BTreeMap<String, Bytes>) -> Vec<(Arc<str>, Option<Bytes>)> {
    let put = now.iter().filter(|(key, payload)| before.get(*key) != Some(payload));
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    put.map(|(key, payload)| (key.as_str().into(), Some(payload.clone())))
        .chain(gone.map(|key| (key.as_str().into(), None)))
        .collect()
}

impl ClassView {
    /// Documents whose values are in one item.
    pub fn documents_of<'a>(&'a self, item: &'a str) -> impl Iterator<Item = &'a Key> {
        let inside = move |path: &str| path.strip_prefix(item).is_some_and(|rest| rest.starts_with('#'));
        self.origins.iter().filter(move |(path, _)| inside(path)).map(|(_, origin)| &origin.policy)
    }
}
