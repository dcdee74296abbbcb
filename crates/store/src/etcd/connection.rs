//! A connection to etcd: limits in time and size, and its errors in our words.

use crate::{OBJECT_BYTES_MAX, Result, StoreError};
use etcd_client::{
    Certificate, Client, ConnectOptions, Error, GetOptions, GetResponse, Identity, KvClient, ResponseHeader,
    TlsOptions, Txn, TxnResponse, WatchClient,
};
use std::fmt;
use std::future::Future;
use std::time::Duration;

/// Longest wait for an answer; etcd elects a new leader in 1 to 2 s with its default settings.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// Longest wait for a member to accept a connection; the others are tried next.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// A silent member is dropped after both. etcd refuses pings more often than its `--grpc-keepalive-min-time` of 5 s.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_ANSWER_MAX: Duration = Duration::from_secs(3);
/// A page of 64 objects of the largest size, and what surrounds them.
pub const ANSWER_BYTES_MAX: usize = 65 * OBJECT_BYTES_MAX;

/// etcd's words for a database at its quota (`--quota-backend-bytes`), and for a revision it compacted.
const SAYS_FULL: &str = "database space exceeded";
const SAYS_COMPACTED: &str = "required revision has been compacted";

/// Cheap to clone; reconnects by itself.
#[derive(Clone)]
pub struct Connection {
    /// For errors: `etcd at http://..`.
    pub place: String,
    keys: KvClient,
    watches: WatchClient,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.place).finish()
    }
}

impl Connection {
    /// Balances over `addresses`. Does not wait for any to answer.
    pub async fn open(addresses: &[String]) -> Result<Self> {
        let place = format!("etcd at {}", addresses.join(", "));
        let mut options = ConnectOptions::new()
            .with_connect_timeout(CONNECT_MAX)
            .with_keep_alive(PING_EVERY, PING_ANSWER_MAX)
            .with_keep_alive_while_idle(true);
        if addresses.iter().any(|address| address.starts_with("https://")) {
            options = options.with_tls(tls(&place)?);
        }
        let client = Client::connect(addresses, Some(options)).await.map_err(|error| failure(&place, &error))?;
        let keys = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        let watches = client.watch_client().max_decoding_message_size(ANSWER_BYTES_MAX);
        Ok(Self { place, keys, watches })
    }

    /// A client for watches, whose streams have no end and no time limit.
    pub fn watches(&self) -> WatchClient {
        self.watches.clone()
    }

    /// Reads keys.
    pub async fn get(&self, key: Vec<u8>, options: Option<GetOptions>) -> Result<GetResponse> {
        let mut keys = self.keys.clone();
        self.answer(keys.get(key, options)).await
    }

    /// Runs a transaction. When it is not answered in time, it may have happened.
    pub async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let mut keys = self.keys.clone();
        self.answer(keys.txn(txn)).await
    }

    /// Waits for an answer, but not forever.
    pub async fn answer<T>(&self, question: impl Future<Output = std::result::Result<T, Error>>) -> Result<T> {
        match tokio::time::timeout(ANSWER_MAX, question).await {
            Ok(answer) => answer.map_err(|error| failure(&self.place, &error)),
            Err(_) => Err(self.unavailable(&format!("no answer within {} s", ANSWER_MAX.as_secs()))),
        }
    }

    /// An error that may pass by itself.
    pub fn unavailable(&self, detail: &str) -> StoreError {
        StoreError::Unavailable { place: self.place.clone(), detail: detail.to_owned() }
    }
}

/// Revision an answer was given at.
pub fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, ResponseHeader::revision)
}

/// Whether etcd says that it no longer has a revision. The place of the error is not known here.
pub fn is_compacted(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { detail, .. } if detail.contains(SAYS_COMPACTED))
}

fn failure(place: &str, error: &Error) -> StoreError {
    let detail = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    if detail.contains(SAYS_FULL) {
        let place = format!("{place}: compact and defragment it, then disarm its alarm");
        return StoreError::Full { place };
    }
    StoreError::Unavailable { place: place.to_owned(), detail }
}

/// Certificates from files named by the environment, as flags of a store's URL would show in process lists.
fn tls(place: &str) -> Result<TlsOptions> {
    let read = |name: &str| -> Result<Option<Vec<u8>>> {
        let Some(path) = std::env::var_os(name) else { return Ok(None) };
        let unusable = |error| StoreError::Unusable {
            place: place.to_owned(),
            detail: format!("{name}={} cannot be read ({error})", path.to_string_lossy()),
        };
        std::fs::read(&path).map(Some).map_err(unusable)
    };
    let mut tls = TlsOptions::new();
    if let Some(ca) = read("WEFT_ETCD_CA")? {
        tls = tls.ca_certificate(Certificate::from_pem(ca));
    }
    if let (Some(certificate), Some(key)) = (read("WEFT_ETCD_CERT")?, read("WEFT_ETCD_KEY")?) {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    Ok(tls)
}
