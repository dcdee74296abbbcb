//! What a story starts: processes, each known by its number, and one folder. All of it ends with the scene.

use anyhow::{Context, Result, bail};
use cli::client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often another process is looked at.
pub const LOOK: Duration = Duration::from_millis(25);
/// From start to a REST interface that answers.
const READY_WAIT: Duration = Duration::from_secs(20);
/// From SIGTERM to SIGKILL at the end: nothing is drained for anybody.
const END_WAIT: Duration = Duration::from_secs(3);
/// Ports below those of outgoing connections (ip_local_port_range, from 32768 on).
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of a log that are quoted.
const LOG_LINES: usize = 6;

/// A process to start.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// Program, without folder: one of ours.
    pub program: &'static str,
    /// Its arguments.
    pub args: Vec<String>,
    /// Network namespace.
    pub space: Option<String>,
    /// User and group, by number.
    pub user: Option<u32>,
}

/// Processes and a folder.
pub struct Scene {
    children: Mutex<BTreeMap<String, Child>>,
    programs: PathBuf,
    folder: tempfile::TempDir,
}

impl Scene {
    /// An empty one.
    pub fn new(story: &str) -> Result<Self> {
        let programs = cli::dev::process::programs().map_err(|failure| anyhow::anyhow!(failure.text()))?;
        // WEFT_KEEP=1 leaves folder and logs behind, to look into.
        let keep = std::env::var_os("WEFT_KEEP").is_some();
        let folder = tempfile::Builder::new().prefix(&format!("weft-{story}-")).disable_cleanup(keep).tempdir()?;
        // Proxies that run as somebody else pass through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { children: Mutex::default(), programs, folder })
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program of ours.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Writes a file that only its owner reads.
    pub fn secret(&self, name: &str, text: &str, user: Option<u32>) -> Result<PathBuf> {
        let path = self.path(name);
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        std::os::unix::fs::chown(&path, user, user)?;
        Ok(path)
    }

    /// A command line that ends with us, in its namespace and as its user.
    pub fn command(&self, start: &Start) -> Command {
        let Start { program, args, space, user } = start;
        let mut words: Vec<String> = Vec::new();
        if let Some(space) = space {
            words.extend(["ip", "netns", "exec", space].map(str::to_owned));
        }
        words.extend(["setpriv", "--pdeathsig", "TERM"].map(str::to_owned));
        if let Some(user) = user {
            let user = user.to_string();
            words.extend(["--reuid", &user, "--regid", &user, "--clear-groups"].map(str::to_owned));
        }
        words.push(self.reachable(program, user.is_some()).display().to_string());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(args).stdin(Stdio::null());
        command
    }

    /// Where a program lies for whoever runs it: a checkout in somebody's home is closed to other users.
    fn reachable(&self, program: &str, other: bool) -> PathBuf {
        let own = self.program(program);
        if !other {
            return own;
        }
        let copy = self.path(program);
        if !copy.exists() && std::fs::copy(&own, &copy).is_err() {
            return own;
        }
        copy
    }

    /// Starts a process under a name, with its output in a log.
    pub fn start(&self, name: &str, start: &Start) -> Result<()> {
        self.adopt(name, self.command(start))
    }

    /// The same, for a command line of the caller's.
    pub fn adopt(&self, name: &str, mut command: Command) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_path(name))?;
        command.process_group(0).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("starting {name}"))?;
        self.children().insert(name.to_owned(), child);
        Ok(())
    }

    /// Runs a program to its end.
    pub fn run(&self, start: &Start) -> Result<Output> {
        self.command(start).output().with_context(|| format!("running {}", start.program))
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.path(&format!("{}.log", name.replace('/', "_")))
    }

    /// Whether it still runs; its exit status if not.
    pub fn ended(&self, name: &str) -> Option<ExitStatus> {
        self.children().get_mut(name).and_then(|child| child.try_wait().ok().flatten())
    }

    /// Its process number.
    pub fn number(&self, name: &str) -> Result<u32> {
        Ok(self.children().get(name).with_context(|| format!("{name} was not started"))?.id())
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill(&self, name: &str) -> Result<()> {
        let mut child = self.children().remove(name).with_context(|| format!("{name} was not started"))?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGTERM, and gone when this returns.
    pub async fn end(&self, name: &str) -> Result<ExitStatus> {
        self.signal(name, Signal::SIGTERM)?;
        let since = Instant::now();
        loop {
            if let Some(status) = self.ended(name) {
                self.children().remove(name);
                return Ok(status);
            }
            if since.elapsed() > READY_WAIT {
                bail!("{name} did not end after SIGTERM");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Sends a signal.
    pub fn signal(&self, name: &str, signal: Signal) -> Result<()> {
        let number = self.children().get(name).with_context(|| format!("{name} was not started"))?.id();
        Ok(kill(Pid::from_raw(number as i32), signal)?)
    }

    /// Everything it has said.
    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// The end of its log.
    pub fn log_tail(&self, name: &str) -> String {
        let text = self.log(name);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join(" | ")
    }

    /// The REST interface of a control plane, once it answers.
    pub async fn client(&self, name: &str, api: SocketAddr, data: &Path) -> Result<Client> {
        let mut last = String::new();
        let since = Instant::now();
        while since.elapsed() < READY_WAIT {
            if let Some(status) = self.ended(name) {
                bail!("{name} ended with {status}: {}", self.log_tail(name));
            }
            if let Ok(token) = std::fs::read_to_string(data.join("admin.token")) {
                let client = Client::new(&api.to_string(), Some(token.trim().to_owned()))?;
                match client.get("/meta").await {
                    Ok(_) => return Ok(client),
                    Err(error) => last = error.to_string(),
                }
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("{name} does not answer: {last}; {}", self.log_tail(name))
    }

    fn children(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Child>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let mut children = self.children();
        for child in children.values() {
            let number = Pid::from_raw(child.id() as i32);
            // A frozen process does not see SIGTERM before it is thawed.
            let _ = kill(number, Signal::SIGTERM);
            let _ = kill(number, Signal::SIGCONT);
        }
        let since = Instant::now();
        while since.elapsed() < END_WAIT {
            children.retain(|_, child| matches!(child.try_wait(), Ok(None)));
            if children.is_empty() {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "a drop cannot await; the condition is looked at above")]
            std::thread::sleep(LOOK);
        }
        for child in children.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for a condition that is asked for again and again; says how long it took.
pub async fn until(
    what: impl std::fmt::Display,
    limit: Duration,
    mut holds: impl AsyncFnMut() -> Result<bool>,
) -> Result<Duration> {
    let since = Instant::now();
    let mut last = String::from("it does not hold");
    loop {
        match holds().await {
            Ok(true) => return Ok(since.elapsed()),
            Ok(false) => {}
            Err(error) => last = format!("{error:#}"),
        }
        if since.elapsed() >= limit {
            bail!("after {} s still not: {what} ({last})", limit.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A loopback address that nobody listens on, of ports the system gives to no connection by itself: one of those could be
/// taken before the process that is told of it listens.
pub fn free() -> Result<SocketAddr> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(97);
    let ports = std::iter::repeat_with(|| NEXT.fetch_add(1, Ordering::Relaxed)).take(PORTS.len());
    ports
        .map(|next| PORTS.start + (first.wrapping_add(next) % PORTS.len() as u32) as u16)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok())
        .context("no port is free")
}
