//! Global comes back with nothing. Zones recognise that, keep what they hold, and say so; global gets its policy back
//! from one of them.

use super::{CART, END_WAIT, RATE, WEB};
use crate::load::{Aim, Load, Summary};
use crate::mesh::{Mesh, document};
use crate::row::Row;
use anyhow::{Context, Result};
use cli::dev::up::token_file;
use serde_json::{Value, json};
use std::time::Duration;

/// Requests at least, from before the loss to after the restore.
const REQUESTS: usize = 1_000;
const NOTICED: Duration = Duration::from_secs(20);
const RESTORED: Duration = Duration::from_secs(30);
const POLICY: &str = "/resources/timeouts/default/shop/worth-keeping";

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let to = json!([{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": "7s"}}]);
    mesh.put(&document("Timeout", "worth-keeping", json!({ "to": to }))).await?;
    let load = Load::start(mesh.caller(WEB)?, Aim::new(CART, RATE));
    mesh.kill("global").await?;
    mesh.weft(&["dev", "start", "--empty-store", "global"]).await?;
    let seen = observe(mesh, row).await;
    load.until("the load went on", END_WAIT, |shots| shots.len() >= REQUESTS).await?;
    let summary = Summary::of(&load.stop().await);
    row.figure("requests", summary.total as f64);
    row.figure("failed", summary.failed as f64);
    row.saw(format!("all the while {summary}"));
    row.expect(summary.failed == 0, format!("{} failed: {}", summary.failed, summary.examples.join("; ")));
    seen?;
    mesh.delete(POLICY).await?;
    Ok(())
}

async fn observe(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let west = mesh.control("west/cp").await?;
    let noticed = mesh.until("west says that global lost its history", NOTICED, || async {
        Ok(west.get("/status").await?["estranged"].is_string())
    });
    let took = noticed.await?;
    let words = west.get("/status").await?["estranged"].as_str().unwrap_or_default().to_owned();
    row.figure("noticedSeconds", took.as_secs_f64());
    row.saw(format!("west after {:.1} s: {words}", took.as_secs_f64()));
    let held = west.get(POLICY).await;
    row.expect(held.is_ok(), "west no longer holds the policy");
    let reply = mesh.caller(WEB)?.get(CART, "/").await;
    row.expect(reply.peer.starts_with("spiffe://west.default/"), format!("no mutual TLS: peer `{}`", reply.peer));

    let zone = mesh.process("west/cp")?;
    let url = format!("http://{}", zone.address("api").context("a zone has an API")?);
    let token = token_file(&zone).context("a zone has a token")?.display().to_string();
    let args = ["global", "restore", "--from-zone", &url, "--zone-token-file", &token, "--yes"];
    let said = mesh.weft_at("global", &args).await?;
    row.saw(format!("weft global restore: {}", said.trim()));
    let zones = mesh.zones()?;
    let restored = mesh.until("every zone follows global again", RESTORED, || async {
        for zone in &zones {
            let status = mesh.control(&format!("{zone}/cp")).await?.get("/status").await?;
            if !status["estranged"].is_null() || status["link"]["connected"] != true {
                return Ok(false);
            }
        }
        Ok(true)
    });
    row.figure("restoredSeconds", restored.await?.as_secs_f64());
    let back: Value = mesh.get(POLICY).await?;
    row.expect(back["spec"]["to"][0]["default"]["request"] == "7s", "global did not get the policy back");
    Ok(())
}
