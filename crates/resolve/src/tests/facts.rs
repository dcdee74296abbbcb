//! What holds for every case, and for whole snapshots.

use super::case;
use crate::{Snapshot, classes, exports, gateway, plan, resolve, shared};
use api::Object;
use api::config::{ServiceRef, item};
use api::object::Key;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

type Items = BTreeMap<String, Bytes>;

/// Everything that can be asked of a snapshot, by class.
fn everything(snapshot: &Snapshot) -> (Vec<crate::Resolved>, Vec<Items>) {
    let resolved = classes(snapshot).keys().map(|class| resolve(snapshot, class)).collect();
    let meshes: BTreeSet<_> = snapshot.workloads.keys().filter_map(|key| key.mesh.clone()).collect();
    let mut items: Vec<Items> = meshes.iter().map(|mesh| shared(snapshot, mesh)).collect();
    items.push(gateway(snapshot));
    items.push(exports(snapshot));
    (resolved, items)
}

#[test]
fn the_order_of_documents_does_not_matter() {
    for case in case::all() {
        let expected = everything(&case.snapshot(case.objects.iter()).0);
        let mut objects: Vec<&Object> = case.objects.iter().collect();
        // A few shuffles by a small linear congruential generator (Knuth's MMIX constants), so that runs repeat.
        let mut seed: u64 = 42;
        for _ in 0..6 {
            for i in (1..objects.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                objects.swap(i, (seed >> 33) as usize % (i + 1));
            }
            let (snapshot, _) = case.snapshot(objects.iter().copied());
            assert!(everything(&snapshot) == expected, "{} depends on order", case.file.display());
        }
    }
}

#[test]
fn every_origin_names_a_document_that_exists_and_took_part() {
    for case in case::all() {
        let (snapshot, _) = case.snapshot(case.objects.iter());
        let keys: BTreeSet<Key> =
            case.objects.iter().map(|object| object.key(policy::kind(&object.kind).unwrap().scope).unwrap()).collect();
        for class in classes(&snapshot).keys() {
            let resolved = resolve(&snapshot, class);
            for (at, origin) in &resolved.origins {
                let (item, _) = at.split_once('#').unwrap();
                assert!(resolved.items.contains_key(item), "{}: {at} is of no item", case.file.display());
                for key in std::iter::once(&origin.policy).chain(&origin.covers) {
                    assert!(keys.contains(key), "{}: {at} names {key}", case.file.display());
                    assert!(resolved.policies.contains(key), "{}: {key} took no part", case.file.display());
                }
            }
        }
    }
}

#[test]
fn reach_agrees_with_what_took_part() {
    for case in case::all() {
        let (snapshot, _) = case.snapshot(case.objects.iter());
        let policies: Vec<Key> = case
            .objects
            .iter()
            .map(|object| (policy::kind(&object.kind).unwrap(), object))
            .filter(|(kind, _)| kind.is_policy)
            .map(|(kind, object)| object.key(kind.scope).unwrap())
            .collect();
        for (class, workloads) in classes(&snapshot) {
            let took_part = resolve(&snapshot, &class).policies;
            for key in policies.iter().filter(|key| took_part.contains(key)) {
                let reached = crate::reach(&snapshot, key);
                assert!(workloads.iter().all(|workload| reached.contains(workload)), "{}: {key}", case.file.display());
            }
        }
    }
}

#[test]
fn readiness_and_load_change_only_endpoints_and_exports() {
    for case in case::all() {
        let (snapshot, _) = case.snapshot(case.objects.iter());
        let mut flipped = snapshot.clone();
        for entry in flipped.workloads.values_mut() {
            entry.ready = !entry.ready;
            entry.load = Some(0.5);
        }
        for (class, _) in classes(&snapshot) {
            assert!(resolve(&snapshot, &class) == resolve(&flipped, &class), "{}", case.file.display());
        }
        for mesh in snapshot.meshes.keys() {
            for (key, before) in shared(&snapshot, mesh) {
                let same = shared(&flipped, mesh).get(&key) == Some(&before);
                assert!(same || key.starts_with(item::ENDPOINTS), "{}: {key}", case.file.display());
            }
        }
    }
}

fn shop() -> case::Case {
    case::all().into_iter().find(|case| case.file.ends_with("defaults.yaml")).unwrap()
}

fn object(value: Value) -> Object {
    serde_json::from_value(value).unwrap()
}

