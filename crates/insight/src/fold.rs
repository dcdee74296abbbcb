//! From observations to the Zones page.

use crate::headline::{headline, severity, state, status};
use crate::limits::SEEN_STEP_MS;
use crate::links::{Links, links};
use crate::memory::{Held, Memory, ZoneMemory};
use crate::observed::{Observed, Observer, ZoneObserved};
use crate::rates::Rates;
use crate::signals::signals;
use crate::verdict::verdict;
use api::ZoneName;
use api::health::{Overview, Signals, Status, Verdict, ZoneView};
use std::collections::BTreeMap;

/// Computes the page and what to remember for the next fold. `now_ms` is Unix milliseconds.
pub fn fold(observed: &Observed, mut memory: Memory, now_ms: u64) -> (Overview, Memory) {
    memory.zones.retain(|name, _| observed.zones.iter().any(|zone| zone.name == *name));
    let rates: BTreeMap<ZoneName, Rates> =
        observed.zones.iter().map(|zone| (zone.name.clone(), count(zone, &mut memory, now_ms))).collect();
    let links = links(observed, &rates, &mut memory, now_ms);
    let mut zones: Vec<ZoneView> = observed
        .zones
        .iter()
        .map(|zone| judge(observed, zone, &links, &rates[&zone.name], &mut memory, now_ms))
        .collect();
    zones.sort_by(|a, b| severity(b).cmp(&severity(a)).then_with(|| a.name.cmp(&b.name)));
    let links: Vec<_> = links.into_values().collect();
    let page = Overview {
        headline: headline(&zones, &links),
        observer: match &observed.observer {
            Observer::Global => "global".into(),
            Observer::Zone(name) => name.to_string(),
        },
        revision: observed.revision,
        at_ms: now_ms,
        zones,
        links,
        events: memory.events.iter().cloned().collect(),
    };
    (page, memory)
}

/// Counts what the zone's workloads asked for.
fn count(zone: &ZoneObserved, memory: &mut Memory, now_ms: u64) -> Rates {
    let remembered = memory.zones.entry(zone.name.clone()).or_insert_with(|| ZoneMemory {
        shown: Held::new(Status::Unknown, now_ms),
        autonomous: false,
        why: String::new(),
        behind_since_ms: None,
        state: zone.spec.state,
        counters: Default::default(),
    });
    if let Some(report) = &zone.report {
        remembered.counters.sample(&report.flows, now_ms);
        let since = remembered.behind_since_ms.unwrap_or(now_ms);
        remembered.behind_since_ms = (report.behind > 0).then_some(since);
    }
    remembered.counters.rates()
}

fn judge(
    observed: &Observed,
    zone: &ZoneObserved,
    links: &Links,
    rates: &Rates,
    memory: &mut Memory,
    now_ms: u64,
) -> ZoneView {
    let behind_ms = memory.zones[&zone.name].behind_since_ms.map_or(0, |since| now_ms.saturating_sub(since));
    let signals = signals(observed, zone, links, behind_ms, now_ms);
    let judged = in_own_words(observed, zone, &signals, verdict(&signals));
    show(zone, judged, memory, now_ms);
    let remembered = &memory.zones[&zone.name];
    let report = zone.report.as_deref().cloned().unwrap_or_default();
    let (ready, total) = zone
        .exports
        .iter()
        .fold((0, 0), |(ready, total), export| (ready + u64::from(export.ready), total + u64::from(export.total)));
    let asked = rates.all > 0.0;
    ZoneView {
        name: zone.name.clone(),
        region: zone.spec.region.clone(),
        state: zone.spec.state,
        status: remembered.shown.value,
        why: remembered.why.clone(),
        autonomous: remembered.autonomous,
        since_ms: remembered.shown.since_ms,
        seen_ms: seen_ms(observed, zone, &signals, now_ms),
        revision: report.applied.map(|(_, revision)| revision),
        behind: report.behind,
        rejected: report.rejected,
        proxies_ready: report.proxies_ready,
        proxies_total: report.proxies_total,
        gateways_ready: report.gateways_ready,
        gateways_total: report.gateways_total,
        rps: rates.all,
        local: asked.then(|| rates.to.get(&zone.name).map_or(0.0, |(all, _)| all / rates.all)),
        failed: asked.then(|| rates.failed / rates.all),
        capacity: (total > 0).then(|| ready as f64 / total as f64),
        version: report.version,
    }
}

/// A zone sees less than global: of itself not who reaches it, of a peer only whether it reaches that peer.
fn in_own_words(observed: &Observed, zone: &ZoneObserved, signals: &Signals, judged: Verdict) -> Verdict {
    let Observer::Zone(own) = &observed.observer else { return judged };
    let (out, targets) = signals.reaches;
    match judged.status {
        Status::Partitioned if *own == zone.name => {
            let global = if signals.control_link { "" } else { ", and is cut off from the global control plane" };
            Verdict {
                why: format!("it reaches {out}/{targets} peers{global}"),
                autonomous: !signals.control_link,
                ..judged
            }
        }
        // Only one witness, and that is too few to call anybody offline.
        Status::Partitioned | Status::Offline => {
            Verdict { status: Status::Partitioned, why: format!("{own} cannot reach its gateways"), autonomous: false }
        }
        Status::Healthy if *own != zone.name => {
            let why = if signals.reached_by.1 > 0 {
                format!("{own} reaches its gateways")
            } else {
                "its control plane answers".into()
            };
            Verdict { why, ..judged }
        }
        _ => judged,
    }
}

/// Hysteresis between what is judged and what is shown, for complaints only: probes had theirs already, and a stream
/// that opens or closes is a fact and needs none.
fn show(zone: &ZoneObserved, judged: Verdict, memory: &mut Memory, now_ms: u64) {
    let Some(remembered) = memory.zones.get_mut(&zone.name) else { return };
    let Verdict { status: seen, why, autonomous } = judged;
    let before = remembered.shown.value;
    let certain = remembered.autonomous != autonomous || before.max(seen) > Status::Degraded;
    let changed = match certain {
        true => remembered.shown.set(seen, now_ms),
        false => remembered.shown.see(seen, seen > before, now_ms),
    };
    if remembered.shown.value == seen {
        (remembered.why, remembered.autonomous) = (why, autonomous);
    }
    let (state_before, words) = (remembered.state, remembered.why.clone());
    remembered.state = zone.spec.state;
    if changed {
        let text = format!("{} is {}: {words}", zone.name, status(seen));
        memory.record(now_ms, Some(&zone.name), Some(seen), text);
    }
    if state_before != zone.spec.state {
        memory.record(now_ms, Some(&zone.name), None, format!("{} is set to {}", zone.name, state(zone.spec.state)));
    }
}

fn seen_ms(observed: &Observed, zone: &ZoneObserved, signals: &Signals, now_ms: u64) -> Option<u64> {
    if observed.is_current(zone) {
        return Some(now_ms - now_ms % SEEN_STEP_MS);
    }
    zone.link.and_then(|link| link.heard_ms).or_else(|| Some(now_ms.saturating_sub(signals.observed_ms?)))
}
