//! Where it happens: a caller's proxy, the proxy it calls, an app, an attacker with a certificate of the mesh, and a load
//! that goes on all the while.

use crate::caller::Caller;
use crate::load::{Aim, Load, Summary};
use crate::scenarios::base::{Base, Member, proxy};
use crate::scenarios::impostor::mesh_trust;
use crate::scenarios::scene::{free, until};
use anyhow::{Context, Result};
use api::SpiffeId;
use api::config::ServiceRef;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use identity::Expect;
use rustls_pki_types::ServerName;
use serde_json::json;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};

/// Whom attackers call.
pub const HOST: &str = "cart.shop.mesh";
/// Whom everybody else calls: by the same proxies, and another app. What many requests do to an app that must serve them is
/// not the proxy's doing.
const OTHERS_HOST: &str = "cart.shop.mesh:8081";
/// How long it is quiet before the first attack.
const QUIET: Duration = Duration::from_secs(2);
/// Connections the app lets wait, as most servers do (Go: as many as the system allows).
const BACKLOG: i32 = 4_096;
/// From start to first answer through both proxies.
const UP: Duration = Duration::from_secs(20);
/// Answer of the app; more than one window of a caller that reads nothing.
const ANSWER_BYTES: usize = 2_048;

/// A connection as the attacker has it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the attacker knocks.
#[derive(Clone)]
pub enum Door {
    /// The app's side of its proxy, in clear text.
    Outbound(SocketAddr),
    /// The proxies' side, by mutual TLS.
    Inbound(SocketAddr, Arc<rustls::ClientConfig>, ServerName<'static>),
}

impl Door {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Outbound(_) => "outbound",
            Self::Inbound(..) => "inbound",
        }
    }

    /// Process behind it.
    pub fn process(&self) -> &'static str {
        match self {
            Self::Outbound(_) => "web",
            Self::Inbound(..) => "cart",
        }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Outbound(address) | Self::Inbound(address, ..) => *address,
        }
    }

    /// Connects, with the handshake if there is one.
    pub async fn open(&self) -> Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(self.address()).await?;
        tcp.set_nodelay(true)?;
        Ok(match self {
            Self::Outbound(_) => Box::new(tcp),
            Self::Inbound(_, config, name) => {
                Box::new(tokio_rustls::TlsConnector::from(config.clone()).connect(name.clone(), tcp).await?)
            }
        })
    }
}

/// All of it.
pub struct Ground {
    base: Base,
    /// The attacker's ways in.
    pub doors: [Door; 2],
    /// What no client should have brought to the app.
    pub smuggled: Smuggled,
    load: Load,
    /// How long it is quiet before each attack; `None`: only before the first.
    rest: Option<Duration>,
    /// The load before the first attack.
    quiet: Summary,
    /// Stretches of time, from and to.
    stretches: Mutex<Vec<(Kind, Instant, Instant)>>,
}

/// What goes on in a stretch of time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Nothing but the load.
    Quiet,
    /// Something that can be refused.
    Attack,
    /// Much that must be served, whoever asks.
    Served,
}

/// What everybody else saw.
#[derive(Debug)]
pub struct Others {
    /// From beginning to end.
    pub all: Summary,
    /// In all stretches of a kind together. One by one, quiet ones differ more than most attacks matter.
    pub kinds: [(Kind, Summary); 3],
}

/// What a stretch of time did to everybody else.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Resident memory of the attacked proxy, KiB: before, most, and afterwards.
    pub kib: [u64; 3],
    /// The load meanwhile.
    pub others: Summary,
    /// The load while it was quiet.
    pub quiet: Summary,
}

impl Ground {
    /// Starts everything. `rest`: quiet time before each attack, to hold what others notice against; without it, there is
    /// some before the first one only. `rate`: requests a second of everybody else.
    pub async fn new(rest: Option<Duration>, rate: u32) -> Result<Self> {
        let base = Base::new("hostile").await?;
        let smuggled = Smuggled::default();
        let (app, other) = (serve(smuggled.clone())?, serve(smuggled.clone())?);
        let (inbound, outbound) = (free()?, free()?);
        let spec = json!({"address": "127.0.0.1", "proxyPort": inbound.port(), "service": "cart",
            "ports": [{"port": 8080, "target": app.port(), "appProtocol": "http"},
                {"port": 8081, "target": other.port(), "appProtocol": "http"}]});
        let cart = base.enrolled("cart", spec).await?;
        let web = base.enrolled("web", json!({"address": "127.0.0.1", "proxyPort": free()?.port()})).await?;
        let mallory = base.enrolled("mallory", json!({"address": "127.0.0.1", "proxyPort": free()?.port()})).await?;
        let data = |member: &Member| member.data.display().to_string();
        base.scene.start("cart", &proxy(&data(&cart), &["--inbound-listen", &inbound.to_string()])?)?;
        base.scene.start("web", &proxy(&data(&web), &["--outbound-listen", &outbound.to_string()])?)?;
        let caller = Caller::new(outbound);
        until("the caller reaches the app", UP, async || {
            let reply = caller.get(OTHERS_HOST, "/").await;
            anyhow::ensure!(reply.good(), "{}", reply.words());
            Ok(true)
        })
        .await?;
        let trust = mesh_trust(&base)?;
        let id: SpiffeId = "spiffe://west.default/ns/shop/sa/cart".parse()?;
        let tls = identity::client_config(&mallory.live, &trust, Expect::id(id), &[b"h2"]);
        let service = ServiceRef { mesh: "default".parse()?, namespace: "shop".parse()?, name: "cart".parse()? };
        let name = ServerName::try_from(service.server_name(8080, &"west".parse()?))?;
        let load = Load::start(caller, Aim::new(OTHERS_HOST, rate));
        load.until("a quiet while has passed", QUIET * 3, |shots| shots.last().is_some_and(|shot| shot.due >= QUIET))
            .await?;
        // The first calls open connections.
        let now = Instant::now();
        let quiet = load.between(now - QUIET * 3 / 4, now);
        let doors = [Door::Outbound(outbound), Door::Inbound(inbound, tls, name)];
        Ok(Self { base, doors, smuggled, load, rest, quiet, stretches: Mutex::default() })
    }

