//! How fast a change is everywhere, and that it disturbs nobody.

use super::{CART, RATE, WEB};
use crate::load::{Aim, Load, Summary, percentile};
use crate::mesh::{Mesh, document};
use crate::row::Row;
use anyhow::Result;
use serde_json::json;
use std::time::Instant;

const CHANGES: usize = 50;
/// Milliseconds from PUT to the last proxy's acknowledgement.
const P99_MAX: f64 = 100.0;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let caller = mesh.caller(WEB)?;
    let load = Load::start(caller.clone(), Aim::new(CART, RATE));
    let (mut took, mut whole, mut late) = (Vec::new(), Vec::new(), 0);
    for i in 0..CHANGES {
        let to =
            json!([{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": format!("{}s", 10 + i)}}]);
        let since = Instant::now();
        let answer = mesh.put(&document("Timeout", "cart-changing", json!({ "to": to }))).await?;
        whole.push(since.elapsed().as_secs_f64() * 1e3);
        match answer.headers.get("weft-converged-ms").and_then(|ms| ms.to_str().ok()?.parse::<f64>().ok()) {
            Some(ms) => took.push(ms),
            None => late += 1,
        }
    }
    let summary = Summary::of(&load.stop().await);
    let (opened, closed) = caller.connections();
    let status = mesh.get("/resources/timeouts/default/shop/cart-changing").await?["status"].clone();
    mesh.delete("/resources/timeouts/default/shop/cart-changing").await?;
    took.sort_by(f64::total_cmp);
    whole.sort_by(f64::total_cmp);
    let (p50, p99) = (percentile(&took, 0.5), percentile(&took, 0.99));
    row.figure("changes", took.len() as f64);
    row.figure("p50Ms", p50);
    row.figure("p99Ms", p99);
    row.figure("requestP50Ms", percentile(&whole, 0.5));
    row.figure("connectionsOpened", opened as f64);
    row.figure("connectionsClosed", closed as f64);
    row.saw(format!("{} changes on every proxy: p50 {p50:.0} ms, p99 {p99:.0} ms (limit {P99_MAX:.0})", took.len()));
    row.saw(format!("meanwhile {summary}; {closed} of {opened} client connections were closed"));
    row.saw(format!("status of the last one: {}", status["zones"]));
    row.expect(late == 0, format!("{late} of {CHANGES} changes did not reach every proxy within 10 s"));
    row.expect(p99 <= P99_MAX, format!("p99 is {p99:.0} ms"));
    row.expect(closed == 0, format!("{closed} client connections were closed"));
    row.expect(summary.failed == 0, format!("during the changes {summary}"));
    Ok(())
}
