//! What a message keeps on its way from a caller's protocol through HTTP/2 between proxies to the app's.
#![allow(clippy::unwrap_used)] // All of it is test.

mod stage;

use api::kinds::Protocol;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use stage::SOON;
use stage::raw::{Error, HOST, Sent, Then, Through, head, serve_http2, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

fn full(text: &'static str) -> Sent {
    Full::new(Bytes::from_static(text.as_bytes())).map_err(|never| match never {}).boxed_unsync()
}

fn with_trailers(text: &'static str, name: &'static str) -> Sent {
    let trailers = HeaderMap::from_iter([(name.parse().unwrap(), "7".parse().unwrap())]);
    let frames: [Result<_, Error>; 2] =
        [Ok(Frame::data(Bytes::from_static(text.as_bytes()))), Ok(Frame::trailers(trailers))];
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

#[tokio::test]
async fn trailers_pass_from_http1_to_http1_both_ways() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let head = head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            let body = until(&mut stream, "\r\n\r\n").await;
            told.send(head + &body).unwrap();
            let answer = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let request = format!(
        "POST / HTTP/1.1\r\nhost: {HOST}\r\nte: trailers\r\nconnection: te, close\r\ntrailer: x-check\r\ntransfer-encoding: chunked\r\n\r\n\
         3\r\nask\r\n0\r\nx-check: 7\r\n\r\n"
    );
    let answer = through.ask(&request).await;
    let saw = heard.recv().await.unwrap();
    assert!(saw.contains("\r\nx-check: 7\r\n"), "the app saw {saw}");
    assert!(answer.contains("\r\n0\r\nx-sum: 9\r\n\r\n"), "the caller saw {answer}");
}

#[tokio::test]
async fn trailers_pass_between_http2_and_http1() {
    let answer =
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n";
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let head = head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            told.send(head + &until(&mut stream, "\r\n\r\n").await).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mut caller = through.http2().await;
    let request = Request::post(format!("http://{HOST}/")).header("te", "trailers").header("trailer", "x-check");
    let response = caller.send_request(request.body(with_trailers("ask", "x-check")).unwrap());
    let body = timeout(SOON, response).await.unwrap().unwrap().into_body();
    let all = timeout(SOON, body.collect()).await.unwrap().unwrap();
    assert_eq!(all.trailers().unwrap()["x-sum"], "9");
    let saw = heard.recv().await.unwrap();
    assert!(saw.contains("\r\nx-check: 7\r\n"), "the app saw {saw}");
}

#[tokio::test]
async fn trailers_of_an_app_of_http2_reach_a_caller_of_http1_that_takes_them() {
    let through = Through::to(Protocol::Http2, |stream| {
        serve_http2(stream, |_| async {
            let mut answer = Response::new(with_trailers("ok", "x-sum"));
            answer.headers_mut().insert("trailer", "x-sum".parse().unwrap());
            answer
        })
    })
    .await;
    let ask = |te: &str| format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{te}connection: close\r\n\r\n");
    let answer = through.ask(&ask("te: trailers\r\n")).await;
    assert!(answer.contains("\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    let answer = through.ask(&ask("")).await;
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_answer_without_length_or_body_stays_so() {
    let through = Through::saying("HTTP/1.1 200 OK\r\ncontent-length: 42\r\n\r\n", Then::Stays).await;
    let answer = through.ask(&format!("HEAD / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.contains("content-length: 42\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    let through = Through::saying("HTTP/1.1 200 OK\r\n\r\n", Then::Stays).await;
    let answer = through.ask(&format!("HEAD / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")).await;
    assert!(!answer.contains("content-length"), "nobody knows it: {answer}");
    for status in ["204 No Content", "304 Not Modified"] {
        let said: &'static str = format!("HTTP/1.1 {status}\r\netag: a\r\n\r\n").leak();
        let through = Through::saying(said, Then::Stays).await;
        let answer = through.ask(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn an_old_caller_is_answered_in_its_own_version() {
    let said = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let through = Through::saying(said, Then::Stays).await;
    let answer = through.ask(&format!("GET / HTTP/1.0\r\nhost: {HOST}\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!answer.contains("transfer-encoding"), "{answer}");
}

#[tokio::test]
async fn an_old_app_is_understood() {
    let through = Through::saying("HTTP/1.0 200 OK\r\n\r\nok", Then::Closes).await;
    let answer = through.ask(&format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("ok"), "{answer}");
}

#[tokio::test]
async fn crumbs_of_a_cookie_are_one_header_for_http1() {
    let (through, mut heard) = Through::hearing("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let mut caller = through.http2().await;
    let request = Request::get(format!("http://{HOST}/")).header("cookie", "a=1").header("cookie", "b=2");
    let response = timeout(SOON, caller.send_request(request.body(full("")).unwrap())).await.unwrap().unwrap();
    assert_eq!(response.status(), 200);
    let saw = heard.recv().await.unwrap();
    assert!(saw.contains("\r\ncookie: a=1; b=2\r\n"), "RFC 9113 section 8.2.3: {saw}");
}

#[tokio::test]
async fn a_question_about_the_whole_server_stays_one() {
    let (through, mut heard) = Through::hearing("HTTP/1.1 204 No Content\r\nallow: GET\r\n\r\n").await;
    let answer = through.ask(&format!("OPTIONS * HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let saw = heard.recv().await.unwrap();
    assert!(saw.starts_with("OPTIONS * HTTP/1.1\r\n"), "{saw}");
}

#[tokio::test]
async fn a_caller_that_waits_for_a_word_gets_it_and_the_app_the_body() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let head = head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            if head.contains("expect: 100-continue") {
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
            }
            let body = until(&mut stream, "body").await;
            told.send(head + &body).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let mut stream = through.connect().await;
    let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(until(&mut stream, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"body").await.unwrap();
    let answer = until(&mut stream, "ok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let saw = heard.recv().await.unwrap();
    assert!(saw.ends_with("\r\n\r\nbody"), "{saw}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_request_reaches_the_caller() {
    let refuse = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
    let through = Through::saying(refuse, Then::Stays).await;
    for expect in ["", "expect: 100-continue\r\n"] {
        let mut stream = through.connect().await;
        let head = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{expect}content-length: 1000000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = until(&mut stream, "\r\n\r\n").await;
        if answer.starts_with("HTTP/1.1 100 ") {
            answer = until(&mut stream, "\r\n\r\n").await;
        }
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    }
}

#[tokio::test]
async fn bytes_that_are_no_http_get_no_answer() {
    let through = Through::saying("HTTP/1.1 200 OK\r\n\r\n", Then::Stays).await;
    let mut stream = through.connect().await;
    stream.write_all(b"INVALID CONNECTION PREFACE\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn an_app_that_ends_its_http2_connections_in_good_order_costs_no_request() {
    // As servers of gRPC do with connections of a certain age.
    let through = Through::to(Protocol::Http2, |stream| async {
        let service = hyper::service::service_fn(|_| async {
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(b"ok"))))
        });
        let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let mut connection = std::pin::pin!(builder.serve_connection(hyper_util::rt::TokioIo::new(stream), service));
        let age = tokio::time::sleep(std::time::Duration::from_millis(20));
        tokio::select! {
            _ = connection.as_mut() => return,
            () = age => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    })
    .await;
    let mut caller = through.http2().await;
    for i in 0..300 {
        let request = Request::post(format!("http://{HOST}/")).body(full("x")).unwrap();
        let response = timeout(SOON, caller.send_request(request)).await.unwrap().unwrap();
        assert_eq!(response.status(), 200, "request {i}: {:?}", response.headers());
        timeout(SOON, response.into_body().collect()).await.unwrap().unwrap();
    }
}
