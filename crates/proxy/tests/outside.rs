//! Calls to services outside the mesh: connections are kept, failures remembered, and nothing is sent twice unasked.

#![allow(clippy::unwrap_used)]

mod stage;

use api::config::{Balancing, External, Outbound, OutboundPort, OutboundRule, item};
use api::kinds::Protocol;
use http::Request;
use http_body_util::Full;
use stage::raw::until;
use stage::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const HOST: &str = "api.example";

fn external(endpoints: &[u16], tls: Option<(Option<String>, Option<String>)>, protocol: Protocol) -> Outbound {
    let endpoints = endpoints.iter().map(|port| (LOCALHOST.to_string(), Some(*port))).collect();
    let rule = OutboundRule { backends: Vec::new(), ..rule_to("api") };
    Outbound {
        service: service("api"),
        hosts: vec![HOST.into()],
        ports: vec![OutboundPort { port: 80, protocol, rules: vec![rule] }],
        balancing: Balancing::default(),
        breaker: Default::default(),
        external: Some(External { endpoints, tls, authorization: None }),
    }
}

fn calling(outbound: &Outbound) -> Proxy {
    let web = Proxy::sidecar(&Trusts::of(&["west"]), "west", "web", "web-1");
    apply(&web, outbound);
    web
}

fn apply(web: &Proxy, outbound: &Outbound) {
    let plan = Plan::default().own("west", "web", Vec::new(), allow_all());
    web.apply(&plan.put(item::outbound(&service("api")), outbound).0);
}

/// Answers up to `each` requests on a connection with the connection's number; then it closes without a word.
struct Numbered {
    port: u16,
    opened: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl Numbered {
    async fn start(each: u64, linger: Duration) -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (opened, requests) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (count, seen) = (opened.clone(), requests.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let seen = seen.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    for _ in 0..each {
                        head.clear();
                        while !head.ends_with(b"\r\n\r\n") {
                            match stream.read_u8().await {
                                Ok(byte) => head.push(byte),
                                Err(_) => return,
                            }
                        }
                        seen.fetch_add(1, Ordering::SeqCst);
                        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{number:2}");
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                    // The next request finds the connection open and is never answered.
                    tokio::time::timeout(linger, stream.read_u8()).await.ok();
                });
            }
        });
        Self { port, opened, requests }
    }
}

