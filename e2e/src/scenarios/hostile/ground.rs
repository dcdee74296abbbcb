//! Where it happens: a caller's proxy, the proxy it calls, an app, an edge gateway, attackers outside and one with a
//! certificate of the mesh, and loads that go on all the while.

use super::app::{self, Smuggled};
use super::doors::{Door, Doors};
use super::edge;
use crate::caller::Caller;
use crate::load::{Aim, Load, Summary};
use crate::scenarios::base::{Base, Member, proxy};
use crate::scenarios::impostor::mesh_trust;
use crate::scenarios::scene::{free, until};
use anyhow::{Context, Result};
use api::SpiffeId;
use api::config::ServiceRef;
use identity::Expect;
use rustls_pki_types::ServerName;
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whom attackers call.
pub const HOST: &str = "cart.shop.mesh";
/// Whom everybody else calls: by the same proxies, and another app. What many requests do to an app that must serve them is
/// not the proxy's doing.
const OTHERS_HOST: &str = "cart.shop.mesh:8081";
/// And whom everybody else outside calls: the other app, too.
pub const EDGE_OTHERS_HOST: &str = "others.example";
/// How long it is quiet before the first attack.
const QUIET: Duration = Duration::from_secs(2);
/// From start to first answer through both proxies.
pub const UP: Duration = Duration::from_secs(20);

/// All of it.
pub struct Ground {
    base: Base,
    /// The attacker's ways in.
    pub doors: Doors,
    /// What no client should have brought to the app.
    pub smuggled: Smuggled,
    /// By both proxies, and through the edge.
    loads: [Way; 2],
    /// How long it is quiet before each attack; `None`: only before the first.
    rest: Option<Duration>,
}

/// A way that everybody else takes.
struct Way {
    name: &'static str,
    load: Load,
    /// The load before the first attack.
    quiet: Summary,
    /// Stretches of time in which an attack on this way was looked at, from and to.
    stretches: Mutex<Vec<(Kind, Instant, Instant)>>,
}

impl Way {
    async fn new(name: &'static str, caller: Arc<Caller>, aim: Aim) -> Result<Self> {
        let load = Load::start(caller, aim);
        load.until("a quiet while has passed", QUIET * 3, |shots| shots.last().is_some_and(|shot| shot.due >= QUIET))
            .await?;
        // The first calls open connections.
        let now = Instant::now();
        let quiet = load.between(now - QUIET * 3 / 4, now);
        Ok(Self { name, load, quiet, stretches: Mutex::default() })
    }

    fn note(&self, kind: Kind, begun: Instant) {
        self.stretches.lock().unwrap_or_else(PoisonError::into_inner).push((kind, begun, Instant::now()));
    }

    /// Ends the load.
    async fn leave(self) -> Others {
        let Self { name, load, stretches, .. } = self;
        let begin = load.begin();
        let shots = load.stop().await;
        let stretches = stretches.into_inner().unwrap_or_else(PoisonError::into_inner);
        let kinds = [Kind::Quiet, Kind::Attack, Kind::Served].map(|kind| {
            let own = || stretches.iter().filter(|(of, ..)| *of == kind);
            let within = |due| own().any(|(_, from, to)| (*from..=*to).contains(&(begin + due)));
            (kind, Summary::of(shots.iter().filter(|shot| within(shot.due))))
        });
        Others { way: name, all: Summary::of(&shots), kinds }
    }
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
    /// Which way they took.
    pub way: &'static str,
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
        let (attacked, other) = (app::serve(smuggled.clone())?, app::serve(smuggled.clone())?);
        let (inbound, outbound) = (free()?, free()?);
        let spec = json!({"address": "127.0.0.1", "proxyPort": inbound.port(), "service": "cart",
            "ports": [{"port": 8080, "target": attacked.port(), "appProtocol": "http"},
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
        let edge = edge::start(&base).await?;
        let doors = Doors {
            outbound: Door::clear("outbound", "web", outbound),
            inbound: Door { tls: Some((tls, name)), ..Door::clear("inbound", "cart", inbound) },
            edge: Door { outside: true, ..Door::clear("edge", "edge", edge.clear) },
            edge_tls: Door { outside: true, tls: Some(edge.tls), ..Door::clear("edgeTls", "edge", edge.secure) },
        };
        let (by_proxies, by_edge) = (Aim::new(OTHERS_HOST, rate), Aim::new(EDGE_OTHERS_HOST, rate / 2));
        let (by_proxies, by_edge) = tokio::try_join!(
            Way::new("proxies", caller, by_proxies),
            Way::new("edge", Caller::new(doors.edge.address), by_edge)
        )?;
        Ok(Self { base, doors, smuggled, loads: [by_proxies, by_edge], rest })
    }

    /// The way that leads through a door's process.
    fn way(&self, door: &Door) -> &Way {
        &self.loads[usize::from(door.outside)]
    }

    /// Watches a proxy and the load while `act` goes on, and for as long before.
    pub async fn watch<T>(&self, door: &Door, kind: Kind, act: impl Future<Output = T>) -> Result<(T, Seen)> {
        let way = self.way(door);
        let quiet = match self.rest {
            None => way.quiet.clone(),
            Some(rest) => {
                // What the attack before has left is not quiet yet.
                tokio::time::sleep(rest / 4).await;
                let begun = Instant::now();
                tokio::time::sleep(rest).await;
                way.note(Kind::Quiet, begun);
                way.load.between(begun, Instant::now())
            }
        };
        let before = self.kib(door.process)?;
        let begun = Instant::now();
        let mut most = before;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        tokio::pin!(act);
        let done = loop {
            tokio::select! {
                done = &mut act => break done,
                _ = tick.tick() => most = most.max(self.kib(door.process)?),
            }
        };
        way.note(kind, begun);
        let after = self.kib(door.process)?;
        let others = self.others(door, begun, Instant::now());
        Ok((done, Seen { kib: [before, most.max(after), after], others, quiet }))
    }

    /// The load through a door's process between two moments.
    pub fn others(&self, door: &Door, begin: Instant, end: Instant) -> Summary {
        self.way(door).load.between(begin, end)
    }

    /// Resident memory of a proxy (proc(5), VmRSS).
    fn kib(&self, process: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.base.scene.number(process)?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Ends the loads.
    pub async fn leave(self) -> [Others; 2] {
        let Self { base: _base, loads: [by_proxies, by_edge], .. } = self;
        [by_proxies.leave().await, by_edge.leave().await]
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
