//! Overload: what a proxy gives up, and in which order, so that it lives and serves the rest in time.
//!
//! | memory | queue of a worker | what |
//! |---|---|---|
//! | 85 % | | idle connections in pools are closed sooner |
//! | 90 % | stands for 1 s | unready: callers go elsewhere, while everybody is still served |
//! | 92 % | | new connections are closed at once |
//! | 95 % | stands for 2 s | requests are refused (`OVERLOADED`); of a standing queue a growing share |
//!
//! Memory is looked at by the main thread, which carries no traffic; each worker measures its own queue. A request
//! costs two relaxed loads of what they found.

mod delay;
mod memory;

pub use delay::{Standing, measure};
pub use memory::{Memory, MemorySize, MemorySizeError};

use crate::limits::{
    CONNECTIONS_REFUSED_AT, FILES_READY, FILES_TAKEN, IDLE_SHRUNK, IDLE_SHRUNK_AT, IN_FLIGHT_MAX, OVERLOAD_TICK,
    PROCESS_CONNECTIONS_MAX, READY_AGAIN_BELOW, REQUESTS_REFUSED_AT, UNREADY_AT,
};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;

/// How loaded a process is. Shares are in thousandths of what there is.
pub struct Overload {
    memory: AtomicU32,
    unready: AtomicBool,
    connections_max: usize,
    refused_connections: AtomicU64,
}

/// How loaded one worker is.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicUsize,
    /// Its queue has stood for long enough to say so.
    late: AtomicBool,
    /// Share of requests to refuse.
    shed: AtomicU32,
}

/// One request that was let in.
#[derive(Debug)]
pub struct LetIn<'a>(&'a Load);

impl Drop for LetIn<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Load {
    /// Lets a request in, or says why not. `chance` is drawn from `0.0..1.0`, only where it matters.
    pub fn admit(
        &self,
        overload: &Overload,
        workers: usize,
        chance: impl FnOnce() -> f64,
    ) -> Result<LetIn<'_>, &'static str> {
        if overload.memory.load(Ordering::Relaxed) >= REQUESTS_REFUSED_AT {
            return Err("the proxy is short of memory");
        }
        let shed = self.shed.load(Ordering::Relaxed);
        if shed > 0 && chance() * 1_000.0 < f64::from(shed) {
            return Err("requests wait too long in the proxy");
        }
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= IN_FLIGHT_MAX / workers.max(1) {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
            return Err("too many requests are under way in the proxy");
        }
        Ok(LetIn(self))
    }

    /// What its queue was found to be.
    pub fn learn(&self, standing: &Standing) {
        self.late.store(standing.is_late(), Ordering::Relaxed);
        self.shed.store(standing.shed(), Ordering::Relaxed);
    }

    /// Whether its queue stands.
    pub fn is_late(&self) -> bool {
        self.late.load(Ordering::Relaxed)
    }

    /// Share of requests that are refused.
    pub fn shed(&self) -> u32 {
        self.shed.load(Ordering::Relaxed)
    }
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            memory: AtomicU32::new(0),
            unready: AtomicBool::new(false),
            connections_max: PROCESS_CONNECTIONS_MAX.min(files_max() / FILES_TAKEN.1 * FILES_TAKEN.0),
            refused_connections: AtomicU64::new(0),
        }
    }
}

impl Overload {
    /// Whether one more connection may be served, of so many now; counts those that may not.
    pub fn admits_connection(&self, open: usize) -> bool {
        let scarce = self.memory.load(Ordering::Relaxed) >= CONNECTIONS_REFUSED_AT;
        let admits = !scarce && open < self.connections_max;
        if !admits {
            self.refused_connections.fetch_add(1, Ordering::Relaxed);
        }
        admits
    }

    /// Share of memory in use.
    pub fn memory(&self) -> u32 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Connections refused so far.
    pub fn refused_connections(&self) -> u64 {
        self.refused_connections.load(Ordering::Relaxed)
    }

    /// Whether others had better go elsewhere.
    pub fn is_unready(&self) -> bool {
        self.unready.load(Ordering::Relaxed)
    }

    /// What idle connections are granted now, of `usual`: all of it, down to [`IDLE_SHRUNK`] where requests are refused.
    pub fn idle(&self, usual: Duration) -> Duration {
        let over = self.memory().saturating_sub(IDLE_SHRUNK_AT);
        if over == 0 {
            return usual;
        }
        let left = 1.0 - f64::from(over) / f64::from(REQUESTS_REFUSED_AT - IDLE_SHRUNK_AT);
        usual.mul_f64(left.max(0.0)).max(IDLE_SHRUNK.min(usual))
    }

    /// Takes in a look at memory and at all workers; whether readiness changed.
    pub fn learn(&self, memory: u32, all_late: bool) -> bool {
        self.memory.store(memory, Ordering::Relaxed);
        let was = self.is_unready();
        let scarce = memory >= if was { READY_AGAIN_BELOW } else { UNREADY_AT };
        self.unready.swap(scarce || all_late, Ordering::Relaxed) != (scarce || all_late)
    }
}

/// Looks at memory and workers for as long as the process runs, and tells whoever reports.
pub async fn watch(state: Arc<crate::state::State>, memory: Option<Memory>, readiness: process::Readiness) {
    let mut tick = interval(OVERLOAD_TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let workers = state.workers();
        let all_late = !workers.is_empty() && workers.iter().all(|worker| worker.load.is_late());
        let used = memory.as_ref().map_or(0, Memory::used);
        if !state.overload.learn(used, all_late) {
            continue;
        }
        let unready = state.overload.is_unready();
        let why = if all_late { "requests wait too long in the proxy" } else { "the proxy is short of memory" };
        readiness.set("load", !unready, why);
        state.tell();
        match unready {
            true => tracing::warn!(why, memory_permille = used, "overloaded: telling others to go elsewhere"),
            false => tracing::info!("not overloaded any more"),
        }
    }
}

/// Connections being served. Clones are the same ones.
#[derive(Clone)]
pub struct Connections {
    tracker: TaskTracker,
    overload: Arc<Overload>,
}

impl Connections {
    /// None yet.
    pub fn new(overload: Arc<Overload>) -> Self {
        Self { tracker: TaskTracker::new(), overload }
    }

    /// Whether one more may be served.
    pub fn admit(&self) -> bool {
        self.overload.admits_connection(self.tracker.len())
    }

    /// Serves one.
    pub fn spawn(&self, serve: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(serve);
    }

    /// No more come.
    pub fn close(&self) {
        self.tracker.close();
    }

    /// Resolves when no more come and all have ended.
    pub async fn wait(&self) {
        self.tracker.wait().await;
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}

/// Open files this process may have; raised to what it may raise it to, as servers do (the soft limit is for programs
/// that use select(2)).
fn files_max() -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return usize::MAX };
    let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let max = usize::try_from(if raised { hard } else { soft }).unwrap_or(usize::MAX);
    make_room(FILES_READY.min(max));
    max
}

/// Has the kernel's table of our files grown to `files` at once. It doubles when it is full, and whoever needs the next file
/// then waits for all processors (`synchronize_rcu` in Linux's fs/file.c), tens of milliseconds each time: a worker would
/// wait in the midst of a crowd, and everybody with it.
fn make_room(files: usize) {
    let highest = i32::try_from(files).unwrap_or(i32::MAX) - 1;
    // The table stays large when the copy is closed, at once.
    if let Ok(copy) = fcntl(std::io::stderr().as_fd(), FcntlArg::F_DUPFD_CLOEXEC(highest)) {
        let _ = nix::unistd::close(copy);
    }
}

#[cfg(test)]
mod tests;
