//! What breaks is never taken for success, and never done twice.

use super::ledger::BEGINNING;
use super::{PROCESS_WAIT, Town, WEB};
use crate::caller::Caller;
use crate::row::Row;
use crate::scenarios::scene::until;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cli::dev::process::{Alive, alive, signal};
use http::{Method, Request, Version, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

pub const CUT: &str = "steady: an app killed in the middle of an answer is an error for its caller";
pub const ONCE: &str = "steady: no order is given twice, whoever is killed, drained or restarted";
/// From the kill to the end of the answer.
const END_WAIT: Duration = Duration::from_secs(5);
/// Orders under way at a time.
const LANES: u64 = 6;
/// Orders go on for so long between faults.
const CALM: Duration = Duration::from_millis(700);
const LONG_ROUNDS: usize = 12;

/// An app of ours in the place of the demo's.
struct App<'a, 'b> {
    town: &'a Town<'b>,
    name: &'static str,
    address: SocketAddr,
    file: String,
}

impl<'a, 'b> App<'a, 'b> {
    async fn begin(town: &'a Town<'b>, name: &'static str) -> Result<Self> {
        let process = format!("west/{name}-1/app");
        let address = town.mesh.address(&process, "listen")?;
        if alive(&town.mesh.process(&process)?) != Alive::Dead {
            town.mesh.kill(&process).await?;
        }
        let file = town.scene.path(&format!("{name}.orders")).display().to_string();
        let app = Self { town, name, address, file };
        app.start().await?;
        Ok(app)
    }

    /// Starts it, and waits until the mesh brings requests to it.
    async fn start(&self) -> Result<()> {
        let mut command = Command::new(self.town.scene.program("weft-scenarios"));
        command.args(["plain", "ledger", &self.address.to_string(), &self.file]);
        self.town.scene.adopt(self.name, command)?;
        let caller = self.town.mesh.caller("west/web-1")?;
        let host = format!("{}.shop.mesh", self.name);
        until(format!("{host} answers"), PROCESS_WAIT, async || Ok(caller.get(&host, "/").await.good())).await?;
        Ok(())
    }

    fn kill(&self) -> Result<()> {
        self.town.scene.kill(self.name)
    }

    /// Puts the demo's back.
    async fn end(self) -> Result<()> {
        self.kill()?;
        self.town.mesh.start(&format!("west/{}-1/app", self.name)).await
    }
}

pub async fn cut(town: &Town<'_>, row: &mut Row) -> Result<()> {
    let web = town.mesh.address(WEB, "outbound")?;
    for (service, path, version, kind) in [
        ("ledger", "/length", Version::HTTP_11, "text/plain"),
        ("ledger", "/chunked", Version::HTTP_11, "text/plain"),
        ("ledger", "/length", Version::HTTP_2, "text/plain"),
        ("ledger", "/chunked", Version::HTTP_2, "text/plain"),
        ("stream", "/chunked", Version::HTTP_2, "text/plain"),
        ("stream", "/chunked", Version::HTTP_2, "application/grpc"),
        ("stream", "/length", Version::HTTP_11, "text/plain"),
        ("stream", "/chunked", Version::HTTP_11, "text/plain"),
    ] {
        let app = App::begin(town, service).await?;
        let what = format!("{path} of {service} by {version:?} ({kind})");
        let (status, mut body) = ask(web, service, path, version, kind).await.context(what.clone())?;
        let mut seen = 0;
        while seen < BEGINNING {
            let frame = body.frame().await.with_context(|| format!("{what}: nothing came"))??;
            seen += frame.data_ref().map_or(0, Bytes::len);
        }
        app.kill()?;
        let ended = tokio::time::timeout(END_WAIT, body.collect()).await;
        match ended {
            Ok(Err(error)) => row.saw(format!("{what}: {status}, {seen} bytes, then: {error}")),
            Ok(Ok(rest)) => {
                let trailers = rest.trailers().cloned();
                let rest = rest.to_bytes().len();
                row.expect(false, format!("{what}: {} bytes were a whole answer (trailers {trailers:?})", seen + rest));
            }
            Err(_) => row.expect(false, format!("{what}: still open {} s after the kill", END_WAIT.as_secs())),
        }
        app.start().await?;
        app.end().await?;
    }
    Ok(())
}

async fn ask(to: SocketAddr, service: &str, path: &str, version: Version, kind: &str) -> Result<(u16, Incoming)> {
    let host = format!("{service}.shop.mesh");
    let stream = TcpStream::connect(to).await?;
    let builder =
        Request::get(if version == Version::HTTP_2 { format!("http://{host}{path}") } else { path.to_owned() });
    let builder = builder.version(version).header(header::CONTENT_TYPE, kind);
    let response = if version == Version::HTTP_2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(builder.body(Full::<Bytes>::default())?).await?
    } else {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        sender.send_request(builder.header(header::HOST, host).body(Full::<Bytes>::default())?).await?
    };
    Ok((response.status().as_u16(), response.into_body()))
}

