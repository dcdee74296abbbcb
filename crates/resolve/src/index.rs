//! Policies in force, found by what they are about: a resolution touches only those that can match.

use api::name::{MeshName, Name, Namespace, ZoneName};
use api::object::{Key, Labels};
use api::target::{TargetKind, TargetRef};
use policy::{InboundRule, Kind, Lower};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Policies in this namespace are the operators': they may be about any namespace. It is the namespace of documents
/// that name none.
pub const OPERATOR_NAMESPACE: &str = "default";

/// Who wrote a document; later ones win where targets are equally specific.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Writer {
    /// An operator, at global.
    GlobalOperator,
    /// An operator, in a zone.
    ZoneOperator,
    /// The namespace of the service that is called; speaks to all callers.
    Producer,
    /// The caller's namespace; speaks only to its own proxies.
    Consumer,
}

/// Which proxies; later variants are more specific.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Who {
    Mesh,
    Gateway,
    Zone(ZoneName),
    Namespace(Namespace),
    Service(Namespace, Name),
    Workload { namespace: Namespace, name: Option<Name>, labels: Labels },
}

/// What traffic; later variants are more specific.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum What {
    Mesh,
    Namespace(Namespace),
    Service(Namespace, Name),
    Port(Namespace, Name, String),
    Route(&'static str, Namespace, Name),
    Rule(&'static str, Namespace, Name, String),
}

/// Values of one document for one target.
#[derive(Debug)]
pub(crate) struct Layer {
    pub key: Key,
    pub kind: &'static Kind,
    pub what: What,
    pub who: Who,
    pub writer: Writer,
    /// Place within its document.
    index: usize,
    pub values: Map<String, Value>,
}

/// Rules of one document about being called.
#[derive(Debug)]
pub(crate) struct RuleSet {
    pub key: Key,
    pub who: Who,
    pub rules: Vec<InboundRule>,
}

/// Policies in force in one zone.
#[derive(Debug, Default)]
pub struct Policies {
    meshes: BTreeMap<MeshName, MeshPolicies>,
    by_key: BTreeMap<Key, Entry>,
}

/// Callers' namespaces for which something holds; `None`: all.
type ByNamespace<T> = BTreeMap<Option<Namespace>, Vec<Arc<T>>>;

#[derive(Debug, Default)]
struct MeshPolicies {
    outbound: BTreeMap<What, ByNamespace<Layer>>,
    inbound: ByNamespace<RuleSet>,
    labels: BTreeMap<String, BTreeSet<String>>,
    names: BTreeSet<(Namespace, Name)>,
}

/// One document, as it was taken apart.
#[derive(Debug)]
pub(crate) struct Entry {
    pub layers: Vec<Arc<Layer>>,
    pub rules: Option<(Arc<RuleSet>, Option<Namespace>)>,
}

impl Layer {
    /// The total order in which documents are laid over each other, least specific first.
    fn order(&self) -> impl Ord + '_ {
        let Self { key, what, who, writer, index, .. } = self;
        (what.rank(), who.rank(), *writer, &key.name, &key.namespace, &key.zone, *index)
    }
}

impl Policies {
    /// How many documents are in force.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Takes a document in. One that is not valid is refused with its first mistake.
    pub(crate) fn add(&mut self, kind: &'static Kind, key: &Key, spec: &Value) -> Result<(), String> {
        if let Some(wrong) = (kind.check)(spec).into_iter().next() {
            return Err(format!("{}: {}", wrong.field, wrong.message));
        }
        let namespace = key.namespace.clone().unwrap_or_default();
        let target = spec.get("targetRef").map_or_else(|| Ok(TargetRef::mesh()), read)?;
        let who = Who::read(&target, &namespace)?;
        let mesh = self.meshes.entry(key.mesh.clone().unwrap_or_default()).or_default();
        if let Who::Workload { namespace, name, labels } = &who {
            for (name, value) in labels {
                mesh.labels.entry(name.clone()).or_default().insert(value.clone());
            }
            mesh.names.extend(name.iter().map(|name| (namespace.clone(), name.clone())));
        }
        let entry = match kind.lower {
            Lower::Outbound { .. } => Entry { layers: mesh.add_layers(kind, key, &who, spec)?, rules: None },
            Lower::Inbound { lower } => {
                let rules = lower(spec, &format!("{namespace}/{}", key.name)).map_err(|error| error.to_string())?;
                // What is not the operators' speaks only about its own namespace.
                let only = (namespace.as_str() != OPERATOR_NAMESPACE).then_some(namespace);
                let rules = Arc::new(RuleSet { key: key.clone(), who, rules });
                mesh.inbound.entry(only.clone()).or_default().push(rules.clone());
                Entry { layers: Vec::new(), rules: Some((rules, only)) }
            }
            Lower::Resource => return Err(format!("{} is no policy", kind.name)),
        };
        self.by_key.insert(key.clone(), entry);
        Ok(())
    }

