//! Lets judges look at each target, prints a table, and says whether all was well.

use super::cache::{self, Cache, Missing};
use super::stand::{self, Peer};
use super::{Judge, Line, Score};
use crate::mesh::Mesh;
use anyhow::{Context, Result};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Names of failed cases that are shown of one judge and target.
const SHOWN: usize = 20;
/// All cases of one judge against one target; the longest takes a minute on busy cores.
const JUDGE_WAIT: Duration = Duration::from_secs(600);

/// What is asked for.
pub struct Wish {
    /// Who judges.
    pub judges: Vec<Judge>,
    /// Only what every change can afford.
    pub quick: bool,
    /// Where to write one line of JSON for each result.
    pub json: Option<PathBuf>,
}

/// Facts, as `cargo xtask test` counts them: one for each judge and target.
#[derive(Default)]
pub struct Told {
    lines: Vec<Line>,
    held: u32,
    broken: u32,
    skipped: u32,
}

/// Obtains judges; those that cannot be are said loudly.
pub fn obtain(judges: &[Judge]) -> Vec<(Judge, Result<PathBuf, Missing>)> {
    let cache = Cache::open();
    let mut all = Vec::new();
    for judge in judges {
        let obtained = judge.obtain(&cache);
        match &obtained {
            Ok(folder) => eprintln!("{} {} is in {}", judge.name(), judge.version(), folder.display()),
            Err(missing) => skipped(*judge, missing),
        }
        all.push((*judge, obtained));
    }
    all
}

fn skipped(judge: Judge, Missing { why, enable }: &Missing) {
    eprintln!("\nSKIPPED: {}: {why}. To enable it: {enable}\n", judge.name());
}

/// Obtains and runs everything.
pub async fn run(wish: &Wish, mesh: &Mesh, work: &Path) -> Result<Told> {
    let mut told = Told::default();
    let mut ready = Vec::new();
    for (judge, obtained) in obtain(&wish.judges) {
        match obtained {
            Ok(folder) => ready.push((judge, folder)),
            Err(_) => told.skipped += 1,
        }
    }
    let peer = match cache::program("haproxy", &["/usr/sbin"]) {
        Some(haproxy) => Some(Peer::start(&haproxy, work).await?),
        None => {
            let missing = Missing { why: "HAProxy is not here".into(), enable: "apt-get install haproxy".into() };
            eprintln!("\nSKIPPED: the known peer: {}. To enable it: {}\n", missing.why, missing.enable);
            told.skipped += 1;
            None
        }
    };
    mesh.up().await?;
    let ours = stand::targets(mesh).await?;
    for (judge, folder) in &ready {
        if let Some((_, peer)) = &peer
            && !told.one(wish, *judge, peer.name, judge.judge(folder, work, peer, wish.quick)).await
        {
            eprintln!("  the known peer does not score what it should: the rig is broken, and Weft is not judged");
            continue;
        }
        for target in &ours {
            told.one(wish, *judge, target.name, judge.judge(folder, work, target, wish.quick)).await;
        }
        if wish.quick {
            continue;
        }
        for how in judge.disturbances() {
            told.one(wish, *judge, how.name(), super::interop::disturbed(folder, mesh, *how)).await;
        }
    }
    Ok(told)
}

impl Told {
    /// One judge and target; whether it is perfect.
    async fn one(
        &mut self,
        wish: &Wish,
        judge: Judge,
        target: &str,
        judging: impl Future<Output = Result<Score>>,
    ) -> bool {
        eprintln!("{} {} looks at {target} ...", judge.name(), judge.version());
        let begun = Instant::now();
        let ended = tokio::time::timeout(JUDGE_WAIT, judging).await;
        let ended = ended.unwrap_or_else(|_| Err(anyhow::anyhow!("no end within {} s", JUDGE_WAIT.as_secs())));
        let cases = judge.cases(wish.quick);
        let mut score = ended.unwrap_or_else(|error| Score {
            failed: cases,
            failures: vec![format!("{error:#}")],
            ..Score::default()
        });
        let Score { passed, failed, skipped, .. } = score;
        if passed + failed + skipped != cases {
            score.failures.push(format!("{} of {cases} cases were looked at", passed + failed + skipped));
        }
        let perfect = score.failures.is_empty() && failed == 0 && passed == cases;
        for failure in score.failures.iter().take(SHOWN) {
            eprintln!("  ! {failure}");
        }
        if score.failures.len() > SHOWN {
            eprintln!("  ! and {} more", score.failures.len() - SHOWN);
        }
        let seconds = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
        let line = Line {
            judge: judge.name(),
            version: judge.version(),
            target: target.to_owned(),
            passed,
            failed,
            skipped,
            seconds,
        };
        eprintln!("  {passed} passed, {failed} failed, {skipped} skipped, {seconds} s");
        self.lines.push(line);
        if perfect {
            self.held += 1;
        } else {
            self.broken += 1;
        }
        perfect
    }

    /// The table, and the JSON lines; whether nothing failed.
    pub fn tell(&self, json: Option<&Path>) -> Result<bool> {
        println!(
            "\n{:<20} {:<8} {:<14} {:>6} {:>6} {:>7} {:>8}",
            "judge", "version", "target", "passed", "failed", "skipped", "seconds"
        );
        for Line { judge, version, target, passed, failed, skipped, seconds } in &self.lines {
            println!("{judge:<20} {version:<8} {target:<14} {passed:>6} {failed:>6} {skipped:>7} {seconds:>8.1}");
        }
        if let Some(path) = json {
            let mut file = std::fs::File::create(path).with_context(|| format!("writing {}", path.display()))?;
            for line in &self.lines {
                writeln!(file, "{}", serde_json::to_string(line)?)?;
            }
        }
        let Self { held, broken, skipped, .. } = self;
        println!("{held} passed, {broken} failed, {skipped} skipped");
        Ok(*broken == 0)
    }

    /// Whether something could not be looked at.
    pub fn skipped(&self) -> bool {
        self.skipped > 0
    }
}
