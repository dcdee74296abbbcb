//! Documents as people write them: YAML text to objects, with every mistake marked where it stands.

mod render;
mod tree;

pub use render::{render, render_styled};

use crate::check::check_document;
use crate::{Code, Diagnostic, Place};
use api::Object;
use serde_json::Value;
use std::collections::BTreeMap;
use tree::{Mark, Tree};

/// Longest file that is read, in bytes. Kubernetes' own limit for one object is 1.5 MiB; this is for many.
pub const FILE_BYTES_MAX: usize = 16 << 20;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    /// Documents without mistakes, in the order of the file.
    pub objects: Vec<Object>,
    /// Every mistake of the file, in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads all documents of a text. `file` is only repeated in places.
pub fn read(file: &str, text: &str) -> Read {
    let mut read = Read::default();
    if text.len() > FILE_BYTES_MAX {
        let message = format!("the file has {} bytes; at most {FILE_BYTES_MAX} are read", text.len());
        let help = "split it into several files".to_owned();
        read.diagnostics.push(Diagnostic { code: Code::TooLarge.to_string(), message, help, ..Diagnostic::default() });
        return read;
    }
    let lines = Lines::new(file, text);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for document in tree::parse(text) {
        let tree = match document {
            Ok(tree) => tree,
            Err(mistake) => {
                let tree::Mistake { code, at, message, help } = mistake;
                let place = Some(lines.place(at));
                read.diagnostics.push(Diagnostic {
                    code: code.to_string(),
                    message,
                    help,
                    place,
                    ..Diagnostic::default()
                });
                continue;
            }
        };
        if tree.value.is_null() {
            // Nothing between two separators, or only comments.
            continue;
        }
        let mut found = check_document(&tree.value);
        if found.is_empty() {
            match serde_json::from_value::<Object>(tree.value.clone()) {
                Ok(object) => match duplicate(&object, &tree, &mut seen, &lines) {
                    Some(wrong) => found.push(wrong),
                    None => read.objects.push(object),
                },
                Err(error) => found.push(Diagnostic {
                    code: Code::WrongType.to_string(),
                    message: error.to_string(),
                    ..Diagnostic::default()
                }),
            }
        }
        for diagnostic in &mut found {
            let place = lines.place(tree.mark(&diagnostic.field, mark_for(&diagnostic.code)));
            diagnostic.place = Some(place);
        }
        read.diagnostics.extend(found);
    }
    read.diagnostics.sort_by_key(|diagnostic| diagnostic.place.as_ref().map_or(0, |place| place.offset));
    read
}

/// Mistakes about a name of a field mark the name, others what stands there.
fn mark_for(code: &str) -> Mark {
    let names = [Code::UnknownField, Code::ReservedLabel, Code::Scope];
    if names.iter().any(|known| known.as_str() == code) { Mark::Name } else { Mark::Value }
}

fn duplicate(object: &Object, tree: &Tree, seen: &mut BTreeMap<String, usize>, lines: &Lines) -> Option<Diagnostic> {
    let scope = crate::kind(&object.kind)?.scope;
    let key = object.key(scope).ok()?.to_string();
    let at = tree.mark("metadata.name", Mark::Value);
    let line = lines.place(at).line;
    let earlier = *seen.get(&key).unwrap_or(&0);
    if earlier > 0 {
        return Some(Diagnostic {
            code: Code::Duplicate.to_string(),
            message: format!("{} `{}` is already on line {earlier}", object.kind, object.metadata.name),
            field: "metadata.name".into(),
            help: "only one of them can hold; rename or remove one".into(),
            ..Diagnostic::default()
        });
    }
    seen.insert(key, line);
    None
}

/// Byte offsets to lines and columns.
struct Lines<'a> {
    file: &'a str,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(file: &'a str, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { file, text, starts }
    }

    fn place(&self, range: std::ops::Range<usize>) -> Place {
        let line = self.starts.partition_point(|start| *start <= range.start);
        let start = self.starts[line - 1];
        let column = self.text.get(start..range.start).map_or(0, |before| before.chars().count()) + 1;
        Place { file: self.file.into(), line, column, offset: range.start, length: range.len() }
    }
}

/// Reads one spec, or any other value, from YAML; `None` when the text is not YAML. For examples and tests.
pub fn value(text: &str) -> Option<Value> {
    tree::parse(text).into_iter().next()?.ok().map(|tree| tree.value)
}
