//! The running mesh: parts by name, and what happens to them.

use crate::app::App;
use crate::caller::Caller;
use crate::control::{Api, Control, Role};
use crate::load::Load;
use crate::plan::Plan;
use crate::proxies::{Member, NAMESPACE};
use crate::wait::until;
use anyhow::{anyhow, ensure};
use api::Object;
use api::object::Scope;
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Ending of the names of control planes of zones.
const CONTROL: &str = "cp";
/// Name of the global control plane.
const GLOBAL: &str = "global";
/// Header with the milliseconds from a write to the last proxy's acknowledgement.
const CONVERGED: &str = "weft-converged-ms";

/// A running mesh. It ends when it is dropped.
pub struct Mesh {
    global: Control,
    zones: BTreeMap<String, Control>,
    members: BTreeMap<String, Member>,
    folder: TempDir,
}

impl Mesh {
    pub(crate) async fn start(plan: Plan) -> Self {
        // Whoever wants to see logs says which.
        if std::env::var_os("RUST_LOG").is_some() {
            process::start("testkit", &process::LogOptions::default()).expect("RUST_LOG can be read");
        }
        let folder = TempDir::new().expect("there is a folder for temporary files");
        let mut global = Control::new(GLOBAL, Role::Global, folder.path());
        global.start().await;
        let mut mesh = Self { global, zones: BTreeMap::new(), members: BTreeMap::new(), folder };
        mesh.apply(
            "apiVersion: weft.dev/v1\nkind: Mesh\nmetadata: {name: default}\nspec: {defaultAuthorization: Allow}",
        )
        .await;
        for zone in &plan.zones {
            mesh.join_zone(&zone.name).await;
        }
        for zone in &plan.zones {
            let path = mesh.folder.path();
            let mut members: Vec<Member> = (1..=zone.gateways).map(|n| Member::gateway(&zone.name, n, path)).collect();
            members.extend((1..=zone.edges).map(|n| Member::edge(&zone.name, n, path)));
            for (app, replicas) in &zone.apps {
                for number in 1..=*replicas {
                    let fronted = zone.fronted.contains(&format!("{app}-{number}"));
                    members.push(Member::workload(&zone.name, app, number, fronted, path).await);
                }
            }
            let api = mesh.control(&zone.name);
            for mut member in members {
                member.join(&api).await;
                mesh.members.insert(member.name.clone(), member);
            }
        }
        mesh.converged().await;
        mesh
    }

    async fn join_zone(&mut self, zone: &str) {
        let reply = self.global().good(Method::POST, "/zones", Some(&json!({ "name": zone }))).await;
        let reply = reply.expect("the zone is new");
        let mut control = Control::new(&format!("{zone}/{CONTROL}"), Role::Zone, self.folder.path());
        let token = reply.body["token"].as_str().expect("a new zone is answered with a token");
        std::fs::write(control.token_file(), token).expect("the folder is ours");
        control.start().await;
        let api = control.api();
        self.zones.insert(zone.into(), control);
        until("the zone has global's word", async || api.get("/replica").await.map(drop)).await;
    }

    /// The REST interface of global.
    pub fn global(&self) -> Api {
        self.global.api()
    }

    /// The REST interface of a zone.
    pub fn control(&self, zone: &str) -> Api {
        self.zones.get(zone).unwrap_or_else(|| panic!("there is no zone `{zone}`")).api()
    }

    /// The port at which calls from here come in: of an app at its proxy, from outside at an edge gateway.
    pub fn port(&self, member: &str) -> u16 {
        self.member(member).port()
    }

    /// Calls as a workload's app makes them: through its own proxy.
    pub fn from(&self, workload: &str) -> Arc<Caller> {
        self.member(workload).caller.clone()
    }

    /// Calls `host` from a workload, so many times a second, until it is stopped.
    pub fn load(&self, workload: &str, host: &str, per_second: u32) -> Load {
        Load::start(self.from(workload), host, per_second)
    }

    /// A workload's app, to make it misbehave.
    pub fn app(&self, workload: &str) -> &App {
        self.member(workload).app().unwrap_or_else(|| panic!("{workload} has no app"))
    }

