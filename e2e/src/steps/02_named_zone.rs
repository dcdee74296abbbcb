//! A name may say the zone; the callee sees who really called, through the gateway.

use super::{WEB, fire, local};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;

const HOST: &str = "cart.shop.east.mesh";
const REQUESTS: usize = 200;
const IDENTITY: &str = "spiffe://west.default/ns/shop/sa/web";

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let summary = fire(mesh, WEB, HOST, REQUESTS).await?;
    row.figure("requests", summary.total as f64);
    row.figure("east", summary.zone("east") as f64);
    row.figure("p50Ms", summary.p50);
    row.saw(format!("{summary}; p50 {:.2} ms, p99 {:.2} ms", summary.p50, summary.p99));
    row.expect(summary.failed == 0, format!("{} failed: {}", summary.failed, summary.examples.join("; ")));
    row.expect(summary.zone("east") == REQUESTS, format!("east answered {} of {REQUESTS}", summary.zone("east")));
    let peer = mesh.caller(WEB)?.get(HOST, "/").await.peer;
    row.saw(format!("cart in east saw its caller as {peer}"));
    row.expect(peer == IDENTITY, format!("cart saw `{peer}` instead of {IDENTITY}"));
    local::by_name(mesh, row, HOST, "east").await
}
