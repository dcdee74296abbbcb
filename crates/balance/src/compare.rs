//! Ejection by comparison: who answers worse than the others, or fails too large a share, within an interval.
//!
//! Endpoints are compared with those of their zone, connections through gateways with those to the same zone. Envoy's
//! `success_rate` and `failure_percentage` detectors.

use crate::ask::{CandidateId, ConnectionId, Target};
use crate::balancer::Balancer;
use crate::fault::{Fault, planted};
use crate::limits::{MS, WORSE_BY};
use api::ZoneName;

/// Answers within the running interval.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) good: u32,
    pub(crate) bad: u32,
}

impl Tally {
    pub(crate) fn count(&mut self, failed: bool) {
        let one = if failed { &mut self.bad } else { &mut self.good };
        *one = one.saturating_add(1);
    }

    fn total(self) -> u32 {
        self.good.saturating_add(self.bad)
    }

    fn success(self) -> f64 {
        f64::from(self.good) / f64::from(self.total()).max(1.0)
    }
}

/// Somebody with its tally.
pub(crate) type Tallied = (Target, Tally);

impl Balancer {
    /// Compares, if an interval has passed, and begins the next one.
    pub(crate) fn compare(&mut self, now_us: u64) {
        let interval_us = self.config.ejection.interval_ms.max(1) * MS;
        if now_us.saturating_sub(self.compared_at_us) < interval_us {
            return;
        }
        self.compared_at_us = now_us;
        let mut tallied = std::mem::take(&mut self.tallied);
        for index in 0..self.localities.len() {
            // Places of the own zone are compared together, at the first of them.
            let zone = self.localities[index].zone.clone();
            if self.localities[..index].iter().any(|before| before.zone == zone) {
                continue;
            }
            tallied.clear();
            self.gather(&zone, &mut tallied);
            self.take_out_worse(&mut tallied, now_us);
        }
        self.tallied = tallied;
        if planted(Fault::TallyNeverEnds) {
            return;
        }
        for member in self.members.iter_mut().flatten() {
            member.tally = Tally::default();
            member.connections.begin_tallies();
        }
    }

    fn gather(&self, zone: &ZoneName, into: &mut Vec<Tallied>) {
        for (id, member) in self.members().filter(|(_, member)| member.zone == *zone) {
            if !member.is_gateway() && member.standing.is_in() {
                into.push((id.into(), member.tally));
            }
            into.extend(member.connections.tallies().map(|(number, tally)| {
                let connection = ConnectionId { gateway: id, number };
                (connection.into(), tally)
            }));
        }
    }

    fn take_out_worse(&mut self, tallied: &mut [Tallied], now_us: u64) {
        let ejection = &self.config.ejection;
        let rate = &ejection.success_rate;
        let (enough, several) = match planted(Fault::FewAreCompared) {
            true => (1, 2),
            false => (rate.requests_min.max(1), rate.endpoints_min.max(2) as usize),
        };
        let rates = || tallied.iter().filter(|(_, tally)| tally.total() >= enough).map(|(_, tally)| tally.success());
        let count = rates().count();
        let mut worse_than = f64::NEG_INFINITY;
        if count >= several && rate.deviations > 0.0 {
            let mean = rates().sum::<f64>() / count as f64;
            let deviation = (rates().map(|one| (one - mean).powi(2)).sum::<f64>() / count as f64).sqrt();
            let gap = if planted(Fault::EveryDeviationEjects) { 0.0 } else { WORSE_BY };
            worse_than = (mean - rate.deviations * deviation).min(mean - gap);
        }
        let share = &ejection.failure_share;
        let (fails, of) = (share.share.ratio(), share.requests_min.max(1));
        // The worst first, because not everybody may go.
        tallied.sort_by(|(_, a), (_, b)| a.success().total_cmp(&b.success()));
        for (target, tally) in tallied.iter() {
            let worse = tally.total() >= enough && tally.success() < worse_than;
            let failing = fails > 0.0 && tally.total() >= of && 1.0 - tally.success() >= fails;
            if worse || failing {
                self.eject_compared(*target, now_us);
            }
        }
    }

    fn eject_compared(&mut self, target: Target, now_us: u64) {
        let Target { candidate, connection } = target;
        match connection {
            None => self.eject(candidate, now_us),
            Some(connection) => self.eject_connection(candidate, connection.number, now_us),
        }
    }

    fn eject_connection(&mut self, gateway: CandidateId, number: u32, now_us: u64) {
        let ejection = self.config.ejection.clone();
        if let Some(member) = self.member_mut(gateway) {
            member.connections.eject(number, &ejection, now_us);
        }
    }
}
