//! Which endpoint a key belongs to, and which one after that: a ring of points, or Maglev's table of equal parts.
//!
//! Built over all endpoints, whether they are well or not, so that one that fails moves its own keys only, and gets
//! them back. Depends on who is there and nothing else: every proxy of a zone builds the same.

use crate::fault::{Fault, planted};
use crate::key::{mix, mix_with};
use crate::limits::{MAGLEV_SIZE, POINTS_PER_ENDPOINT, RING_POINTS_LEAST, RING_POINTS_MOST};
use api::config::{Algorithm, Balancing};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// One endpoint, as tables know it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Seat {
    /// Number of what makes it the same one in the next configuration.
    pub(crate) id: u64,
    pub(crate) weight: f64,
    pub(crate) slot: u32,
}

/// From keys to slots.
#[derive(Debug, Default)]
pub(crate) struct Table {
    places: Places,
    slots: Vec<u32>,
    /// What it was built from.
    seats: Vec<Seat>,
    algorithm: Algorithm,
    points: u32,
}

#[derive(Debug, Default)]
enum Places {
    /// Sorted; each ends the arc of the slot beside it.
    Ring(Vec<u64>),
    /// Equal parts.
    #[default]
    Maglev,
}

impl Table {
    /// Builds it anew, unless it would become what it is.
    pub(crate) fn rebuild(&mut self, config: &Balancing, mut seats: Vec<Seat>) {
        if !config.algorithm.hashes() {
            return *self = Self::default();
        }
        seats.retain(|seat| seat.weight > 0.0);
        if planted(Fault::TableByArrival) {
            seats.iter_mut().for_each(|seat| seat.id = u64::from(seat.slot));
        }
        seats.sort_by_key(|seat| seat.id);
        let points = config.ring_points.clamp(RING_POINTS_LEAST, RING_POINTS_MOST);
        if (&self.seats, self.algorithm, self.points) == (&seats, config.algorithm, points) {
            return;
        }
        let (places, slots) = match config.algorithm {
            Algorithm::RingHash => ring(&seats, points),
            _ => (Places::Maglev, maglev(&seats)),
        };
        *self = Self { places, slots, seats, algorithm: config.algorithm, points };
    }

    /// Slots in the order in which `key` asks for them, each as often as it has places.
    pub(crate) fn from(&self, key: u64) -> impl Iterator<Item = u32> {
        let first = match &self.places {
            Places::Ring(ends) => ends.partition_point(|end| *end < key),
            Places::Maglev => (key % self.slots.len().max(1) as u64) as usize,
        };
        let (before, from) = self.slots.split_at(first);
        from.iter().chain(before).copied()
    }
}

/// Each endpoint has the same number of points as before whoever else is there, so that nobody else's keys move; only
/// when there would be too many of them does everybody have half.
fn ring(seats: &[Seat], most: u32) -> (Places, Vec<u32>) {
    let lightest = seats.iter().map(|seat| seat.weight).fold(f64::INFINITY, f64::min);
    let mut one = if lightest.is_finite() { lightest.log2().floor().exp2() } else { 1.0 };
    let count = |seat: &Seat, one: f64| ((f64::from(POINTS_PER_ENDPOINT) * seat.weight / one) as u64).max(1);
    let most = u64::from(most).max(seats.len() as u64);
    while seats.iter().map(|seat| count(seat, one)).sum::<u64>() > most {
        one *= 2.0;
    }
    let one = if planted(Fault::TableForgetsWeights) { f64::INFINITY } else { one };
    let points = |seat: &Seat| if one.is_finite() { count(seat, one) } else { u64::from(POINTS_PER_ENDPOINT) };
    let of = |seat: &Seat| {
        let Seat { id, slot, weight: _ } = *seat;
        (0..points(seat)).map(move |nth| (mix_with(id, nth), slot))
    };
    let mut all: Vec<(u64, u32)> = seats.iter().flat_map(of).collect();
    all.sort_unstable();
    let (ends, slots) = all.into_iter().unzip();
    (Places::Ring(ends), slots)
}

/// Everybody in turn takes the next free place of an order of its own (Eisenbud and others, NSDI 2016, section 3.4); turns
/// come as often as weights say.
fn maglev(seats: &[Seat]) -> Vec<u32> {
    if seats.is_empty() {
        return Vec::new();
    }
    let heaviest = seats.iter().map(|seat| seat.weight).fold(0.0, f64::max);
    let even = planted(Fault::TableForgetsWeights);
    let mut taken: Vec<u64> = vec![0; seats.len()];
    let mut orders: Vec<(usize, usize)> = seats
        .iter()
        .map(|seat| {
            let size = MAGLEV_SIZE as u64;
            ((mix(seat.id) % size) as usize, (mix_with(seat.id, 1) % (size - 1) + 1) as usize)
        })
        .collect();
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> = (0..seats.len()).map(|nth| Reverse((0, nth))).collect();
    let mut table: Vec<Option<u32>> = vec![None; MAGLEV_SIZE];
    for _ in 0..MAGLEV_SIZE {
        let Some(Reverse((_, nth))) = turns.pop() else { break };
        let (at, step) = &mut orders[nth];
        while table[*at].is_some() {
            *at = (*at + *step) % MAGLEV_SIZE;
        }
        table[*at] = Some(seats[nth].slot);
        taken[nth] += 1;
        let share = if even { 1.0 } else { heaviest / seats[nth].weight };
        turns.push(Reverse(((taken[nth] as f64 * share).ceil() as u64, nth)));
    }
    table.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
