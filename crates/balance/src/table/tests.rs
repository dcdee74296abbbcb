//! How evenly keys spread, and how few of them move.

use super::*;
use crate::key::hash_key;
use std::collections::BTreeMap;

const ALGORITHMS: [Algorithm; 2] = [Algorithm::RingHash, Algorithm::Maglev];
const KEYS: u64 = 50_000;

fn seats(weights: &[f64]) -> Vec<Seat> {
    let seat = |(slot, weight): (usize, &f64)| {
        let id = hash_key(format!("w{slot}").as_bytes());
        Seat { id, weight: *weight, slot: slot as u32 }
    };
    weights.iter().enumerate().map(seat).collect()
}

fn table(algorithm: Algorithm, seats: Vec<Seat>) -> Table {
    let mut table = Table::default();
    table.rebuild(&Balancing { algorithm, ..Balancing::default() }, seats);
    table
}

fn owners(table: &Table) -> Vec<u32> {
    (0..KEYS).map(|key| table.from(mix(key)).next().unwrap()).collect()
}

fn shares(owners: &[u32]) -> BTreeMap<u32, f64> {
    let mut shares = BTreeMap::new();
    owners.iter().for_each(|slot| *shares.entry(*slot).or_default() += 1.0 / owners.len() as f64);
    shares
}

#[test]
fn keys_spread_by_weight() {
    for (algorithm, off) in [(Algorithm::RingHash, 0.25), (Algorithm::Maglev, 0.04)] {
        for weights in [vec![1.0; 3], vec![1.0; 40], vec![1.0, 2.0, 5.0], vec![100.0, 300.0], vec![7.0; 600]] {
            let whole: f64 = weights.iter().sum();
            // A hundred keys in one place are 10 % more or less by chance alone.
            let chance = 4.0 / (KEYS as f64 / weights.len() as f64).sqrt();
            for (slot, share) in shares(&owners(&table(algorithm, seats(&weights)))) {
                let fair = weights[slot as usize] / whole;
                // With half the points the ring is 1.4 times as uneven.
                let off = if weights.len() > 400 { off * 1.7 } else { off };
                assert!(
                    (share / fair - 1.0).abs() < off + chance,
                    "{algorithm:?} {slot} of {}: {share}",
                    weights.len()
                );
            }
        }
    }
}

#[test]
fn who_goes_takes_its_own_keys_only_and_gets_them_back() {
    for (algorithm, strangers) in [(Algorithm::RingHash, 0.0), (Algorithm::Maglev, 0.03)] {
        let all = seats(&[1.0; 10]);
        let before = owners(&table(algorithm, all.clone()));
        let without: Vec<Seat> = all.iter().filter(|seat| seat.slot != 4).copied().collect();
        let after = owners(&table(algorithm, without));
        let moved = before.iter().zip(&after).filter(|(a, b)| **a != 4 && a != b).count() as f64 / KEYS as f64;
        assert!(moved <= strangers, "{algorithm:?} moves {moved} of the keys of others");
        for (slot, share) in shares(&after) {
            assert!((share * 9.0 - 1.0).abs() < 0.3, "{algorithm:?} gives {slot} {share}");
        }
        // In another order and with other slots it is the same table.
        let mut turned = all;
        turned.reverse();
        assert_eq!(owners(&table(algorithm, turned)), before);
    }
}

#[test]
fn who_comes_takes_its_share_from_everybody() {
    for (algorithm, most) in [(Algorithm::RingHash, 0.13), (Algorithm::Maglev, 0.14)] {
        let before = owners(&table(algorithm, seats(&[1.0; 10])));
        let after = owners(&table(algorithm, seats(&[1.0; 11])));
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count() as f64 / KEYS as f64;
        assert!((0.07..most).contains(&moved), "{algorithm:?} moves {moved}, fair is {}", 1.0 / 11.0);
    }
}

#[test]
fn keys_of_one_that_is_skipped_spread_over_all_others() {
    for algorithm in ALGORITHMS {
        let table = table(algorithm, seats(&[1.0; 10]));
        let next = |key: u64| table.from(mix(key)).find(|slot| *slot != 4).unwrap();
        let heirs: Vec<u32> = (0..KEYS).filter(|key| table.from(mix(*key)).next() == Some(4)).map(next).collect();
        let shares = shares(&heirs);
        assert_eq!(shares.len(), 9, "{algorithm:?}");
        assert!(shares.values().all(|share| (0.04..0.22).contains(share)), "{algorithm:?} {shares:?}");
    }
}

#[test]
fn a_ring_keeps_its_bound() {
    for count in [1, 400, 410, 5_000] {
        let table = table(Algorithm::RingHash, seats(&vec![1.0; count]));
        assert!(table.slots.len() <= api::config::RING_POINTS as usize, "{count}: {}", table.slots.len());
    }
    let uneven = table(Algorithm::RingHash, seats(&[1.0, 1_000_000.0]));
    assert!(uneven.slots.len() <= api::config::RING_POINTS as usize);
}

#[test]
fn nobody_is_a_table_too() {
    for algorithm in ALGORITHMS {
        assert_eq!(table(algorithm, Vec::new()).from(7).next(), None);
        assert_eq!(table(algorithm, seats(&[0.0])).from(7).next(), None);
    }
}
