//! How the traffic of a channel is shown.

use serde_json::{Value, json};
use sync_grpc::Progress;

/// One published channel, for `/status`.
pub fn channel(progress: &Progress) -> Value {
    let rejects: Vec<Value> =
        progress.rejects.iter().map(|reject| json!({"item": &*reject.key, "reason": reject.reason})).collect();
    json!({
        "ackedRevision": progress.acked.map(|cursor| cursor.rev),
        "sentItems": progress.sent_items,
        "sentBytes": progress.sent_bytes,
        "rejects": rejects,
    })
}
