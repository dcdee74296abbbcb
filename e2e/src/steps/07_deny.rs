//! A denial names the policy that denied: to the caller, and in the policy's own status.

use crate::mesh::{Mesh, document};
use crate::row::Row;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

const HOST: &str = "payments.shop.mesh";
const FROM: &str = "edge/web-1";
const ALLOWED: &str = "west/web-1";
const POLICY: &str = "no-edge-to-payments";
const PATH: &str = "/resources/authorizations/default/shop/no-edge-to-payments";
const REQUESTS: usize = 20;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let policy = document(
        "Authorization",
        POLICY,
        json!({
            "targetRef": {"kind": "Service", "name": "payments"},
            "rules": [{"action": "Deny", "from": [{"zone": "edge"}]}],
        }),
    );
    mesh.put(&policy).await?;
    let seen = observe(mesh, row).await;
    mesh.delete(PATH).await?;
    seen?;
    let caller = mesh.caller(FROM)?;
    let again = mesh.until("edge may call payments again", Duration::from_secs(5), || async {
        Ok(caller.get(HOST, "/").await.good())
    });
    row.figure("allowedAgainMs", again.await?.as_secs_f64() * 1e3);
    Ok(())
}

async fn observe(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let (edge, west) = (mesh.caller(FROM)?, mesh.caller(ALLOWED)?);
    let mut denied = 0;
    let mut last = Default::default();
    for _ in 0..REQUESTS {
        let reply = edge.get(HOST, "/").await;
        denied += usize::from(reply.status == 403 && format!("{} {}", reply.reason, reply.body).contains(POLICY));
        last = reply;
    }
    let words: String = last.words().chars().take(160).collect();
    row.figure("denied", denied as f64);
    row.saw(format!("edge: {denied} of {REQUESTS} answered 403 naming the policy: {words}"));
    row.expect(denied == REQUESTS, format!("{denied} of {REQUESTS} denied with the policy's name; the last: {words}"));
    let allowed = west.get(HOST, "/").await;
    row.expect(allowed.good(), format!("west is denied too: {}", allowed.words()));
    let counted = mesh.until("the policy's status counts the denials", Duration::from_secs(10), || async {
        Ok(denials(&mesh.get(PATH).await?) >= REQUESTS as u64)
    });
    counted.await?;
    let status = mesh.get(PATH).await?["status"].clone();
    row.figure("deniedInStatus", denials(&json!({ "status": status })) as f64);
    row.saw(format!("status: {}", status["zones"]));
    Ok(())
}

fn denials(object: &serde_json::Value) -> u64 {
    let zones = object["status"]["zones"].as_object();
    zones.into_iter().flatten().filter_map(|(_, zone)| zone["denied"].as_u64()).sum()
}
