//! `weft dev up`: does what a person would do to set up a mesh, step by step, with the same requests.

use super::plan::{self, Folder, Member, ZoneMembers};
use super::process::{self, Alive};
use super::progress::Progress;
use super::state::{DevState, Lock, Process, Role};
use super::topology::Topology;
use crate::client::{Client, ClientError};
use crate::exit::{Exit, Failure};
use api::Object;
use api::object::Scope;
use http::Method;
use serde_json::{Value, json};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How long a control plane may take to answer.
const READY_WAIT: Duration = Duration::from_secs(20);
/// How long all proxies together may take to hold their configuration.
const CONVERGED_WAIT: Duration = Duration::from_secs(60);

/// Starts a topology, or what is missing of it. With `tied` the processes end with this one.
pub async fn up(file: &Path, folder: &Folder, tied: bool) -> Result<DevState, Failure> {
    let topology = Topology::read(file)?;
    let programs = process::programs()?;
    let _lock = Lock::take(folder)?;
    let name = topology.name.as_ref().map_or("dev", |name| name.as_str());
    let file = std::fs::canonicalize(file).unwrap_or_else(|_| file.to_path_buf());
    let mut state = DevState::load(folder)?.unwrap_or_else(|| DevState::new(name, file.clone(), programs.clone()));
    if state.processes.iter().any(|process| process::alive(process) != Alive::Dead) {
        return Err(Failure::new(Exit::Conflict, format!("`{}` is running already", state.name))
            .hint("`weft dev status` shows it, `weft dev down` ends it"));
    }
    (state.topology, state.programs) = (file, programs);
    state.processes.clear();

    let global = plan::global(&topology, folder);
    let zones: Vec<ZoneMembers> = (0..topology.zones.len()).map(|i| plan::zone(&topology, i, folder)).collect();
    let members = || zones.iter().flat_map(|zone| zone.members.iter().flat_map(|member| &member.processes));
    let all: Vec<&Process> =
        std::iter::once(&global).chain(zones.iter().map(|zone| &zone.control)).chain(members()).collect();
    process::preflight(folder, &all)?;

    let mut run = Up { topology: &topology, folder, state, tied, progress: Progress::start() };
    // What was started is in `dev.json` at any time, so that `weft dev down` finds it however this ends.
    run.state.save(folder)?;
    let done = tokio::select! {
        done = run.everything(global, zones) => done,
        () = interrupted() => Err(Failure::new(Exit::Interrupted, "interrupted")),
    };
    if let Err(failure) = done {
        process::end(&run.state.processes).await?;
        return Err(failure);
    }
    Ok(run.state)
}

/// Returns on Ctrl-C, or when somebody wants this process to end.
pub async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

struct Up<'a> {
    topology: &'a Topology,
    folder: &'a Folder,
    state: DevState,
    tied: bool,
    progress: Progress,
}

