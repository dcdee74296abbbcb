//! `weft get`: lists and single documents, once or as they change.

use crate::args::PlaceArgs;
use crate::client::{Client, escape};
use crate::exit::{Exit, Failure};
use crate::output::{Format, Table, print_json, print_yaml};
use policy::Kind;
use serde_json::{Value, json};

/// Documents in one page: the most the server gives at once.
const PAGE: usize = 500;

/// What is asked.
pub struct Ask {
    /// Of this kind.
    pub kind: &'static Kind,
    /// One of them.
    pub name: Option<String>,
    /// Where.
    pub place: PlaceArgs,
    /// Labels.
    pub selector: Option<String>,
    /// Go on.
    pub watch: bool,
    /// How to print.
    pub output: Format,
}

/// Runs it.
pub async fn run(client: &Client, ask: Ask) -> Result<Exit, Failure> {
    if ask.watch {
        return watch(client, &ask).await;
    }
    if let Some(name) = &ask.name {
        let object = client.get(&ask.place.path(ask.kind, name)).await?;
        match ask.output {
            Format::Json => print_json(&object),
            Format::Yaml => print_yaml(&object),
            Format::Name => out!("{}", short_name(ask.kind, &object)),
            Format::Table | Format::Wide => table(&ask, &[object]).print(),
        }
        return Ok(Exit::Done);
    }
    let items = list(client, &ask).await?;
    match ask.output {
        Format::Json => print_json(&json!({"apiVersion": api::API_VERSION, "kind": "List", "items": items})),
        Format::Yaml => {
            for item in &items {
                out!("---");
                print_yaml(item);
            }
        }
        Format::Name => items.iter().for_each(|item| out!("{}", short_name(ask.kind, item))),
        Format::Table | Format::Wide if items.is_empty() => eprintln!("no {} here", ask.kind.plural),
        Format::Table | Format::Wide => table(&ask, &items).print(),
    }
    Ok(Exit::Done)
}

fn query(ask: &Ask) -> Vec<String> {
    let PlaceArgs { mesh, namespace, zone } = &ask.place;
    let given = [("mesh", mesh), ("namespace", namespace), ("zone", zone), ("labels", &ask.selector)];
    given.iter().filter_map(|(name, value)| value.as_ref().map(|value| format!("{name}={}", escape(value)))).collect()
}

async fn list(client: &Client, ask: &Ask) -> Result<Vec<Value>, Failure> {
    let mut items = Vec::new();
    let mut after = None;
    loop {
        let mut query = query(ask);
        query.push(format!("limit={PAGE}"));
        query.extend(after.map(|after: String| format!("after={}", escape(&after))));
        let mut page = client.get(&format!("/resources/{}?{}", ask.kind.plural, query.join("&"))).await?;
        if let Some(more) = page["items"].as_array_mut() {
            items.append(more);
        }
        match page["next"].as_str() {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(items),
        }
    }
}

async fn watch(client: &Client, ask: &Ask) -> Result<Exit, Failure> {
    let mut query = query(ask);
    query.push("watch=true".into());
    query.extend(ask.name.as_ref().map(|name| format!("q={}", escape(name))));
    let mut events = client.events(&format!("/resources/{}?{}", ask.kind.plural, query.join("&"))).await?;
    while let Some(event) = events.next().await {
        let Ok(data) = serde_json::from_str::<Value>(&event.data) else { continue };
        let object = if data["object"].is_object() { &data["object"] } else { &data };
        if ask.name.as_ref().is_some_and(|name| object["metadata"]["name"] != name.as_str()) {
            continue;
        }
        match ask.output {
            Format::Json => out!("{}", json!({"event": event.name, "object": object})),
            Format::Yaml => {
                out!("--- # {}", event.name);
                print_yaml(object);
            }
            _ => out!("{:<6} {}", event.name, short_name(ask.kind, object)),
        }
    }
    Err(Failure::new(Exit::Unreachable, format!("{} ended the watch", client.server())))
}

/// `timeout/shop/cart-fast`
fn short_name(kind: &Kind, object: &Value) -> String {
    let kind = kind.name.to_lowercase();
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or("?");
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{kind}/{namespace}/{name}"),
        None => format!("{kind}/{name}"),
    }
}

fn table(ask: &Ask, items: &[Value]) -> Table {
    let global = ask.kind.scope == api::object::Scope::Global;
    let wide = ask.output == Format::Wide;
    let mut head = if global { vec!["NAME"] } else { vec!["NAMESPACE", "NAME", "ZONE"] };
    if ask.kind.is_policy {
        head.push("PROGRAMMED");
    }
    head.push("SPEC");
    if wide {
        head.extend(["MESH", "REVISION", "LABELS"]);
    }
    let mut table = Table::new(head);
    for item in items {
        let metadata = &item["metadata"];
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let label = |name: &str| text(&metadata["labels"][name]);
        let mut row = Vec::new();
        if !global {
            row.push(text(&metadata["namespace"]));
        }
        row.push(text(&metadata["name"]));
        if !global {
            row.push(label(api::object::ZONE_LABEL));
        }
        if ask.kind.is_policy {
            row.push(programmed(&item["status"]));
        }
        row.push(brief(&item["spec"], if wide { 200 } else { 60 }));
        if wide {
            row.push(label(api::object::MESH_LABEL));
            row.push(metadata["revision"].to_string());
            let own = |name: &str| !name.starts_with("weft.dev/");
            let labels = metadata["labels"].as_object().into_iter().flatten().filter(|(name, _)| own(name));
            row.push(labels.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(","));
        }
        table.row(row);
    }
    table
}

/// `412/412 in 3 zones`, with refusals where there are any.
pub fn programmed(status: &Value) -> String {
    let zones = status["zones"].as_object().cloned().unwrap_or_default();
    if zones.is_empty() {
        return "-".into();
    }
    let sum = |field: &str| zones.values().filter_map(|zone| zone[field].as_u64()).sum::<u64>();
    let rejects: usize = zones.values().filter_map(|zone| zone["rejects"].as_array()).map(Vec::len).sum();
    let refused = if rejects > 0 { format!(", {rejects} refused") } else { String::new() };
    format!("{}/{} in {} zones{refused}", sum("programmed"), sum("total"), zones.len())
}

/// A spec on one line, cut where it gets long.
fn brief(spec: &Value, length: usize) -> String {
    let text = spec.to_string().replace('"', "");
    match text.char_indices().nth(length) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}
