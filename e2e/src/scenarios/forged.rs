//! Wrong certificates of every kind, shown to real listeners. The forger has what no attacker has, the authority's own
//! key, so that what is refused is refused for its content and not for its signature alone.

use anyhow::{Context, Result};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A listener that says nothing for so long has taken the certificate.
const SILENCE: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

/// Somebody with an authority's key.
pub struct Forger {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

/// A certificate to make.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// URI names.
    pub uris: Vec<String>,
    /// Common name.
    pub name: String,
    /// It ended an hour ago.
    pub ended: bool,
}

/// A certificate with its key.
pub struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Forger {
    /// Takes an authority out of its file in a data folder.
    pub fn thief(file: &Path) -> Result<Self> {
        let document: Value =
            serde_json::from_slice(&std::fs::read(file).with_context(|| file.display().to_string())?)?;
        let text = |field: &str| document["present"][field].as_str().context("the authority that issues now");
        let certificate = CertificateDer::from_pem_slice(text("certificate")?.as_bytes())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, KeyPair::from_pem(text("key")?)?)?;
        Ok(Self { issuer, certificate })
    }

    /// An authority that names itself as it likes.
    pub fn stranger(name: &str) -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key)?.der().clone();
        let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
        Ok(Self { issuer, certificate })
    }

    /// Signs whatever it is asked for.
    pub fn sign(&self, leaf: &Leaf) -> Result<Shown> {
        let Leaf { uris, name, ended } = leaf;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(name);
        let uri = |uri: &String| Ok(SanType::URI(uri.as_str().try_into()?));
        params.subject_alt_names = uris.iter().map(uri).collect::<Result<_, rcgen::Error>>()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        (params.not_before, params.not_after) = match ended {
            true => ((now - 2 * HOUR).into(), (now - HOUR).into()),
            false => ((now - HOUR).into(), (now + HOUR).into()),
        };
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        Ok(Shown { chain, key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    if !name.is_empty() {
        subject.push(DnType::CommonName, name);
    }
    subject
}

/// What a listener does about a certificate: `None`, it takes it; else the alert it sends.
pub async fn show(address: SocketAddr, server: &str, shown: Shown) -> Result<Option<String>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(shown.chain, shown.key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await?;
    let server = ServerName::try_from(server.to_owned())?;
    // With TLS 1.3 a client is done before the server has seen its certificate: the verdict is the next thing read.
    let mut stream = match TlsConnector::from(Arc::new(config)).connect(server, tcp).await {
        Ok(stream) => stream,
        Err(error) => return Ok(Some(error.to_string())),
    };
    match timeout(SILENCE, stream.read_u8()).await {
        Ok(Ok(_)) | Err(_) => Ok(None),
        Ok(Err(error)) => Ok(Some(error.to_string())),
    }
}

/// Takes every server: the forger wants to know what the server does.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not offered".into()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
