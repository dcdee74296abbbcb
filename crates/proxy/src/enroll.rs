//! How a proxy gets its certificate: once with a token, and from then on with the certificate itself.

use api::TrustDomain;
use api::config::{Trust, zone_cp_server_name};
use api::identity_v1::workloads_client::WorkloadsClient;
use api::identity_v1::{BootstrapRequest, RenewRequest};
use api::{SpiffeId, ZoneName};
use bytes::Bytes;
use hyper_util::rt::TokioIo;
use identity::{
    CertificateDer, Credentials, Expect, KeyPair, LiveCredentials, Token, TokenKind, TrustStore, UnixTime,
    client_config, client_config_pinned, renew_at, retry_after,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

/// Version of the identity protocol.
const PROTOCOL: u32 = 1;
/// One attempt at one address, handshake and answer.
const ATTEMPT: Duration = Duration::from_secs(5);
/// Between attempts while a control plane is not there yet.
const AGAIN: Duration = Duration::from_millis(500);
/// Between renewals, however short certificates live: an issuer signs one a second for a proxy.
const RENEW_PAUSE: Duration = Duration::from_secs(1);
/// Anchors of our zone's control plane, as the bootstrap told them.
const TRUST_FILE: &str = "trust.json";
/// Where the control plane is.
const ZONE_FILE: &str = "zone.json";

/// What a proxy begins with.
pub struct Enrolled {
    /// Certificate and key.
    pub credentials: LiveCredentials,
    /// At least the anchors of our zone's control plane.
    pub trust: TrustStore,
    /// Our zone.
    pub zone: ZoneName,
    /// `host:port` of the control plane's sync service.
    pub control: Vec<String>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// First start without a token.
    #[error("this proxy has no certificate yet; make a token with `weft workload token` and give it with --token-file")]
    NoToken,
    /// The certificate ended while nobody renewed it.
    #[error("the certificate in the data folder has ended; make a new token and give it with --token-file")]
    Ended,
    /// The file cannot be read, or holds something else.
    #[error("cannot use the token in {path}: {text}")]
    Token {
        /// File.
        path: PathBuf,
        /// Why.
        text: String,
    },
    /// Somebody else answers there: nothing was sent.
    #[error("{address} is not the control plane that made this token: {why}")]
    Stranger {
        /// Where.
        address: String,
        /// The verifier's sentence.
        why: identity::VerifyError,
    },
    /// The control plane said no.
    #[error("the zone control plane refused the token: {0}")]
    Refused(String),
    /// The answer does not fit.
    #[error("the zone control plane's answer cannot be used: {0}")]
    Answer(String),
    /// The data folder.
    #[error("cannot keep the certificate: {0}")]
    Keep(String),
}

#[derive(Serialize, Deserialize)]
struct Zone {
    zone: ZoneName,
    control: Vec<String>,
}

/// Continues with what the data folder holds, else shows the token. Waits for the control plane as long as it takes:
/// nothing can be served before.
pub async fn enroll(data: &Path, token_file: Option<&Path>, version: &str) -> Result<Enrolled, EnrollError> {
    let kept = Credentials::load(data).map_err(|error| EnrollError::Keep(error.to_string()))?;
    let ended = kept.as_ref().is_some_and(|kept| kept.not_after() <= UnixTime::now());
    match (kept, token_file) {
        (Some(kept), _) if !ended => resume(data, kept),
        (None, None) => Err(EnrollError::NoToken),
        (Some(_), None) => Err(EnrollError::Ended),
        (_, Some(path)) => bootstrap(data, path, version).await,
    }
}

fn resume(data: &Path, credentials: Credentials) -> Result<Enrolled, EnrollError> {
    let keep = |error: String| EnrollError::Keep(error);
    let trust = TrustStore::load(&data.join(TRUST_FILE)).map_err(|error| keep(error.to_string()))?;
    let text = std::fs::read(data.join(ZONE_FILE)).map_err(|error| keep(error.to_string()))?;
    let Zone { zone, control } = serde_json::from_slice(&text).map_err(|error| keep(error.to_string()))?;
    Ok(Enrolled { credentials: LiveCredentials::new(credentials), trust, zone, control })
}

async fn bootstrap(data: &Path, token_file: &Path, version: &str) -> Result<Enrolled, EnrollError> {
    let unreadable = |text: String| EnrollError::Token { path: token_file.to_owned(), text };
    let text = std::fs::read_to_string(token_file).map_err(|error| unreadable(error.to_string()))?;
    let token: Token = text.trim().parse().map_err(|error| unreadable(format!("{error}")))?;
    if token.kind != TokenKind::Workload {
        return Err(unreadable("a zone joins with it; a proxy takes one of `weft workload register`".into()));
    }
    let key = KeyPair::generate().map_err(|error| EnrollError::Keep(error.to_string()))?;
    let csr = key.csr().map_err(|error| EnrollError::Keep(error.to_string()))?;
    let config = client_config_pinned(&token.pin, &token.server, &[b"h2"]);
    let request = BootstrapRequest {
        protocol: PROTOCOL,
        version: version.to_owned(),
        token: text.trim().to_owned(),
        csr: csr.into(),
        clock_ms: process::clock::unix_ms(),
    };
    let mut said = String::new();
    let answer = 'answered: loop {
        for address in &token.addresses {
            let calling = async {
                let channel = channel(address, config.clone(), "bootstrap.weft").await?;
                WorkloadsClient::new(channel).bootstrap(request.clone()).await.map_err(Call::from)
            };
            match timeout(ATTEMPT, calling).await {
                Ok(Ok(answer)) => break 'answered answer.into_inner(),
                Ok(Err(Call::Refused(text))) => return Err(EnrollError::Refused(text)),
                Ok(Err(Call::Stranger(why))) => {
                    return Err(EnrollError::Stranger { address: address.clone(), why });
                }
                Ok(Err(Call::Unreachable(text))) if text != said => {
                    tracing::warn!(
                        address,
                        error = text,
                        "the zone control plane does not answer yet; going on asking"
                    );
                    said = text;
                }
                Ok(Err(Call::Unreachable(_))) => {}
                Err(_) => tracing::warn!(address, "the zone control plane took too long; going on asking"),
            }
        }
        sleep(AGAIN).await;
    };
    let wrong = |error: String| EnrollError::Answer(error);
    let keep = |error: String| EnrollError::Keep(error);
    let zone: ZoneName = answer.zone.parse().map_err(|error| wrong(format!("{error}")))?;
    let anchors = certificates(answer.anchors);
    let control = TrustDomain::zone_control(&zone);
    let trust = TrustStore::from_anchors(control, anchors).map_err(|error| wrong(error.to_string()))?;
    let chain = certificates(answer.chain);
    let credentials = Credentials::new(chain, key).map_err(|error| wrong(error.to_string()))?;
    let sync = if answer.sync.is_empty() { token.addresses.clone() } else { answer.sync };
    let zone_text = serde_json::to_vec(&Zone { zone: zone.clone(), control: sync.clone() }).expect("names are JSON");
    trust.save(&data.join(TRUST_FILE)).map_err(|error| keep(error.to_string()))?;
    process::write_atomic(&data.join(ZONE_FILE), &zone_text, 0o600).map_err(|error| keep(error.to_string()))?;
    // Last, because its presence says that the others are there.
    credentials.save(data).map_err(|error| keep(error.to_string()))?;
    tracing::info!(id = %credentials.id(), "got a certificate");
    Ok(Enrolled { credentials: LiveCredentials::new(credentials), trust, zone, control: sync })
}

