//! `?watch=true`: a list that never ends. First everything as `put`, then each change as it happens.

use super::Shared;
use super::listing::Query;
use crate::objects::{Difference, Objects};
use crate::problem::{Answer, Refused};
use crate::stream;
use api::{Key, Object};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use policy::Kind;
use std::sync::Arc;

/// Starts a watch. Follows the state itself, so a slow reader gets fewer, newer events and costs no queue.
pub(super) fn watch(api: Shared, kind: &'static Kind, query: Query) -> Answer<Response> {
    let room = api.streams.clone().try_acquire_owned();
    let room = room.map_err(|_| Refused::unavailable("too many streams are open; close one and try again"))?;
    let objects = api.objects.clone();
    let start = (objects, Objects::default(), room);
    let stream = futures_util::stream::unfold(start, move |(mut objects, before, room)| {
        let query = query.clone();
        async move {
            loop {
                let now = objects.borrow_and_update().clone();
                let text = events(&now, &before, kind, &query);
                if !text.is_empty() {
                    return Some((
                        Ok::<_, std::convert::Infallible>(Bytes::from(text)),
                        (objects, (*now).clone(), room),
                    ));
                }
                tokio::select! {
                    changed = objects.changed() => if changed.is_err() { return None },
                    () = tokio::time::sleep(stream::BEAT) => {
                        return Some((Ok(Bytes::from_static(b": still here\n\n")), (objects, before, room)));
                    }
                }
            }
        }
    });
    Ok(stream::response(Body::from_stream(stream)))
}

fn events(now: &Objects, before: &Objects, kind: &Kind, query: &Query) -> String {
    let mut text = String::new();
    let wanted = |key: &Key, object: &Arc<Object>| key.kind == kind.name && query.matches(key, object);
    for difference in now.since(before) {
        let (event, data) = match &difference {
            Difference::Put(key, object) if wanted(key, object) => ("put", serde_json::to_string(&**object)),
            // Changed so that it is no longer asked for, or gone.
            Difference::Put(key, _) | Difference::Delete(key) => match before.items.get(key) {
                Some(old) if wanted(key, old) => {
                    ("delete", serde_json::to_string(&serde_json::json!({ "key": key, "object": **old })))
                }
                _ => continue,
            },
        };
        if let Ok(data) = data {
            text.push_str(&stream::event(event, Some(&now.revision.to_string()), &data));
        }
    }
    text
}
