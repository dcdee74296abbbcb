//! Keys of requests and of endpoints as numbers: the same ones in every process, on every machine and in every version,
//! because proxies that shall agree on an endpoint never speak to each other.

/// The number of a key: FNV-1a (Fowler, Noll and Vo), whose weak upper bits `mix` repairs.
pub fn hash_key(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    mix(fnv)
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64; Steele, Lea and Flood 2014).
pub(crate) fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What two numbers make together; `b` differs for each use, so that uses do not follow each other.
pub(crate) fn mix_with(a: u64, b: u64) -> u64 {
    mix(a ^ b.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93))
}

/// The upper 53 bits as a number in 0.0 to below 1.0.
pub(crate) fn unit(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change here moves every session of every mesh at an upgrade.
    #[test]
    fn keys_never_change() {
        assert_eq!(hash_key(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(hash_key(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(hash_key(b"foobar"), mix(0x8594_4171_f739_67e8));
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }
}
