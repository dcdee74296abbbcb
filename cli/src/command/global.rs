//! `weft global restore`: an empty global control plane gets its policy back from the copy a zone keeps.

use super::confirm::confirm;
use crate::args::GlobalCommand;
use crate::client::Client;
use crate::context;
use crate::exit::{Exit, Failure};
use serde_json::json;

/// Runs it.
pub async fn run(client: &Client, command: GlobalCommand) -> Result<Exit, Failure> {
    let GlobalCommand::Restore { from_zone, zone_token_file, yes } = command;
    let token = zone_token_file.map(|path| context::token(&path)).transpose()?;
    let zone = Client::new(&from_zone, token)?;
    let meta = client.get("/meta").await?;
    if meta["role"] != "global" {
        return Err(Failure::usage(format!("{} is not a global control plane", client.server()))
            .hint("--server names global, --from-zone the zone"));
    }
    let replica = zone.get("/replica").await.map_err(|error| {
        let mut failure = Failure::from(error);
        failure.message = format!("asking the zone: {}", failure.message);
        failure.hint("--zone-token-file names the token of the zone's API")
    })?;
    let count = replica["objects"].as_array().map_or(0, Vec::len);
    let what = format!("restoring {count} documents of revision {} into {}", replica["revision"], client.server());
    confirm(&what, "restore", yes)?;
    let backup = json!({
        "history": replica["history"], "revision": replica["revision"], "objects": replica["objects"],
    });
    client.post("/restore", &backup).await?;
    out!("{count} documents restored; global continues at revision {}", replica["revision"]);
    Ok(Exit::Done)
}
