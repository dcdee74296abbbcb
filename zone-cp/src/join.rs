//! Becoming a zone: once with a join token, afterwards with what is on disk; and staying one by renewal.

use crate::rpc;
use anyhow::{Context, bail};
use api::identity_v1::zones_client::ZonesClient;
use api::identity_v1::{JoinRequest, JoinResponse, RenewRequest};
use api::{SpiffeId, TrustDomain, ZoneName};
use identity::{
    CertificateDer, Credentials, Expect, KeyPair, LiveCredentials, Token, TokenKind, TrustStore, VerifyError,
};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;
use tonic::Code;
use tracing::{info, warn};

/// Version of the conversation.
const PROTOCOL: u32 = 1;
/// Pauses between tries to join: global may still be starting.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// gRPC runs on HTTP/2.
pub const ALPN: &[&[u8]] = &[b"h2"];

const TRUST_FILE: &str = "global.trust";
const PLACE_FILE: &str = "zone.json";

/// A zone that has joined.
#[derive(Clone)]
pub struct Membership {
    /// Our name, from our certificate.
    pub zone: ZoneName,
    /// Where global is.
    pub addresses: Vec<String>,
    /// The certificate global gave us.
    pub live: LiveCredentials,
    /// Trusts global.control only.
    pub trust: TrustStore,
}

#[derive(Deserialize, Serialize)]
struct Place {
    addresses: Vec<String>,
}

/// Continues a membership kept in `data`, or begins one with the token in `token_file`.
pub async fn membership(data: &Path, token_file: Option<&Path>) -> anyhow::Result<Membership> {
    if let Some(credentials) = Credentials::load(data)? {
        let place = std::fs::read(data.join(PLACE_FILE)).context("the zone's data folder has lost zone.json")?;
        let Place { addresses } = serde_json::from_slice(&place).context("zone.json is damaged")?;
        let trust = TrustStore::load(&data.join(TRUST_FILE))?;
        return member(credentials, trust, addresses);
    }
    let Some(path) = token_file else {
        bail!("this zone has not joined yet; get a token with `weft zone create NAME` and pass it with --token-file");
    };
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read the token file {}", path.display()))?;
    let token: Token = text.parse().with_context(|| format!("in {}", path.display()))?;
    if token.kind != TokenKind::Join {
        bail!("{} holds a workload token; a zone joins with the token of `weft zone create`", path.display());
    }
    let key = KeyPair::generate()?;
    let JoinResponse { zone, chain, anchors, hints } = ask(&token, &key).await?;
    for hint in hints {
        warn!(hint, "global noticed something while we joined");
    }
    let credentials = Credentials::new(ders(chain), key)?;
    let trust = TrustStore::from_anchors(TrustDomain::global_control(), ders(anchors))?;
    let place = serde_json::to_vec(&Place { addresses: token.addresses.clone() })?;
    trust.save(&data.join(TRUST_FILE))?;
    process::write_atomic(&data.join(PLACE_FILE), &place, 0o600)?;
    // Last, because its presence says that everything else is there.
    credentials.save(data)?;
    info!(zone, "joined");
    member(credentials, trust, token.addresses.clone())
}

fn member(credentials: Credentials, trust: TrustStore, addresses: Vec<String>) -> anyhow::Result<Membership> {
    let zone = credentials.id().as_zone().with_context(|| format!("{} is not a zone's identity", credentials.id()))?;
    Ok(Membership { zone, addresses, live: LiveCredentials::new(credentials), trust })
}

/// Asks every address in turn until one answers; a refusal is final.
async fn ask(token: &Token, key: &KeyPair) -> anyhow::Result<JoinResponse> {
    let csr = key.csr()?;
    loop {
        for address in &token.addresses {
            let tls = identity::client_config_pinned(&token.pin, &token.server, ALPN);
            let channel = match rpc::connect(address, tls, rpc::server_name(address)).await {
                Ok(channel) => channel,
                Err(error) => {
                    let error = anyhow::Error::new(error);
                    if let Some(wrong) = stranger(&error) {
                        bail!("{address} is not the control plane that made this token: {wrong}");
                    }
                    let error = process::sentence(&error);
                    warn!(address, error, "global does not answer; trying again");
                    continue;
                }
            };
            let request = JoinRequest {
                protocol: PROTOCOL,
                version: env!("CARGO_PKG_VERSION").into(),
                token: token.to_string(),
                csr: csr.clone().into(),
                clock_ms: process::clock::unix_ms(),
            };
            match ZonesClient::new(channel).join(request).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status)
                    if matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled) =>
                {
                    warn!(address, error = status.message(), "global does not answer; trying again");
                }
                Err(status) => bail!("global refused to let this zone join: {}", status.message()),
            }
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

/// Why the other side is not who the token names, if that is the trouble. Waiting does not help then.
fn stranger(error: &anyhow::Error) -> Option<VerifyError> {
    error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).find_map(VerifyError::of_io)
}

impl Membership {
    /// Keeps the certificate fresh, with global at any of its addresses.
    pub async fn renew(self, data: std::path::PathBuf) {
        let issue = |csr: Vec<u8>| {
            let (this, data) = (self.clone(), data.clone());
            async move { this.renewed(csr, &data).await.map_err(|error| process::sentence(&error)) }
        };
        control::renewal::keep_fresh(self.live.clone(), &data, issue).await;
    }

    async fn renewed(&self, csr: Vec<u8>, data: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let mut last = anyhow::anyhow!("no address of global is known");
        for address in &self.addresses {
            let expect = Expect::id(SpiffeId::global_cp());
            let tls = identity::client_config(&self.live, &self.trust, expect, ALPN);
            let answer = async {
                let channel = rpc::connect(address, tls, rpc::server_name(address)).await?;
                let response = ZonesClient::new(channel).renew(RenewRequest { csr: csr.clone().into() }).await?;
                anyhow::Ok(response.into_inner())
            };
            match answer.await {
                Ok(response) => {
                    self.take_anchors(ders(response.anchors), data)?;
                    return Ok(ders(response.chain));
                }
                Err(error) => last = error.context(format!("at {address}")),
            }
        }
        Err(last)
    }

    /// Global's anchors of now, so that its rotation reaches us. They came over a connection verified with the old.
    fn take_anchors(&self, anchors: Vec<CertificateDer<'static>>, data: &Path) -> anyhow::Result<()> {
        let fresh = TrustStore::from_anchors(TrustDomain::global_control(), anchors)?;
        for mut trust in fresh.bundles() {
            trust.sequence = process::clock::unix_seconds();
            self.trust.set(&trust)?;
        }
        self.trust.save(&data.join(TRUST_FILE))?;
        Ok(())
    }
}

fn ders(bytes: Vec<bytes::Bytes>) -> Vec<CertificateDer<'static>> {
    bytes.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect()
}
