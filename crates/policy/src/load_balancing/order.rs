//! The order in which other zones take over, for callers of one zone.

use super::{Failover, FailoverTo};
use crate::kind::{Around, ZoneAround};
use api::ZoneName;
use api::config::FailoverTier;

/// Zones that may take over from the caller's, first choice first. Zones that do not belong to the mesh are left out.
pub(super) fn tiers(rules: &[Failover], strict: Option<&[ZoneName]>, around: &Around) -> Vec<FailoverTier> {
    let applies = |rule: &&Failover| rule.from.as_ref().is_none_or(|from| from.contains(&around.zone));
    let nearest = by_nearness(around);
    let mut zones = match rules.iter().find(applies).map(|rule| &rule.to) {
        None | Some(FailoverTo::Any) => nearest,
        Some(FailoverTo::None) => Vec::new(),
        Some(FailoverTo::Except(not)) => nearest.into_iter().filter(|zone| !not.contains(zone)).collect(),
        Some(FailoverTo::Only(only)) => {
            let known = |zone: &&ZoneName| nearest.contains(zone);
            only.iter().filter(known).cloned().collect()
        }
    };
    if let Some(strict) = strict {
        zones.retain(|zone| strict.contains(zone));
    }
    zones.into_iter().map(|zone| FailoverTier { zones: vec![zone] }).collect()
}

/// Same region first, then the nearer one by [`api::report::distance`], then the name. A zone without a measured round
/// trip comes after those that have one.
fn by_nearness(around: &Around) -> Vec<ZoneName> {
    let own = around.zones.iter().find(|zone| zone.zone == around.zone).and_then(|zone| zone.region.as_ref());
    let mut others: Vec<&ZoneAround> = around.zones.iter().filter(|zone| zone.zone != around.zone).collect();
    others.sort_by_key(|other| {
        let elsewhere = own.is_none() || other.region.as_ref() != own;
        (elsewhere, other.distance.unwrap_or(u32::MAX), &other.zone)
    });
    others.into_iter().map(|zone| zone.zone.clone()).collect()
}
