//! The numbers behind a decision, for people.

use crate::ask::{Tier, TierPlace, Tiers};
use crate::balancer::Balancer;
use crate::place::carries;

impl Balancer {
    /// Where requests go now, and why.
    pub fn explain(&self, now_us: u64) -> Tiers {
        let threshold = self.config.threshold.ratio();
        let tiers = self.tiers.iter().enumerate().map(|(rank, tier)| {
            let supply = tier.supply;
            Tier {
                health: if supply.total > 0.0 { supply.effective / supply.total } else { 0.0 },
                carries: carries(&supply, threshold, self.config.mode),
                share: tier.localities.iter().map(|index| self.share_of(*index)).sum(),
                reason: self.reason(rank),
                places: tier.localities.iter().map(|index| self.explain_place(*index, now_us)).collect(),
            }
        });
        Tiers { tiers: tiers.collect(), panic: self.panic }
    }

    fn explain_place(&self, index: usize, now_us: u64) -> TierPlace {
        let place = &self.localities[index];
        let members = || place.members.iter().filter_map(|slot| self.members[*slot as usize].as_ref());
        let (ready, total) = match place.summary {
            Some(summary) => (summary.ready, summary.total),
            None => (members().filter(|member| member.ready).count() as u32, members().count() as u32),
        };
        TierPlace {
            zone: place.zone.clone(),
            rank: place.rank.as_str(),
            ready,
            total,
            out: members().filter(|member| !member.standing.is_in()).count() as u32,
            connections_out: members().map(|member| member.connections.out()).sum(),
            health: place.raw,
            load: place.load(&self.members, now_us),
            share: self.share_of(index),
        }
    }

    fn share_of(&self, locality: usize) -> f64 {
        let mut before = 0.0;
        for lane in &self.lanes {
            if lane.locality == locality {
                return lane.upto - before;
            }
            before = lane.upto;
        }
        0.0
    }
}
