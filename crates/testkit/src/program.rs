//! A program in a thread: it has a runtime of its own, and can be ended as a kill does, without a word to anybody.

use std::future::Future;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// What blocks a thread of a killed program (a write to disk) has this long to finish.
const BLOCKED_MAX: Duration = Duration::from_secs(5);

/// What a program's main future runs on, as in the real one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Threads {
    /// Control planes: two that share work.
    Two,
    /// Proxies: only this one; the data path makes its own.
    One,
}

/// A running program.
pub struct Program {
    killed: CancellationToken,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
    /// While it is there, the main thread is frozen.
    frozen: Option<mpsc::Sender<()>>,
}

impl Program {
    /// Runs `main` to its end, or until it is killed.
    pub fn start<F>(name: String, threads: Threads, main: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let mut builder = match threads {
            Threads::One => Builder::new_current_thread(),
            Threads::Two => Builder::new_multi_thread(),
        };
        if threads == Threads::Two {
            builder.worker_threads(2);
        }
        let runtime = builder.enable_all().thread_name(&name).build().expect("a runtime needs a few descriptors");
        let killed = CancellationToken::new();
        let (handle, stop) = (runtime.handle().clone(), killed.clone());
        let called = name.clone();
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    ended = main() => if let Err(error) = ended {
                        eprintln!("{called}: {error:#}");
                    },
                    () = stop.cancelled() => {}
                }
            });
            // Tasks, and with them sockets, end wherever they stand.
            runtime.shutdown_timeout(BLOCKED_MAX);
        };
        let thread = std::thread::Builder::new().name(name).spawn(run).expect("a thread can be had");
        Self { killed, handle, thread: Some(thread), frozen: None }
    }

    /// Ends it where it stands; answers when all its sockets and files are closed.
    pub async fn kill(mut self) {
        self.condemn();
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            joined.expect("joining does not panic").expect("the program did not panic");
        }
    }

    /// Begins to kill it.
    pub fn condemn(&mut self) {
        self.thaw();
        self.killed.cancel();
    }

    /// Stops its main thread.
    pub fn freeze(&mut self) {
        let (thaw, frozen) = mpsc::channel();
        self.handle.spawn(async move { frozen.recv() });
        self.frozen = Some(thaw);
    }

    /// Lets its main thread go on.
    pub fn thaw(&mut self) {
        self.frozen = None;
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.condemn();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
