//! Which workloads a document programs.

use crate::class::{ClassKey, classes};
use crate::egress;
use crate::index::{Layer, What, Who, Writer};
use crate::listeners;
use crate::program::grain;
use crate::route::route_writer;
use crate::snapshot::{Snapshot, service_ref};
use api::config::ServiceRef;
use api::kinds::ParentRef;
use api::name::MeshName;
use api::object::Key;
use api::target::TargetKind;
use policy::Grain;
use std::collections::BTreeSet;

/// Workloads of this zone whose configuration a document takes part in, so that status can say `n of m`. Documents
/// that are not policies, and not routes, concern every workload of their mesh.
pub fn reach(snapshot: &Snapshot, document: &Key) -> Vec<Key> {
    let mut reached: Vec<Key> = classes(snapshot)
        .into_iter()
        .filter(|(class, _)| programs(snapshot, document, class))
        .flat_map(|(_, workloads)| workloads)
        .collect();
    reached.sort();
    reached
}

fn programs(snapshot: &Snapshot, document: &Key, class: &ClassKey) -> bool {
    match document.kind.as_str() {
        "Zone" => return document.name.as_str().parse().is_ok_and(|zone| snapshot.is_member(&class.mesh, &zone)),
        "Mesh" => return document.name.as_str() == class.mesh.as_str(),
        _ if document.mesh.as_ref() != Some(&class.mesh) => return false,
        _ => {}
    }
    if let Some(entry) = snapshot.policies.get(document) {
        let member = snapshot.is_member(&class.mesh, &class.zone);
        let by_rules = entry.rules.as_ref().is_some_and(|(rules, only)| {
            (class.is(&rules.who) && only.as_ref().is_none_or(|namespace| *namespace == class.namespace))
                || (member && egress::enforces(snapshot, class, &rules.who, only.as_ref()))
        });
        return by_rules || (member && entry.layers.iter().any(|layer| layer_programs(snapshot, layer, class)));
    }
    if let Some(route) = snapshot.http_routes.get(document) {
        return route_programs(snapshot, document, &route.parent_refs, class);
    }
    if let Some(route) = snapshot.tcp_routes.get(document) {
        return route_programs(snapshot, document, &route.parent_refs, class);
    }
    if let Some(gateway) = snapshot.gateways.get(document) {
        return listeners::serves(class, document, gateway);
    }
    match document.kind.as_str() {
        "ExternalService" => snapshot.externals.get(&service_ref(document)).is_some_and(|(key, _)| key == document),
        "Service" => snapshot.services.contains_key(&service_ref(document)),
        "Workload" => snapshot.workloads.contains_key(document),
        _ => false,
    }
}

/// A layer about something that does not exist programs nobody.
fn layer_programs(snapshot: &Snapshot, layer: &Layer, class: &ClassKey) -> bool {
    let entitled = layer.writer != Writer::Consumer || layer.key.namespace.as_ref() == Some(&class.namespace);
    if !entitled || !class.is(&layer.who) || !exists(snapshot, &class.mesh, &layer.what) {
        return false;
    }
    if grain(layer) == Some(Grain::Callee) {
        return class.serves().contains(&layer.what);
    }
    let (What::Route(_, namespace, name) | What::Rule(_, namespace, name, _)) = &layer.what else { return true };
    routes(snapshot, &class.mesh, &layer.what)
        .filter(|(key, _)| key.namespace.as_ref() == Some(namespace) && key.name == *name)
        .any(|(key, parents)| route_programs(snapshot, key, parents, class))
}

/// Whether there is anything that a policy about this could be about.
fn exists(snapshot: &Snapshot, mesh: &MeshName, what: &What) -> bool {
    match what {
        What::Mesh => true,
        What::Namespace(namespace) => {
            snapshot.services_of(mesh).any(|(service, _)| service.namespace == *namespace)
                || snapshot.externals.keys().any(|service| service.mesh == *mesh && service.namespace == *namespace)
        }
        What::Service(namespace, name) | What::Port(namespace, name, _) => {
            let (mesh, namespace, name) = (mesh.clone(), namespace.clone(), name.clone());
            service_exists(snapshot, &ServiceRef { mesh, namespace, name })
        }
        What::Route(_, namespace, name) | What::Rule(_, namespace, name, _) => {
            routes(snapshot, mesh, what).any(|(key, _)| key.namespace.as_ref() == Some(namespace) && key.name == *name)
        }
    }
}

