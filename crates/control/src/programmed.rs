//! How far a write got: answers a `?wait` and fills the status of objects from what zones report.

use crate::objects::Objects;
use api::kinds::{Mesh, Spec};
use api::object::Owner;
use api::report::PolicyReport;
use api::{Key, ZoneName};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Longest time a `?wait` may ask for: below the minute after which proxies in between usually give up.
pub const WAIT_MAX: Duration = Duration::from_secs(50);

/// What one zone has told about its work.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ZoneProgress {
    /// Revision of global's store that the zone has applied.
    pub applied: Option<u64>,
    /// Revision of its own store that the zone has applied; known in the zone only.
    pub applied_own: Option<u64>,
    /// Proxies that have not acknowledged the latest configuration.
    pub behind: u32,
    /// How far each policy got.
    pub policies: BTreeMap<Key, Arc<PolicyReport>>,
}

/// All zones that ever reported.
pub type Programmed = BTreeMap<ZoneName, ZoneProgress>;

/// Where a write stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Standing {
    /// Some proxy has not answered yet.
    Waiting,
    /// Every proxy has answered, and some refused.
    Refused,
    /// Every proxy it is for runs it.
    Programmed,
}

/// Zones that a change of `key` is for: its own, or every zone of its mesh.
fn concerned<'a>(
    programmed: &'a Programmed,
    objects: &Objects,
    key: &'a Key,
) -> impl Iterator<Item = (&'a ZoneName, &'a ZoneProgress)> {
    let mesh = key.mesh.as_ref().map(|mesh| mesh.as_str()).or((key.kind == Mesh::KIND).then(|| key.name.as_str()));
    let spec = objects.specs::<Mesh>().find(|(found, _)| Some(found.name.as_str()) == mesh).map(|(_, spec)| spec);
    let members: Vec<ZoneName> = spec.map(|spec| spec.zones).unwrap_or_default();
    programmed.iter().filter(move |(zone, _)| match &key.zone {
        Some(own) => own == *zone,
        None => members.is_empty() || members.contains(zone),
    })
}

/// Whether zones report how far documents of a kind got: everything that configures proxies, but zones themselves.
pub fn is_reported(kind: &str) -> bool {
    policy::kind(kind).is_some_and(|kind| kind.owner != Owner::Zone) && kind != "Zone"
}

/// Where revision `revision` of `key` stands.
pub fn standing(programmed: &Programmed, objects: &Objects, key: &Key, revision: u64) -> Standing {
    let is_reported = is_reported(&key.kind);
    let mut worst = Standing::Programmed;
    for (_, zone) in concerned(programmed, objects, key) {
        let standing = if is_reported {
            match zone.policies.get(key) {
                Some(report) if report.revision >= revision => of_report(report),
                _ => Standing::Waiting,
            }
        } else {
            let applied = if key.zone.is_some() { zone.applied_own } else { zone.applied };
            let done = applied.is_some_and(|applied| applied >= revision) && zone.behind == 0;
            if done { Standing::Programmed } else { Standing::Waiting }
        };
        match standing {
            Standing::Waiting => return Standing::Waiting,
            Standing::Refused => worst = Standing::Refused,
            Standing::Programmed => {}
        }
    }
    worst
}

fn of_report(report: &PolicyReport) -> Standing {
    let refused = u32::try_from(report.rejects.len()).unwrap_or(u32::MAX);
    if report.programmed >= report.total {
        Standing::Programmed
    } else if report.programmed.saturating_add(refused) >= report.total {
        Standing::Refused
    } else {
        Standing::Waiting
    }
}

/// Waits until every proxy has answered, at most `limit`. `Some`: all of them run it, after this time.
pub async fn wait(
    mut programmed: watch::Receiver<Arc<Programmed>>,
    objects: Arc<Objects>,
    key: &Key,
    revision: u64,
    since: Instant,
    limit: Duration,
) -> Option<Duration> {
    let answered = programmed.wait_for(|all| standing(all, &objects, key, revision) != Standing::Waiting);
    let all = tokio::time::timeout(limit.min(WAIT_MAX), answered).await.ok()?.ok()?.clone();
    (standing(&all, &objects, key, revision) == Standing::Programmed).then(|| since.elapsed())
}

/// The `status` of an object, as it is shown.
pub fn status(programmed: &Programmed, key: &Key) -> Value {
    let zones: serde_json::Map<String, Value> = programmed
        .iter()
        .filter_map(|(zone, progress)| {
            let report = progress.policies.get(key)?;
            let rejects: Vec<Value> =
                report.rejects.iter().map(|(proxy, reason)| json!({"proxy": proxy, "reason": reason})).collect();
            let shown = json!({
                "revision": report.revision, "programmed": report.programmed, "total": report.total,
                "rejects": rejects, "denied": report.denied,
            });
            Some((zone.to_string(), shown))
        })
        .collect();
    json!({"accepted": true, "zones": zones})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(revision: u64, programmed: u32, total: u32, rejects: usize) -> ZoneProgress {
        let rejects = vec![("web-1".to_owned(), "no".to_owned()); rejects];
        let report = PolicyReport { revision, programmed, total, rejects, denied: 0 };
        let key = "Timeout/default/-/shop/cart".parse().unwrap();
        ZoneProgress {
            applied: Some(revision),
            policies: BTreeMap::from([(key, Arc::new(report))]),
            ..ZoneProgress::default()
        }
    }

    #[test]
    fn a_write_is_programmed_when_every_zone_says_so() {
        let key: Key = "Timeout/default/-/shop/cart".parse().unwrap();
        for (east, west, expect) in [
            (zone(5, 2, 2, 0), zone(5, 1, 1, 0), Standing::Programmed),
            (zone(5, 2, 2, 0), zone(4, 1, 1, 0), Standing::Waiting),
            (zone(5, 1, 2, 0), zone(5, 1, 1, 0), Standing::Waiting),
            (zone(5, 1, 2, 1), zone(5, 1, 1, 0), Standing::Refused),
            (zone(6, 0, 0, 0), zone(5, 1, 1, 0), Standing::Programmed),
        ] {
            let all = Programmed::from([("east".parse().unwrap(), east), ("west".parse().unwrap(), west)]);
            assert_eq!(standing(&all, &Objects::default(), &key, 5), expect, "{all:?}");
        }
    }

    #[test]
    fn status_names_every_zone_that_reported() {
        let key: Key = "Timeout/default/-/shop/cart".parse().unwrap();
        let all = Programmed::from([("west".parse().unwrap(), zone(5, 1, 2, 1))]);
        let shown = status(&all, &key);
        assert_eq!(shown["zones"]["west"]["programmed"], 1);
        assert_eq!(shown["zones"]["west"]["rejects"][0]["reason"], "no");
        assert_eq!(shown["accepted"], true);
    }
}
