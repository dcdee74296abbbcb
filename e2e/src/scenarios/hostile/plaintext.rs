//! HTTP/1 that is large, means two things, or is said drop by drop.

use super::doors::Door;
use super::ground::HOST;
use anyhow::Result;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How some connections ended.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Opened.
    pub opened: usize,
    /// Ended by the proxy.
    pub ended: usize,
    /// The last one, after this long.
    pub latest: Duration,
    /// The first answer.
    pub answer: String,
}

impl Ends {
    /// How the first answer began, and how it ended.
    pub fn words(&self) -> String {
        let mut lines = self.answer.lines();
        match (lines.next(), lines.next_back()) {
            (Some(first), Some(last)) => format!("{first} ... {last}"),
            (first, _) => first.unwrap_or("without an answer").to_owned(),
        }
    }

    /// And how further ones did.
    pub fn add(&mut self, more: Self) {
        let Self { opened, ended, latest, answer } = more;
        self.opened += opened;
        self.ended += ended;
        self.latest = self.latest.max(latest);
        if self.answer.is_empty() {
            self.answer = answer;
        }
    }
}

/// Opens `count` connections; each sends `first` and then `drip` every `pause`, until it is ended or `limit` is over. Their
/// pauses begin one after another, as with slowhttptest: drops of all at the same moment would be a flood.
pub async fn drip(
    door: Door,
    count: usize,
    first: Vec<u8>,
    drip: &'static [u8],
    pause: Duration,
    limit: Duration,
) -> Result<Ends> {
    let mut all = JoinSet::new();
    for i in 0..count {
        let (mut io, first) = (door.open().await?, first.clone());
        let later = if pause < limit { pause * i as u32 / count as u32 } else { Duration::ZERO };
        all.spawn(async move {
            sleep(later).await;
            let since = Instant::now();
            let mut answer = Vec::new();
            let over = timeout(limit, async {
                if io.write_all(&first).await.is_ok() {
                    loop {
                        tokio::select! {
                            read = io.read_buf(&mut answer) => if !matches!(read, Ok(1..)) { return },
                            () = sleep(pause) => if io.write_all(drip).await.is_err() { return },
                        }
                    }
                }
                let _ = io.read_to_end(&mut answer).await;
            });
            let ended = over.await.is_ok().then(|| since.elapsed());
            (ended, answer)
        });
    }
    let mut ends = Ends { opened: count, ..Ends::default() };
    while let Some(one) = all.join_next().await {
        let (ended, answer) = one?;
        if let Some(after) = ended {
            ends.ended += 1;
            ends.latest = ends.latest.max(after);
        }
        if ends.answer.is_empty() {
            ends.answer = String::from_utf8_lossy(&answer).into_owned();
        }
    }
    Ok(ends)
}

/// Requests that are too much of something.
pub fn bombs() -> Vec<(&'static str, Vec<u8>)> {
    let line = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n");
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ntransfer-encoding: chunked\r\n\r\n");
    let many: String = (0..5_000).map(|n| format!("x-{n}: y\r\n")).collect();
    [
        ("5,000 fields", format!("{line}{many}\r\n")),
        ("a field of 1 MiB", format!("{line}x: {}", "y".repeat(1 << 20))),
        ("a request line of 1 MiB", format!("GET /{}", "x".repeat(1 << 20))),
        ("cookies: 10,000 crumbs", format!("{line}connection: close\r\ncookie: {}\r\n\r\n", "a=1; ".repeat(10_000))),
        ("1 MiB of chunk extensions", format!("{post}1{}", ";x=y".repeat(1 << 18))),
        ("1 MiB of trailers", format!("{post}0\r\n{}", "x: yyyyyyyyyy\r\n".repeat(70_000))),
        ("a chunk of 16 EiB", format!("{post}ffffffffffffffff\r\nx")),
    ]
    .into_iter()
    .map(|(name, text)| (name, text.into_bytes()))
    .collect()
}

