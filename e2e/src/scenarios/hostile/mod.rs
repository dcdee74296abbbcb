//! Hostile input against real proxies: floods, bombs, slow and ambiguous requests, crowds. Each row says what it cost the
//! proxy, how soon it was refused, and what everybody else noticed.
//!
//! With `--long` each flood goes on for ten seconds, after ten quiet ones, and slow bodies of the app are waited for as well,
//! until their request's time is over. What others notice is shown and not judged: attacker, load, apps and proxies share
//! one machine, which does not keep still for ten seconds either. It means something of release builds, over all attacks
//! together, and beside the row without one.

mod app;
mod doors;
mod edge;
mod floods;
mod frames;
mod ground;
mod plaintext;
mod slow;

use super::report::Report;
use crate::row::Row;
use anyhow::Result;
pub use doors::Door;
use floods::{End, FLOODS, Flood, Wanted};
use ground::{Ground, Kind, Others, Seen, aside};
pub use slow::Outsiders;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

const NOBODY: &str = "hostile: no attack, to see how two quiet stretches differ";
const HONEST: &str = "hostile: no attack, but as many requests at once as floods that must be served";
const SLOW: &str = "hostile: slow heads and slow bodies";
const BOMBS: &str = "hostile: requests that are too large";
const DESYNC: &str = "hostile: requests with two readings";
const CROWD: &str = "hostile: 10,000 idle connections";
const SILENT: &str = "hostile: 2,000 connections that begin no handshake";
const OTHERS: &str = "hostile: everybody else";

/// How long a flood goes on, and how long it is quiet before.
const FLOOD: Duration = Duration::from_millis(300);
const LONG_FLOOD: Duration = REFUSED;
/// Requests a second of everybody else: as many as make a percentile steady.
const RATE: u32 = 100;
const LONG_RATE: u32 = 400;
/// Connections of one flood at a time.
const AT_ONCE: usize = 4;
/// Something hostile is refused within this.
const REFUSED: Duration = Duration::from_secs(10);
/// What one flood may cost a proxy.
const FLOOD_KIB_MAX: u64 = 64 * 1024;
/// What one idle connection may cost a proxy.
const IDLE_KIB_MAX: f64 = 32.0;
/// As many requests as may be open at a time have come within this.
const COMES: Duration = Duration::from_secs(1);
const CROWD_SIZE: usize = 10_000;
/// Long enough for the load to meet the crowd.
const CROWD_STAYS: Duration = Duration::from_secs(1);

/// Looks at them.
pub async fn tell(report: &mut Report) -> Result<()> {
    let facts = [NOBODY, HONEST, SLOW, BOMBS, DESYNC, CROWD, SILENT, OTHERS];
    let floods: Vec<String> = FLOODS.iter().map(|flood| format!("hostile: {}", flood.name)).collect();
    if !facts.iter().any(|fact| report.wants(fact)) && !floods.iter().any(|fact| report.wants(fact)) {
        return Ok(());
    }
    let thorough = report.is_long();
    let (long, rate) = if thorough { (LONG_FLOOD, LONG_RATE) } else { (FLOOD, RATE) };
    let ground = Ground::new(thorough.then_some(long), rate).await?;
    report.fact(NOBODY, async |row| nobody(&ground, long, row).await).await;
    if thorough {
        report.fact(HONEST, async |row| honest(&ground, long, row).await).await;
    }
    for (fact, flood) in floods.iter().zip(FLOODS) {
        report.fact(fact, async |row| flooded(&ground, flood, long, row).await).await;
    }
    report.fact(BOMBS, async |row| bombs(&ground, long, row).await).await;
    report.fact(DESYNC, async |row| desync(&ground, long, row).await).await;
    report.fact(SLOW, async |row| slow::slow(&ground, thorough, row).await).await;
    report.fact(SILENT, async |row| slow::silent(&ground, row).await).await;
    report.fact(CROWD, async |row| crowd(&ground, long, row).await).await;
    let everybody = ground.leave().await;
    report
        .fact(OTHERS, async |row| {
            for Others { way, all, kinds } in everybody {
                row.expect(all.failed == 0, format!("{way}: {all}"));
                row.saw(format!("{way}: {all}; p99 {:.1} ms", all.p99));
                for (kind, others) in kinds.iter().filter(|_| thorough) {
                    let (name, words) = match kind {
                        Kind::Quiet => ("Quiet", "quiet"),
                        Kind::Attack => ("Attacked", "under attack"),
                        Kind::Served => ("Served", "while thousands of requests at once are served"),
                    };
                    row.figure(&format!("{way}{name}P99Ms"), others.p99);
                    row.saw(format!(
                        "{words}: {} requests, p50 {:.2} ms, p99 {:.2}",
                        others.total, others.p50, others.p99
                    ));
                }
            }
            Ok(())
        })
        .await;
    Ok(())
}

