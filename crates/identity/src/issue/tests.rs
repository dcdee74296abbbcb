//! What may and may not be had from an issuer.

use super::*;
use crate::authority::Authority;
use crate::fixture::{at, authority, dns, id, uri};
use crate::key::KeyPair;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::X509Certificate;

const NOW: u64 = 1_800_000_000;
const CART: &str = "spiffe://west.default/ns/shop/sa/cart";

fn ask<'a>(csr_der: &'a [u8]) -> Issue<'a> {
    Issue { csr_der, id: id(CART), common_name: None, dns_names: &[], lifetime: LEAF_LIFETIME, now: at(NOW) }
}

fn refusal(authority: &Authority, issue: Issue<'_>) -> String {
    authority.issue(issue).unwrap_err().to_string()
}

#[test]
fn names_in_a_request_are_ignored() {
    let west = authority("west.default", at(NOW));
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri("spiffe://west.default/ns/shop/sa/admin"), dns("bank.example")];
    params.distinguished_name.push(DnType::CommonName, "default/shop/admin");
    params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = params.serialize_request(&key).unwrap();
    let chain = west.issue(ask(csr.der())).unwrap();
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = &leaf.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &[GeneralName::URI(CART)]);
    assert!(!leaf.is_ca());
    assert_eq!(leaf.subject().iter_common_name().count(), 0);
}

#[test]
fn a_leaf_is_for_a_day_and_both_ends_and_shown_with_its_authority() {
    let west = authority("west.default", at(NOW));
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let chain = west
        .issue(Issue { common_name: Some("default/shop/cart-1"), dns_names: &["cart.example"], ..ask(&csr) })
        .unwrap();
    assert_eq!(chain[1], west.anchors()[0]);
    let leaf = crate::certificate::leaf(&chain[0]).unwrap();
    assert_eq!(leaf.id, id(CART));
    assert_eq!(leaf.common_name.as_deref(), Some("default/shop/cart-1"));
    assert_eq!((leaf.not_before, leaf.not_after), (at(NOW - 300), at(NOW + 86_400)));
    assert!(leaf.both_ends && !leaf.signs);
    let (_, parsed) = X509Certificate::from_der(&chain[0]).unwrap();
    let names = &parsed.subject_alternative_name().unwrap().unwrap().value.general_names;
    assert_eq!(names, &[GeneralName::URI(CART), GeneralName::DNSName("cart.example")]);
    assert_ne!(chain[0], west.issue(ask(&csr)).unwrap()[0], "serial numbers are random, also for a renewed key");
}

#[test]
fn a_request_must_prove_its_key() {
    let west = authority("west.default", at(NOW));
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let unproven =
        format!("the certificate request for {CART} is not signed by the key in it; was it damaged on the way?");
    // The signature of another request, over another key.
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let thief = ThiefKey { shown: KeyPair::generate().unwrap(), held: KeyPair::generate().unwrap() };
    let stolen = params.serialize_request(&thief).unwrap();
    assert_eq!(refusal(&west, ask(stolen.der())), unproven);
    let mut broken = csr.clone();
    *broken.last_mut().unwrap() ^= 1;
    let said = refusal(&west, ask(&broken));
    assert!(said == unproven || said.contains("cannot be read"), "{said}");
    let mut longer = csr.clone();
    longer.push(0);
    assert_eq!(
        refusal(&west, ask(&longer)),
        format!("the certificate request for {CART} cannot be read: 1 bytes follow it")
    );
    assert!(refusal(&west, ask(&[])).contains("cannot be read"));
    assert!(refusal(&west, ask(&vec![0x30; REQUEST_BYTES_MAX + 1])).contains("at most 8192"));
}

/// Shows a public key it does not hold.
struct ThiefKey {
    shown: KeyPair,
    held: KeyPair,
}

impl PublicKeyData for ThiefKey {
    fn der_bytes(&self) -> &[u8] {
        self.shown.der_bytes()
    }
    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.shown.algorithm()
    }
}

impl rcgen::SigningKey for ThiefKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.held.sign(message)
    }
}

#[test]
fn only_p256_keys_are_issued_for() {
    let west = authority("west.default", at(NOW));
    for algorithm in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let csr = CertificateParams::default().serialize_request(&key).unwrap();
        assert_eq!(
            refusal(&west, ask(csr.der())),
            format!("the certificate request for {CART} holds no P-256 key; other keys are not issued for")
        );
    }
}

#[test]
fn an_authority_names_its_own_domain_only_and_for_a_day_at_most() {
    let west = authority("west.default", at(NOW));
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let refused = |change: fn(&mut Issue<'_>)| {
        let mut issue = ask(&csr);
        change(&mut issue);
        refusal(&west, issue)
    };
    assert_eq!(
        refused(|issue| issue.id = id("spiffe://east.default/ns/shop/sa/cart")),
        "spiffe://east.default/ns/shop/sa/cart is not of trust domain west.default, and no other is issued here"
    );
    assert_eq!(
        refused(|issue| issue.lifetime = LEAF_LIFETIME * 2),
        format!("certificate for {CART}: 172800 s were asked, at most 86400 s are given")
    );
    assert_eq!(refused(|issue| issue.dns_names = &["a b"]), format!("certificate for {CART}: `a b` is not a DNS name"));
    assert_eq!(
        refused(|issue| issue.common_name = Some("a\nb")),
        format!("certificate for {CART}: `a\\nb` cannot be a common name")
    );
    assert_eq!(
        refused(|issue| issue.now = at(NOW + 91 * 86_400)),
        "the authority of west.default ended 86400 s ago and cannot issue; is this host's clock right?"
    );
}

#[test]
fn no_leaf_outlives_its_authority() {
    let west = authority("west.default", at(NOW));
    let csr = KeyPair::generate().unwrap().csr().unwrap();
    let chain = west.issue(Issue { now: at(NOW + 90 * 86_400 - 60), ..ask(&csr) }).unwrap();
    assert_eq!(crate::certificate::leaf(&chain[0]).unwrap().not_after, at(NOW + 90 * 86_400));
}
