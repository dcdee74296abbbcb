//! The issuer's side of tokens: who was invited, and who came. Holds hashes of secrets only.

use crate::files;
use crate::token::{Secret, Token, TokenKind};
use crate::trust::Pin;
use crate::words::span;
use api::name::SpiffeId;
use rustls_pki_types::UnixTime;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// From making a token to using it: time to copy it to another machine, not to lose it.
pub const TOKEN_LIFETIME: Duration = Duration::from_secs(600);
/// Clocks of issuer replicas may differ by this (Linkerd 20 s, Kuma 10 s; hosts without NTP are worse).
const SKEW_SECONDS: u64 = 60;
/// A token that ended stays in the book so long, so that its holder is told what happened to it.
const REMEMBERED_SECONDS: u64 = 86_400;
/// Entries in a book: a fleet of ten thousand hosts that starts at once.
const ENTRIES_MAX: usize = 20_000;

/// Why a token was not taken, or not made.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Single use.
    #[error("token {id} for {subject} was used {} ago; tokens work once, make a new one (if nobody of yours used it, revoke what it let in)", span(*.seconds))]
    Used {
        /// Which.
        id: String,
        /// For whom it was.
        subject: String,
        /// Since then.
        seconds: u64,
    },
    /// Too late.
    #[error("token {id} expired {} ago; make a new one, and is this host's clock right?", span(*.seconds))]
    Expired {
        /// Which.
        id: String,
        /// Since then.
        seconds: u64,
    },
    /// Not made here.
    #[error("token {id} was not made here; it names {server}, is this the right address?")]
    Foreign {
        /// Which.
        id: String,
        /// Whom it names as its issuer.
        server: SpiffeId,
    },
    /// Something in it was changed.
    #[error("token {id} is not as it was made; take it again, or make a new one")]
    Malformed {
        /// Which.
        id: String,
    },
    /// Taken back.
    #[error("token {id} for {subject} was revoked; ask whoever runs this for a new one")]
    Revoked {
        /// Which.
        id: String,
        /// For whom it was.
        subject: String,
    },
    /// The book is full.
    #[error(
        "{ENTRIES_MAX} tokens are remembered and no more can be made now; they are forgotten a day after their end"
    )]
    Full,
    /// The system failed.
    #[error("no token could be made: this system has no source of randomness")]
    Randomness,
    /// Reading or writing.
    #[error("token book {path}: {why}")]
    File {
        /// Which file.
        path: String,
        /// What went wrong.
        why: String,
    },
}

/// What a new token says.
#[derive(Clone, Debug)]
pub struct Grant {
    /// What for.
    pub kind: TokenKind,
    /// Where to go, `host:port`, best first.
    pub addresses: Vec<String>,
    /// The issuer's root, as it is now.
    pub pin: Pin,
    /// The issuer's identity.
    pub server: SpiffeId,
    /// A zone's name, or `MESH/NAMESPACE/WORKLOAD`.
    pub subject: String,
}

/// What became of a token.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase", tag = "state", content = "unix")]
pub enum TokenState {
    /// Waits for its holder.
    Open,
    /// At this Unix second.
    Used(u64),
    /// At this Unix second.
    Revoked(u64),
}

/// A token as an operator may see it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenView {
    /// Which.
    pub id: String,
    /// What for.
    pub kind: TokenKind,
    /// For whom.
    pub subject: String,
    /// Unix seconds.
    pub expires_unix: u64,
    /// What became of it.
    pub state: TokenState,
}

/// All tokens of one issuer. Pure: the owner locks and saves it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct TokenBook {
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Entry {
    kind: TokenKind,
    server: SpiffeId,
    pin: String,
    subject: String,
    /// SHA-256.
    secret_hash: Vec<u8>,
    expires_unix: u64,
    state: TokenState,
}

impl TokenBook {
    /// Nobody was invited yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a token that lives [`TOKEN_LIFETIME`].
    pub fn issue(&mut self, grant: Grant, now: UnixTime) -> Result<Token, TokenError> {
        self.forget_old(now);
        if self.entries.len() >= ENTRIES_MAX {
            return Err(TokenError::Full);
        }
        let Grant { kind, addresses, pin, server, subject } = grant;
        let secret = Secret::random().ok_or(TokenError::Randomness)?;
        let id = random_id()?;
        let expires_unix = now.as_secs().saturating_add(TOKEN_LIFETIME.as_secs());
        let entry = Entry {
            kind,
            server: server.clone(),
            pin: pin.to_string(),
            subject: subject.clone(),
            secret_hash: secret.hash(),
            expires_unix,
            state: TokenState::Open,
        };
        self.entries.insert(id.clone(), entry);
        Ok(Token { kind, addresses, pin, server, id, secret, subject, expires_unix })
    }

