//! One workload behind a gateway answers errors. Callers tell its connections from the others, so the zone stays.

use super::{RATE, WEB};
use crate::load::{Aim, Load, Shot, Summary};
use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use serde_json::json;
use std::time::Duration;

const HOST: &str = "cart.shop.east.mesh";
const SICK: &str = "east/cart-1";
/// Good answers in a row that mean ejected: by luck, with a third of all going to the sick one, once in 10^17 runs.
const CLEAN: usize = 100;
const EJECTED: Duration = Duration::from_secs(10);
/// Errors before the ejection: five in a row on one endpoint are the detector's limit, for each of its connections.
const ERRORS_MAX: usize = 40;
/// Longer than the first ejection.
const RETURNED: Duration = Duration::from_secs(60);

pub async fn run(mesh: &Mesh, row: &mut Row) -> Result<()> {
    let load = Load::start(mesh.caller(WEB)?, Aim::new(HOST, RATE));
    load.until("all three workloads answer", Duration::from_secs(20), |shots| Summary::of(shots).workloads.len() == 3)
        .await?;
    let before = load.shots().len();
    mesh.behave(SICK, &json!({"status": 500})).await?;
    let sick = load.now();
    let sick_now = |shot: &Shot| shot.reply.status == 500;
    let clean = |shots: &[Shot]| {
        let tail = shots.iter().rev().take(CLEAN);
        shots[before..].iter().any(sick_now) && tail.filter(|shot| shot.reply.good()).count() == CLEAN
    };
    let ejected = load.until("the sick workload is out of rotation", EJECTED, clean).await;
    let after_all = load.shots();
    let restored = mesh.behave(SICK, &json!({})).await;
    ejected?;
    restored?;
    let after = &after_all[before..];
    let errors = after.iter().filter(|shot| sick_now(shot)).count();
    let last = after.iter().filter(|shot| sick_now(shot)).map(|shot| shot.due).max().unwrap_or(sick);
    let others = Summary::of(after);
    let from_here = load.shots().len();
    let name = SICK.to_owned();
    let returned = load
        .until("the healed workload is back in rotation", RETURNED, |shots| {
            Summary::of(&shots[from_here..]).workloads.contains_key(&name)
        })
        .await;
    let end = Summary::of(&load.stop().await[from_here..]);
    row.figure("errors", errors as f64);
    row.figure("ejectedMs", last.saturating_sub(sick).as_secs_f64() * 1e3);
    row.saw(format!(
        "{errors} answers were 500 within {:.0} ms, then none; the zone went on: {others}",
        last.saturating_sub(sick).as_secs_f64() * 1e3
    ));
    row.expect(errors <= ERRORS_MAX, format!("{errors} errors before the ejection, more than {ERRORS_MAX}"));
    row.expect(
        others.failed == errors,
        format!("{} failed otherwise: {}", others.failed - errors, others.examples.join("; ")),
    );
    row.expect(others.zones.keys().all(|zone| zone == "east"), format!("east was left: {others}"));
    match returned {
        Ok(took) => {
            row.figure("returnedSeconds", took.as_secs_f64());
            row.saw(format!("healed, it answered again after {:.1} s", took.as_secs_f64()));
        }
        Err(error) => row.expect(false, format!("{error:#}")),
    }
    row.expect(end.failed == 0, format!("after it was healed: {end}"));
    Ok(())
}
