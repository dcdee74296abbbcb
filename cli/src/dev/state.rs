//! What runs: `dev.json` in the state folder, the only thing that `weft dev` commands tell each other by.

use super::plan::Folder;
use crate::exit::{Exit, Failure};
use api::ZoneName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Layout of `dev.json`. A state folder of another layout is refused.
const FORMAT: u32 = 1;

/// What a process is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Global control plane.
    Global,
    /// Zone control plane.
    ZoneCp,
    /// East-west gateway.
    Gateway,
    /// Proxy next to an app.
    Proxy,
    /// The app itself.
    App,
    /// Adds a delay before a gateway.
    Relay,
}

impl Role {
    /// Which program it runs.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Global => "weft-global-cp",
            Self::ZoneCp => "weft-zone-cp",
            Self::Gateway => "weft-gateway",
            Self::Proxy => "weft-dataplane",
            Self::App | Self::Relay => "weft",
        }
    }

    /// Whether it has a data folder.
    pub const fn keeps_data(self) -> bool {
        matches!(self, Self::Global | Self::ZoneCp | Self::Gateway | Self::Proxy)
    }

    /// As shown in tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::ZoneCp => "zone-cp",
            Self::Gateway => "gateway",
            Self::Proxy => "proxy",
            Self::App => "app",
            Self::Relay => "relay",
        }
    }
}

/// One process, as it is to be started and as it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Such as `global`, `west/cp`, `west/gateway-1`, `west/cart-1/proxy`, `west/cart-1/app`.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its zone.
    pub zone: Option<ZoneName>,
    /// `MESH/NAMESPACE/NAME` of the workload it belongs to.
    pub workload: Option<String>,
    /// Program, without folder.
    pub program: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its data folder.
    pub data_dir: Option<PathBuf>,
    /// Where its output goes.
    pub log: PathBuf,
    /// Where it listens, by what for: `api`, `sync`, `admin`, `outbound`, `listen`, ...
    pub addresses: BTreeMap<String, SocketAddr>,
    /// Set once it was started.
    pub pid: Option<i32>,
    /// Clock ticks after boot at which it was started: tells it from a later process with the same number.
    pub started: Option<u64>,
}

impl Process {
    /// Address by what for.
    pub fn address(&self, what: &str) -> Option<SocketAddr> {
        self.addresses.get(what).copied()
    }

    /// Whether the pattern names it: its name, a part of its path from the start, or with `*` for anything.
    pub fn matches(&self, pattern: &str) -> bool {
        if !pattern.contains('*') {
            return self.name == pattern || self.name.strip_prefix(pattern).is_some_and(|rest| rest.starts_with('/'));
        }
        let mut rest = self.name.as_str();
        let mut parts = pattern.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(after) = rest.strip_prefix(first) else { return false };
        rest = after;
        for part in parts {
            if part.is_empty() {
                continue;
            }
            match rest.find(part) {
                Some(i) => rest = &rest[i + part.len()..],
                None => return false,
            }
        }
        pattern.ends_with('*') || rest.is_empty() || rest.starts_with('/')
    }
}

/// Contents of `dev.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DevState {
    format: u32,
    /// Name of the topology.
    pub name: String,
    /// Its file.
    pub topology: PathBuf,
    /// Folder of the programs.
    pub programs: PathBuf,
    /// In the order in which they were started.
    pub processes: Vec<Process>,
    /// Names of zones and workloads that have joined and hold their own certificates.
    pub joined: BTreeSet<String>,
}

impl DevState {
    /// Nothing started yet.
    pub fn new(name: &str, topology: PathBuf, programs: PathBuf) -> Self {
        let name = name.to_owned();
        Self { format: FORMAT, name, topology, programs, processes: Vec::new(), joined: BTreeSet::new() }
    }