/// Anchors that a proxy must never lose, whatever items say: without them it could not even hear that it was wrong.
pub fn kept_trust(data: &Path) -> Vec<Trust> {
    TrustStore::load(&data.join(TRUST_FILE)).map(|trust| trust.bundles()).unwrap_or_default()
}

/// TLS towards our zone's control plane.
pub fn control_tls(
    credentials: &LiveCredentials,
    trust: &TrustStore,
    zone: &ZoneName,
) -> (Arc<ClientConfig>, ServerName<'static>) {
    let expect = Expect::Ids(vec![SpiffeId::zone_cp(zone)]);
    let name = ServerName::try_from(zone_cp_server_name(zone)).expect("zone names are DNS labels");
    (client_config(credentials, trust, expect, &[b"h2"]), name)
}

/// Renews from half of the certificate's life on, for as long as the proxy runs. What serves is the old certificate
/// until the new one is on disk.
pub async fn renew(
    credentials: LiveCredentials,
    trust: TrustStore,
    zone: ZoneName,
    control: watch::Receiver<Vec<String>>,
    data: PathBuf,
    mut random: impl FnMut() -> f64,
    renewed_news: impl Fn(),
) {
    let mut failures = 0;
    loop {
        let now = UnixTime::now().as_secs();
        let current = credentials.current();
        let at = renew_at(current.not_before(), current.not_after(), random()).as_secs();
        let pause = match failures {
            // A short life begins beyond its half already, because certificates are dated back for slow clocks.
            0 => Duration::from_secs(at.saturating_sub(now)).max(RENEW_PAUSE),
            failures => retry_after(failures - 1, random()),
        };
        sleep(pause).await;
        let addresses = control.borrow().clone();
        let mut renewed = Err("no control plane address is known".to_owned());
        for address in &addresses {
            let (config, name) = control_tls(&credentials, &trust, &zone);
            let name = match &name {
                ServerName::DnsName(name) => name.as_ref().to_owned(),
                _ => zone_cp_server_name(&zone),
            };
            renewed = match timeout(ATTEMPT, renew_once(address, config, &name)).await {
                Ok(renewed) => renewed,
                Err(_) => Err(format!("{address} took too long")),
            };
            if renewed.is_ok() {
                break;
            }
        }
        let kept = renewed.and_then(|fresh| fresh.save(&data).map_err(|error| error.to_string()).map(|()| fresh));
        match kept {
            Ok(fresh) => {
                failures = 0;
                tracing::info!(until = fresh.not_after().as_secs(), "renewed the certificate");
                credentials.replace(fresh);
                renewed_news();
            }
            Err(error) => {
                failures += 1;
                let left_s = current.not_after().as_secs().saturating_sub(UnixTime::now().as_secs());
                tracing::warn!(error, left_s, "cannot renew the certificate yet; trying again");
            }
        }
    }
}

