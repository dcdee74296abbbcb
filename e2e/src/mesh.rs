//! The running mesh: processes by name, control planes by zone, and waiting for conditions. Everything that changes it
//! goes through `weft` or REST, as a person would do it.

use crate::caller::Caller;
use anyhow::{Context, Result, bail};
use cli::client::Client;
use cli::dev::plan::Folder;
use cli::dev::state::{DevState, Process, Role};
use cli::dev::up::token_file;
use cli::dev::{process, up};
use http::Method;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often another process's state is asked for.
const LOOK: Duration = Duration::from_millis(25);
/// How long the mesh may take to come to rest after an experiment.
pub const REST_WAIT: Duration = Duration::from_secs(60);

/// A running mesh.
pub struct Mesh {
    weft: PathBuf,
    topology: PathBuf,
    folder: Folder,
    env: Vec<(&'static str, &'static str)>,
}

impl Mesh {
    /// Beside the own program; nothing runs yet.
    pub fn new(topology: &Path, state: &Path) -> Result<Self> {
        let weft = process::programs().map_err(|failure| anyhow::anyhow!(failure.text()))?.join("weft");
        Ok(Self { weft, topology: topology.into(), folder: Folder::new(std::path::absolute(state)?), env: Vec::new() })
    }

    /// The state folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Every process it starts has this in its environment.
    pub fn with(&mut self, variable: &'static str, value: &'static str) {
        self.env.push((variable, value));
    }

    /// `weft dev up`, with its progress on our standard error.
    pub async fn up(&self) -> Result<()> {
        let status = self.command(&["dev", "up"]).arg(&self.topology).stdout(std::process::Stdio::null()).status();
        let status = status.await.context("running weft dev up")?;
        if !status.success() {
            bail!("`weft dev up` ended with {status}");
        }
        Ok(())
    }

    /// `weft dev down`.
    pub async fn down(&self) -> Result<()> {
        self.weft(&["dev", "down"]).await.map(drop)
    }