    /// Brings everything into its order; called once, after the last [`add`](Self::add).
    pub(crate) fn sort(&mut self) {
        for mesh in self.meshes.values_mut() {
            for layers in mesh.outbound.values_mut().flat_map(BTreeMap::values_mut) {
                layers.sort_by(|a, b| a.order().cmp(&b.order()));
            }
            for rules in mesh.inbound.values_mut() {
                rules.sort_by(|a, b| a.key.cmp(&b.key));
            }
        }
    }

    /// Layers for callers in `namespace` about these, in the order in which they are laid over each other.
    pub(crate) fn layers<'a>(
        &'a self,
        mesh: &MeshName,
        namespace: &Namespace,
        about: impl IntoIterator<Item = What>,
    ) -> Vec<&'a Layer> {
        let Some(mesh) = self.meshes.get(mesh) else { return Vec::new() };
        let for_namespace = [None, Some(namespace.clone())];
        let mut layers: Vec<&Layer> = Vec::new();
        for what in about {
            let Some(callers) = mesh.outbound.get(&what) else { continue };
            layers.extend(for_namespace.iter().filter_map(|key| callers.get(key)).flatten().map(Arc::as_ref));
        }
        layers.sort_by(|a, b| a.order().cmp(&b.order()));
        layers
    }

    /// Documents about being called that may be about workloads in `namespace`.
    pub(crate) fn rules<'a>(&'a self, mesh: &MeshName, namespace: &Namespace) -> impl Iterator<Item = &'a RuleSet> {
        let mesh = self.meshes.get(mesh);
        let for_namespace = [None, Some(namespace.clone())];
        for_namespace
            .into_iter()
            .filter_map(move |key| mesh?.inbound.get(&key))
            .flat_map(|rules| rules.iter().map(Arc::as_ref))
    }

    /// Labels, with the values, that some policy of the mesh selects on.
    pub(crate) fn selected_labels(&self, mesh: &MeshName) -> Option<&BTreeMap<String, BTreeSet<String>>> {
        self.meshes.get(mesh).map(|mesh| &mesh.labels)
    }

    /// Whether some policy of the mesh names this workload.
    pub(crate) fn names(&self, mesh: &MeshName, namespace: &Namespace, workload: &Name) -> bool {
        self.meshes.get(mesh).is_some_and(|mesh| mesh.names.contains(&(namespace.clone(), workload.clone())))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.by_key.iter()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Entry> {
        self.by_key.get(key)
    }
}

impl MeshPolicies {
    fn add_layers(
        &mut self,
        kind: &'static Kind,
        key: &Key,
        who: &Who,
        spec: &Value,
    ) -> Result<Vec<Arc<Layer>>, String> {
        let namespace = key.namespace.clone().unwrap_or_default();
        let mut layers = Vec::new();
        for (index, to) in spec.get("to").and_then(Value::as_array).into_iter().flatten().enumerate() {
            let what = What::read(&read(to.get("targetRef").unwrap_or(&Value::Null))?, &namespace)?;
            let writer = writer(key, &what);
            let values = to.get("default").and_then(Value::as_object).cloned().unwrap_or_default();
            let layer = Layer { key: key.clone(), kind, what: what.clone(), who: who.clone(), writer, index, values };
            layers.push(Arc::new(layer));
        }
        for layer in &layers {
            let only = (layer.writer == Writer::Consumer).then(|| namespace.clone());
            self.outbound.entry(layer.what.clone()).or_default().entry(only).or_default().push(layer.clone());
        }
        Ok(layers)
    }
}

/// Who a document's namespace is to the traffic it is about.
pub(crate) fn writer(key: &Key, what: &What) -> Writer {
    let namespace = key.namespace.clone().unwrap_or_default();
    let is_operator = namespace.as_str() == OPERATOR_NAMESPACE;
    match what.namespace() {
        Some(called) if *called == namespace => Writer::Producer,
        _ if is_operator && key.zone.is_some() => Writer::ZoneOperator,
        _ if is_operator => Writer::GlobalOperator,
        _ => Writer::Consumer,
    }
}

