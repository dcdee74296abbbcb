//! How each peer is started on each path.
//!
//! Peers are lean: routing and nothing else. What Weft does besides (authorization, metrics, balancing, retries) stays on.

use crate::swaps::{Swap, ask, metric};
use crate::{Path, install, measure, weft};
use anyhow::{Context as _, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path as FilePath, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Proxies run here.
pub const PROXY_CORE: &str = "0";
/// Load and backend run here.
pub const LOAD_CORE: &str = "1";
/// Where the backend listens.
pub const BACKEND: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 19_000);
/// Connections of the load.
pub const ENTRY_CONNECTIONS: u32 = 64;
const ENTRY_PORT: u16 = 20_000;
const BETWEEN_PORT: u16 = 20_001;
/// Of the first Envoy; the second has the next.
const ADMIN_PORT: u16 = 20_010;
/// Of an answer.
pub const BODY_BYTES: usize = 1024;
const START_MAX: Duration = Duration::from_secs(20);
const STOP_MAX: Duration = Duration::from_secs(3);
const SERVER_NAME: &str = "backend.mesh";

/// Certificates, configuration files and the backend.
pub struct Rig {
    folder: tempfile::TempDir,
    /// Weft's programs.
    pub bin: PathBuf,
    envoy: Option<PathBuf>,
    haproxy: bool,
    backend: Child,
}

/// Started proxies of one run.
pub struct Proxies {
    children: Vec<Child>,
    /// Processes whose CPU and memory count.
    pub pids: Vec<u32>,
    /// Where the load goes.
    pub entry: SocketAddr,
    /// `Host` of the load.
    pub host: String,
    /// How they get another configuration; `None`: not while they run.
    pub swap: Option<Swap>,
    /// What has to be taken down besides the processes.
    pub down: Option<Box<dyn FnOnce()>>,
}

impl Rig {
    /// Prepares everything that all runs share.
    pub fn new(bin: &FilePath) -> Result<Self> {
        if !install::have("wrk", "wrk") || !install::have("nginx", "nginx-light") {
            bail!("wrk and nginx are needed: they are the load and the backend");
        }
        let folder = tempfile::tempdir()?;
        certificates(folder.path())?;
        let conf = folder.path().join("backend.conf");
        fs::write(&conf, backend_conf(folder.path()))?;
        let backend = pinned(LOAD_CORE, FilePath::new("nginx"), &["-c", &conf.to_string_lossy()])?;
        let cache =
            PathBuf::from(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into())).join("bench-peers");
        let rig = Self {
            folder,
            bin: bin.to_owned(),
            envoy: install::envoy(&cache)?,
            haproxy: install::have("haproxy", "haproxy"),
            backend,
        };
        wait_port(BACKEND)?;
        Ok(rig)
    }

    /// A folder that goes with the rig.
    pub fn folder(&self) -> &FilePath {
        self.folder.path()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        stop(&mut self.backend);
    }
}

impl Proxies {
    /// A set of pinned processes with the usual entry.
    pub fn new(children: Vec<Child>) -> Self {
        let pids = children.iter().map(Child::id).collect();
        Self { children, pids, entry: local(ENTRY_PORT), host: SERVER_NAME.into(), swap: None, down: None }
    }

    /// Waits for the entry to accept connections.
    pub fn wait_ready(&self) -> Result<()> {
        wait_port(self.entry).with_context(|| {
            format!("the entry {} stays closed (backend answers: {})", self.entry, measure::backend_answers())
        })
    }

    /// Ends everything that was started.
    pub fn stop(&mut self) {
        self.children.iter_mut().for_each(stop);
        if let Some(down) = self.down.take() {
            down();
        }
    }
}

