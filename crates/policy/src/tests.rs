//! Facts about every kind, and the cases in the kinds' folders.

use crate::{Around, Code, Diagnostic, KINDS, Kind, Lower, Settings, ZoneAround, document, validate};
use api::Object;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};

#[test]
fn every_kind_documents_itself_with_a_valid_example() {
    for kind in KINDS {
        let text = kind.document();
        let read = document::read("example.yaml", &text);
        assert_eq!(read.diagnostics, [], "{}", document::render(&text, &read.diagnostics));
        assert_eq!(read.objects.len(), 1, "{}", kind.name);
        assert_eq!(validate(&read.objects[0]), [], "{}", kind.name);
    }
}

#[test]
fn every_field_of_every_kind_is_explained() {
    fn explained(at: &str, schema: &Value) {
        for (field, about) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            assert!(
                about.get("description").is_some() || about.get("const").is_some(),
                "{at}.{field} has no doc comment"
            );
        }
    }
    for kind in KINDS {
        let schema = (kind.schema)();
        explained(kind.name, schema.as_value());
        for (name, definition) in schema.get("$defs").and_then(Value::as_object).into_iter().flatten() {
            explained(name, definition);
        }
    }
}

#[test]
fn names_plurals_and_codes_are_unique() {
    let names: BTreeSet<_> = KINDS.iter().flat_map(|kind| [kind.name, kind.plural]).collect();
    assert_eq!(names.len(), KINDS.len() * 2);
    let codes: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(codes.len(), Code::ALL.len());
    for kind in KINDS {
        assert_eq!(crate::kind(kind.name).unwrap().plural, kind.plural);
        assert_eq!(crate::by_plural(kind.plural).unwrap().name, kind.name);
    }
}

#[test]
fn a_policy_without_values_changes_nothing() {
    let around = around(&json!({"zone": "west"}));
    let mut settings = Settings::default();
    for kind in KINDS {
        if let Lower::Outbound { lower, .. } = kind.lower {
            lower(&json!({}), &mut settings, &around).unwrap();
        }
    }
    assert_eq!(settings, Settings::default());
}

#[test]
fn every_mistake_of_a_file_is_found_and_marked_where_it_stands() {
    let text = "apiVersion: weft.dev/v1\nkind: Timeout\nmetadata: {name: a}\nspec:\n  to:\n    - targetRef: {kind: Mesh}\n      default: {requst: 1s, connect: 5}\n---\nkind: [\n---\napiVersion: weft.dev/v1\nkind: Timeuot\nmetadata: {name: B_c}\n";
    let read = document::read("f.yaml", text);
    let marked: Vec<(&str, usize, &str)> = read
        .diagnostics
        .iter()
        .map(|diagnostic| {
            let place = diagnostic.place.as_ref().unwrap();
            (diagnostic.code.as_str(), place.line, &text[place.offset..place.offset + place.length])
        })
        .collect();
    assert_eq!(read.objects, []);
    assert_eq!(
        marked,
        [("W1101", 7, "requst"), ("W1104", 7, "5"), ("W1100", 9, "["), ("W1107", 12, "Timeuot"), ("W1105", 13, "B_c"),]
    );
}

#[test]
fn columns_count_characters_and_offsets_count_bytes() {
    let text = "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: a, annotations: {note: \"größe\"}, nmae: b}\n";
    let place = document::read("f.yaml", text).diagnostics[0].place.clone().unwrap();
    assert_eq!((place.line, place.column), (3, 51));
    assert_eq!(&text[place.offset..place.offset + place.length], "nmae");
}

#[test]
fn what_is_no_yaml_at_all_never_panics() {
    for text in
        ["", "\u{feff}", "- ", "{", "}", "a: *b", "&a [*a]", "\t", "? [a]: b", "--- |\n x\n...\n---", "%YAML 9\n---\na"]
    {
        let read = document::read("f.yaml", text);
        document::render(text, &read.diagnostics);
    }
    let deep = "[".repeat(10_000);
    assert!(!document::read("f.yaml", &deep).diagnostics.is_empty());
    let bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n";
    assert_eq!(document::read("f.yaml", bomb).objects, []);
}

#[test]
fn an_object_is_checked_without_its_text_too() {
    let object = |value: Value| serde_json::from_value::<Object>(value).unwrap();
    let wrong = validate(&object(json!({
        "apiVersion": "weft.dev/v1", "kind": "Zone", "metadata": {"name": "global", "namespace": "shop"},
        "spec": {"state": "Drainig"},
    })));
    let found: Vec<(&str, &str, Option<&str>)> =
        wrong.iter().map(|d| (d.code.as_str(), d.field.as_str(), d.suggestion.as_deref())).collect();
    assert_eq!(
        found,
        [
            ("W1105", "metadata.name", None),
            ("W1109", "metadata.namespace", None),
            ("W1102", "spec.state", Some("Draining")),
        ]
    );
}

