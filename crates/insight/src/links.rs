//! Every direction between two zones: probes with hysteresis, and what flows.

use crate::limits::{PROBE_MAX_MS, SPILL_MIN, STARTING_MAX_MS};
use crate::memory::{Held, LinkMemory, Memory};
use crate::observed::{Observed, Observer, ZoneObserved};
use crate::rates::Rates;
use api::ZoneName;
use api::health::{LinkState, LinkView};
use api::report::LinkProbe;
use std::collections::BTreeMap;

/// Directions by caller's and called zone.
pub(crate) type Links = BTreeMap<(ZoneName, ZoneName), LinkView>;

/// All directions between joined zones.
pub(crate) fn links(observed: &Observed, rates: &BTreeMap<ZoneName, Rates>, memory: &mut Memory, now_ms: u64) -> Links {
    let joined = || observed.zones.iter().filter(|zone| zone.joined);
    let mut links = Links::new();
    for from in joined() {
        for to in joined().filter(|to| to.name != from.name) {
            let rate = rates.get(&from.name).and_then(|rates| rates.to.get(&to.name)).copied().unwrap_or_default();
            let view = link(observed, from, to, rate, memory, now_ms);
            links.insert((from.name.clone(), to.name.clone()), view);
        }
    }
    memory.links.retain(|pair, _| links.contains_key(pair));
    links
}

fn link(
    observed: &Observed,
    from: &ZoneObserved,
    to: &ZoneObserved,
    (rps, spill_rps): (f64, f64),
    memory: &mut Memory,
    now_ms: u64,
) -> LinkView {
    let pair = (from.name.clone(), to.name.clone());
    let probe = from.report.as_ref().and_then(|report| report.probes.iter().find(|probe| probe.peer == to.name));
    let fresh = probe.filter(|probe| observed.is_current(from) && now_ms.saturating_sub(probe.at_ms) <= PROBE_MAX_MS);
    let (state, why) = match fresh {
        None => (LinkState::Unknown, silence(observed, from, probe)),
        Some(probe) => match believe(memory, &pair, probe, now_ms) {
            LinkState::Unknown => (LinkState::Unknown, format!("not reached yet: {}", failure(probe))),
            state => {
                let why = match (state, probe.reachable) {
                    (LinkState::Up, true) => String::new(),
                    (LinkState::Up, false) => format!("latest probe failed: {}", probe.error),
                    (_, true) => "answers again, not yet for long".into(),
                    (_, false) => failure(probe),
                };
                (state, why)
            }
        },
    };
    note_spill(memory, &pair, spill_rps, now_ms);
    LinkView {
        from: pair.0,
        to: pair.1,
        state,
        why,
        rtt_ms: fresh.and_then(|probe| probe.rtt_us).map(|us| us as f64 / 1_000.0),
        loss: fresh.map(|probe| probe.loss),
        rps,
        spill_rps,
        seen_ms: probe.map(|probe| probe.at_ms),
    }
}

fn silence(observed: &Observed, from: &ZoneObserved, probe: Option<&LinkProbe>) -> String {
    let name = &from.name;
    match (&observed.observer, &from.report) {
        (Observer::Zone(own), _) if own != name => format!("only {name} and global see this direction"),
        (_, None) => format!("{name} has not reported yet"),
        _ if !observed.is_current(from) => format!("{name} reports nothing since its control link is silent"),
        _ if probe.is_none() => "not probed yet".into(),
        _ => "no fresh probe".into(),
    }
}

fn failure(probe: &LinkProbe) -> String {
    if probe.error.is_empty() { "no probe answers".into() } else { probe.error.clone() }
}

/// A direction that was never up may still be starting: for [`STARTING_MAX_MS`] that is no verdict, and its first good
/// probe is believed at once.
fn believe(memory: &mut Memory, pair: &(ZoneName, ZoneName), probe: &LinkProbe, now_ms: u64) -> LinkState {
    let up = probe.reachable;
    // Whoever folds seldom may have missed that it was up; the share of lost probes tells.
    let reached = up || probe.loss < 1.0;
    let held = memory.links.entry(pair.clone()).or_insert_with(|| LinkMemory {
        up: Held::new(reached, now_ms),
        reached,
        first_ms: now_ms,
        spills: Held::new(false, now_ms),
    });
    if !held.reached {
        if !up && now_ms.saturating_sub(held.first_ms) < STARTING_MAX_MS {
            return LinkState::Unknown;
        }
        held.reached = up;
        held.up.set(up, now_ms);
    }
    let changed = held.up.see(up, !up, now_ms);
    let up = held.up.value;
    if changed {
        let (from, to) = pair;
        let text = if up { format!("{from} reaches {to} again") } else { format!("{from} no longer reaches {to}") };
        memory.record(now_ms, Some(from), None, text);
    }
    if up { LinkState::Up } else { LinkState::Down }
}

fn note_spill(memory: &mut Memory, pair: &(ZoneName, ZoneName), spill_rps: f64, now_ms: u64) {
    let spills = spill_rps >= SPILL_MIN;
    let Some(held) = memory.links.get_mut(pair) else { return };
    if held.spills.see(spills, spills, now_ms) {
        let (from, to) = pair;
        let verb = if spills { "spills over" } else { "no longer spills over" };
        memory.record(now_ms, Some(from), None, format!("{from} {verb} to {to}"));
    }
}
