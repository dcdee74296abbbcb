//! Reads the topology file and draws its mistakes, with the same drawing as documents have.

use crate::exit::Failure;
use api::problem::{Diagnostic, Place};
use serde::de::DeserializeOwned;
use serde_saphyr::{Error, Location, MessageFormatter, UserMessageFormatter};

/// One mistake, with its place where it is known.
pub struct Mistake {
    /// Where it stands.
    pub at: Option<Location>,
    /// Path of the field.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// A replacement for the marked text.
    pub suggestion: Option<String>,
}

/// Code of every mistake in a topology file.
const CODE: &str = "W1900";

/// Reads text as `T`.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Failure> {
    serde_saphyr::from_str(text).map_err(|error| failure(file, text, vec![mistake(error.without_snippet())]))
}

fn mistake(error: &Error) -> Mistake {
    let (message, suggestion) = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            (format!("unknown field `{field}`; known are {}", expected.join(", ")), nearest(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            (format!("`{variant}` is not one of {}", expected.join(", ")), nearest(variant, expected))
        }
        other => (UserMessageFormatter.format_message(other).into_owned(), None),
    };
    Mistake { at: error.location(), field: String::new(), message, suggestion }
}

/// The known name that a typing mistake most likely meant.
fn nearest(given: &str, known: &[&str]) -> Option<String> {
    const ALIKE: f64 = 0.7; // of Jaro-Winkler; below it a suggestion misleads more often than it helps
    let score = |name: &&&str| strsim::jaro_winkler(given, name);
    let best = known.iter().max_by(|a, b| score(a).total_cmp(&score(b)))?;
    (score(&best) >= ALIKE).then(|| (*best).to_owned())
}

/// All mistakes, drawn.
pub fn failure(file: &str, text: &str, mistakes: Vec<Mistake>) -> Failure {
    let diagnostics: Vec<Diagnostic> = mistakes
        .into_iter()
        .map(|Mistake { at, field, message, suggestion }| Diagnostic {
            code: CODE.into(),
            message,
            field,
            suggestion,
            place: Some(place(file, text, at)),
            ..Diagnostic::default()
        })
        .collect();
    Failure::rendered(crate::output::draw(text, &diagnostics))
}

/// The first line when the place is not known: the file's name is then still said.
fn place(file: &str, text: &str, at: Option<Location>) -> Place {
    let start = |length| Place { file: file.into(), line: 1, column: 1, offset: 0, length };
    let Some(at) = at else {
        return start(text.lines().next().map_or(0, str::len));
    };
    let (line, column) = (at.line() as usize, at.column() as usize);
    let span = at.span();
    let (offset, length) = match (span.byte_offset(), span.byte_len()) {
        (Some(offset), Some(length)) => (offset as usize, length as usize),
        _ => (span.offset() as usize, span.len() as usize),
    };
    if offset >= text.len() {
        return start(text.lines().next().map_or(0, str::len));
    }
    Place { file: file.into(), line, column, offset, length: length.clamp(1, text.len() - offset) }
}