#[test]
fn suggestions_applied_as_they_stand_make_a_file_right() {
    let mut text = "apiVersion: weft.dev/v1\nkind: Retri\nmetadata:\n  nmae: Cart_1\nspec:\n  to:\n    - targetRef: {kind: service, name: cart}\n      default: {max: 1, budget: 20, bakoff: 25}\n".to_owned();
    for _ in 0..8 {
        let Some(wrong) = document::read("f.yaml", &text).diagnostics.into_iter().find(|d| d.suggestion.is_some())
        else {
            break;
        };
        let place = wrong.place.unwrap();
        text.replace_range(place.offset..place.offset + place.length, &wrong.suggestion.unwrap());
    }
    let read = document::read("f.yaml", &text);
    assert_eq!(read.diagnostics, [], "{text}");
    assert_eq!(read.objects[0].spec["to"][0]["default"], json!({"max": 1, "budget": "20%", "backoff": "25s"}));
}

/// A case is a file with `why`, `given` and `answer`. A `given` text is a file as written, and the answer what is
/// printed about it. A `given` map is the values of the folder's policy (`ask` says where the caller is), and the answer
/// what a proxy then does otherwise than without it. `UPDATE=1` rewrites answers.
#[test]
fn cases() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut ran = 0;
    for folder in sorted(&sources) {
        let module = folder.file_name().unwrap().to_string_lossy().into_owned();
        for file in sorted(&folder.join("cases")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let case = document::value(&text).unwrap_or_else(|| panic!("{} is no YAML", file.display()));
            assert!(case["why"].is_string(), "{} does not say why", file.display());
            let kind = KINDS.iter().find(|kind| kind.name.to_lowercase() == module.replace('_', ""));
            let answer = answer(kind, &case);
            ran += 1;
            if answer == case["answer"] {
                continue;
            }
            if std::env::var_os("UPDATE").is_some() {
                let head = text.split("\nanswer:").next().unwrap();
                std::fs::write(&file, format!("{}\n{}", head.trim_end(), written(&answer))).unwrap();
            } else {
                panic!("{}: {}\nanswer now:\n{}", file.display(), case["why"], written(&answer));
            }
        }
    }
    assert!(ran >= 20, "only {ran} cases ran");
}

fn answer(kind: Option<&'static Kind>, case: &Value) -> Value {
    if let Some(text) = case["given"].as_str() {
        let read = document::read("case.yaml", text);
        return Value::String(format!("{}\n", document::render(text, &read.diagnostics)));
    }
    match kind.expect("cases with values stand in a policy's folder").lower {
        Lower::Outbound { lower, .. } => {
            let around = around(&case["ask"]);
            let (mut with, mut without) = (Settings::default(), Settings::default());
            lower(&case["given"], &mut with, &around).unwrap();
            lower(&json!({}), &mut without, &Around { zones: Vec::new(), ..around }).unwrap();
            difference(&shown(&without), &shown(&with))
        }
        Lower::Inbound { lower } => json!(lower(&json!({"rules": [case["given"]]}), "shop/case").unwrap()[0]),
        Lower::Resource => unreachable!("resources have no folder"),
    }
}

fn around(ask: &Value) -> Around {
    let zone = |about: &Value| ZoneAround {
        zone: about["zone"].as_str().unwrap().parse().unwrap(),
        region: about["region"].as_str().map(str::to_owned),
        distance: about["rttMs"].as_u64().map(|ms| api::report::distance(ms * 1_000)),
    };
    let zones = ask["zones"].as_array().map(|zones| zones.iter().map(zone).collect()).unwrap_or_default();
    Around { zone: ask["zone"].as_str().unwrap_or("west").parse().unwrap(), zones }
}

fn shown(settings: &Settings) -> Value {
    let Settings { timeouts, retry, balancing, breaker, health, faults } = settings;
    json!({"timeouts": timeouts, "retry": retry, "balancing": balancing, "breaker": breaker, "health": health, "faults": faults})
}

fn difference(without: &Value, with: &Value) -> Value {
    match (without, with) {
        (Value::Object(without), Value::Object(with)) => {
            let differs = with.iter().filter(|(field, value)| without.get(*field) != Some(*value));
            Value::Object(
                differs
                    .map(|(field, value)| {
                        (field.clone(), difference(without.get(field).unwrap_or(&Value::Null), value))
                    })
                    .collect::<Map<_, _>>(),
            )
        }
        _ => with.clone(),
    }
}

fn written(answer: &Value) -> String {
    match answer {
        Value::String(text) => text.lines().fold("answer: |\n".to_owned(), |mut block, line| {
            let _ = writeln!(block, "{}", format!("  {line}").trim_end());
            block
        }),
        _ => serde_saphyr::to_string(&json!({"answer": answer})).unwrap(),
    }
}

fn sorted(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn mistakes_without_a_text_name_their_field() {
    let wrong =
        Diagnostic { code: "W1103".into(), message: "wrong".into(), field: "spec.to".into(), ..Diagnostic::default() };
    assert!(document::render("", &[wrong]).contains("spec.to"));
}
