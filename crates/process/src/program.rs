//! The frame of every program: options, runtime, drain, and one clean line when it cannot start.

use crate::admin::Admin;
use crate::bind::BindError;
use crate::data_dir::{DataDir, DataDirError};
use crate::drain::Drain;
use crate::log::{LogOptions, start};
use crate::metrics::Metrics;
use crate::priority::give_way;
use crate::readiness::Readiness;
use crate::tasks::Tasks;
use anyhow::Context;
use axum::Router;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tracing::{info, warn};

/// Workers of a control plane. With one, an idle stream wakes one thread and not two; long computations step
/// [`aside`], so that links stay alive meanwhile.
const CONTROL_WORKERS: usize = 1;
/// Time a program has to end after a fatal task began the drain; what hangs longer hangs forever.
const FATAL_DRAIN_MAX: Duration = Duration::from_secs(10);

/// Options every program has; flatten them into its own.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonOptions {
    /// Folder for everything this process keeps: identity, last good state, store. Created when missing.
    #[arg(long, env = "WEFT_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of /healthz, /readyz and /metrics. Has no authentication: keep it on loopback or a private network.
    #[arg(long, env = "WEFT_ADMIN_LISTEN", value_name = "ADDR")]
    pub admin_listen: Option<SocketAddr>,
    /// How it logs.
    #[command(flatten)]
    pub log: LogOptions,
}

impl CommonOptions {
    /// `--data-dir`, else the folder systemd made (`StateDirectory=`), else `weft-data/PROGRAM` here.
    pub fn data_dir_or_default(&self, program: &str) -> PathBuf {
        let given = self.data_dir.clone();
        let by_systemd = || std::env::var_os("STATE_DIRECTORY").filter(|path| !path.is_empty()).map(PathBuf::from);
        given.or_else(by_systemd).unwrap_or_else(|| PathBuf::from("weft-data").join(program))
    }
}

/// What a program's main future runs on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Runtime {
    /// One worker that others take over from during long computations, behind traffic in the queue for a core: control
    /// planes.
    Control,
    /// The calling thread only: proxies, whose data path makes runtimes of its own.
    Current,
}

/// Runs a long computation while another thread goes on with everything else.
pub fn aside<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        // A runtime of one thread has no other; tests use these.
        _ => work(),
    }
}

/// What a program is given. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Such as `weft-zone-cp`.
    pub name: &'static str,
    /// As given on the command line.
    pub options: CommonOptions,
    /// Begun by SIGTERM, SIGINT or a fatal task; the program then finishes and returns.
    pub drain: Drain,
    /// Named tasks.
    pub tasks: Tasks,
    /// Metrics of the process.
    pub metrics: Metrics,
    /// What /readyz says.
    pub readiness: Readiness,
}

impl Process {
    /// A process without signals or command line, for tests.
    pub fn new(name: &'static str, options: CommonOptions) -> Self {
        let drain = Drain::new();
        let tasks = Tasks::new(drain.clone());
        Self { name, options, drain, tasks, metrics: Metrics::new(name), readiness: Readiness::new() }
    }

    /// Opens the data folder; `format_version` is the newest format the program knows.
    pub fn data_dir(&self, format_version: u32) -> Result<DataDir, DataDirError> {
        DataDir::open(&self.options.data_dir_or_default(self.name), self.name, format_version)
    }

    /// Starts the admin endpoint on `--admin-listen`, or `default` without it.
    pub fn admin(&self, default: SocketAddr, extra: Router) -> Result<Admin, BindError> {
        Admin::serve(self.admin_address(default), self.metrics.clone(), self.readiness.clone(), extra)
    }

    /// The same on a socket another process had.
    pub fn admin_on(&self, socket: TcpListener, extra: Router) -> Result<Admin, BindError> {
        Admin::serve_on(socket, self.metrics.clone(), self.readiness.clone(), extra)
    }

    /// Where the admin endpoint listens.
    pub fn admin_address(&self, default: SocketAddr) -> SocketAddr {
        self.options.admin_listen.unwrap_or(default)
    }
}