/// What must be served comes at once and is then there: what others notice of the one is no figure of the other.
fn coming(ground: &Ground, door: &Door, begun: Instant, row: &mut Row) {
    let (came, now) = (begun + COMES, Instant::now());
    if came < now {
        let (first, then) = (ground.others(door, begun, came), ground.others(door, came, now));
        row.saw(format!("         others p99 {:.1} ms in the first second, {:.1} afterwards", first.p99, then.p99));
    }
}

/// What an attack cost, in the words of each row.
fn cost(door: &Door, seen: &Seen, row: &mut Row) {
    let Seen { kib: [before, most, after], others, quiet } = seen;
    row.expect(others.failed == 0, format!("{}: others: {others}", door.name));
    row.figure(&format!("{}P99Ms", door.name), others.p99);
    row.figure(&format!("{}QuietP99Ms", door.name), quiet.p99);
    let mib = |kib: &u64| *kib as f64 / 1_024.0;
    row.saw(format!(
        "         {:.1}, {:.1}, {:.1} MiB; others p50 {:.1} ms, p99 {:.1} (quiet {:.1} and {:.1}: {:+.0} %), {} of {} failed",
        mib(before),
        mib(most),
        mib(after),
        others.p50,
        others.p99,
        quiet.p50,
        quiet.p99,
        (others.p99 / quiet.p99 - 1.0) * 100.0,
        others.failed,
        others.total
    ));
}

/// What the machine does by itself.
async fn nobody(ground: &Ground, long: Duration, row: &mut Row) -> Result<()> {
    for door in ground.doors.each() {
        let ((), seen) = ground.watch(door, Kind::Quiet, async { tokio::time::sleep(long).await }).await?;
        cost(door, &seen, row);
    }
    Ok(())
}

/// What serving costs everybody else, whoever asks.
async fn honest(ground: &Ground, long: Duration, row: &mut Row) -> Result<()> {
    for door in ground.doors.each() {
        let own = door.clone();
        let act = aside(move || async move {
            let since = Instant::now();
            let mut all: JoinSet<_> = (0..AT_ONCE).map(|_| floods::honest(own.clone())).collect();
            let mut good = 0;
            while let Some(one) = all.join_next().await {
                good += one??;
            }
            let took = since.elapsed();
            tokio::time::sleep(long.saturating_sub(took)).await;
            Ok((good, since, took))
        });
        let (answered, seen) = ground.watch(door, Kind::Served, act).await?;
        let (good, since, took) = answered?;
        row.saw(format!("{:<8} {AT_ONCE} connections: {good} answered in {:.2} s", door.name, took.as_secs_f64()));
        row.expect(good == AT_ONCE as u32 * floods::HONEST, format!("{}: {good} answered", door.name));
        cost(door, &seen, row);
        coming(ground, door, since, row);
    }
    Ok(())
}

