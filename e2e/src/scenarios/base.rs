//! A small world on loopback: global and a zone that has joined, on ports nobody else has.

use super::scene::{Scene, Start, free, until};
use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cli::client::Client;
use http::Method;
use identity::{Credentials, LiveCredentials, TrustStore};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The zone.
pub const ZONE: &str = "west";
/// From the start of a proxy to its first certificate.
const ENROLL_WAIT: Duration = Duration::from_secs(10);
/// A token that ended an hour ago.
const ENDED_SECONDS: u64 = 3_600;

/// Processes and how to reach them.
pub struct Base {
    /// Ends them.
    pub scene: Scene,
    /// REST of the global control plane.
    pub global: Client,
    /// REST of the zone.
    pub west: Client,
    /// Where each listens.
    pub at: Places,
    /// A join token that has ended.
    pub ended: String,
}

/// Addresses.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Of global.
    pub global_api: SocketAddr,
    /// Of global.
    pub global_sync: SocketAddr,
    /// Of the zone.
    pub west_api: SocketAddr,
    /// Of the zone.
    pub west_sync: SocketAddr,
    /// Of the zone.
    pub west_peer: SocketAddr,
}

impl Base {
    /// Starts them.
    pub async fn new(story: &str) -> Result<Self> {
        let scene = Scene::new(story)?;
        let at = Places {
            global_api: free()?,
            global_sync: free()?,
            west_api: free()?,
            west_sync: free()?,
            west_peer: free()?,
        };
        let client = start_global(&scene, &at).await?;
        let old = client.post("/zones", &json!({"name": "old"})).await?;
        scene.end("global").await?;
        let ended = end_token(&scene, old["token"].as_str().context("a token")?)?;
        let global = start_global(&scene, &at).await?;
        let mesh = json!({"apiVersion": api::API_VERSION, "kind": "Mesh", "metadata": {"name": "default"},
            "spec": {"defaultAuthorization": "Allow"}});
        global.send(Method::PUT, "/resources/meshes/default", Some(&mesh), &[]).await?;
        let answer = global.post("/zones", &json!({"name": ZONE})).await?;
        let token = scene.secret("west.token", answer["token"].as_str().context("a token")?, None)?;
        scene.start(ZONE, &zone(&scene, &at, &token.display().to_string())?)?;
        let west = scene.client(ZONE, at.west_api, &scene.path(ZONE)).await?;
        until("the zone holds policy", ENROLL_WAIT, async || {
            Ok(west.get("/replica").await?["revision"].as_u64() > Some(0))
        })
        .await?;
        Ok(Self { scene, global, west, at, ended })
    }

    /// Registers a workload of namespace `shop` and has a real proxy fetch its certificate; the proxy is ended again.
    pub async fn enrolled(&self, name: &str, spec: Value) -> Result<Member> {
        let body = json!({"mesh": "default", "namespace": "shop", "name": name, "spec": spec});
        let answer = self.west.post("/workloads", &body).await?;
        let token = self.scene.secret(&format!("{name}.token"), answer["token"].as_str().context("a token")?, None)?;
        let data = self.scene.path(name);
        let start = proxy(&data.display().to_string(), &["--token-file", &token.display().to_string()])?;
        self.scene.start(name, &start)?;
        self.fetched(name, &data).await
    }

    /// Has a real zone control plane join under a name; it is ended again.
    pub async fn joined(&self, name: &str) -> Result<Member> {
        let answer = self.global.post("/zones", &json!({"name": name})).await?;
        let token = self.scene.secret(&format!("{name}.token"), answer["token"].as_str().context("a token")?, None)?;
        let data = self.scene.path(name);
        let mut args = vec!["--data-dir".to_owned(), data.display().to_string()];
        args.extend(["--token-file".to_owned(), token.display().to_string()]);
        for flag in ["--api-listen", "--sync-listen", "--peer-listen", "--admin-listen"] {
            args.extend([flag.to_owned(), free()?.to_string()]);
        }
        self.scene.start(name, &Start { program: "weft-zone-cp", args, ..Start::default() })?;
        self.fetched(name, &data).await
    }

