//! Whoever takes time: silent connections, slow heads and slow bodies.

use super::doors::Door;
use super::ground::{Ground, HOST, Kind, aside};
use super::plaintext::{Ends, drip};
use super::{REFUSED, cost};
use crate::row::Row;
use anyhow::Result;
use bytes::Bytes;
use http::Request;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{Interval, interval, sleep, timeout};

/// Time for timers to be late on a busy machine.
const LATE: Duration = Duration::from_secs(1);
/// The default timeout of a request, which ends a slow body of an app: no pace could tell it from an honest stream.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_secs(1);
/// For how long attackers go on: longer than they may.
const PATIENCE: Duration = Duration::from_secs(12);
const CONNECTIONS: usize = 300;
const SILENT: usize = 2_000;
/// Streams of one connection (the bound for callers outside).
const STREAMS: usize = 100;
/// What somebody honest with a bad connection sends in a second: twice the least there must be.
const UPLOAD: &[u8] = &[b'.'; 2_048];
/// For how many seconds; longer than any of the others may take.
const UPLOADS: usize = 11;

/// Heads and bodies drop by drop, by the app and from outside.
pub async fn slow(ground: &Ground, thorough: bool, row: &mut Row) -> Result<()> {
    let (door, own) = (&ground.doors.outbound, ground.doors.outbound.clone());
    let act = aside(move || async move {
        let limit = REQUEST_TIMEOUT + 2 * LATE;
        let heads = drip(own.clone(), CONNECTIONS, head(), b"x", PAUSE, limit);
        let bodies = drip(own, CONNECTIONS, post(1_000_000), b"x", PAUSE, limit);
        match thorough {
            true => tokio::try_join!(heads, bodies),
            false => Ok((heads.await?, Ends::default())),
        }
    });
    let (ends, seen) = ground.watch(door, Kind::Attack, act).await?;
    let (heads, bodies) = ends?;
    all_ended(door, "heads", &heads, REFUSED, row);
    if thorough {
        all_ended(door, "bodies", &bodies, REQUEST_TIMEOUT, row);
    }
    cost(door, &seen, row);

    let door = &ground.doors.edge;
    let (own, tls) = (door.clone(), ground.doors.edge_tls.clone());
    let act =
        aside(move || async move { tokio::try_join!(Outsiders::new(own, CONNECTIONS), streams(tls, CONNECTIONS)) });
    let (ends, seen) = ground.watch(door, Kind::Attack, act).await?;
    let (outsiders, streams) = ends?;
    outsiders.judge(door, row);
    all_ended(door, "bodies by HTTP/2", &streams, REFUSED, row);
    cost(door, &seen, row);
    Ok(())
}

/// What became of callers without an identity.
pub struct Outsiders {
    silent: Ends,
    heads: Ends,
    bodies: Ends,
    honest: Ends,
}

impl Outsiders {
    /// So many that say nothing, so many with a slow head and with a slow body, and somebody honest with a bad connection.
    pub async fn new(door: Door, count: usize) -> Result<Self> {
        let (silent, heads, bodies, honest) = tokio::try_join!(
            drip(door.clone(), count, Vec::new(), b"", PATIENCE, PATIENCE),
            drip(door.clone(), count, head(), b"x", PAUSE, PATIENCE),
            drip(door.clone(), count, post(1_000_000), b"x", PAUSE, PATIENCE),
            drip(door, 1, post(UPLOAD.len() * UPLOADS), UPLOAD, PAUSE, PATIENCE),
        )?;
        Ok(Self { silent, heads, bodies, honest })
    }

    /// The first three must have been ended, and the last one served.
    pub fn judge(&self, door: &Door, row: &mut Row) {
        let Self { silent, heads, bodies, honest } = self;
        for (what, ends) in [("silent", silent), ("heads", heads), ("bodies", bodies)] {
            all_ended(door, what, ends, REFUSED, row);
        }
        for (what, ends) in [("heads", heads), ("bodies", bodies)] {
            let told = ends.answer.starts_with("HTTP/1.1 408 ");
            row.expect(told, format!("{}: slow {what} were answered {}", door.name, ends.words()));
        }
        let answer = honest.answer.lines().next().unwrap_or("nothing");
        row.expect(answer.starts_with("HTTP/1.1 200 "), format!("{}: honest, was answered {answer}", door.name));
        row.saw(format!("{:<8} {} bytes a second for {UPLOADS} s: {answer}", door.name, UPLOAD.len()));
    }
}

fn all_ended(door: &Door, what: &str, ends: &Ends, limit: Duration, row: &mut Row) {
    let (name, Ends { opened, ended, latest, .. }) = (door.name, ends);
    row.expect(ended == opened, format!("{name}: {what}: {ended} of {opened} were ended"));
    row.expect(*latest <= limit + LATE, format!("{name}: {what}: the last was ended after {latest:?}"));
    let (seconds, words) = (latest.as_secs_f64(), ends.words());
    row.saw(format!("{name:<8} {what}: {ended} of {opened} ended, the last after {seconds:.1} s: {words}"));
}

/// Connections that begin no handshake.
pub async fn silent(ground: &Ground, row: &mut Row) -> Result<()> {
    for door in ground.doors.handshakes() {
        let clear = door.in_clear();
        let act = aside(move || async move { drip(clear, SILENT, Vec::new(), b"", REFUSED * 2, REFUSED + LATE).await });
        let (ends, seen) = ground.watch(door, Kind::Attack, act).await?;
        all_ended(door, "silent", &ends?, REFUSED, row);
        cost(door, &seen, row);
    }
    Ok(())
}

/// A head that goes on for ever.
fn head() -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: ").into()
}

/// The head of a request with so long a body, and the last of its connection.
fn post(length: usize) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n").into()
}

/// A byte now and then, for ever.
struct Drops(Interval);

impl Body for Drops {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        ready!(self.0.poll_tick(cx));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"x")))))
    }
}

/// Slow bodies, as many on each connection as it may have open. One has ended when it was answered.
async fn streams(door: Door, count: usize) -> Result<Ends> {
    let (mut all, mut drivers) = (JoinSet::new(), JoinSet::new());
    for first in (0..count).step_by(STREAMS) {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(door.open().await?));
        let (sender, connection) = handshake.await?;
        drivers.spawn(connection);
        for i in first..count.min(first + STREAMS) {
            let mut sender = sender.clone();
            let later = PAUSE * i as u32 / count as u32;
            all.spawn(async move {
                sleep(later).await;
                let request = Request::post(format!("https://{HOST}/")).body(Drops(interval(PAUSE)))?;
                let since = Instant::now();
                let answered = timeout(PATIENCE, async {
                    let answer = sender.send_request(request).await?;
                    let status = answer.status();
                    let text = answer.into_body().collect().await?.to_bytes();
                    anyhow::Ok(format!("HTTP/2 {status}\n{}", String::from_utf8_lossy(&text)))
                });
                anyhow::Ok(answered.await.ok().map(|answer| (since.elapsed(), answer)))
            });
        }
    }
    let mut ends = Ends { opened: count, ..Ends::default() };
    while let Some(one) = all.join_next().await {
        let Some((after, answer)) = one?? else { continue };
        ends.add(Ends { opened: 0, ended: 1, latest: after, answer: answer? });
    }
    Ok(ends)
}