/// Again and again for `long`, from several connections at a time.
async fn flooded(ground: &Ground, flood: &'static Flood, long: Duration, row: &mut Row) -> Result<()> {
    for door in ground.doors.each() {
        let own = door.clone();
        let act = aside(move || async move {
            let (since, mut ends) = (Instant::now(), Vec::<End>::new());
            while ends.is_empty() || since.elapsed() < long {
                let mut all = JoinSet::new();
                let limit = if flood.wanted == Wanted::Ended { REFUSED } else { long };
                for _ in 0..AT_ONCE {
                    let door = own.clone();
                    all.spawn(async move { floods::flood(&door, flood, limit).await });
                }
                while let Some(end) = all.join_next().await {
                    ends.push(end??);
                }
            }
            Ok((ends, since))
        });
        let (ends, seen) = ground.watch(door, flood.wanted.kind(), act).await?;
        let (ends, since) = ends?;
        let latest = ends.iter().map(|end| end.ended).max().flatten().unwrap_or_default();
        let open = ends.iter().filter(|end| end.ended.is_none()).count();
        let calm = ends.iter().filter(|end| end.said.goaway == Some(0x0b)).count();
        let sent: u64 = ends.iter().map(|end| end.sent).sum();
        let (answers, resets) = ends.iter().fold((0, 0), |(a, r), end| (a + end.said.answers, r + end.said.resets));
        let grown = seen.kib[1].saturating_sub(seen.kib[0]);
        row.expect(grown <= FLOOD_KIB_MAX, format!("{}: it cost {grown} KiB", door.name));
        if flood.wanted == Wanted::Ended {
            row.expect(open == 0, format!("{}: {open} of {} connections were not ended", door.name, ends.len()));
        }
        let verdict = match (open, flood.wanted) {
            (0, _) => format!("ended after {:.2} s", latest.as_secs_f64()),
            (_, Wanted::Ended) => "open".to_owned(),
            _ => format!("{answers} answered, {resets} reset"),
        };
        row.saw(format!(
            "{:<8} {} x {verdict}, {calm} told to calm down, {} KiB sent",
            door.name,
            ends.len(),
            sent / 1_024
        ));
        cost(door, &seen, row);
        if flood.wanted == Wanted::Served {
            coming(ground, door, since, row);
        }
    }
    Ok(())
}

async fn bombs(ground: &Ground, long: Duration, row: &mut Row) -> Result<()> {
    for (name, bytes) in plaintext::bombs() {
        for door in ground.doors.clear() {
            let (own, bytes) = (door.clone(), bytes.clone());
            let size = bytes.len();
            let act = aside(move || async move {
                let (since, never) = (Instant::now(), Duration::from_secs(60));
                let mut all = plaintext::drip(own.clone(), 50, bytes.clone(), b"x", never, REFUSED).await?;
                while since.elapsed() < long {
                    all.add(plaintext::drip(own.clone(), 50, bytes.clone(), b"x", never, REFUSED).await?);
                }
                Ok(all)
            });
            let (ends, seen) = ground.watch(door, Kind::Attack, act).await?;
            let ends = ends?;
            let plaintext::Ends { opened, ended, latest, .. } = ends;
            row.expect(ended == opened, format!("{}: {name}: {ended} of {opened} were ended", door.name));
            let grown = seen.kib[1].saturating_sub(seen.kib[0]);
            row.expect(grown <= FLOOD_KIB_MAX, format!("{}: {name}: it cost {grown} KiB", door.name));
            row.saw(format!(
                "{:<8} {name}, {} KiB x {opened}: ended after {:.2} s, {}",
                door.name,
                size / 1_024,
                latest.as_secs_f64(),
                ends.words()
            ));
            cost(door, &seen, row);
        }
    }
    Ok(())
}

