//! What the mesh costs when nothing happens: CPU and memory of every role, from /proc.

use crate::mesh::Mesh;
use crate::row::Row;
use anyhow::Result;
use cli::dev::process::usage;
use cli::dev::state::Role;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After the start: first reports, probes and the ends of slow start pass.
const SETTLED: Duration = Duration::from_secs(20);
/// How long nothing happens.
const WATCHED: Duration = Duration::from_secs(25);
const MIB: f64 = (1 << 20) as f64;
/// Limits by role: CPU seconds a minute, and MiB.
const LIMITS: &[(Role, f64, f64)] = &[
    (Role::Global, 0.1, 30.0),
    (Role::ZoneCp, 0.1, 30.0),
    (Role::Proxy, f64::INFINITY, 20.0),
    (Role::Gateway, f64::INFINITY, f64::INFINITY),
];

/// Measures a mesh without load.
pub async fn measure(mesh: &Mesh) -> Result<Row> {
    let mut row = Row::new("at rest: CPU and memory by role");
    row.measured = true;
    let since = Instant::now();
    mesh.at_rest().await?;
    // Two waits that are for a time: a rate over the second one is what is measured.
    tokio::time::sleep(SETTLED).await;
    let processes = mesh.state()?.processes;
    let before: Vec<_> = processes.iter().map(usage).collect();
    let begin = Instant::now();
    tokio::time::sleep(WATCHED).await;
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    let mut roles: BTreeMap<Role, Vec<(f64, f64)>> = BTreeMap::new();
    for (process, before) in processes.iter().zip(before) {
        if let (Some((_, then)), Some((memory, now))) = (before, usage(process)) {
            roles.entry(process.role).or_default().push(((now - then) / minutes, memory as f64 / MIB));
        }
    }
    for (role, cpu_max, memory_max) in LIMITS {
        let Some(all) = roles.get(role) else { continue };
        let most = |of: fn(&(f64, f64)) -> f64| all.iter().map(of).fold(0.0, f64::max);
        let (cpu, memory) = (most(|one| one.0), most(|one| one.1));
        let name = role.as_str();
        row.figure(&format!("{name} CPU s/min"), cpu);
        row.figure(&format!("{name} MiB"), memory);
        row.saw(format!("{name:<8} x{:<3} at most {cpu:.2} CPU s a minute, {memory:.1} MiB", all.len()));
        row.expect(cpu <= *cpu_max, format!("{name}: {cpu:.2} CPU s a minute at rest, more than {cpu_max}"));
        row.expect(memory <= *memory_max, format!("{name}: {memory:.1} MiB, more than {memory_max}"));
    }
    row.seconds = since.elapsed().as_secs_f64();
    Ok(row)
}
