//! Handshakes over memory: who gets in, what rotation does to them, and what may be resumed.

use super::*;
use crate::authority::{Authority, Step};
use crate::fixture::{Ends, authority, credentials, domain, handshake, id, live, trust_in};
use crate::verify::VerifyError;
use rustls::{HandshakeKind, NamedGroup};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const CART: &str = "spiffe://west.default/ns/shop/sa/cart";
const WEB: &str = "spiffe://west.default/ns/shop/sa/web";
const ALPN: &[&[u8]] = &[b"h2"];

fn now() -> UnixTime {
    UnixTime::now()
}

fn ago(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(now().as_secs() - seconds))
}

/// A client `web` and a server `cart` of one authority.
struct Pair {
    west: Authority,
    trust: TrustStore,
    web: LiveCredentials,
    cart: LiveCredentials,
}

impl Pair {
    fn new() -> Self {
        let west = authority("west.default", now());
        let trust = trust_in(&[&west]);
        Self { web: live(&west, WEB, now()), cart: live(&west, CART, now()), west, trust }
    }

    fn client(&self) -> Arc<ClientConfig> {
        client_config(&self.web, &self.trust, Expect::id(id(CART)), ALPN)
    }

    /// Tickets flow again at once after a change, unless a test wants otherwise.
    fn server(&self) -> Arc<ServerConfig> {
        let tickets = Tickets::with_quiet(self.cart.clone(), self.trust.clone(), Duration::ZERO);
        let expect = Expect::Domain(domain("west.default"));
        server_config_with(tickets, &self.cart, &self.trust, expect, ClientAuth::Required, ALPN)
    }
}

/// What the server said of a client, or the client of the server.
fn refused(side: std::io::Result<crate::fixture::End>) -> VerifyError {
    VerifyError::of_io(&side.unwrap_err()).expect("the verifier ended the handshake")
}

#[tokio::test]
async fn members_meet_and_know_each_other() {
    let pair = Pair::new();
    let (client, server) = handshake(&pair.client(), &pair.server()).await.sound();
    assert_eq!(client.peer.unwrap().id, id(CART));
    let peer = server.peer.unwrap();
    assert_eq!((peer.id, peer.common_name.as_deref()), (id(WEB), Some("default/shop/cart-1")));
    assert_eq!(server.kind, HandshakeKind::Full);
    assert_eq!(client.group, Some(NamedGroup::X25519MLKEM768), "the hybrid key exchange comes without a retry");
}

#[tokio::test]
async fn a_client_refuses_a_server_it_did_not_call() {
    let pair = Pair::new();
    let client = client_config(&pair.web, &pair.trust, Expect::id(id(WEB)), ALPN);
    let Ends { client, server } = handshake(&client, &pair.server()).await;
    assert!(matches!(refused(client), VerifyError::Unexpected { id: found, .. } if found == id(CART)));
    assert!(server.is_err());
}

#[tokio::test]
async fn a_server_refuses_whom_its_own_domains_authority_did_not_sign() {
    let pair = Pair::new();
    let east = authority("east.default", now());
    // East's authority is trusted, for east.
    pair.trust.set(&east.trust()).unwrap();
    let foreign = live(&east, "spiffe://east.default/ns/shop/sa/web", now());
    let client = client_config(&foreign, &pair.trust, Expect::id(id(CART)), ALPN);
    let said = refused(handshake(&client, &pair.server()).await.server);
    assert!(matches!(said, VerifyError::Unexpected { .. }), "{said}");

    // An impostor with an authority of his own, under our domain's name.
    let impostor = live(&authority("west.default", now()), WEB, now());
    let client = client_config(&impostor, &pair.trust, Expect::id(id(CART)), ALPN);
    assert_eq!(refused(handshake(&client, &pair.server()).await.server), VerifyError::Signature { id: id(WEB) });

    // Unknown domain.
    let mars = live(&authority("mars.default", now()), "spiffe://mars.default/ns/shop/sa/web", now());
    let client = client_config(&mars, &pair.trust, Expect::id(id(CART)), ALPN);
    assert!(matches!(refused(handshake(&client, &pair.server()).await.server), VerifyError::Domain { .. }));
}

