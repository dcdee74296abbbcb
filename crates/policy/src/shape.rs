//! The two shapes of a policy's spec: values for traffic, and rules for being called.

use crate::kind::{Inbound, Outbound};
use api::target::{TargetKind, TargetRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Entries in `to` or `rules` of one document.
pub const ENTRIES_MAX: usize = 128;

/// Spec of a policy about calls.
#[derive(Clone, Debug, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "{P}Spec")]
pub struct Traffic<P> {
    /// Which proxies: Mesh, Zone, Namespace or Workload. Omitted: all of the mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Values for calls to these.
    pub to: Vec<To<P>>,
}

/// Values for calls to one target.
#[derive(Clone, Debug, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "{P}To")]
pub struct To<P> {
    /// Calls to what.
    pub target_ref: TargetRef,
    /// The values. What is left out comes from less specific documents.
    pub default: P,
}

/// Spec of a policy about being called.
#[derive(Clone, Debug, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "{P}Spec")]
pub struct Rules<P> {
    /// Who is called: Mesh, Zone, Namespace, Service, Workload, or an ExternalService behind an edge gateway. Omitted: the whole mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_ref: Option<TargetRef>,
    /// Each speaks for itself; the order does not matter.
    pub rules: Vec<P>,
}

impl<P: Outbound> Traffic<P> {
    pub(crate) fn check(&self) -> Vec<(String, String)> {
        use TargetKind::*;
        let mut wrong = count("to", self.to.len());
        if let Some(target) = &self.target_ref {
            wrong.extend(check_target("targetRef", target, &[Mesh, Zone, Namespace, Workload]));
        }
        for (i, to) in self.to.iter().enumerate() {
            let at = format!("to[{i}].targetRef");
            wrong.extend(check_target(&at, &to.target_ref, P::GRAIN.traffic()));
            if P::GRAIN != crate::Grain::Rule && to.target_ref.section_name.is_some() {
                wrong.push((format!("{at}.sectionName"), format!("{} holds for a whole service", P::KIND)));
            }
            wrong
                .extend(to.default.check().into_iter().map(|(field, what)| (format!("to[{i}].default.{field}"), what)));
        }
        wrong
    }
}

impl<P: Inbound> Rules<P> {
    pub(crate) fn check(&self) -> Vec<(String, String)> {
        use TargetKind::*;
        let mut wrong = count("rules", self.rules.len());
        if let Some(target) = &self.target_ref {
            wrong.extend(check_target(
                "targetRef",
                target,
                &[Mesh, Zone, Namespace, Service, ExternalService, Workload],
            ));
            if target.section_name.is_some() {
                wrong.push(("targetRef.sectionName".into(), "name ports in a rule's `to` instead".into()));
            }
        }
        for (i, rule) in self.rules.iter().enumerate() {
            wrong.extend(rule.check().into_iter().map(|(field, what)| (format!("rules[{i}].{field}"), what)));
        }
        wrong
    }
}

fn count(field: &str, length: usize) -> Vec<(String, String)> {
    match length {
        0 => vec![(field.into(), "needs at least one entry".into())],
        1..=ENTRIES_MAX => Vec::new(),
        _ => vec![(field.into(), format!("has {length} entries; at most {ENTRIES_MAX} are allowed"))],
    }
}

/// What is wrong with a reference in a field that allows these kinds.
fn check_target(at: &str, target: &TargetRef, allowed: &[TargetKind]) -> Vec<(String, String)> {
    use TargetKind::*;
    let TargetRef { kind, name, namespace, zone, labels, section_name } = target;
    let mut wrong = Vec::new();
    let mut say = |field: &str, what: String| wrong.push((format!("{at}.{field}"), what));
    if !allowed.contains(kind) {
        let names: Vec<String> = allowed.iter().map(|kind| format!("{kind:?}")).collect();
        say("kind", format!("{kind:?} cannot stand here; use one of: {}", names.join(", ")));
        return wrong;
    }
    match (kind, name) {
        (Mesh, Some(_)) => say("name", "leave it out: a policy is always about its own mesh".into()),
        (Workload, None) if labels.is_empty() => say("kind", "a Workload needs `labels` or `name`".into()),
        (Mesh | Workload, _) => {}
        (_, None) => say("kind", format!("a {kind:?} needs a `name`")),
        _ => {}
    }
    if namespace.is_some() && matches!(kind, Mesh | Zone | Namespace) {
        say("namespace", format!("a {kind:?} is in no namespace"));
    }
    if zone.is_some() {
        say("zone", "only backends of routes name a zone".into());
    }
    if !labels.is_empty() && *kind != Workload {
        say("labels", "only a Workload is chosen by labels".into());
    }
    if section_name.is_some() && !matches!(kind, Service | HTTPRoute | GRPCRoute) {
        say("sectionName", format!("a {kind:?} has no sections"));
    }
    wrong
}
