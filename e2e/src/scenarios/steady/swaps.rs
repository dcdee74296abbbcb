//! New configuration, over and over, while requests go on.

use super::{Loads, Town, WEB, all_good, counter};
use crate::row::Row;
use crate::scenarios::crash::document;
use anyhow::Result;
use http::Method;
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
    let global = town.mesh.control("global").await?.with_timeout(Duration::from_secs(10));
    let put = async |number: u64| {
        // One document: of several for one service, all but one would change nothing.
        global.send(Method::PUT, "/resources/timeouts/default/shop/t0", Some(&document(0, number)), &[]).await
    };
    let loads = Loads::start(town.mesh, "cart.shop.mesh").await?;
    loads.laps();
    tokio::time::sleep(window).await;
    let without = loads.laps();
    let before = counter(town.mesh, WEB, "weft_config_swaps").await?;
    let (begun, mut written) = (Instant::now(), 0);
    let pace = window.div_f64(wanted as f64 * 1.1);
    let mut swapped = 0;
    while begun.elapsed() < window || (swapped < wanted && begun.elapsed() < window * 3) {
        put(written).await?;
        written += 1;
        tokio::time::sleep((pace * written as u32).saturating_sub(begun.elapsed())).await;
        if written % 20 == 0 {
            swapped = counter(town.mesh, WEB, "weft_config_swaps").await? - before;
        }
    }
    let lasted = begun.elapsed();
    swapped = counter(town.mesh, WEB, "weft_config_swaps").await? - before;
    let with = loads.laps();
    loads.stop().await;
    row.saw(format!("{swapped} swaps in {:.1} s ({written} documents written)", lasted.as_secs_f64()));
    row.figure("swaps", swapped as f64);
    row.expect(swapped >= wanted, format!("only {swapped} of {wanted} swaps"));
    all_good(row, "without swaps", &without);
    all_good(row, "with swaps", &with);
    for ((name, without), (_, with)) in without.iter().zip(&with) {
        let (calm, swapping) = (without.within_ms(0.99), with.within_ms(0.99));
        row.figure(&format!("p99 ms, {name}, without"), calm);
        row.figure(&format!("p99 ms, {name}, with"), swapping);
        let limit = calm * P99_FACTOR_MAX + P99_MORE_MS_MAX;
        row.expect(swapping <= limit, format!("{name}: p99 {swapping:.1} ms with swaps, {calm:.1} ms without"));
    }
    Ok(())
}
