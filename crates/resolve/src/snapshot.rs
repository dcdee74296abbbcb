//! Everything a zone knows at one moment.

use crate::index::Policies;
use crate::service::{Known, known};
use api::config::{ServiceRef, Trust};
use api::kinds::{ExternalService, Gateway, GrpcRoute, HttpRoute, Mesh, Service, TcpRoute, Workload, Zone};
use api::name::{MeshName, Name, Namespace, SpiffeId, ZoneName};
use api::object::{Key, Labels, Object};
use api::report::{GatewayExport, ServiceExport};
use policy::Lower;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

/// Everything a zone knows at one moment. Not changed once something was asked of it: clone, change the clone, ask.
#[derive(Debug)]
pub struct Snapshot {
    /// Whose.
    pub zone: ZoneName,
    /// Meshes by name.
    pub meshes: BTreeMap<MeshName, Mesh>,
    /// Registered zones by name.
    pub zones: BTreeMap<ZoneName, Zone>,
    /// Workloads of this zone, gateways among them.
    pub workloads: BTreeMap<Key, WorkloadEntry>,
    /// Services as written in this zone; others are derived from workloads and from what peers export.
    pub services: BTreeMap<ServiceRef, Service>,
    /// Where traffic from outside enters.
    pub gateways: Arc<BTreeMap<Key, Gateway>>,
    /// Routes for requests.
    pub http_routes: Arc<BTreeMap<Key, HttpRoute>>,
    /// Routes for connections.
    pub tcp_routes: Arc<BTreeMap<Key, TcpRoute>>,
    /// Things outside.
    pub externals: Arc<BTreeMap<ServiceRef, (Key, ExternalService)>>,
    /// Policies in force in this zone, by what they are about.
    pub policies: Arc<Policies>,
    /// What other zones say of themselves.
    pub peers: BTreeMap<ZoneName, PeerZone>,
    /// Anchors of this zone's own trust domains, and of global's.
    pub own_trust: Vec<Trust>,
    /// Where the zone control plane takes connections of peers.
    pub zone_cp: Option<SocketAddr>,
    known: OnceLock<Arc<Known>>,
}

/// One workload of this zone.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkloadEntry {
    /// Labels that policies select on.
    pub labels: Labels,
    /// As registered.
    pub spec: Workload,
    /// Its proxy is connected and its app answers.
    pub ready: bool,
    /// Utilisation of its app, if known.
    pub load: Option<f64>,
}

/// What another zone says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PeerZone {
    /// Services it offers.
    pub exports: Vec<ServiceExport>,
    /// Its gateways.
    pub gateways: Vec<GatewayExport>,
    /// Anchors of its trust domains. What it says of others' is not looked at.
    pub trust: Vec<Trust>,
    /// How far it is from here ([`api::report::distance`]); `None` where nothing was measured.
    pub distance: Option<u32>,
}

impl Clone for Snapshot {
    fn clone(&self) -> Self {
        let Self { zone, meshes, zones, workloads, services, gateways, http_routes, .. } = self;
        let Self { tcp_routes, externals, policies, peers, own_trust, zone_cp, known: _, .. } = self;
        Self {
            zone: zone.clone(),
            meshes: meshes.clone(),
            zones: zones.clone(),
            workloads: workloads.clone(),
            services: services.clone(),
            gateways: gateways.clone(),
            http_routes: http_routes.clone(),
            tcp_routes: tcp_routes.clone(),
            externals: externals.clone(),
            policies: policies.clone(),
            peers: peers.clone(),
            own_trust: own_trust.clone(),
            zone_cp: *zone_cp,
            // What was concluded belongs to the original: the clone is about to be changed.
            known: OnceLock::new(),
        }
    }
}

impl Snapshot {
    /// A zone that knows nothing.
    pub fn empty(zone: ZoneName) -> Self {
        Self {
            zone,
            meshes: BTreeMap::new(),
            zones: BTreeMap::new(),
            workloads: BTreeMap::new(),
            services: BTreeMap::new(),
            gateways: Arc::default(),
            http_routes: Arc::default(),
            tcp_routes: Arc::default(),
            externals: Arc::default(),
            policies: Arc::default(),
            peers: BTreeMap::new(),
            own_trust: Vec::new(),
            zone_cp: None,
            known: OnceLock::new(),
        }
    }

    /// Reads all documents that matter in `zone`. What another zone wrote is left out; what cannot be read is refused
    /// with its reason and changes nothing else. No workload is ready yet.
    pub fn from_objects<'a>(zone: ZoneName, objects: impl Iterator<Item = &'a Object>) -> (Self, Vec<(Key, String)>) {
        let mut reading = Reading { snapshot: Self::empty(zone), ..Reading::default() };
        let mut refused = Vec::new();
        for object in objects {
            let Some(kind) = policy::kind(&object.kind) else { continue };
            let Ok(key) = object.key(kind.scope) else { continue };
            if key.zone.as_ref().is_some_and(|zone| *zone != reading.snapshot.zone) {
                continue;
            }
            if let Err(reason) = reading.add(kind, &key, object) {
                refused.push((key, reason));
            }
        }
        refused.sort();
        (reading.finish(), refused)
    }

    /// Whether a zone belongs to a mesh. To a mesh that nobody described belong all.
    pub fn is_member(&self, mesh: &MeshName, zone: &ZoneName) -> bool {
        self.meshes.get(mesh).is_none_or(|mesh| mesh.zones.is_empty() || mesh.zones.contains(zone))
    }

    /// Zones of a mesh that this zone knows, its own among them.
    pub fn members(&self, mesh: &MeshName) -> BTreeSet<&ZoneName> {
        let known = std::iter::once(&self.zone).chain(self.zones.keys()).chain(self.peers.keys());
        known.filter(|zone| self.is_member(mesh, zone)).collect()
    }

    /// Services of a mesh, from all its zones.
    pub fn services_of(&self, mesh: &MeshName) -> impl Iterator<Item = (&ServiceRef, &crate::ServiceInfo)> {
        self.known().services.get(mesh).into_iter().flatten()
    }

    pub(crate) fn known(&self) -> &Known {
        self.known.get_or_init(|| Arc::new(known(self)))
    }
}

