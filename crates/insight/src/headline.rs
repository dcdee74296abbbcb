//! One sentence with the worst fact, and the order of zones: worst first.

use crate::limits::SPILL_MIN;
use crate::rates::words;
use api::health::{LinkView, Status, ZoneView};
use api::kinds::ZoneState;

/// Larger is worse. A zone that never joined waits; one that fell silent is a problem.
pub(crate) fn severity(zone: &ZoneView) -> u8 {
    match zone.status {
        Status::Offline => 5,
        Status::Partitioned => 4,
        Status::Unknown if zone.seen_ms.is_some() => 3,
        Status::Degraded => 2,
        Status::Unknown => 1,
        Status::Healthy => 0,
    }
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Healthy => "healthy",
        Status::Degraded => "degraded",
        Status::Partitioned => "partitioned",
        Status::Offline => "offline",
        Status::Unknown => "unknown",
    }
}

pub(crate) fn state(state: ZoneState) -> &'static str {
    match state {
        ZoneState::Active => "active",
        ZoneState::Draining => "draining",
        ZoneState::Disabled => "disabled",
    }
}

/// `zones` are sorted worst first.
pub(crate) fn headline(zones: &[ZoneView], links: &[LinkView]) -> String {
    let bad: Vec<&ZoneView> = zones.iter().filter(|zone| severity(zone) > 1).collect();
    let waiting = zones.iter().filter(|zone| severity(zone) == 1).count();
    let healthy = zones.len() - bad.len() - waiting;
    let mut text = match (bad.as_slice(), healthy) {
        ([], 0) if waiting == 0 => "There is no zone yet.".into(),
        ([], 0) => "No zone has joined yet.".into(),
        ([], 1) => {
            let well = zones.iter().find(|zone| severity(zone) == 0);
            format!("{} is healthy.", well.map_or("it", |zone| zone.name.as_str()))
        }
        ([], count) => format!("All {count} zones are healthy."),
        ([one], _) => format!("{} is {}: {}.", one.name, status(one.status), one.why),
        ([one, two], _) => {
            format!("{} is {}, {} is {}.", one.name, status(one.status), two.name, status(two.status))
        }
        ([one, two, rest @ ..], _) => {
            let (a, b) = (status(one.status), status(two.status));
            let more = if rest.len() == 1 { "1 more zone is".into() } else { format!("{} more zones are", rest.len()) };
            format!("{} is {a}, {} is {b}, {more} not well.", one.name, two.name)
        }
    };
    if waiting > 0 && waiting < zones.len() {
        let who = if waiting == 1 { "1 zone has".into() } else { format!("{waiting} zones have") };
        text.push_str(&format!(" {who} not joined yet."));
    }
    let leaving = zones.iter().filter(|zone| zone.state != ZoneState::Active);
    for zone in leaving.take(2) {
        text.push_str(&format!(" {} is {}.", zone.name, state(zone.state)));
    }
    let spilled: f64 = links.iter().map(|link| link.spill_rps).sum();
    if spilled >= SPILL_MIN {
        text.push_str(&format!(" {} served by another zone than usual.", words(spilled)));
    }
    text
}