    fn command(&self, args: &[&str]) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.weft);
        command.args(args).env("WEFT_DEV_STATE", self.folder.path()).stdin(std::process::Stdio::null());
        command.envs(self.env.iter().copied());
        command
    }

    /// Runs `weft` and returns what it printed.
    pub async fn weft(&self, args: &[&str]) -> Result<String> {
        let output = self.command(args).output().await.context("running weft")?;
        if !output.status.success() {
            bail!(
                "`weft {}` ended with {}: {}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `weft` against a control plane (`global` or `ZONE/cp`).
    pub async fn weft_at(&self, control: &str, args: &[&str]) -> Result<String> {
        let process = self.process(control)?;
        let api = process.address("api").context("it has a REST interface")?;
        let token = token_file(&process).context("it has a token")?;
        let mut all = vec!["--server".to_owned(), format!("http://{api}")];
        all.extend(["--token-file".to_owned(), token.display().to_string()]);
        all.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.weft(&all.iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// `weft dev kill NAME`
    pub async fn kill(&self, name: &str) -> Result<()> {
        self.weft(&["dev", "kill", name]).await.map(drop)
    }

    /// `weft dev stop NAME`: freezes it.
    pub async fn freeze(&self, name: &str) -> Result<()> {
        self.weft(&["dev", "stop", name]).await.map(drop)
    }

    /// `weft dev cont NAME`
    pub async fn thaw(&self, name: &str) -> Result<()> {
        self.weft(&["dev", "cont", name]).await.map(drop)
    }

    /// `weft dev start NAME`
    pub async fn start(&self, name: &str) -> Result<()> {
        self.weft(&["dev", "start", name]).await.map(drop)
    }

    /// What runs.
    pub fn state(&self) -> Result<DevState> {
        DevState::expect(&self.folder).map_err(|failure| anyhow::anyhow!(failure.text()))
    }

    /// A process by name.
    pub fn process(&self, name: &str) -> Result<Process> {
        self.state()?.get(name).cloned().with_context(|| format!("there is no process `{name}`"))
    }

    /// A process's address.
    pub fn address(&self, name: &str, what: &str) -> Result<std::net::SocketAddr> {
        self.process(name)?.address(what).with_context(|| format!("{name} has no {what} address"))
    }

    /// Names of zones.
    pub fn zones(&self) -> Result<Vec<String>> {
        let control = |process: &&Process| process.role == Role::ZoneCp;
        Ok(self.state()?.processes.iter().filter(control).filter_map(|p| Some(p.zone.as_ref()?.to_string())).collect())
    }

    /// The REST interface of `global` or `ZONE/cp`, once it answers.
    pub async fn control(&self, name: &str) -> Result<Client> {
        up::control_client(&self.process(name)?).await.map_err(|failure| anyhow::anyhow!(failure.text()))
    }

    /// Requests of an app, through its own proxy.
    pub fn caller(&self, workload: &str) -> Result<Arc<Caller>> {
        Ok(Caller::new(self.address(&format!("{workload}/proxy"), "outbound")?))
    }

    /// Tells a demo app how to behave.
    pub async fn behave(&self, workload: &str, control: &Value) -> Result<()> {
        let app = Caller::new(self.address(&format!("{workload}/app"), "listen")?);
        let reply = app.send(Method::POST, "app", "/__control", control.to_string().into()).await;
        if reply.status != 200 {
            bail!("{workload} did not take {control}: {}", reply.words());
        }
        Ok(())
    }

    /// Writes a document and waits until every proxy has it.
    pub async fn put(&self, object: &Value) -> Result<cli::client::Answer> {
        let document: api::Object = serde_json::from_value(object.clone())?;
        let path = up::resource_path(&document).map_err(|failure| anyhow::anyhow!(failure.text()))?;
        let client = self.control("global").await?.with_timeout(Duration::from_secs(15));
        Ok(client.send(Method::PUT, &format!("{path}?wait=10s"), Some(object), &[]).await?)
    }

    /// Reads a document.
    pub async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.control("global").await?.get(path).await?)
    }

    /// Removes a document and waits until every proxy runs without it.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.control("global").await?.send(Method::DELETE, path, None, &[]).await?;
        self.at_rest().await.map(drop)
    }

    /// Waits for a condition that is asked for again and again; says how long it took.
    pub async fn until<F>(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> F) -> Result<Duration>
    where
        F: Future<Output = Result<bool>>,
    {
        let since = Instant::now();
        let mut last = String::from("it does not hold");
        while since.elapsed() < limit {
            match holds().await {
                Ok(true) => return Ok(since.elapsed()),
                Ok(false) => {}
                Err(error) => last = format!("{error:#}"),
            }
            tokio::time::sleep(LOOK).await;
        }
        bail!("after {} s still not: {what} ({last})", limit.as_secs())
    }

    /// Waits until every proxy of every zone is connected, ready and current.
    pub async fn at_rest(&self) -> Result<Duration> {
        let since = Instant::now();
        for zone in self.zones()? {
            let client = self.control(&format!("{zone}/cp")).await?;
            let settled = || async {
                let waiting = up::unsettled(&client.get("/proxies").await?, 0);
                if waiting.is_empty() { Ok(true) } else { bail!("waiting for {}", waiting.join(", ")) }
            };
            self.until(&format!("every proxy of {zone} is ready and current"), REST_WAIT, settled).await?;
        }
        Ok(since.elapsed())
    }

    /// What a zone says of one proxy.
    pub async fn proxy_view(&self, zone: &str, workload: &str) -> Result<Value> {
        let list = self.control(&format!("{zone}/cp")).await?.get("/proxies").await?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let found = items.into_iter().find(|item| item["workload"] == workload);
        found.with_context(|| format!("{zone} knows no proxy `{workload}`"))
    }
}

/// A document of a kind in namespace `shop`.
pub fn document(kind: &str, name: &str, spec: Value) -> Value {
    let version = policy::kind(kind).map_or(api::API_VERSION, |kind| kind.api_version);
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
}
