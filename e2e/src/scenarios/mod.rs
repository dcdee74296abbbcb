//! Scenarios on real processes beyond the demo: network namespaces, partitions, etcd, crashes, bad input, impostors.
//!
//! A story starts what it needs, prints one row a fact, and leaves nothing behind: processes are ended by number,
//! namespaces and folders removed, also after a failure and after Ctrl-C.

mod base;
mod crash;
mod etcd;
mod forged;
mod halved;
mod hostile;
mod impostor;
mod input;
mod nets;
mod partition;
pub mod plain;
mod report;
mod scene;
mod steady;
mod transparent;
mod world;

use anyhow::Result;
use report::Report;
use std::pin::Pin;

type Told<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// One story.
struct Story {
    name: &'static str,
    about: &'static str,
    tell: for<'a> fn(&'a mut Report) -> Told<'a>,
}

/// In the order in which they are told; what fails fast comes first.
const STORIES: &[Story] = &[
    Story {
        name: "input",
        about: "wrong documents, flags, tokens, certificates and folders: the words a person sees",
        tell: |report| Box::pin(input::tell(report)),
    },
    Story {
        name: "impostor",
        about: "whoever claims to be somebody else is refused",
        tell: |report| Box::pin(impostor::tell(report)),
    },
    Story {
        name: "hostile",
        about: "floods, bombs, slow and ambiguous requests, crowds: what they cost and what others notice",
        tell: |report| Box::pin(hostile::tell(report)),
    },
    Story { name: "etcd", about: "policy lives in a real etcd", tell: |report| Box::pin(etcd::tell(report)) },
    Story {
        name: "netns",
        about: "three zones in network namespaces: apps that know nothing of the mesh, and cut links",
        tell: |report| Box::pin(world::tell(report)),
    },
    Story {
        name: "crash",
        about: "kill -9 of every kind of process under load, with writes going on",
        tell: |report| Box::pin(crash::tell(report)),
    },
    Story {
        name: "steady",
        about: "swaps, hot restarts, drains and rotation at saturation; nothing fails, and no failure passes for success",
        tell: |report| Box::pin(steady::tell(report)),
    },
];

/// What a run counted.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Facts that held.
    pub passed: u32,
    /// Facts that did not.
    pub failed: u32,
}

/// Tells the stories whose name is `filter`, or whose rows contain it; all without one. `long`: as long as promises say,
/// where a suite has less time.
pub async fn run(filter: Option<&str>, long: bool) -> Tally {
    let mut report = Report::new(filter, long);
    for Story { name, about, tell } in STORIES {
        if !report.begins(name) {
            continue;
        }
        println!("\n{name}: {about}");
        if let Err(error) = tell(&mut report).await {
            report.broke(name, &error);
        }
    }
    report.tally()
}