    /// Reads a state folder; `None`: nothing was ever started there.
    pub fn load(folder: &Folder) -> Result<Option<Self>, Failure> {
        let path = folder.path().join("dev.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(state) if state.format == FORMAT => Ok(Some(state)),
            _ => Err(Failure::no(format!("{} was written by another version of weft", path.display()))
                .hint("stop its processes and remove the folder")),
        }
    }

    /// As [`load`](Self::load), for commands that need something to be there.
    pub fn expect(folder: &Folder) -> Result<Self, Failure> {
        Self::load(folder)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("nothing was started in {}", folder.path().display()))
                .hint("`weft dev up TOPOLOGY.yaml` starts something; --state names another folder")
        })
    }

    /// Writes `dev.json` so that a reader sees the old or the new one.
    pub fn save(&self, folder: &Folder) -> Result<(), Failure> {
        let path = folder.path().join("dev.json");
        let fail = |error: std::io::Error| Failure::file("write", &path, &error);
        let next = path.with_extension("json.next");
        let mut file = File::create(&next).map_err(fail)?;
        let text = serde_json::to_vec_pretty(self).expect("a state has only text keys");
        // Not synced to disk: after a power cut nothing of it runs any more.
        file.write_all(&text).map_err(fail)?;
        std::fs::rename(&next, &path).map_err(fail)
    }

    /// The process of this name.
    pub fn get(&self, name: &str) -> Option<&Process> {
        self.processes.iter().find(|process| process.name == name)
    }

    /// Puts a process in, replacing one of the same name.
    pub fn put(&mut self, process: Process) {
        match self.processes.iter_mut().find(|known| known.name == process.name) {
            Some(known) => *known = process,
            None => self.processes.push(process),
        }
    }

    /// Names of processes that the patterns name; a pattern that names nothing is a mistake.
    pub fn select(&self, patterns: &[String]) -> Result<Vec<String>, Failure> {
        let mut names = Vec::new();
        for pattern in patterns {
            let found: Vec<&Process> = self.processes.iter().filter(|process| process.matches(pattern)).collect();
            if found.is_empty() {
                return Err(Failure::new(Exit::NotFound, format!("no process is named `{pattern}`")).hint(
                    "`weft dev status` lists them; `west/cart-1` names an app and its proxy, `west/*` a whole zone",
                ));
            }
            names.extend(found.into_iter().map(|process| process.name.clone()));
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }
}

/// Only one command at a time changes a state folder. Released when dropped.
pub struct Lock(#[expect(dead_code, reason = "held for its lock")] File);

impl Lock {
    /// Waits for others.
    pub fn take(folder: &Folder) -> Result<Self, Failure> {
        let path = folder.path().join("lock");
        let fail = |error: std::io::Error| Failure::file("lock", &path, &error);
        std::fs::create_dir_all(folder.path()).map_err(fail)?;
        let file = File::create(&path).map_err(fail)?;
        file.lock().map_err(fail)?;
        Ok(Self(file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_process_a_workload_or_many() {
        let folder = Folder::new("state".into());
        let topology = crate::dev::topology::Topology::parse(
            "t.yaml",
            "zones: [{name: west, gateways: 2}]\napps: [{name: cart, replicas: 2}]\n",
        )
        .unwrap();
        let mut state = DevState::new("x", "t.yaml".into(), "/bin".into());
        let zone = crate::dev::plan::zone(&topology, 0, &folder);
        zone.members.into_iter().flat_map(|member| member.processes).for_each(|process| state.put(process));
        for (pattern, count) in [
            ("west/cart-1/app", 1),
            ("west/cart-1", 2),
            ("west/cart-*", 4),
            ("west/cart-*/proxy", 2),
            ("west", 6),
            ("*/app", 2),
            ("west/gateway-2", 1),
        ] {
            assert_eq!(state.select(&[pattern.into()]).unwrap().len(), count, "{pattern}");
        }
        assert_eq!(state.select(&["east".into()]).unwrap_err().exit, Exit::NotFound);
        assert!(state.select(&["west/cart".into()]).is_err(), "a name is not a prefix of another");
    }
}
