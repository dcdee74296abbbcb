//! Which workloads a document programs.

use crate::class::{ClassKey, classes};
use crate::index::{Layer, What, Writer};
use crate::route::route_writer;
use crate::snapshot::{Snapshot, service_ref};
use api::config::ServiceRef;
use api::kinds::ParentRef;
use api::object::Key;
use std::collections::BTreeMap;

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
            class.is(&rules.who) && only.as_ref().is_none_or(|namespace| *namespace == class.namespace)
        });
        return by_rules || (member && entry.layers.iter().any(|layer| layer_programs(snapshot, layer, class)));
    }
    if let Some(route) = snapshot.http_routes.get(document) {
        return route_programs(snapshot, document, &route.parent_refs, class);
    }
    if let Some(route) = snapshot.tcp_routes.get(document) {
        return route_programs(snapshot, document, &route.parent_refs, class);
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
    if !entitled || !class.is(&layer.who) {
        return false;
    }
    let mesh = &class.mesh;
    let exists = |service: &ServiceRef| {
        snapshot.known().services.get(mesh).is_some_and(|services| services.contains_key(service))
            || snapshot.externals.contains_key(service)
    };
    match &layer.what {
        What::Mesh => snapshot.services_of(mesh).next().is_some() || !snapshot.externals.is_empty(),
        What::Namespace(namespace) => {
            snapshot.services_of(mesh).any(|(service, _)| service.namespace == *namespace)
                || snapshot.externals.keys().any(|service| service.mesh == *mesh && service.namespace == *namespace)
        }
        What::Service(namespace, name) | What::Port(namespace, name, _) => {
            exists(&ServiceRef { mesh: mesh.clone(), namespace: namespace.clone(), name: name.clone() })
        }
        What::Route(kind, namespace, name) | What::Rule(kind, namespace, name, _) => {
            let routes: BTreeMap<&Key, &[ParentRef]> = if *kind == "TCPRoute" {
                snapshot.tcp_routes.iter().map(|(key, route)| (key, &route.parent_refs[..])).collect()
            } else {
                snapshot.http_routes.iter().map(|(key, route)| (key, &route.parent_refs[..])).collect()
            };
            routes.into_iter().any(|(key, parents)| {
                key.mesh.as_ref() == Some(mesh)
                    && key.namespace.as_ref() == Some(namespace)
                    && key.name == *name
                    && route_programs(snapshot, key, parents, class)
            })
        }
    }
}

fn route_programs(snapshot: &Snapshot, route: &Key, parents: &[ParentRef], class: &ClassKey) -> bool {
    parents.iter().any(|parent| {
        let namespace = parent.namespace.clone().or_else(|| route.namespace.clone()).unwrap_or_default();
        let service = ServiceRef { mesh: class.mesh.clone(), namespace, name: parent.name.clone() };
        let entitled =
            route_writer(route, &service) != Writer::Consumer || route.namespace.as_ref() == Some(&class.namespace);
        entitled && snapshot.known().services.get(&class.mesh).is_some_and(|known| known.contains_key(&service))
    })
}
