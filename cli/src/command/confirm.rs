//! Asking before something is lost. Without a terminal there is nobody to ask, so `--yes` is needed.

use crate::exit::{Exit, Failure};
use std::io::{IsTerminal, Write};

/// Returns when the person agreed by typing `word`.
pub fn confirm(what: &str, word: &str, yes: bool) -> Result<(), Failure> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(
            Failure::usage(format!("{what} needs a confirmation, and there is nobody to ask")).hint("give --yes")
        );
    }
    eprint!("{what}. Type `{word}` to go on: ");
    let _ = std::io::stderr().flush();
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if read.is_ok() && line.trim() == word {
        return Ok(());
    }
    Err(Failure::new(Exit::Interrupted, "nothing was changed"))
}
