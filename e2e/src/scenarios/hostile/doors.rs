//! Where attackers knock.

use anyhow::Result;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// Attackers outside come from so many addresses: a bound for one of them stops none.
const SOURCES: u8 = 16;
/// Last number of the first one. Everybody else comes from another.
const FIRST_SOURCE: u8 = 2;

/// A connection as the attacker has it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Where the attacker knocks.
#[derive(Clone)]
pub struct Door {
    /// In a word.
    pub name: &'static str,
    /// Process behind it.
    pub process: &'static str,
    /// Where it is.
    pub address: SocketAddr,
    /// Callers come from outside, from many addresses.
    pub outside: bool,
    /// What it takes to shake hands.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Door {
    /// Without TLS.
    pub fn clear(name: &'static str, process: &'static str, address: SocketAddr) -> Self {
        Self { name, process, address, outside: false, tls: None }
    }

    /// Without a handshake, whether or not it wants one.
    pub fn in_clear(&self) -> Self {
        Self { tls: None, ..self.clone() }
    }

    /// Connects, with the handshake if there is one.
    pub async fn open(&self) -> Result<Box<dyn Stream>> {
        static NEXT: AtomicU8 = AtomicU8::new(0);
        let socket = TcpSocket::new_v4()?;
        if self.outside {
            let source = FIRST_SOURCE + NEXT.fetch_add(1, Ordering::Relaxed) % SOURCES;
            socket.bind(SocketAddr::from(([127, 0, 0, source], 0)))?;
        }
        let tcp = socket.connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some((config, name)) => {
                Box::new(tokio_rustls::TlsConnector::from(config.clone()).connect(name.clone(), tcp).await?)
            }
        })
    }
}

/// The attacker's ways in.
pub struct Doors {
    /// The app's side of its proxy, in clear text.
    pub outbound: Door,
    /// The proxies' side, by mutual TLS.
    pub inbound: Door,
    /// A listener of an edge gateway.
    pub edge: Door,
    /// Another one, by TLS.
    pub edge_tls: Door,
}

impl Doors {
    /// One of each process.
    pub fn each(&self) -> [&Door; 3] {
        [&self.outbound, &self.inbound, &self.edge_tls]
    }

    /// Those that take HTTP/1 in clear text.
    pub fn clear(&self) -> [&Door; 2] {
        [&self.outbound, &self.edge]
    }

    /// Those that want a handshake.
    pub fn handshakes(&self) -> [&Door; 2] {
        [&self.inbound, &self.edge_tls]
    }
}
