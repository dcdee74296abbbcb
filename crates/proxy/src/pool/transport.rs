//! TCP and mutual TLS towards one peer.

use crate::error::ConnectError;
use crate::limits::{TCP_KEEPALIVE, TCP_USER_TIMEOUT};
use api::SpiffeId;
use identity::{Expect, LiveCredentials, TrustStore, client_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TLS settings kept, one for each set of expected identities; they hold the sessions that make reconnecting cheap.
const CONFIGS_MAX: usize = 4_096;

/// What a connection carries, as ALPN says it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Carries {
    /// HTTP/2.
    Http,
    /// Bytes after a preamble.
    Bytes,
}

impl Carries {
    /// ALPN protocol.
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http => b"h2",
            Self::Bytes => crate::tcp::preamble::ALPN,
        }
    }
}

/// Who may answer: settings differ by it.
type Whom = (Vec<SpiffeId>, Carries);

/// Connects.
pub struct Transport {
    credentials: LiveCredentials,
    trust: TrustStore,
    configs: Mutex<HashMap<Whom, Arc<ClientConfig>>>,
}

impl Transport {
    /// With our certificate and whom we trust.
    pub fn new(credentials: LiveCredentials, trust: TrustStore) -> Self {
        Self { credentials, trust, configs: Mutex::default() }
    }

    /// TCP connect and TLS handshake within `limit`. Only one of `expected` may answer, and it must speak `carries`.
    pub async fn connect(
        &self,
        address: SocketAddr,
        server_name: &str,
        expected: &[SpiffeId],
        carries: Carries,
        limit: Duration,
    ) -> Result<TlsStream<TcpStream>, ConnectError> {
        let config = self.config(expected, carries);
        let connecting = async {
            let tcp = TcpStream::connect(address).await.map_err(|source| ConnectError::Connect { address, source })?;
            tune(&tcp);
            let failed = |source| ConnectError::Handshake { address, server_name: server_name.to_owned(), source };
            let name = ServerName::try_from(server_name.to_owned())
                .map_err(|_| failed(io::Error::other("the server name is not a DNS name")))?;
            let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?;
            if tls.get_ref().1.alpn_protocol() != Some(carries.alpn()) {
                return Err(failed(io::Error::other("the other side speaks another protocol; is it a Weft proxy?")));
            }
            Ok(tls)
        };
        let late = |_| ConnectError::Late { address, ms: limit.as_millis() as u64 };
        timeout(limit, connecting).await.unwrap_or_else(|elapsed| Err(late(elapsed)))
    }

    fn config(&self, expected: &[SpiffeId], carries: Carries) -> Arc<ClientConfig> {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let whom = (expected.to_vec(), carries);
        if let Some(config) = configs.get(&whom) {
            return config.clone();
        }
        if configs.len() >= CONFIGS_MAX {
            configs.clear();
        }
        let expect = Expect::Ids(expected.to_vec());
        let config = client_config(&self.credentials, &self.trust, expect, &[carries.alpn()]);
        configs.insert(whom, config.clone());
        config
    }
}

/// No delay, keep-alive, and an end to connections whose bytes nobody acknowledges.
pub fn tune(tcp: &TcpStream) {
    let socket = SockRef::from(tcp);
    // Each of these only improves on the kernel's default; a kernel that refuses one serves without it.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE).with_interval(TCP_KEEPALIVE / 3));
    let _ = socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
}
