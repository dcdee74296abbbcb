//! Services of a mesh: what zones write, what workloads imply, what peers export, as one.

use crate::snapshot::{Snapshot, service_ref};
use api::config::ServiceRef;
use api::kinds::{Protocol, Role, Service, ServicePort};
use api::name::{MeshName, ZoneName};
use api::object::{Key, Labels};
use std::collections::{BTreeMap, BTreeSet};

/// A service as callers see it, over all zones of the mesh.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ServiceInfo {
    /// Ports by number. Where zones disagree the own zone's word holds, then that of the first zone by name.
    pub ports: BTreeMap<u16, ServicePort>,
    /// Zones with endpoints of it.
    pub zones: BTreeSet<ZoneName>,
}

/// Conclusions from a snapshot that every resolution needs.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub services: BTreeMap<MeshName, BTreeMap<ServiceRef, ServiceInfo>>,
    /// Workloads of this zone by the service they are endpoints of.
    pub endpoints: BTreeMap<ServiceRef, Vec<Key>>,
    /// Routes by the service they attach to.
    pub http_routes: BTreeMap<ServiceRef, Vec<Key>>,
    pub tcp_routes: BTreeMap<ServiceRef, Vec<Key>>,
}

pub(crate) fn known(snapshot: &Snapshot) -> Known {
    let mut known = Known { endpoints: endpoints(snapshot), ..Known::default() };
    own_services(snapshot, &mut known);
    for (zone, peer) in snapshot.peers.iter().filter(|(zone, _)| **zone != snapshot.zone) {
        for export in &peer.exports {
            if !snapshot.is_member(&export.service.mesh, zone) {
                continue;
            }
            let services = known.services.entry(export.service.mesh.clone()).or_default();
            let info = services.entry(export.service.clone()).or_default();
            info.zones.insert(zone.clone());
            for port in &export.ports {
                info.ports.entry(port.port).or_insert_with(|| port.clone());
            }
        }
    }
    for (key, route) in snapshot.http_routes.iter() {
        attach(&mut known.http_routes, key, &route.parent_refs);
    }
    for (key, route) in snapshot.tcp_routes.iter() {
        attach(&mut known.tcp_routes, key, &route.parent_refs);
    }
    known
}

/// Services that a workload is an endpoint of: the one it names, then those that select it, by name.
pub(crate) fn services_of(snapshot: &Snapshot, key: &Key) -> Vec<ServiceRef> {
    let Some(entry) = snapshot.workloads.get(key).filter(|entry| entry.spec.role == Role::Sidecar) else {
        return Vec::new();
    };
    let named = entry.spec.service.as_ref().map(|name| ServiceRef { name: name.clone(), ..service_ref(key) });
    let mut all: Vec<ServiceRef> = named
        .into_iter()
        .filter(|named| snapshot.services.get(named).is_none_or(|service| service.selector.is_empty()))
        .collect();
    // Services of one mesh and namespace stand next to each other, and no name sorts before `0`.
    let first = ServiceRef { name: "0".parse().expect("a DNS label"), ..service_ref(key) };
    let written = snapshot
        .services
        .range(first.clone()..)
        .take_while(|(service, _)| service.mesh == first.mesh && service.namespace == first.namespace);
    all.extend(written.filter(|(_, service)| selects(&service.selector, &entry.labels)).map(|(name, _)| name.clone()));
    all
}

/// Whether every label of a non-empty selector is there.
pub(crate) fn selects(selector: &Labels, labels: &Labels) -> bool {
    !selector.is_empty() && selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

fn endpoints(snapshot: &Snapshot) -> BTreeMap<ServiceRef, Vec<Key>> {
    let mut endpoints: BTreeMap<ServiceRef, Vec<Key>> = BTreeMap::new();
    for key in snapshot.workloads.keys() {
        for service in services_of(snapshot, key) {
            endpoints.entry(service).or_default().push(key.clone());
        }
    }
    endpoints
}

fn own_services(snapshot: &Snapshot, known: &mut Known) {
    for (service, Service { ports, .. }) in &snapshot.services {
        let info = known.services.entry(service.mesh.clone()).or_default().entry(service.clone()).or_default();
        info.ports.extend(ports.iter().map(|port| (port.port, port.clone())));
    }
    for (service, workloads) in &known.endpoints {
        let services = known.services.entry(service.mesh.clone()).or_default();
        let info = services.entry(service.clone()).or_default();
        info.zones.insert(snapshot.zone.clone());
        if snapshot.services.contains_key(service) {
            // What is written says which ports there are.
            continue;
        }
        for port in workloads.iter().filter_map(|key| snapshot.workloads.get(key)).flat_map(|entry| &entry.spec.ports) {
            let app_protocol: Protocol = port.app_protocol;
            info.ports.entry(port.port).or_insert(ServicePort { port: port.port, name: None, app_protocol });
        }
    }
}

fn attach(routes: &mut BTreeMap<ServiceRef, Vec<Key>>, key: &Key, parents: &[api::kinds::ParentRef]) {
    for parent in parents.iter().filter(|parent| parent.kind == api::target::TargetKind::Service) {
        let namespace = parent.namespace.clone().or_else(|| key.namespace.clone()).unwrap_or_default();
        let mesh = key.mesh.clone().unwrap_or_default();
        let attached = routes.entry(ServiceRef { mesh, namespace, name: parent.name.clone() }).or_default();
        if attached.last() != Some(key) {
            attached.push(key.clone());
        }
    }
}
