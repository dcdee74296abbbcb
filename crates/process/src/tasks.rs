//! Tasks with names: none fails unseen.

use crate::drain::Drain;
use crate::priority::give_way;
use futures_util::FutureExt;
use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, error, info_span};

/// First pause before a failed task is started again; doubles up to [`RESTART_PAUSE_MAX`].
const RESTART_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause before a failed task is started again: seldom enough to read the log, soon enough to heal by itself.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(10);

/// Stack of a thread: futures live on the heap.
const STACK_BYTES: usize = 1024 * 1024;

/// How a task may end: `()`, or a result whose error is logged.
pub trait Outcome {
    /// The failure, if it is one.
    fn failure(self) -> Option<anyhow::Error>;
}

impl Outcome for () {
    fn failure(self) -> Option<anyhow::Error> {
        None
    }
}

impl<E: Into<anyhow::Error>> Outcome for Result<(), E> {
    fn failure(self) -> Option<anyhow::Error> {
        self.err().map(Into::into)
    }
}

/// The tasks of a process. Clones share them.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Where they run; `None`: where they are spawned.
    runtime: Option<Handle>,
    /// No other program is in this process.
    alone: bool,
    drain: Drain,
    fatal: Arc<Mutex<Option<anyhow::Error>>>,
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.tracker.len()).finish_non_exhaustive()
    }
}

impl Tasks {
    /// None yet. A fatal failure begins `drain`.
    pub fn new(drain: Drain) -> Self {
        Self { tracker: TaskTracker::new(), runtime: None, alone: false, drain, fatal: Arc::default() }
    }

    /// The same, of a program that has its process for itself.
    pub(crate) fn alone(self) -> Self {
        Self { alone: true, ..self }
    }

    /// The same tasks on a thread of their own, which gives way to those that carry traffic. It ends with `until`, and
    /// what still runs on it then does too. Programs that share a process, as in tests, have no such thread: each can
    /// be ended or frozen by its one.
    pub fn giving_way(&self, name: &'static str, until: impl Future<Output = ()> + Send + 'static) -> io::Result<Self> {
        if !self.alone {
            return Ok(self.clone());
        }
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let work = move || {
            give_way();
            runtime.block_on(until);
        };
        thread::Builder::new().name(name.into()).stack_size(STACK_BYTES).spawn(work)?;
        Ok(Self { runtime: Some(handle), ..self.clone() })
    }

    /// Runs a task the process can live without: a panic or an error is logged, and the rest goes on.
    pub fn spawn<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        self.run(async move { drop(watched(name, task).await) })
    }

    /// Runs a task the process is pointless without: a panic or an error begins the drain, and the process ends with it.
    pub fn spawn_fatal<F>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let Self { drain, fatal, .. } = self.clone();
        self.run(async move {
            if let Err(failure) = watched(name, task).await {
                // The first failure is the cause; later ones mostly follow from it.
                fatal.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
                drain.begin();
            }
        })
    }

    /// Runs a task again whenever it fails, with growing pauses, until it ends well or the process drains.
    pub fn spawn_restarting<F>(
        &self,
        name: &'static str,
        mut start: impl FnMut() -> F + Send + 'static,
    ) -> JoinHandle<()>
    where
        F: Future<Output: Outcome> + Send + 'static,
    {
        let drain = self.drain.clone();
        self.run(async move {
            let mut pause = RESTART_PAUSE_MIN;
            while watched(name, start()).await.is_err() {
                tokio::select! {
                    () = drain.begun() => return,
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(RESTART_PAUSE_MAX),
                }
            }
        })
    }

    fn run(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        match &self.runtime {
            Some(runtime) => self.tracker.spawn_on(task, runtime),
            None => self.tracker.spawn(task),
        }
    }

    /// Resolves when every task has ended. Tasks are told to end by the drain they watch.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Why a fatal task ended, once.
    pub(crate) fn take_fatal(&self) -> Option<anyhow::Error> {
        self.fatal.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Runs a task in a span of its name; a panic becomes an error, and an error is logged.
async fn watched<F: Future<Output: Outcome>>(name: &'static str, task: F) -> Result<(), anyhow::Error> {
    let ended = AssertUnwindSafe(task).catch_unwind().instrument(info_span!("task", name)).await;
    let failure = match ended {
        Ok(outcome) => outcome.failure(),
        Err(panic) => Some(anyhow::anyhow!("panic: {}", words(panic.as_ref()))),
    };
    match failure {
        None => {
            debug!(task = name, "task ended");
            Ok(())
        }
        Some(failure) => {
            error!(task = name, error = crate::sentence(&failure), "task failed");
            Err(failure.context(format!("task `{name}` failed")))
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_task_that_panics_takes_nothing_with_it() {
        let drain = Drain::new();
        let tasks = Tasks::new(drain.clone());
        tasks.spawn("broken", async { assert!(std::hint::black_box(false), "planted") });
        tasks.spawn("fine", async { anyhow::Ok(()) });
        tasks.finished().await;
        assert!(!drain.has_begun());
    }

    #[tokio::test]
    async fn tasks_that_give_way_have_a_thread_of_their_own_as_long_as_it_lasts() {
        let tasks = Tasks::new(Drain::new()).alone();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let control = tasks.giving_way("control", async move { drop(ended.await) }).expect("one more thread");
        let (tell, told) = tokio::sync::oneshot::channel();
        let names = async move { drop(tell.send(thread::current().name().map(str::to_owned))) };
        drop(control.spawn("names", names));
        assert_eq!(told.await.expect("told").as_deref(), Some("control"));
        let endless = control.spawn("endless", std::future::pending::<()>());
        drop(end);
        assert!(endless.await.expect_err("cut off").is_cancelled());
        tasks.finished().await;
    }

    #[tokio::test]
    async fn a_fatal_failure_drains_the_process_and_is_kept() {
        let drain = Drain::new();
        let tasks = Tasks::new(drain.clone());
        tasks.spawn_fatal("store", async { Err::<(), _>(anyhow::anyhow!("the disk is gone")) });
        drain.begun().await;
        let failure = tasks.take_fatal().expect("kept");
        assert_eq!(crate::sentence(&failure), "task `store` failed: the disk is gone");
    }

    #[tokio::test]
    async fn a_restarting_task_runs_until_it_ends_well() {
        let tasks = Tasks::new(Drain::new());
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        tasks.spawn_restarting("link", move || {
            let tries = counted.fetch_add(1, Ordering::Relaxed);
            async move { if tries < 1 { Err(anyhow::anyhow!("not yet")) } else { Ok(()) } }
        });
        tasks.finished().await;
        assert_eq!(tries.load(Ordering::Relaxed), 2);
    }
}