impl Up<'_> {
    async fn everything(&mut self, global: Process, zones: Vec<ZoneMembers>) -> Result<(), Failure> {
        self.start(global.clone())?;
        let global = self.client(&global).await?;
        self.progress.line("global", format_args!("answers at {}", global.server()));
        for (name, mesh) in &self.topology.meshes {
            let spec = serde_json::to_value(mesh).expect("a mesh is plain data");
            let document =
                json!({"apiVersion": api::API_VERSION, "kind": "Mesh", "metadata": {"name": name}, "spec": spec});
            global.send(Method::PUT, &format!("/resources/meshes/{name}"), Some(&document), &[]).await?;
        }
        // Every zone control plane first: they start side by side.
        for zone in &zones {
            self.join_zone(&global, zone).await?;
        }
        for zone in &zones {
            let client = self.client(&zone.control).await?;
            let mut apps = 0;
            for member in &zone.members {
                self.join_member(&client, member).await?;
                apps += member.processes.iter().filter(|process| process.role == Role::App).count();
            }
            let gateways = zone.members.len() - apps;
            let text = format_args!("answers at {}; {gateways} gateways, {apps} workloads", client.server());
            self.progress.line(zone.zone.as_str(), text);
        }
        self.apply(&global, &zones).await?;
        for zone in &zones {
            let client = self.client(&zone.control).await?;
            self.settled(&client, zone).await?;
        }
        self.progress.line("ready", format_args!("{} processes run", self.state.processes.len()));
        Ok(())
    }

    fn start(&mut self, mut process: Process) -> Result<(), Failure> {
        process::start(&mut process, &self.state.programs, self.tied)?;
        self.state.put(process);
        self.state.save(self.folder)
    }

    async fn client(&self, process: &Process) -> Result<Client, Failure> {
        let process = self.state.get(&process.name).unwrap_or(process);
        control_client(process).await
    }

    async fn join_zone(&mut self, global: &Client, zone: &ZoneMembers) -> Result<(), Failure> {
        let name = &zone.control.name;
        if !self.state.joined.contains(name) {
            let body = json!({"name": zone.zone, "region": zone.region});
            let answer = global.post("/zones", &body).await?;
            write_token(&self.folder.token(name), &answer)?;
        }
        self.start(zone.control.clone())?;
        self.state.joined.insert(name.clone());
        Ok(())
    }

    async fn join_member(&mut self, zone: &Client, member: &Member) -> Result<(), Failure> {
        let first = &member.processes[0].name;
        if !self.state.joined.contains(first) {
            register(zone, member, self.folder).await?;
            self.state.joined.insert(first.clone());
        }
        // The app first, so that its proxy finds it when it looks.
        for process in member.processes.iter().rev() {
            self.start(process.clone())?;
        }
        Ok(())
    }

    async fn apply(&self, global: &Client, zones: &[ZoneMembers]) -> Result<(), Failure> {
        for object in &self.topology.resources {
            let client = match object.zone().ok().flatten() {
                Some(name) => match zones.iter().find(|zone| zone.zone == name) {
                    Some(zone) => self.client(&zone.control).await?,
                    None => return Err(Failure::no(format!("{}: no zone is named `{name}`", object.metadata.name))),
                },
                None => global.clone(),
            };
            let path = resource_path(object)?;
            let body = serde_json::to_value(object).expect("a document is plain data");
            client.send(Method::PUT, &path, Some(&body), &[]).await?;
            self.progress.line("apply", format_args!("{} {}", object.kind, object.metadata.name));
        }
        Ok(())
    }

    /// Waits until every proxy of the zone is connected, ready and holds its configuration.
    async fn settled(&self, client: &Client, zone: &ZoneMembers) -> Result<(), Failure> {
        let end = Instant::now() + CONVERGED_WAIT;
        loop {
            for process in &self.state.processes {
                if process.zone.as_ref() == Some(&zone.zone) && process::alive(process) == Alive::Dead {
                    return Err(ended_early(process));
                }
            }
            let waiting = match client.get("/proxies").await {
                Ok(answer) => unsettled(&answer, zone.members.len()),
                Err(error) => vec![error.to_string()],
            };
            if waiting.is_empty() {
                self.progress
                    .line(zone.zone.as_str(), format_args!("{} proxies hold their configuration", zone.members.len()));
                return Ok(());
            }
            if Instant::now() >= end {
                let text = format!(
                    "zone {}: after {} s still not in order: {}",
                    zone.zone,
                    CONVERGED_WAIT.as_secs(),
                    waiting.join(", ")
                );
                return Err(
                    Failure::no(text).hint(format!("the logs are in {}", self.folder.path().join("logs").display()))
                );
            }
            tokio::time::sleep(process::LOOK).await;
        }
    }
}

