//! Credentials on disk.

use super::*;
use crate::fixture::{at, authority, credentials};
use std::os::unix::fs::PermissionsExt;

const NOW: u64 = 1_800_000_000;
const CART: &str = "spiffe://west.default/ns/shop/sa/cart";

#[test]
fn credentials_come_back_from_disk_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Credentials::load(directory.path()).unwrap().is_none(), "first start");
    let held = credentials(&authority("west.default", at(NOW)), CART, at(NOW));
    held.save(directory.path()).unwrap();
    let read = Credentials::load(directory.path()).unwrap().unwrap();
    assert_eq!(read.chain(), held.chain());
    assert_eq!(read.key().to_pkcs8(), held.key().to_pkcs8());
    assert_eq!((read.id(), read.common_name()), (held.id(), Some("default/shop/cart-1")));
    assert_eq!((read.not_before(), read.not_after()), (at(NOW - 300), at(NOW + 86_400)));
}

#[test]
fn the_file_is_its_owners_only_even_over_a_careless_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    std::fs::write(&path, "old").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    credentials(&authority("west.default", at(NOW)), CART, at(NOW)).save(directory.path()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_damaged_file_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE), "-----BEGIN PRIVATE").unwrap();
    let said = Credentials::load(directory.path()).unwrap_err().to_string();
    assert!(said.ends_with("identity.pem holds no readable certificate and key; remove it and join again"), "{said}");
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let west = authority("west.default", at(NOW));
    let chain = credentials(&west, CART, at(NOW)).chain().to_vec();
    let error = Credentials::new(chain, KeyPair::generate().unwrap()).unwrap_err();
    assert_eq!(error.to_string(), format!("certificate of {CART} is for another key than ours"));
    assert!(matches!(Credentials::new(vec![], KeyPair::generate().unwrap()), Err(CredentialsError::Empty)));
}

#[test]
fn members_are_shown_the_leaf_alone_and_newcomers_the_root_too() {
    let held = credentials(&authority("west.default", at(NOW)), CART, at(NOW));
    assert_eq!(held.with_root.cert.len(), 2);
    assert_eq!(held.without_root.cert, held.chain()[..1]);
}

#[test]
fn debug_tells_the_identity_and_no_key() {
    let held = credentials(&authority("west.default", at(NOW)), CART, at(NOW));
    assert_eq!(
        format!("{held:?}"),
        format!(
            r#"Credentials {{ id: "{CART}", common_name: Some("default/shop/cart-1"), not_after: 1800086400, .. }}"#
        )
    );
    let live = format!("{:?}", crate::live::LiveCredentials::new(held.clone()));
    let key = crate::pem::encode("X", held.key().to_pkcs8());
    assert!(!live.contains(&key.lines().nth(1).unwrap()[..32]) && live.contains(CART), "{live}");
}
