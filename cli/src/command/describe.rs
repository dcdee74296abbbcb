//! `weft describe`: one document, and in words how far it got.

use super::get::programmed;
use crate::args::PlaceArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::yaml;
use policy::Kind;
use serde_json::Value;

/// Runs it.
pub async fn run(client: &Client, kind: &'static Kind, name: &str, place: &PlaceArgs) -> Result<Exit, Failure> {
    let object = client.get(&place.path(kind, name)).await?;
    let metadata = &object["metadata"];
    let line = |title: &str, value: String| out!("{title:<12} {value}");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    line("Kind", format!("{} ({})", kind.name, kind.api_version));
    line("Name", text(&metadata["name"]));
    if kind.scope == api::object::Scope::Namespaced {
        line("Namespace", text(&metadata["namespace"]));
        line("Mesh", text(&metadata["labels"][api::object::MESH_LABEL]));
        line(
            "Written",
            match metadata["labels"][api::object::ZONE_LABEL].as_str() {
                Some(zone) => format!("in zone {zone}"),
                None => "at the global control plane".into(),
            },
        );
    }
    line("Revision", metadata["revision"].to_string());
    out!("Spec");
    for row in yaml(&object["spec"]).lines() {
        out!("  {row}");
    }
    if kind.is_policy {
        line("Programmed", programmed(&object["status"]));
    }
    for (zone, status) in object["status"]["zones"].as_object().into_iter().flatten() {
        let denied = match status["denied"].as_u64() {
            Some(denied) if denied > 0 => format!(", {denied} requests denied"),
            _ => String::new(),
        };
        let (programmed, total) = (&status["programmed"], &status["total"]);
        out!("  {zone:<10} {programmed}/{total} proxies at revision {}{denied}", status["revision"]);
        for reject in status["rejects"].as_array().into_iter().flatten() {
            out!("    {} refused it: {}", text(&reject["proxy"]), text(&reject["reason"]));
        }
    }
    eprintln!("GUI  {}/", client.server());
    Ok(Exit::Done)
}
