//! Streams that stand still, and deadlines that travel, end to end.

#![allow(clippy::unwrap_used)]

mod stage;

use api::RouteReason;
use api::config::{InboundPort, OutboundRule};
use api::kinds::Protocol;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use stage::raw::{Through, until};
use stage::*;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CART: &str = "cart.shop.mesh";
/// How long a stream may stand still in these tests.
const STILL: Duration = Duration::from_secs(1);

/// A caller, and an app that is a socket in the test's hand.
struct Wire {
    web: Proxy,
    cart: Proxy,
    app: TcpListener,
}

impl Wire {
    async fn with(change: impl FnOnce(&mut OutboundRule)) -> Self {
        let trusts = Trusts::of(&["west"]);
        let app = TcpListener::bind((LOCALHOST, 0)).await.unwrap();
        let (web, cart) =
            (Proxy::sidecar(&trusts, "west", "web", "web-1"), Proxy::sidecar(&trusts, "west", "cart", "cart-1"));
        let ports = vec![InboundPort { port: 80, target: app.local_addr().unwrap().port(), protocol: Protocol::Http }];
        cart.apply(&Plan::default().own("west", "cart", ports, allow_all()).0);
        let mut rule = rule_to("cart");
        change(&mut rule);
        let plan = Plan::default()
            .own("west", "web", Vec::new(), allow_all())
            .outbound("cart", Protocol::Http, rule, &[])
            .local("cart", "west", &[("cart-1", cart.inbound, true)]);
        web.apply(&plan.0);
        Self { web, cart, app }
    }

    async fn accept(&self) -> TcpStream {
        tokio::time::timeout(SOON, self.app.accept()).await.unwrap().unwrap().0
    }

    fn cut(&self, reason: RouteReason) -> u64 {
        self.web.state.counters.cuts().get(&(service("cart"), reason)).copied().unwrap_or_default()
    }
}

fn idle(rule: &mut OutboundRule) {
    rule.timeouts.request_ms = None;
    rule.timeouts.idle_ms = STILL.as_millis() as u64;
}

/// Reads up to the end of a request's head.
async fn head(app: &mut TcpStream) -> String {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        text.push(char::from(tokio::time::timeout(SOON, app.read_u8()).await.unwrap().unwrap()));
    }
    text
}

fn get() -> Request<Full<Bytes>> {
    Request::get("/").header("host", CART).body(Full::default()).unwrap()
}

#[tokio::test]
async fn an_answer_that_stands_still_ends_with_an_error_and_is_counted() {
    let wire = Wire::with(idle).await;
    let mut client = Client::to(wire.web.outbound).await;
    let app = async {
        let mut app = wire.accept().await;
        head(&mut app).await;
        app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
        app
    };
    let (response, _app) = tokio::join!(client.raw(get()), app);
    assert_eq!(response.status(), 200);
    let began = Instant::now();
    let body = tokio::time::timeout(SOON, response.into_body().collect()).await.expect("it ends");
    assert!(body.is_err(), "a part is never told to be the whole");
    assert!(began.elapsed() >= STILL / 2 && began.elapsed() < SOON, "{:?}", began.elapsed());
    assert_eq!(wire.cut(RouteReason::StreamIdle), 1);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_counted_as_such() {
    let wire = Wire::with(idle).await;
    let mut client = Client::to(wire.web.outbound).await;
    let app = async {
        let mut app = wire.accept().await;
        head(&mut app).await;
        app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await.unwrap();
        app
    };
    let (response, app) = tokio::join!(client.raw(get()), app);
    drop(app);
    let body = tokio::time::timeout(SOON, response.into_body().collect()).await.expect("it ends");
    assert!(body.is_err());
    assert_eq!((wire.cut(RouteReason::StreamIdle), wire.cut(RouteReason::UpstreamReset)), (0, 1));
}

#[tokio::test]
async fn a_stream_in_which_the_request_still_moves_goes_on() {
    let wire = Wire::with(idle).await;
    let mut caller = TcpStream::connect(wire.web.outbound).await.unwrap();
    let chunks = 10;
    let request = format!("POST / HTTP/1.1\r\nhost: {CART}\r\ncontent-length: {chunks}\r\n\r\n");
    caller.write_all(request.as_bytes()).await.unwrap();
    let mut app = wire.accept().await;
    head(&mut app).await;
    app.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
    let began = Instant::now();
    for _ in 0..chunks {
        tokio::time::sleep(STILL / 5).await;
        caller.write_all(b"x").await.unwrap();
        assert_eq!(tokio::time::timeout(SOON, app.read_u8()).await.unwrap().unwrap(), b'x');
    }
    assert!(began.elapsed() > STILL + STILL / 2, "longer than the answer alone may stand still");
    app.write_all(b"done").await.unwrap();
    let mut answer = vec![0; 4096];
    let mut read = 0;
    while !answer[..read].ends_with(b"done") {
        let count = tokio::time::timeout(SOON, caller.read(&mut answer[read..])).await.unwrap().unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&answer[..read]));
        read += count;
    }
    assert_eq!(wire.cut(RouteReason::StreamIdle), 0);
}

