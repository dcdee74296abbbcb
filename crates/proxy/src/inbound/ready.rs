//! Whether the app answers. A failed request makes us look at once, and often until it is back; otherwise seldom.
//!
//! Looking is a TCP connection. That does not tell a frozen app, whose kernel still accepts for it: when requests wait and
//! nothing at all has come back for [`SILENT`], it is asked something every HTTP server answers at once. No answer
//! means that the app is frozen: requests that wait are let go, so that their callers can try elsewhere.

use super::health::Checks;
use crate::limits::{APP_CONNECT, APP_RECHECK};
use api::config::HealthCheck;
use api::kinds::Protocol;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// Requests wait, and the app has answered none of them for this long. Long polls do, so it is a suspicion only.
pub const SILENT: Duration = Duration::from_secs(1);
/// A suspected app has this long for its first byte.
const ASKED: Duration = Duration::from_millis(750);
/// Counters are looked at this often.
const LOOK: Duration = Duration::from_millis(250);
/// Failing requests make us look at most this often.
const LOOK_AGAIN: Duration = Duration::from_millis(25);
/// Any HTTP/1.1 server answers it, if only with 400 or 405 (RFC 9110 section 9.3.7).
const OPTIONS: &[u8] = b"OPTIONS * HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
/// A connection preface and empty SETTINGS; the server sends its own SETTINGS (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// One port of the app.
pub struct Port {
    speaks: Protocol,
    up: AtomicBool,
    looked: AtomicBool,
    in_flight: AtomicUsize,
    /// Milliseconds since `start` at which the app last showed life, or began to have something to answer.
    alive_ms: AtomicU64,
    start: Instant,
    frozen: watch::Sender<bool>,
}

/// A request that waits for the app.
pub struct Waiting(Arc<Port>);

impl Port {
    fn new(speaks: Protocol) -> Arc<Self> {
        Arc::new(Self {
            speaks,
            up: AtomicBool::new(false),
            looked: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            alive_ms: AtomicU64::new(0),
            start: Instant::now(),
            frozen: watch::Sender::new(false),
        })
    }

