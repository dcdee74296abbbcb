//! Reads cases and answers them. A case is a file:
//!
//! ```yaml
//! why: One sentence.
//! base: shop            # begins with cases/base/shop.yaml
//! given: [...]          # documents; apiVersion may be left out
//! ask: {workload: web-1, show: [outbound/default/shop/cart#/balancing]}
//! answer: ...
//! origin: ...
//! ```
//! Besides `workload` one may ask for `shared: MESH`, `gateway`, `exports`, `reach: KEY`, `class: WORKLOAD`, `plan: [..]`
//! and `refused`. `UPDATE=1` rewrites answers and origins.

use crate::{ClassKey, Origin, PeerZone, Snapshot, class_of, exports, gateway, plan, reach, resolve, shared};
use api::Object;
use api::config::ServiceRef;
use api::kinds::{Protocol, ServicePort};
use api::name::{SpiffeId, ZoneName};
use api::object::Key;
use api::report::{GatewayExport, ServiceExport};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A case after its base was put before it.
pub(super) struct Case {
    pub file: PathBuf,
    text: String,
    value: Value,
    pub zone: ZoneName,
    pub objects: Vec<Object>,
    ready: Vec<String>,
    peers: BTreeMap<ZoneName, PeerZone>,
}

pub(super) fn all() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    files.into_iter().map(|file| read(&folder, file)).collect()
}

fn read(folder: &Path, file: PathBuf) -> Case {
    let text = std::fs::read_to_string(&file).unwrap();
    let value = policy::document::value(&text).unwrap_or_else(|| panic!("{} is no YAML", file.display()));
    assert!(value["why"].is_string(), "{} does not say why", file.display());
    let base = value["base"].as_str().map_or_else(Value::default, |base| {
        let text = std::fs::read_to_string(folder.join(format!("base/{base}.yaml"))).unwrap();
        policy::document::value(&text).unwrap()
    });
    let both = |field: &str| [&base[field], &value[field]];
    let list = |field: &str| both(field).into_iter().filter_map(Value::as_array).flatten().cloned().collect::<Vec<_>>();
    let peers = both("peers").into_iter().filter_map(Value::as_object).flatten();
    Case {
        zone: value["zone"].as_str().or(base["zone"].as_str()).unwrap_or("west").parse().unwrap(),
        objects: replaced(list("given").iter().map(|given| object(given, &file))),
        ready: list("ready").iter().map(|name| name.as_str().unwrap().to_owned()).collect(),
        peers: peers.map(|(zone, about)| (zone.parse().unwrap(), peer(&zone.parse().unwrap(), about))).collect(),
        file,
        text,
        value,
    }
}

/// A later document replaces an earlier one of the same identity.
fn replaced(objects: impl Iterator<Item = Object>) -> Vec<Object> {
    let identity = |object: &Object| object.key(policy::kind(&object.kind).unwrap().scope).unwrap();
    objects.fold(Vec::new(), |mut all, object| {
        all.retain(|earlier| identity(earlier) != identity(&object));
        all.push(object);
        all
    })
}

