//! Errors over HTTP: RFC 9457 problem details, with diagnostics that point into the text that was sent.

use serde::{Deserialize, Serialize};

/// Media type of [`Problem`] (RFC 9457 section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// One error, for people and programs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Stable word to match on, such as `conflict`. Also the last part of `type`.
    pub code: String,
    /// Short text, the same for each problem of this code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened this time, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// The request this answers; also in the server's log.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// What is wrong with the document that was sent, all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Diagnostic>,
    /// On a conflict: the document as it is stored now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<serde_json::Value>,
}

impl Problem {
    /// A problem without diagnostics.
    pub fn new(status: u16, code: &str, title: &str, detail: impl Into<String>) -> Self {
        Self { code: code.into(), title: title.into(), status, detail: detail.into(), ..Self::default() }
    }
}

/// One mistake in a document.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// Stable code, such as `W1102`.
    pub code: String,
    /// What is wrong, a lowercase fragment.
    pub message: String,
    /// Path of the field, such as `spec.to[0].default.request`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
    /// A replacement for the marked text ("did you mean").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
    /// Where it stands, when the text is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A place in a text.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Path as the user named it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Byte offset of the marked text.
    pub offset: usize,
    /// Its length in bytes.
    pub length: usize,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.title)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for diagnostic in &self.diagnostics {
            write!(f, "; {} {}", diagnostic.field, diagnostic.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}
