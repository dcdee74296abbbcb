//! Policy lives in a real etcd: it outlives the control plane, and an etcd that is gone is said and survived.

use super::report::Report;
use super::scene::{Scene, Start, free, until};
use crate::row::Row;
use anyhow::{Context, Result, bail};
use cli::client::{Client, ClientError};
use http::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

const KEPT: &str = "etcd: documents outlive kill -9 of the global control plane";
const GONE: &str = "etcd: without etcd a write is refused in words, reads go on; with it again writes go on";

/// Documents written before the kill.
const DOCUMENTS: usize = 50;
/// How long etcd may take to elect itself.
const ETCD_WAIT: Duration = Duration::from_secs(20);
/// The name etcd is known by in the scene.
const ETCD: &str = "etcd";

struct World {
    scene: Scene,
    clients: SocketAddr,
    peers: SocketAddr,
    api: SocketAddr,
    sync: SocketAddr,
    admin: SocketAddr,
}

/// Looks at them.
pub async fn tell(report: &mut Report) -> Result<()> {
    if ![KEPT, GONE].iter().any(|fact| report.wants(fact)) {
        return Ok(());
    }
    let scene = Scene::new("etcd")?;
    let world = World { scene, clients: free()?, peers: free()?, api: free()?, sync: free()?, admin: free()? };
    world.etcd()?;
    let client = match world.global().await {
        Ok(client) => client,
        Err(error) if format!("{error:#}").contains("was built without") => {
            let mut row = Row::new(KEPT);
            row.saw("not looked at: weft-global-cp was built without the feature store/etcd");
            let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
            row.expect(!ci, "in CI it must be built with it: `cargo xtask test netns` does that");
            report.row(&row);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    report.fact(KEPT, async |row| kept(&world, &client, row).await).await;
    report.fact(GONE, async |row| gone(&world, row).await).await;
    Ok(())
}

fn document(n: usize) -> Value {
    let spec = json!({"to": [{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": format!("{}ms", n + 1)}}]});
    json!({"apiVersion": api::API_VERSION, "kind": "Timeout", "spec": spec,
        "metadata": {"name": format!("t{n}"), "namespace": "shop"}})
}

async fn put(client: &Client, n: usize) -> Result<(), ClientError> {
    let path = format!("/resources/timeouts/default/shop/t{n}");
    client.send(Method::PUT, &path, Some(&document(n)), &[]).await.map(drop)
}

async fn names(client: &Client) -> Result<Vec<(String, Value)>> {
    let answer = client.get("/resources/timeouts?limit=500").await?;
    let item = |item: &Value| (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), item["spec"].clone());
    Ok(answer["items"].as_array().context("a list")?.iter().map(item).collect())
}

impl World {
    fn etcd(&self) -> Result<()> {
        let (clients, peers) = (format!("http://{}", self.clients), format!("http://{}", self.peers));
        let data = self.scene.path("etcd").display().to_string();
        let args = [
            "--name",
            "one",
            "--data-dir",
            &data,
            "--listen-client-urls",
            &clients,
            "--advertise-client-urls",
            &clients,
            "--listen-peer-urls",
            &peers,
            "--initial-advertise-peer-urls",
            &peers,
            "--initial-cluster",
            &format!("one={peers}"),
            "--log-level",
            "error",
        ];
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        self.scene.start_other(ETCD, "etcd", args)
    }

    async fn global(&self) -> Result<Client> {
        let data = self.scene.path("global");
        let args = [
            "--data-dir",
            &data.display().to_string(),
            "--store",
            &format!("etcd:http://{}", self.clients),
            "--api-listen",
            &self.api.to_string(),
            "--sync-listen",
            &self.sync.to_string(),
            "--admin-listen",
            &self.admin.to_string(),
        ];
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let start = Start { program: "weft-global-cp", args, ..Start::default() };
        until("etcd takes connections", ETCD_WAIT, async || {
            if let Some(status) = self.scene.ended(ETCD) {
                bail!("etcd ended with {status}: {}", self.scene.log_tail(ETCD));
            }
            Ok(tokio::net::TcpStream::connect(self.clients).await.is_ok())
        })
        .await?;
        self.scene.start("global", &start)?;
        self.scene.client("global", self.api, &data).await
    }
}

async fn kept(world: &World, client: &Client, row: &mut Row) -> Result<()> {
    for n in 0..DOCUMENTS {
        put(client, n).await?;
    }
    let before = (names(client).await?, client.get("/meta").await?);
    world.scene.kill("global")?;
    let client = world.global().await?;
    let after = (names(&client).await?, client.get("/meta").await?);
    row.expect(after.0.len() == DOCUMENTS, format!("{} of {DOCUMENTS} documents are left", after.0.len()));
    row.expect(after.0 == before.0, "documents differ from what was acknowledged");
    for field in ["history", "revision"] {
        row.expect(
            after.1[field] == before.1[field],
            format!("{field} was {} and is {}", before.1[field], after.1[field]),
        );
    }
    row.saw(format!(
        "{DOCUMENTS} acknowledged, {} found after the restart, revision {}",
        after.0.len(),
        after.1["revision"]
    ));
    Ok(())
}

async fn gone(world: &World, row: &mut Row) -> Result<()> {
    let client = world.scene.client("global", world.api, &world.scene.path("global")).await?;
    world.scene.kill(ETCD)?;
    let refused = match put(&client, DOCUMENTS).await {
        Ok(()) => bail!("a write was acknowledged without etcd"),
        Err(error) => error.to_string(),
    };
    row.saw(format!("a write says: {refused}"));
    row.expect(refused.contains("does not answer"), "the refusal does not say that the store does not answer");
    row.expect(names(&client).await?.len() == DOCUMENTS, "reads do not go on");
    world.etcd()?;
    let again = until("writes go on", ETCD_WAIT, async || Ok(put(&client, DOCUMENTS + 1).await.is_ok())).await?;
    let shown = until("the write shows", ETCD_WAIT, async || {
        Ok(names(&client).await?.iter().any(|(name, _)| *name == format!("t{}", DOCUMENTS + 1)))
    });
    shown.await?;
    row.saw(format!("writes go on {:.1} s after etcd is back", again.as_secs_f64()));
    Ok(())
}

impl Scene {
    /// Starts a program that is not ours, found by PATH.
    fn start_other(&self, name: &str, program: &str, args: Vec<String>) -> Result<()> {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", program]).args(args).stdin(Stdio::null());
        self.adopt(name, command)
    }
}
