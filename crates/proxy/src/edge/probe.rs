//! Gateways ask each other whether they are there: numbers back and forth over one mutual-TLS connection that stays.
//!
//! Directed: each side asks for itself, so that a line cut in one direction shows as just that.

use crate::limits::{PROBE_ANSWER, PROBE_EVERY, PROBES_KEPT};
use crate::listen::handshake;
use crate::pool::transport::tune;
use crate::state::State;
use crate::tcp::copy::Prefixed;
use api::ZoneName;
use api::config::gateway_server_name;
use api::report::LinkProbe;
use identity::{Expect, client_config};
use rustls::ServerConfig;
use rustls::pki_types::ServerName;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

/// ALPN of probes.
pub const ALPN: &[u8] = b"weft-probe/1";
/// A verdict is told again at least this often (`api::report::LinkProbe`).
const TELL_EVERY: Duration = Duration::from_secs(15);
/// A round trip is told anew when it moved by this share, and by [`RTT_STEP_MIN_US`]; noise is not news.
const RTT_STEP: f64 = 0.25;
/// What moves by less decides nothing: zones nearer than 1 ms are all equally near ([`api::report::distance`]).
const RTT_STEP_MIN_US: f64 = 1_000.0;

/// Whether an identity is that of some zone's gateway.
pub fn is_gateway(id: &api::SpiffeId) -> bool {
    id.trust_domain().as_str().ends_with(".control") && id.path().starts_with("/gateway/")
}

/// The other side: gives back what it gets, eight bytes at a time.
pub async fn answer(tcp: TcpStream, hello: Vec<u8>, tls: Arc<ServerConfig>, stop: CancellationToken) -> io::Result<()> {
    let io = Prefixed::new(hello, tcp);
    let mut stream = handshake::accept(tls, io).await?;
    loop {
        let mut number = [0; 8];
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            read = timeout(PROBE_EVERY * 10, stream.read_exact(&mut number)) => { read??; }
        }
        stream.write_all(&number).await?;
        stream.flush().await?;
    }
}

/// What is known of every peer.
#[derive(Default)]
pub struct Probes(Mutex<BTreeMap<ZoneName, BTreeMap<SocketAddr, Window>>>);

/// The last probes of one address.
#[derive(Debug, Default)]
struct Window {
    round_trips: VecDeque<Option<Duration>>,
    error: String,
}

impl Window {
    fn add(&mut self, outcome: Result<Duration, String>) {
        if self.round_trips.len() == PROBES_KEPT {
            self.round_trips.pop_front();
        }
        self.error = outcome.as_ref().err().cloned().unwrap_or_default();
        self.round_trips.push_back(outcome.ok());
    }

    fn reachable(&self) -> bool {
        self.round_trips.back().is_some_and(Option::is_some)
    }
}

impl Probes {
    /// What to report of each peer: the best of its addresses.
    pub fn verdicts(&self, now_ms: u64) -> BTreeMap<ZoneName, LinkProbe> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = |(peer, windows): (&ZoneName, &BTreeMap<SocketAddr, Window>)| {
            let best = windows.values().min_by_key(|window| (!window.reachable(), lost(window)))?;
            let mut times: Vec<Duration> = best.round_trips.iter().copied().flatten().collect();
            times.sort();
            let reachable = best.reachable();
            Some((
                peer.clone(),
                LinkProbe {
                    peer: peer.clone(),
                    reachable,
                    rtt_us: times.get(times.len() / 2).filter(|_| reachable).map(|time| time.as_micros() as u64),
                    loss: lost(best) as f64 / best.round_trips.len().max(1) as f64,
                    error: if reachable { String::new() } else { best.error.clone() },
                    at_ms: now_ms,
                },
            ))
        };
        all.iter().filter_map(verdict).collect()
    }

    fn add(&self, peer: &ZoneName, address: SocketAddr, outcome: Result<Duration, String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(peer.clone()).or_default().entry(address).or_default().add(outcome);
    }

    fn keep(&self, wanted: &BTreeMap<ZoneName, Vec<SocketAddr>>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|peer, windows| {
            windows.retain(|address, _| wanted.get(peer).is_some_and(|addresses| addresses.contains(address)));
            !windows.is_empty()
        });
    }
}

fn lost(window: &Window) -> usize {
    window.round_trips.iter().filter(|probe| probe.is_none()).count()
}

/// Whether a verdict is news, given the one told last.
pub fn is_news(told: Option<&LinkProbe>, now: &LinkProbe) -> bool {
    let Some(told) = told else { return true };
    let moved = match (told.rtt_us, now.rtt_us) {
        (Some(before), Some(after)) => {
            (after as f64 - before as f64).abs() > (before as f64 * RTT_STEP).max(RTT_STEP_MIN_US)
        }
        (before, after) => before != after,
    };
    told.reachable != now.reachable
        || moved
        || (told.loss - now.loss).abs() > 0.15
        || now.at_ms.saturating_sub(told.at_ms) >= TELL_EVERY.as_millis() as u64
}

