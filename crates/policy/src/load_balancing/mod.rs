//! LoadBalancing: how places and endpoints are chosen.

mod order;

use crate::kind::{Around, Grain, Outbound, Settings};
use api::config::{self, Algorithm, SpillMode};
use api::{Share, Span, ZoneName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Chooses between zones, and between endpoints within one.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// How an endpoint is chosen. PeakEwma unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// A place spills to the next below this share of its capacity. 70% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Share>,
    /// How much moves when a place spills. Proportional unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<SpillMode>,
    /// A place also spills above this utilisation. 90% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill_at: Option<Share>,
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

/// When failing endpoints are taken out, and for how long.
#[derive(Clone, Debug, Default, Eq, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Ejection {
    /// Failed answers in a row. 5 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive: Option<u32>,
    /// First time out; grows with each one. 30s unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Span>,
    /// Longest time out. 5m unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Span>,
    /// Share of a service's endpoints that may be out at once. 50% unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_max: Option<Share>,
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
        if let Some(ejection) = &self.ejection {
            if ejection.consecutive == Some(0) {
                wrong.push(("ejection.consecutive".into(), "must be at least 1; shareMax: 0% turns ejection off".into()));
            }
            if let (Some(base), Some(max)) = (ejection.base, ejection.max)
                && base > max
            {
                wrong.push(("ejection.base".into(), format!("the first time out, {base}, is longer than the longest, {max}")));
            }
        }
        wrong
    }

    fn lower(&self, into: &mut Settings, around: &Around) {
        let Self { algorithm, threshold, mode, spill_at, failover, strict, slow_start, ejection } = self;
        let without = std::mem::take(&mut into.balancing);
        let millis = |span: Span| u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX);
        let Ejection { consecutive, base, max, share_max } = ejection.clone().unwrap_or_default();
        let base_ms = base.map_or(without.ejection.base_ms, millis);
        into.balancing = config::Balancing {
            algorithm: algorithm.unwrap_or(without.algorithm),
            threshold: threshold.unwrap_or(without.threshold),
            mode: mode.unwrap_or(without.mode),
            spill_at: spill_at.unwrap_or(without.spill_at),
            failover: order::tiers(failover.as_deref().unwrap_or_default(), strict.as_deref(), around),
            ejection: config::Ejection {
                consecutive: consecutive.unwrap_or(without.ejection.consecutive),
                base_ms,
                max_ms: max.map_or(without.ejection.max_ms, millis).max(base_ms),
                share_max: share_max.unwrap_or(without.ejection.share_max),
            },
            slow_start_ms: slow_start.map_or(without.slow_start_ms, millis),
        };
    }
}
