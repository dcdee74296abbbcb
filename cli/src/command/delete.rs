//! `weft delete`: by name or by file.

use super::confirm::confirm;
use crate::args::PlaceArgs;
use crate::client::Client;
use crate::documents;
use crate::exit::{Exit, Failure};
use http::Method;
use policy::Kind;
use std::path::PathBuf;

/// Runs it.
pub async fn run(
    client: &Client,
    kind: Option<&'static Kind>,
    names: &[String],
    place: &PlaceArgs,
    files: &[PathBuf],
    yes: bool,
) -> Result<Exit, Failure> {
    let targets: Vec<(String, String)> = match kind {
        Some(kind) => {
            names.iter().map(|name| (format!("{} {name}", kind.name.to_lowercase()), place.path(kind, name))).collect()
        }
        // What was written last goes first: a route before the service it routes.
        None => documents::read(files)?.iter().rev().map(|document| (document.title(), document.path())).collect(),
    };
    let what = match &targets[..] {
        [(title, _)] => format!("removing {title} from {}", client.server()),
        all => format!("removing {} documents from {}", all.len(), client.server()),
    };
    let word = names.first().map_or("yes", String::as_str);
    confirm(&what, word, yes)?;
    let mut first = None;
    for (title, path) in targets {
        match client.send(Method::DELETE, &path, None, &[]).await {
            Ok(_) => out!("{title} removed"),
            Err(error) => {
                let mut failure = Failure::from(error);
                failure.message = format!("{title}: {}", failure.message);
                eprintln!("{}", failure.text());
                first.get_or_insert(failure.exit);
            }
        }
    }
    Ok(first.unwrap_or(Exit::Done))
}
