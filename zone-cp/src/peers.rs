//! Other zones by two roads: what global passes on, and what their control planes tell us straight, through their
//! gateways. The newer one counts, so capacity and health still cross zones when global is gone.

use crate::join::{ALPN, Membership};
use crate::program::PeerBook;
use crate::source::Exports;
use crate::world::World;
use api::config::{Trust, zone_cp_server_name};
use api::kinds::Zone;
use api::report::{GatewayExport, ServiceExport, Source, item};
use api::sync_v1::Open;
use api::{SpiffeId, ZoneName};
use bytes::Bytes;
use control::documents::{below, item as read};
use identity::Expect;
use resolve::PeerZone;
use rustls::pki_types::ServerName;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sync_grpc::{Absence, Admit, Channels, Dial, Follower, Link, Peer, Refusal, Session, TlsFor};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Channel of what a zone offers.
pub const EXPORTS: &str = "exports";
/// A refused peer asks again: we may not have heard of it yet.
const ASK_AGAIN: Duration = Duration::from_secs(5);

type Items = BTreeMap<Arc<str>, Bytes>;

/// Roads to other zones. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    membership: Membership,
    roads: Mutex<BTreeMap<ZoneName, Road>>,
    heard: Notify,
    /// Copies of what zones said straight, so that a restart without global and peers begins with the newest known.
    directory: PathBuf,
    /// `None` until what is known was read once: nobody may take "not read yet" for "gone".
    book: watch::Sender<Option<Arc<PeerBook>>>,
}

struct Road {
    straight: Follower,
    addresses: watch::Sender<Vec<String>>,
    cancel: CancellationToken,
}

