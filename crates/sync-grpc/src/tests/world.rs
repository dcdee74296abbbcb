//! Two ends, throw-away certificates, and a wire that can freeze.

use crate::*;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

/// Far more than anything here takes, far less than a person waits.
pub const SOON: Duration = Duration::from_secs(20);
pub const ID: &str = "spiffe://west.default/ns/shop/sa/cart";

pub async fn until<T>(receiver: &mut watch::Receiver<T>, what: &str, fact: impl FnMut(&T) -> bool) {
    let waited = timeout(SOON, receiver.wait_for(fact)).await;
    waited.unwrap_or_else(|_| panic!("never happened: {what}")).unwrap();
}

pub fn key(key: &str) -> Key {
    Key::from(key)
}

pub fn payload(payload: &str) -> Payload {
    Payload::from(payload.to_owned())
}

pub fn lineage(history: u64, revision: u64) -> Lineage {
    Lineage { history, revision }
}

/// `count` items, all saying `says`.
pub fn items(count: usize, says: &str) -> BTreeMap<Key, Payload> {
    (0..count).map(|n| (Key::from(format!("item-{n:04}")), payload(says))).collect()
}

#[derive(Clone)]
pub struct Tls {
    pub server: Arc<ServerConfig>,
    pub client: Arc<ClientConfig>,
}

pub fn tls() -> Tls {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let leaf = |names: Vec<SanType>| -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.distinguished_name.push(DnType::CommonName, "default/shop/cart-1");
        let certificate = params.signed_by(&key, &issuer).unwrap();
        (vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    };
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).unwrap();
    let roots = Arc::new(roots);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone()).build().unwrap();
    let (chain, key) = leaf(vec![SanType::DnsName("localhost".try_into().unwrap())]);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    let (chain, key) = leaf(vec![SanType::URI(ID.try_into().unwrap())]);
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Tls { server: Arc::new(server), client: Arc::new(client) }
}

/// Admits everybody and gives each the same channels.
pub struct Offer {
    pub channels: Channels,
    pub progress: watch::Sender<BTreeMap<String, Progress>>,
    pub peers: Mutex<Vec<Peer>>,
    /// Sessions that are open.
    pub open: watch::Sender<usize>,
    pub admitted: AtomicUsize,
    /// Ends the sessions that are open.
    pub kick: Mutex<CancellationToken>,
}

impl Offer {
    pub fn new(channels: Channels) -> Arc<Self> {
        Arc::new(Self {
            channels,
            progress: watch::Sender::default(),
            peers: Mutex::default(),
            open: watch::Sender::default(),
            admitted: AtomicUsize::default(),
            kick: Mutex::default(),
        })
    }

    pub fn kick(&self) {
        std::mem::take(&mut *self.kick.lock().unwrap()).cancel();
    }

    pub fn progress(&self, channel: &str) -> Progress {
        self.progress.borrow().get(channel).cloned().unwrap_or_default()
    }
}

struct Gone(watch::Sender<usize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Admit for Offer {
    fn admit(&self, peer: &Peer, _: &api::sync_v1::Open) -> Result<Session, Refusal> {
        self.peers.lock().unwrap().push(peer.clone());
        self.admitted.fetch_add(1, Ordering::Relaxed);
        self.open.send_modify(|open| *open += 1);
        Ok(Session {
            channels: self.channels.clone(),
            progress: self.progress.clone(),
            cancel: self.kick.lock().unwrap().clone(),
            guard: Box::new(Gone(self.open.clone())),
        })
    }
}

pub struct Server {
    pub addr: SocketAddr,
    pub cancel: CancellationToken,
    pub task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    pub async fn start(tls: &Tls, admit: Arc<dyn Admit>, admission: Admission) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").await.unwrap(), tls, admit, admission)
    }

    pub fn start_at(listener: TcpListener, tls: &Tls, admit: Arc<dyn Admit>, admission: Admission) -> Self {
        let addr = listener.local_addr().unwrap();
        let cancel = CancellationToken::new();
        let routes = Routes::new(service(admit, admission));
        let task = tokio::spawn(serve(listener, tls.server.clone(), routes, cancel.clone()));
        Self { addr, cancel, task }
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        timeout(SOON, self.task).await.unwrap().unwrap().unwrap();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub struct Client {
    pub addresses: watch::Sender<Vec<String>>,
    pub progress: watch::Sender<BTreeMap<String, Progress>>,
    pub cancel: CancellationToken,
}

impl Client {
    pub fn start(tls: &Tls, addr: SocketAddr, channels: Channels) -> Self {
        let config = tls.client.clone();
        let addresses = watch::Sender::new(vec![addr.to_string()]);
        let progress = watch::Sender::default();
        let cancel = CancellationToken::new();
        let whom = Dial {
            addresses: addresses.subscribe(),
            tls: Arc::new(move |_| (config.clone(), ServerName::try_from("localhost").unwrap())),
            name: "test".into(),
            version: "0".into(),
        };
        tokio::spawn(dial(whom, channels, progress.clone(), cancel.clone()));
        Self { addresses, progress, cancel }
    }
}

pub fn publishes(name: &str, view: &Published) -> Channels {
    Channels { publish: vec![(name.into(), view.clone())], follow: Vec::new() }
}

pub fn follows(name: &str, follower: &Follower) -> Channels {
    Channels { publish: Vec::new(), follow: vec![(name.into(), follower.clone())] }
}

/// Copies bytes between a client and `to`. While frozen it takes connections and says nothing, like a stopped process
/// whose kernel goes on; at the thaw it serves those that wait, and the ones from before stay silent.
pub struct Wire {
    pub addr: SocketAddr,
    pub frozen: watch::Sender<bool>,
}

impl Wire {
    pub async fn to(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let frozen = watch::Sender::new(false);
        let freezing = frozen.clone();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut near, _)) = listener.accept().await {
                let mut frozen = freezing.subscribe();
                held.push(tokio::spawn(async move {
                    let _ = frozen.wait_for(|frozen| !*frozen).await;
                    let mut far = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                        _ = frozen.wait_for(|frozen| *frozen) => {}
                    }
                    std::future::pending::<()>().await;
                }));
            }
        });
        Self { addr, frozen }
    }
}
