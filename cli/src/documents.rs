//! Documents from files, folders and standard input; mistakes are drawn with their lines, all of them at once.

use crate::client::ClientError;
use crate::exit::{Exit, Failure};
use api::problem::{Diagnostic, Place};
use api::{Key, Object};
use policy::Kind;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One document and where it was written.
#[derive(Clone, Debug)]
pub struct Document {
    /// As read.
    pub object: Object,
    /// Its kind.
    pub kind: &'static Kind,
    /// Its identity.
    pub key: Key,
    source: Arc<Source>,
}

#[derive(Debug)]
struct Source {
    file: String,
    text: String,
}

/// Reads everything; documents of one path come in the order of their files' names.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Document>, Failure> {
    let mut documents = Vec::new();
    let mut drawn = Vec::new();
    for path in paths {
        for source in sources(path)? {
            let read = policy::document::read(&source.file, &source.text);
            if !read.diagnostics.is_empty() {
                drawn.push(crate::output::draw(&source.text, &read.diagnostics));
            }
            let source = Arc::new(source);
            for object in read.objects {
                let kind = policy::kind(&object.kind).ok_or_else(|| {
                    Failure::new(Exit::Bug, format!("kind `{}` was read and is not known", object.kind))
                })?;
                let key = object.key(kind.scope).map_err(|error| Failure::no(format!("{}: {error}", source.file)))?;
                documents.push(Document { object, kind, key, source: source.clone() });
            }
        }
    }
    if !drawn.is_empty() {
        return Err(Failure::rendered(drawn.join("\n\n")));
    }
    if documents.is_empty() {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::no(format!("{} holds no document", names.join(", "))));
    }
    Ok(documents)
}

fn sources(path: &Path) -> Result<Vec<Source>, Failure> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Failure::no(format!("could not read standard input: {error}")))?;
        return Ok(vec![Source { file: "<stdin>".into(), text }]);
    }
    let fail = |path: &Path, error: std::io::Error| Failure::file("read", path, &error);
    let mut files = Vec::new();
    if path.is_dir() {
        for entry in std::fs::read_dir(path).map_err(|error| fail(path, error))?.flatten() {
            let yaml = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
            files.extend(Some(entry.path()).filter(yaml));
        }
        files.sort();
        if files.is_empty() {
            return Err(Failure::no(format!("{} holds no .yaml file", path.display())));
        }
    } else {
        files.push(path.to_path_buf());
    }
    files
        .into_iter()
        .map(|file| {
            let text = std::fs::read_to_string(&file).map_err(|error| fail(&file, error))?;
            Ok(Source { file: file.display().to_string(), text })
        })
        .collect()
}

impl Document {
    /// Path of its resource below `/api/v1`.
    pub fn path(&self) -> String {
        path(self.kind, &self.key)
    }

    /// `timeout shop/cart-fast`
    pub fn title(&self) -> String {
        title(&self.key)
    }

    /// What the server says about this document, drawn on its text where the server names fields.
    pub fn refused(&self, error: ClientError) -> Failure {
        let Some(problem) = error.problem().filter(|problem| !problem.diagnostics.is_empty()) else {
            let mut failure = Failure::from(error);
            failure.message = format!("{}: {}", self.title(), failure.message);
            if failure.exit == Exit::Conflict {
                failure.hint = "`weft diff` shows what differs; apply again without `revision` to overwrite it".into();
            }
            return failure;
        };
        let mut diagnostics = problem.diagnostics.clone();
        for diagnostic in &mut diagnostics {
            diagnostic.place = Some(self.place(diagnostic));
        }
        Failure::rendered(crate::output::draw(&self.source.text, &diagnostics))
    }

    fn place(&self, diagnostic: &Diagnostic) -> Place {
        let Source { file, text } = &*self.source;
        let range = locate(text, self.start(), &diagnostic.field);
        let before = &text[..range.start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Place { file: file.clone(), line, column, offset: range.start, length: range.len() }
    }

    /// Where this document begins in its file.
    fn start(&self) -> usize {
        let Source { file, text } = &*self.source;
        let mut start = 0;
        for part in text.split("\n---") {
            let read = policy::document::read(file, part);
            let own = |object: &Object| object.kind == self.object.kind && object.metadata == self.object.metadata;
            if read.objects.iter().any(own) {
                return start;
            }
            start += part.len() + "\n---".len();
        }
        0
    }
}

/// Path of a resource below `/api/v1`.
pub fn path(kind: &Kind, key: &Key) -> String {
    match (&key.mesh, &key.namespace) {
        (Some(mesh), Some(namespace)) => format!("/resources/{}/{mesh}/{namespace}/{}", kind.plural, key.name),
        _ => format!("/resources/{}/{}", kind.plural, key.name),
    }
}

/// Words for an object: `timeout shop/cart-fast`.
pub fn title(key: &Key) -> String {
    let kind = key.kind.to_lowercase();
    match &key.namespace {
        Some(namespace) => format!("{kind} {namespace}/{}", key.name),
        None => format!("{kind} {}", key.name),
    }
}

/// Finds the name of a field by its path, from `start` on: each name in turn after the one around it. A field that is
/// not written points to the nearest one around it.
fn locate(text: &str, start: usize, field: &str) -> std::ops::Range<usize> {
    let mut found = start..text[start..].find('\n').map_or(text.len(), |end| start + end);
    let mut from = start;
    for step in field.split('.') {
        let (name, index) = step.split_once('[').map_or((step, None), |(name, index)| (name, Some(index)));
        let Some(at) = find_name(text, from, name) else { break };
        found = at..at + name.len();
        from = found.end;
        let nth = index.and_then(|index| index.trim_end_matches(']').parse::<usize>().ok()).unwrap_or(0);
        for _ in 0..=nth {
            match text[from..].find("- ") {
                Some(item) if index.is_some() => from += item + 2,
                _ => break,
            }
        }
    }
    found
}

fn find_name(text: &str, from: usize, name: &str) -> Option<usize> {
    let boundary = |c: Option<char>| c.is_none_or(|c| c.is_whitespace() || "{[,\"'".contains(c));
    let mut from = from;
    if name.is_empty() {
        return None;
    }
    loop {
        let at = from + text.get(from..)?.find(name)?;
        let after = text[at + name.len()..].trim_start_matches(['"', '\'']);
        if boundary(text[..at].chars().next_back()) && after.starts_with(':') {
            return Some(at);
        }
        from = at + name.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
kind: Timeout
metadata: {name: a}
spec:
  to:
    - targetRef: {kind: Service, name: cart}
      default: {request: 800ms}
    - targetRef: {kind: Service, name: web}
      default:
        request: 1s
";

    #[test]
    fn a_field_of_the_server_is_found_in_the_text() {
        for (field, line) in [
            ("spec.to[0].default.request", 6),
            ("spec.to[1].default.request", 9),
            ("spec.to[1].targetRef.name", 7),
            ("metadata.name", 2),
            ("spec.nothing", 3),
            ("", 1),
        ] {
            let range = locate(TEXT, 0, field);
            assert_eq!(TEXT[..range.start].matches('\n').count() + 1, line, "{field}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let failure = read(&["/nowhere/x.yaml".into()]).unwrap_err();
        assert!(failure.text().contains("/nowhere/x.yaml"), "{}", failure.text());
    }
}
