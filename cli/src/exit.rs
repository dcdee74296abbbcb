//! Exit codes: what a script may rely on. One enum, so that a code has one meaning.

use crate::client::ClientError;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Yes, or done.
    Done = 0,
    /// The answer is no: documents differ, a check failed, a file is not valid, a wait ended.
    No = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The server was not reached, or did not answer in time.
    Unreachable = 3,
    /// The token does not allow this.
    Denied = 4,
    /// No such object, zone or process.
    NotFound = 5,
    /// Somebody else changed it meanwhile.
    Conflict = 6,
    /// Some parts answered and some did not; what answered was printed.
    Partial = 7,
    /// A mistake of ours.
    Bug = 70,
    /// Ctrl-C.
    Interrupted = 130,
}

impl Exit {
    /// Every code with its meaning, for `weft help exit-codes` and the reference page.
    pub const ALL: &[(Self, &'static str)] = &[
        (Self::Done, "yes, or done"),
        (Self::No, "the answer is no: documents differ, a file is not valid, a check failed, a wait ended"),
        (Self::Usage, "the command line is wrong"),
        (Self::Unreachable, "the server was not reached, or did not answer in time"),
        (Self::Denied, "the token does not allow this"),
        (Self::NotFound, "no such object, zone or process"),
        (Self::Conflict, "somebody else changed it meanwhile"),
        (Self::Partial, "some parts answered and some did not; what answered was printed"),
        (Self::Bug, "a mistake in weft or its server; the request id helps to find it"),
        (Self::Interrupted, "interrupted"),
    ];

    /// The number.
    pub const fn code(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A command that did not get what it wanted: a code for scripts, words for people.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// For scripts.
    pub exit: Exit,
    /// What failed and on what: a lowercase fragment, or a whole rendered diagnostic.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// `message` is a finished diagnostic with its own `error:` lines.
    pub rendered: bool,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: String::new(), rendered: false }
    }

    /// Adds what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Wrong command line.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The answer is no.
    pub fn no(message: impl Into<String>) -> Self {
        Self::new(Exit::No, message)
    }

    /// A diagnostic that is already drawn with its file and line.
    pub fn rendered(message: impl Into<String>) -> Self {
        Self { exit: Exit::No, message: message.into(), hint: String::new(), rendered: true }
    }

    /// A file could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::no(format!("could not {doing} {}: {error}", path.display()))
    }

    /// The text for standard error.
    pub fn text(&self) -> String {
        let Self { exit: _, message, hint, rendered } = self;
        let mut text = if *rendered { message.clone() } else { format!("error: {message}") };
        if !hint.is_empty() {
            text.push_str(&format!("\n  hint: {hint}"));
        }
        text
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        let hint = error.hint();
        Self::new(error.exit(), error.to_string()).hint(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_once() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 70, 130]);
    }

    #[test]
    fn a_hint_stands_below_the_message() {
        let failure = Failure::usage("no server is known").hint("give --server");
        assert_eq!(failure.text(), "error: no server is known\n  hint: give --server");
    }
}