/// Orders that are given, each once, and what was answered.
struct Orders {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<BTreeMap<u64, bool>>>,
    lanes: Vec<tokio::task::JoinHandle<()>>,
}

impl Orders {
    fn begin(web: SocketAddr) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<Mutex<BTreeMap<u64, bool>>>::default());
        let next = Arc::new(AtomicU64::new(0));
        let lane = |_| {
            let (stop, answers, next) = (stop.clone(), answers.clone(), next.clone());
            let caller = Caller::new(web);
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let id = next.fetch_add(1, Ordering::Relaxed);
                    let path = format!("/order/{id}");
                    let reply = caller.send(Method::POST, "ledger.shop.mesh", &path, "an order".into()).await;
                    answers.lock().unwrap_or_else(PoisonError::into_inner).insert(id, reply.good());
                    if !reply.good() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            })
        };
        let lanes = (0..LANES).map(lane).collect();
        Self { stop, answers, lanes }
    }

    async fn end(self) -> BTreeMap<u64, bool> {
        self.stop.store(true, Ordering::Relaxed);
        for lane in self.lanes {
            let _ = lane.await;
        }
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub async fn once(town: &Town<'_>, row: &mut Row) -> Result<()> {
    let app = App::begin(town, "ledger").await?;
    let proxy = "west/ledger-1/proxy";
    let orders = Orders::begin(town.mesh.address(WEB, "outbound")?);
    let rounds = if town.long { LONG_ROUNDS } else { 1 };
    for _ in 0..rounds {
        tokio::time::sleep(CALM).await;
        app.kill()?;
        app.start().await?;
        tokio::time::sleep(CALM).await;
        town.mesh.kill(proxy).await?;
        town.mesh.start(proxy).await?;
        app_answers(town).await?;
        tokio::time::sleep(CALM).await;
        let process = town.mesh.process(proxy)?;
        signal(&process, Signal::SIGTERM).map_err(|failure| anyhow::anyhow!(failure.text()))?;
        until("the drained proxy has ended", PROCESS_WAIT, async || Ok(alive(&process) == Alive::Dead)).await?;
        town.mesh.start(proxy).await?;
        app_answers(town).await?;
    }
    tokio::time::sleep(CALM).await;
    let answers = orders.end().await;
    let text = std::fs::read_to_string(&app.file)?;
    app.end().await?;
    let mut book: BTreeMap<u64, u64> = BTreeMap::new();
    for line in text.lines() {
        *book.entry(line.parse()?).or_default() += 1;
    }
    let twice = book.values().filter(|count| **count > 1).count();
    let good = answers.values().filter(|good| **good).count();
    let lost = answers.iter().filter(|(id, good)| **good && !book.contains_key(id)).count();
    let doubted = answers.iter().filter(|(id, good)| !**good && book.contains_key(id)).count();
    row.saw(format!("{} orders, {good} answered, {twice} given twice, {lost} answered and not given", answers.len()));
    row.saw(format!("{} without a good answer, of which {doubted} had reached the app", answers.len() - good));
    row.expect(twice == 0, format!("{twice} orders were given twice"));
    row.expect(lost == 0, format!("{lost} orders were answered and never given"));
    row.expect(good > 100, "too few orders to tell anything");
    Ok(())
}

async fn app_answers(town: &Town<'_>) -> Result<()> {
    let caller = town.mesh.caller("west/web-1")?;
    let answers = async || match caller.get("ledger.shop.mesh", "/").await {
        reply if reply.good() => Ok(true),
        reply => bail!("{}", reply.words()),
    };
    until("the app answers again", PROCESS_WAIT, answers).await.map(drop)
}