/// Starts `peer` on `path`; `None` when it cannot be had.
pub fn start(rig: &Rig, peer: &str, path: Path) -> Result<Option<Proxies>> {
    let folder = rig.folder();
    let mut swap = None;
    let hops: Vec<Child> = match peer {
        "weft" => return weft::start(rig, path).map(Some),
        "envoy" => {
            let Some(program) = &rig.envoy else { return Ok(None) };
            let mut hops = Vec::new();
            let configs = envoy_configs(folder, path);
            let admins: Vec<SocketAddr> = (ADMIN_PORT..).map(local).take(configs.len()).collect();
            routes(folder, 0)?;
            swap = Some(envoy_swap(folder.to_owned(), admins.clone()));
            for ((name, mut config), admin) in configs.into_iter().zip(admins) {
                config["admin"] = json!({"address": address(admin)});
                let file = folder.join(format!("envoy-{name}.json"));
                fs::write(&file, config.to_string())?;
                let flags = ["--concurrency", "1", "--disable-hot-restart", "-l", "off", "-c", &file.to_string_lossy()];
                hops.push(pinned(PROXY_CORE, program, &flags)?);
            }
            hops
        }
        "haproxy" => {
            if !rig.haproxy {
                return Ok(None);
            }
            let mut hops = Vec::new();
            for (name, config) in haproxy_configs(folder, path) {
                let file = folder.join(format!("haproxy-{name}.cfg"));
                fs::write(&file, config)?;
                hops.push(pinned(PROXY_CORE, FilePath::new("haproxy"), &["-db", "-f", &file.to_string_lossy()])?);
            }
            hops
        }
        other => bail!("no peer `{other}`: choose from weft, envoy, haproxy"),
    };
    if path == Path::B {
        wait_port(local(BETWEEN_PORT))?;
    }
    Ok(Some(Proxies { swap, ..Proxies::new(hops) }))
}

/// Starts `program` on one core.
pub fn pinned(core: &str, program: &FilePath, flags: &[&str]) -> Result<Child> {
    Command::new("taskset")
        .args(["-c", core])
        .arg(program)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} did not start", program.display()))
}

