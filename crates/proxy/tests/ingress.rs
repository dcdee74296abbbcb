//! Traffic from outside through an edge gateway, with nothing but TCP and TLS in hand.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{Authorization, AuthorizationAction, AuthorizationRule, Backend, PeerMatch};
use api::kinds::{DefaultAuthorization, HttpFilter, ListenerProtocol, Protocol, Redirect};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use stage::*;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SHOP: &str = "shop.example.com";
const BLOG: &str = "blog.example.com";

/// Two zones with `cart`, and an edge gateway in the first.
struct Stage {
    gateway: Proxy,
    west: Proxy,
    _apps: [App; 2],
    _east: (Proxy, Proxy),
    plan: Plan,
    folder: tempfile::TempDir,
}

async fn stage(authorization: Authorization) -> Stage {
    let trusts = Trusts::of(&["west", "east"]);
    let apps = [App::http("west-1").await, App::http("east-1").await];
    let sidecar = |zone, workload, app: &App| {
        let proxy = Proxy::sidecar(&trusts, zone, "cart", workload);
        proxy.apply(&Plan::default().own(zone, "cart", app.inbound(Protocol::Http), authorization.clone()).0);
        proxy
    };
    let (west, east) = (sidecar("west", "west-1", &apps[0]), sidecar("east", "east-1", &apps[1]));
    let between = Proxy::gateway(&trusts, "east");
    between.apply(
        &Plan::default().edge("east", &["cart"], &[]).local("cart", "east", &[("east-1", east.inbound, true)]).0,
    );
    let folder = tempfile::tempdir().unwrap();
    let gateway = Proxy::ingress(&trusts, "west", folder.path());
    let plan = Plan::default()
        .own("west", "ingress", Vec::new(), allow_all())
        .zone("east")
        .outbound("cart", Protocol::Http, rule_to("cart"), &["east"])
        .local("cart", "west", &[("west-1", west.inbound, true)])
        .remote("cart", "east", &[between.inbound], 1);
    Stage { gateway, west, _apps: apps, _east: (east, between), plan, folder }
}

impl Stage {
    /// Applies listeners, and waits until the port is open.
    async fn listen(&self, port: u16, protocol: ListenerProtocol, hosts: Vec<api::config::ListenerHost>) {
        self.gateway.apply(&self.plan.clone().listener(port, protocol, hosts).0);
        opened(port).await;
    }

    fn problems(&self) -> Vec<String> {
        self.gateway.state.listener_problems.of(&self.gateway.state.running()).into_values().collect()
    }
}

async fn opened(port: u16) {
    wait(async || TcpStream::connect((LOCALHOST, port)).await.is_ok()).await;
}

