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
    /// Configurations that each proxy has begun to run meanwhile.
    pub swaps: f64,
    /// What came out.
    #[serde(flatten)]
    pub measured: Measured,
}

/// One run as a line.
pub fn line(run: &Run) -> String {
    let Run { path, peer, round, swaps, measured: m } = run;
    format!(
        "round {round} path {path:?} {peer:8} {:6.2} CPU s/100k  {:8.0} req/s  p50 {:6.0} us  p99 {:6.0} us  {:5.1} MiB idle  bad {}  {swaps} swaps",
        m.cpu_s_per_100k, m.rate, m.p50_us, m.p99_us, m.idle_mib, m.bad
    )
}

/// Medians, and Weft as a ratio of each peer.
pub fn table(runs: &[Run]) -> String {
    let mut out = String::from(
        "| path | proxy | CPU s / 100k (min-max) | of Envoy | req/s | p50 us | p99 us | idle MiB | 1,000 connections MiB | loaded MiB | bad |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    for path in [Path::A, Path::B] {
        let mut peers: Vec<&str> = Vec::new();
        for run in runs.iter().filter(|run| run.path == path) {
            if !peers.contains(&run.peer.as_str()) {
                peers.push(&run.peer);
            }
        }
        let envoy = of(runs, path, "envoy", |m| m.cpu_s_per_100k);
        for peer in peers {
            let cpu = of(runs, path, peer, |m| m.cpu_s_per_100k);
            let ratio = if envoy.is_empty() { "-".into() } else { format!("{:.2}", median(&cpu) / median(&envoy)) };
            let mid = |value: fn(&Measured) -> f64| median(&of(runs, path, peer, value));
            let _ = writeln!(
                out,
                "| {path:?} | {peer} | {:.2} ({:.2}-{:.2}) | {ratio} | {:.0} | {:.0} | {:.0} | {:.1} | {:.1} | {:.1} | {} |",
                median(&cpu),
                cpu.iter().copied().fold(f64::INFINITY, f64::min),
                cpu.iter().copied().fold(0.0, f64::max),
                mid(|m| m.rate),
                mid(|m| m.p50_us),
                mid(|m| m.p99_us),
                mid(|m| m.idle_mib),
                mid(|m| m.many_mib),
                mid(|m| m.loaded_mib),
                of(runs, path, peer, |m| m.bad as f64).iter().sum::<f64>(),
            );
        }
    }
    out
}

/// Medians without and with new configurations, and what they cost.
pub fn swaps(runs: &[Run]) -> String {
    let mut out = String::from(
        "| path | proxy | new configurations | p99 us without (min-max) | p99 us with (min-max) | more | p50 us | p50 us with | req/s | req/s with | bad |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
    );
    let mut seen: Vec<(Path, &str)> = Vec::new();
    for Run { path, peer, .. } in runs {
        if !seen.contains(&(*path, peer)) {
            seen.push((*path, peer));
        }
    }
    for (path, peer) in seen {
        let (swapping, calm): (Vec<Run>, Vec<Run>) =
            runs.iter().filter(|run| run.path == path && run.peer == peer).cloned().partition(|run| run.swaps > 0.0);
        let all = |runs: &[Run], value: fn(&Measured) -> f64| of(runs, path, peer, value);
        let mid = |runs: &[Run], value: fn(&Measured) -> f64| median(&all(runs, value));
        let p99 = |runs: &[Run]| {
            let all = all(runs, |m| m.p99_us);
            let (least, most) =
                (all.iter().copied().fold(f64::INFINITY, f64::min), all.iter().copied().fold(0.0, f64::max));
            format!("{:.0} ({least:.0}-{most:.0})", median(&all))
        };
        let _ = writeln!(
            out,
            "| {path:?} | {peer} | {:.0} | {} | {} | {:+.0} % | {:.0} | {:.0} | {:.0} | {:.0} | {} |",
            swapping.iter().map(|run| run.swaps).sum::<f64>(),
            p99(&calm),
            p99(&swapping),
            (mid(&swapping, |m| m.p99_us) / mid(&calm, |m| m.p99_us) - 1.0) * 100.0,
            mid(&calm, |m| m.p50_us),
            mid(&swapping, |m| m.p50_us),
            mid(&calm, |m| m.rate),
            mid(&swapping, |m| m.rate),
            all(&calm, |m| m.bad as f64).iter().chain(&all(&swapping, |m| m.bad as f64)).sum::<f64>(),
        );
    }
    out
}

fn of(runs: &[Run], path: Path, peer: &str, value: fn(&Measured) -> f64) -> Vec<f64> {
    runs.iter().filter(|run| run.path == path && run.peer == peer).map(|run| value(&run.measured)).collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
