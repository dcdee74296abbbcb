//! Bundles come and go; what is held is never less than what was meant.

use super::*;
use crate::fixture::{at, authority, domain, trust_in};

const NOW: u64 = 1_800_000_000;

#[test]
fn a_bundle_that_cannot_be_used_changes_nothing() {
    let west = authority("west.default", at(NOW));
    let trust = trust_in(&[&west]);
    let before = trust.bundles();
    let later = |anchors: Vec<String>| Trust { domain: domain("west.default"), anchors, sequence: u64::MAX };
    let refused = |anchors: Vec<String>| trust.set(&later(anchors)).unwrap_err().to_string();
    let anchor = before[0].anchors[0].clone();
    assert_eq!(refused(vec![]), "trust bundle of west.default is empty; the anchors held before stay in use");
    assert_eq!(
        refused(vec![anchor.clone(); 9]),
        "trust bundle of west.default holds 9 anchors, at most 8 are taken; are old ones retired?"
    );
    assert!(refused(vec![anchor, "x".into()]).starts_with("anchor 2 of west.default cannot be read: "));
    assert_eq!(trust.bundles(), before);
}

#[test]
fn anchors_that_came_with_a_certificate_give_way_to_any_published_bundle() {
    let west = authority("west.control", at(NOW));
    let trust = TrustStore::from_anchors(domain("west.control"), west.anchors()).unwrap();
    assert_eq!(trust.get(&domain("west.control")).unwrap().sequence(), 0);
    assert!(trust.set(&west.trust()).unwrap());
    assert!(!trust.set(&west.trust()).unwrap(), "the same bundle again is no news");
}

#[test]
fn only_a_lost_anchor_is_a_withdrawal() {
    let (west, east) = (authority("west.default", at(NOW)), authority("east.default", at(NOW)));
    let trust = trust_in(&[&west, &east]);
    let update = || trust.set(&west.trust()).unwrap();
    for (withdrawals, step) in [(0, "prepared"), (0, "switched"), (1, "retired")] {
        west.rotate(at(NOW)).unwrap();
        assert!(update());
        assert_eq!(trust.withdrawals(), withdrawals, "{step}");
    }
    assert!(trust.remove(&domain("east.default")));
    assert!(!trust.remove(&domain("east.default")));
    assert_eq!(trust.withdrawals(), 2);
}

#[test]
fn a_store_comes_back_from_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trust.json");
    assert!(TrustStore::load(&path).unwrap().domains().is_empty(), "first start");
    let trust = trust_in(&[&authority("west.default", at(NOW)), &authority("east.default", at(NOW))]);
    trust.save(&path).unwrap();
    let read = TrustStore::load(&path).unwrap();
    assert_eq!(read.bundles(), trust.bundles());
    assert_eq!(format!("{read:?}"), r#"{"east.default", "west.default"}"#);
}

#[test]
fn a_pin_is_read_as_it_is_written() {
    let pin = Pin::of(&CertificateDer::from(b"root".as_slice()));
    assert_eq!(pin.to_string().parse::<Pin>().unwrap(), pin);
    for bad in ["", "zz", &"g".repeat(64), &"é".repeat(32), &"a".repeat(63)] {
        assert_eq!(bad.parse::<Pin>(), Err(PinError), "{bad}");
    }
}
