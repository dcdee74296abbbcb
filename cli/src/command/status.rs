//! `weft status`: the whole mesh on one screen, worst first.

use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Format, Table, print_json, print_yaml};
use api::health::{LinkState, Overview, ZoneView};
use serde_json::json;

/// Links that are listed; more make the screen scroll.
const LINKS_MAX: usize = 8;

/// Runs it.
pub async fn run(client: &Client, output: Format) -> Result<Exit, Failure> {
    let (overview, status) = tokio::join!(client.get("/overview"), client.get("/status"));
    let (overview, status) = (overview?, status?);
    match output {
        Format::Json => {
            print_json(
                &json!({"apiVersion": api::API_VERSION, "kind": "Status", "overview": overview, "status": status}),
            );
            return Ok(Exit::Done);
        }
        Format::Yaml => {
            print_yaml(&json!({"overview": overview, "status": status}));
            return Ok(Exit::Done);
        }
        Format::Name | Format::Table | Format::Wide => {}
    }
    let view: Overview = serde_json::from_value(overview).map_err(|error| {
        Failure::new(Exit::Bug, format!("{} sent an overview this weft cannot read: {error}", client.server()))
    })?;
    let Overview { headline, observer, revision, at_ms: _, zones, links, events: _ } = &view;
    if output == Format::Name {
        zones.iter().for_each(|zone| out!("{}", zone.name));
        return Ok(Exit::Done);
    }
    let worst = zones.first().map_or_else(String::new, |zone| format!("{} ", mark(&word(zone))));
    out!("{worst}{headline}    seen by {observer}, revision {revision}");
    if let Some(words) = status["estranged"].as_str() {
        out!("■ {words}");
    }
    if let Some(link) = status["link"].as_object().filter(|link| link["connected"] == false) {
        let why = link.get("error").and_then(|why| why.as_str()).unwrap_or("no connection");
        out!("▲ not connected to global: {why}");
    }
    let mut table =
        Table::new(["ZONE", "STATUS", "WHY", "RPS", "LOCAL", "FAILED", "CAP", "PROXIES", "GATEWAYS", "BEHIND"]);
    for zone in zones {
        table.row([
            zone.name.to_string(),
            glyph(&word(zone)),
            zone.why.clone(),
            format!("{:.1}", zone.rps),
            share(zone.local),
            share(zone.failed),
            share(zone.capacity),
            format!("{}/{}", zone.proxies_ready, zone.proxies_total),
            format!("{}/{}", zone.gateways_ready, zone.gateways_total),
            zone.behind.to_string(),
        ]);
    }
    table.print();
    let cut: Vec<_> = links.iter().filter(|link| link.state != LinkState::Up).collect();
    for link in cut.iter().take(LINKS_MAX) {
        let state = if link.state == LinkState::Down { "■ down" } else { "? unknown" };
        out!("{} -> {}  {state}  {}", link.from, link.to, link.why);
    }
    if cut.len() > LINKS_MAX {
        out!("and {} links more (-o json lists all)", cut.len() - LINKS_MAX);
    }
    if let Some(zone) = zones.first().filter(|zone| word(zone) != "healthy") {
        eprintln!("next: weft proxy list --server URL-OF-{} --behind", zone.name);
    }
    Ok(Exit::Done)
}

fn word(zone: &ZoneView) -> String {
    serde_json::to_value(zone.status).ok().and_then(|word| Some(word.as_str()?.to_owned())).unwrap_or_default()
}

fn share(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{:.0}%", value * 100.0))
}

fn mark(status: &str) -> &'static str {
    let plain = !std::env::var("LC_ALL")
        .or_else(|_| std::env::var("LANG"))
        .is_ok_and(|lang| lang.to_uppercase().contains("UTF"));
    match (status, plain) {
        ("healthy", false) => "✔",
        ("degraded", false) => "▲",
        ("partitioned", false) => "◧",
        ("offline", false) => "■",
        ("healthy", true) => "ok",
        ("degraded", true) => "warn",
        ("partitioned", true) => "split",
        ("offline", true) => "down",
        _ => "?",
    }
}

/// A status with its sign; the word is always there.
pub fn glyph(status: &str) -> String {
    format!("{} {status}", mark(status))
}
