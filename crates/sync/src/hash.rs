//! The fingerprint that stands for a payload in an inventory.

/// Fingerprint of a payload.
pub type Hash = u64;

const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// FNV-1a, 64 bits (Fowler, Noll, Vo; draft-eastlake-fnv, section 2 and 5): the same in every process, version and
/// machine, because both sides of an inventory compute it. It guards against accidents, not against malice: whoever
/// publishes is authenticated and could as well publish the wrong payload.
pub fn hash_of(payload: &[u8]) -> Hash {
    payload.iter().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::hash_of;

    #[test]
    fn the_published_test_vectors_hold() {
        assert_eq!(hash_of(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash_of(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash_of(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
