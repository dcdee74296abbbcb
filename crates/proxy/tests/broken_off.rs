//! An app that dies in the middle of an answer: whoever called must notice, and never take the part for the whole.
#![allow(clippy::unwrap_used)] // All of it is test.

mod stage;

use api::kinds::Protocol;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use stage::raw::{HOST, Sent, Then, Through, head, serve_http2, until};
use stage::{SOON, reset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const ASK: &str = "GET / HTTP/1.1\r\nhost: cart.shop.mesh\r\nconnection: close\r\n\r\n";
const LENGTH: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";

fn nothing() -> Sent {
    Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync()
}

/// Whether a caller of HTTP/1.1 takes this for a whole answer. An end before any answer is none.
fn whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    body.ends_with("0\r\n\r\n") || head.contains("content-length: 10\r\n") && body.len() >= 10
}

#[tokio::test]
async fn a_caller_of_http1_sees_that_something_is_missing() {
    for said in [LENGTH, CHUNKED] {
        for then in [Then::Closes, Then::Breaks] {
            let through = Through::saying(said, then).await;
            let answer = through.ask(ASK).await;
            assert!(!whole(&answer) || answer.starts_with("HTTP/1.1 502 "), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_came_before_the_end_is_passed_on() {
    for said in [LENGTH, CHUNKED] {
        let (end, ended) = tokio::sync::watch::channel(false);
        let through = Through::to(Protocol::Http, move |mut stream| {
            let mut ended = ended.clone();
            async move {
                if !head(&mut stream).await.is_empty() {
                    stream.write_all(said.as_bytes()).await.unwrap();
                    ended.wait_for(|ended| *ended).await.unwrap();
                }
            }
        })
        .await;
        let mut stream = through.connect().await;
        stream.write_all(ASK.as_bytes()).await.unwrap();
        let mut answer = until(&mut stream, "half").await;
        end.send_replace(true);
        let _ = timeout(SOON, stream.read_to_string(&mut answer)).await.expect("the connection ends");
        assert!(answer.starts_with("HTTP/1.1 200 ") && !whole(&answer), "{answer}");
    }
}

#[tokio::test]
async fn a_caller_of_http2_sees_its_stream_reset() {
    for said in [LENGTH, CHUNKED] {
        for then in [Then::Closes, Then::Breaks] {
            let through = Through::saying(said, then).await;
            let mut caller = through.http2().await;
            let request = Request::get(format!("http://{HOST}/")).body(nothing()).unwrap();
            // The stream may be reset before its answer was looked at.
            let Ok(response) = timeout(SOON, caller.send_request(request)).await.unwrap() else { continue };
            let status = response.status();
            let ended = timeout(SOON, response.into_body().collect()).await.unwrap();
            assert!(ended.is_err() || status == 502, "the body of {said:?} passed as whole");
        }
    }
}

#[tokio::test]
async fn a_stream_that_an_app_of_http2_resets_is_reset_for_the_caller() {
    let through = Through::to(Protocol::Http2, |stream| {
        serve_http2(stream, |_| async {
            let part: Result<_, stage::raw::Error> = Ok(Frame::data(Bytes::from_static(b"half")));
            let frames = [part, Err("enough".into())];
            Response::new(StreamBody::new(futures_util::stream::iter(frames)))
        })
    })
    .await;
    let mut caller = through.http2().await;
    let request = Request::get(format!("http://{HOST}/")).body(nothing()).unwrap();
    if let Ok(response) = timeout(SOON, caller.send_request(request)).await.unwrap() {
        let status = response.status();
        let ended = timeout(SOON, response.into_body().collect()).await.unwrap();
        assert!(ended.is_err() || status == 502, "{status}");
    }
    let answer = through.ask(ASK).await;
    assert!(!answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_caller_who_leaves_is_told_to_the_app() {
    let (left, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let left = left.clone();
        async move {
            if head(&mut stream).await.is_empty() {
                return;
            }
            // Whether before or within an answer: the connection to the app ends.
            let _ = stream.write_all(CHUNKED.as_bytes()).await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
            left.send(()).unwrap();
        }
    })
    .await;
    let mut stream = through.connect().await;
    stream.write_all(ASK.as_bytes()).await.unwrap();
    until(&mut stream, "half\r\n").await;
    reset(stream);
    timeout(SOON, heard.recv()).await.expect("the app hears of it").unwrap();
    let mut caller = through.http2().await;
    let request = Request::get(format!("http://{HOST}/")).body(nothing()).unwrap();
    let response = timeout(SOON, caller.send_request(request)).await.unwrap().unwrap();
    drop(response);
    timeout(SOON, heard.recv()).await.expect("the app hears of it").unwrap();
}

#[tokio::test]
async fn a_request_body_that_breaks_off_is_no_whole_one_for_the_app() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let all = until(&mut stream, "half").await;
            told.send(all.clone()).unwrap();
            let mut rest = all.into_bytes();
            let _ = stream.read_to_end(&mut rest).await;
            told.send(String::from_utf8(rest).unwrap()).unwrap();
        }
    })
    .await;
    for said in ["content-length: 10\r\n\r\nhalf", "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"] {
        let mut stream = through.connect().await;
        let request = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n{said}");
        stream.write_all(request.as_bytes()).await.unwrap();
        timeout(SOON, heard.recv()).await.expect("the app has the beginning").unwrap();
        drop(stream);
        let saw = timeout(SOON, heard.recv()).await.expect("the app's connection ends").unwrap();
        assert!(!saw.contains("\r\n0\r\n"), "{saw}");
    }
}
