//! How the zone sees itself and others: the overview, `/status` and metrics.

use crate::peers::Peers;
use crate::registry::Registry;
use crate::world::World;
use api::ZoneName;
use api::kinds::Zone;
use api::report::ZoneReport;
use control::rest::Link as LinkView;
use control::{Board, StatusView};
use insight::{Link, Observed, Observer, ZoneObserved};
use process::Metrics;
use process::clock::unix_ms;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use sync_grpc::{Follower, Progress};
use tokio::sync::watch;

/// Everything that can be looked at.
#[derive(Clone)]
pub struct Sight {
    /// Our zone.
    pub zone: ZoneName,
    /// What is known.
    pub world: watch::Receiver<Arc<World>>,
    /// Our copy of what global owns.
    pub policy: Follower,
    /// What global acknowledged.
    pub upward: watch::Receiver<BTreeMap<String, Progress>>,
    /// Other zones.
    pub peers: Peers,
    /// Proxies.
    pub registry: Registry,
    /// Our own report.
    pub report: watch::Receiver<Arc<ZoneReport>>,
}

fn link(link: &sync_grpc::Link) -> Link {
    let now = unix_ms();
    Link { connected: link.connected, heard_ms: link.age_ms(now).map(|age| now.saturating_sub(age)) }
}

impl Sight {
    /// What a fold needs.
    pub fn observe(&self) -> Observed {
        let world = self.world.borrow().clone();
        let specs: BTreeMap<ZoneName, Zone> = world
            .objects
            .specs::<Zone>()
            .filter_map(|(key, spec)| Some((key.name.as_str().parse().ok()?, spec)))
            .collect();
        let own = ZoneObserved {
            name: self.zone.clone(),
            spec: specs.get(&self.zone).cloned().unwrap_or_default(),
            joined: true,
            link: Some(link(&self.policy.link().borrow())),
            report: Some(self.report.borrow().clone()),
            exports: Vec::new(),
        };
        let book = self.peers.book().borrow().clone().unwrap_or_default();
        let others = book.iter().filter(|(zone, _)| **zone != self.zone).map(|(zone, peer)| ZoneObserved {
            name: zone.clone(),
            spec: specs.get(zone).cloned().unwrap_or_default(),
            joined: !peer.trust.is_empty(),
            link: self.peers.link(zone).map(|straight| link(&straight)),
            report: None,
            exports: peer.exports.iter().cloned().map(Arc::new).collect(),
        });
        let zones = std::iter::once(own).chain(others).collect();
        let revision = world.policy.lineage.map_or(0, |lineage| lineage.revision);
        Observed { observer: Observer::Zone(self.zone.clone()), revision, zones }
    }

    /// What `/status` answers.
    pub fn status(&self, board: &Board) -> StatusView {
        let uplink = self.policy.link().borrow().clone();
        let held = self.policy.held();
        let estranged = held.estranged.as_ref().map(|estranged| {
            format!(
                "global lost its history at revision {}; this zone keeps what it holds. Restore global from a zone's \
                 replica, or adopt its present history (POST /api/v1/adopt)",
                estranged.held.revision
            )
        });
        let age_ms = uplink.age_ms(unix_ms());
        let mut sync: BTreeMap<String, _> = self
            .upward
            .borrow()
            .iter()
            .map(|(channel, progress)| (format!("global/{channel}"), control::status::channel(progress)))
            .collect();
        for (key, proxy) in self.registry.proxies() {
            let name = format!("proxy/{}", crate::authorities::common_name(&key));
            sync.insert(name, control::status::channel(&proxy.progress));
        }
        let headline = match (&estranged, uplink.connected) {
            (Some(words), _) => words.clone(),
            (None, false) => match age_ms {
                Some(age) => format!("cut off from global for {} s; serving from our own copy", age / 1000),
                None => "not connected to global since the start; serving from our own copy".into(),
            },
            (None, true) => board.look().headline,
        };
        let link = LinkView { connected: uplink.connected, age_ms, error: uplink.error };
        StatusView { headline, role: "zone", link: Some(link), estranged, sync }
    }

    /// Registers what is counted about the zone.
    pub fn metrics(self, metrics: &Metrics) {
        metrics.with(|registry| registry.register_collector(Box::new(self)));
    }
}

impl fmt::Debug for Sight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sight({})", self.zone)
    }
}

impl Collector for Sight {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let proxies = self.registry.proxies();
        let sent = self.upward.borrow().clone();
        let all = || sent.values().chain(proxies.values().map(|proxy| &proxy.progress));
        let help = "Keys and payloads sent to global and proxies, on streams that are open";
        for (name, value) in [
            ("weft_sync_sent_bytes", all().map(|progress| progress.sent_bytes).sum::<u64>()),
            ("weft_sync_sent_items", all().map(|progress| progress.sent_items).sum()),
        ] {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let (uplink, held) = (self.policy.link().borrow().clone(), self.policy.held());
        let behind = proxies.values().filter(|proxy| proxy.is_behind()).count();
        let age = uplink.age_ms(unix_ms()).map_or(-1, |age| i64::try_from(age / 1000).unwrap_or(i64::MAX));
        for (name, help, value) in [
            ("weft_proxies_connected", "Proxies and gateways connected", proxies.len() as i64),
            ("weft_proxies_behind", "Proxies that have not acknowledged their latest configuration", behind as i64),
            ("weft_global_connected", "1 while the stream to global is open", i64::from(uplink.connected)),
            ("weft_global_age_seconds", "Since global was last heard; -1 for never", age),
            ("weft_policy_items", "Items of the copy of what global owns", held.items.len() as i64),
            ("weft_estranged", "1 while global tells another history than ours", i64::from(held.estranged.is_some())),
        ] {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}