    /// Ends a workload's app, while its proxy stays: its port and every connection are closed.
    pub fn stop_app(&mut self, workload: &str) {
        let member = self.members.get_mut(workload).unwrap_or_else(|| panic!("there is no `{workload}`"));
        member.app_mut().unwrap_or_else(|| panic!("{workload} has no app")).stop();
    }

    fn member(&self, name: &str) -> &Member {
        self.members.get(name).unwrap_or_else(|| panic!("there is no `{name}`"))
    }

    /// Writes documents at global, and says how long the slowest took to be run by every proxy it is for.
    pub async fn apply(&self, yaml: &str) -> Duration {
        let read = policy::document::read("scenario.yaml", yaml);
        assert!(read.diagnostics.is_empty(), "{}", policy::document::render(yaml, &read.diagnostics));
        let mut slowest = Duration::ZERO;
        for object in read.objects {
            let body = serde_json::to_value(&object).expect("a document is plain data");
            let path = format!("{}?wait=20s", path(&object));
            let reply = self.global().good(Method::PUT, &path, Some(&body)).await;
            let reply = reply.unwrap_or_else(|error| panic!("{error:#}"));
            let took = reply.headers.get(CONVERGED).and_then(|value| value.to_str().ok()?.parse::<f64>().ok());
            let took = took.unwrap_or_else(|| panic!("{path} did not reach every proxy: {}", reply.body["status"]));
            slowest = slowest.max(Duration::from_secs_f64(took / 1e3));
        }
        slowest
    }

    /// Removes a resource at global, and waits until every proxy runs without it.
    pub async fn delete(&self, path: &str) {
        let deleted = self.global().good(Method::DELETE, path, None).await;
        deleted.unwrap_or_else(|error| panic!("{error:#}"));
        self.converged().await;
    }

    /// Adds a replica of an app to a zone; its name.
    pub async fn add(&mut self, zone: &str, app: &str) -> String {
        let number = 1 + self.alike(&format!("{zone}/{app}-*")).len();
        let mut member = Member::workload(zone, app, number, false, self.folder.path()).await;
        let name = member.name.clone();
        member.join(&self.control(zone)).await;
        self.members.insert(name.clone(), member);
        name
    }

    /// Ends parts at once, without a word to anybody, as a kill does. A name may end with `*`.
    pub async fn lose(&mut self, names: &str) {
        if let Some(control) = self.control_plane(names) {
            return control.kill().await;
        }
        for name in self.alike(names) {
            self.members.get_mut(&name).expect("it was just found").kill().await;
        }
    }

    /// Starts what was lost, where it was, with the data it had.
    pub async fn restore(&mut self, names: &str) {
        if let Some(control) = self.control_plane(names) {
            return control.start().await;
        }
        for name in self.alike(names) {
            self.members.get_mut(&name).expect("it was just found").revive().await;
        }
    }

    /// Empties the store of the lost global control plane.
    pub fn forget_everything(&self) {
        self.global.forget();
    }

    /// Freezes a workload's proxy: everybody can connect to it, nobody is answered.
    pub fn freeze(&mut self, workload: &str) {
        self.frozen(workload, true);
    }

    /// Lets it go on.
    pub fn thaw(&mut self, workload: &str) {
        self.frozen(workload, false);
    }

    fn frozen(&mut self, workload: &str, frozen: bool) {
        self.members.get_mut(workload).unwrap_or_else(|| panic!("there is no `{workload}`")).freeze(frozen);
    }

    fn control_plane(&mut self, name: &str) -> Option<&mut Control> {
        match name.split_once('/') {
            None if name == GLOBAL => Some(&mut self.global),
            Some((zone, CONTROL)) => self.zones.get_mut(zone),
            _ => None,
        }
    }

