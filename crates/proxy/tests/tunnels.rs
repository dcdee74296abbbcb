//! CONNECT, as an app uses it that was told `http_proxy` or speaks to its proxy itself.

#![allow(clippy::unwrap_used)]

mod stage;

use api::kinds::Protocol;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use stage::raw::{HOST, Sent, Through, until};
use stage::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

fn connect(to: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n")
}

/// An app of bytes: says who it is, then everything twice.
async fn parrot() -> Through {
    Through::to(Protocol::Tcp, |mut stream| async move {
        stream.write_all(b"parrot:").await.unwrap();
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).await.unwrap();
        stream.write_all(&bytes.repeat(2)).await.unwrap();
    })
    .await
}

/// The rest of what comes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    text
}

#[tokio::test]
async fn a_tunnel_carries_bytes_both_ways_and_each_end() {
    let through = parrot().await;
    let mut stream = through.connect().await;
    // What is sent with the request waits for the tunnel.
    stream.write_all((connect(&format!("{HOST}:80")) + "early, ").as_bytes()).await.unwrap();
    let answer = until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
    assert_eq!(until(&mut stream, "parrot:").await, "parrot:", "a server that speaks first");
    stream.write_all(b"late. ").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, "early, late. early, late. ");
    recorded(&through.web.state, |flows| flows.iter().map(|flow| flow.requests).sum::<u64>() == 1).await;
}

#[tokio::test]
async fn requests_in_a_tunnel_are_requests() {
    let through = Through::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", raw::Then::Stays).await;
    let mut stream = through.connect().await;
    stream.write_all(connect(&format!("{HOST}:80")).as_bytes()).await.unwrap();
    until(&mut stream, "\r\n\r\n").await;
    for _ in 0..2 {
        stream.write_all(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n").as_bytes()).await.unwrap();
        let answer = until(&mut stream, "hello").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("weft-zone: west\r\n"), "{answer}");
    }
    // It is no way around the gate, and leads nowhere else.
    stream.write_all(connect(&format!("{HOST}:80")).as_bytes()).await.unwrap();
    let answer = until(&mut stream, "its name").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("at the proxy's own address only"), "{answer}");
    let requests: u64 = through.web.state.counters.flows().iter().map(|flow| flow.requests).sum();
    assert_eq!(requests, 2);
}

#[tokio::test]
async fn a_tunnel_over_http2_is_one_stream() {
    let through = parrot().await;
    let mut sender = through.http2().await;
    let request = Request::connect(format!("{HOST}:80")).version(Version::HTTP_2);
    let response = sender.send_request(request.body(Sent::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 200);
    let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    tunnel.write_all(b"hi ").await.unwrap();
    tunnel.shutdown().await.unwrap();
    let mut text = String::new();
    timeout(SOON, tunnel.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "parrot:hi hi ");
}

#[tokio::test]
async fn a_tunnel_that_cannot_be_is_refused_with_the_reason() {
    let mut through = parrot().await;
    for (to, status, reason, words) in [
        ("nobody.shop.mesh:80", 404, "NO_ROUTE", "no service is called `nobody.shop.mesh:80`"),
        ("example.com:443", 404, "NO_ROUTE", "no service is called `example.com:443`"),
        ("cart.shop.mesh:81", 404, "NO_ROUTE", "has no port 81; it has 80"),
        ("cart.shop.mars.mesh:80", 404, "NO_ROUTE", "no service is called"),
        ("cart.shop.mesh", 400, "BAD_REQUEST", "CONNECT needs a port"),
    ] {
        let answer = through.ask(&connect(to).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{to}: {answer}");
        assert!(answer.contains(&format!("weft-reason: {reason}\r\n")) && answer.contains(words), "{to}: {answer}");
    }
    through.cart.kill();
    let answer =
        through.ask(&connect(&format!("{HOST}:80")).replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("weft-reason: CONNECT_FAILED\r\n"), "{answer}");
}

#[tokio::test]
async fn a_tunnel_over_http2_is_refused_with_the_reason() {
    let through = parrot().await;
    let mut sender = through.http2().await;
    let request = Request::connect("nobody.shop.mesh:80").version(Version::HTTP_2);
    let response = sender.send_request(request.body(Sent::default()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 404);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&text).contains("no service is called"), "{text:?}");
}
