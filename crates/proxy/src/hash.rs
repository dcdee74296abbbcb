//! Tables that every request asks. Their keys come from configuration, so nobody outside can choose them to collide, and
//! the standard library's hasher, which guards against that, would be the dearer half of a look-up.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A table with keys of our own.
pub type Quick<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Multiply and rotate, a word at a time (Firefox's FxHash).
#[derive(Clone, Copy, Debug, Default)]
pub struct Mix(u64);

/// FxHash's constant: the golden ratio's digits, made odd.
const ODD: u64 = 0x517c_c1b7_2722_0a95;

impl Mix {
    fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(ODD);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    fn write_u8(&mut self, number: u8) {
        self.word(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.word(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.word(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.word(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.word(number as u64);
    }

    /// The best bits are the upper ones, and tables look at the lower.
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::hash::Hash;

    #[test]
    fn names_spread_over_a_table() {
        let buckets = |names: &mut dyn Iterator<Item = String>| {
            let hash = |name: String| {
                let mut mix = Mix::default();
                name.hash(&mut mix);
                mix.finish() % 4096
            };
            names.map(hash).collect::<HashSet<_>>().len()
        };
        // 1,000 balls in 4,096 bins leave about 888 bins with one or more.
        assert!(buckets(&mut (0..1000).map(|n| format!("service-{n}.shop.mesh"))) > 800);
        assert!(buckets(&mut (0..1000).map(|n| format!("{n:03}"))) > 800);
    }
}