fn object(given: &Value, file: &Path) -> Object {
    let mut given = given.clone();
    let kind =
        policy::kind(given["kind"].as_str().unwrap()).unwrap_or_else(|| panic!("{}: unknown kind", file.display()));
    given["apiVersion"] = kind.api_version.into();
    serde_json::from_value(given).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn peer(zone: &ZoneName, about: &Value) -> PeerZone {
    let export = |export: &Value| {
        let parts: Vec<&str> = export["service"].as_str().unwrap().split('/').collect();
        let [mesh, namespace, name] = parts[..] else { panic!("a service is MESH/NAMESPACE/NAME") };
        let service = ServiceRef {
            mesh: mesh.parse().unwrap(),
            namespace: namespace.parse().unwrap(),
            name: name.parse().unwrap(),
        };
        let port = |port: &Value| ServicePort {
            port: port.as_u64().unwrap() as u16,
            name: None,
            app_protocol: export["speaks"].as_str().map_or(Protocol::Http, |_| Protocol::Tcp),
        };
        let own = SpiffeId::workload(zone, &service.mesh, &service.namespace, &name.parse().unwrap());
        let claimed = export["claims"].as_str().map(|identity| identity.parse().unwrap());
        ServiceExport {
            ports: export["ports"].as_array().unwrap().iter().map(port).collect(),
            ready: export["ready"].as_u64().unwrap() as u32,
            total: export["total"].as_u64().unwrap() as u32,
            weight: export["ready"].as_u64().unwrap() as u32,
            load: None,
            identities: std::iter::once(own).chain(claimed).collect(),
            service,
        }
    };
    let gateway = |(i, address): (usize, &Value)| GatewayExport {
        name: format!("gw-{i}"),
        address: address.as_str().unwrap().trim_start_matches('!').parse().unwrap(),
        ready: !address.as_str().unwrap().starts_with('!'),
    };
    PeerZone {
        exports: about["exports"].as_array().into_iter().flatten().map(export).collect(),
        gateways: about["gateways"].as_array().into_iter().flatten().enumerate().map(gateway).collect(),
        trust: about["trust"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|t| serde_json::from_value(t.clone()).unwrap())
            .collect(),
        distance: about["rttMs"].as_u64().map(|ms| api::report::distance(ms * 1_000)),
    }
}

impl Case {
    /// The snapshot of these documents, in this order.
    pub(super) fn snapshot<'a>(&self, objects: impl Iterator<Item = &'a Object>) -> (Snapshot, Vec<(Key, String)>) {
        let (mut snapshot, refused) = Snapshot::from_objects(self.zone.clone(), objects);
        for (key, entry) in &mut snapshot.workloads {
            entry.ready = self.ready.iter().any(|name| name == key.name.as_str());
        }
        snapshot.peers = self.peers.clone();
        let domain = |domain: String| json!({"domain": domain, "anchors": ["own"], "sequence": 1});
        snapshot.own_trust =
            [format!("{}.default", self.zone), format!("{}.control", self.zone), "global.control".into()]
                .into_iter()
                .map(|name| serde_json::from_value(domain(name)).unwrap())
                .collect();
        (snapshot, refused)
    }

    fn class(&self, snapshot: &Snapshot, name: &str) -> ClassKey {
        let key = snapshot.workloads.keys().find(|key| key.name.as_str() == name);
        let key = key.unwrap_or_else(|| panic!("{}: no workload {name}", self.file.display()));
        class_of(snapshot, key).unwrap_or_else(|| panic!("{}: {name} has no class", self.file.display()))
    }

    fn answer(&self) -> (Value, Option<Value>) {
        let ask = &self.value["ask"];
        let (snapshot, refused) = self.snapshot(self.objects.iter());
        let shown: Vec<&str> = ask["show"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if let Some(workload) = ask["workload"].as_str() {
            let resolved = resolve(&snapshot, &self.class(&snapshot, workload));
            let mut answer = show(&resolved.items, &shown);
            if !resolved.warnings.is_empty() {
                let warnings = resolved.warnings.iter().map(|(key, what)| format!("{key}: {what}"));
                answer["warnings"] = warnings.collect();
            }
            return (answer, origins(&resolved.origins, &shown));
        }
        let answer = if let Some(mesh) = ask["shared"].as_str() {
            show(&shared(&snapshot, &mesh.parse().unwrap()), &shown)
        } else if !ask["gateway"].is_null() {
            show(&gateway(&snapshot), &shown)
        } else if !ask["exports"].is_null() {
            show(&exports(&snapshot), &shown)
        } else if let Some(key) = ask["reach"].as_str() {
            reach(&snapshot, &key.parse().unwrap()).iter().map(|key| key.name.to_string()).collect()
        } else if let Some(workload) = ask["class"].as_str() {
            json!(self.class(&snapshot, workload))
        } else if let Some(then) = ask["plan"].as_array() {
            let then = then.iter().map(|given| object(given, &self.file));
            let after = replaced(self.objects.iter().cloned().chain(then));
            planned(&snapshot, &self.snapshot(after.iter()).0)
        } else {
            refused.iter().map(|(key, reason)| format!("{key}: {reason}")).collect()
        };
        (answer, None)
    }
}

fn planned(old: &Snapshot, new: &Snapshot) -> Value {
    let plan = plan(old, new);
    let change = |change: &crate::ClassChange| {
        let names: Vec<&str> = change.workloads.iter().map(|key| key.name.as_str()).collect();
        let items: Map<String, Value> = change
            .items
            .iter()
            .map(|item| {
                let fields = item.fields.iter().map(|(field, (was, is))| format!("{field}: {was} -> {is}"));
                (item.item.clone(), json!([json!(item.change), fields.collect::<Vec<_>>()]))
            })
            .collect();
        json!({"workloads": names, "items": items})
    };
    let warnings: Vec<String> = plan.warnings.iter().map(|(key, what)| format!("{key}: {what}")).collect();
    json!({
        "changes": plan.changes.iter().map(change).collect::<Vec<_>>(),
        "unchanged": plan.unchanged,
        "warnings": warnings,
    })
}

/// `ITEM#/pointer` of each, or the names of all items.
fn show(items: &BTreeMap<String, Bytes>, shown: &[&str]) -> Value {
    if shown.is_empty() {
        return json!({"items": items.keys().collect::<Vec<_>>()});
    }
    let part = |show: &&str| {
        let (item, pointer) = show.split_once('#').unwrap_or((show, ""));
        let whole: Value = items.get(item).map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap());
        ((*show).to_owned(), whole.pointer(pointer).cloned().unwrap_or_default())
    };
    Value::Object(shown.iter().map(part).collect())
}

fn origins(origins: &BTreeMap<String, Origin>, shown: &[&str]) -> Option<Value> {
    let items: Vec<String> =
        shown.iter().map(|show| format!("{}#", show.split_once('#').map_or(*show, |(item, _)| item))).collect();
    let about = origins.iter().filter(|(at, _)| items.iter().any(|item| at.starts_with(item.as_str())));
    let written = |origin: &Origin| {
        let covers: Vec<String> = origin.covers.iter().map(Key::to_string).collect();
        if covers.is_empty() {
            origin.policy.to_string()
        } else {
            format!("{} covers {}", origin.policy, covers.join(", "))
        }
    };
    let about: Map<String, Value> = about.map(|(at, origin)| (at.clone(), written(origin).into())).collect();
    (!about.is_empty()).then_some(Value::Object(about))
}

#[test]
fn cases() {
    let cases = all();
    assert!(cases.len() >= 30, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let (answer, origin) = case.answer();
        if answer == case.value["answer"] && origin.clone().unwrap_or_default() == case.value["origin"] {
            continue;
        }
        let mut tail = serde_saphyr::to_string(&json!({"answer": answer})).unwrap();
        if let Some(origin) = origin {
            tail += &serde_saphyr::to_string(&json!({"origin": origin})).unwrap();
        }
        if std::env::var_os("UPDATE").is_some() {
            let head = case.text.split("\nanswer:").next().unwrap();
            std::fs::write(&case.file, format!("{}\n{tail}", head.trim_end())).unwrap();
        } else {
            wrong.push(format!("{}: {}\nnow:\n{tail}", case.file.display(), case.value["why"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