/// Requests that two servers could read differently; each tries to bring `/smuggled` to the app.
pub fn desync() -> Vec<String> {
    let lengths = [
        "content-length: 5\r\ncontent-length: 0",
        "content-length: 5\r\ncontent-length: 5",
        "content-length: 5, 5",
        "content-length: +5",
        "content-length: -1",
        "content-length: 0x5",
        "content-length: 5 5",
        "content-length: 5;",
        "content-length:",
        "content-length: 99999999999999999999",
        "content-length : 5",
        "content-length\t: 5",
        "content_length: 5",
        "Content-Length: \x0b5",
        "\x01content-length: 5",
    ];
    let codings = [
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked, identity",
        "transfer-encoding: identity",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: xchunked",
        "transfer-encoding: \"chunked\"",
        "transfer-encoding:\x0bchunked",
        "transfer-encoding: chunked\x00",
        "transfer-encoding : chunked",
        "transfer-encoding\t: chunked",
        " transfer-encoding: chunked",
        "x: y\r\n transfer-encoding: chunked",
        "x: y\ntransfer-encoding: chunked",
        "x: y\rtransfer-encoding: chunked",
        "transfer_encoding: chunked",
        "transfer-encoding: chunked;q=1",
        "transfer-encoding:",
        "transfer-encoding: chunked,",
        "transfer-encoding: , chunked",
        "\x01transfer-encoding: chunked",
    ];
    let hosts = ["host: other", "host:", "host: a, b", "host: a/b", "host: u@a", "host: a\r\nhost: b", "x\r\nhost: a"];
    let tail = "\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: cart.shop.mesh\r\n\r\n";
    let post = format!("POST / HTTP/1.1\r\nhost: {HOST}\r\n");
    let mut all: Vec<String> =
        lengths.iter().chain(&codings).chain(&hosts).map(|fields| format!("{post}{fields}{tail}")).collect();
    let lines = [
        "POST / HTTP/1.2",
        "POST / HTTP/0.9",
        "POST /",
        "POST  / HTTP/1.1",
        "POST / HTTP/1.1 ",
        "POST /#x HTTP/1.1",
        "POST x HTTP/1.1",
        "POST http://other/ HTTP/1.1",
        "POST ftp://x/ HTTP/1.1",
        "PO\x01T / HTTP/1.1",
        "POST /\tx HTTP/1.1",
        "POST / http/1.1",
    ];
    all.extend(lines.iter().map(|line| format!("{line}\r\nhost: {HOST}{tail}")));
    all.push(format!("POST / HTTP/1.0\r\nhost: {HOST}\r\ntransfer-encoding: chunked{tail}"));
    all.push(format!("POST / HTTP/1.1{tail}"));
    let chunked = format!("{post}transfer-encoding: chunked\r\n\r\n");
    let inner = "GET /smuggled HTTP/1.1\r\nhost: cart.shop.mesh\r\n\r\n";
    for chunk in [
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        "1 \r\n",
        "\n0\r\n",
        "1;\n0\r\n\r\n",
        "1\r\nab0\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\n\n",
    ] {
        all.push(format!("{chunked}{chunk}{inner}"));
    }
    all
}

/// One request, and what became of it.
pub struct Said {
    /// As it was sent.
    pub request: String,
    /// All that came back.
    pub answer: String,
    /// The proxy ended the connection.
    pub ended: bool,
}

/// Sends one request on a connection of its own, and reads until the proxy ends it or `limit` is over.
pub async fn say(door: Door, request: String, limit: Duration) -> Result<Said> {
    let mut io = door.open().await?;
    let mut answer = Vec::new();
    let ended = timeout(limit, async {
        let _ = io.write_all(request.as_bytes()).await;
        let _ = io.read_to_end(&mut answer).await;
    });
    let ended = ended.await.is_ok();
    Ok(Said { request, answer: String::from_utf8_lossy(&answer).into_owned(), ended })
}