fn timeout(name: &str, namespace: &str, to: Value) -> Object {
    object(json!({
        "apiVersion": "weft.dev/v1", "kind": "Timeout", "metadata": {"name": name, "namespace": namespace},
        "spec": {"to": [{"targetRef": to, "default": {"request": "3s"}}]},
    }))
}

#[test]
fn a_change_about_one_service_leaves_all_other_items_byte_equal() {
    let case = shop();
    let before = case.snapshot(case.objects.iter()).0;
    let change = timeout("slow", "shop", json!({"kind": "Service", "name": "cart"}));
    let after = case.snapshot(case.objects.iter().chain([&change])).0;
    for class in classes(&before).keys() {
        let (was, is) = (resolve(&before, class).items, resolve(&after, class).items);
        let changed: Vec<&String> =
            is.iter().filter(|(key, bytes)| was.get(*key) != Some(bytes)).map(|(key, _)| key).collect();
        assert_eq!(changed, ["outbound/default/shop/cart"]);
    }
}

#[test]
fn a_label_that_no_policy_selects_on_splits_no_class() {
    let case = shop();
    let (snapshot, _) = case.snapshot(case.objects.iter());
    let cart = |snapshot: &Snapshot| {
        classes(snapshot)
            .into_iter()
            .filter(|(class, _)| class.account.as_str() == "cart")
            .map(|(_, w)| w.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(cart(&snapshot), [2]);
    let mut select = timeout("v2", "shop", json!({"kind": "Mesh"}));
    select.spec["targetRef"] = json!({"kind": "Workload", "labels": {"version": "v2"}});
    let (split, _) = case.snapshot(case.objects.iter().chain([&select]));
    assert_eq!(cart(&split), [1, 1]);
}

#[test]
fn a_missing_mesh_weakens_nothing() {
    let mut case = shop();
    case.objects.retain(|object| object.kind != "Mesh");
    let (snapshot, _) = case.snapshot(case.objects.iter());
    for class in classes(&snapshot).keys() {
        let inbound: Value = serde_json::from_slice(&resolve(&snapshot, class).items["inbound"]).unwrap();
        assert_eq!((&inbound["mutual_tls"], &inbound["authorization"]["default"]), (&json!("Strict"), &json!("Deny")));
    }
}

#[test]
fn an_empty_change_is_an_empty_plan() {
    for case in case::all() {
        let (snapshot, _) = case.snapshot(case.objects.iter());
        let plan = plan(&snapshot, &snapshot.clone());
        assert!(plan.changes.is_empty() && plan.warnings.is_empty(), "{}", case.file.display());
    }
}

#[test]
fn a_peer_cannot_speak_for_the_trust_of_others() {
    let case = shop();
    let (mut snapshot, _) = case.snapshot(case.objects.iter());
    let forged = |domain: &str| {
        serde_json::from_value(json!({"domain": domain, "anchors": ["forged"], "sequence": 99})).unwrap()
    };
    let east = snapshot.peers.get_mut("east").unwrap();
    east.trust =
        ["west.default", "west.control", "global.control", "north.default", "east.default"].map(forged).to_vec();
    let mesh = "default".parse().unwrap();
    for items in [shared(&snapshot, &mesh), gateway(&snapshot)] {
        let forged: Vec<&String> = items
            .iter()
            .filter(|(_, bytes)| String::from_utf8_lossy(bytes).contains("forged"))
            .map(|(key, _)| key)
            .collect();
        assert_eq!(forged, ["trust/east.default"]);
    }
}

#[test]
fn a_resolution_looks_only_at_policies_that_can_match() {
    let case = shop();
    let namespace = |i: usize| format!("team-{i}");
    let elsewhere: Vec<Object> = (0..500)
        .map(|i| {
            timeout(&format!("own-{i}"), &namespace(i), json!({"kind": "Service", "name": "cart", "namespace": "shop"}))
        })
        .collect();
    let (snapshot, _) = case.snapshot(case.objects.iter().chain(&elsewhere));
    let cart = ServiceRef {
        mesh: "default".parse().unwrap(),
        namespace: "shop".parse().unwrap(),
        name: "cart".parse().unwrap(),
    };
    let about = || [crate::index::What::Mesh, crate::index::What::Service(cart.namespace.clone(), cart.name.clone())];
    assert_eq!(snapshot.policies.len(), 500);
    assert_eq!(snapshot.policies.layers(&cart.mesh, &"web".parse().unwrap(), about()).len(), 0);
    assert_eq!(snapshot.policies.layers(&cart.mesh, &"team-7".parse().unwrap(), about()).len(), 1);
}