    fn alike(&self, names: &str) -> Vec<String> {
        let fits = |name: &&String| match names.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => *name == names,
        };
        let found: Vec<String> = self.members.keys().filter(fits).cloned().collect();
        assert!(!found.is_empty(), "nothing is named `{names}`");
        found
    }

    /// Waits until every zone holds what global tells, every proxy runs what its zone tells, and every zone knows of
    /// every other exactly what is well there.
    pub async fn converged(&self) {
        until("the mesh has converged", async || self.settled().await).await;
    }

    async fn settled(&self) -> anyhow::Result<()> {
        let running = || self.zones.iter().filter(|(_, control)| control.runs());
        if self.global.runs() {
            let wanted = self.global().get("/meta").await?["revision"].clone();
            for (zone, control) in running() {
                let status = control.api().get("/status").await?;
                ensure!(status["link"]["connected"] == true, "{zone} is not connected to global");
                let held = control.api().get("/replica").await?["revision"].clone();
                ensure!(held == wanted, "{zone} holds revision {held} of {wanted}");
            }
        }
        for (zone, control) in running() {
            self.zone_settled(zone, &control.api()).await?;
        }
        Ok(())
    }

    /// Endpoints first: proxies that hold the latest configuration afterwards hold those.
    async fn zone_settled(&self, zone: &str, api: &Api) -> anyhow::Result<()> {
        let own = |member: &&Member| member.name.starts_with(&format!("{zone}/"));
        if let Some(witness) = self.members.values().filter(own).find(|member| member.service().is_some()) {
            let workload = witness.name.trim_start_matches(&format!("{zone}/"));
            let config = api.get(&format!("/proxies/default/{NAMESPACE}/{workload}/config")).await?;
            for other in self.zones.keys() {
                for (service, ready) in self.well_in(other) {
                    let item = format!("endpoints/default/{NAMESPACE}/{service}/{other}");
                    let known = ready_of(&config["items"][&item]);
                    ensure!(known == ready, "{zone} knows {known} of {ready} of {service} in {other}");
                }
            }
        }
        let proxies = api.get("/proxies").await?;
        let items = proxies["items"].as_array().ok_or_else(|| anyhow!("no list of proxies"))?;
        for member in self.members.values().filter(own).filter(|member| member.well) {
            let found = items
                .iter()
                .find(|item| item["workload"].as_str().is_some_and(|w| member.name.ends_with(&format!("/{w}"))));
            let settled = |item: &Value| item["connected"] == true && item["ready"] == true && item["behind"] == false;
            ensure!(found.is_some_and(settled), "{} is not settled: {found:?}", member.name);
        }
        Ok(())
    }

    /// Workloads of a zone that can be reached from elsewhere, by service.
    fn well_in(&self, zone: &str) -> BTreeMap<&str, u64> {
        let mut well = BTreeMap::new();
        for member in self.members.values().filter(|member| member.name.starts_with(&format!("{zone}/"))) {
            if let Some(service) = member.service() {
                *well.entry(service).or_default() += u64::from(member.well);
            }
        }
        well
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // All at once; each is waited for when it is dropped itself.
        self.members.values_mut().for_each(Member::condemn);
        self.zones.values_mut().for_each(Control::condemn);
        self.global.condemn();
    }
}

/// Ready endpoints of an item, whether they are listed or counted.
fn ready_of(endpoints: &Value) -> u64 {
    let listed = |items: &Vec<Value>| items.iter().filter(|endpoint| endpoint["ready"] == true).count() as u64;
    let place = &endpoints["place"];
    place["local"].as_array().map(listed).or_else(|| place["remote"]["ready"].as_u64()).unwrap_or(0)
}

/// Path of a document's resource.
fn path(object: &Object) -> String {
    let kind = policy::kind(&object.kind).unwrap_or_else(|| panic!("no kind is named `{}`", object.kind));
    let key = object.key(kind.scope).expect("a document that was checked has a key");
    let (plural, name) = (kind.plural, &key.name);
    match kind.scope {
        Scope::Global => format!("/resources/{plural}/{name}"),
        Scope::Namespaced => {
            let (mesh, namespace) = (key.mesh.unwrap_or_default(), key.namespace.unwrap_or_default());
            format!("/resources/{plural}/{mesh}/{namespace}/{name}")
        }
    }
}