/// Runs a program to its end: 0 when it drained, 1 with one line on stderr when it could not start or go on.
pub fn main<F>(name: &'static str, options: CommonOptions, runtime: Runtime, run: impl FnOnce(Process) -> F) -> ExitCode
where
    F: Future<Output = anyhow::Result<()>>,
{
    match supervise(name, options, runtime, run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(name, &failure),
    }
}

/// Says on stderr, in one line, why a program ends, and gives the exit code for it.
pub fn report(name: &str, failure: &anyhow::Error) -> ExitCode {
    eprintln!("{name}: error: {}", sentence(failure));
    ExitCode::FAILURE
}

/// An error and its causes as one line. A cause its parent already quotes is not said twice.
pub fn sentence(failure: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in failure.chain() {
        let words = cause.to_string();
        if said.is_empty() {
            said = words;
        } else if !said.contains(&words) {
            said = format!("{said}: {words}");
        }
    }
    said.replace('\n', " ")
}

fn supervise<F>(
    name: &'static str,
    options: CommonOptions,
    runtime: Runtime,
    run: impl FnOnce(Process) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    start(name, &options.log)?;
    let mut builder = match runtime {
        Runtime::Current => tokio::runtime::Builder::new_current_thread(),
        Runtime::Control => {
            give_way();
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(CONTROL_WORKERS);
            builder
        }
    };
    let tokio = builder.thread_name(name).enable_all().build().context("cannot start threads")?;
    let ended = tokio.block_on(async {
        let process = Process::new(name, options);
        let process = Process { tasks: process.tasks.clone().alone(), ..process };
        process.drain.on_signals().context("cannot listen for signals")?;
        info!(program = name, version = env!("CARGO_PKG_VERSION"), "starting");
        until_drained(&process, run(process.clone())).await
    });
    // Whatever still runs was told to end and had its time; durable writes are acknowledged only when on disk.
    tokio.shutdown_background();
    if ended.is_ok() {
        info!(program = name, "drained");
    }
    ended
}

/// Waits for the program; after a fatal task it has [`FATAL_DRAIN_MAX`] left, and the task's failure is the outcome.
async fn until_drained(process: &Process, run: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let mut run = std::pin::pin!(run);
    let early = tokio::select! {
        ended = &mut run => Some(ended),
        () = process.drain.begun() => None,
    };
    if let Some(ended) = early {
        return process.tasks.take_fatal().map_or(ended, Err);
    }
    process.readiness.require("serving", "draining");
    let Some(fatal) = process.tasks.take_fatal() else { return run.await };
    if tokio::time::timeout(FATAL_DRAIN_MAX, run).await.is_err() {
        warn!("the drain after a failure took too long; ending without it");
    }
    Err(fatal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_and_says_nothing_twice() {
        let cause = std::io::Error::other("device on fire");
        let failure = anyhow::Error::new(DataDirError::Unusable { path: "/data".into(), source: cause });
        let said = sentence(&failure.context("cannot start"));
        assert_eq!(
            said,
            "cannot start: cannot use data folder /data: device on fire; \
             make it writable for this user or choose another with --data-dir"
        );
    }

    #[tokio::test]
    async fn draining_makes_a_process_unready_and_ends_it_well() {
        let process = Process::new("weft-test", CommonOptions::default());
        let inner = process.clone();
        let program = async move {
            inner.drain.begin();
            let mut missing = inner.readiness.watch();
            missing.wait_for(|missing| missing.contains_key("serving")).await?;
            Ok(())
        };
        until_drained(&process, program).await.unwrap();
        assert!(!process.readiness.is_ready());
    }

    #[tokio::test]
    async fn a_fatal_task_is_what_the_program_ends_with() {
        let process = Process::new("weft-test", CommonOptions::default());
        process.tasks.spawn_fatal("link", async { anyhow::bail!("cut") });
        let drained = process.drain.begun();
        let failure = until_drained(&process, async {
            drained.await;
            Ok(())
        })
        .await
        .unwrap_err();
        assert_eq!(sentence(&failure), "task `link` failed: cut");
    }

    #[test]
    fn a_program_that_cannot_start_ends_with_an_error() {
        let failure =
            supervise("weft-test", CommonOptions::default(), Runtime::Current, |_| async { anyhow::bail!("no token") });
        assert_eq!(failure.unwrap_err().to_string(), "no token");
    }
}
