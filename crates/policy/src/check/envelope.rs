//! What surrounds a spec: apiVersion, kind, metadata.

use super::{diagnostic, nearest};
use crate::{Code, KINDS, Kind};
use api::name::{MeshName, Name, NameError, Namespace, ZoneName};
use api::object::{LABELS_MAX, MESH_LABEL, Scope, ZONE_LABEL};
use api::problem::Diagnostic;
use serde_json::{Map, Value};

/// Labels with this prefix are Weft's.
const RESERVED_PREFIX: &str = "weft.dev/";
const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
const METADATA_FIELDS: [&str; 5] = ["name", "namespace", "labels", "annotations", "revision"];

/// Everything wrong with a whole document.
pub(crate) fn check_document(document: &Value) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let Some(fields) = document.as_object() else {
        let what = format!("a document is a map with {}", FIELDS[..4].join(", "));
        return vec![diagnostic(Code::WrongType, "", what, "")];
    };
    unknown_fields(fields, "", &FIELDS, &mut found);
    let kind = check_kind(fields, &mut found);
    match fields.get("metadata") {
        Some(Value::Object(metadata)) => check_metadata(metadata, kind, &mut found),
        Some(_) => found.push(diagnostic(Code::WrongType, "metadata", "metadata is a map".into(), "")),
        None => {
            let help = "add metadata with at least a name";
            found.push(diagnostic(Code::Missing, "metadata", "metadata is missing".into(), help));
        }
    }
    if let Some(kind) = kind {
        match fields.get("spec") {
            // A Mesh or Zone without a spec means its defaults.
            None | Some(Value::Null) => found.extend((kind.check)(&Value::Object(Map::new()))),
            Some(spec) => found.extend((kind.check)(spec)),
        }
    }
    found
}

fn check_kind(fields: &Map<String, Value>, found: &mut Vec<Diagnostic>) -> Option<&'static Kind> {
    let text = |field: &str, found: &mut Vec<Diagnostic>| match fields.get(field) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(_) => {
            found.push(diagnostic(Code::WrongType, field, format!("{field} is a text"), ""));
            None
        }
        None => {
            found.push(diagnostic(Code::Missing, field, format!("{field} is missing"), ""));
            None
        }
    };
    let api_version = text("apiVersion", found);
    let name = text("kind", found)?;
    let Some(kind) = crate::kind(&name) else {
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        let help = format!("known kinds: {}", known.join(", "));
        let mut wrong = diagnostic(Code::UnknownKind, "kind", format!("unknown kind `{name}`"), &help);
        wrong.suggestion = nearest(&name, known);
        found.push(wrong);
        return None;
    };
    if let Some(given) = api_version
        && given != kind.api_version
    {
        let what = format!("{name} has no version `{given}`");
        let mut wrong = diagnostic(Code::UnknownKind, "apiVersion", what, &format!("expected {}", kind.api_version));
        wrong.suggestion = Some(kind.api_version.into());
        found.push(wrong);
    }
    Some(kind)
}

fn check_metadata(metadata: &Map<String, Value>, kind: Option<&Kind>, found: &mut Vec<Diagnostic>) {
    unknown_fields(metadata, "metadata.", &METADATA_FIELDS, found);
    match metadata.get("name") {
        None => found.push(diagnostic(Code::Missing, "metadata.name", "the name is missing".into(), "")),
        Some(name) => {
            check_name::<Name>(name, "metadata.name", found);
            match kind.map(|kind| kind.name) {
                Some("Mesh") => reserved::<MeshName>(name, found),
                Some("Zone") => reserved::<ZoneName>(name, found),
                _ => {}
            }
        }
    }
    let global = kind.filter(|kind| kind.scope == Scope::Global);
    if let Some(namespace) = metadata.get("namespace") {
        match global {
            Some(kind) => {
                let what = format!("a {} is in no namespace", kind.name);
                found.push(diagnostic(Code::Scope, "metadata.namespace", what, "remove this line"));
            }
            None => check_name::<Namespace>(namespace, "metadata.namespace", found),
        }
    }
    if let Some(revision) = metadata.get("revision")
        && !revision.is_u64()
    {
        found.push(diagnostic(Code::WrongType, "metadata.revision", "a revision is a whole number".into(), ""));
    }
    for field in ["labels", "annotations"] {
        if let Some(labels) = metadata.get(field) {
            check_labels(labels, field, global, found);
        }
    }
}

