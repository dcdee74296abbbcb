//! TLS towards services outside the mesh: settings made once when configuration is compiled, so that sessions are kept.

use api::config::External;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::sync::{Arc, LazyLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Where Debian, Fedora and Alpine keep the system's roots.
const SYSTEM_ROOTS: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Read once, when the first service needs them.
static SYSTEM: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
    let pem = SYSTEM_ROOTS.iter().find_map(|path| std::fs::read(path).ok()).unwrap_or_default();
    Arc::new(roots(&pem))
});

/// What a connection will carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Speaks {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever the app speaks.
    Bytes,
}

/// Settings of one service.
#[derive(Debug)]
pub struct Origination {
    /// The name to expect; none: the host that was called.
    pub server_name: Option<String>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
    bytes: Arc<ClientConfig>,
}

impl Origination {
    /// `None`: the service is reached without TLS. An error is one of the first request, not of the configuration: roots
    /// that this machine lacks are no reason to refuse everything else.
    pub fn of(external: &External) -> Option<Result<Self, String>> {
        let (server_name, pem) = external.tls.as_ref()?;
        let roots = pem.as_ref().map_or_else(|| SYSTEM.clone(), |pem| Arc::new(roots(pem.as_bytes())));
        if roots.is_empty() {
            return Some(Err("no roots to verify an external service with; name them in `tls.roots`".into()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = match ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions() {
            Ok(builder) => builder,
            Err(error) => return Some(Err(error.to_string())),
        };
        let bytes = builder.with_root_certificates(roots).with_no_client_auth();
        let with = |alpn: &[u8]| {
            let mut config = bytes.clone();
            config.alpn_protocols = vec![alpn.to_vec()];
            Arc::new(config)
        };
        let (http1, http2) = (with(b"http/1.1"), with(b"h2"));
        Some(Ok(Self { server_name: server_name.clone(), http1, http2, bytes: Arc::new(bytes) }))
    }

    /// Handshake as a client of `name`.
    pub async fn connect(&self, name: &str, speaks: Speaks, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = match speaks {
            Speaks::Http1 => &self.http1,
            Speaks::Http2 => &self.http2,
            Speaks::Bytes => &self.bytes,
        };
        let server = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let tls = TlsConnector::from(config.clone()).connect(server, tcp).await?;
        // RFC 9113 section 3.2: over TLS, HTTP/2 is agreed on by ALPN.
        if speaks == Speaks::Http2 && tls.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(format!("{name} does not speak HTTP/2")));
        }
        Ok(tls)
    }
}

fn roots(pem: &[u8]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).filter_map(Result::ok));
    store
}
