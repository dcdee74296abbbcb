//! What leaves the mesh through edge gateways: to callers a service whose endpoints are the gateways of their own zone,
//! to the gateways a service outside with callers of its own.

use crate::class::ClassKey;
use crate::index::Who;
use crate::program::{bytes, rules};
use crate::snapshot::Snapshot;
use api::config::{Authorization, Endpoint, Endpoints, EndpointsPlace, ServiceRef, item};
use api::kinds::{ExternalService, Role, Through};
use api::name::{MeshName, Namespace};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Whether proxies of a class go there themselves.
pub(crate) fn is_direct(class: &ClassKey, external: &ExternalService) -> bool {
    external.through == Through::Direct || class.role == Role::EdgeGateway
}

/// Who may leave through gateways of this class to a service; `None`: it does not leave through them.
pub(crate) fn authorization(
    snapshot: &Snapshot,
    class: &ClassKey,
    service: &ServiceRef,
    external: &ExternalService,
    resolved: &mut crate::Resolved,
) -> Option<Authorization> {
    let class = called(class, service, external)?;
    Some(rules(snapshot, &class, &item::outbound(service), resolved).1)
}

/// Whether a policy about being called is enforced by gateways of this class, for something that leaves through them.
/// `only`: the namespace that the policy's author may speak about.
pub(crate) fn enforces(snapshot: &Snapshot, class: &ClassKey, who: &Who, only: Option<&Namespace>) -> bool {
    let ours = snapshot.externals.iter().filter(|(service, _)| service.mesh == class.mesh);
    ours.filter_map(|(service, (_, external))| called(class, service, external))
        .any(|called| called.is(who) && only.is_none_or(|namespace| *namespace == called.namespace))
}

/// A service outside, in the place of the class of a service's workloads.
fn called(class: &ClassKey, service: &ServiceRef, external: &ExternalService) -> Option<ClassKey> {
    let leaves = class.role == Role::EdgeGateway && external.through == Through::EdgeGateway;
    leaves.then(|| ClassKey {
        namespace: service.namespace.clone(),
        service: Some(service.clone()),
        other_services: Vec::new(),
        labels: Default::default(),
        workload: None,
        ..class.clone()
    })
}

/// Puts `endpoints/..` of what leaves through gateways of the own zone.
pub(crate) fn endpoints(snapshot: &Snapshot, mesh: &MeshName, items: &mut BTreeMap<String, Bytes>) {
    let leaving = snapshot.externals.iter().filter(|(service, (_, external))| {
        service.mesh == *mesh
            && external.through == Through::EdgeGateway
            && !items.contains_key(&key(snapshot, service))
    });
    let leaving: Vec<&ServiceRef> = leaving.map(|(service, _)| service).collect();
    if leaving.is_empty() {
        return;
    }
    let gateways = snapshot
        .workloads
        .iter()
        .filter(|(key, entry)| entry.spec.role == Role::EdgeGateway && key.mesh.as_ref() == Some(mesh));
    let gateways: Vec<Endpoint> = gateways
        .map(|(key, entry)| Endpoint {
            workload: key.name.clone(),
            address: SocketAddr::new(entry.spec.address, entry.spec.proxy_port),
            identity: entry.identity(key, &snapshot.zone),
            weight: entry.spec.weight,
            ready: entry.ready,
            place: entry.spec.place.clone(),
        })
        .collect();
    for service in leaving {
        let place = EndpointsPlace::Local(gateways.clone());
        let endpoints = Endpoints { service: service.clone(), zone: snapshot.zone.clone(), place };
        items.insert(key(snapshot, service), bytes(&endpoints));
    }
}

fn key(snapshot: &Snapshot, service: &ServiceRef) -> String {
    item::endpoints(service, &snapshot.zone)
}
