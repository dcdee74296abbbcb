//! A rotation, step by step, and what survives a restart.

use super::*;
use crate::expect::Expect;
use crate::fixture::{at, authority, credentials, domain, trust_in};
use crate::trust::TrustStore;
use crate::verify::verify;
use std::os::unix::fs::PermissionsExt;

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;
const DAY: u64 = 86_400;
const CART: &str = "spiffe://west.default/ns/shop/sa/cart";

#[test]
fn a_rotation_leaves_no_valid_leaf_without_an_anchor() {
    let west = authority("west.default", at(NOW));
    // A follower that hears of every bundle one step late.
    let behind = trust_in(&[&west]);
    let mut steps = Vec::new();
    let mut leaves = Vec::new();
    let mut bundle = west.trust();
    for hour in (0..24 * 100).step_by(3) {
        let now = at(NOW + hour * HOUR);
        behind.set(&bundle).unwrap();
        if let Some(step) = west.advance(now).unwrap() {
            steps.push((hour / 24, step));
        }
        bundle = west.trust();
        let present = TrustStore::new();
        present.set(&bundle).unwrap();
        leaves.push(credentials(&west, CART, now));
        leaves.retain(|leaf| now <= leaf.not_after());
        for leaf in &leaves {
            for trust in [&present, &behind] {
                verify(leaf.chain(), trust, &Expect::Any, now).unwrap();
            }
        }
    }
    assert_eq!(steps, [(54, Step::Prepared), (55, Step::Switched), (56, Step::Retired)]);
    assert_eq!(west.generation(), 2);
}

#[test]
fn each_step_publishes_a_newer_bundle() {
    let west = authority("west.default", at(NOW));
    let mut seen = vec![west.trust()];
    for (step, anchors) in [(Step::Prepared, 2), (Step::Switched, 2), (Step::Retired, 1)] {
        // All within one second: the sequence grows all the same.
        assert_eq!(west.rotate(at(NOW)).unwrap(), step);
        assert_eq!(west.trust().anchors.len(), anchors);
        assert!(west.trust().sequence > seen.last().unwrap().sequence);
        seen.push(west.trust());
    }
    assert!(!west.retire(at(NOW)).unwrap(), "nothing is left to retire");
    let trust = TrustStore::new();
    assert!(trust.set(&seen[3]).unwrap());
    for older in &seen[..3] {
        assert!(!trust.set(older).unwrap(), "an older bundle replaced a newer one");
    }
    assert_eq!(trust.bundles(), vec![seen[3].clone()]);
}

#[test]
fn every_generation_has_a_subject_of_its_own() {
    let west = authority("west.default", at(NOW));
    west.rotate(at(NOW)).unwrap();
    let mut anchors = west.anchors();
    anchors.extend(authority("west.default", at(NOW)).anchors());
    let subjects: std::collections::BTreeSet<Vec<u8>> =
        anchors.iter().map(|der| webpki::anchor_from_trusted_cert(der).unwrap().subject.to_vec()).collect();
    assert_eq!(subjects.len(), 3);
}

#[test]
fn an_authority_is_the_same_after_a_restart_in_the_middle_of_a_rotation() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Authority::load_or_create(directory.path(), domain("west.default"), at(NOW)).unwrap();
    let mut before = open().trust();
    let leaf = credentials(&open(), CART, at(NOW));
    for _ in 0..3 {
        assert_eq!(open().trust(), before);
        open().rotate(at(NOW)).unwrap();
        assert_ne!(open().trust(), before);
        before = open().trust();
    }
    let trust = trust_in(&[&open()]);
    verify(leaf.chain(), &trust, &Expect::Any, at(NOW)).expect_err("its authority was retired");
    let fresh = credentials(&open(), CART, at(NOW));
    verify(fresh.chain(), &trust, &Expect::Any, at(NOW)).unwrap();
}

#[test]
fn the_file_of_an_authority_is_its_owners_only() {
    let directory = tempfile::tempdir().unwrap();
    Authority::load_or_create(directory.path(), domain("west.default"), at(NOW)).unwrap();
    let entries: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap()).collect();
    assert_eq!(entries.len(), 1, "no temporary file is left");
    assert_eq!(entries[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_damaged_authority_is_never_replaced_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let open = |of: &str| Authority::load_or_create(directory.path(), domain(of), at(NOW)).map(|found| found.trust());
    let first = open("west.default").unwrap();
    let path = directory.path().join("authority-west.default.json");
    let good = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, &good[..good.len() / 2]).unwrap();
    let said = open("west.default").unwrap_err().to_string();
    assert!(said.contains("is damaged") && said.contains("restore it from a backup"), "{said}");
    std::fs::write(&path, good.replace("west.default\"", "east.default\"")).unwrap();
    assert!(open("west.default").unwrap_err().to_string().contains("it is of east.default"));
    std::fs::write(&path, good).unwrap();
    assert_eq!(open("west.default").unwrap(), first);
}

#[test]
fn an_authority_that_slept_past_its_end_begins_a_new_generation() {
    let directory = tempfile::tempdir().unwrap();
    let open = |now| Authority::load_or_create(directory.path(), domain("west.default"), at(now)).unwrap();
    let old = open(NOW).trust();
    let fresh = open(NOW + 200 * DAY);
    assert_eq!(fresh.generation(), 2);
    assert!(fresh.trust().sequence > old.sequence);
    assert_eq!(open(NOW + 201 * DAY).trust(), fresh.trust());
}

#[test]
fn debug_tells_no_key() {
    let west = authority("west.default", at(NOW));
    assert_eq!(format!("{west:?}"), r#"Authority { domain: "west.default", generation: 1, sequence: 1800000000, .. }"#);
    assert_eq!(format!("{:?}", west.present().key), "KeyPair(P-256, redacted)");
}
