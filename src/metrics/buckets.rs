//! The fixed histogram buckets of Istio's metrics (Envoy's default, used for milliseconds and for
//! bytes alike), found without a search.

/// Finite bounds, as text in the unit of the metric (`le`).
pub const BOUNDS: usize = 19;
/// Buckets, the one up to infinity included.
pub const BUCKETS: usize = BOUNDS + 1;

/// The bounds as Prometheus shows them.
pub const BOUND_TEXTS: [&str; BOUNDS] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000",
    "30000", "60000", "300000", "600000", "1800000", "3600000",
];

/// Ascending inclusive upper bounds with a table from the bit length of a value to the only bound
/// that may lie within that bit length.
#[derive(Debug)]
pub struct BucketBounds {
    /// The last one is a sentinel that nothing exceeds.
    bounds: [u64; BUCKETS],
    by_bit_length: [u8; 65],
}

/// Bounds of a byte count: 0.5 of a byte is no byte.
pub static BYTES: BucketBounds = BucketBounds::new(&[
    0, 1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000,
    600_000, 1_800_000, 3_600_000,
]);

/// Bounds of a duration: milliseconds in Istio's metric, microseconds here.
pub static DURATION_US: BucketBounds = BucketBounds::new(&[
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
]);

const fn bit_length(value: u64) -> usize {
    (u64::BITS - value.leading_zeros()) as usize
}

impl BucketBounds {
    /// Fails to compile (these are constants) when two bounds share a bit length, which the table
    /// could not tell apart.
    const fn new(finite: &[u64; BOUNDS]) -> BucketBounds {
        let mut bounds = [u64::MAX; BUCKETS];
        let mut by_bit_length = [0u8; 65];
        let mut index = 0;
        while index < BOUNDS {
            bounds[index] = finite[index];
            if index > 0 {
                assert!(bit_length(finite[index]) > bit_length(finite[index - 1]));
            }
            index += 1;
        }
        let mut length = 0;
        while length < 65 {
            let mut below = 0;
            while below < BOUNDS && bit_length(finite[below]) < length {
                below += 1;
            }
            by_bit_length[length] = below as u8;
            length += 1;
        }
        BucketBounds { bounds, by_bit_length }
    }

    /// Index of the first bucket whose bound is at least `value`, below [`BUCKETS`].
    #[inline]
    pub fn index(&self, value: u64) -> usize {
        // Both indices are in range by construction, which the compiler cannot see; the masks and
        // minima that would show it to it cost as much as its checks.
        let candidate = self.by_bit_length[bit_length(value)] as usize;
        candidate + usize::from(value > self.bounds[candidate])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_search(bounds: &BucketBounds, value: u64) -> usize {
        bounds.bounds[..BOUNDS].iter().position(|bound| value <= *bound).unwrap_or(BOUNDS)
    }

    #[test]
    fn bounds_are_inclusive() {
        for bounds in [&BYTES, &DURATION_US] {
            for (index, bound) in bounds.bounds[..BOUNDS].iter().enumerate() {
                assert_eq!(bounds.index(*bound), index);
                assert_eq!(bounds.index(*bound + 1), by_search(bounds, *bound + 1));
            }
            assert_eq!(bounds.index(u64::MAX), BOUNDS);
            assert_eq!(bounds.index(0), 0);
        }
    }

    #[test]
    fn bounds_are_those_of_the_texts() {
        for (index, text) in BOUND_TEXTS.iter().enumerate() {
            let bound: f64 = text.parse().unwrap();
            assert_eq!(BYTES.bounds[index], bound.floor() as u64);
            assert_eq!(DURATION_US.bounds[index], (bound * 1000.0) as u64);
        }
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_search(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            prop_assert_eq!(BYTES.index(value), by_search(&BYTES, value));
            prop_assert_eq!(DURATION_US.index(value), by_search(&DURATION_US, value));
        }
    }
}
