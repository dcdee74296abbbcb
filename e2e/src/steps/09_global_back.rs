//! Global returns with its store. Everybody resumes where they were: what did not change is not sent again.

use crate::mesh::{Mesh, REST_WAIT, document};
use crate::row::Row;
use anyhow::{Context, Result};
use serde_json::{Value, json};

/// A resumption may cost a few frames and the other zones' exports that changed, never the whole view.
const RESENT_SHARE_MAX: f64 = 0.5;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    // Alone (--steps 9) global is alive: then its absence is part of this step.
    if mesh.control("global").await.is_ok() {
        mesh.kill("global").await?;
    }
    mesh.start("global").await?;
    let global = mesh.control("global").await?;
    let zones = mesh.zones()?;
    let converged = mesh.until("every zone is connected and has what global has", REST_WAIT, || async {
        let status = global.get("/status").await?;
        let revision = global.get("/meta").await?["revision"].clone();
        let mut all = true;
        for zone in &zones {
            all &= status["sync"][zone]["connected"] == true;
            let held = mesh.control(&format!("{zone}/cp")).await?.get("/replica").await?["revision"].clone();
            all &= held == revision;
        }
        Ok(all)
    });
    let took = converged.await?;
    row.figure("convergedSeconds", took.as_secs_f64());
    mesh.at_rest().await?;

    let status = global.get("/status").await?;
    let mut sent = 0;
    let mut words = Vec::new();
    for zone in &zones {
        let policy = &status["sync"][zone]["channels"]["policy"];
        let (bytes, items) = (number(&policy["sentBytes"])?, number(&policy["sentItems"])?);
        words.push(format!("{zone} {items} items, {bytes} bytes"));
        sent = sent.max(bytes);
    }
    row.figure("sentBytesMax", sent as f64);
    row.saw(format!(
        "all zones converged {:.1} s after the start; sent since: {}",
        took.as_secs_f64(),
        words.join("; ")
    ));

    // What one change costs tells what "only what changed" means.
    let before = sent_to(&status, "west")?;
    let timeout = document(
        "Timeout",
        "after-return",
        json!({"to": [{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": "9s"}}]}),
    );
    mesh.put(&timeout).await?;
    let changed = sent_to(&global.get("/status").await?, "west")? - before;
    mesh.delete("/resources/timeouts/default/shop/after-return").await?;
    row.figure("oneChangeBytes", changed as f64);
    row.saw(format!("one change sent {changed} bytes to west"));
    let view = view_bytes(mesh).await?;
    row.figure("wholeViewBytes", view as f64);
    row.saw(format!("a zone that had nothing would get {view} bytes and more"));
    let limit = view as f64 * RESENT_SHARE_MAX;
    row.expect(
        sent as f64 <= limit.max(1.0),
        format!("{sent} bytes were sent to a zone that held everything; the whole is {view}"),
    );
    Ok(())
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().context("global's /status does not count what it sent on channel `policy`")
}

fn sent_to(status: &Value, zone: &str) -> Result<u64> {
    number(&status["sync"][zone]["channels"]["policy"]["sentBytes"])
}

/// At least what west's copy weighs.
async fn view_bytes(mesh: &Mesh) -> Result<u64> {
    let replica = mesh.control("west/cp").await?.get("/replica").await?;
    Ok(replica["objects"].as_array().into_iter().flatten().map(|object| object.to_string().len() as u64).sum())
}