fn check_labels(labels: &Value, field: &str, global: Option<&Kind>, found: &mut Vec<Diagnostic>) {
    let at = format!("metadata.{field}");
    let Some(labels) = labels.as_object() else {
        found.push(diagnostic(Code::WrongType, &at, format!("{field} are a map from name to text"), ""));
        return;
    };
    if labels.len() > LABELS_MAX {
        let what = format!("{} {field}; at most {LABELS_MAX} are allowed", labels.len());
        found.push(diagnostic(Code::OutOfRange, &at, what, ""));
    }
    for (name, value) in labels {
        let at = format!("{at}.{name}");
        if !value.is_string() {
            let mut wrong = diagnostic(Code::WrongType, &at, format!("`{value}` is no text"), "put it in quotes");
            wrong.suggestion = (!value.is_object() && !value.is_array()).then(|| format!("\"{value}\""));
            found.push(wrong);
            continue;
        }
        if field == "annotations" || !name.starts_with(RESERVED_PREFIX) {
            continue;
        }
        match (name.as_str(), global) {
            (MESH_LABEL | ZONE_LABEL, Some(kind)) => {
                let what = format!("a {} is in no mesh and no zone", kind.name);
                found.push(diagnostic(Code::Scope, &at, what, "remove this line"));
            }
            (MESH_LABEL, None) => check_name::<MeshName>(value, &at, found),
            (ZONE_LABEL, None) => check_name::<ZoneName>(value, &at, found),
            _ => {
                let what = format!("label `{name}` is reserved");
                let help = format!("labels beginning with {RESERVED_PREFIX} are set by Weft; choose another name");
                let mut wrong = diagnostic(Code::ReservedLabel, &at, what, &help);
                let word = name.trim_start_matches(RESERVED_PREFIX);
                wrong.suggestion = nearest(word, ["mesh"]).map(|_| MESH_LABEL.to_owned());
                found.push(wrong);
            }
        }
    }
}

fn unknown_fields(fields: &Map<String, Value>, at: &str, known: &[&str], found: &mut Vec<Diagnostic>) {
    for field in fields.keys().filter(|field| !known.contains(&field.as_str())) {
        let help = format!("not one of: {}", known.join(", "));
        let mut wrong =
            diagnostic(Code::UnknownField, &format!("{at}{field}"), format!("unknown field `{field}`"), &help);
        wrong.suggestion = nearest(field, known.iter().copied());
        found.push(wrong);
    }
}

fn check_name<T: std::str::FromStr<Err = NameError>>(value: &Value, at: &str, found: &mut Vec<Diagnostic>) {
    let Some(text) = value.as_str() else {
        let mut wrong = diagnostic(Code::WrongType, at, format!("`{value}` is no text"), "put it in quotes");
        wrong.suggestion = value.is_number().then(|| format!("\"{value}\""));
        found.push(wrong);
        return;
    };
    if let Err(error) = text.parse::<T>() {
        found.push(wrong_name(at, &error));
    }
}

/// Says only what [`check_name`] of a plain name has not said already.
fn reserved<T: std::str::FromStr<Err = NameError>>(value: &Value, found: &mut Vec<Diagnostic>) {
    if let Some(Err(error @ NameError::Reserved { .. })) = value.as_str().map(str::parse::<T>) {
        found.push(wrong_name("metadata.name", &error));
    }
}

/// A name that was refused; the part after the colon says what to do.
pub(super) fn wrong_name(at: &str, error: &NameError) -> Diagnostic {
    let text = error.to_string();
    let (what, help) = text.split_once(": ").or_else(|| text.split_once("; ")).unwrap_or((&text, ""));
    let mut wrong = diagnostic(Code::WrongName, at, what.into(), help);
    if let NameError::Shape { given, .. } = error {
        let fitting = given.to_lowercase().replace(['_', '.', ' '], "-");
        let fitting = fitting.trim_matches('-');
        wrong.suggestion = fitting.parse::<Name>().ok().map(|name| name.to_string());
    }
    wrong
}
