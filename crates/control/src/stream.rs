//! `GET /stream`: the Zones page as server-sent events. One serialised buffer serves every subscriber.

use crate::overview::Frame;
use crate::problem::{Answer, Refused};
use crate::rest::Shared;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, header};
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

/// A page that hears nothing for 12 s calls itself stale; two of these may get lost.
pub const BEAT: Duration = Duration::from_secs(5);
/// When a page may come back after a shutdown.
const RETRY_AFTER_MS: u64 = 800;

/// One event as text (HTML standard, section 9.2.5). `data` must be one line.
pub fn event(name: &str, id: Option<&str>, data: &str) -> String {
    match id {
        Some(id) => format!("event: {name}\nid: {id}\ndata: {data}\n\n"),
        None => format!("event: {name}\ndata: {data}\n\n"),
    }
}

/// A response that streams events.
pub fn response(body: Body) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

/// `GET /stream`, resumed with `Last-Event-ID` or `?after=`.
pub async fn stream(
    State(api): State<Shared>,
    Query(given): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Answer<Response> {
    let room = api.streams.clone().try_acquire_owned();
    let room = room.map_err(|_| Refused::unavailable("too many streams are open; close a page and try again"))?;
    let after = headers.get("last-event-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let after = after.or_else(|| given.get("after").cloned());

    let mut looking = api.board.subscribe();
    let hello = json!({"proto": 1, "server": api.site.zone().map_or("global", |zone| zone.as_str()),
        "epoch": api.board.epoch(), "gui": crate::gui::version()});
    let mut waiting = VecDeque::from([Bytes::from(event("hello", None, &hello.to_string()))]);
    let snapshot = looking.snapshot();
    if after.as_deref() != Some(&snapshot.id) {
        waiting.push_back(snapshot.text);
    }
    let state = (looking, waiting, Instant::now() + BEAT, room, false);
    let events = futures_util::stream::unfold(state, |(mut looking, mut waiting, beat, room, ended)| async move {
        if let Some(next) = waiting.pop_front() {
            return Some((Ok::<_, Infallible>(next), (looking, waiting, beat, room, ended)));
        }
        if ended {
            return None;
        }
        tokio::select! {
            () = sleep_until(beat) => {
                let text = event("beat", None, &json!({"at": process::clock::unix_ms()}).to_string());
                Some((Ok(text.into()), (looking, waiting, Instant::now() + BEAT, room, false)))
            }
            frame = looking.next() => {
                let (text, ended) = match frame {
                    Ok(Frame { text, .. }) => (text, false),
                    // Too slow for the ring: start over instead of queueing.
                    Err(RecvError::Lagged(_)) => (looking.snapshot().text, false),
                    Err(RecvError::Closed) => {
                        let bye = json!({"reason": "shutdown", "retryAfterMs": RETRY_AFTER_MS});
                        (event("bye", None, &bye.to_string()).into(), true)
                    }
                };
                Some((Ok(text), (looking, waiting, beat, room, ended)))
            }
        }
    });
    Ok(response(Body::from_stream(events)))
}
