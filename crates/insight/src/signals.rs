//! The observations a verdict about one zone is made of.

use crate::limits::PROBE_MAX_MS;
use crate::links::Links;
use crate::observed::{Observed, Observer, ZoneObserved};
use api::ZoneName;
use api::health::{LinkState, Signals};
use std::collections::BTreeSet;

/// What is seen of `zone`. `behind_ms`: for how long proxies have been behind.
pub(crate) fn signals(observed: &Observed, zone: &ZoneObserved, links: &Links, behind_ms: u64, now_ms: u64) -> Signals {
    let name = &zone.name;
    let own = matches!(&observed.observer, Observer::Zone(own) if own == name);
    let foreign = matches!(&observed.observer, Observer::Zone(_)) && !own;
    let open = zone.link.is_some_and(|link| link.connected);
    let mine = failing(links, name).len();
    // A peer that fails with more zones than this one is what is cut off; it is no witness against this one.
    let witness = |peer: &ZoneName| failing(links, peer).len() <= mine;
    let (mut reached_by, mut reaches, mut unreachable) = ((0, 0), (0, 0), BTreeSet::new());
    for ((from, to), link) in links {
        let (count, peer) = match () {
            () if to == name => (&mut reached_by, from),
            () if from == name => (&mut reaches, to),
            () => continue,
        };
        match link.state {
            LinkState::Unknown => {}
            LinkState::Up => *count = (count.0 + 1, count.1 + 1),
            LinkState::Down if witness(peer) => {
                count.1 += 1;
                unreachable.insert(peer.clone());
            }
            LinkState::Down => {}
        }
    }
    if own {
        // It reaches itself: a zone without global and peers knows that it serves.
        reached_by = (1, 1);
    }
    let probed = links.iter().any(|((_, to), link)| to == name && link.state != LinkState::Unknown);
    let report = zone.report.as_ref().filter(|_| observed.is_current(zone));
    let loads = zone.exports.iter().filter_map(|export| export.load);
    Signals {
        observed_ms: observed_ms(own || open, probed, zone, links, now_ms),
        // Peers do not see each other's streams with global: either road to it says that it is there.
        control_link: if foreign { open || probed } else { open },
        joined: zone.joined,
        reached_by,
        reaches,
        unreachable: unreachable.into_iter().collect(),
        rejected: report.map_or(0, |report| report.rejected),
        behind: report.map_or((0, 0), |report| (report.behind, behind_ms)),
        gateways: report.map_or((0, 0), |report| (report.gateways_ready, report.gateways_total)),
        proxies: report.map_or((0, 0), |report| (report.proxies_ready, report.proxies_total)),
        certificate_left: report.and_then(|report| report.certificate_left),
        load: loads.reduce(f64::max),
        estranged: report.and_then(|report| report.estranged.as_ref()).map(|(_, words)| words.clone()),
    }
}

/// Age of the newest thing seen of it: its stream, or a peer's fresh probe.
fn observed_ms(open: bool, probed: bool, zone: &ZoneObserved, links: &Links, now_ms: u64) -> Option<u64> {
    if open {
        return Some(0);
    }
    let heard = zone.link.and_then(|link| link.heard_ms).map(|at| now_ms.saturating_sub(at));
    let probes = links.iter().filter(|((_, to), link)| *to == zone.name && link.state != LinkState::Unknown);
    let seen = probes.filter_map(|(_, link)| link.seen_ms).map(|at| now_ms.saturating_sub(at)).min();
    // A probe is told again only every so often; while it counts at all it counts as fresh.
    let seen = seen.map(|age| if probed && age <= PROBE_MAX_MS { 0 } else { age });
    heard.into_iter().chain(seen).min()
}

/// Zones with which `zone` has a direction that is down.
fn failing(links: &Links, zone: &ZoneName) -> BTreeSet<ZoneName> {
    let down = links.iter().filter(|(_, link)| link.state == LinkState::Down);
    down.filter_map(|((from, to), _)| match () {
        () if from == zone => Some(to.clone()),
        () if to == zone => Some(from.clone()),
        () => None,
    })
    .collect()
}
