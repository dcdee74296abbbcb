//! Authorities, certificates of any shape and handshakes for the tests of this crate.

use crate::authority::Authority;
use crate::credentials::Credentials;
use crate::issue::{after, before, serial, set_validity};
use crate::key::KeyPair;
use crate::live::LiveCredentials;
use crate::trust::TrustStore;
use crate::verify::{PeerIdentity, peer_identity};
use api::name::{SpiffeId, TrustDomain};
use rcgen::{CertificateParams, DistinguishedName, Issuer, SanType};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

pub fn at(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

pub fn id(text: &str) -> SpiffeId {
    text.parse().unwrap()
}

pub fn domain(text: &str) -> TrustDomain {
    text.parse().unwrap()
}

pub fn authority(of: &str, now: UnixTime) -> Authority {
    Authority::create(domain(of), now).unwrap()
}

pub fn trust_in(authorities: &[&Authority]) -> TrustStore {
    let trust = TrustStore::new();
    for authority in authorities {
        assert!(trust.set(&authority.trust()).unwrap());
    }
    trust
}

/// A certificate that `issue` would never make, signed by a true authority.
pub fn forged(
    authority: &Authority,
    now: UnixTime,
    shape: impl FnOnce(&mut CertificateParams),
) -> Vec<CertificateDer<'static>> {
    let generation = authority.present();
    let issuer = Issuer::from_ca_cert_der(&generation.certificate, &generation.key).unwrap();
    let params = shaped(now, shape);
    vec![params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone()]
}

/// Signed by itself.
pub fn self_signed(now: UnixTime, shape: impl FnOnce(&mut CertificateParams)) -> Vec<CertificateDer<'static>> {
    vec![shaped(now, shape).self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()]
}

fn shaped(now: UnixTime, shape: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(serial().unwrap());
    set_validity(&mut params, before(now), after(now, Duration::from_secs(3_600)));
    shape(&mut params);
    params
}

pub fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

pub fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

pub fn live(authority: &Authority, who: &str, now: UnixTime) -> LiveCredentials {
    LiveCredentials::new(credentials(authority, who, now))
}

pub fn credentials(authority: &Authority, who: &str, now: UnixTime) -> Credentials {
    authority.certify(id(who), Some("default/shop/cart-1"), &[], now).unwrap()
}

/// What one end knows after a handshake and one byte each way.
#[derive(Debug)]
pub struct End {
    pub peer: Option<PeerIdentity>,
    pub kind: HandshakeKind,
    pub group: Option<rustls::NamedGroup>,
}

pub struct Ends {
    pub client: io::Result<End>,
    pub server: io::Result<End>,
}

impl Ends {
    /// Both ends are content; what the server saw.
    pub fn sound(self) -> (End, End) {
        (self.client.unwrap(), self.server.unwrap())
    }
}

/// A handshake over memory. The server speaks first, so that the client has read the tickets when it answers.
pub async fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>) -> Ends {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let calls = async {
        let name = ServerName::try_from("cart.shop.default.west").unwrap();
        let mut stream = TlsConnector::from(client.clone()).connect(name, near).await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        stream.write_all(&byte).await?;
        let connection = stream.get_ref().1;
        Ok(End {
            peer: peer_identity(connection.peer_certificates()),
            kind: connection.handshake_kind().unwrap(),
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
        })
    };
    let answers = async {
        let mut stream = TlsAcceptor::from(server.clone()).accept(far).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        let mut byte = [0];
        stream.read_exact(&mut byte).await?;
        let connection = stream.get_ref().1;
        Ok(End {
            peer: peer_identity(connection.peer_certificates()),
            kind: connection.handshake_kind().unwrap(),
            group: connection.negotiated_key_exchange_group().map(|group| group.name()),
        })
    };
    let both = async { tokio::join!(calls, answers) };
    let (client, server) = tokio::time::timeout(Duration::from_secs(20), both).await.expect("a handshake ends");
    Ends { client, server }
}