/// Waits until something listens.
pub fn wait_port(at: SocketAddr) -> Result<()> {
    let until = Instant::now() + START_MAX;
    while TcpStream::connect_timeout(&at, Duration::from_millis(200)).is_err() {
        if Instant::now() > until {
            bail!("nothing listens on {at} after {START_MAX:?}");
        }
        std::thread::park_timeout(Duration::from_millis(30));
    }
    Ok(())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Asked first: what has children of its own, such as nginx, must end them itself.
fn stop(child: &mut Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("process ids are small"));
    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
    let until = Instant::now() + STOP_MAX;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > until {
            let _ = child.kill();
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn backend_conf(folder: &FilePath) -> String {
    let at = folder.display();
    format!(
        "worker_processes 1; daemon off; pid {at}/nginx.pid; error_log /dev/null crit;\nevents {{ worker_connections 16384; }}\n\
         http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {at}/t1; proxy_temp_path {at}/t2; \
         fastcgi_temp_path {at}/t3; uwsgi_temp_path {at}/t4; scgi_temp_path {at}/t5;\n\
         server {{ listen {BACKEND} backlog=4096; location / {{ default_type text/plain; return 200 \"{}\"; }} }} }}\n",
        "x".repeat(BODY_BYTES)
    )
}

/// One authority, a server and a client leaf, as PEM files.
fn certificates(folder: &FilePath) -> Result<()> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    // Names of their own: a leaf named like its issuer looks self-signed to others.
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    fs::write(folder.join("ca.crt"), params.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(params, key);
    for name in ["server", "client"] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = params.signed_by(&key, &issuer)?.pem();
        fs::write(folder.join(format!("{name}.crt")), &leaf)?;
        fs::write(folder.join(format!("{name}.key")), key.serialize_pem())?;
        fs::write(folder.join(format!("{name}.pem")), format!("{leaf}{}", key.serialize_pem()))?;
    }
    Ok(())
}

fn haproxy_configs(folder: &FilePath, path: Path) -> Vec<(&'static str, String)> {
    let at = folder.display();
    let hop = |listen: u16, bind: &str, to: SocketAddr, server: &str| {
        format!(
            "global\n nbthread 1\n maxconn 4000\n ssl-server-verify required\ndefaults\n mode http\n timeout connect 5s\n \
             timeout client 60s\n timeout server 60s\n option http-keep-alive\n http-reuse always\nfrontend f\n \
             bind 127.0.0.1:{listen} {bind}\n default_backend b\nbackend b\n server s {to} {server}\n"
        )
    };
    match path {
        Path::A => vec![("a", hop(ENTRY_PORT, "", BACKEND, ""))],
        Path::B => {
            let ca = format!("ca-file {at}/ca.crt verify required ssl-min-ver TLSv1.3 alpn h2");
            let out = format!("ssl crt {at}/client.pem {ca} verifyhost {SERVER_NAME} sni str({SERVER_NAME})");
            let inn = format!("ssl crt {at}/server.pem {ca}");
            vec![("in", hop(BETWEEN_PORT, &inn, BACKEND, "")), ("out", hop(ENTRY_PORT, "", local(BETWEEN_PORT), &out))]
        }
    }
}

fn envoy_configs(folder: &FilePath, path: Path) -> Vec<(&'static str, Value)> {
    match path {
        Path::A => vec![("a", envoy(folder, ENTRY_PORT, "HTTP1", None, BACKEND, None))],
        Path::B => vec![
            ("in", envoy(folder, BETWEEN_PORT, "HTTP2", Some(envoy_tls(folder, "server")), BACKEND, None)),
            ("out", envoy(folder, ENTRY_PORT, "HTTP1", None, local(BETWEEN_PORT), Some(envoy_tls(folder, "client")))),
        ],
    }
}

const ENVOY_TYPES: &str = "type.googleapis.com/envoy.extensions";

fn envoy_tls(folder: &FilePath, who: &str) -> Value {
    let file = |name: String| json!({ "filename": folder.join(name) });
    let common = json!({
        "alpn_protocols": ["h2"],
        "tls_certificates": [{"certificate_chain": file(format!("{who}.crt")), "private_key": file(format!("{who}.key"))}],
        "validation_context": {"trusted_ca": file("ca.crt".into())},
    });
    let (kind, more) = match who {
        "server" => ("DownstreamTlsContext", json!({"require_client_certificate": true})),
        _ => ("UpstreamTlsContext", json!({"sni": SERVER_NAME})),
    };
    let mut config =
        json!({"@type": format!("{ENVOY_TYPES}.transport_sockets.tls.v3.{kind}"), "common_tls_context": common});
    if let (Some(into), Some(from)) = (config.as_object_mut(), more.as_object()) {
        into.extend(from.clone());
    }
    json!({"name": "tls", "typed_config": config})
}

/// Where Envoys read their routes, again whenever another file is moved there.
const ROUTES: &str = "envoy-routes.json";

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

/// Puts routes in place that differ by `number`.
fn routes(folder: &FilePath, number: u64) -> Result<()> {
    let timeout = format!("{}.{:03}s", 15 + number / 1_000, number % 1_000);
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": "up", "timeout": timeout}});
    let routes = json!({"version_info": number.to_string(), "resources": [{
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "all", "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]}]});
    let fresh = folder.join("envoy-routes.new");
    fs::write(&fresh, routes.to_string())?;
    Ok(fs::rename(fresh, folder.join(ROUTES))?)
}

fn envoy_swap(folder: PathBuf, admins: Vec<SocketAddr>) -> Swap {
    let reloads = |admin: &SocketAddr| {
        metric(&ask(*admin, "GET", "/stats?filter=config_reload$", "", "")?, "http.in.rds.all.config_reload")
    };
    Swap {
        give: Box::new(move |number| routes(&folder, number)),
        seen: Box::new(move || admins.iter().map(reloads).sum()),
    }
}

fn envoy(
    folder: &FilePath,
    listen: u16,
    codec: &str,
    tls: Option<Value>,
    to: SocketAddr,
    upstream_tls: Option<Value>,
) -> Value {
    let manager = json!({
        "@type": format!("{ENVOY_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "in", "codec_type": codec,
        "rds": {"route_config_name": "all", "config_source": {"path_config_source": {"path": folder.join(ROUTES)}}},
        "http_filters": [{"name": "router", "typed_config": {"@type": format!("{ENVOY_TYPES}.filters.http.router.v3.Router")}}],
    });
    let mut chain = json!({"filters": [{"name": "http", "typed_config": manager}]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    let most = 1_000_000;
    let mut cluster = json!({
        "name": "up", "type": "STATIC", "connect_timeout": "2s",
        "circuit_breakers": {"thresholds": [{"max_connections": most, "max_pending_requests": most, "max_requests": most, "max_retries": most}]},
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}]},
    });
    if let Some(tls) = upstream_tls {
        cluster["transport_socket"] = tls;
        let options = format!("{ENVOY_TYPES}.upstreams.http.v3.HttpProtocolOptions");
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions":
                {"@type": options, "explicit_http_config": {"http2_protocol_options": {}}}
        });
    }
    json!({"node": {"id": "bench", "cluster": "bench"}, "static_resources": {
        "listeners": [{"name": "entry", "address": address(local(listen)), "filter_chains": [chain]}],
        "clusters": [cluster],
    }})
}
