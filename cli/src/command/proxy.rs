//! `weft proxy`: asked of a zone's control plane.

use super::of_zone;
use crate::args::ProxyCommand;
use crate::client::{Client, escape};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Table, print_json, print_yaml};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Runs it.
pub async fn run(client: &Client, command: ProxyCommand) -> Result<Exit, Failure> {
    of_zone(client).await?;
    match command {
        ProxyCommand::List { behind, rejected, output } => list(client, behind, rejected, output).await,
        ProxyCommand::Config { name, place, item, output } => {
            let (mesh, namespace) = (escape(place.mesh()), escape(place.namespace()));
            let mut config = client.get(&format!("/proxies/{mesh}/{namespace}/{}/config", escape(&name))).await?;
            for part in ["items", "origins"] {
                if let Some(items) = config[part].as_object_mut() {
                    items.retain(|key, _| key.starts_with(&item));
                }
            }
            match output {
                Format::Json => print_json(&config),
                Format::Name => {
                    config["items"].as_object().into_iter().flatten().for_each(|(key, _)| out!("{key}"));
                }
                Format::Yaml => print_yaml(&config),
                Format::Table | Format::Wide => {
                    let mut table = Table::new(["ITEM", "BYTES"]);
                    for (key, value) in config["items"].as_object().into_iter().flatten() {
                        table.row([key.clone(), value.to_string().len().to_string()]);
                    }
                    table.print();
                }
            }
            Ok(Exit::Done)
        }
    }
}

fn is_behind(proxy: &Value) -> bool {
    proxy["behind"] == true || proxy["behind"].as_u64().is_some_and(|behind| behind > 0)
}

fn rejects(proxy: &Value) -> usize {
    proxy["rejects"].as_array().map_or_else(|| proxy["rejects"].as_u64().unwrap_or(0) as usize, Vec::len)
}

async fn list(client: &Client, behind: bool, rejected: bool, output: Format) -> Result<Exit, Failure> {
    let answer = client.get("/proxies").await?;
    let items: Vec<&Value> = answer["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|proxy| (!behind || is_behind(proxy)) && (!rejected || rejects(proxy) > 0))
        .collect();
    match output {
        Format::Json => print_json(&json!({"apiVersion": api::API_VERSION, "kind": "ProxyList", "items": items})),
        Format::Yaml => print_yaml(&items),
        Format::Name => items.iter().for_each(|proxy| out!("{}", text(&proxy["workload"]))),
        Format::Table | Format::Wide => {
            let mut table =
                Table::new(["MESH", "NAMESPACE", "WORKLOAD", "ROLE", "STATE", "CONFIG", "REJECTS", "ACKED", "VERSION"]);
            for proxy in &items {
                let state = match (proxy["connected"] == true, proxy["ready"] == true) {
                    (true, true) => "ready",
                    (true, false) => "not ready",
                    (false, _) => "not connected",
                };
                table.row([
                    text(&proxy["mesh"]),
                    text(&proxy["namespace"]),
                    text(&proxy["workload"]),
                    text(&proxy["role"]),
                    state.into(),
                    if is_behind(proxy) { "behind".into() } else { "current".to_owned() },
                    rejects(proxy).to_string(),
                    age(&proxy["ackedMs"]),
                    text(&proxy["version"]),
                ]);
            }
            table.print();
            for proxy in &items {
                for reject in proxy["rejects"].as_array().into_iter().flatten() {
                    out!("{} refused {reject}", text(&proxy["workload"]));
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| "-".into(), str::to_owned)
}

/// `12 s ago`
fn age(at_ms: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    match at_ms.as_u64() {
        None | Some(0) => "never".into(),
        Some(at) => match now.saturating_sub(at) / 1000 {
            seconds @ 0..120 => format!("{seconds} s ago"),
            seconds @ 120..7200 => format!("{} min ago", seconds / 60),
            seconds => format!("{} h ago", seconds / 3600),
        },
    }
}
