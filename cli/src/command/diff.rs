//! `weft diff`: what applying would change, as text with `+` and `-`.

use crate::client::{Client, ClientError};
use crate::documents::{self, Document};
use crate::exit::{Exit, Failure};
use crate::output::yaml;
use api::Object;
use api::object::{MESH_LABEL, ZONE_LABEL};
use serde_json::Value;
use similar::TextDiff;
use std::path::PathBuf;

/// What applying one document would do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// It is not there yet.
    New,
    /// It is there and differs.
    Different,
    /// Nothing.
    Same,
}

impl Change {
    /// For tables.
    pub const fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Different => "changes",
            Self::Same => "unchanged",
        }
    }
}

/// Runs it.
pub async fn run(client: &Client, files: &[PathBuf]) -> Result<Exit, Failure> {
    let mut exit = Exit::Done;
    for document in &documents::read(files)? {
        let (change, text) = compare(client, document).await?;
        if change != Change::Same {
            exit = Exit::No;
            out!("{}: {}", document.title(), change.word());
            out!("{}", text.trim_end());
        }
    }
    Ok(exit)
}

/// Compares one document with what is stored.
pub async fn compare(client: &Client, document: &Document) -> Result<(Change, String), Failure> {
    let stored = match client.get(&document.path()).await {
        Ok(stored) => Some(stored),
        Err(ClientError::Problem(problem)) if problem.status == 404 => None,
        Err(error) => return Err(error.into()),
    };
    let ours = plain(serde_json::to_value(&document.object).expect("a document is plain data"));
    let theirs = stored.map(plain);
    let change = match &theirs {
        None => Change::New,
        Some(theirs) if *theirs == ours => Change::Same,
        Some(_) => Change::Different,
    };
    let (before, after) = (theirs.as_ref().map(yaml).unwrap_or_default(), yaml(&ours));
    let text = TextDiff::from_lines(before.as_str(), after.as_str())
        .unified_diff()
        .header(&format!("{} at {}", document.title(), client.server()), "your file")
        .to_string();
    Ok((change, if change == Change::Same { String::new() } else { text }))
}

/// Without what Weft writes itself and with what it fills in, so that only the author's wishes are compared.
fn plain(value: Value) -> Value {
    let Ok(mut object) = serde_json::from_value::<Object>(value.clone()) else { return value };
    object.status = None;
    object.metadata.revision = None;
    object.metadata.labels.remove(ZONE_LABEL);
    if object.metadata.labels.get(MESH_LABEL).is_some_and(|mesh| mesh == "default") {
        object.metadata.labels.remove(MESH_LABEL);
    }
    if policy::kind(&object.kind).is_some_and(|kind| kind.scope == api::object::Scope::Namespaced) {
        object.metadata.namespace.get_or_insert_default();
    }
    serde_json::to_value(object).expect("a document is plain data")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_weft_writes_itself_is_no_difference() {
        let ours =
            json!({"apiVersion": "weft.dev/v1", "kind": "Timeout", "metadata": {"name": "a"}, "spec": {"to": []}});
        let theirs = json!({
            "apiVersion": "weft.dev/v1", "kind": "Timeout", "status": {"accepted": true}, "spec": {"to": []},
            "metadata": {"name": "a", "namespace": "default", "revision": 7, "labels": {"weft.dev/mesh": "default"}},
        });
        assert_eq!(plain(ours), plain(theirs));
    }
}
