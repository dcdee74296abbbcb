//! Calls stay in the caller's zone while it has healthy workloads, by Host header and by name alike.

use super::{CART, CART_PORT, WEB, fire};
use crate::caller::Caller;
use crate::dns;
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;

const REQUESTS: usize = 400;
const BY_NAME: usize = 50;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let summary = fire(mesh, WEB, CART, REQUESTS).await?;
    row.figure("requests", summary.total as f64);
    row.figure("west", summary.zone("west") as f64);
    row.figure("p50Ms", summary.p50);
    row.figure("p99Ms", summary.p99);
    row.saw(format!("{summary}; p50 {:.2} ms, p99 {:.2} ms", summary.p50, summary.p99));
    row.expect(summary.failed == 0, format!("{} failed: {}", summary.failed, summary.examples.join("; ")));
    row.expect(summary.zone("west") == REQUESTS, format!("west answered {} of {REQUESTS}", summary.zone("west")));
    row.expect(summary.workloads.len() == 3, format!("{} of 3 workloads answered", summary.workloads.len()));
    by_name(mesh, row, CART, "west").await
}

/// The same through DNS and the virtual address, as an app does that knows nothing of proxies.
pub async fn by_name(mesh: &Mesh, row: &mut Row, name: &str, zone: &str) -> Result<()> {
    let address = dns::lookup(mesh.address(&format!("{WEB}/proxy"), "dns")?, name).await?;
    let caller = Caller::new((address, CART_PORT).into());
    let mut answered = 0;
    for _ in 0..BY_NAME {
        let reply = caller.get(name, "/").await;
        answered += usize::from(reply.good() && reply.zone == zone);
    }
    row.figure("byName", answered as f64);
    row.saw(format!("{name} is {address} by DNS; {answered} of {BY_NAME} answered in {zone} there"));
    row.expect(answered == BY_NAME, format!("by name: {answered} of {BY_NAME}"));
    Ok(())
}
