//! LoadBalancing: how places and endpoints are chosen.

mod ejection;
mod hash_on;
mod order;

pub use ejection::{Ejection, FailureShare, SuccessRate};
pub use hash_on::{Cookie, HashOn};

use crate::kind::{Around, Grain, Outbound, Settings};
use api::config::{self, Algorithm, SpillMode};
use api::{Share, Span, ZoneName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Least and greatest bound of a hash ring (Envoy's `minimum_ring_size` and `maximum_ring_size`).
const RING_POINTS: std::ops::RangeInclusive<u32> = 1_024..=8_388_608;

/// Chooses between zones, and between endpoints within one.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// How an endpoint is chosen. PeakEwma unless set; with `hashOn` Maglev.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// Requests that have the same go to the same endpoint: `{header: NAME}`, `{query: NAME}`,
    /// `{cookie: {name, ttl, path}}` or `source`. The first entry a request has decides; one that has none goes
    /// anywhere. Replaces, never extends, a less specific list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash_on: Option<Vec<HashOn>>,
    /// Most points of the ring of RingHash, 1024 to 8388608. 65536 unless set: 160 for each of 409 endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring_points: Option<u32>,
    /// With `hashOn`: requests one proxy may have in flight to an endpoint, in percent of its fair share; what is above
    /// goes to the next. 120 to 200 are usual. No bound unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_max: Option<u32>,
    /// How many endpoints one proxy calls of those that are equally near; every proxy has others. For services with
    /// hundreds of endpoints. All unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<u32>,
    /// A place spills to the next below this share of its capacity. 70% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Share>,
    /// How much moves when a place spills. Proportional unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SpillMode>,
    /// A place also spills above this utilisation. 90% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill_at: Option<Share>,
    /// Below this share of all capacity in all zones, everything is tried, whatever is said of it. 0% unless set: only
    /// when nothing is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic: Option<Share>,
    /// Where calls go when the caller's zone cannot take them. The first rule for the caller's zone holds and the rest
    /// are not looked at; without one, to any zone. Replaces, never extends, a less specific list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failover: Option<Vec<Failover>>,
    /// Calls never go over to a zone that is not in this list, whatever `failover` says: data residency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<Vec<ZoneName>>,
    /// Time over which a returning endpoint or zone gets its full share. 10s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
    /// When failing endpoints are taken out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ejection: Option<Ejection>,
}

/// One rule of the failover list.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failover {
    /// Zones of callers this rule is for. Omitted: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<ZoneName>>,
    /// Where their calls may go over to.
    pub to: FailoverTo,
}

/// Zones that may take over. Unless they are listed, in this order: those of the caller's region, those with the
/// shorter round trip, by name.
#[derive(Clone, Debug, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailoverTo {
    /// Every zone of the mesh.
    Any,
    /// None: calls stay in the caller's zone.
    None,
    /// These, in this order.
    Only(Vec<ZoneName>),
    /// Every zone but these.
    Except(Vec<ZoneName>),
}

impl Outbound for LoadBalancing {
    const KIND: &'static str = "LoadBalancing";
    const PLURAL: &'static str = "loadbalancings";
    const EXAMPLE: &'static str = include_str!("example.yaml");
    const GRAIN: Grain = Grain::Service;

    fn check(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        if self.spill_at == Some(Share::NONE) {
            wrong.push(("spillAt".into(), "0% would send everything away; leave it out, or use `failover`".into()));
        }
        if self.strict.as_ref().is_some_and(Vec::is_empty) {
            wrong.push(("strict".into(), "needs at least one zone; to stay in the caller's zone use failover to: none".into()));
        }
        for (i, rule) in self.failover.iter().flatten().enumerate() {
            if rule.from.as_ref().is_some_and(Vec::is_empty) {
                wrong.push((format!("failover[{i}].from"), "needs at least one zone; leave it out to mean all".into()));
            }
            let (word, zones) = match &rule.to {
                FailoverTo::Any | FailoverTo::None => continue,
                FailoverTo::Only(zones) => ("only", zones),
                FailoverTo::Except(zones) => ("except", zones),
            };
            if zones.is_empty() {
                wrong.push((format!("failover[{i}].to.{word}"), "needs at least one zone; or write none or any".into()));
            }
            for (j, zone) in zones.iter().enumerate() {
                if zones[..j].contains(zone) {
                    wrong.push((format!("failover[{i}].to.{word}[{j}]"), format!("zone {zone} is listed twice")));
                }
            }
        }
        hash_on::check(self.hash_on.as_deref(), self.algorithm, &mut wrong);
        if self.ring_points.is_some_and(|points| !RING_POINTS.contains(&points)) {
            wrong.push(("ringPoints".into(), format!("must be between {} and {}", RING_POINTS.start(), RING_POINTS.end())));
        }
        if self.load_max.is_some_and(|percent| percent <= 100) {
            wrong.push(("loadMax".into(), "must be above 100; at the fair share itself nobody could have one more".into()));
        }
        if self.subset == Some(0) {
            wrong.push(("subset".into(), "must be at least 1; leave it out to call all".into()));
        }
        if self.subset.is_some() && self.hash_on.is_some() {
            let what = "subset gives every proxy other endpoints, hashOn the same ones; leave one of them out";
            wrong.push(("subset".into(), what.into()));
        }
        if let Some(ejection) = &self.ejection {
            ejection.check(&mut wrong);
        }
        wrong
    }

    fn lower(&self, into: &mut Settings, around: &Around) {
        let Self {
            algorithm,
            hash_on,
            ring_points,
            load_max,
            subset,
            threshold,
            mode,
            spill_at,
            panic,
            failover,
            strict,
            slow_start,
            ejection,
        } = self;
        let without = std::mem::take(&mut into.balancing);
        let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        let hashed = hash_on.as_ref().map(|_| Algorithm::Maglev);
        let algorithm = algorithm.or(hashed).unwrap_or(without.algorithm);
        // Two documents may each be right and disagree here: the algorithm holds.
        let hash_on = hash_on.iter().flatten().filter(|_| algorithm.hashes()).map(HashOn::lower).collect();
        into.balancing = config::Balancing {
            algorithm,
            hash_on,
            ring_points: ring_points.unwrap_or(without.ring_points),
            bound_percent: load_max.or(without.bound_percent),
            subset: subset.or(without.subset),
            threshold: threshold.unwrap_or(without.threshold),
            mode: mode.unwrap_or(without.mode),
            spill_at: spill_at.unwrap_or(without.spill_at),
            panic: panic.unwrap_or(without.panic),
            failover: order::tiers(failover.as_deref().unwrap_or_default(), strict.as_deref(), around),
            ejection: ejection.clone().unwrap_or_default().lower(without.ejection),
            slow_start_ms: slow_start.map_or(without.slow_start_ms, millis),
        };
    }
}
