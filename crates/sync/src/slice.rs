//! Cuts what travels into messages of bounded count and size.

/// Items in one message; keeps the work between two looks at the clock small.
pub const SLICE_ITEMS: usize = 512;
/// Bytes in one message: far below gRPC's default limit of 4 MiB, so that even one item that overshoots fits.
pub const SLICE_BYTES: usize = 256 * 1024;

/// How large one message may grow. A single item larger than `bytes` travels alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Slice {
    /// Items at most.
    pub items: usize,
    /// Bytes of keys and payloads at most.
    pub bytes: usize,
}

impl Default for Slice {
    fn default() -> Self {
        Self { items: SLICE_ITEMS, bytes: SLICE_BYTES }
    }
}

impl Slice {
    /// Cuts `all` into slices, in order; never none, because an empty message still says something.
    pub(crate) fn cut<T>(self, all: impl IntoIterator<Item = T>, size_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
        let mut slices = vec![Vec::new()];
        let mut bytes = 0;
        for one in all {
            let size = size_of(&one);
            let current = slices.last_mut().expect("made with one slice, and slices are only added");
            if !current.is_empty() && (current.len() >= self.items || bytes + size > self.bytes) {
                slices.push(vec![one]);
                bytes = size;
            } else {
                current.push(one);
                bytes += size;
            }
        }
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::Slice;

    fn cut(items: usize, bytes: usize, sizes: &[usize]) -> Vec<Vec<usize>> {
        Slice { items, bytes }.cut(sizes.iter().copied(), |size| *size)
    }

    #[test]
    fn slices_are_bounded_by_count_and_by_bytes() {
        assert_eq!(cut(2, 100, &[1, 1, 1]), [vec![1, 1], vec![1]]);
        assert_eq!(cut(9, 10, &[6, 4, 1]), [vec![6, 4], vec![1]]);
    }

    #[test]
    fn an_item_larger_than_a_slice_travels_alone() {
        assert_eq!(cut(9, 10, &[1, 50, 1]), [vec![1], vec![50], vec![1]]);
    }

    #[test]
    fn nothing_is_one_empty_slice() {
        assert_eq!(cut(9, 10, &[]), [Vec::<usize>::new()]);
    }
}
