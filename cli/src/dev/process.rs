//! Starting, watching and ending processes, by process number and never by name.

use super::plan::Folder;
use super::state::{Process, Role};
use crate::exit::{Exit, Failure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::time::ClockId;
use nix::unistd::Pid;
use std::fs::OpenOptions;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often a condition of another process is looked at.
pub const LOOK: Duration = Duration::from_millis(20);
/// How long a process may take from SIGTERM to its end: longer than any drain.
const END_WAIT: Duration = Duration::from_secs(8);
/// Lines of a log that are shown when its process ends early.
const LOG_LINES: usize = 12;

/// What a process does now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alive {
    /// Runs, or waits for work.
    Running,
    /// Frozen by SIGSTOP.
    Stopped,
    /// Gone.
    Dead,
}

/// `(state letter, start time in ticks)` of a process.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything (proc(5)).
    let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
    Some((fields.first()?.chars().next()?, fields.get(19)?.parse().ok()?))
}

/// Whether and how it runs. A number that another process has by now counts as dead.
pub fn alive(process: &Process) -> Alive {
    let Some(pid) = process.pid else { return Alive::Dead };
    match stat(pid) {
        Some((_, started)) if process.started != Some(started) => Alive::Dead,
        Some(('Z' | 'X', ..)) | None => Alive::Dead,
        Some(('T' | 't', ..)) => Alive::Stopped,
        Some(_) => Alive::Running,
    }
}

/// Resident memory in bytes and CPU seconds that its threads, ended ones too, have used so far.
pub fn usage(process: &Process) -> Option<(u64, f64)> {
    let pid = process.pid?;
    // The scheduler's own count: exact to the nanosecond, and it does not forget threads that have ended.
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid)).ok()?;
    let cpu = Duration::from(clock.now().ok()?);
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().ok()?;
    Some((kib * 1024, cpu.as_secs_f64()))
}

/// The folder of this program: its sisters are looked for there.
pub fn programs() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::new(Exit::Bug, format!("no own path: {error}")))?;
    let folder = own.parent().map(Path::to_path_buf).unwrap_or_default();
    // Tests run from target/debug/deps.
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(&folder).to_path_buf() } else { folder };
    for role in [Role::Global, Role::ZoneCp, Role::Gateway, Role::Proxy] {
        let path = folder.join(role.program());
        if !path.exists() {
            return Err(Failure::new(Exit::NotFound, format!("{} is not there", path.display())).hint(
                "the programs are looked for beside `weft`: install them together, or `cargo build --workspace`",
            ));
        }
    }
    Ok(folder)
}

/// Refuses before anything is started when a port is taken or a folder cannot be written.
pub fn preflight(folder: &Folder, processes: &[&Process]) -> Result<(), Failure> {
    for name in ["", "data", "logs", "tokens"] {
        let path = folder.path().join(name);
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(|error| Failure::file("create", &path, &error).hint("--state DIR names another folder"))?;
    }
    for process in processes {
        for (what, address) in &process.addresses {
            if let Err(error) = TcpListener::bind(address) {
                return Err(Failure::no(format!("{address} ({what} of {}): {error}", process.name))
                    .hint("is another topology running? `weft dev down` ends it; `network` in the file chooses other addresses"));
            }
        }
    }
    Ok(())
}

/// Starts it in a process group of its own. With `tied` it ends when this process does.
pub fn start(process: &mut Process, programs: &Path, tied: bool) -> Result<(), Failure> {
    let program = programs.join(&process.program);
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&process.log)
        .map_err(|error| Failure::file("write", &process.log, &error))?;
    let again = log.try_clone().map_err(|error| Failure::file("write", &process.log, &error))?;
    let mut command = if tied {
        let mut command = Command::new(programs.join("weft"));
        command.args(["dev", "exec"]).arg(std::process::id().to_string()).arg(&program);
        command
    } else {
        Command::new(&program)
    };
    // What points `weft` at a control plane means something else to the programs.
    for variable in ["WEFT_TOKEN_FILE", "WEFT_SERVER", "WEFT_CONTEXT", "WEFT_DATA_DIR"] {
        command.env_remove(variable);
    }
    let child = command
        .args(&process.args)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(again)
        .spawn()
        .map_err(|error| Failure::file("start", &program, &error))?;
    let pid = child.id() as i32;
    process.pid = Some(pid);
    process.started = stat(pid).map(|(_, started)| started);
    Ok(())
}

/// Sends a signal, unless it is dead already.
pub fn signal(process: &Process, signal: Signal) -> Result<(), Failure> {
    if alive(process) == Alive::Dead {
        return Ok(());
    }
    let pid = Pid::from_raw(process.pid.unwrap_or_default());
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(Failure::new(Exit::Denied, format!("could not send {signal} to {}: {error}", process.name))),
    }
}

/// Waits until the condition holds.
pub async fn until(limit: Duration, mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if holds() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends them all: SIGTERM, and after a while SIGKILL. Returns how many had to be killed.
pub async fn end(processes: &[Process]) -> Result<usize, Failure> {
    for process in processes {
        // A frozen process does not see SIGTERM before it is thawed.
        signal(process, Signal::SIGTERM)?;
        signal(process, Signal::SIGCONT)?;
    }
    let dead = |process: &Process| {
        reap(process);
        alive(process) == Alive::Dead
    };
    until(END_WAIT, || processes.iter().all(dead)).await;
    let left: Vec<&Process> = processes.iter().filter(|process| !dead(process)).collect();
    for process in &left {
        signal(process, Signal::SIGKILL)?;
    }
    until(END_WAIT, || left.iter().all(|process| dead(process))).await;
    Ok(left.len())
}

/// Takes the exit status if it is our child, so that it does not stay as a zombie.
pub fn reap(process: &Process) {
    if let Some(pid) = process.pid {
        let _ = nix::sys::wait::waitpid(Pid::from_raw(pid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    }
}

/// Last lines of its log, for a message about its early end.
pub fn log_tail(process: &Process) -> String {
    let text = std::fs::read_to_string(&process.log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].iter().map(|line| format!("    {line}\n")).collect()
}

/// Replaces this process by another program that ends when process `parent` does.
pub fn exec_tied(parent: u32, program: &Path, args: &[String]) -> Failure {
    let tied = nix::sys::prctl::set_pdeathsig(Signal::SIGTERM);
    if tied.is_err() || nix::unistd::getppid().as_raw() != parent as i32 {
        return Failure::new(Exit::Bug, "the process that started this one is gone");
    }
    let error = Command::new(program).args(args).exec();
    Failure::file("start", program, &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_process_runs_and_a_reused_number_does_not() {
        let pid = std::process::id() as i32;
        let (_, started) = stat(pid).unwrap();
        let mut process = Process {
            name: "x".into(),
            role: Role::App,
            zone: None,
            workload: None,
            program: "x".into(),
            args: Vec::new(),
            data_dir: None,
            log: "/dev/null".into(),
            addresses: Default::default(),
            pid: Some(pid),
            started: Some(started),
        };
        assert_eq!(alive(&process), Alive::Running);
        assert!(usage(&process).unwrap().0 > 0);
        process.started = Some(started + 1);
        assert_eq!(alive(&process), Alive::Dead);
    }
}
