//! Between the engine's messages and the protocol's frames.

use api::sync_v1 as proto;
use api::sync_v1::frame::Body;
use sync::{Cursor, Delta, Down, Hello, Inventory, Key, Lineage, Reject, Up, Welcome};

/// A frame that lacks what every peer of this major version sends.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} is missing in a frame; does the peer speak the same protocol?")]
pub(crate) struct Malformed(pub &'static str);

/// What came on a channel.
pub(crate) enum Message {
    Up(Up),
    Down(Down),
}

pub(crate) fn cursor(cursor: Cursor) -> proto::Cursor {
    proto::Cursor { epoch: cursor.epoch, rev: cursor.rev }
}

pub(crate) fn read_cursor(cursor: Option<proto::Cursor>) -> Result<Cursor, Malformed> {
    let proto::Cursor { epoch, rev } = cursor.ok_or(Malformed("a cursor"))?;
    Ok(Cursor { epoch, rev })
}

pub(crate) fn lineage(lineage: Lineage) -> proto::Lineage {
    proto::Lineage { history: lineage.history, revision: lineage.revision }
}

pub(crate) fn read_lineage(lineage: Option<proto::Lineage>) -> Result<Lineage, Malformed> {
    let proto::Lineage { history, revision } = lineage.ok_or(Malformed("a lineage"))?;
    Ok(Lineage { history, revision })
}

pub(crate) fn rejects(rejects: Vec<Reject>) -> Vec<proto::Reject> {
    rejects.into_iter().map(|Reject { key, reason }| proto::Reject { key: key.to_string(), reason }).collect()
}

pub(crate) fn read_rejects(rejects: Vec<proto::Reject>) -> Vec<Reject> {
    rejects.into_iter().map(|proto::Reject { key, reason }| Reject { key: key.into(), reason }).collect()
}

pub(crate) fn delta(delta: Delta) -> proto::Delta {
    let Delta { from, upto, lineage: truth, compared, part, last, set, removed } = delta;
    let item = |(key, payload): (Key, _)| proto::Item { key: key.to_string(), payload };
    proto::Delta {
        upto: Some(cursor(upto)),
        set: set.into_iter().map(item).collect(),
        removed: removed.iter().map(Key::to_string).collect(),
        last,
        lineage: Some(lineage(truth)),
        part,
        from: Some(cursor(from)),
        compared,
    }
}

pub(crate) fn read_delta(delta: proto::Delta) -> Result<Delta, Malformed> {
    let proto::Delta { upto, set, removed, last, lineage, part, from, compared } = delta;
    Ok(Delta {
        from: read_cursor(from)?,
        upto: read_cursor(upto)?,
        lineage: read_lineage(lineage)?,
        compared,
        part,
        last,
        set: set.into_iter().map(|proto::Item { key, payload }| (key.into(), payload)).collect(),
        removed: removed.into_iter().map(Key::from).collect(),
    })
}

pub(crate) fn up(message: Up) -> Body {
    match message {
        Up::Hello(Hello { cursor: at, lineage: held, rejects: refused, compare }) => Body::Hello(proto::Hello {
            cursor: Some(cursor(at)),
            lineage: held.map(lineage),
            rejects: rejects(refused),
            compare,
        }),
        Up::Inventory(Inventory { at, part, held, last }) => {
            let held = held.into_iter().map(|(key, hash)| proto::Held { key: key.to_string(), hash });
            Body::Inventory(proto::Inventory { held: held.collect(), last, at: Some(cursor(at)), part })
        }
        Up::Ack { upto, rejects: refused } => {
            Body::Ack(proto::Ack { upto: Some(cursor(upto)), rejects: rejects(refused) })
        }
        Up::Decline { held } => Body::Decline(proto::Decline { held: Some(lineage(held)) }),
    }
}

pub(crate) fn down(message: Down) -> Body {
    match message {
        Down::Welcome(Welcome { lineage: truth, head }) => {
            Body::Welcome(proto::Welcome { lineage: Some(lineage(truth)), head: Some(cursor(head)) })
        }
        Down::Resync => Body::Resync(proto::Resync {}),
        Down::Delta(slice) => Body::Delta(delta(slice)),
    }
}

/// Reads what belongs to a channel; `None` for bodies that belong to the stream, and for those of a later minor
/// version.
pub(crate) fn read(body: Option<Body>) -> Result<Option<Message>, Malformed> {
    let message = match body {
        None | Some(Body::Open(_) | Body::Bye(_)) => return Ok(None),
        Some(Body::Hello(proto::Hello { cursor, lineage, rejects, compare })) => Message::Up(Up::Hello(Hello {
            cursor: read_cursor(cursor)?,
            lineage: lineage.map(|lineage| read_lineage(Some(lineage))).transpose()?,
            rejects: read_rejects(rejects),
            compare,
        })),
        Some(Body::Inventory(proto::Inventory { held, last, at, part })) => {
            let held = held.into_iter().map(|proto::Held { key, hash }| (key.into(), hash)).collect();
            Message::Up(Up::Inventory(Inventory { at: read_cursor(at)?, part, held, last }))
        }
        Some(Body::Ack(proto::Ack { upto, rejects })) => {
            Message::Up(Up::Ack { upto: read_cursor(upto)?, rejects: read_rejects(rejects) })
        }
        Some(Body::Decline(proto::Decline { held })) => Message::Up(Up::Decline { held: read_lineage(held)? }),
        Some(Body::Welcome(proto::Welcome { lineage, head })) => {
            Message::Down(Down::Welcome(Welcome { lineage: read_lineage(lineage)?, head: read_cursor(head)? }))
        }
        Some(Body::Resync(proto::Resync {})) => Message::Down(Down::Resync),
        Some(Body::Delta(slice)) => Message::Down(Down::Delta(read_delta(slice)?)),
    };
    Ok(Some(message))
}
