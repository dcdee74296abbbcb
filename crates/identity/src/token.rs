//! What a newcomer is handed: where to go, whom to trust there, and a secret to be let in with, once.

use crate::trust::Pin;
use api::name::SpiffeId;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use zeroize::Zeroizing;

/// A token is a line of text; one with sixteen addresses has about 1 KiB.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// 256 bits.
const SECRET_BYTES: usize = 32;

/// What a token lets its holder become.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// A zone; shown to global.
    Join,
    /// A workload or gateway; shown to its zone.
    Workload,
}

impl TokenKind {
    fn prefix(self) -> &'static str {
        match self {
            Self::Join => "weft-join.",
            Self::Workload => "weft-workload.",
        }
    }
}

/// 256 random bits. Never printed by Debug, wiped when dropped, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<[u8; SECRET_BYTES]>);

impl Secret {
    /// `None` when the system has no randomness.
    pub(crate) fn random() -> Option<Self> {
        let mut bytes = Zeroizing::new([0; SECRET_BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).ok()?;
        Some(Self(bytes))
    }

    /// What an issuer keeps: from it nobody gets the secret back.
    pub(crate) fn hash(&self) -> Vec<u8> {
        digest(&SHA256, self.0.as_slice()).as_ref().to_vec()
    }

    pub(crate) fn has_hash(&self, hash: &[u8]) -> bool {
        verify_slices_are_equal(&self.hash(), hash).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redacted")
    }
}

/// A token. Its text (Display) is a secret; Debug is safe to log.
#[derive(Clone, Debug)]
pub struct Token {
    /// What for.
    pub kind: TokenKind,
    /// Where the issuer listens, `host:port`, best first.
    pub addresses: Vec<String>,
    /// The issuer's root.
    pub pin: Pin,
    /// The issuer's identity.
    pub server: SpiffeId,
    /// Under which the issuer finds it; no secret.
    pub id: String,
    /// The proof.
    pub secret: Secret,
    /// A zone's name, or `MESH/NAMESPACE/WORKLOAD`. For people: the issuer goes by its own book.
    pub subject: String,
    /// Unix seconds. Also only for people.
    pub expires_unix: u64,
}

impl Token {
    /// End of its life.
    pub fn expires(&self) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(self.expires_unix))
    }
}

/// Short keys: an operator copies this by hand.
#[derive(Deserialize, Serialize)]
struct Wire {
    #[serde(rename = "a")]
    addresses: Vec<String>,
    #[serde(rename = "p")]
    pin: String,
    #[serde(rename = "v")]
    server: SpiffeId,
    #[serde(rename = "i")]
    id: String,
    #[serde(rename = "s")]
    secret: Zeroized,
    #[serde(rename = "n")]
    subject: String,
    #[serde(rename = "e")]
    expires_unix: u64,
}

struct Zeroized(Zeroizing<String>);

impl Serialize for Zeroized {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Zeroized {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Zeroizing::new(String::deserialize(deserializer)?)))
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, addresses, pin, server, id, secret, subject, expires_unix } = self;
        let wire = Wire {
            addresses: addresses.clone(),
            pin: pin.to_string(),
            server: server.clone(),
            id: id.clone(),
            secret: Zeroized(Zeroizing::new(URL_SAFE_NO_PAD.encode(secret.0.as_slice()))),
            subject: subject.clone(),
            expires_unix: *expires_unix,
        };
        let json = Zeroizing::new(serde_json::to_vec(&wire).map_err(|_| fmt::Error)?);
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&json));
        write!(f, "{}{}", kind.prefix(), text.as_str())
    }
}

/// Why a text is no token.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenTextError {
    /// Wrong beginning.
    #[error("this is no token: one begins with `weft-join.` or `weft-workload.`")]
    Prefix,
    /// Wrong rest.
    #[error("this token is damaged; was it cut while copying? take it again, or make a new one")]
    Damaged,
}

impl FromStr for Token {
    type Err = TokenTextError;

    fn from_str(text: &str) -> Result<Self, TokenTextError> {
        let text = text.trim();
        let (kind, body) = [TokenKind::Join, TokenKind::Workload]
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))
            .ok_or(TokenTextError::Prefix)?;
        Self::read(kind, body).ok_or(TokenTextError::Damaged)
    }
}

impl Token {
    fn read(kind: TokenKind, body: &str) -> Option<Self> {
        if body.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let json = Zeroizing::new(URL_SAFE_NO_PAD.decode(body).ok()?);
        let Wire { addresses, pin, server, id, secret, subject, expires_unix } = serde_json::from_slice(&json).ok()?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret.0.as_bytes()).ok()?);
        let secret = Secret(Zeroizing::new(bytes.as_slice().try_into().ok()?));
        Some(Self { kind, addresses, pin: pin.parse().ok()?, server, id, secret, subject, expires_unix })
    }
}