async fn wait(mut done: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !done().await {
        assert!(Instant::now() < end, "it did not come about in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_request_from_outside_reaches_the_app_with_the_identity_of_the_gateway() {
    let only_ingress = AuthorizationRule {
        policy: "shop/edge".into(),
        action: AuthorizationAction::Allow,
        audit: false,
        from: vec![PeerMatch { account: Some("ingress".into()), ..PeerMatch::default() }],
        to: Vec::new(),
    };
    let stage = stage(Authorization { default: DefaultAuthorization::Deny, rules: vec![only_ingress] }).await;
    let port = free_port();
    stage.listen(port, ListenerProtocol::Http, vec![host("http", Some(SHOP), None, vec![rule_to("cart")])]).await;
    let mut client = Client::to((LOCALHOST, port).into()).await;
    let request = Request::get("/a//b?c")
        .header("host", SHOP)
        .header("x-forwarded-for", "203.0.113.9")
        .header("weft-peer", "spiffe://west.default/ns/shop/sa/admin");
    let answer = client.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text);
    let expect =
        format!("west-1 GET /a/b host={SHOP} peer=spiffe://west.default/ns/shop/sa/ingress for=127.0.0.1 body=");
    assert_eq!(answer.text, expect);
}

#[tokio::test]
async fn a_host_that_nobody_answers_for_is_told_so() {
    let stage = stage(allow_all()).await;
    let port = free_port();
    stage.listen(port, ListenerProtocol::Http, vec![host("http", Some(SHOP), None, vec![rule_to("cart")])]).await;
    let mut client = Client::to((LOCALHOST, port).into()).await;
    let answer = client.get("nobody.example.com", "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (404, "NO_ROUTE"));
    assert!(answer.text.contains("no listener answers for `nobody.example.com`"), "{}", answer.text);
    let answer = client.get(SHOP, "/..").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (400, "BAD_REQUEST"));
}

#[tokio::test]
async fn requests_are_split_over_zones_and_fail_over_to_the_other_one() {
    let mut stage = stage(allow_all()).await;
    let port = free_port();
    let to = |name: &str| Backend { service: service("cart"), port: 80, zone: Some(zone(name)), weight: 1 };
    let split = api::config::OutboundRule { backends: vec![to("west"), to("east")], ..rule_to("cart") };
    let any = host("any", None, None, vec![rule_to("cart")]);
    stage.listen(port, ListenerProtocol::Http, vec![host("split", Some(SHOP), None, vec![split]), any]).await;
    let mut client = Client::to((LOCALHOST, port).into()).await;
    let mut zones = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..60 {
        let answer = client.get(SHOP, "/").await;
        assert_eq!(answer.status(), 200, "{}", answer.text);
        *zones.entry(answer.header("weft-zone").to_owned()).or_default() += 1;
    }
    assert!(zones.len() == 2 && zones.values().all(|count| *count > 10), "{zones:?}");
    assert_eq!(client.get("other.example.com", "/").await.header("weft-zone"), "west");
    stage.west.kill();
    for i in 0..20 {
        let answer = client.get("other.example.com", "/").await;
        assert_eq!((answer.status(), answer.header("weft-zone")), (200, "east"), "request {i}: {}", answer.text);
    }
}

#[tokio::test]
async fn http_redirects_to_https_on_its_own_port() {
    let stage = stage(allow_all()).await;
    let port = free_port();
    let redirect = Redirect { scheme: Some("https".into()), status_code: Some(301), ..Redirect::default() };
    let filters = vec![HttpFilter::RequestRedirect { request_redirect: redirect }];
    let rule = api::config::OutboundRule { filters, backends: Vec::new(), ..rule_to("cart") };
    stage.listen(port, ListenerProtocol::Http, vec![host("http", None, None, vec![rule])]).await;
    let mut client = Client::to((LOCALHOST, port).into()).await;
    let answer = client.get(&format!("{SHOP}:{port}"), "/a?b=c").await;
    assert_eq!((answer.status(), answer.header("location")), (301, "https://shop.example.com/a?b=c"));
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_opened_when_it_is_free() {
    let stage = stage(allow_all()).await;
    let taken = std::net::TcpListener::bind((LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let listener = vec![host("http", None, None, vec![rule_to("cart")])];
    stage.gateway.apply(&stage.plan.clone().listener(port, ListenerProtocol::Http, listener).0);
    wait(async || !stage.problems().is_empty()).await;
    assert!(stage.problems()[0].contains("is in use"), "{:?}", stage.problems());
    drop(taken);
    opened(port).await;
    wait(async || stage.problems().is_empty()).await;
    stage.gateway.apply(&stage.plan.0);
    wait(async || TcpStream::connect((LOCALHOST, port)).await.is_err()).await;
}

/// Writes a certificate for a host below `folder`, and gives what to trust.
fn certificate(folder: &Path, name: &str, host: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([host.to_owned()]).unwrap();
    let folder = folder.join("shop").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
    CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap()
}

/// A TLS connection for a host, by whoever `trusts`.
async fn connect(
    port: u16,
    host: &str,
    trusts: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(trusts.iter().cloned());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    let tcp = TcpStream::connect((LOCALHOST, port)).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned()).unwrap(), tcp).await
}

async fn body(response: Response<Incoming>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn over_http2(
    io: tokio_rustls::client::TlsStream<TcpStream>,
) -> hyper::client::conn::http2::SendRequest<Full<Bytes>> {
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn the_server_name_chooses_the_certificate_and_the_rules() {
    let stage = stage(allow_all()).await;
    let (port, folder) = (free_port(), stage.folder.path());
    let trusts = [certificate(folder, "shop-tls", SHOP), certificate(folder, "blog-tls", BLOG)];
    let hosts = vec![
        host("shop", Some(SHOP), Some("shop/shop-tls"), vec![rule_to("cart")]),
        host("blog", Some(BLOG), Some("shop/blog-tls"), vec![rule_to("cart")]),
    ];
    stage.listen(port, ListenerProtocol::Https, hosts).await;
    let h2: &[&[u8]] = &[b"h2", b"http/1.1"];
    wait(async || connect(port, SHOP, &trusts[..1], h2).await.is_ok()).await;
    assert!(connect(port, BLOG, &trusts[..1], h2).await.is_err(), "blog shows its own certificate");
    assert!(connect(port, "other.example.com", &trusts, h2).await.is_err(), "nobody answers for another name");

    let mut sender = over_http2(connect(port, BLOG, &trusts[1..], h2).await.unwrap()).await;
    let get = |host: &str| Request::get(format!("https://{host}/x")).body(Full::default()).unwrap();
    let answer = sender.send_request(get(BLOG)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(body(answer).await.starts_with("west-1 GET /x host=blog.example.com"));
    // A connection made for one host does not serve another that has a certificate of its own (RFC 9110 section 7.4).
    let answer = sender.send_request(get(SHOP)).await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers()["weft-reason"].to_str().unwrap()),
        (421.try_into().unwrap(), "MISDIRECTED")
    );

    let plain = connect(port, SHOP, &trusts, &[b"http/1.1"]).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(plain)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::get("/y").header("host", SHOP).body(Full::<Bytes>::default()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert!(body(answer).await.starts_with("west-1 GET /y"));
}

#[tokio::test]
async fn a_certificate_is_read_again_when_it_changes_and_kept_when_it_cannot_be() {
    let stage = stage(allow_all()).await;
    let (port, folder) = (free_port(), stage.folder.path());
    let hosts = vec![host("shop", Some(SHOP), Some("shop/shop-tls"), vec![rule_to("cart")])];
    stage.listen(port, ListenerProtocol::Https, hosts).await;
    wait(async || !stage.problems().is_empty()).await;
    assert!(stage.problems()[0].contains("cannot read") && stage.problems()[0].contains("shop/shop-tls/tls.crt"));
    let works = async |trusts: &CertificateDer<'static>| {
        connect(port, SHOP, std::slice::from_ref(trusts), &[b"h2"]).await.is_ok()
    };
    let first = certificate(folder, "shop-tls", SHOP);
    wait(async || works(&first).await).await;
    wait(async || stage.problems().is_empty()).await;
    std::fs::write(folder.join("shop/shop-tls/tls.key"), "nonsense").unwrap();
    wait(async || !stage.problems().is_empty()).await;
    assert!(stage.problems()[0].ends_with("the certificate read before is still shown"), "{:?}", stage.problems());
    assert!(works(&first).await);
    let second = certificate(folder, "shop-tls", SHOP);
    wait(async || works(&second).await).await;
    assert!(stage.problems().is_empty() && !works(&first).await);
}
