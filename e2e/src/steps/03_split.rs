//! Weights of a route act on every request by itself.

use super::{CART, WEB, fire};
use crate::mesh::{Mesh, document};
use crate::row::Row;
use anyhow::Result;
use serde_json::json;

const REQUESTS: usize = 2_000;
/// Share of east, percent, and how far it may be off: three standard deviations of 2,000 draws.
const EAST: f64 = 10.0;
const OFF: f64 = 2.0;

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let route = document(
        "HTTPRoute",
        "cart-split",
        json!({
            "parentRefs": [{"kind": "Service", "name": "cart"}],
            "rules": [{"backendRefs": [
                {"name": "cart", "zone": "west", "weight": 90},
                {"name": "cart", "zone": "east", "weight": 10},
            ]}],
        }),
    );
    mesh.put(&route).await?;
    mesh.at_rest().await?;
    let fired = fire(mesh, WEB, CART, REQUESTS).await;
    mesh.delete("/resources/httproutes/default/shop/cart-split").await?;
    let summary = fired?;
    let share = summary.zone("east") as f64 * 100.0 / REQUESTS as f64;
    row.figure("eastPercent", share);
    row.saw(format!("{summary}; east {share:.1} %"));
    row.expect(summary.failed == 0, format!("{} failed: {}", summary.failed, summary.examples.join("; ")));
    row.expect((share - EAST).abs() <= OFF, format!("east got {share:.1} % instead of {EAST} % +- {OFF}"));
    let after = fire(mesh, WEB, CART, 200).await?;
    row.expect(after.zone("west") == 200, format!("with the route gone: {after}"));
    Ok(())
}