pub(crate) fn service_exists(snapshot: &Snapshot, service: &ServiceRef) -> bool {
    snapshot.known().services.get(&service.mesh).is_some_and(|services| services.contains_key(service))
        || snapshot.externals.contains_key(service)
}

/// Routes of the kind that a reference names, in a mesh.
fn routes<'a>(
    snapshot: &'a Snapshot,
    mesh: &'a MeshName,
    what: &What,
) -> Box<dyn Iterator<Item = (&'a Key, &'a [ParentRef])> + 'a> {
    let of_mesh = move |key: &&Key| key.mesh.as_ref() == Some(mesh);
    match what {
        What::Route("TCPRoute", ..) | What::Rule("TCPRoute", ..) => {
            let all = snapshot.tcp_routes.iter().filter(move |(key, _)| of_mesh(key));
            Box::new(all.map(|(key, route)| (key, &route.parent_refs[..])))
        }
        _ => {
            let kind = what.route_kind();
            let all =
                snapshot.http_routes.iter().filter(move |(key, _)| of_mesh(key) && Some(key.kind.as_str()) == kind);
            Box::new(all.map(|(key, route)| (key, &route.parent_refs[..])))
        }
    }
}

/// References to what does not exist: `(document, which)`. Proxies are not disturbed by them; people want to know.
pub fn dangling(snapshot: &Snapshot) -> BTreeSet<(Key, String)> {
    let mut dangling = BTreeSet::new();
    for (key, entry) in snapshot.policies.iter() {
        let mesh = key.mesh.clone().unwrap_or_default();
        for layer in entry.layers.iter().filter(|layer| !exists(snapshot, &mesh, &layer.what)) {
            dangling.insert((key.clone(), format!("{} does not exist, so nothing is programmed for it", layer.what)));
        }
        for layer in entry.layers.iter().filter(|layer| grain(layer) == Some(Grain::Callee)) {
            if let (Writer::Consumer, Some(called)) = (layer.writer, layer.what.namespace()) {
                let what =
                    format!("{} is not of this namespace, and only its own or an operator's may say this", layer.what);
                dangling.insert((key.clone(), format!("{what}; write it in {called}")));
            }
        }
        if let Some((rules, _)) = &entry.rules
            && let Who::Service(namespace, name) = &rules.who
        {
            let what = What::Service(namespace.clone(), name.clone());
            if !exists(snapshot, &mesh, &what) {
                dangling.insert((key.clone(), format!("{what} does not exist, so nobody enforces this")));
            }
        }
    }
    for (key, route) in snapshot.http_routes.iter() {
        for parent in route.parent_refs.iter().filter(|parent| parent.kind == TargetKind::Gateway) {
            let refused = listeners::refused(snapshot, key, &route.hostnames, parent);
            dangling.extend(refused.map(|what| (key.clone(), what)));
        }
    }
    let http = snapshot.http_routes.iter().map(|(key, route)| (key, &route.parent_refs));
    let tcp = snapshot.tcp_routes.iter().map(|(key, route)| (key, &route.parent_refs));
    for (key, parents) in http.chain(tcp) {
        for parent in parents.iter().filter(|parent| parent.kind == TargetKind::Service) {
            let namespace = parent.namespace.clone().or_else(|| key.namespace.clone()).unwrap_or_default();
            let what = What::Service(namespace, parent.name.clone());
            if !exists(snapshot, &key.mesh.clone().unwrap_or_default(), &what) {
                dangling.insert((key.clone(), format!("{what} does not exist, so nothing is routed")));
            }
        }
    }
    dangling
}

fn route_programs(snapshot: &Snapshot, route: &Key, parents: &[ParentRef], class: &ClassKey) -> bool {
    parents.iter().any(|parent| {
        if parent.kind == TargetKind::Gateway {
            return snapshot.gateways.iter().filter(|(key, gateway)| listeners::serves(class, key, gateway)).any(
                |(key, gateway)| gateway.listeners.iter().any(|one| listeners::attaches(route, parent, key, one)),
            );
        }
        let namespace = parent.namespace.clone().or_else(|| route.namespace.clone()).unwrap_or_default();
        let service = ServiceRef { mesh: class.mesh.clone(), namespace, name: parent.name.clone() };
        let entitled =
            route_writer(route, &service) != Writer::Consumer || route.namespace.as_ref() == Some(&class.namespace);
        entitled && snapshot.known().services.get(&class.mesh).is_some_and(|known| known.contains_key(&service))
    })
}