#[tokio::test]
async fn a_request_without_a_time_limit_whose_answer_never_begins_ends_all_the_same() {
    let wire = Wire::with(idle).await;
    let answer = Client::to(wire.web.outbound).await.get(CART, "/").await;
    assert_eq!((answer.status(), answer.header("weft-reason")), (504, "STREAM_IDLE"), "{}", answer.text);
    assert!(answer.text.contains("for 1000 ms"), "{}", answer.text);
}

#[tokio::test]
async fn what_is_left_of_the_time_travels_to_the_app() {
    let wire = Wire::with(|rule| rule.timeouts.request_ms = Some(5_000)).await;
    for (given, at_most) in [(None, 5_000), (Some("2000"), 2_000), (Some("60000"), 5_000)] {
        let mut client = Client::to(wire.web.outbound).await;
        let mut request = get();
        if let Some(given) = given {
            request.headers_mut().insert("weft-deadline-ms", given.parse().unwrap());
        }
        let app = async {
            let mut app = wire.accept().await;
            let head = head(&mut app).await;
            app.write_all(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n").await.unwrap();
            head
        };
        let (answer, head) = tokio::join!(client.send(request), app);
        assert_eq!(answer.status(), 204);
        let left = head.lines().find_map(|line| line.strip_prefix("weft-deadline-ms: ")).expect("the app is told");
        let left: u64 = left.parse().unwrap();
        assert!(left <= at_most && left > at_most - 1_500, "{given:?}: {left}");
    }
}

#[tokio::test]
async fn a_grpc_caller_gets_the_deadline_it_asked_for() {
    let wire = Wire::with(|rule| rule.timeouts.request_ms = None).await;
    let request = Request::post("/shop.Cart/Get")
        .header("host", CART)
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "200m");
    let sent = Instant::now();
    let mut client = Client::to(wire.web.outbound).await;
    let answer = client.send(request.body(Full::default()).unwrap()).await;
    assert_eq!((answer.header("grpc-status"), answer.header("weft-reason")), ("4", "REQUEST_TIMEOUT"), "{answer:?}");
    assert!(sent.elapsed() >= Duration::from_millis(200) && sent.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn the_app_is_let_go_at_the_deadline_even_when_the_caller_cannot_say_so() {
    let wire = Wire::with(|rule| rule.timeouts.request_ms = Some(1_000)).await;
    let mut caller = TcpStream::connect(wire.web.outbound).await.unwrap();
    caller.write_all(format!("GET / HTTP/1.1\r\nhost: {CART}\r\n\r\n").as_bytes()).await.unwrap();
    let mut app = wire.accept().await;
    head(&mut app).await;
    let thaw = wire.web.freeze();
    let ended = tokio::time::timeout(Duration::from_secs(3), app.read(&mut [0])).await.expect("in time");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    let recorded = async {
        let late = |series: &proxy::record::Series| series.code == 504 && series.reason == RouteReason::RequestTimeout;
        while !wire.cart.state.counters.sum().keys().any(late) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(SOON, recorded).await.expect("the inbound proxy records it");
    drop(thaw);
}

/// Bytes nobody will read: more than all buffers on their way hold.
const BIG: usize = 64 << 20;
/// An app that cannot write for so long waits for its callers.
const STUCK: Duration = Duration::from_millis(300);

#[tokio::test]
async fn callers_who_do_not_read_hold_up_nobody_else() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let asked = until(&mut stream, "\r\n\r\n").await;
            let length = if asked.starts_with("GET /big ") { BIG } else { 10 };
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let chunk = vec![b'x'; length.min(1 << 16)];
            while let Ok(wrote) = tokio::time::timeout(STUCK, stream.write_all(&chunk)).await {
                if wrote.is_err() || length == 10 {
                    return;
                }
            }
            told.send(()).unwrap();
            std::future::pending().await
        }
    })
    .await;
    let mut callers = Vec::new();
    for _ in 0..8 {
        let mut caller = through.connect().await;
        caller.write_all(format!("GET /big HTTP/1.1\r\nhost: {CART}\r\n\r\n").as_bytes()).await.unwrap();
        callers.push(caller);
    }
    for _ in &callers {
        tokio::time::timeout(SOON * 2, heard.recv()).await.expect("the app is stuck").unwrap();
    }
    let mut other = through.connect().await;
    other.write_all(format!("GET /small HTTP/1.1\r\nhost: {CART}\r\n\r\n").as_bytes()).await.unwrap();
    let answer = until(&mut other, "xxxxxxxxxx").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}
