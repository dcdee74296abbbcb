//! The reference pages are read off the code: kinds with their fields, reasons. `UPDATE=1` writes them.

use api::RouteReason;
use api::object::{Owner, Scope};
use policy::{KINDS, Kind};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// Levels of fields that are listed; deeper ones are seen in the schema.
const DEPTH_MAX: usize = 6;

#[test]
fn the_page_of_kinds_is_up_to_date() {
    let mut page = String::from(
        "# Kinds\n\nRead off the code; `UPDATE=1 cargo test -p policy --test reference` writes this page.\n\n| kind | in paths | owner |\n|---|---|---|\n",
    );
    for kind in KINDS {
        let _ = writeln!(
            page,
            "| [{0}](#{1}) | `{2}` | {3} |",
            kind.name,
            kind.name.to_lowercase(),
            kind.plural,
            owner(kind)
        );
    }
    KINDS.iter().for_each(|kind| section(kind, &mut page));
    hold("kinds.md", &page);
}

#[test]
fn the_page_of_reasons_is_up_to_date() {
    let mut page = String::from(
        "# Reasons\n\nWhy a request went where it went, or why it failed: the same word in the answer's `weft-reason` header, the access log, the metrics and \
         on the screen. Read off the code; `UPDATE=1 cargo test -p policy --test reference` writes this page.\n\n| reason | means |\n|---|---|\n",
    );
    for reason in RouteReason::ALL {
        let _ = writeln!(page, "| `{}` | {} |", reason.as_str(), reason.about());
    }
    hold("reasons.md", &page);
}

fn owner(kind: &Kind) -> &'static str {
    match kind.owner {
        Owner::Global => "global",
        Owner::Zone => "zone",
        Owner::Either => "either",
    }
}

fn section(kind: &Kind, page: &mut String) {
    let scope = match kind.scope {
        Scope::Global => "no mesh and no namespace",
        Scope::Namespaced => "in a namespace of a mesh",
    };
    let schema = serde_json::to_value((kind.schema)()).expect("a schema is JSON");
    let about = text(&schema["description"]);
    let _ = write!(page, "\n## {}\n\n{about}\n\n`{}`, {scope}.\n\n```yaml\n", kind.name, kind.api_version);
    let _ = write!(page, "apiVersion: {}\nkind: {}\nmetadata: {{name: example}}\nspec:\n", kind.api_version, kind.name);
    for line in kind.example.trim_end().lines() {
        let _ = writeln!(page, "  {line}");
    }
    page.push_str("```\n\n| field | |\n|---|---|\n");
    fields(&schema, &schema, "", &mut BTreeSet::new(), page);
}

/// One row a field, depth first; a type within itself is listed once.
fn fields(root: &Value, at: &Value, path: &str, within: &mut BTreeSet<String>, page: &mut String) {
    if path.matches('.').count() >= DEPTH_MAX {
        return;
    }
    let (at, name) = followed(root, at);
    if let Some(name) = &name
        && !within.insert(name.clone())
    {
        return;
    }
    for (field, value) in at["properties"].as_object().into_iter().flatten() {
        let full = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        let (inner, _) = followed(root, value);
        let about = if value["description"].is_string() { &value["description"] } else { &inner["description"] };
        let words = words(root, value);
        let words = if words.is_empty() { String::new() } else { format!(" One of {}.", words.join(", ")) };
        let _ = writeln!(page, "| `{full}` | {}{words} |", text(about));
        let (list, inner) = match &inner["items"] {
            Value::Null => ("", inner),
            items => ("[]", items),
        };
        fields(root, inner, &format!("{full}{list}"), within, page);
    }
    if let Some(name) = name {
        within.remove(&name);
    }
}

/// Through references and "or null".
fn followed<'a>(root: &'a Value, mut at: &'a Value) -> (&'a Value, Option<String>) {
    let mut name = None;
    loop {
        if let Some(reference) = at["$ref"].as_str() {
            name = reference.rsplit('/').next().map(str::to_owned);
            at = root.pointer(reference.trim_start_matches('#')).unwrap_or(&Value::Null);
        } else if let Some(some) = at["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["type"] != "null")) {
            at = some;
        } else {
            return (at, name);
        }
    }
}

/// Words of an enumeration.
fn words(root: &Value, at: &Value) -> Vec<String> {
    let (at, _) = followed(root, at);
    let plain = at["enum"].as_array().into_iter().flatten();
    let described = at["oneOf"].as_array().into_iter().flatten().map(|one| &one["const"]);
    plain.chain(described).filter_map(|word| Some(format!("`{}`", word.as_str()?))).collect()
}

fn text(about: &Value) -> String {
    about.as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

fn hold(file: &str, page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(written == page, "{file} is out of date; UPDATE=1 cargo test -p policy --test reference writes it");
}
