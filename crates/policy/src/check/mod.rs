//! Everything that can be wrong with a document, found without the text it came from.

mod envelope;
mod walk;

pub(crate) use envelope::check_document;

use crate::{Code, KINDS, Kind};
use api::Object;
use api::problem::Diagnostic;
use schemars::Schema;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// Everything wrong with an object, with the path of each field. Empty: it may be stored.
pub fn validate(object: &Object) -> Vec<Diagnostic> {
    match serde_json::to_value(object) {
        Ok(document) => check_document(&document),
        Err(error) => vec![diagnostic(Code::WrongType, "", error.to_string(), "")],
    }
}

/// Everything wrong with a spec of this kind. Field paths begin with `spec`.
pub fn check_spec(kind: &Kind, spec: &Value) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    walk::check(schema(kind), spec, "spec", &mut found);
    // What is wrong already is taken out, so that the rest can be read and checked too.
    let mut rest = spec.clone();
    found.iter().for_each(|wrong| remove(&mut rest, &wrong.field));
    match (kind.semantics)(&rest) {
        Ok(wrong) => found.extend(wrong.into_iter().map(|(field, what)| {
            let code = if field.contains("Ref") { Code::WrongTarget } else { Code::Contradiction };
            let (what, help) = what.split_once("; ").unwrap_or((&what, ""));
            let message =
                if what.starts_with("must ") { format!("`{}` {what}", last(&field)) } else { what.to_owned() };
            diagnostic(code, &format!("spec.{field}"), message, help)
        })),
        Err(_) if !found.is_empty() => {}
        Err(error) => found.push(diagnostic(Code::WrongType, "spec", error.to_string(), "")),
    }
    found
}

/// Takes the field at a path such as `spec.to[0].default` out of a spec. Entries of lists stay: without one, the others
/// would have other paths.
fn remove(spec: &mut Value, path: &str) {
    let pointer = path.strip_prefix("spec").unwrap_or(path).replace(['.', '['], "/").replace(']', "");
    let Some((parent, field)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(fields)) = spec.pointer_mut(parent) {
        fields.remove(field);
    }
}

/// Last field name of a path, without index.
fn last(at: &str) -> &str {
    let at = at.rsplit_once('.').map_or(at, |(_, last)| last);
    at.split_once('[').map_or(at, |(name, _)| name)
}

/// Schemas are derived once: a zone checks thousands of documents at a time.
fn schema(kind: &Kind) -> &'static Schema {
    static SCHEMAS: LazyLock<BTreeMap<&str, Schema>> =
        LazyLock::new(|| KINDS.iter().map(|kind| (kind.name, (kind.schema)())).collect());
    SCHEMAS.get(kind.name).expect("there is a schema for each row of the table")
}

fn diagnostic(code: Code, field: &str, message: String, help: &str) -> Diagnostic {
    Diagnostic { code: code.to_string(), message, field: field.into(), help: help.into(), ..Diagnostic::default() }
}

/// Least likeness of two words, 0.0 to 1.0, for one to be suggested for the other (Jaro-Winkler; rustc and clap draw
/// the line between 0.7 and 0.8).
const LIKENESS_MIN: f64 = 0.75;

/// The word somebody probably meant.
fn nearest<'a>(given: &str, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let lower = given.to_lowercase();
    let likeness = |word: &str| strsim::jaro_winkler(&lower, &word.to_lowercase());
    let best = words.into_iter().map(|word| (likeness(word), word)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then(|| best.1.to_owned())
}