/// Names of proxies that are not connected, ready and up to date, or what is wrong with the list.
pub fn unsettled(answer: &Value, expected: usize) -> Vec<String> {
    let items = answer["items"].as_array().cloned().unwrap_or_default();
    let mut waiting: Vec<String> = items
        .iter()
        .filter(|item| !(item["connected"] == true && item["ready"] == true && is_current(&item["behind"])))
        .map(|item| item["workload"].as_str().unwrap_or("?").to_owned())
        .collect();
    if items.len() < expected {
        waiting.push(format!("{} of {expected} registered", items.len()));
    }
    waiting
}

fn is_current(behind: &Value) -> bool {
    matches!(behind, Value::Bool(false) | Value::Null) || behind.as_u64() == Some(0)
}

/// Registers a workload at its zone and puts the token where its proxy reads it.
pub async fn register(zone: &Client, member: &Member, folder: &Folder) -> Result<(), Failure> {
    let registration = &member.registration;
    let answer = match zone.post("/workloads", registration).await {
        // It was registered by an earlier run that was cut off before its proxy had joined: another token is enough.
        Err(ClientError::Problem(problem)) if problem.status == 409 => {
            let part = |name: &str| registration[name].as_str().unwrap_or_default().to_owned();
            let path = format!("/workloads/{}/{}/{}/token", part("mesh"), part("namespace"), part("name"));
            zone.post(&path, &json!({})).await?
        }
        other => other?,
    };
    write_token(&folder.token(&member.processes[0].name), &answer)
}

fn write_token(path: &Path, answer: &Value) -> Result<(), Failure> {
    let token = answer["token"].as_str().ok_or_else(|| Failure::new(Exit::Bug, "the server sent no token"))?;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Failure::file("write", path, &error))?;
    std::io::Write::write_all(&mut file, token.as_bytes()).map_err(|error| Failure::file("write", path, &error))
}

/// Path of a document's resource, below `/api/v1`.
pub fn resource_path(object: &Object) -> Result<String, Failure> {
    let kind = policy::kind(&object.kind).ok_or_else(|| Failure::no(format!("no kind is named `{}`", object.kind)))?;
    let key = object.key(kind.scope).map_err(|error| Failure::no(error.to_string()))?;
    Ok(match kind.scope {
        Scope::Global => format!("/resources/{}/{}", kind.plural, key.name),
        Scope::Namespaced => {
            let mesh = key.mesh.unwrap_or_default();
            format!("/resources/{}/{mesh}/{}/{}", kind.plural, key.namespace.unwrap_or_default(), key.name)
        }
    })
}

/// A client for a control plane's REST interface, once it is there and has written its token.
pub async fn control_client(process: &Process) -> Result<Client, Failure> {
    let missing = || Failure::new(Exit::Bug, format!("{} has no REST interface", process.name));
    let address = process.address("api").ok_or_else(missing)?;
    let token_file = token_file(process).ok_or_else(missing)?;
    let end = Instant::now() + READY_WAIT;
    loop {
        if process::alive(process) == Alive::Dead {
            return Err(ended_early(process));
        }
        if let Ok(token) = std::fs::read_to_string(&token_file) {
            let client = Client::new(&address.to_string(), Some(token.trim().to_owned()))?;
            match client.get("/meta").await {
                Ok(_) => return Ok(client),
                // Still starting, or the token is about to be replaced.
                Err(error) if Instant::now() >= end => return Err(error.into()),
                Err(_) => {}
            }
        }
        if Instant::now() >= end {
            let text = format!("{} is not ready after {} s", process.name, READY_WAIT.as_secs());
            return Err(Failure::new(Exit::Unreachable, text).hint(format!("its log is {}", process.log.display())));
        }
        tokio::time::sleep(process::LOOK).await;
    }
}

/// Where a control plane keeps the token of its API.
pub fn token_file(process: &Process) -> Option<PathBuf> {
    process.data_dir.as_ref().map(|folder| folder.join("admin.token"))
}

fn ended_early(process: &Process) -> Failure {
    process::reap(process);
    let text = format!("{} ended while it was needed; the end of {}:", process.name, process.log.display());
    Failure::no(format!("{text}\n{}", process::log_tail(process).trim_end()))
}
