//! New configuration, over and over, while requests go on.

use super::{Laps, Loads, Town, WEB, all_good, counter};
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
/// Quiet stretches and those with swaps alternate, because a machine is not the same from one minute to the next: their
/// number.
const LONG_ROUNDS: u32 = 6;
const SHORT_ROUNDS: u32 = 2;
/// Control planes compute on the same cores as the load, so the slowest may wait longer by a few time slices.
const P99_FACTOR_MAX: f64 = 3.0;
const P99_MORE_MS_MAX: f64 = 20.0;

pub async fn look(town: &Town<'_>, row: &mut Row) -> Result<()> {
    let ((wanted, seconds), rounds) = if town.long { (LONG, LONG_ROUNDS) } else { (SHORT, SHORT_ROUNDS) };
    let (wanted, window) = (wanted.div_ceil(rounds.into()), Duration::from_secs(seconds) / rounds);
    let pace = window.div_f64(wanted as f64 * 1.1);
    let swaps = async || counter(town.mesh, WEB, "weft_config_swaps").await;
    let loads = Loads::start(town.mesh, "cart.shop.mesh").await?;
    loads.laps();
    let [mut without, mut beside, mut with]: [Vec<Laps>; 3] = Default::default();
    let (mut swapped, mut unchanged, mut lasted) = (0, 0, Duration::ZERO);
    for _ in 0..rounds {
        tokio::time::sleep(window).await;
        without.push(loads.laps());
        // Control planes share the load's cores: what they do for a document that is for nobody is no proxy's doing.
        let before = swaps().await?;
        write(town.mesh, for_nobody, pace, async |elapsed| Ok(elapsed < window)).await?;
        unchanged += swaps().await? - before;
        beside.push(loads.laps());
        let (before, begun) = (swaps().await?, Instant::now());
        let goes_on = async |elapsed: Duration| {
            Ok(elapsed < window || (elapsed < window * 3 && swaps().await? - before < wanted))
        };
        write(town.mesh, |number| document(0, number), pace, goes_on).await?;
        (swapped, lasted) = (swapped + swaps().await? - before, lasted + begun.elapsed());
        with.push(loads.laps());
    }
    loads.stop().await;
    row.saw(format!("{swapped} swaps in {:.1} s", lasted.as_secs_f64()));
    row.figure("swaps", swapped as f64);
    let wanted = wanted * u64::from(rounds);
    row.expect(swapped >= wanted, format!("only {swapped} of {wanted} swaps"));
    row.expect(unchanged == 0, format!("{unchanged} swaps by documents for nobody"));
    let ranges: Vec<[(f64, f64); 2]> =
        (0..without[0].len()).map(|load| [range(&without, load), range(&with, load)]).collect();
    let [calm, beside, swapping] = [without, beside, with].map(together);
    all_good(row, "without swaps", &calm);
    all_good(row, "documents for nobody", &beside);
    all_good(row, "with swaps", &swapping);
    for (index, (name, calm)) in calm.iter().enumerate() {
        let [calm, beside, swapping] = [calm, &beside[index].1, &swapping[index].1].map(|lap| lap.within_ms(0.99));
        let [(least, most), (with_least, with_most)] = ranges[index];
        row.saw(format!(
            "{name}: p99 of each stretch {least:.1} to {most:.1} ms, with swaps {with_least:.1} to {with_most:.1}"
        ));
        row.figure(&format!("p99 ms, {name}, without"), calm);
        row.figure(&format!("p99 ms, {name}, with documents for nobody"), beside);
        row.figure(&format!("p99 ms, {name}, with"), swapping);
        let limit = calm * P99_FACTOR_MAX + P99_MORE_MS_MAX;
        row.expect(swapping <= limit, format!("{name}: p99 {swapping:.1} ms with swaps, {calm:.1} ms without"));
    }
    Ok(())
}

/// The least and the most p99 of any stretch of one load, in milliseconds.
fn range(stretches: &[Laps], load: usize) -> (f64, f64) {
    let each = stretches.iter().map(|laps| laps[load].1.within_ms(0.99));
    each.fold((f64::MAX, 0.0), |(least, most), p99| (least.min(p99), most.max(p99)))
}

/// What was counted in several stretches.
fn together(stretches: Vec<Laps>) -> Laps {
    let add = |mut all: Laps, stretch: Laps| {
        all.iter_mut().zip(stretch).for_each(|((_, sum), (_, lap))| sum.add(lap));
        all
    };
    stretches.into_iter().reduce(add).unwrap_or_default()
}

/// Writes one document over and over: of several for one service, all but one would change nothing.
async fn write(
    mesh: &Mesh,
    document: impl Fn(u64) -> Value,
    pace: Duration,
    goes_on: impl AsyncFn(Duration) -> Result<bool>,
) -> Result<()> {
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
    Ok(())
}

/// No proxy has a service of this name.
fn for_nobody(number: u64) -> Value {
    let mut document = document(1, number);
    document["spec"]["to"][0]["targetRef"]["name"] = "nobody".into();
    document
}
