//! `weft zone`

use super::confirm::confirm;
use super::{of_global, status};
use crate::args::ZoneCommand;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Table, print_json, print_yaml};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs it.
pub async fn run(client: &Client, command: ZoneCommand) -> Result<Exit, Failure> {
    if !matches!(command, ZoneCommand::Adopt { .. }) {
        of_global(client).await?;
    }
    match command {
        ZoneCommand::Create { name, region } => {
            let created = client.post("/zones", &json!({"name": name, "region": region})).await;
            let answer = created.map_err(|error| match error.exit() {
                Exit::Conflict => Failure::new(Exit::Conflict, format!("zone {name} exists already"))
                    .hint(format!("`weft zone token {name}` prints another join token")),
                _ => error.into(),
            })?;
            token(&answer, &format!("weft-zone-cp --token-file FILE ...   # zone {name}"))
        }
        ZoneCommand::Token { name } => {
            let answer = client.post(&format!("/zones/{name}/token"), &json!({})).await?;
            token(&answer, &format!("weft-zone-cp --token-file FILE ...   # zone {name}"))
        }
        ZoneCommand::List { output } => list(client, output).await,
        ZoneCommand::Drain { name, yes } => {
            confirm(&format!("draining zone {name}: it gets no new traffic of other zones"), name.as_str(), yes)?;
            client.post(&format!("/zones/{name}/drain"), &json!({})).await?;
            out!("zone {name} is draining");
            Ok(Exit::Done)
        }
        ZoneCommand::Undrain { name } => {
            client.post(&format!("/zones/{name}/undrain"), &json!({})).await?;
            out!("zone {name} takes traffic again");
            Ok(Exit::Done)
        }
        ZoneCommand::Adopt { yes } => {
            let meta = client.get("/meta").await?;
            let zone = meta["zone"].as_str().ok_or_else(|| {
                Failure::usage("adopting is done in a zone").hint("give --server of the zone's control plane")
            })?;
            confirm(&format!("zone {zone} drops the policy it holds and takes what global has now"), zone, yes)?;
            let answer = client.post("/adopt", &json!({})).await?;
            out!("zone {zone} follows the history that global has now");
            if let Some(words) = answer["estranged"].as_str() {
                eprintln!("{words}");
            }
            Ok(Exit::Done)
        }
    }
}

/// A token to standard output, so that it can be redirected into a file; the rest to standard error.
pub fn token(answer: &Value, next: &str) -> Result<Exit, Failure> {
    let token = answer["token"].as_str().ok_or_else(|| Failure::new(Exit::Bug, "the server sent no token"))?;
    out!("{token}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let minutes = answer["expiresAt"].as_u64().unwrap_or(now).saturating_sub(now).div_ceil(60);
    eprintln!("good for one use within {minutes} minutes; keep it out of logs and command lines");
    eprintln!("next: put it into FILE (mode 0600), then {next}");
    Ok(Exit::Done)
}

async fn list(client: &Client, output: Format) -> Result<Exit, Failure> {
    let zones = client.get("/zones").await?;
    match output {
        Format::Json => print_json(&zones),
        Format::Yaml => print_yaml(&zones),
        Format::Name => zones["items"].as_array().into_iter().flatten().for_each(|zone| out!("{}", name(zone))),
        Format::Table | Format::Wide => {
            let mut table = Table::new(["ZONE", "REGION", "STATE", "STATUS", "WHY"]);
            for zone in zones["items"].as_array().into_iter().flatten() {
                let text = |field: &str| zone[field].as_str().unwrap_or("-").to_owned();
                table.row([
                    name(zone).to_owned(),
                    text("region"),
                    text("state"),
                    status::glyph(&text("status")),
                    text("why"),
                ]);
            }
            table.print();
        }
    }
    Ok(Exit::Done)
}

fn name(zone: &Value) -> &str {
    zone["name"].as_str().unwrap_or("?")
}