    /// Watches a proxy and the load while `act` goes on, and for as long before.
    pub async fn watch<T>(&self, process: &str, kind: Kind, act: impl Future<Output = T>) -> Result<(T, Seen)> {
        let quiet = match self.rest {
            None => self.quiet.clone(),
            Some(rest) => {
                // What the attack before has left is not quiet yet.
                tokio::time::sleep(rest / 4).await;
                let begun = Instant::now();
                tokio::time::sleep(rest).await;
                self.note(Kind::Quiet, begun);
                self.load.between(begun, Instant::now())
            }
        };
        let before = self.kib(process)?;
        let begun = Instant::now();
        let mut most = before;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        tokio::pin!(act);
        let done = loop {
            tokio::select! {
                done = &mut act => break done,
                _ = tick.tick() => most = most.max(self.kib(process)?),
            }
        };
        self.note(kind, begun);
        let after = self.kib(process)?;
        let others = self.others(begun, Instant::now());
        Ok((done, Seen { kib: [before, most.max(after), after], others, quiet }))
    }

    fn note(&self, kind: Kind, begun: Instant) {
        self.stretches.lock().unwrap_or_else(PoisonError::into_inner).push((kind, begun, Instant::now()));
    }

    /// The load between two moments.
    pub fn others(&self, begin: Instant, end: Instant) -> Summary {
        self.load.between(begin, end)
    }

    /// Resident memory of a proxy (proc(5), VmRSS).
    fn kib(&self, process: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.base.scene.number(process)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends the load.
    pub async fn leave(self) -> Others {
        let Self { base: _base, load, stretches, .. } = self;
        let begin = load.begin();
        let shots = load.stop().await;
        let stretches = stretches.into_inner().unwrap_or_else(PoisonError::into_inner);
        let kinds = [Kind::Quiet, Kind::Attack, Kind::Served].map(|kind| {
            let own = || stretches.iter().filter(|(of, ..)| *of == kind);
            let within = |due| own().any(|(_, from, to)| (*from..=*to).contains(&(begin + due)));
            (kind, Summary::of(shots.iter().filter(|shot| within(shot.due))))
        });
        Others { all: Summary::of(&shots), kinds }
    }
}

/// Requests the app should never have got, as it saw them.
#[derive(Clone, Debug, Default)]
pub struct Smuggled(Arc<Mutex<Vec<String>>>);

impl Smuggled {
    fn add(&self, request: &Request<Incoming>) {
        let seen = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    }

    /// All of them since it was last asked.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Runs `work` on a thread of its own that gives way to everybody else, as another machine would: what others notice is
/// then the proxy's doing and not the scheduler's.
pub async fn aside<T, F>(work: impl FnOnce() -> F + Send + 'static) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>>,
{
    let (done, told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("attacker".into()).spawn(move || {
        // The number of a thread is one of a process to those who schedule (sched(7), SCHED_IDLE).
        let own = nix::unistd::gettid().to_string();
        let _ = std::process::Command::new("chrt").args(["--idle", "--pid", "0", &own]).output();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _ = done.send(runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(work())));
    })?;
    told.await.context("the attacker's thread ended early")?
}

/// An app, on a thread that ends with the process.
fn serve(smuggled: Smuggled) -> Result<SocketAddr> {
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
    listener.listen(BACKLOG)?;
    let listener = std::net::TcpListener::from(listener);
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    std::thread::Builder::new().name("app".into()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(accept(listener, smuggled))
    })?;
    Ok(address)
}

async fn accept(listener: std::net::TcpListener, smuggled: Smuggled) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let smuggled = smuggled.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            // What its own proxy asks to learn whether the app still answers comes of no client.
            let asked = request.method() == Method::OPTIONS && request.uri().path() == "*";
            if request.uri().path() != "/" && !asked {
                smuggled.add(&request);
            }
            async move {
                // A body that never comes is waited for, as most apps do.
                let _ = request.into_body().collect().await;
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from_static(&[b'.'; ANSWER_BYTES]))))
            }
        });
        tokio::spawn(async move {
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