async fn desync(ground: &Ground, long: Duration, row: &mut Row) -> Result<()> {
    let earlier = ground.smuggled.take();
    row.expect(earlier.is_empty(), format!("before any of them the app got {}", earlier.join("; ")));
    for door in ground.doors.clear() {
        let (own, requests) = (door.clone(), plaintext::desync());
        let count = requests.len();
        let act = aside(move || async move {
            let (since, mut wrong) = (Instant::now(), BTreeSet::new());
            let mut said = 0;
            while said == 0 || since.elapsed() < long {
                let say = |request: &String| plaintext::say(own.clone(), request.clone(), REFUSED);
                let mut all: JoinSet<_> = requests.iter().map(say).collect();
                while let Some(one) = all.join_next().await {
                    let plaintext::Said { request, answer, ended } = one??;
                    said += 1;
                    let refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
                    if !ended || !refused || answer.matches("HTTP/1.1 ").count() > 1 {
                        let first = answer.lines().next().unwrap_or_default();
                        wrong.insert(format!("ended {ended}, {first}: {request:?}"));
                    }
                }
            }
            Ok((said, wrong))
        });
        let (said, seen) = ground.watch(door, Kind::Attack, act).await?;
        let (said, wrong) = said?;
        let smuggled = ground.smuggled.take();
        row.expect(wrong.is_empty(), wrong.into_iter().collect::<Vec<_>>().join("\n          "));
        row.expect(smuggled.is_empty(), format!("smuggled to the app: {}", smuggled.join("; ")));
        row.saw(format!("{:<8} {count} requests, {said} times, {} smuggled", door.name, smuggled.len()));
        cost(door, &seen, row);
    }
    Ok(())
}

/// Idle connections may stay: they must cost little and keep nobody out.
async fn crowd(ground: &Ground, long: Duration, row: &mut Row) -> Result<()> {
    let spoke = "GET / HTTP/1.1\r\nhost: cart.shop.mesh\r\n\r\n";
    let both = [("that never spoke", ""), ("kept after a request", spoke)];
    for (door, (what, first)) in ground.doors.clear().into_iter().flat_map(|door| both.map(|kind| (door, kind))) {
        let own = door.clone();
        let act = aside(move || async move { gather(own, first, long.max(CROWD_STAYS)).await });
        let (crowd, mut seen) = ground.watch(door, Kind::Attack, act).await?;
        let Crowd { open, kept_out, came, left } = crowd?;
        let each = seen.kib[1].saturating_sub(seen.kib[0]) as f64 / open.max(1) as f64;
        row.expect(
            kept_out == 0,
            format!("{}: {kept_out} connections {what} were closed without an answer", door.name),
        );
        row.expect(each <= IDLE_KIB_MAX, format!("{}: each connection {what} cost {each:.1} KiB", door.name));
        row.figure("kibEach", each);
        let coming = ground.others(door, came.0, came.1);
        row.saw(format!(
            "{:<8} {open} {what}: {each:.1} KiB each; they came in {:.1} s, others p99 {:.1} ms; then:",
            door.name,
            (came.1 - came.0).as_secs_f64(),
            coming.p99
        ));
        row.expect(coming.failed == 0, format!("others while they came: {coming}"));
        row.expect(seen.others.failed == 0, format!("others: {}", seen.others));
        seen.others = ground.others(door, came.1, left);
        cost(door, &seen, row);
    }
    Ok(())
}

/// Connections that were opened, and when.
struct Crowd {
    open: usize,
    /// Asked something and were not answered.
    kept_out: usize,
    /// The first and the last of them.
    came: (Instant, Instant),
    /// They began to go.
    left: Instant,
}

/// Opens a crowd, and keeps what stayed of it for a while.
async fn gather(door: Door, first: &'static str, stays: Duration) -> Result<Crowd> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let begun = Instant::now();
    let (mut crowd, mut kept_out) = (Vec::new(), 0);
    for _ in 0..CROWD_SIZE {
        let Ok(mut io) = door.open().await else { continue };
        if !first.is_empty() {
            let mut answer = [0; 4_096];
            if io.write_all(first.as_bytes()).await.is_err() || !matches!(io.read(&mut answer).await, Ok(1..)) {
                kept_out += 1;
                continue;
            }
        }
        crowd.push(io);
    }
    let came = (begun, Instant::now());
    tokio::time::sleep(stays).await;
    Ok(Crowd { open: crowd.len(), kept_out, came, left: Instant::now() })
}
