//! The corpus of `http_desync_guardian` (AWS, Apache-2.0; 159 requests labelled by what they can do), sent as raw bytes
//! through two sidecars: nothing that smuggles reaches the app.

#![allow(clippy::unwrap_used)]

mod stage;

use api::kinds::Protocol;
use http::Request;
use http_body_util::Full;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proxy::pool::transport::Carries;
use serde::Deserialize;
use stage::*;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CART: &str = "cart.shop.mesh";
/// Behind each request that has no length of its own: what a smuggler would want the app to see.
const SMUGGLED: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: cart.shop.mesh\r\nConnection: close\r\n\r\n";

/// Pairs of proxies side by side: a refused connection stays for a second.
const LANES: usize = 32;

const STRICTER: [&str; 12] = [
    "%09 in URI is OK",
    "%0A in URI is OK",
    "%0D in URI is OK",
    "Compliant URL",
    "Correct TE OK",
    "Different Transfer-Encoding headers",
    "Different Transfer-Encoding headers combined",
    "Empty URI",
    "Multiple transfer encoding headers in a single request OK",
    "TE with custom parameters OK",
    "Transfer-Encoding with a param: chunked;custom_param",
    "Transfer-Encoding: identity and chunked OK",
];

#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    uri: String,
    method: String,
    version: String,
    #[serde(default)]
    headers: Vec<Field>,
    expected: Expected,
}

#[derive(Debug, Deserialize)]
struct Field {
    name: String,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Expected {
    tier: String,
}

/// Where cargo keeps the package's source.
fn corpus() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    // Packages of other platforms may never have been fetched.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let args = ["metadata", "--format-version", "1", "--offline", "--filter-platform", &platform];
    let metadata = Command::new(cargo).args(args).output().unwrap();
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let found = packages.iter().find(|package| package["name"] == "http_desync_guardian").unwrap();
    PathBuf::from(found["manifest_path"].as_str().unwrap()).parent().unwrap().join("tests")
}

fn cases() -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(corpus()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|ext| ext == "yaml"));
    files.sort();
    let read = |file| serde_saphyr::from_str::<Vec<Case>>(&std::fs::read_to_string(file).unwrap()).unwrap();
    files.into_iter().flat_map(read).collect()
}

/// Escapes of the corpus are bytes.
fn raw(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for c in text.chars() {
        match u8::try_from(c) {
            Ok(byte) => bytes.push(byte),
            Err(_) => bytes.extend(c.to_string().as_bytes()),
        }
    }
    bytes
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let version = if self.version.is_empty() { String::new() } else { format!(" {}", self.version) };
        let mut bytes = raw(&format!("{} {}{version}\r\n", self.method, self.uri));
        let has = |name: &str| self.headers.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        // The corpus looks at one thing at a time; our gate would refuse a request without Host for that alone.
        if !has("host") {
            bytes.extend(b"Host: cart.shop.mesh\r\n");
        }
        for field in self.headers.iter().filter(|field| !field.name.eq_ignore_ascii_case("connection")) {
            bytes.extend(raw(&format!("{}: {}\r\n", field.name, field.value.as_deref().unwrap_or_default())));
        }
        // So that its end is the end of the answer.
        bytes.extend(b"Connection: close\r\n\r\n");
        let length = self.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        match length.and_then(|field| field.value.as_deref()?.trim().parse::<usize>().ok()) {
            Some(length) if length <= 8_000_000 && !has("transfer-encoding") => bytes.extend(vec![b'x'; length]),
            _ => bytes.extend(SMUGGLED.as_bytes()),
        }
        bytes
    }
}

/// Sends, and reads to the end of the connection.
async fn exchange(to: SocketAddr, name: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).await.unwrap();
    // A refusal may close before everything was taken.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "{name}: the connection stays open");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn pair() -> (Proxy, Proxy, App) {
    let trusts = Trusts::of(&["west"]);
    let app = App::http("cart-1").await;
    let cart = Proxy::sidecar(&trusts, "west", "cart", "cart-1");
    cart.apply(&Plan::default().own("west", "cart", app.inbound(Protocol::Http), allow_all()).0);
    let web = Proxy::sidecar(&trusts, "west", "web", "web-1");
    let plan = Plan::default()
        .own("west", "web", Vec::new(), allow_all())
        .outbound("cart", Protocol::Http, rule_to("cart"), &[])
        .local("cart", "west", &[("cart-1", cart.inbound, true)]);
    web.apply(&plan.0);
    (web, cart, app)
}

