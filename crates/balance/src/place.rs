//! Places the demand: which share of all requests each tier gets.

use crate::fault::{Fault, planted};
use crate::limits::ROUNDING;
use api::config::SpillMode;

/// What one tier offers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Supply {
    /// All of it.
    pub(crate) total: f64,
    /// Ready endpoints x weight x (1 - recent failure share).
    pub(crate) effective: f64,
    /// Share of what it could carry that it should, because it drains, returns or is overloaded.
    pub(crate) wanted: f64,
}

/// Share of all requests a tier can carry. `threshold` is the health at which a tier can just carry everything, so
/// below it the missing part is what moves: at 35 % of 70 % a half.
pub(crate) fn carries(supply: &Supply, threshold: f64, mode: SpillMode) -> f64 {
    if supply.effective <= 0.0 || supply.total <= 0.0 {
        return 0.0;
    }
    let health = supply.effective / supply.total;
    let well = match planted(Fault::ThresholdExclusive) {
        true => health > threshold + ROUNDING,
        false => health + ROUNDING >= threshold,
    };
    let mode = if planted(Fault::SpillsEverything) { SpillMode::Switch } else { mode };
    let share = match (well, mode) {
        (true, _) => 1.0,
        (false, SpillMode::Proportional) => health / threshold,
        (false, SpillMode::Switch) => 0.0,
    };
    share * supply.wanted
}

/// Fills tiers in order until the demand is placed. When all together cannot carry it, each gets its part of all of it.
/// `None`: nothing can carry anything. Writes shares into `shares`, which sum to one.
pub(crate) fn place(supplies: &[Supply], threshold: f64, mode: SpillMode, shares: &mut Vec<f64>) -> Option<()> {
    shares.clear();
    let mut left: f64 = 1.0;
    for supply in supplies {
        let share = carries(supply, threshold, mode).min(left);
        left -= share;
        shares.push(share);
    }
    let placed = 1.0 - left;
    if placed > ROUNDING {
        shares.iter_mut().for_each(|share| *share /= placed);
        return Some(());
    }
    match mode {
        // No tier is well: better what little they can carry than nothing.
        SpillMode::Switch => place(supplies, threshold, SpillMode::Proportional, shares),
        SpillMode::Proportional => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(healths: &[f64], threshold: f64, mode: SpillMode, expect: Option<&[f64]>) {
        let supplies: Vec<Supply> =
            healths.iter().map(|health| Supply { total: 10.0, effective: health * 10.0, wanted: 1.0 }).collect();
        let mut shares = Vec::new();
        let placed = place(&supplies, threshold, mode, &mut shares).map(|()| shares);
        match (&placed, expect) {
            (Some(shares), Some(expect)) => {
                for (got, want) in shares.iter().zip(expect) {
                    assert!((got - want).abs() < 1e-6, "{healths:?} at {threshold}: {shares:?}, not {expect:?}");
                }
            }
            (got, want) => assert_eq!(got.is_some(), want.is_some(), "{healths:?}"),
        }
    }

    #[test]
    fn tiers_are_filled_in_order_and_only_the_missing_part_moves() {
        let p = SpillMode::Proportional;
        check(&[1.0, 1.0], 0.7, p, Some(&[1.0, 0.0]));
        check(&[0.7, 1.0], 0.7, p, Some(&[1.0, 0.0]));
        check(&[0.6, 1.0], 0.7, p, Some(&[0.6 / 0.7, 0.1 / 0.7]));
        check(&[0.35, 0.35, 1.0], 0.7, p, Some(&[0.5, 0.5, 0.0]));
        check(&[0.0, 0.14, 1.0], 0.7, p, Some(&[0.0, 0.2, 0.8]));
        check(&[0.35, 0.07], 0.7, p, Some(&[0.5 / 0.6, 0.1 / 0.6]));
        check(&[0.01], 0.7, p, Some(&[1.0]));
        check(&[0.0, 0.0], 0.7, p, None);
        check(&[0.001, 1.0], 0.0, p, Some(&[1.0, 0.0]));
        check(&[0.999, 1.0], 1.0, p, Some(&[0.999, 0.001]));
    }

    #[test]
    fn a_switch_moves_everything_and_falls_back_to_what_there_is() {
        let s = SpillMode::Switch;
        check(&[0.7, 1.0], 0.7, s, Some(&[1.0, 0.0]));
        check(&[0.69, 1.0], 0.7, s, Some(&[0.0, 1.0]));
        check(&[0.35, 0.35], 0.7, s, Some(&[0.5, 0.5]));
        check(&[0.0, 0.0], 0.7, s, None);
    }
}
