//! A call that leaves the mesh through an edge gateway, to a server outside with a certificate of its own authority.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{
    Authorization, AuthorizationAction, AuthorizationRule, Balancing, Endpoint, Endpoints, EndpointsPlace, External,
    Outbound, OutboundPort, PeerMatch, RequestMatch, item,
};
use api::kinds::{DefaultAuthorization, Protocol};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use stage::*;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const BILLING: &str = "billing.example.com";

/// A server outside: TLS, one answer for each request. Its port, and the root to trust.
async fn outside() -> (u16, String) {
    let made = rcgen::generate_simple_self_signed([BILLING.to_owned()]).unwrap();
    let root = made.cert.pem();
    let chain = vec![CertificateDer::from_pem_slice(root.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") && stream.read_buf(&mut head).await.is_ok_and(|count| count > 0) {}
                let told = String::from_utf8_lossy(&head).to_lowercase().contains("weft-");
                let text = if told { "a header of the mesh" } else { "billed" };
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                let _ = stream.write_all(answer.as_bytes()).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    (port, root)
}

/// `billing` as callers (`external: None`) and gateways see it.
fn billing(external: Option<External>) -> Outbound {
    let ports = vec![OutboundPort { port: 80, protocol: Protocol::Http, rules: vec![rule_to("billing")] }];
    Outbound {
        service: service("billing"),
        hosts: vec![BILLING.into()],
        ports,
        balancing: Balancing::default(),
        breaker: Default::default(),
        external,
    }
}

struct Stage {
    web: Proxy,
    gateway: Proxy,
    port: u16,
    root: String,
    _folder: tempfile::TempDir,
}

impl Stage {
    async fn new() -> Self {
        let trusts = Trusts::of(&["west"]);
        let folder = tempfile::tempdir().unwrap();
        let gateway = Proxy::ingress(&trusts, "west", folder.path());
        let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
        let endpoint = Endpoint {
            workload: "ingress-1".parse().unwrap(),
            address: gateway.inbound,
            identity: identity_of("west", "ingress"),
            weight: 1,
            ready: true,
            place: Default::default(),
        };
        let place = EndpointsPlace::Local(vec![endpoint]);
        let set = Endpoints { service: service("billing"), zone: zone("west"), place };
        let plan = Plan::default()
            .own("west", "web", Vec::new(), allow_all())
            .put(item::outbound(&service("billing")), &billing(None))
            .put(item::endpoints(&service("billing"), &zone("west")), &set);
        web.apply(&plan.0);
        let (port, root) = outside().await;
        Self { web, gateway, port, root, _folder: folder }
    }

    /// What the gateway runs.
    fn gateway(&self, roots: &str, authorization: Option<Authorization>) {
        let external = External {
            endpoints: vec![("127.0.0.1".into(), Some(self.port))],
            tls: Some((None, Some(roots.to_owned()))),
            authorization,
        };
        let plan = Plan::default()
            .own("west", "ingress", Vec::new(), allow_all())
            .put(item::outbound(&service("billing")), &billing(Some(external)));
        self.gateway.apply(&plan.0);
    }
}

fn only(account: &str, paths: &[&str]) -> Option<Authorization> {
    let paths = paths.iter().map(|path| (*path).to_owned()).collect();
    let rule = AuthorizationRule {
        policy: "shop/billing".into(),
        action: AuthorizationAction::Allow,
        audit: false,
        from: vec![PeerMatch { account: Some(account.into()), ..PeerMatch::default() }],
        to: vec![RequestMatch { paths, ..RequestMatch::default() }],
    };
    Some(Authorization { default: DefaultAuthorization::Deny, rules: vec![rule] })
}

#[tokio::test]
async fn a_call_leaves_through_the_gateway_over_tls_that_begins_there() {
    let stage = Stage::new().await;
    stage.gateway(&stage.root, only("web", &["/bills*"]));
    let mut client = Client::to(stage.web.outbound).await;
    let answer = client.get(BILLING, "/bills/1").await;
    assert_eq!((answer.status(), answer.text.as_str()), (200, "billed"), "{}", answer.header("weft-reason"));
    // One spelling before it is decided, as at any workload.
    for path in ["/admin", "/bills/../admin", "/%61dmin"] {
        let answer = client.get(BILLING, path).await;
        assert_eq!((answer.status(), answer.header("weft-reason")), (403, "DENIED"), "{path}");
    }
}

#[tokio::test]
async fn who_may_leave_is_decided_by_the_verified_caller() {
    let stage = Stage::new().await;
    stage.gateway(&stage.root, only("cart", &["/*"]));
    let mut client = Client::to(stage.web.outbound).await;
    let answer = client.get(BILLING, "/bills").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (403, "DENIED"));
    assert!(answer.text.contains("spiffe://west.default/ns/shop/sa/web"), "{}", answer.text);
}

#[tokio::test]
async fn what_does_not_leave_through_the_gateway_is_refused() {
    let stage = Stage::new().await;
    // The gateway may call it itself; nobody may through it.
    stage.gateway(&stage.root, None);
    let mut client = Client::to(stage.web.outbound).await;
    let answer = client.get(BILLING, "/bills").await;
    assert!([502, 503].contains(&answer.status()), "{answer:?}");
}

#[tokio::test]
async fn a_server_that_another_authority_vouches_for_is_not_believed() {
    let stage = Stage::new().await;
    let (_, other) = outside().await;
    stage.gateway(&other, only("web", &["/*"]));
    let mut client = Client::to(stage.web.outbound).await;
    let answer = client.get(BILLING, "/bills").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (503, "CONNECT_FAILED"), "{}", answer.text);
}
