//! The decision table of zone health. The first row that holds wins.

use crate::limits::{BEHIND_MAX_MS, CERTIFICATE_MIN, LOAD_MAX, OBSERVED_MAX_MS, PEERS_FOR_MAJORITY, PROXIES_MIN};
use api::ZoneName;
use api::health::{Signals, Status, Verdict};

/// Judges one zone by what is seen of it now; the observer adds hysteresis.
pub fn verdict(signals: &Signals) -> Verdict {
    let Signals { observed_ms, control_link, joined, reached_by: (reached, peers), reaches, unreachable, .. } = signals;
    let (out, targets) = *reaches;
    let (reached, peers) = (*reached, *peers);
    let judged = |status, why: String| Verdict { status, why, autonomous: false };
    match observed_ms {
        Some(age) if *age > OBSERVED_MAX_MS => {
            return judged(Status::Unknown, format!("no fresh observation for {} s", age / 1_000));
        }
        None if !joined => {
            return judged(Status::Unknown, "has not joined yet; start its control plane with its token".into());
        }
        _ if !control_link && peers == 0 => {
            return judged(Status::Unknown, "no peer and no control plane has reported yet".into());
        }
        _ => {}
    }
    let pair = pair(peers.max(targets), unreachable);
    if peers > 0 && reached == 0 {
        return match control_link {
            false => judged(
                Status::Offline,
                format!("control link silent and 0 of {peers} peers can reach its gateways{pair}"),
            ),
            true => judged(
                Status::Partitioned,
                format!("control link is up but 0 of {peers} peers can reach its gateways{pair}"),
            ),
        };
    }
    if reached < peers || out < targets {
        let words = match peers {
            0 => format!("it reaches {out}/{targets} peers{pair}"),
            _ if targets == 0 => format!("{reached}/{peers} peers reach it{pair}"),
            _ => format!("{reached}/{peers} peers reach it, it reaches {out}/{targets}{pair}"),
        };
        return judged(Status::Partitioned, words);
    }
    if !control_link {
        let why = "serving traffic, but cut off from the global control plane".into();
        return Verdict { status: Status::Degraded, why, autonomous: true };
    }
    match first_complaint(signals) {
        Some(why) => judged(Status::Degraded, why),
        None if peers == 0 && targets == 0 => judged(Status::Healthy, "in sync; peers are not applicable".into()),
        None => judged(Status::Healthy, "in sync, reachable from every peer".into()),
    }
}

/// What is not as it should be in a zone that everybody reaches.
fn first_complaint(signals: &Signals) -> Option<String> {
    let Signals { estranged, rejected, behind, gateways, proxies, certificate_left, load, .. } = signals;
    if let Some(estranged) = estranged {
        return Some(estranged.clone());
    }
    if *rejected > 0 {
        return Some(format!("{rejected} {} rejected", if *rejected == 1 { "item" } else { "items" }));
    }
    let (late, for_ms) = *behind;
    if late > 0 && for_ms >= BEHIND_MAX_MS {
        let who = if late == 1 { "proxy is" } else { "proxies are" };
        return Some(format!("{late} {who} behind for more than {} s", BEHIND_MAX_MS / 1_000));
    }
    if gateways.0 < gateways.1 {
        return Some(format!("{} of {} gateways ready", gateways.0, gateways.1));
    }
    if f64::from(proxies.0) < f64::from(proxies.1) * PROXIES_MIN {
        return Some(format!("{} of {} proxies ready", proxies.0, proxies.1));
    }
    if let Some(left) = certificate_left.filter(|left| *left < CERTIFICATE_MIN) {
        return Some(format!("a certificate has {} % of its life left", percent(left)));
    }
    let load = load.filter(|load| *load > LOAD_MAX)?;
    Some(format!("load {} %", percent(load)))
}

/// With few peers nobody can tell which side is cut off, so both are named.
fn pair(peers: u32, unreachable: &[ZoneName]) -> String {
    if peers >= PEERS_FOR_MAJORITY || unreachable.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = unreachable.iter().map(ZoneName::as_str).collect();
    format!(" (between it and {})", names.join(", "))
}