/// Probes every gateway of every peer, one task for each, as configuration names them.
pub async fn run(state: Arc<State>, probes: Arc<Probes>) {
    let mut changed = state.changed();
    let mut running: BTreeMap<(ZoneName, SocketAddr), CancellationToken> = BTreeMap::new();
    loop {
        changed.borrow_and_update();
        let wanted = state.running().gateway.as_ref().map(|gateway| gateway.peers.clone()).unwrap_or_default();
        running.retain(|(peer, address), stop| {
            let keep = wanted.get(peer).is_some_and(|addresses| addresses.contains(address));
            if !keep {
                stop.cancel();
            }
            keep
        });
        probes.keep(&wanted);
        for (peer, address) in wanted.iter().flat_map(|(peer, list)| list.iter().map(move |address| (peer, *address))) {
            running.entry((peer.clone(), address)).or_insert_with(|| {
                let stop = state.drain.child_token();
                let probing = one(state.clone(), probes.clone(), peer.clone(), address);
                tokio::spawn(stop.clone().run_until_cancelled_owned(probing));
                stop
            });
        }
        tokio::select! {
            () = state.drain.cancelled() => return,
            more = changed.changed() => if more.is_err() { return },
        }
    }
}

async fn one(state: Arc<State>, probes: Arc<Probes>, peer: ZoneName, address: SocketAddr) {
    let domain = api::TrustDomain::zone_control(&peer);
    let expect = Expect::fits(format!("a gateway of {peer}"), move |id| is_gateway(id) && *id.trust_domain() == domain);
    let config = client_config(&state.credentials, &state.trust, expect, &[ALPN]);
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut kept = None;
    loop {
        ticks.tick().await;
        let probing = async {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => {
                    let tcp = TcpStream::connect(address).await?;
                    tune(&tcp);
                    let name = ServerName::try_from(gateway_server_name(&peer)).map_err(io::Error::other)?;
                    TlsConnector::from(config.clone()).connect(name, tcp).await?
                }
            };
            let round_trip = ping(&mut stream).await?;
            Ok::<_, io::Error>((stream, round_trip))
        };
        let outcome = match timeout(PROBE_ANSWER, probing).await {
            Ok(Ok((stream, round_trip))) => {
                kept = Some(stream);
                Ok(round_trip)
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("{address} did not answer within {} ms", PROBE_ANSWER.as_millis())),
        };
        if let Err(error) = &outcome {
            tracing::debug!(%peer, %address, error, "probe lost");
        }
        probes.add(&peer, address, outcome);
        state.tell();
    }
}

async fn ping(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Duration> {
    let sent = Instant::now();
    io.write_all(&[1; 8]).await?;
    io.flush().await?;
    io.read_exact(&mut [0; 8]).await?;
    Ok(sent.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_address_speaks_for_a_zone() {
        let probes = Probes::default();
        let peer: ZoneName = "east".parse().unwrap();
        let (a, b) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([127, 0, 0, 1], 2)));
        probes.add(&peer, a, Err("refused".into()));
        assert!(!probes.verdicts(1)[&peer].reachable);
        assert_eq!(probes.verdicts(1)[&peer].error, "refused");
        for us in [300, 100, 200] {
            probes.add(&peer, b, Ok(Duration::from_micros(us)));
        }
        let verdict = &probes.verdicts(1)[&peer];
        assert_eq!((verdict.reachable, verdict.rtt_us, verdict.loss), (true, Some(200), 0.0));
        probes.keep(&BTreeMap::from([(peer.clone(), vec![a])]));
        assert!(!probes.verdicts(1)[&peer].reachable);
    }

    #[test]
    fn only_what_changed_is_news() {
        let told = LinkProbe {
            peer: "east".parse().unwrap(),
            reachable: true,
            rtt_us: Some(10_000),
            loss: 0.0,
            error: String::new(),
            at_ms: 0,
        };
        assert!(is_news(None, &told));
        let took = |us| LinkProbe { rtt_us: Some(us), at_ms: 2_000, ..told.clone() };
        assert!(!is_news(Some(&told), &took(11_000)));
        assert!(is_news(Some(&told), &took(20_000)));
        assert!(!is_news(Some(&took(200)), &took(900)), "the next rack: threefold, and still next door");
        assert!(is_news(Some(&took(200)), &took(1_300)));
        assert!(is_news(Some(&told), &LinkProbe { reachable: false, rtt_us: None, ..told.clone() }));
        assert!(is_news(Some(&told), &LinkProbe { at_ms: 15_000, ..told.clone() }));
    }
}