#[tokio::test]
async fn an_expired_certificate_is_told_with_its_age() {
    let west = authority("west.default", ago(10 * 86_400));
    let pair = Pair {
        trust: trust_in(&[&west]),
        web: live(&west, WEB, ago(2 * 86_400)),
        cart: live(&west, CART, now()),
        west,
    };
    let said = refused(handshake(&pair.client(), &pair.server()).await.server);
    assert_eq!(said.to_string(), format!("certificate of {WEB} expired 24 h ago; is this host's clock right?"));
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_in_only_where_that_is_optional() {
    let west = authority("west.control", now());
    let zone = SpiffeId::zone_cp(&"west".parse().unwrap());
    let (cp, trust) = (LiveCredentials::new(west.certify(zone.clone(), None, &[], now()).unwrap()), trust_in(&[&west]));
    let newcomer = client_config_pinned(&Pin::of(&west.anchors()[0]), &zone, ALPN);
    let optional = server_config(&cp, &trust, Expect::Any, ClientAuth::Optional, ALPN);
    let (client, server) = handshake(&newcomer, &optional).await.sound();
    assert_eq!((client.peer.unwrap().id, server.peer), (zone.clone(), None));

    // A certificate that is shown counts, optional or not.
    let impostor = live(&authority("west.control", now()), "spiffe://west.control/gateway/gw", now());
    let client = client_config(&impostor, &trust, Expect::Any, ALPN);
    assert!(matches!(refused(handshake(&client, &optional).await.server), VerifyError::Signature { .. }));

    let required = server_config(&cp, &trust, Expect::Any, ClientAuth::Required, ALPN);
    assert!(handshake(&newcomer, &required).await.server.is_err());
    let wrong = client_config_pinned(&Pin::of(&authority("west.control", now()).anchors()[0]), &zone, ALPN);
    assert!(matches!(refused(handshake(&wrong, &optional).await.client), VerifyError::Pin { .. }));
}

#[tokio::test]
async fn sessions_are_resumed_and_keep_the_peers_identity() {
    let pair = Pair::new();
    let (client, server) = (pair.client(), pair.server());
    handshake(&client, &server).await.sound();
    let (near, far) = handshake(&client, &server).await.sound();
    assert_eq!((near.kind, far.kind), (HandshakeKind::Resumed, HandshakeKind::Resumed));
    assert_eq!(far.peer.unwrap().id, id(WEB));
    assert_eq!(near.peer.unwrap().id, id(CART));
}

#[tokio::test]
async fn new_credentials_end_all_sessions_at_either_end() {
    let pair = Pair::new();
    let (client, server) = (pair.client(), pair.server());
    handshake(&client, &server).await.sound();
    pair.cart.replace(credentials(&pair.west, CART, now()));
    assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Full, "the server's were replaced");
    assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Resumed);
    pair.web.replace(credentials(&pair.west, WEB, now()));
    assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Full, "the client's were replaced");
}

#[tokio::test]
async fn a_withdrawn_anchor_ends_the_sessions_that_rest_on_it() {
    let pair = Pair::new();
    let east = authority("east.default", now());
    let far = "spiffe://east.default/ns/shop/sa/web";
    let trust = trust_in(&[&pair.west, &east]);
    let tickets = Tickets::with_quiet(pair.cart.clone(), trust.clone(), Duration::ZERO);
    let server = server_config_with(tickets, &pair.cart, &trust, Expect::Any, ClientAuth::Required, ALPN);
    let client = client_config(&live(&east, far, now()), &pair.trust, Expect::id(id(CART)), ALPN);
    handshake(&client, &server).await.sound();
    assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Resumed);

    // A domain more is no reason to forget anybody.
    trust.set(&authority("south.default", now()).trust()).unwrap();
    assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Resumed);

    assert!(trust.remove(&domain("east.default")));
    assert_eq!(refused(handshake(&client, &server).await.server), VerifyError::Domain { id: id(far) });
}