    fn alive(&self) {
        self.alive_ms.store(self.start.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silent(&self) -> bool {
        let since = self.start.elapsed().saturating_sub(Duration::from_millis(self.alive_ms.load(Ordering::Relaxed)));
        self.speaks.is_http() && self.in_flight.load(Ordering::Relaxed) > 0 && since > SILENT
    }

    /// A request begins to wait. `None`: the app is frozen, and would not see it.
    pub fn begin(self: &Arc<Self>) -> Option<Waiting> {
        if *self.frozen.borrow() {
            return None;
        }
        if self.in_flight.fetch_add(1, Ordering::Relaxed) == 0 {
            self.alive();
        }
        Some(Waiting(self.clone()))
    }
}

impl Waiting {
    /// The app answered.
    pub fn answered(&self) {
        self.0.alive();
    }

    /// Resolves when the app is found frozen.
    pub async fn frozen(&self) {
        let mut frozen = self.0.frozen.subscribe();
        // The sender lives as long as we do.
        let _ = frozen.wait_for(|frozen| *frozen).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The app's ports.
pub struct Apps {
    address: IpAddr,
    ports: ArcSwap<BTreeMap<u16, Arc<Port>>>,
    checks: watch::Sender<Arc<Checks>>,
    look: Notify,
    news: watch::Sender<u64>,
}

impl Apps {
    /// No ports yet. `news` hears of every change.
    pub fn new(address: IpAddr, news: watch::Sender<u64>) -> Self {
        Self { address, ports: ArcSwap::default(), checks: watch::Sender::default(), look: Notify::new(), news }
    }

    /// The ports to look at from now on, and what to ask.
    pub fn set(&self, wanted: BTreeMap<u16, Protocol>, check: &HealthCheck) {
        let held = self.ports.load();
        let unchanged = held.iter().map(|(port, held)| (*port, held.speaks)).eq(wanted.iter().map(|(p, s)| (*p, *s)));
        self.checks.send_if_modified(|checks| {
            let differs = !unchanged || !checks.is(check);
            if differs {
                let up = |port: &Arc<Port>| port.up.load(Ordering::Relaxed);
                // Where another port is asked, those of the service say how it was so far.
                let fine = |port| held.get(&port).map_or_else(|| !held.is_empty() && held.values().all(up), up);
                *checks = Arc::new(Checks::new(check, &wanted, checks, fine));
            }
            differs
        });
        if unchanged {
            return;
        }
        let keep = |(port, speaks): (u16, Protocol)| {
            let kept = held.get(&port).filter(|held| held.speaks == speaks).cloned();
            (port, kept.unwrap_or_else(|| Port::new(speaks)))
        };
        self.ports.store(Arc::new(wanted.into_iter().map(keep).collect()));
        self.look.notify_one();
    }

    /// One port, while it is configured.
    pub fn port(&self, port: u16) -> Option<Arc<Port>> {
        self.ports.load().get(&port).cloned()
    }

    /// A request failed on this port.
    pub fn suspect(&self, port: u16) {
        tracing::debug!(port, "the app failed a request; looking at it");
        self.look.notify_one();
    }

    /// Ports on which the app does not answer, or has not been seen to, or says that it is not well.
    pub fn unready(&self) -> Vec<u16> {
        let unwell = self.unwell();
        let ports = self.ports.load();
        let unready = ports.iter().filter(|(port, held)| !held.up.load(Ordering::Relaxed) || unwell.contains_key(port));
        unready.map(|(port, _)| *port).collect()
    }

    /// Ports on which the app says that it is not well, and its words.
    pub fn unwell(&self) -> BTreeMap<u16, String> {
        let checks = self.checks.borrow();
        self.ports.load().keys().filter_map(|port| Some((*port, checks.unwell(*port)?))).collect()
    }

    /// Resolves when every port has been looked at.
    pub async fn looked(&self) {
        let seen = |port: &Arc<Port>| port.looked.load(Ordering::Relaxed);
        // We hold a sender.
        let _ = self.news.subscribe().wait_for(|_| self.ports.load().values().all(seen)).await;
    }

    /// Looks and asks for as long as the proxy runs.
    pub async fn watch(&self) {
        tokio::join!(self.look(), self.ask());
    }

    async fn ask(&self) {
        let mut changed = self.checks.subscribe();
        loop {
            let checks = changed.borrow_and_update().clone();
            let pause = async {
                if !checks.asks() {
                    return std::future::pending().await;
                }
                let (news, pause) = checks.ask(self.address).await;
                if news {
                    self.news.send_modify(|count| *count += 1);
                }
                sleep(pause).await;
            };
            tokio::select! {
                () = pause => {}
                // The sender lives as long as we do.
                _ = changed.changed() => {}
            }
        }
    }

    async fn look(&self) {
        loop {
            let ports = self.ports.load_full();
            let mut all = true;
            for (number, port) in &*ports {
                let up = self.answers(*number, port).await;
                all &= up;
                self.learn(*number, port, up);
            }
            let every = self.checks.borrow().connect_every();
            let next = Instant::now() + if all { every } else { every.min(APP_RECHECK) };
            sleep(LOOK_AGAIN).await;
            while Instant::now() < next && !ports.values().any(|port| port.silent()) {
                if timeout(LOOK, self.look.notified()).await.is_ok() {
                    break;
                }
            }
        }
    }

    async fn answers(&self, number: u16, port: &Port) -> bool {
        let connect = TcpStream::connect(SocketAddr::new(self.address, number));
        let Ok(Ok(tcp)) = timeout(APP_CONNECT, connect).await else { return false };
        if !port.silent() && !*port.frozen.borrow() {
            return true;
        }
        let lives = says_something(tcp, port.speaks).await;
        if lives {
            port.alive();
        }
        if port.frozen.send_if_modified(|frozen| std::mem::replace(frozen, !lives) == lives) && !lives {
            tracing::warn!(port = number, "the app accepts connections and answers nothing; it seems frozen");
        }
        lives
    }

    fn learn(&self, number: u16, port: &Port, up: bool) {
        let first = !port.looked.swap(true, Ordering::Relaxed);
        if port.up.swap(up, Ordering::Relaxed) == up && !first {
            return;
        }
        if up {
            tracing::info!(port = number, "the app answers");
        } else {
            tracing::warn!(port = number, "the app does not answer; reporting unready until it does");
        }
        self.news.send_modify(|count| *count += 1);
    }
}

/// Whether anything at all comes back.
async fn says_something(mut tcp: TcpStream, speaks: Protocol) -> bool {
    let question = if speaks == Protocol::Http { OPTIONS } else { PREFACE };
    let asking = async {
        tcp.write_all(question).await?;
        tcp.read(&mut [0; 1]).await
    };
    // An end without a byte is an answer too: somebody closed the connection.
    matches!(timeout(ASKED, asking).await, Ok(Ok(_)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_app_that_accepts_and_says_nothing_is_frozen_until_it_speaks() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let news = watch::Sender::new(0);
        let apps = Arc::new(Apps::new(address.ip(), news.clone()));
        apps.set(BTreeMap::from([(address.port(), Protocol::Http)]), &HealthCheck::default());
        let mut heard = news.subscribe();
        let watching = apps.clone();
        tokio::spawn(async move { watching.watch().await });
        heard.wait_for(|_| apps.unready().is_empty()).await.unwrap();
        let port = apps.port(address.port()).unwrap();
        let waiting = port.begin().unwrap();
        timeout(Duration::from_secs(5), waiting.frozen()).await.expect("a frozen app is found");
        assert!(port.begin().is_none(), "nothing more is sent to it");
        drop(waiting);
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let _ = tcp.write_all(b"HTTP/1.1 405 no\r\n\r\n").await;
            }
        });
        let thawed = heard.wait_for(|_| apps.unready().is_empty());
        timeout(Duration::from_secs(5), thawed).await.expect("it is back as soon as it answers").unwrap();
        assert!(port.begin().is_some());
    }
}
