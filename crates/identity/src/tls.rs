//! rustls configs of the mesh: TLS 1.3 only, X25519MLKEM768 first, identities instead of host names.

use crate::expect::Expect;
use crate::live::{Chain, LiveCredentials, Shown};
use crate::resume::{Sessions, Tickets};
use crate::trust::{Pin, TrustStore};
use crate::verify::{verify, verify_pinned};
use api::name::SpiffeId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::fmt;
use std::sync::Arc;

/// What a server does about clients without a certificate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClientAuth {
    /// Refuses them in the handshake.
    Required,
    /// Lets them in, for services that take a token; each call must then look for the peer's identity. The chain
    /// includes the root, because a newcomer knows only the root's hash.
    Optional,
}

/// For members: shows our certificate, and takes whoever is expected. The server name goes into SNI only (SPIFFE);
/// the identity is what is compared.
pub fn client_config(
    credentials: &LiveCredentials,
    trust: &TrustStore,
    expect: Expect,
    alpn: &[&[u8]],
) -> Arc<ClientConfig> {
    let sessions = Sessions::new(credentials.clone(), trust.clone());
    let resumption = if expect.is_fixed() { Resumption::store(Arc::new(sessions)) } else { Resumption::disabled() };
    let shown = Shown { credentials: credentials.clone(), chain: Chain::WithoutRoot };
    let mut config = client(Whom::Member { trust: trust.clone(), expect }).with_client_cert_resolver(Arc::new(shown));
    config.resumption = resumption;
    config.alpn_protocols = owned(alpn);
    Arc::new(config)
}

/// For newcomers with a token: shows no certificate, and takes only `server` under the root with this pin.
pub fn client_config_pinned(pin: &Pin, server: &SpiffeId, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = client(Whom::Pinned { pin: *pin, server: server.clone() }).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = owned(alpn);
    Arc::new(config)
}

/// For listeners: shows our certificate, and takes whoever is expected.
pub fn server_config(
    credentials: &LiveCredentials,
    trust: &TrustStore,
    expect: Expect,
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    server_config_with(Tickets::new(credentials.clone(), trust.clone()), credentials, trust, expect, client_auth, alpn)
}

pub(crate) fn server_config_with(
    tickets: Tickets,
    credentials: &LiveCredentials,
    trust: &TrustStore,
    expect: Expect,
    client_auth: ClientAuth,
    alpn: &[&[u8]],
) -> Arc<ServerConfig> {
    let chain = match client_auth {
        ClientAuth::Required => Chain::WithoutRoot,
        ClientAuth::Optional => Chain::WithRoot,
    };
    let resumes = expect.is_fixed();
    let whom = Whom::Member { trust: trust.clone(), expect };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .with_client_cert_verifier(Arc::new(Verifier { whom, client_auth, provider: provider() }))
        .with_cert_resolver(Arc::new(Shown { credentials: credentials.clone(), chain }));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if resumes {
        config.ticketer = Arc::new(tickets);
    } else {
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = owned(alpn);
    Arc::new(config)
}

fn client(whom: Whom) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let verifier = Verifier { whom, client_auth: ClientAuth::Required, provider: provider() };
    ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
}

/// Two crypto providers may be linked into a program that uses other libraries; ours is always said.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn owned(alpn: &[&[u8]]) -> Vec<Vec<u8>> {
    alpn.iter().map(|protocol| protocol.to_vec()).collect()
}

/// Whom a connection takes.
enum Whom {
    Member { trust: TrustStore, expect: Expect },
    Pinned { pin: Pin, server: SpiffeId },
}

/// The verifier of this crate in the shape rustls asks for, at both ends.
struct Verifier {
    whom: Whom,
    client_auth: ClientAuth,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    fn verify(&self, first: &CertificateDer<'_>, rest: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let chain: Vec<CertificateDer<'_>> = std::iter::once(first).chain(rest).cloned().collect();
        let answer = match &self.whom {
            Whom::Member { trust, expect } => verify(&chain, trust, expect, now),
            Whom::Pinned { pin, server } => verify_pinned(&chain, pin, server, now),
        };
        match answer {
            Ok(_) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "peer refused");
                Err(error.into())
            }
        }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }
}

const NO_TLS12: &str = "TLS 1.2 is never offered inside a mesh";

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(first, rest, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.client_auth == ClientAuth::Required
    }

    /// Empty: a client has one certificate and shows it; nobody learns from us whom we trust.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        first: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(first, rest, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General(NO_TLS12.into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.whom {
            Whom::Member { trust, expect } => write!(f, "Verifier({expect} of {trust:?})"),
            Whom::Pinned { pin, server } => write!(f, "Verifier({server} under {pin})"),
        }
    }
}

#[cfg(test)]
mod tests;