    async fn fetched(&self, name: &str, data: &std::path::Path) -> Result<Member> {
        let fetched = until(format!("{name} has a certificate"), ENROLL_WAIT, async || match self.scene.ended(name) {
            Some(status) => bail!("{name} ended with {status}: {}", self.scene.log_tail(name)),
            None => Ok(data.join("identity.pem").exists()),
        });
        fetched.await?;
        self.scene.kill(name)?;
        let credentials = Credentials::load(data)?.context("its certificate")?;
        Ok(Member { live: LiveCredentials::new(credentials), data: data.to_path_buf() })
    }
}

/// A certificate that was issued, and where it is kept.
pub struct Member {
    /// Certificate and key.
    pub live: LiveCredentials,
    /// Data folder of the process that fetched it.
    pub data: PathBuf,
}

impl Member {
    /// What a file of its data folder trusts.
    pub fn trust(&self, file: &str) -> Result<TrustStore> {
        Ok(TrustStore::load(&self.data.join(file))?)
    }
}

/// A proxy on ports of its own.
pub fn proxy(data: &str, more: &[&str]) -> Result<Start> {
    let mut args = vec!["--data-dir".to_owned(), data.to_owned()];
    for flag in ["--inbound-listen", "--outbound-listen", "--admin-listen"] {
        if !more.contains(&flag) {
            args.extend([flag.to_owned(), free()?.to_string()]);
        }
    }
    args.extend(more.iter().map(|arg| (*arg).to_owned()));
    Ok(Start { program: "weft-dataplane", args, ..Start::default() })
}

/// The zone's control plane.
pub fn zone(scene: &Scene, at: &Places, token: &str) -> Result<Start> {
    let mut args = vec!["--data-dir".to_owned(), scene.path(ZONE).display().to_string()];
    args.extend(["--token-file".to_owned(), token.to_owned()]);
    let listen = [
        ("--api-listen", at.west_api),
        ("--sync-listen", at.west_sync),
        ("--peer-listen", at.west_peer),
        ("--admin-listen", free()?),
    ];
    args.extend(listen.iter().flat_map(|(flag, address)| [(*flag).to_owned(), address.to_string()]));
    Ok(Start { program: "weft-zone-cp", args, ..Start::default() })
}

async fn start_global(scene: &Scene, at: &Places) -> Result<Client> {
    let data = scene.path("global");
    let mut args = vec!["--data-dir".to_owned(), data.display().to_string()];
    let listen = [("--api-listen", at.global_api), ("--sync-listen", at.global_sync), ("--admin-listen", free()?)];
    args.extend(listen.iter().flat_map(|(flag, address)| [(*flag).to_owned(), address.to_string()]));
    scene.start("global", &Start { program: "weft-global-cp", args, ..Start::default() })?;
    scene.client("global", at.global_api, &data).await
}

/// Moves the end of a token into the past, in the issuer's book and in the token, as if the hour had gone by.
fn end_token(scene: &Scene, token: &str) -> Result<String> {
    let path = scene.path("global").join("tokens");
    let mut book: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let mut ended = 0;
    for entry in book["entries"].as_object_mut().context("a book of tokens")?.values_mut() {
        ended = entry["expires_unix"].as_u64().context("its end")? - ENDED_SECONDS - 600;
        entry["expires_unix"] = ended.into();
    }
    std::fs::write(&path, book.to_string())?;
    edit_token(token, |wire| wire["e"] = ended.into())
}

/// Changes what a token says.
pub fn edit_token(token: &str, edit: impl FnOnce(&mut Value)) -> Result<String> {
    let (prefix, body) = token.split_once('.').context("a token has a prefix")?;
    let mut wire: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body)?)?;
    edit(&mut wire);
    Ok(format!("{prefix}.{}", URL_SAFE_NO_PAD.encode(wire.to_string())))
}
