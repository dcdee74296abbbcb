//! A draw by key: the endpoint the key belongs to, or the next one of the table that can take it.

use crate::ask::CandidateId;
use crate::balancer::Balancer;
use crate::fault::{Fault, planted};
use crate::key::{mix_with, unit};
use crate::limits::PASSED_MAX;
use crate::locality::Locality;
use crate::member::Member;
use crate::pick::{Of, knows};

impl Balancer {
    /// Whom `key` belongs to in this locality, whatever its standing.
    pub(crate) fn owner(&self, locality: usize, key: u64) -> Option<u32> {
        self.localities[locality].table.from(key).next()
    }

    /// The first in the key's order that was not tried, is usable, has its share of keys back and is not above its
    /// bound. When all have enough: the first that is usable. Two balancers that know the same choose the same.
    pub(crate) fn draw_by_key(&self, locality: usize, of: Of, tried: &[CandidateId], key: u64) -> Option<u32> {
        let place = &self.localities[locality];
        let mut first = None;
        for (passed, slot) in place.table.from(key).enumerate() {
            if passed > PASSED_MAX && first.is_some() {
                break;
            }
            let Some(member) = self.members[slot as usize].as_ref() else { continue };
            let usable = of == Of::All || member.usable() || planted(Fault::KeyMeetsAnybody);
            if !usable || knows(tried, slot, member.generation) {
                continue;
            }
            first = first.or(Some(slot));
            if of == Of::All || (has_back(place, member, key) && self.has_room(place, member)) {
                return Some(slot);
            }
        }
        first
    }

    /// Whether it may have one more in flight (Mirrokni, Thorup and Zadimoghaddam 2016).
    fn has_room(&self, place: &Locality, member: &Member) -> bool {
        let Some(percent) = self.config.bound_percent else { return true };
        let fair = f64::from(place.in_flight + 1) * member.weight / place.usable_weight.max(member.weight);
        let most = (fair * f64::from(percent) / 100.0).ceil();
        f64::from(member.in_flight) < most || planted(Fault::BoundIgnored)
    }
}

/// One that returns slowly takes a growing share of its keys, always the same ones first.
fn has_back(place: &Locality, member: &Member, key: u64) -> bool {
    member.counts >= place.counts_most
        || unit(mix_with(key, member.hash)) * place.counts_most < member.counts
        || planted(Fault::KeysReturnAtOnce)
}