#[tokio::test]
async fn a_client_forgets_sessions_for_good_when_an_anchor_is_withdrawn() {
    let pair = Pair::new();
    let (client, server) = (pair.client(), pair.server());
    handshake(&client, &server).await.sound();
    pair.west.rotate(now()).unwrap();
    pair.west.rotate(now()).unwrap();
    pair.trust.set(&pair.west.trust()).unwrap();
    assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Resumed, "both anchors are known");
    // The server still shows its old certificate when the old anchor goes.
    pair.west.retire(now()).unwrap();
    pair.trust.set(&pair.west.trust()).unwrap();
    let said = refused(handshake(&client, &server).await.client);
    assert_eq!(said, VerifyError::Signature { id: id(CART) });
    pair.cart.replace(credentials(&pair.west, CART, now()));
    pair.web.replace(credentials(&pair.west, WEB, now()));
    for _ in 0..2 {
        assert_eq!(handshake(&client, &server).await.sound().0.kind, HandshakeKind::Full, "this config is sealed");
    }
    let renewed = pair.client();
    handshake(&renewed, &server).await.sound();
    assert_eq!(handshake(&renewed, &server).await.sound().0.kind, HandshakeKind::Resumed);
}

#[tokio::test]
async fn no_ticket_is_given_out_while_an_older_handshake_may_still_run() {
    let pair = Pair::new();
    let expect = Expect::Domain(domain("west.default"));
    let server = server_config(&pair.cart, &pair.trust, expect, ClientAuth::Required, ALPN);
    pair.cart.replace(credentials(&pair.west, CART, now()));
    let client = pair.client();
    for _ in 0..3 {
        assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn an_expectation_that_may_change_is_asked_every_time() {
    let pair = Pair::new();
    let open = Arc::new(AtomicBool::new(true));
    let gate = open.clone();
    let expect = Expect::fits("a zone that is not disabled", move |_| gate.load(Ordering::Relaxed));
    let server = server_config(&pair.cart, &pair.trust, expect, ClientAuth::Required, ALPN);
    let client = pair.client();
    for _ in 0..2 {
        assert_eq!(handshake(&client, &server).await.sound().1.kind, HandshakeKind::Full);
    }
    open.store(false, Ordering::Relaxed);
    assert_eq!(
        refused(handshake(&client, &server).await.server).to_string(),
        format!("certificate of {WEB} is sound, but a zone that is not disabled was expected here")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_rotation_under_running_handshakes_loses_none() {
    const CALLERS: usize = 4;
    let pair = Pair::new();
    let (client, server) = (pair.client(), pair.server());
    let stop = Arc::new(AtomicBool::new(false));
    let done: Arc<[AtomicUsize; CALLERS]> = Arc::default();
    let call = |caller: usize| {
        let (client, server, stop, done) = (client.clone(), server.clone(), stop.clone(), done.clone());
        tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                handshake(&client, &server).await.sound();
                done[caller].fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let callers: Vec<_> = (0..CALLERS).map(call).collect();
    // Every caller ends the handshake it is in and does another, as the time between two steps ensures.
    let settled = async || {
        let counts = || done.iter().map(|count| count.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let before = counts();
        let more = || counts().iter().zip(&before).all(|(now, then)| *now >= then + 2);
        while !more() && !callers.iter().any(|caller| caller.is_finished()) {
            tokio::task::yield_now().await;
        }
    };
    for _rotation in 0..5 {
        for step in [Step::Prepared, Step::Switched] {
            assert_eq!(pair.west.rotate(now()).unwrap(), step);
            pair.trust.set(&pair.west.trust()).unwrap();
            settled().await;
        }
        pair.cart.replace(credentials(&pair.west, CART, now()));
        settled().await;
        pair.web.replace(credentials(&pair.west, WEB, now()));
        settled().await;
        assert!(pair.west.retire(now()).unwrap());
        pair.trust.set(&pair.west.trust()).unwrap();
        settled().await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.expect("no handshake failed");
    }
    assert_eq!(pair.west.generation(), 6);
}
