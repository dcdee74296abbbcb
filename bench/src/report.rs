//! Lines while it runs, a table at the end.

use crate::Path;
use crate::measure::Measured;
use serde::Serialize;
use std::fmt::Write as _;

/// One run of one peer.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Which path.
    pub path: Path,
    /// Who.
    pub peer: String,
    /// From 0.
    pub round: usize,
    /// Configurations that each proxy has begun to run meanwhile; `None`: none were given.
    pub swaps: Option<f64>,
    /// What came out.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One run as a line.
pub fn line(run: &Run) -> String {
    let Run { path, peer, round, swaps, measured: m } = run;
    let swaps = swaps.map(|count| format!("  {count} swaps")).unwrap_or_default();
    format!(
        "round {round} path {path:?} {peer:8} {:6.2} CPU s/100k  {:8.0} req/s  p50 {:6.0} us  p99 {:6.0} us  {:5.1} MiB idle  bad {}{swaps}",
        m.cpu_s_per_100k, m.rate, m.p50_us, m.p99_us, m.idle_mib, m.bad
    )
}

/// Medians, and Weft as a ratio of each peer.
pub fn table(runs: &[Run]) -> String {
    let mut out = String::from(
        "| path | proxy | CPU s / 100k (min-max) | of Envoy | req/s | p50 us | p99 us | idle MiB | 1,000 connections MiB | loaded MiB | bad |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for (path, peer) in measured(runs) {
        let envoy = of(runs, path, "envoy", |m| m.cpu_s_per_100k);
        let cpu = of(runs, path, peer, |m| m.cpu_s_per_100k);
        let ratio = if envoy.is_empty() { "-".into() } else { format!("{:.2}", median(&cpu) / median(&envoy)) };
        let (least, most) = range(&cpu);
        let mid = |value: fn(&Measured) -> f64| median(&of(runs, path, peer, value));
        let _ = writeln!(
            out,
            "| {path:?} | {peer} | {:.2} ({least:.2}-{most:.2}) | {ratio} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {} |",
            median(&cpu),
            mid(|m| m.rate),
            mid(|m| m.p50_us),
            mid(|m| m.p99_us),
            mid(|m| m.idle_mib),
            mid(|m| m.many_mib),
            mid(|m| m.loaded_mib),
            of(runs, path, peer, |m| m.bad as f64).iter().sum::<f64>(),
        );
    }
    out
}

/// Medians without and with new configurations, and what they cost.
pub fn swaps(runs: &[Run]) -> String {
    let mut out = String::from(
        "| path | proxy | new configurations | p99 us without (min-max) | p99 us with (min-max) | more | p50 us | p50 us with | req/s | req/s with | bad |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let (swapping, calm): (Vec<Run>, Vec<Run>) = runs.iter().cloned().partition(|run| run.swaps.is_some());
    for (path, peer) in measured(runs) {
        let mid = |runs: &[Run], value: fn(&Measured) -> f64| median(&of(runs, path, peer, value));
        let p99 = |runs: &[Run]| {
            let all = of(runs, path, peer, |m| m.p99_us);
            let (least, most) = range(&all);
            format!("{:.0} ({least:.0}-{most:.0})", median(&all))
        };
        let given = swapping.iter().filter(|run| run.path == path && run.peer == peer);
        let _ = writeln!(
            out,
            "| {path:?} | {peer} | {:.0} | {} | {} | {:+.0} % | {:.0} | {:.0} | {:.0} | {:.0} | {} |",
            given.filter_map(|run| run.swaps).sum::<f64>(),
            p99(&calm),
            p99(&swapping),
            (mid(&swapping, |m| m.p99_us) / mid(&calm, |m| m.p99_us) - 1.0) * 100.0,
            mid(&calm, |m| m.p50_us),
            mid(&swapping, |m| m.p50_us),
            mid(&calm, |m| m.rate),
            mid(&swapping, |m| m.rate),
            of(runs, path, peer, |m| m.bad as f64).iter().sum::<f64>(),
        );
    }
    out
}

/// Paths and proxies, in the order in which they came first.
fn measured(runs: &[Run]) -> Vec<(Path, &str)> {
    let mut seen = Vec::new();
    for Run { path, peer, .. } in runs {
        if !seen.contains(&(*path, peer.as_str())) {
            seen.push((*path, peer.as_str()));
        }
    }
    seen
}

/// The least and the most.
fn range(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, 0.0), |(least, most), value| (value.min(least), value.max(most)))
}

fn of(runs: &[Run], path: Path, peer: &str, value: fn(&Measured) -> f64) -> Vec<f64> {
    runs.iter().filter(|run| run.path == path && run.peer == peer).map(|run| value(&run.measured)).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
