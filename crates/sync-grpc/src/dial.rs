//! The end that dials: one connection to any of the addresses, again and again, until cancelled.

use crate::chance;
use crate::io::{Connection, Heard};
use crate::limits::*;
use crate::requests::Requests;
use crate::session::{self, Board, Channels, End, Line, SessionError};
use api::sync_v1::sync_client::SyncClient;
use http::Uri;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// The TLS settings for an address, asked anew for every connection.
pub type TlsFor = Arc<dyn Fn(&str) -> (Arc<ClientConfig>, ServerName<'static>) + Send + Sync>;

/// Whom to dial, and as whom.
#[derive(Clone)]
pub struct Dial {
    /// `host:port` each; tried in turn, from a random one on. A change is tried at once while not connected.
    pub addresses: watch::Receiver<Vec<String>>,
    /// The TLS settings for an address.
    pub tls: TlsFor,
    /// Who we are, for the other side's log; identity is in the certificate.
    pub name: String,
    /// The version of this program, for status.
    pub version: String,
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error("{address} did not answer; is a firewall in the way?")]
    Silent { address: String },
    #[error("no connection to {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error("no TLS with {address}: {source}")]
    Tls { address: String, source: io::Error },
    #[error("{address} took the connection and then said nothing; is the process frozen?")]
    Frozen { address: String },
    #[error("no HTTP/2 with {address}: {source}")]
    Http { address: String, source: hyper::Error },
}

/// Keeps the channels in step with whoever answers at `addresses`, until cancelled. The followers' [`Link`](crate::Link)
/// says how it goes; `progress` what the other side acknowledged, by channel.
pub async fn dial(dial: Dial, channels: Channels, progress: Board, cancel: CancellationToken) {
    let mut addresses = dial.addresses.clone();
    let mut turn = chance::bits() as usize;
    let mut failures = 0;
    while !cancel.is_cancelled() {
        let known = addresses.borrow_and_update().clone();
        let started = Instant::now();
        let delay = if known.is_empty() {
            missed(&channels, "no address is known yet");
            Duration::MAX
        } else {
            turn = turn.wrapping_add(1);
            let address = &known[turn % known.len()];
            let end = tokio::select! {
                () = cancel.cancelled() => return,
                connected = connect(&dial.tls, address, known.len() > 1) => match connected {
                    Ok((requests, heard)) => Ok(stream(&dial, requests, heard, &channels, &progress, &cancel).await),
                    Err(error) => Err(error),
                },
            };
            after(end, address, &channels, started, &mut failures)
        };
        tokio::select! {
            () = cancel.cancelled() => {}
            () = sleep(delay) => {}
            () = changed(&mut addresses) => {}
        }
    }
}

/// One connection, from its opening message to its end.
async fn stream(
    dial: &Dial,
    requests: Requests,
    heard: Heard,
    channels: &Channels,
    progress: &Board,
    cancel: &CancellationToken,
) -> End {
    // The name is never resolved: the connection is there already.
    let mut client = SyncClient::with_origin(requests, Uri::from_static("http://weft"))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (outbound, frames) = mpsc::channel(FRAMES_IN_FLIGHT);
    outbound.try_send(session::open(&dial.name, &dial.version, channels)).expect("a new channel has a place");
    let opening = async {
        let response = client.replicate(ReceiverStream::new(frames)).await;
        let mut inbound = response.map_err(|status| End::Failed(status.into()))?.into_inner();
        let open = session::opened(&mut inbound).await?;
        Ok((inbound, open))
    };
    let opened = tokio::select! {
        () = cancel.cancelled() => return End::Cancelled,
        opened = timeout(2 * OPEN_TIMEOUT, opening) => opened.unwrap_or(Err(End::Failed(SessionError::NotOpened))),
    };
    let (inbound, open) = match opened {
        Ok(opened) => opened,
        Err(end) => return end,
    };
    tracing::debug!(name = open.name, version = open.version, "session opened");
    let (cancel, closing) = (cancel.clone(), CancellationToken::new());
    let line = Line { inbound, outbound, heard, cancel, closing, permit: None };
    session::drive(line, channels.clone(), &open, progress).await
}

/// Tells the followers what happened, and decides how long to wait.
fn after(
    end: Result<End, DialError>,
    address: &str,
    channels: &Channels,
    started: Instant,
    failures: &mut u32,
) -> Duration {
    let lasted = started.elapsed();
    let reason = match &end {
        Ok(end) => format!("{address}: {end}"),
        Err(error) => error.to_string(),
    };
    tracing::debug!(address, reason, lasted_ms = lasted.as_millis() as u64, "not connected");
    missed(channels, &reason);
    *failures = if lasted >= STEADY_AFTER && end.is_ok() { 0 } else { failures.saturating_add(1) };
    let step = BACKOFF_MIN.saturating_mul(2u32.saturating_pow(*failures)).min(BACKOFF_MAX);
    match end {
        // Asked to come back then: not before, and not all at once.
        Ok(End::Bye { retry_after: Some(after), .. }) => {
            let after = after.min(RETRY_AFTER_MAX);
            after + chance::up_to(after.max(BACKOFF_MIN))
        }
        // Asked not to come back without a change, which may also be one over there.
        Ok(End::Bye { retry_after: None, .. }) => RETRY_AFTER_MAX / 2 + chance::up_to(RETRY_AFTER_MAX / 2),
        Ok(_) => chance::up_to(step),
        // Time spent in the attempt was waiting, too.
        Err(_) => chance::up_to(step).saturating_sub(lasted),
    }
}

fn missed(channels: &Channels, error: &str) {
    for (_, follower) in &channels.follow {
        follower.missed(error);
    }
}

async fn changed(addresses: &mut watch::Receiver<Vec<String>>) {
    if addresses.changed().await.is_err() {
        // Nobody will change them any more.
        std::future::pending::<()>().await;
    }
}

async fn connect(tls: &TlsFor, address: &str, others: bool) -> Result<(Requests, Heard), DialError> {
    let (config, server) = tls(address);
    let address = address.to_owned();
    let tcp = match timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(source)) => return Err(DialError::Connect { address, source }),
        Err(_) => return Err(DialError::Silent { address }),
    };
    if let Err(source) = tcp.set_nodelay(true) {
        return Err(DialError::Connect { address, source });
    }
    let patience = if others { HANDSHAKE_TIMEOUT_WITH_CHOICE } else { HANDSHAKE_TIMEOUT };
    let connection = match timeout(patience, TlsConnector::from(config).connect(server, tcp)).await {
        Ok(Ok(stream)) => Connection::dialled(stream),
        Ok(Err(source)) => return Err(DialError::Tls { address, source }),
        Err(_) => return Err(DialError::Frozen { address }),
    };
    let heard = connection.heard();
    match Requests::begin(connection).await {
        Ok(requests) => Ok((requests, heard)),
        Err(source) => Err(DialError::Http { address, source }),
    }
}
