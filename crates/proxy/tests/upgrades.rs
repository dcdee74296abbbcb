//! Requests for another protocol: agreed, refused, ignored, and made with other methods than GET.
#![allow(clippy::unwrap_used)] // All of it is test.

mod stage;

use api::kinds::Protocol;
use stage::raw::{HOST, Then, Through, head, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn ask(method: &str, more: &str) -> String {
    format!("{method} /attach HTTP/1.1\r\nhost: {HOST}\r\nconnection: upgrade\r\nupgrade: tcp\r\n{more}\r\n")
}

#[tokio::test]
async fn an_app_that_ignores_an_upgrade_answers_as_always() {
    let through = Through::saying("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain", Then::Stays).await;
    let mut stream = through.connect().await;
    for _ in 0..2 {
        stream.write_all(ask("GET", "").as_bytes()).await.unwrap();
        let answer = until(&mut stream, "plain").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(!answer.contains("weft-status"), "{answer}");
    }
}

#[tokio::test]
async fn an_app_that_refuses_an_upgrade_is_heard() {
    let said = "HTTP/1.1 426 Upgrade Required\r\nsec-websocket-version: 13\r\ncontent-length: 2\r\n\r\nno";
    let through = Through::saying(said, Then::Stays).await;
    let mut stream = through.connect().await;
    stream.write_all(ask("GET", "").as_bytes()).await.unwrap();
    let answer = until(&mut stream, "\r\n\r\nno").await;
    assert!(answer.starts_with("HTTP/1.1 426 "), "{answer}");
    assert!(answer.contains("sec-websocket-version: 13\r\n"), "{answer}");
}

#[tokio::test]
async fn any_method_may_ask_and_the_answer_keeps_its_fields() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let head = head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            told.send(head).unwrap();
            let answer = "HTTP/1.1 101 UPGRADED\r\nconnection: Upgrade\r\nupgrade: tcp\r\nsec-websocket-protocol: chat\r\n\r\nhello";
            stream.write_all(answer.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.split();
            let _ = tokio::io::copy(&mut read, &mut write).await;
        }
    })
    .await;
    for method in ["GET", "POST"] {
        let mut stream = through.connect().await;
        let more = "sec-websocket-protocol: chat, other\r\nsec-websocket-extensions: permessage-deflate\r\n";
        stream.write_all(ask(method, more).as_bytes()).await.unwrap();
        let answer = until(&mut stream, "\r\n\r\nhello").await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("upgrade: tcp\r\n") && answer.contains("sec-websocket-protocol: chat\r\n"), "{answer}");
        let saw = heard.recv().await.unwrap();
        assert!(saw.starts_with(&format!("{method} /attach HTTP/1.1\r\n")), "{saw}");
        assert!(saw.contains("sec-websocket-protocol: chat, other\r\n"), "{saw}");
        assert!(saw.contains("sec-websocket-extensions: permessage-deflate\r\n"), "{saw}");
        stream.write_all(b"over").await.unwrap();
        assert_eq!(until(&mut stream, "over").await, "over");
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(stage::SOON, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn a_request_with_a_body_is_sent_without_its_wish() {
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let through = Through::to(Protocol::Http, move |mut stream| {
        let told = told.clone();
        async move {
            let head = head(&mut stream).await;
            if head.is_empty() {
                return;
            }
            told.send(head + &until(&mut stream, "body").await).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        }
    })
    .await;
    let mut stream = through.connect().await;
    let request = ask("POST", "content-length: 4\r\n") + "body";
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = until(&mut stream, "\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let saw = heard.recv().await.unwrap();
    assert!(saw.starts_with("POST ") && !saw.contains("upgrade: tcp"), "{saw}");
}
