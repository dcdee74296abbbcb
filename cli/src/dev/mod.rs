//! `weft dev`: a mesh of real processes on this machine, from one small file.

pub mod app;
pub mod plan;
pub mod process;
mod progress;
pub mod relay;
pub mod state;
pub mod topology;
pub mod up;
mod yaml;

use crate::exit::{Exit, Failure};
use crate::output::{Format, Table, print_json, print_yaml};
use nix::sys::signal::Signal;
use plan::Folder;
use process::Alive;
use serde_json::json;
use state::{DevState, Lock, Process, Role};
use std::path::{Path, PathBuf};
use std::time::Duration;
use topology::Topology;

/// Where state folders are, unless `--state` names one.
const STATE_ROOT: &str = ".weft-dev";
/// How long a signal may take to show.
const SIGNAL_WAIT: Duration = Duration::from_secs(5);

/// Which state folder.
#[derive(Clone, Debug, clap::Args)]
pub struct StateArgs {
    /// Folder with everything that runs [default: .weft-dev/NAME]
    #[arg(long, value_name = "DIR", global = true, env = "WEFT_DEV_STATE")]
    state: Option<PathBuf>,
}

/// What to do.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DevCommand {
    /// Start a topology, or start it again
    Up {
        /// The file
        topology: PathBuf,
        /// Stay, and end everything on Ctrl-C
        #[arg(long)]
        foreground: bool,
    },
    /// End everything that was started
    Down {
        /// Its file, where several run
        topology: Option<PathBuf>,
        /// Also remove the state folder
        #[arg(long)]
        purge: bool,
    },
    /// Show what runs
    Status {
        /// Its file, where several run
        topology: Option<PathBuf>,
        /// How to print
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// Print the settings that point `weft` at a control plane: `eval "$(weft dev env)"`
    Env {
        /// A zone's control plane instead of the global one
        #[arg(long)]
        zone: Option<String>,
    },
    /// Kill processes at once (SIGKILL)
    Kill(Names),
    /// Freeze processes (SIGSTOP)
    Stop(Names),
    /// Thaw processes (SIGCONT)
    Cont(Names),
    /// Start processes that ended, with the same arguments and data
    Start {
        /// Which
        #[command(flatten)]
        names: Names,
        /// Remove what a control plane has stored before; its keys stay
        #[arg(long)]
        empty_store: bool,
    },
    /// Register and start one more replica of an app
    Add {
        /// In this zone
        zone: String,
        /// Of this app
        app: String,
    },
    /// End a workload that was added and forget it
    Remove(Names),
    /// The demo's app
    #[command(hide = true)]
    App(app::AppArgs),
    /// A longer road before a gateway
    #[command(hide = true)]
    Relay(relay::RelayArgs),
    /// Run a program that ends when the given process does
    #[command(hide = true)]
    Exec {
        /// Number of the process that started this one
        parent: u32,
        /// Program to become
        program: PathBuf,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

/// Names of processes.
#[derive(Clone, Debug, clap::Args)]
pub struct Names {
    /// `global`, `west/cp`, `west/gateway-1`, `west/cart-1` (app and proxy), `west/cart-*/proxy`
    #[arg(required = true)]
    names: Vec<String>,
}

/// Runs one command.
pub async fn run(state: StateArgs, command: DevCommand) -> Result<Exit, Failure> {
    match command {
        DevCommand::Up { topology, foreground } => up(&state, &topology, foreground).await,
        DevCommand::Down { topology, purge } => down(&state.folder(topology.as_deref())?, purge).await,
        DevCommand::Status { topology, output } => status(&state.folder(topology.as_deref())?, output),
        DevCommand::Env { zone } => env(&state.folder(None)?, zone.as_deref()),
        DevCommand::Kill(names) => signal(&state.folder(None)?, &names.names, Signal::SIGKILL, Alive::Dead).await,
        DevCommand::Stop(names) => signal(&state.folder(None)?, &names.names, Signal::SIGSTOP, Alive::Stopped).await,
        DevCommand::Cont(names) => signal(&state.folder(None)?, &names.names, Signal::SIGCONT, Alive::Running).await,
        DevCommand::Start { names, empty_store } => start(&state.folder(None)?, &names.names, empty_store).await,
        DevCommand::Add { zone, app } => add(&state.folder(None)?, &zone, &app).await,
        DevCommand::Remove(names) => remove(&state.folder(None)?, &names.names).await,
        DevCommand::App(args) => app::serve(args).await.map(|()| Exit::Done),
        DevCommand::Relay(args) => relay::serve(args).await.map(|()| Exit::Done),
        DevCommand::Exec { parent, program, args } => Err(process::exec_tied(parent, &program, &args)),
    }
}

impl StateArgs {
    /// The folder of a topology, or the only one there is.
    fn folder(&self, topology: Option<&Path>) -> Result<Folder, Failure> {
        if let Some(path) = &self.state {
            return Ok(Folder::new(absolute(path)));
        }
        if let Some(file) = topology {
            let topology = Topology::read(file)?;
            let name = topology.name.map_or_else(|| "dev".into(), String::from);
            return Ok(Folder::new(absolute(&Path::new(STATE_ROOT).join(name))));
        }
        let entries = std::fs::read_dir(STATE_ROOT).into_iter().flatten().flatten();
        let found: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.join("dev.json").exists()).collect();
        let runs = |path: &&PathBuf| {
            let state = DevState::load(&Folder::new((*path).clone())).ok().flatten();
            state.is_some_and(|state| state.processes.iter().any(|process| process::alive(process) != Alive::Dead))
        };
        let running: Vec<&PathBuf> = found.iter().filter(runs).collect();
        match (&running[..], &found[..]) {
            ([only], _) => Ok(Folder::new(absolute(only))),
            ([], [only]) => Ok(Folder::new(absolute(only))),
            (_, []) => Err(Failure::new(Exit::NotFound, format!("nothing was started below ./{STATE_ROOT}"))
                .hint("`weft dev up TOPOLOGY.yaml` starts something; --state names a folder elsewhere")),
            _ => Err(Failure::usage(format!("{} topologies were started below ./{STATE_ROOT}", found.len()))
                .hint("name one by its file, or with --state DIR")),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

async fn up(state: &StateArgs, file: &Path, foreground: bool) -> Result<Exit, Failure> {
    let folder = state.folder(Some(file))?;
    let state = up::up(file, &folder, foreground).await?;
    for process in &state.processes {
        if let (Role::Global | Role::ZoneCp, Some(api)) = (process.role, process.address("api")) {
            let token = up::token_file(process).unwrap_or_default();
            out!("{:<12} http://{api}/   token: {}", process.name, token.display());
        }
    }
    if foreground {
        eprintln!("Ctrl-C ends everything");
        up::interrupted().await;
        return down(&folder, false).await;
    }
    eprintln!("next: eval \"$(weft dev env)\" && weft status    weft dev down");
    Ok(Exit::Done)
}

async fn down(folder: &Folder, purge: bool) -> Result<Exit, Failure> {
    let _lock = Lock::take(folder)?;
    let mut state = DevState::expect(folder)?;
    // Callers before callees, so that nothing is called that is gone.
    let running: Vec<Process> =
        state.processes.iter().rev().filter(|p| process::alive(p) != Alive::Dead).cloned().collect();
    let killed = process::end(&running).await?;
    for process in &mut state.processes {
        (process.pid, process.started) = (None, None);
    }
    state.save(folder)?;
    let force = if killed > 0 { format!(", {killed} of them had to be killed") } else { String::new() };
    eprintln!("{} processes ended{force}", running.len());
    if purge {
        std::fs::remove_dir_all(folder.path()).map_err(|error| Failure::file("remove", folder.path(), &error))?;
    }
    Ok(Exit::Done)
}

fn status(folder: &Folder, output: Format) -> Result<Exit, Failure> {
    let state = DevState::expect(folder)?;
    let word = |process: &Process| match process::alive(process) {
        Alive::Running => "running",
        Alive::Stopped => "stopped",
        Alive::Dead => "ended",
    };
    match output {
        Format::Json | Format::Yaml => {
            let items: Vec<_> = state
                .processes
                .iter()
                .map(|process| {
                    let (memory, cpu) = process::usage(process).unzip();
                    let mut item = serde_json::to_value(process).expect("a process is plain data");
                    item["state"] = word(process).into();
                    item["memoryBytes"] = json!(memory);
                    item["cpuSeconds"] = json!(cpu);
                    item
                })
                .collect();
            let all = json!({"name": state.name, "topology": state.topology, "processes": items});
            if output == Format::Json { print_json(&all) } else { print_yaml(&all) }
        }
        Format::Name => state.processes.iter().for_each(|process| out!("{}", process.name)),
        Format::Table | Format::Wide => {
            let mut table = Table::new(["NAME", "STATE", "PID", "MEMORY", "CPU", "ADDRESS"]);
            for process in &state.processes {
                let (memory, cpu) = process::usage(process).unwrap_or_default();
                let main = ["api", "listen", "outbound"].iter().find_map(|what| process.address(what));
                table.row([
                    process.name.clone(),
                    word(process).into(),
                    process.pid.map_or_else(|| "-".into(), |pid| pid.to_string()),
                    format!("{:.1} MiB", memory as f64 / f64::from(1 << 20)),
                    format!("{cpu:.1} s"),
                    main.map_or_else(|| "-".into(), |address| address.to_string()),
                ]);
            }
            table.print();
        }
    }
    Ok(Exit::Done)
}

fn env(folder: &Folder, zone: Option<&str>) -> Result<Exit, Failure> {
    let state = DevState::expect(folder)?;
    let name = zone.map_or_else(|| plan::GLOBAL.to_owned(), |zone| format!("{zone}/cp"));
    let process =
        state.get(&name).ok_or_else(|| Failure::new(Exit::NotFound, format!("no process is named `{name}`")))?;
    let (Some(api), Some(token)) = (process.address("api"), up::token_file(process)) else {
        return Err(Failure::new(Exit::Bug, format!("{name} has no REST interface")));
    };
    out!("export WEFT_SERVER=http://{api}");
    out!("export WEFT_TOKEN_FILE='{}'", token.display());
    out!("export WEFT_DEV_STATE='{}'", folder.path().display());
    Ok(Exit::Done)
}

async fn signal(folder: &Folder, patterns: &[String], signal: Signal, expected: Alive) -> Result<Exit, Failure> {
    let _lock = Lock::take(folder)?;
    let state = DevState::expect(folder)?;
    let names = state.select(patterns)?;
    let chosen: Vec<&Process> = names.iter().filter_map(|name| state.get(name)).collect();
    for process in &chosen {
        process::signal(process, signal)?;
    }
    let shown = |process: &&&Process| {
        let now = process::alive(process);
        now == expected || now == Alive::Dead
    };
    if !process::until(SIGNAL_WAIT, || chosen.iter().all(|process| shown(&process))).await {
        return Err(Failure::no(format!("{signal} was sent and not all show it; see `weft dev status`")));
    }
    names.iter().for_each(|name| out!("{name}"));
    Ok(Exit::Done)
}

async fn start(folder: &Folder, patterns: &[String], empty_store: bool) -> Result<Exit, Failure> {
    let _lock = Lock::take(folder)?;
    let mut state = DevState::expect(folder)?;
    let names = state.select(patterns)?;
    // Apps before proxies: proxies look for them when they start.
    let mut chosen: Vec<Process> = names.iter().filter_map(|name| state.get(name).cloned()).collect();
    chosen.sort_by_key(|process| process.role != Role::App);
    for mut process in chosen {
        if process::alive(&process) != Alive::Dead {
            return Err(Failure::new(Exit::Conflict, format!("{} is running", process.name)));
        }
        if empty_store {
            empty(&process)?;
        }
        process::start(&mut process, &state.programs, false)?;
        out!("{}", process.name);
        state.put(process);
        state.save(folder)?;
    }
    Ok(Exit::Done)
}

/// Removes what a control plane has stored, and nothing else of its data folder.
fn empty(process: &Process) -> Result<(), Failure> {
    let Some(data) = process.data_dir.as_ref().filter(|_| process.role == Role::Global) else {
        return Err(Failure::usage(format!("{} has no store to empty", process.name)));
    };
    for entry in std::fs::read_dir(data).map_err(|error| Failure::file("read", data, &error))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("store") {
            let path = entry.path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.map_err(|error| Failure::file("remove", &path, &error))?;
        }
    }
    Ok(())
}

async fn add(folder: &Folder, zone: &str, app: &str) -> Result<Exit, Failure> {
    let _lock = Lock::take(folder)?;
    let mut state = DevState::expect(folder)?;
    let topology = Topology::read(&state.topology)?;
    let missing = |what: &str, name: &str| Failure::new(Exit::NotFound, format!("the topology has no {what} `{name}`"));
    let zone_index = topology.zones.iter().position(|plan| plan.name.value.as_str() == zone);
    let zone_index = zone_index.ok_or_else(|| missing("zone", zone))?;
    let app_index = topology.apps.iter().position(|known| known.name.value.as_str() == app);
    let app_index = app_index.ok_or_else(|| missing("app", app))?;
    let taken = |replica: &u32| state.get(&format!("{zone}/{app}-{replica}/proxy")).is_some();
    let replica = (1..=topology::REPLICAS_MAX).find(|replica| !taken(replica));
    let replica =
        replica.ok_or_else(|| Failure::no(format!("{app} has {} replicas already", topology::REPLICAS_MAX)))?;
    let member = plan::workload(&topology, zone_index, app_index, &topology.apps[app_index], replica, folder);
    let control = state.get(&format!("{zone}/cp")).cloned().ok_or_else(|| missing("zone", zone))?;
    let client = up::control_client(&control).await?;
    up::register(&client, &member, folder).await?;
    state.joined.insert(member.processes[0].name.clone());
    for mut process in member.processes.into_iter().rev() {
        process::start(&mut process, &state.programs, false)?;
        out!("{}", process.name);
        state.put(process);
    }
    state.save(folder)?;
    Ok(Exit::Done)
}

async fn remove(folder: &Folder, patterns: &[String]) -> Result<Exit, Failure> {
    let _lock = Lock::take(folder)?;
    let mut state = DevState::expect(folder)?;
    let names = state.select(patterns)?;
    let chosen: Vec<Process> = names.iter().filter_map(|name| state.get(name).cloned()).collect();
    if let Some(other) = chosen.iter().find(|process| !matches!(process.role, Role::App | Role::Proxy)) {
        return Err(Failure::usage(format!("{} is part of the topology; only workloads can be removed", other.name)));
    }
    process::end(&chosen).await?;
    for process in chosen.iter().filter(|process| process.role == Role::Proxy) {
        let (Some(zone), Some(workload)) = (&process.zone, &process.workload) else { continue };
        if let Some(control) = state.get(&format!("{zone}/cp")) {
            let client = up::control_client(control).await?;
            client.send(http::Method::DELETE, &format!("/resources/workloads/{workload}"), None, &[]).await?;
        }
        if let Some(data) = &process.data_dir {
            std::fs::remove_dir_all(data).map_err(|error| Failure::file("remove", data, &error))?;
        }
    }
    for name in &names {
        state.joined.remove(name);
        out!("{name}");
    }
    state.processes.retain(|process| !names.contains(&process.name));
    state.save(folder)?;
    Ok(Exit::Done)
}