    /// Uses a token up and tells whom it lets in, from the book and not from the token. Save the book before acting
    /// on the answer: a token that a crash forgets could be used twice.
    pub fn redeem(&mut self, token: &Token, now: UnixTime) -> Result<String, TokenError> {
        let Token { kind, addresses: _, pin, server, id, secret, subject, expires_unix } = token;
        let late = |end: u64| now.as_secs().checked_sub(end.saturating_add(SKEW_SECONDS)).filter(|late| *late > 0);
        let Some(entry) = self.entries.get_mut(id) else {
            return Err(match late(*expires_unix) {
                Some(seconds) => TokenError::Expired { id: id.clone(), seconds: seconds + SKEW_SECONDS },
                None => TokenError::Foreign { id: id.clone(), server: server.clone() },
            });
        };
        // The secret first, so that nobody without it learns anything else about a token.
        let claims_hold = entry.kind == *kind
            && entry.server == *server
            && entry.pin == pin.to_string()
            && entry.subject == *subject
            && entry.expires_unix == *expires_unix;
        if !secret.has_hash(&entry.secret_hash) || !claims_hold {
            return Err(TokenError::Malformed { id: id.clone() });
        }
        match entry.state {
            TokenState::Revoked(_) => {
                return Err(TokenError::Revoked { id: id.clone(), subject: entry.subject.clone() });
            }
            TokenState::Used(at) => {
                let seconds = now.as_secs().saturating_sub(at);
                return Err(TokenError::Used { id: id.clone(), subject: entry.subject.clone(), seconds });
            }
            TokenState::Open => {}
        }
        if let Some(seconds) = late(entry.expires_unix) {
            return Err(TokenError::Expired { id: id.clone(), seconds: seconds + SKEW_SECONDS });
        }
        entry.state = TokenState::Used(now.as_secs());
        Ok(entry.subject.clone())
    }

    /// Takes an unused token back. Says whether there was one to take.
    pub fn revoke(&mut self, id: &str, now: UnixTime) -> bool {
        match self.entries.get_mut(id) {
            Some(entry) if entry.state == TokenState::Open => {
                entry.state = TokenState::Revoked(now.as_secs());
                true
            }
            _ => false,
        }
    }

    /// Takes all unused tokens of a subject back, such as before making the one that counts. Says how many.
    pub fn revoke_subject(&mut self, subject: &str, now: UnixTime) -> usize {
        let open = |entry: &&mut Entry| entry.subject == subject && entry.state == TokenState::Open;
        let taken = self.entries.values_mut().filter(open);
        taken.map(|entry| entry.state = TokenState::Revoked(now.as_secs())).count()
    }

    /// All tokens remembered, without secrets.
    pub fn list(&self) -> Vec<TokenView> {
        let view = |(id, entry): (&String, &Entry)| TokenView {
            id: id.clone(),
            kind: entry.kind,
            subject: entry.subject.clone(),
            expires_unix: entry.expires_unix,
            state: entry.state,
        };
        self.entries.iter().map(view).collect()
    }

    /// Writes the book atomically, readable by its owner only.
    pub fn save(&self, path: &Path) -> Result<(), TokenError> {
        let text = serde_json::to_vec(self).expect("a token book is plain data");
        files::write_secret(path, &text).map_err(|error| file_error(path, error))
    }

    /// Reads what [`save`](Self::save) wrote; an empty book when there is no file.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        match files::read(path).map_err(|error| file_error(path, error))? {
            Some(text) => serde_json::from_slice(&text).map_err(|error| file_error(path, error)),
            None => Ok(Self::new()),
        }
    }

    fn forget_old(&mut self, now: UnixTime) {
        self.entries.retain(|_, entry| now.as_secs() < entry.expires_unix.saturating_add(REMEMBERED_SECONDS));
    }
}

/// 64 random bits in hexadecimal; unique among the entries of a book, and no secret.
fn random_id() -> Result<String, TokenError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| TokenError::Randomness)?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn file_error(path: &Path, why: impl std::fmt::Display) -> TokenError {
    TokenError::File { path: path.display().to_string(), why: why.to_string() }
}

#[cfg(test)]
mod tests;
