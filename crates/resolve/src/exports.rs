//! What a zone tells global and its peers: services it offers, gateways, trust.

use crate::program::bytes;
use crate::service::ServiceInfo;
use crate::snapshot::{Snapshot, WorkloadEntry};
use api::config::ServiceRef;
use api::kinds::Role;
use api::name::TrustDomain;
use api::object::Key;
use api::report::{GatewayExport, ServiceExport, item};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Reported utilisation is rounded to this many steps between nothing and full: finer changes decide nothing, and
/// would be sent to every zone.
const LOAD_STEPS: f64 = 20.0;

/// Items a zone publishes: `export/..`, `gateway/..` and `trust/..`.
pub fn exports(snapshot: &Snapshot) -> BTreeMap<String, Bytes> {
    let mut items = BTreeMap::new();
    for (service, info) in exported(snapshot) {
        items.insert(item::export(service), bytes(&export(snapshot, service, info)));
    }
    for (key, entry) in snapshot.workloads.iter().filter(|(_, entry)| entry.spec.role == Role::EastWestGateway) {
        let address = SocketAddr::new(entry.spec.address, entry.spec.proxy_port);
        let gateway = GatewayExport { name: key.name.to_string(), address, ready: entry.ready };
        items.insert(item::gateway(&gateway.name), bytes(&gateway));
    }
    let is_ours = |domain: &TrustDomain| {
        *domain == TrustDomain::zone_control(&snapshot.zone)
            || domain.zone_and_mesh().is_some_and(|(zone, _)| zone == snapshot.zone)
    };
    for trust in snapshot.own_trust.iter().filter(|trust| is_ours(&trust.domain)) {
        items.insert(item::trust(&trust.domain), bytes(trust));
    }
    items
}

/// Services with endpoints in this zone that other zones may call.
pub(crate) fn exported(snapshot: &Snapshot) -> impl Iterator<Item = (&ServiceRef, &ServiceInfo)> {
    let known = snapshot.known();
    known.endpoints.keys().filter_map(move |service| {
        let allowed = snapshot.services.get(service).is_none_or(|written| written.exported);
        let member = snapshot.is_member(&service.mesh, &snapshot.zone);
        let info = known.services.get(&service.mesh)?.get(service)?;
        (allowed && member).then_some((service, info))
    })
}

fn export(snapshot: &Snapshot, service: &ServiceRef, info: &ServiceInfo) -> ServiceExport {
    let keys = snapshot.known().endpoints.get(service).into_iter().flatten();
    let workloads: Vec<(&Key, &WorkloadEntry)> =
        keys.filter_map(|key| Some((key, snapshot.workloads.get(key)?))).collect();
    let ready: Vec<&WorkloadEntry> =
        workloads.iter().filter(|(_, entry)| entry.ready).map(|(_, entry)| *entry).collect();
    let loads: Vec<f64> = ready.iter().filter_map(|entry| entry.load).filter(|load| load.is_finite()).collect();
    let mean = (!loads.is_empty()).then(|| loads.iter().sum::<f64>() / loads.len() as f64);
    let mut identities: Vec<_> = workloads.iter().map(|(key, entry)| entry.identity(key, &snapshot.zone)).collect();
    identities.sort();
    identities.dedup();
    ServiceExport {
        service: service.clone(),
        ports: info.ports.values().cloned().collect(),
        ready: ready.len() as u32,
        total: workloads.len() as u32,
        weight: ready.iter().map(|entry| entry.spec.weight).fold(0, u32::saturating_add),
        load: mean.map(|mean| (mean * LOAD_STEPS).round() / LOAD_STEPS),
        identities,
    }
}
