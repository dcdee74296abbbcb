//! One world, many seeds: random edits, bursts, lossy and stale links, restarts on both sides, failing disks, two
//! publishers in turn, lost histories, compaction, rejects.

mod world;

use crate::fault::{ALL, Fault, with};
use world::{Counts, Link, Settings, World};

/// Seeds of one run; a bug must show within them.
const SEEDS: u64 = 250;
const STEPS: usize = 1500;

fn run(seed: u64, link: Link) -> Result<Counts, String> {
    let mut world = World::new(Settings { seed, link });
    for _ in 0..STEPS {
        world.step()?;
    }
    world.settle()?;
    Ok(world.counts)
}

fn all(link: Link) -> Result<Counts, String> {
    let mut total = Counts::default();
    for seed in 0..SEEDS {
        total += run(seed, link).map_err(|error| format!("seed {seed}, {link:?}: {error}"))?;
    }
    Ok(total)
}

#[test]
fn every_run_converges_and_shows_only_whole_transactions() {
    let total = all(Link::Lossy).unwrap();
    println!("{total:?}");
    assert_eq!(total.confusions, 0, "a link that keeps its order confuses nobody");
    let Counts { transactions, resyncs, rejects, declines, adoptions, restarts, disk_failures, .. } = total;
    for (what, count) in [
        ("transactions", transactions),
        ("resyncs", resyncs),
        ("rejects", rejects),
        ("declines", declines),
        ("adoptions", adoptions),
        ("restarts", restarts),
        ("disk failures", disk_failures),
    ] {
        assert!(count > 100, "the simulation hardly tried {what}: {count}");
    }
}

#[test]
fn messages_of_other_sessions_are_harmless_or_noticed() {
    let total = all(Link::Stale).unwrap();
    println!("{total:?}");
    assert!(total.confusions > 100, "the simulation hardly tried: {}", total.confusions);
}

#[test]
fn every_planted_bug_is_found() {
    let survived: Vec<Fault> = ALL
        .into_iter()
        .filter(|fault| {
            let found = with(Some(*fault), || all(Link::Lossy).err().or_else(|| all(Link::Stale).err()));
            println!("{fault:?}: {}", found.as_deref().unwrap_or("NOT FOUND"));
            found.is_none()
        })
        .collect();
    assert!(survived.is_empty(), "not found: {survived:?}");
}
