//! New configuration, over and over, while requests go on.

use super::{Loads, Town, WEB, all_good, counter};
use crate::mesh::Mesh;
use crate::row::Row;
use crate::scenarios::crash::document;
use anyhow::Result;
use http::Method;
use serde_json::Value;
use std::time::{Duration, Instant};

pub const FACT: &str = "steady: configuration swaps at saturation fail no request";
/// Swaps and seconds: those of the promise, and those of a suite. The rate is the same.
const LONG: (u64, u64) = (1_000, 60);
const SHORT: (u64, u64) = (100, 6);
/// Control planes compute on the same cores as the load, so the slowest may wait longer by a few time slices.
const P99_FACTOR_MAX: f64 = 3.0;
const P99_MORE_MS_MAX: f64 = 20.0;

pub async fn look(town: &Town<'_>, row: &mut Row) -> Result<()> {
    let (wanted, seconds) = if town.long { LONG } else { SHORT };
    let window = Duration::from_secs(seconds);
    let pace = window.div_f64(wanted as f64 * 1.1);
    let swaps = async || counter(town.mesh, WEB, "weft_config_swaps").await;
    let loads = Loads::start(town.mesh, "cart.shop.mesh").await?;
    loads.laps();
    tokio::time::sleep(window).await;
    let without = loads.laps();
    // Control planes share the load's cores: what they do for a document that is for nobody is no proxy's doing.
    let before = swaps().await?;
    let others = write(town.mesh, for_nobody, pace, async |elapsed| Ok(elapsed < window)).await?;
    let unchanged = swaps().await? - before;
    let beside = loads.laps();
    let before = swaps().await?;
    let begun = Instant::now();
    let goes_on =
        async |elapsed: Duration| Ok(elapsed < window || (elapsed < window * 3 && swaps().await? - before < wanted));
    let written = write(town.mesh, |number| document(0, number), pace, goes_on).await?;
    let (lasted, swapped) = (begun.elapsed(), swaps().await? - before);
    let with = loads.laps();
    loads.stop().await;
    row.saw(format!("{swapped} swaps in {:.1} s ({written} documents written)", lasted.as_secs_f64()));
    row.figure("swaps", swapped as f64);
    row.expect(swapped >= wanted, format!("only {swapped} of {wanted} swaps"));
    row.expect(unchanged == 0, format!("{unchanged} swaps by {others} documents for nobody"));
    all_good(row, "without swaps", &without);
    all_good(row, &format!("{others} documents for nobody"), &beside);
    all_good(row, "with swaps", &with);
    for (((name, without), (_, beside)), (_, with)) in without.iter().zip(&beside).zip(&with) {
        let [calm, beside, swapping] = [without, beside, with].map(|lap| lap.within_ms(0.99));
        row.figure(&format!("p99 ms, {name}, without"), calm);
        row.figure(&format!("p99 ms, {name}, with documents for nobody"), beside);
        row.figure(&format!("p99 ms, {name}, with"), swapping);
        let limit = calm * P99_FACTOR_MAX + P99_MORE_MS_MAX;
        row.expect(swapping <= limit, format!("{name}: p99 {swapping:.1} ms with swaps, {calm:.1} ms without"));
    }
    Ok(())
}

/// Writes one document over and over: of several for one service, all but one would change nothing.
async fn write(
    mesh: &Mesh,
    document: impl Fn(u64) -> Value,
    pace: Duration,
    goes_on: impl AsyncFn(Duration) -> Result<bool>,
) -> Result<u64> {
    let global = mesh.control("global").await?.with_timeout(Duration::from_secs(10));
    let (begun, mut written) = (Instant::now(), 0);
    while goes_on(begun.elapsed()).await? {
        let document = document(written);
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let path = format!("/resources/timeouts/default/shop/{name}");
        global.send(Method::PUT, &path, Some(&document), &[]).await?;
        written += 1;
        tokio::time::sleep((pace * written as u32).saturating_sub(begun.elapsed())).await;
    }
    Ok(written)
}

/// No proxy has a service of this name.
fn for_nobody(number: u64) -> Value {
    let mut document = document(1, number);
    document["spec"]["to"][0]["targetRef"]["name"] = "nobody".into();
    document
}
