//! Session resumption that never outlives the trust it rests on.
//!
//! rustls restores the peer's certificates from the session and verifies nothing again, so a session must die when
//! that verification could turn out differently. Three things can change it:
//!
//! - our own credentials are replaced: all sessions are dropped;
//! - an anchor is withdrawn: all sessions are dropped, and a handshake that was verified with the withdrawn anchor and
//!   is still under way must not leave a session behind. A server therefore gives out no tickets for [`QUIET`], longer
//!   than any handshake may take. A client cannot know to which connection a late ticket belongs (a server may send one
//!   after hours), so its store is sealed for good and does full handshakes; a new client config resumes again;
//! - time passes: a session lives [`SESSION_LIFETIME`] at most, whatever the server says.
//!
//! New anchors drop nothing: they cannot make false what was true. Early data (0-RTT) is never offered.

use crate::live::LiveCredentials;
use crate::trust::TrustStore;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::server::ProducesTickets;
use rustls_pki_types::ServerName;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// A connection that resumes just before the end of a certificate may outlive it by this much, as any connection may
/// that was opened then; a mesh connection is kept for an hour too.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(3_600);
/// Twice the time a handshake may take (5 s) at every listener.
pub(crate) const QUIET: Duration = Duration::from_secs(10);
/// rustls keeps 8 tickets for each of 32 server names in this.
const CLIENT_SESSIONS: usize = 256;
/// Moment of issue, in front of the session within a ticket.
const STAMP: usize = 8;

/// What all sessions of a config rest on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ground {
    replacements: u64,
    withdrawals: u64,
}

#[derive(Debug)]
struct Sources {
    credentials: LiveCredentials,
    trust: TrustStore,
}

impl Sources {
    fn ground(&self) -> Ground {
        Ground { replacements: self.credentials.replacements(), withdrawals: self.trust.withdrawals() }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stateless tickets of a server (RFC 5077 in spirit; AES-256-GCM with keys that live in this process only).
pub(crate) struct Tickets {
    sources: Sources,
    began: Instant,
    quiet: Duration,
    keys: Mutex<Keys>,
}

struct Keys {
    ground: Ground,
    made: Instant,
    quiet_until: Instant,
    present: Option<RandomizedNonceKey>,
    previous: Option<RandomizedNonceKey>,
}

impl Tickets {
    pub(crate) fn new(credentials: LiveCredentials, trust: TrustStore) -> Self {
        Self::with_quiet(credentials, trust, QUIET)
    }

    pub(crate) fn with_quiet(credentials: LiveCredentials, trust: TrustStore, quiet: Duration) -> Self {
        let sources = Sources { credentials, trust };
        let now = Instant::now();
        let keys = Keys { ground: sources.ground(), made: now, quiet_until: now, present: fresh_key(), previous: None };
        Self { sources, began: now, quiet, keys: Mutex::new(keys) }
    }

    /// The keys that hold now: none older than a session, none from before the ground changed.
    fn keys(&self, now: Instant) -> MutexGuard<'_, Keys> {
        let mut keys = locked(&self.keys);
        let ground = self.sources.ground();
        if keys.ground != ground {
            let quiet_until = now + self.quiet;
            *keys = Keys { ground, made: now, quiet_until, present: fresh_key(), previous: None };
        } else if now.duration_since(keys.made) > SESSION_LIFETIME {
            keys.previous = std::mem::replace(&mut keys.present, fresh_key());
            keys.made = now;
        }
        keys
    }

    fn seal(&self, session: &[u8], now: Instant) -> Option<Vec<u8>> {
        let keys = self.keys(now);
        if now < keys.quiet_until {
            return None;
        }
        let mut sealed = now.duration_since(self.began).as_secs().to_be_bytes().to_vec();
        sealed.extend_from_slice(session);
        let nonce = keys.present.as_ref()?.seal_in_place_append_tag(Aad::empty(), &mut sealed).ok()?;
        let mut ticket = nonce.as_ref().to_vec();
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn open(&self, ticket: &[u8], now: Instant) -> Option<Vec<u8>> {
        let keys = self.keys(now);
        let (nonce, sealed) = ticket.split_first_chunk::<NONCE_LEN>()?;
        [&keys.present, &keys.previous].into_iter().flatten().find_map(|key| {
            let mut sealed = sealed.to_vec();
            let plain = key.open_in_place(Nonce::from(nonce), Aad::empty(), &mut sealed).ok()?;
            let (stamp, session) = plain.split_first_chunk::<STAMP>()?;
            let age = now.duration_since(self.began).as_secs().checked_sub(u64::from_be_bytes(*stamp))?;
            (age <= SESSION_LIFETIME.as_secs()).then(|| session.to_vec())
        })
    }
}

/// `None` when the system has no randomness: then there are no tickets, only full handshakes.
fn fresh_key() -> Option<RandomizedNonceKey> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).ok()?;
    RandomizedNonceKey::new(&AES_256_GCM, bytes.as_slice()).ok()
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(redacted)")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        SESSION_LIFETIME.as_secs() as u32
    }

    fn encrypt(&self, session: &[u8]) -> Option<Vec<u8>> {
        self.seal(session, Instant::now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.open(ticket, Instant::now())
    }
}

/// Sessions a client may resume.
pub(crate) struct Sessions {
    sources: Sources,
    jar: Mutex<Jar>,
}

struct Jar {
    ground: Ground,
    opened: Instant,
    /// `None` once an anchor was withdrawn.
    cache: Option<ClientSessionMemoryCache>,
}

impl Sessions {
    pub(crate) fn new(credentials: LiveCredentials, trust: TrustStore) -> Self {
        let sources = Sources { credentials, trust };
        let jar = Jar { ground: sources.ground(), opened: Instant::now(), cache: Some(empty_cache()) };
        Self { sources, jar: Mutex::new(jar) }
    }

    fn with<R>(&self, now: Instant, use_it: impl FnOnce(&ClientSessionMemoryCache) -> R) -> Option<R> {
        let mut jar = locked(&self.jar);
        let ground = self.sources.ground();
        if jar.ground.withdrawals != ground.withdrawals {
            jar.cache = None;
        } else if jar.ground != ground || now.duration_since(jar.opened) > SESSION_LIFETIME {
            jar.cache = jar.cache.is_some().then(empty_cache);
            jar.opened = now;
        }
        jar.ground = ground;
        jar.cache.as_ref().map(use_it)
    }
}

fn empty_cache() -> ClientSessionMemoryCache {
    ClientSessionMemoryCache::new(CLIENT_SESSIONS)
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions(redacted)")
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.with(Instant::now(), |cache| cache.set_kx_hint(name, group));
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.with(Instant::now(), |cache| cache.kx_hint(name)).flatten()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, name: ServerName<'static>, session: Tls13ClientSessionValue) {
        self.with(Instant::now(), |cache| cache.insert_tls13_ticket(name, session));
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.with(Instant::now(), |cache| cache.take_tls13_ticket(name)).flatten()
    }
}

#[cfg(test)]
mod tests;
