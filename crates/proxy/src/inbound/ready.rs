//! Whether the app answers. A failed request makes us look at once, and often until it is back; otherwise seldom.

use crate::limits::{APP_CHECK, APP_CONNECT, APP_RECHECK};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

/// The app's ports.
pub struct Apps {
    address: IpAddr,
    /// Port to whether it answered last; `None`: not looked at yet.
    ports: Mutex<BTreeMap<u16, Option<bool>>>,
    look: Notify,
    news: watch::Sender<u64>,
}

impl Apps {
    /// No ports yet. `news` hears of every change.
    pub fn new(address: IpAddr, news: watch::Sender<u64>) -> Self {
        Self { address, ports: Mutex::default(), look: Notify::new(), news }
    }

    /// The ports to look at from now on.
    pub fn set(&self, wanted: BTreeSet<u16>) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if ports.keys().eq(wanted.iter()) {
            return;
        }
        *ports = wanted.into_iter().map(|port| (port, ports.get(&port).copied().flatten())).collect();
        drop(ports);
        self.look.notify_one();
    }

    /// A request failed on this port.
    pub fn suspect(&self, port: u16) {
        tracing::debug!(port, "the app failed a request; looking at it");
        self.look.notify_one();
    }

    /// Ports on which the app does not answer, or has not been seen to.
    pub fn unready(&self) -> Vec<u16> {
        let ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        ports.iter().filter(|(_, up)| **up != Some(true)).map(|(port, _)| *port).collect()
    }

    /// Looks for as long as the proxy runs.
    pub async fn watch(&self) {
        loop {
            let ports: Vec<u16> = self.ports.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
            let mut all = true;
            for port in ports {
                let up = self.answers(port).await;
                all &= up;
                self.learn(port, up);
            }
            let pause = if all { APP_CHECK } else { APP_RECHECK };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.look.notified() => {}
            }
        }
    }

    async fn answers(&self, port: u16) -> bool {
        let connect = TcpStream::connect(SocketAddr::new(self.address, port));
        matches!(timeout(APP_CONNECT, connect).await, Ok(Ok(_)))
    }

    fn learn(&self, port: u16, up: bool) {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = ports.get_mut(&port) else { return };
        if *held == Some(up) {
            return;
        }
        *held = Some(up);
        drop(ports);
        if up {
            tracing::info!(port, "the app answers");
        } else {
            tracing::warn!(port, "the app does not answer; reporting unready until it does");
        }
        self.news.send_modify(|count| *count += 1);
    }
}