impl WorkloadEntry {
    /// The identity its certificate shows.
    pub fn identity(&self, key: &Key, zone: &ZoneName) -> SpiffeId {
        let mesh = key.mesh.clone().unwrap_or_default();
        let namespace = key.namespace.clone().unwrap_or_default();
        SpiffeId::workload(zone, &mesh, &namespace, &self.account(&key.name))
    }

    /// The account it runs as: as written, else the service's name, else its own.
    pub fn account(&self, name: &Name) -> api::Account {
        let Workload { account, service, .. } = &self.spec;
        let named = || service.as_ref().unwrap_or(name).as_str().parse().expect("names and accounts have one shape");
        account.clone().unwrap_or_else(named)
    }
}

/// A snapshot in the making; what is shared later is still being filled.
struct Reading {
    snapshot: Snapshot,
    gateways: BTreeMap<Key, Gateway>,
    http_routes: BTreeMap<Key, HttpRoute>,
    tcp_routes: BTreeMap<Key, TcpRoute>,
    externals: BTreeMap<ServiceRef, (Key, ExternalService)>,
    policies: Policies,
}

impl Default for Reading {
    fn default() -> Self {
        let nowhere = "nowhere".parse().expect("a DNS label");
        Self {
            snapshot: Snapshot::empty(nowhere),
            gateways: BTreeMap::new(),
            http_routes: BTreeMap::new(),
            tcp_routes: BTreeMap::new(),
            externals: BTreeMap::new(),
            policies: Policies::default(),
        }
    }
}

impl Reading {
    fn add(&mut self, kind: &'static policy::Kind, key: &Key, object: &Object) -> Result<(), String> {
        fn read<S: serde::de::DeserializeOwned>(object: &Object) -> Result<S, String> {
            let nothing = serde_json::Value::Object(serde_json::Map::new());
            let spec = if object.spec.is_null() { &nothing } else { &object.spec };
            S::deserialize(spec).map_err(|error| error.to_string())
        }
        let Self { snapshot, gateways, http_routes, tcp_routes, externals, policies } = self;
        match (kind.name, kind.lower) {
            ("Mesh", _) => {
                let name: MeshName = key.name.as_str().parse().map_err(|error| format!("{error}"))?;
                snapshot.meshes.insert(name, read(object)?);
            }
            ("Zone", _) => {
                let name: ZoneName = key.name.as_str().parse().map_err(|error| format!("{error}"))?;
                snapshot.zones.insert(name, read(object)?);
            }
            ("Workload", _) => {
                let labels = object.metadata.labels.clone();
                let entry = WorkloadEntry { labels, spec: read(object)?, ready: false, load: None };
                snapshot.workloads.insert(key.clone(), entry);
            }
            ("Service", _) => {
                snapshot.services.insert(service_ref(key), read(object)?);
            }
            ("ExternalService", _) => {
                let external = read(object)?;
                // Global's comes before the zone's own, so the zone's own holds.
                let place = externals.entry(service_ref(key)).or_insert_with(|| (key.clone(), external));
                if place.0 < *key {
                    *place = (key.clone(), read(object)?);
                }
            }
            ("Gateway", _) => {
                gateways.insert(key.clone(), read(object)?);
            }
            ("HTTPRoute", _) => {
                http_routes.insert(key.clone(), read(object)?);
            }
            ("GRPCRoute", _) => {
                http_routes.insert(key.clone(), read::<GrpcRoute>(object)?.as_http());
            }
            ("TCPRoute", _) => {
                tcp_routes.insert(key.clone(), read(object)?);
            }
            (_, Lower::Outbound { .. } | Lower::Inbound { .. }) => policies.add(kind, key, &object.spec)?,
            (name, Lower::Resource) => return Err(format!("{name} is not understood by this version")),
        }
        Ok(())
    }

    fn finish(self) -> Snapshot {
        let Self { snapshot, gateways, http_routes, tcp_routes, externals, mut policies } = self;
        policies.sort();
        Snapshot {
            gateways: Arc::new(gateways),
            http_routes: Arc::new(http_routes),
            tcp_routes: Arc::new(tcp_routes),
            externals: Arc::new(externals),
            policies: Arc::new(policies),
            ..snapshot
        }
    }
}

/// The service of this object's mesh, namespace and name.
pub(crate) fn service_ref(key: &Key) -> ServiceRef {
    let mesh: MeshName = key.mesh.clone().unwrap_or_default();
    let namespace: Namespace = key.namespace.clone().unwrap_or_default();
    ServiceRef { mesh, namespace, name: key.name.clone() }
}