async fn renew_once(address: &str, config: Arc<ClientConfig>, name: &str) -> Result<Credentials, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let csr = key.csr().map_err(|error| error.to_string())?;
    let words = |call: Call| match call {
        Call::Refused(text) | Call::Unreachable(text) => text,
        Call::Stranger(why) => why.to_string(),
    };
    let channel = channel(address, config, name).await.map_err(words)?;
    let answer = WorkloadsClient::new(channel)
        .renew(RenewRequest { csr: csr.into() })
        .await
        .map_err(|status| words(status.into()))?;
    let chain = certificates(answer.into_inner().chain);
    Credentials::new(chain, key).map_err(|error| error.to_string())
}

fn certificates(der: Vec<Bytes>) -> Vec<CertificateDer<'static>> {
    der.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}

enum Call {
    Refused(String),
    /// The other end is not who was expected.
    Stranger(identity::VerifyError),
    Unreachable(String),
}

impl From<tonic::Status> for Call {
    fn from(status: tonic::Status) -> Self {
        use tonic::Code;
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::ResourceExhausted => {
                Self::Unreachable(status.message().to_owned())
            }
            _ => Self::Refused(status.message().to_owned()),
        }
    }
}

/// One connection to `address`, verified by `config` before anything is sent.
async fn channel(address: &str, config: Arc<ClientConfig>, name: &str) -> Result<Channel, Call> {
    let unreachable = |error: String| Call::Unreachable(error);
    let tcp = TcpStream::connect(address).await.map_err(|error| unreachable(format!("{address}: {error}")))?;
    let name = ServerName::try_from(name.to_owned()).map_err(|error| unreachable(error.to_string()))?;
    let tls = TlsConnector::from(config).connect(name, tcp).await;
    let refused = |error: io::Error| match identity::VerifyError::of_io(&error) {
        Some(why) => Call::Stranger(why),
        None => unreachable(format!("{address}: {error}")),
    };
    let mut once = Some(TokioIo::new(tls.map_err(refused)?));
    let connector = tower::service_fn(move |_| {
        let io = once.take().ok_or_else(|| io::Error::other("the connection was used up"));
        async move { io }
    });
    let endpoint = Endpoint::from_static("http://zone-cp.weft");
    endpoint.connect_with_connector(connector).await.map_err(|error| unreachable(error.to_string()))
}