#[tokio::test]
async fn requests_share_a_kept_connection() {
    let app = Numbered::start(u64::MAX, Duration::ZERO).await;
    let web = calling(&external(&[app.port], None, Protocol::Http));
    let mut client = Client::to(web.outbound).await;
    for _ in 0..10 {
        let answer = client.get(HOST, "/").await;
        assert_eq!((answer.status(), answer.text.as_str()), (200, " 1"));
    }
    apply(
        &web,
        &Outbound { hosts: vec![HOST.into(), "other.example".into()], ..external(&[app.port], None, Protocol::Http) },
    );
    assert_eq!(client.get(HOST, "/").await.text, " 1", "a change of the service's routes keeps its connections");
    assert_eq!(app.opened.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_costs_a_get_nothing_and_a_post_is_sent_once() {
    // Each connection takes one request; the next one on it is read and never answered.
    let app = Numbered::start(1, SOON).await;
    let web = calling(&external(&[app.port], None, Protocol::Http));
    let mut client = Client::to(web.outbound).await;
    assert_eq!(client.get(HOST, "/").await.text, " 1");
    assert_eq!(client.get(HOST, "/").await.text, " 2", "sent again on another connection");
    let post = Request::post("/").header("host", HOST).body(Full::from("x")).unwrap();
    let answer = client.send(post).await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (502, "UPSTREAM_RESET"), "{}", answer.text);
    assert_eq!(app.requests.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn endpoints_are_asked_in_order_and_one_that_failed_is_avoided_for_a_while() {
    let gone = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let dead = gone.local_addr().unwrap().port();
    drop(gone);
    let app = Numbered::start(u64::MAX, Duration::ZERO).await;
    let web = calling(&external(&[dead, app.port], None, Protocol::Http));
    let mut client = Client::to(web.outbound).await;
    let first = client.get(HOST, "/").await;
    assert_eq!((first.status(), first.header("weft-reason")), (200, "RETRY_ELSEWHERE"));
    let second = client.get(HOST, "/").await;
    assert_eq!((second.status(), second.header("weft-reason")), (200, ""), "the dead one is not asked again at once");
}

#[tokio::test]
async fn an_endpoint_is_not_avoided_for_what_a_caller_does() {
    let (one, two) = (TcpListener::bind((LOCALHOST, 0)).await.unwrap(), App::http("two").await);
    let web = calling(&external(&[one.local_addr().unwrap().port(), two.port], None, Protocol::Http));
    let accepted = async || tokio::time::timeout(SOON, one.accept()).await.expect("the first endpoint is asked");
    let mut rude = TcpStream::connect(web.outbound).await.unwrap();
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n");
    rude.write_all(post.as_bytes()).await.unwrap();
    let (mut endpoint, _) = accepted().await.unwrap();
    until(&mut endpoint, "1\r\nx\r\n").await;
    rude.write_all(b"no chunk\r\n").await.unwrap();
    let answer = until(&mut rude, "limit\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("BAD_REQUEST a chunk of the body is malformed or exceeds a limit\n"), "{answer}");
    let mut client = Client::to(web.outbound).await;
    let answering = async {
        let (mut endpoint, _) = accepted().await.unwrap();
        until(&mut endpoint, "\r\n\r\n").await;
        endpoint.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none").await.unwrap();
    };
    let (answer, ()) = tokio::join!(client.get(HOST, "/"), answering);
    assert_eq!(answer.text, "one");
}

#[tokio::test]
async fn nobody_there_is_told_as_such() {
    let gone = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let dead = gone.local_addr().unwrap().port();
    drop(gone);
    let web = calling(&external(&[dead], None, Protocol::Http));
    let mut client = Client::to(web.outbound).await;
    let answer = client.get(HOST, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (503, "CONNECT_FAILED"), "{}", answer.text);
}

#[tokio::test]
async fn a_silent_external_service_ends_at_the_deadline() {
    let silent = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
    let mut outbound = external(&[silent.local_addr().unwrap().port()], None, Protocol::Http);
    outbound.ports[0].rules[0].timeouts.request_ms = Some(200);
    let web = calling(&outbound);
    let mut client = Client::to(web.outbound).await;
    let sent = Instant::now();
    let answer = client.get(HOST, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (504, "REQUEST_TIMEOUT"), "{}", answer.text);
    assert!(sent.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_upgrade_reaches_an_external_service() {
    let app = App::http("api").await;
    let web = calling(&external(&[app.port], None, Protocol::Http));
    let mut client = Client::to(web.outbound).await;
    let request =
        Request::get("/socket").header("host", HOST).header("connection", "Upgrade").header("upgrade", "echo");
    let mut response = client.raw(request.body(Full::default()).unwrap()).await;
    assert_eq!((response.status().as_u16(), &response.headers()["upgrade"]), (101, &"echo".parse().unwrap()));
    let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
    let mut io = hyper_util::rt::TokioIo::new(upgraded);
    io.write_all(b"out of the mesh").await.unwrap();
    let mut back = [0; 15];
    tokio::time::timeout(SOON, io.read_exact(&mut back)).await.unwrap().unwrap();
    assert_eq!(&back, b"out of the mesh");
}

#[tokio::test]
async fn http2_is_spoken_where_the_port_says_so() {
    let app = App::http("api").await;
    let web = calling(&external(&[app.port], None, Protocol::Http2));
    let mut client = Client::to(web.outbound).await;
    for _ in 0..3 {
        let answer = client.get(HOST, "/a").await;
        // `Host` does not exist in HTTP/2; the app there sees an authority.
        assert_eq!(answer.status(), 200);
        assert!(answer.text.starts_with("api GET /a host=- peer=- "), "{}", answer.text);
        assert_eq!(answer.header("weft-zone"), "", "nobody outside speaks for us");
    }
}
