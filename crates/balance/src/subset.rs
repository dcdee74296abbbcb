//! Which endpoints of a place one proxy calls, when a service has more of them than it should hold connections to.
//!
//! Rendezvous hashing (Thaler and Ravishankar 1998) of caller and endpoint: every proxy has a subset of its own without
//! anybody telling it, subsets of many proxies cover all endpoints by weight, and who comes or goes changes one place in
//! the subsets it is in.

use crate::fault::{Fault, planted};
use crate::key::{mix_with, unit};
use crate::locality::{Locality, Rank};
use crate::member::Member;
use api::config::Balancing;

/// Marks the members that `caller` calls: those that are ready first, by score.
pub(crate) fn choose(place: &Locality, members: &mut [Option<Member>], config: &Balancing, caller: u64) {
    let caller = if planted(Fault::SubsetsAlike) { 0 } else { caller };
    // A subset of its own for each proxy would tear the keys apart that hash algorithms keep together.
    let size = match config.subset {
        Some(size) if place.rank != Rank::Remote && !config.algorithm.hashes() => (size as usize).max(1),
        _ => usize::MAX,
    };
    let mut scores: Vec<(bool, f64, u32)> = Vec::new();
    for slot in &place.members {
        let Some(member) = members[*slot as usize].as_mut() else { continue };
        member.chosen = true;
        if size < place.members.len() && member.weight > 0.0 {
            scores.push((!member.ready, score(caller, member), *slot));
        }
    }
    if scores.len() <= size {
        return;
    }
    scores.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    for (.., slot) in &scores[size..] {
        if let Some(member) = members[*slot as usize].as_mut() {
            member.chosen = false;
        }
    }
}

/// Smallest wins: the time to the first event of a process whose rate is the weight.
fn score(caller: u64, member: &Member) -> f64 {
    -(1.0 - unit(mix_with(caller, member.hash))).ln() / member.weight
}
