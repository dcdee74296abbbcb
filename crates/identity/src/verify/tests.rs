//! A table of certificates and what the verifier says of each, word by word.

use super::*;
use crate::fixture::{at, authority, dns, domain, forged, id, self_signed, trust_in, uri};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3_600;
const CART: &str = "spiffe://west.default/ns/shop/sa/cart";

fn named(sans: Vec<SanType>) -> impl FnOnce(&mut CertificateParams) {
    |params| params.subject_alt_names = sans
}

fn cart(extra: impl FnOnce(&mut CertificateParams)) -> impl FnOnce(&mut CertificateParams) {
    |params| {
        params.subject_alt_names = vec![uri(CART)];
        extra(params);
    }
}

/// The verdict in the words an operator reads: the identity, or the error.
fn verdict(chain: &[CertificateDer<'_>], trust: &TrustStore, expect: &Expect, now: u64) -> String {
    match verify(chain, trust, expect, at(now)) {
        Ok(peer) => peer.id.to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn each_bad_certificate_is_refused_with_a_reason_that_names_it() {
    let west = authority("west.default", at(NOW));
    let east = authority("east.default", at(NOW));
    let payments = authority("west.payments", at(NOW));
    let stranger = authority("mars.default", at(NOW));
    let trust = trust_in(&[&west, &east, &payments]);
    let ours = Expect::Domain(domain("west.default"));
    let check = |chain: &[CertificateDer<'_>], expect: &Expect, said: &str| {
        assert_eq!(verdict(chain, &trust, expect, NOW), said);
    };

    check(&forged(&west, at(NOW), cart(|_| ())), &ours, CART);
    check(
        &forged(&west, at(NOW - 4 * HOUR), cart(|_| ())),
        &ours,
        "certificate of spiffe://west.default/ns/shop/sa/cart expired 3 h ago; is this host's clock right?",
    );
    check(
        &forged(&west, at(NOW + 2 * HOUR + 300), cart(|_| ())),
        &ours,
        "certificate of spiffe://west.default/ns/shop/sa/cart is valid only in 2 h; is this host's clock right?",
    );
    check(
        &forged(&east, at(NOW), named(vec![uri("spiffe://east.default/ns/shop/sa/cart")])),
        &ours,
        "certificate of spiffe://east.default/ns/shop/sa/cart is sound, but somebody of west.default was expected here",
    );
    check(
        &forged(&payments, at(NOW), named(vec![uri("spiffe://west.payments/ns/shop/sa/cart")])),
        &Expect::Mesh("default".parse().unwrap()),
        "certificate of spiffe://west.payments/ns/shop/sa/cart is sound, but a workload of mesh default was expected here",
    );
    check(
        &forged(&west, at(NOW), named(vec![uri(CART), uri("spiffe://west.default/ns/shop/sa/admin")])),
        &ours,
        "certificate carries 2 URI names (spiffe://west.default/ns/shop/sa/cart, \
         spiffe://west.default/ns/shop/sa/admin) where an identity is exactly one",
    );
    check(
        &forged(&west, at(NOW), named(vec![])),
        &ours,
        "certificate carries no identity: it has no URI name, nor any other name",
    );
    check(
        &forged(&west, at(NOW), named(vec![dns("cart.shop")])),
        &ours,
        "certificate carries no identity: it has no URI name, only DNS cart.shop",
    );
    check(
        &forged(&west, at(NOW), named(vec![uri("https://cart.shop/")])),
        &ours,
        "certificate carries no identity: `https://cart.shop/` is not a workload identity: expected \
         spiffe://ZONE.MESH/ns/NAMESPACE/sa/ACCOUNT",
    );
    check(
        &forged(&west, at(NOW), cart(|_| ())),
        &Expect::id(id("spiffe://west.default/ns/shop/sa/web")),
        "certificate of spiffe://west.default/ns/shop/sa/cart is sound, but spiffe://west.default/ns/shop/sa/web was \
         expected here",
    );
    check(
        &forged(&stranger, at(NOW), named(vec![uri("spiffe://mars.default/ns/shop/sa/cart")])),
        &Expect::Any,
        "certificate of spiffe://mars.default/ns/shop/sa/cart: no anchors of trust domain mars.default are known here; \
         has that zone joined, and is it exported to us?",
    );
    let usurped = "certificate of spiffe://west.default/ns/shop/sa/cart is not signed by an authority of west.default; \
                   either somebody else claims this identity, or its trust bundle is outdated here";
    check(&forged(&east, at(NOW), cart(|_| ())), &ours, usurped);
    check(&self_signed(at(NOW), cart(|_| ())), &ours, usurped);
    let authoritative = "certificate of spiffe://west.default/ns/shop/sa/cart belongs to an authority; an authority \
                         never stands for a workload";
    check(
        &forged(&west, at(NOW), cart(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained))),
        &ours,
        authoritative,
    );
    check(
        &forged(&west, at(NOW), cart(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign])),
        &ours,
        authoritative,
    );
    check(
        &forged(&west, at(NOW), cart(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
        &ours,
        "certificate of spiffe://west.default/ns/shop/sa/cart cannot be used: it may not be used at both ends of a \
         connection",
    );
    check(&[], &ours, "the peer sent no certificate; is it a member of the mesh, and has it joined?");
    let leaf = forged(&west, at(NOW), cart(|_| ())).remove(0);
    let bytes = leaf.len() * 5;
    check(
        &vec![leaf.clone(); 5],
        &ours,
        &format!("certificate chain of 5 certificates and {bytes} bytes is longer than 4 and 16384"),
    );
    let mut trailing = leaf.to_vec();
    trailing.push(0);
    check(&[trailing.into()], &ours, "certificate cannot be read: 1 bytes follow it");
}

#[test]
fn an_authority_cannot_make_further_authorities() {
    let west = authority("west.default", at(NOW));
    let below = crate::authority::Authority::create(domain("west.default"), at(NOW)).unwrap();
    let below_key = below.present().key.clone();
    let generation = west.present();
    let issuer = rcgen::Issuer::from_ca_cert_der(&generation.certificate, &generation.key).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "below");
    let intermediate = params.signed_by(&below_key, &issuer).unwrap().der().clone();
    let issuer = rcgen::Issuer::from_ca_cert_der(&intermediate, &below_key).unwrap();
    let mut params = CertificateParams::default();
    cart(|_| ())(&mut params);
    crate::issue::set_validity(&mut params, at(NOW), at(NOW + HOUR));
    let leaf = params.signed_by(&crate::key::KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
    let error = verify(&[leaf, intermediate], &trust_in(&[&west]), &Expect::Any, at(NOW)).unwrap_err();
    assert_eq!(error.to_string(), format!("certificate of {CART} cannot be used: PathLenConstraintViolated"));
}

#[test]
fn an_anchor_past_its_end_verifies_nobody() {
    let west = authority("west.default", at(NOW));
    let later = NOW + 91 * 86_400;
    let chain = forged(&west, at(later), cart(|_| ()));
    assert_eq!(
        verdict(&chain, &trust_in(&[&west]), &Expect::Any, later),
        "certificate of spiffe://west.default/ns/shop/sa/cart: the anchors of west.default expired 24 h ago; does trust \
         still arrive here, and is this host's clock right?"
    );
}

#[test]
fn expectations_are_exact() {
    let west = authority("west.default", at(NOW));
    let trust = trust_in(&[&west]);
    let chain = forged(&west, at(NOW), cart(|_| ()));
    let takes = |expect: Expect| verify(&chain, &trust, &expect, at(NOW)).is_ok();
    assert!(takes(Expect::Any));
    assert!(takes(Expect::Mesh("default".parse().unwrap())));
    assert!(takes(Expect::Domains(vec![domain("east.default"), domain("west.default")])));
    assert!(takes(Expect::Ids(vec![id("spiffe://west.default/ns/shop/sa/web"), id(CART)])));
    assert!(takes(Expect::fits("the shop", |id| id.path().starts_with("/ns/shop/"))));
    assert!(!takes(Expect::fits("the bank", |id| id.path().starts_with("/ns/bank/"))));
    assert!(!takes(Expect::Ids(vec![])));
    assert!(!takes(Expect::Domains(vec![])));
}

#[test]
fn a_pinned_server_shows_the_root_and_is_the_one_named() {
    let global = authority("global.control", at(NOW));
    let other = authority("global.control", at(NOW));
    let server = SpiffeId::global_cp();
    let chain = global.certify(server.clone(), None, &[], at(NOW)).unwrap().chain().to_vec();
    let pin = Pin::of(&global.anchors()[0]);
    assert_eq!(verify_pinned(&chain, &pin, &server, at(NOW)).unwrap().id, server);
    assert_eq!(verify_pinned(&chain[..1], &pin, &server, at(NOW)), Err(VerifyError::Pin { pin }));
    let wrong = Pin::of(&other.anchors()[0]);
    assert_eq!(
        verify_pinned(&chain, &wrong, &server, at(NOW)).unwrap_err().to_string(),
        format!(
            "the server's certificates do not include the root {wrong} named in the token; is this the right address, \
             and the newest token?"
        )
    );
    // Showing somebody's public root proves nothing: the leaf must be signed by it.
    let borrowed = [chain[0].clone(), other.anchors()[0].clone()];
    assert!(matches!(verify_pinned(&borrowed, &wrong, &server, at(NOW)), Err(VerifyError::Signature { .. })));
    // A zone's certificate is under the same root, and yet is not global.
    let zone = SpiffeId::zone(&"west".parse().unwrap());
    let chain = global.certify(zone, None, &[], at(NOW)).unwrap().chain().to_vec();
    assert!(matches!(verify_pinned(&chain, &pin, &server, at(NOW)), Err(VerifyError::Unexpected { .. })));
}

#[test]
fn after_the_handshake_the_peer_is_read_from_its_leaf() {
    let west = authority("west.default", at(NOW));
    let held = crate::fixture::credentials(&west, CART, at(NOW));
    let peer = peer_identity(Some(held.chain())).unwrap();
    assert_eq!(peer, PeerIdentity { id: id(CART), common_name: Some("default/shop/cart-1".into()) });
    assert_eq!(peer_identity(None), None);
    assert_eq!(peer_identity(Some(&[])), None);
}