fn percent(share: f64) -> u64 {
    (share.max(0.0) * 100.0).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A zone as it should be, five peers around it.
    fn well() -> Signals {
        Signals {
            observed_ms: Some(0),
            control_link: true,
            joined: true,
            reached_by: (5, 5),
            reaches: (5, 5),
            gateways: (2, 2),
            proxies: (100, 100),
            certificate_left: Some(0.8),
            load: Some(0.5),
            ..Signals::default()
        }
    }

    fn check(change: impl FnOnce(&mut Signals), status: Status, why: &str, autonomous: bool) {
        let mut signals = well();
        change(&mut signals);
        assert_eq!(verdict(&signals), Verdict { status, why: why.into(), autonomous }, "{signals:?}");
    }

    #[test]
    fn every_row_of_the_table_says_its_words() {
        use Status::{Degraded, Healthy, Offline, Partitioned, Unknown};
        check(|s| s.observed_ms = Some(41_000), Unknown, "no fresh observation for 41 s", false);
        check(
            |s| (s.control_link, s.reached_by) = (false, (0, 0)),
            Unknown,
            "no peer and no control plane has reported yet",
            false,
        );
        check(
            |s| (s.observed_ms, s.joined, s.control_link, s.reached_by) = (None, false, false, (0, 0)),
            Unknown,
            "has not joined yet; start its control plane with its token",
            false,
        );
        check(
            |s| (s.control_link, s.reached_by) = (false, (0, 5)),
            Offline,
            "control link silent and 0 of 5 peers can reach its gateways",
            false,
        );
        check(
            |s| s.reached_by = (0, 5),
            Partitioned,
            "control link is up but 0 of 5 peers can reach its gateways",
            false,
        );
        check(
            |s| (s.reached_by, s.reaches) = ((2, 5), (2, 5)),
            Partitioned,
            "2/5 peers reach it, it reaches 2/5",
            false,
        );
        check(|s| s.reaches = (4, 5), Partitioned, "5/5 peers reach it, it reaches 4/5", false);
        check(
            |s| (s.control_link, s.reached_by) = (false, (3, 5)),
            Partitioned,
            "3/5 peers reach it, it reaches 5/5",
            false,
        );
        check(|s| s.control_link = false, Degraded, "serving traffic, but cut off from the global control plane", true);
        check(|_| {}, Healthy, "in sync, reachable from every peer", false);
        check(|s| (s.reached_by, s.reaches) = ((0, 0), (0, 0)), Healthy, "in sync; peers are not applicable", false);
    }

    #[test]
    fn complaints_come_in_their_order_and_at_their_limits() {
        use Status::{Degraded, Healthy};
        let fine = "in sync, reachable from every peer";
        let lost = "global lost its history; still at revision 8844";
        check(|s| (s.estranged, s.rejected) = (Some(lost.into()), 1), Degraded, lost, false);
        check(|s| (s.rejected, s.gateways) = (1, (0, 2)), Degraded, "1 item rejected", false);
        check(|s| s.behind = (3, 9_999), Healthy, fine, false);
        check(|s| s.behind = (3, 10_000), Degraded, "3 proxies are behind for more than 10 s", false);
        check(|s| s.gateways = (1, 2), Degraded, "1 of 2 gateways ready", false);
        check(|s| s.proxies = (99, 100), Healthy, fine, false);
        check(|s| s.proxies = (402, 630), Degraded, "402 of 630 proxies ready", false);
        check(|s| s.certificate_left = Some(0.25), Healthy, fine, false);
        check(|s| s.certificate_left = Some(0.2), Degraded, "a certificate has 20 % of its life left", false);
        check(|s| s.load = Some(0.9), Healthy, fine, false);
        check(|s| s.load = Some(0.97), Degraded, "load 97 %", false);
    }

    #[test]
    fn with_few_peers_the_pair_is_named() {
        check(
            |s| {
                (s.reached_by, s.reaches) = ((0, 1), (0, 1));
                s.unreachable = vec!["west".try_into().unwrap()];
            },
            Status::Partitioned,
            "control link is up but 0 of 1 peers can reach its gateways (between it and west)",
            false,
        );
    }
}