fn read<T: serde::de::DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(value).map_err(|error| error.to_string())
}

fn name(target: &TargetRef) -> Result<Name, String> {
    target.name.clone().ok_or_else(|| format!("a {:?} needs a name", target.kind))
}

impl Who {
    fn read(target: &TargetRef, own: &Namespace) -> Result<Self, String> {
        let namespace = target.namespace.clone().unwrap_or_else(|| own.clone());
        let text = || name(target).map(|name| name.to_string());
        Ok(match target.kind {
            TargetKind::Mesh => Self::Mesh,
            TargetKind::Gateway => Self::Gateway,
            TargetKind::Zone => Self::Zone(text()?.parse().map_err(|error| format!("{error}"))?),
            TargetKind::Namespace => Self::Namespace(text()?.parse().map_err(|error| format!("{error}"))?),
            TargetKind::Service | TargetKind::ExternalService => Self::Service(namespace, name(target)?),
            TargetKind::Workload => {
                Self::Workload { namespace, name: target.name.clone(), labels: target.labels.clone() }
            }
            other => return Err(format!("targetRef cannot be {other:?}")),
        })
    }

    /// A service's workloads are as specific as workloads chosen by label.
    fn rank(&self) -> u8 {
        match self {
            Self::Mesh | Self::Gateway => 0,
            Self::Zone(_) => 1,
            Self::Namespace(_) => 2,
            Self::Service(..) | Self::Workload { .. } => 3,
        }
    }
}

impl What {
    fn read(target: &TargetRef, own: &Namespace) -> Result<Self, String> {
        let namespace = target.namespace.clone().unwrap_or_else(|| own.clone());
        let section = target.section_name.clone();
        Ok(match (target.kind, section) {
            (TargetKind::Mesh, _) => Self::Mesh,
            (TargetKind::Namespace, _) => {
                Self::Namespace(name(target)?.as_str().parse().map_err(|error| format!("{error}"))?)
            }
            (TargetKind::Service, Some(port)) => Self::Port(namespace, name(target)?, port),
            (TargetKind::Service | TargetKind::ExternalService, _) => Self::Service(namespace, name(target)?),
            (TargetKind::HTTPRoute, Some(rule)) => Self::Rule("HTTPRoute", namespace, name(target)?, rule),
            (TargetKind::HTTPRoute, None) => Self::Route("HTTPRoute", namespace, name(target)?),
            (TargetKind::GRPCRoute, Some(rule)) => Self::Rule("GRPCRoute", namespace, name(target)?, rule),
            (TargetKind::GRPCRoute, None) => Self::Route("GRPCRoute", namespace, name(target)?),
            (TargetKind::TCPRoute, _) => Self::Route("TCPRoute", namespace, name(target)?),
            (other, _) => return Err(format!("to[].targetRef cannot be {other:?}")),
        })
    }

    /// The namespace of what is called.
    pub(crate) fn namespace(&self) -> Option<&Namespace> {
        match self {
            Self::Mesh => None,
            Self::Namespace(namespace)
            | Self::Service(namespace, _)
            | Self::Port(namespace, ..)
            | Self::Route(_, namespace, _)
            | Self::Rule(_, namespace, ..) => Some(namespace),
        }
    }

    /// The kind of route it is about.
    pub(crate) fn route_kind(&self) -> Option<&'static str> {
        match self {
            Self::Route(kind, ..) | Self::Rule(kind, ..) => Some(kind),
            Self::Mesh | Self::Namespace(_) | Self::Service(..) | Self::Port(..) => None,
        }
    }

    pub(crate) fn rank(&self) -> u8 {
        match self {
            Self::Mesh => 0,
            Self::Namespace(_) => 1,
            Self::Service(..) => 2,
            Self::Port(..) => 3,
            Self::Route(..) => 4,
            Self::Rule(..) => 5,
        }
    }
}

/// As people name it: `Service shop/cart`.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mesh => write!(f, "the mesh"),
            Self::Namespace(namespace) => write!(f, "Namespace {namespace}"),
            Self::Service(namespace, name) => write!(f, "Service {namespace}/{name}"),
            Self::Port(namespace, name, port) => write!(f, "port {port} of Service {namespace}/{name}"),
            Self::Route(kind, namespace, name) => write!(f, "{kind} {namespace}/{name}"),
            Self::Rule(kind, namespace, name, rule) => write!(f, "rule {rule} of {kind} {namespace}/{name}"),
        }
    }
}
