//! `weft apply`: reads everything, shows what would change, then writes document after document.

use super::confirm::confirm;
use super::diff::{self, Change};
use crate::client::Client;
use crate::documents;
use crate::exit::{Exit, Failure};
use api::Span;
use http::Method;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

/// Header with the milliseconds until the last proxy had acknowledged.
const CONVERGED_HEADER: &str = "weft-converged-ms";
/// Given to the server on top of a wait, so that its answer arrives.
const WAIT_MARGIN: Duration = Duration::from_secs(5);

/// Runs it.
pub async fn run(
    client: &Client,
    files: &[PathBuf],
    dry_run: bool,
    wait: Option<Span>,
    yes: bool,
) -> Result<Exit, Failure> {
    let documents = documents::read(files)?;
    // A person sees the plan; a script has it in its repository.
    if !dry_run && !yes && std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
        let mut changes = 0;
        for document in &documents {
            let (change, text) = diff::compare(client, document).await?;
            changes += usize::from(change != Change::Same);
            eprintln!("{:<9} {}\n{text}", change.word(), document.title());
        }
        if changes > 0 {
            confirm(
                &format!("{changes} of {} documents change at {}", documents.len(), client.server()),
                "yes",
                false,
            )?;
        }
    }
    let client =
        wait.map_or_else(|| client.clone(), |wait| client.clone().with_timeout(Duration::from(wait) + WAIT_MARGIN));
    let mut late = 0;
    for document in &documents {
        let mut path = document.path();
        match (dry_run, wait) {
            (true, _) => path.push_str("?dryRun=true"),
            (false, Some(wait)) => path.push_str(&format!("?wait={wait}")),
            (false, None) => {}
        }
        let body = serde_json::to_value(&document.object).expect("a document is plain data");
        let answer =
            client.send(Method::PUT, &path, Some(&body), &[]).await.map_err(|error| document.refused(error))?;
        let done = if answer.status.as_u16() == 201 { "created" } else { "applied" };
        let text = match (dry_run, answer.headers.get(CONVERGED_HEADER)) {
            (true, _) => "is valid (nothing was written)".to_owned(),
            (false, Some(ms)) => format!("{done}; every proxy has it after {} ms", ms.to_str().unwrap_or("?")),
            (false, None) if wait.is_some() => {
                late += 1;
                format!("{done}; not every proxy has acknowledged it yet")
            }
            (false, None) => done.to_owned(),
        };
        out!("{} {text}", document.title());
    }
    if late > 0 {
        return Err(Failure::no(format!("{late} of {} documents have not reached every proxy", documents.len()))
            .hint("`weft describe KIND NAME` says where it waits, `weft status` how the zones are"));
    }
    Ok(Exit::Done)
}
