//! A mesh in one process: real control planes on loopback, and proxies that only follow.

use crate::http::Client;
use api::identity_v1::BootstrapRequest;
use api::identity_v1::workloads_client::WorkloadsClient;
use api::report::{ProxyReport, item};
use api::{SpiffeId, TrustDomain, ZoneName};
use clap::Parser;
use identity::{CertificateDer, Credentials, Expect, KeyPair, LiveCredentials, Token, TrustStore};
use process::{CommonOptions, Process};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use sync_grpc::{Absence, Channels, Dial, Follower, Lineage, Progress, Published};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Everything here takes milliseconds; whoever needs longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
pub const ALPN: &[&[u8]] = &[b"h2"];

pub struct Global {
    pub api: Client,
    pub running: global_cp::Running,
}

pub struct Zone {
    pub api: Client,
    pub running: zone_cp::Running,
}

fn common(folder: &Path) -> CommonOptions {
    CommonOptions {
        data_dir: Some(folder.to_owned()),
        admin_listen: Some("127.0.0.1:0".parse().unwrap()),
        ..CommonOptions::default()
    }
}

/// A global control plane with its data in `folder`, its zones' door at `sync`.
pub async fn global(folder: &Path, sync: SocketAddr) -> Global {
    let sync = sync.to_string();
    let args = ["weft-global-cp", "--api-listen", "127.0.0.1:0", "--sync-listen", &sync];
    let mut options = global_cp::Options::parse_from(args);
    options.common = common(folder);
    let process = Process::new(global_cp::PROGRAM, options.common.clone());
    let running = global_cp::start(process, options).await.unwrap();
    Global { api: Client { at: running.api, token: running.token.clone() }, running }
}

/// A zone control plane, or why it could not start.
pub async fn try_zone(folder: &Path, token: Option<&str>) -> anyhow::Result<Zone> {
    let any = "127.0.0.1:0";
    let args = ["weft-zone-cp", "--api-listen", any, "--sync-listen", any, "--peer-listen", any];
    let mut options = zone_cp::Options::parse_from(args);
    options.common = common(folder);
    if let Some(token) = token {
        let path = folder.with_extension("token");
        std::fs::write(&path, token)?;
        options.token_file = Some(path);
    }
    let process = Process::new(zone_cp::PROGRAM, options.common.clone());
    let running = tokio::time::timeout(PATIENCE, zone_cp::start(process, options)).await??;
    Ok(Zone { api: Client { at: running.api, token: running.token.clone() }, running })
}

pub async fn zone(folder: &Path, token: Option<&str>) -> Zone {
    try_zone(folder, token).await.unwrap()
}

/// Creates a zone and answers its join token.
pub async fn invite(global: &Global, zone: &str) -> String {
    let answer = global.api.post("/zones", &json!({"name": zone, "region": "us"})).await;
    answer.body["token"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).to_owned()
}

/// Waits until `look` finds something.
pub async fn until<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// A proxy without a data path.
pub struct Proxy {
    pub config: Follower,
    pub report: Published,
    cancel: CancellationToken,
}

/// Registers a workload and answers its token.
pub async fn register(zone: &Zone, name: &str, spec: Value) -> Token {
    let body = json!({"namespace": "shop", "name": name, "spec": spec});
    let answer = zone.api.post("/workloads", &body).await;
    answer.body["token"].as_str().unwrap_or_else(|| panic!("{}", answer.body)).parse().unwrap()
}

/// First certificate of a proxy.
pub async fn bootstrap(token: &Token) -> Result<(LiveCredentials, TrustStore), tonic::Status> {
    let key = KeyPair::generate().unwrap();
    let tls = identity::client_config_pinned(&token.pin, &token.server, ALPN);
    let address = &token.addresses[0];
    let channel = zone_cp::rpc::connect(address, tls, zone_cp::rpc::server_name(address)).await.unwrap();
    let request = BootstrapRequest {
        protocol: 1,
        version: "test".into(),
        token: token.to_string(),
        csr: key.csr().unwrap().into(),
        clock_ms: 0,
    };
    let response = WorkloadsClient::new(channel).bootstrap(request).await?.into_inner();
    let ders = |bytes: Vec<bytes::Bytes>| bytes.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect();
    let zone: ZoneName = response.zone.parse().unwrap();
    let trust = TrustStore::from_anchors(TrustDomain::zone_control(&zone), ders(response.anchors)).unwrap();
    Ok((LiveCredentials::new(Credentials::new(ders(response.chain), key).unwrap()), trust))
}

/// Connects a proxy that accepts what `accept` accepts, and says that it is ready.
pub async fn proxy(zone: &Zone, token: &Token, accept: fn(&str) -> Result<(), String>) -> Proxy {
    let (live, trust) = bootstrap(token).await.unwrap();
    connect(zone, live, &trust, accept)
}

pub fn connect(
    zone: &Zone,
    live: LiveCredentials,
    trust: &TrustStore,
    accept: fn(&str) -> Result<(), String>,
) -> Proxy {
    let config =
        Follower::memory(Absence::Follow).accepting(move |_, payload| accept(&String::from_utf8_lossy(payload)));
    let report = Published::new(Lineage { history: 1, revision: 0 });
    say(&report, true);
    let server = SpiffeId::zone_cp(&zone.running.zone);
    let tls = identity::client_config(&live, trust, Expect::id(server), ALPN);
    let cancel = CancellationToken::new();
    let dial = Dial {
        addresses: watch::Sender::new(vec![zone.running.sync.to_string()]).subscribe(),
        tls: Arc::new(move |address| (tls.clone(), zone_cp::rpc::server_name(address))),
        name: "proxy".into(),
        version: "test".into(),
    };
    let channels =
        Channels { publish: vec![("report".into(), report.clone())], follow: vec![("config".into(), config.clone())] };
    let progress = watch::Sender::new(BTreeMap::<String, Progress>::new());
    tokio::spawn(sync_grpc::dial(dial, channels, progress, cancel.clone()));
    Proxy { config, report, cancel }
}

/// What a proxy reports.
pub fn say(report: &Published, ready: bool) {
    let said = ProxyReport { version: "test".into(), ready, ..ProxyReport::default() };
    report.commit([(item::PROXY.into(), Some(control::documents::payload(&said)))]);
}

impl Proxy {
    /// Waits until an item is as wanted; answers it.
    pub async fn item(&self, key: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut held = self.config.watch();
        let look = async {
            loop {
                let value =
                    held.borrow_and_update().items.get(key).and_then(|bytes| serde_json::from_slice(bytes).ok());
                if let Some(value) = value
                    && wanted(&value)
                {
                    return value;
                }
                held.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(PATIENCE, look).await;
        found.unwrap_or_else(|_| panic!("{key} is not as wanted: {:?}", self.config.held().items.get(key)))
    }

    pub fn end(&self) {
        self.cancel.cancel();
    }
}

pub fn cart() -> Value {
    json!({"service": "cart", "address": "127.0.0.1", "ports": [{"port": 8080}]})
}

pub fn web() -> Value {
    json!({"service": "web", "address": "127.0.0.1", "ports": [{"port": 8080}]})
}

pub fn timeout(name: &str, request: &str) -> Value {
    json!({"apiVersion": "weft.dev/v1", "kind": "Timeout", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"to": [{"targetRef": {"kind": "Service", "name": "cart"}, "default": {"request": request}}]}})
}

pub fn request_ms(outbound: &Value) -> &Value {
    &outbound["ports"][0]["rules"][0]["timeouts"]["request_ms"]
}
