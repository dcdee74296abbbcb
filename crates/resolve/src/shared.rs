//! What all proxies of a mesh share, and what gateways run: endpoints and trust. Readiness changes only this.

use crate::program::bytes;
use crate::snapshot::{PeerZone, Snapshot};
use api::config::{Endpoint, Endpoints, EndpointsPlace, GatewayConfig, RemoteEndpoints, ServiceRef, Trust, item};
use api::name::{MeshName, TrustDomain, ZoneName};
use api::object::Key;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Items that all classes of a mesh share: `endpoints/..` of every zone, and `trust/..`.
pub fn shared(snapshot: &Snapshot, mesh: &MeshName) -> BTreeMap<String, Bytes> {
    let mut items = BTreeMap::new();
    let own_control = TrustDomain::zone_control(&snapshot.zone);
    for trust in trust(snapshot) {
        let ours =
            trust.domain.zone_and_mesh().is_some_and(|(zone, of)| of == *mesh && snapshot.is_member(mesh, &zone));
        if ours || trust.domain == own_control {
            items.insert(item::trust(&trust.domain), bytes(trust));
        }
    }
    if !snapshot.is_member(mesh, &snapshot.zone) {
        return items;
    }
    local(snapshot, |service| service.mesh == *mesh, &mut items);
    crate::egress::endpoints(snapshot, mesh, &mut items);
    for (zone, peer) in &snapshot.peers {
        if *zone == snapshot.zone || !snapshot.is_member(mesh, zone) {
            continue;
        }
        for export in peer.exports.iter().filter(|export| export.service.mesh == *mesh) {
            // A zone speaks only for identities of its own.
            let domain = TrustDomain::workloads(zone, mesh);
            let mut identities = export.identities.clone();
            identities.retain(|identity| *identity.trust_domain() == domain);
            identities.sort();
            identities.dedup();
            let place = EndpointsPlace::Remote(RemoteEndpoints {
                gateways: gateways(peer),
                identities,
                ready: export.ready,
                total: export.total,
                weight: export.weight,
                load: export.load,
            });
            let endpoints = Endpoints { service: export.service.clone(), zone: zone.clone(), place };
            items.insert(item::endpoints(&endpoints.service, zone), bytes(&endpoints));
        }
    }
    items
}

/// Items of this zone's east-west gateways: what may be called through them, where it is, and whom to trust.
pub fn gateway(snapshot: &Snapshot) -> BTreeMap<String, Bytes> {
    let mut items = BTreeMap::new();
    let peers = snapshot.peers.iter().filter(|(zone, _)| **zone != snapshot.zone);
    let config = GatewayConfig {
        zone: snapshot.zone.clone(),
        exported: crate::exports::exported(snapshot)
            .map(|(service, info)| (service.to_string(), info.ports.keys().copied().collect()))
            .collect(),
        peers: peers.map(|(zone, peer)| (zone.clone(), gateways(peer))).collect(),
        zone_cp: snapshot.zone_cp,
    };
    items.insert(item::GATEWAY.into(), bytes(&config));
    let member = |service: &ServiceRef| snapshot.is_member(&service.mesh, &snapshot.zone);
    local(snapshot, member, &mut items);
    for trust in trust(snapshot) {
        items.insert(item::trust(&trust.domain), bytes(trust));
    }
    items
}

/// Anchors this zone may use: its own, and those each peer gives for domains of its own. Of several for one domain the
/// newest.
pub(crate) fn trust(snapshot: &Snapshot) -> impl Iterator<Item = &Trust> {
    let mut newest: BTreeMap<&TrustDomain, &Trust> = BTreeMap::new();
    let peers = snapshot.peers.iter().filter(|(zone, _)| **zone != snapshot.zone);
    let theirs = peers.flat_map(|(zone, peer)| peer.trust.iter().filter(|trust| belongs(&trust.domain, zone)));
    for trust in snapshot.own_trust.iter().chain(theirs) {
        let held = newest.entry(&trust.domain).or_insert(trust);
        if held.sequence < trust.sequence {
            *held = trust;
        }
    }
    newest.into_values()
}

fn belongs(domain: &TrustDomain, zone: &ZoneName) -> bool {
    *domain == TrustDomain::zone_control(zone) || domain.zone_and_mesh().is_some_and(|(of, _)| of == *zone)
}

/// Addresses of a peer's gateways. When none says that it is ready, all: what it said may be old, and a try is cheap.
fn gateways(peer: &PeerZone) -> Vec<SocketAddr> {
    let some_ready = peer.gateways.iter().any(|gateway| gateway.ready);
    let usable = peer.gateways.iter().filter(|gateway| gateway.ready || !some_ready);
    let mut addresses: Vec<SocketAddr> = usable.map(|gateway| gateway.address).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn local(snapshot: &Snapshot, wanted: impl Fn(&ServiceRef) -> bool, items: &mut BTreeMap<String, Bytes>) {
    let endpoint = |key: &Key| {
        let entry = snapshot.workloads.get(key)?;
        Some(Endpoint {
            workload: key.name.clone(),
            address: SocketAddr::new(entry.spec.address, entry.spec.proxy_port),
            identity: entry.identity(key, &snapshot.zone),
            weight: entry.spec.weight,
            ready: entry.ready,
            place: entry.spec.place.clone(),
        })
    };
    for (service, workloads) in snapshot.known().endpoints.iter().filter(|(service, _)| wanted(service)) {
        let place = EndpointsPlace::Local(workloads.iter().filter_map(endpoint).collect());
        let endpoints = Endpoints { service: service.clone(), zone: snapshot.zone.clone(), place };
        items.insert(item::endpoints(service, &snapshot.zone), bytes(&endpoints));
    }
}