/// The answer to each, and how many requests the app got meanwhile.
async fn meet(cases: &[Case]) -> Vec<(String, u64)> {
    let (web, _cart, app) = pair().await;
    let mut met = Vec::new();
    for case in cases {
        let before = app.served.load(Ordering::SeqCst);
        let answer = exchange(web.outbound, &case.name, &case.bytes()).await;
        met.push((answer, app.served.load(Ordering::SeqCst) - before));
    }
    met
}

#[tokio::test]
async fn nothing_that_smuggles_reaches_the_app() {
    let cases = cases();
    assert_eq!(cases.len(), 159);
    let met = futures_util::future::join_all(cases.chunks(cases.len().div_ceil(LANES)).map(meet)).await;
    let mut tally: BTreeMap<(&str, bool), Vec<&str>> = BTreeMap::new();
    for (case, (answer, reached)) in cases.iter().zip(met.into_iter().flatten()) {
        tally.entry((&case.expected.tier, reached > 0)).or_default().push(&case.name);
        match case.expected.tier.as_str() {
            "Severe" => {
                assert_eq!(reached, 0, "{}: {answer}", case.name);
                // A first line that is none of HTTP gets no answer at all.
                let refused = answer.starts_with("HTTP/1.1 4") && answer.contains("BAD_REQUEST");
                assert!(refused || answer.is_empty(), "{}: {answer}", case.name);
            }
            // One framing only, and what follows it is not taken for a second request.
            "Ambiguous" => assert!(reached <= 1, "{}: {answer}", case.name),
            _ => {}
        }
    }
    let count = |tier, reached| tally.get(&(tier, reached)).map_or(0, Vec::len);
    for ((tier, reached), names) in &tally {
        println!("{tier} {}: {}", if *reached { "forwarded" } else { "refused" }, names.len());
        if (*tier == "Compliant") != *reached {
            println!("    {}", names.join("\n    "));
        }
    }
    assert_eq!((count("Severe", false), count("Severe", true)), (58, 0));
    // What we refuse although the corpus thinks it honest: codings other than `chunked`, which nobody announces to a
    // proxy, a fragment in a target, an empty target, and escaped control characters in a path.
    let mut stricter = tally.remove(&("Compliant", false)).unwrap_or_default();
    stricter.sort_unstable();
    assert_eq!(stricter, STRICTER);
}

/// What HTTP/2 carries and HTTP/1 would read as framing; sent by a verified peer straight to the inbound proxy.
#[tokio::test]
async fn a_peer_cannot_smuggle_by_http2_either() {
    let (web, cart, app) = pair().await;
    let transport = &web.state.workers()[0].transport;
    let name = service("cart").server_name(80, &zone("west"));
    let tls =
        transport.connect(cart.inbound, &name, std::slice::from_ref(&cart.id), Carries::Http, SOON).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    tokio::spawn(connection);
    let uri = format!("http://{CART}/a");
    for (fields, body, forwarded) in [
        (vec![("content-length", "5")], "hello", true),
        (vec![("content-length", "5"), ("content-length", "5")], "hello", false),
        (vec![("content-length", "0"), ("content-length", "5")], "hello", false),
        (vec![("host", CART)], "", true),
        (vec![("host", "other.shop.mesh")], "", false),
        (vec![("host", CART), ("host", CART)], "", false),
        (vec![("transfer_encoding", "chunked")], "", false),
        (vec![("content_length", "5")], "", false),
    ] {
        let before = app.served.load(Ordering::SeqCst);
        let mut request = Request::post(&uri);
        for (name, value) in &fields {
            request = request.header(*name, *value);
        }
        sender.ready().await.unwrap();
        let answer = sender.send_request(request.body(Full::<bytes::Bytes>::from(body)).unwrap()).await;
        let reached = app.served.load(Ordering::SeqCst) - before;
        assert_eq!(reached == 1, forwarded, "{fields:?}: {answer:?}");
        if let (false, Ok(answer)) = (forwarded, answer) {
            assert_eq!(
                (answer.status().as_u16(), &answer.headers()["weft-reason"]),
                (400, &"BAD_REQUEST".parse().unwrap())
            );
        }
    }
}