impl Peers {
    /// Knows nobody yet.
    pub fn new(membership: Membership, data: &Path) -> Self {
        let directory = data.join("peers");
        if let Err(error) = std::fs::create_dir_all(&directory) {
            warn!(%error, "what peers say straight is not kept on disk");
        }
        let shared = Shared {
            directory,
            membership,
            roads: Mutex::default(),
            heard: Notify::new(),
            book: watch::Sender::new(None),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What other zones offer.
    pub fn book(&self) -> watch::Receiver<Option<Arc<PeerBook>>> {
        self.shared.book.subscribe()
    }

    /// The straight road to a zone, if there is one.
    pub fn link(&self, zone: &ZoneName) -> Option<Link> {
        let roads = self.roads();
        let link = roads.get(zone)?.straight.link();
        let link = link.borrow().clone();
        Some(link)
    }

    /// Opens and closes roads as zones come and go, until cancelled.
    pub async fn run(self, mut world: watch::Receiver<Arc<World>>, cancel: CancellationToken) {
        loop {
            let now = world.borrow_and_update().clone();
            self.step(&now, &cancel);
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.shared.heard.notified() => {}
                changed = world.changed() => if changed.is_err() { return },
            }
        }
    }

    fn step(&self, world: &World, cancel: &CancellationToken) {
        let passed_on = world.passed_on();
        let own = &self.shared.membership.zone;
        let known: BTreeSet<ZoneName> =
            zones(world).chain(passed_on.keys().cloned()).filter(|zone| zone != own).collect();
        let mut book = PeerBook::new();
        {
            let mut roads = self.roads();
            roads.retain(|zone, road| {
                let stays = known.contains(zone);
                // Before anything is known, nobody is gone.
                let stays = stays || !world.is_complete();
                if !stays {
                    road.cancel.cancel();
                    let _ = std::fs::remove_file(self.shared.directory.join(zone.as_str()));
                }
                stays
            });
        }
        let nothing = Items::new();
        for zone in &known {
            let through_global = passed_on.get(zone).unwrap_or(&nothing);
            let mut peer = self.newest(zone, through_global);
            let addresses = addresses(&peer);
            if !addresses.is_empty() && self.reach(zone, addresses, cancel) {
                // A new road begins with the copy on disk, which may be the newer one.
                peer = self.newest(zone, through_global);
            }
            book.insert(zone.clone(), peer);
        }
        if !world.is_complete() {
            return;
        }
        self.shared.book.send_if_modified(|present| {
            let differs = present.as_deref() != Some(&book);
            if differs {
                *present = Some(Arc::new(book));
            }
            differs
        });
    }

    /// What the newer of both roads says.
    fn newest(&self, zone: &ZoneName, through_global: &Items) -> PeerZone {
        let straight = self.roads().get(zone).map(|road| road.straight.held());
        match &straight {
            Some(held) if revision(&held.items) >= revision(through_global) => peer(zone, &held.items),
            _ => peer(zone, through_global),
        }
    }

    /// Dials a zone through its gateways, or tells the dialler their present addresses. Says whether the road is new.
    fn reach(&self, zone: &ZoneName, addresses: Vec<String>, cancel: &CancellationToken) -> bool {
        let mut roads = self.roads();
        if let Some(road) = roads.get(zone) {
            road.addresses.send_if_modified(|present| {
                let differs = *present != addresses;
                if differs {
                    *present = addresses;
                }
                differs
            });
            return false;
        }
        let of = zone.clone();
        let straight = self.copy(zone).accepting(move |key, payload| control::claims::export(&of, key, payload));
        let (addresses, cancel) = (watch::Sender::new(addresses), cancel.child_token());
        let dial = Dial {
            addresses: addresses.subscribe(),
            tls: self.tls(zone),
            name: self.shared.membership.zone.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        let channels = Channels { publish: Vec::new(), follow: vec![(EXPORTS.into(), straight.clone())] };
        let progress = watch::Sender::new(BTreeMap::new());
        tokio::spawn(sync_grpc::dial(dial, channels, progress, cancel.clone()));
        tokio::spawn(cancel.clone().run_until_cancelled_owned(listen(self.clone(), straight.clone())));
        roads.insert(zone.clone(), Road { straight, addresses, cancel });
        true
    }

    fn copy(&self, zone: &ZoneName) -> Follower {
        let kept = Follower::durable(&self.shared.directory.join(zone.as_str()), Absence::Follow);
        kept.unwrap_or_else(|error| {
            warn!(%zone, %error, "what the zone says straight is not kept on disk");
            Follower::memory(Absence::Follow)
        })
    }

    fn tls(&self, zone: &ZoneName) -> TlsFor {
        let Membership { live, trust, .. } = &self.shared.membership;
        let config = identity::client_config(live, trust, Expect::id(SpiffeId::zone(zone)), ALPN);
        let name = ServerName::try_from(zone_cp_server_name(zone)).expect("labels make a DNS name");
        Arc::new(move |_| (config.clone(), name.clone()))
    }

    fn roads(&self) -> std::sync::MutexGuard<'_, BTreeMap<ZoneName, Road>> {
        self.shared.roads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn listen(peers: Peers, straight: Follower) {
    let mut held = straight.watch();
    while held.changed().await.is_ok() {
        held.mark_unchanged();
        peers.shared.heard.notify_one();
    }
}

/// Zones that global says exist.
fn zones(world: &World) -> impl Iterator<Item = ZoneName> + '_ {
    world.objects.specs::<Zone>().filter_map(|(key, _)| key.name.as_str().parse().ok())
}

fn revision(items: &Items) -> Option<u64> {
    read::<Source>(items, item::SOURCE).map(|source| source.revision)
}

/// What a zone says, held against its name once more: global is one road, not a judge.
fn peer(zone: &ZoneName, items: &Items) -> PeerZone {
    let sound: Items = items
        .iter()
        .filter(|(key, payload)| control::claims::export(zone, key, payload).is_ok())
        .map(|(key, payload)| (key.clone(), payload.clone()))
        .collect();
    PeerZone {
        exports: below::<ServiceExport>(&sound, item::EXPORT).map(|(_, export)| export).collect(),
        gateways: below::<GatewayExport>(&sound, item::GATEWAY).map(|(_, gateway)| gateway).collect(),
        trust: below::<Trust>(&sound, item::TRUST).map(|(_, trust)| trust).collect(),
        distance: None,
    }
}

/// Ready gateways, or all when none says it is: they may be wrong about themselves.
fn addresses(peer: &PeerZone) -> Vec<String> {
    let all = || peer.gateways.iter();
    let ready: Vec<String> = all().filter(|gateway| gateway.ready).map(|gateway| gateway.address.to_string()).collect();
    if ready.is_empty() { all().map(|gateway| gateway.address.to_string()).collect() } else { ready }
}

/// Lets other zones follow what we offer.
pub struct PeerDoor {
    /// What we offer.
    pub exports: Exports,
    /// Which zones exist.
    pub world: watch::Receiver<Arc<World>>,
}

impl Admit for PeerDoor {
    fn admit(&self, peer: &Peer, _: &Open) -> Result<Session, Refusal> {
        let refuse = |reason: String| Refusal { reason, retry_after: Some(ASK_AGAIN) };
        let Some(zone) = peer.id.as_ref().and_then(SpiffeId::as_zone) else {
            return Err(refuse("only zone control planes may connect here".into()));
        };
        let world = self.world.borrow().clone();
        if !zones(&world).any(|known| known == zone) {
            return Err(refuse(format!("zone {zone} is not known here (any more)")));
        }
        info!(%zone, addr = %peer.addr, "peer zone follows our exports");
        Ok(Session {
            channels: Channels { publish: vec![(EXPORTS.into(), self.exports.view())], follow: Vec::new() },
            progress: watch::Sender::new(BTreeMap::new()),
            cancel: CancellationToken::new(),
            guard: Box::new(()),
        })
    }
}
