//! Classes of equal proxies: what distinguishes one configuration from another, and nothing else.

use crate::index::{What, Who};
use crate::service;
use crate::snapshot::Snapshot;
use api::config::ServiceRef;
use api::kinds::{Protocol, Role};
use api::name::{Account, MeshName, Name, Namespace, ZoneName};
use api::object::{Key, Labels};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Proxies with equal keys run equal configuration.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClassKey {
    /// Mesh.
    pub mesh: MeshName,
    /// Zone.
    pub zone: ZoneName,
    /// Namespace.
    pub namespace: Namespace,
    /// Account.
    pub account: Account,
    /// The service its workloads are endpoints of.
    pub service: Option<ServiceRef>,
    /// More services, that select its workloads by label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_services: Vec<ServiceRef>,
    /// Labels that some policy in force selects on; others make no difference and are not here.
    pub labels: Labels,
    /// The workload's name, only when some policy in force names it.
    pub workload: Option<Name>,
    /// What its proxies are for.
    #[serde(default, skip_serializing_if = "Role::is_sidecar")]
    pub role: Role,
    /// Ports of the app, by number.
    pub ports: Vec<ClassPort>,
}

/// One port of the app.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct ClassPort {
    /// As callers name it.
    pub port: u16,
    /// The app's.
    pub target: u16,
    /// What the app speaks.
    pub protocol: Protocol,
}

/// The class of a workload's proxy. `None`: no such workload, or an east-west gateway.
pub fn class_of(snapshot: &Snapshot, workload: &Key) -> Option<ClassKey> {
    let entry = snapshot.workloads.get(workload).filter(|entry| entry.spec.role != Role::EastWestGateway)?;
    let mesh = workload.mesh.clone().unwrap_or_default();
    let namespace = workload.namespace.clone().unwrap_or_default();
    let mut ports: Vec<ClassPort> = entry
        .spec
        .ports
        .iter()
        .map(|port| ClassPort {
            port: port.port,
            target: port.target.unwrap_or(port.port),
            protocol: port.app_protocol,
        })
        .collect();
    ports.sort();
    ports.dedup_by_key(|port| port.port);
    let selected = snapshot.policies.selected_labels(&mesh);
    let role = entry.spec.role;
    let matters = |(name, value): &(&String, &String)| {
        // Gateways select edge gateways by any label, and those are few.
        role == Role::EdgeGateway
            || selected.and_then(|labels| labels.get(*name)).is_some_and(|values| values.contains(*value))
    };
    let mut services = service::services_of(snapshot, workload).into_iter();
    Some(ClassKey {
        labels: entry.labels.iter().filter(matters).map(|(name, value)| (name.clone(), value.clone())).collect(),
        workload: snapshot.policies.names(&mesh, &namespace, &workload.name).then(|| workload.name.clone()),
        zone: snapshot.zone.clone(),
        account: entry.account(&workload.name),
        service: services.next(),
        other_services: services.collect(),
        role,
        ports,
        mesh,
        namespace,
    })
}

/// All classes of a snapshot with their workloads.
pub fn classes(snapshot: &Snapshot) -> BTreeMap<ClassKey, Vec<Key>> {
    let mut classes: BTreeMap<ClassKey, Vec<Key>> = BTreeMap::new();
    for workload in snapshot.workloads.keys() {
        if let Some(class) = class_of(snapshot, workload) {
            classes.entry(class).or_default().push(workload.clone());
        }
    }
    classes
}

impl ClassKey {
    /// Everything a policy may name to be about what the class's own workloads serve.
    pub(crate) fn serves(&self) -> Vec<What> {
        let services = self.service.iter().chain(&self.other_services);
        let services = services.map(|service| What::Service(service.namespace.clone(), service.name.clone()));
        [What::Mesh, What::Namespace(self.namespace.clone())].into_iter().chain(services).collect()
    }

    /// Whether a policy for these proxies is for this class.
    pub(crate) fn is(&self, who: &Who) -> bool {
        match who {
            Who::Mesh => true,
            Who::Zone(zone) => *zone == self.zone,
            Who::Namespace(namespace) => *namespace == self.namespace,
            Who::Service(namespace, name) => {
                let mut services = self.service.iter().chain(&self.other_services);
                services.any(|service| service.namespace == *namespace && service.name == *name)
            }
            Who::Workload { namespace, name, labels } => {
                *namespace == self.namespace
                    && name.as_ref().is_none_or(|name| self.workload.as_ref() == Some(name))
                    && labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
            }
            Who::Gateway => self.role != Role::Sidecar,
        }
    }
}
