//! How often each latency was seen, in few bytes: what a step of the history keeps of one route.
//!
//! The buckets are those of the latency histograms (three digits), so that quantiles of any steps put
//! together are those that one histogram over their time would have given.

/// Powers of two of a histogram's finest buckets: values below `2 << HALF_BITS` have a bucket each.
const HALF_BITS: u32 = 10;

/// The bucket of a latency in microseconds.
pub fn bucket_of(value_us: u64) -> u32 {
    let value = u32::try_from(value_us).unwrap_or(u32::MAX);
    let shift = (u32::BITS - value.leading_zeros()).saturating_sub(HALF_BITS + 1);
    (shift << HALF_BITS) + (value >> shift)
}

/// The largest latency of a bucket: what the histograms report of it.
pub fn largest_of(bucket: u32) -> u64 {
    let shift = (bucket >> HALF_BITS).saturating_sub(1);
    let part = bucket - (shift << HALF_BITS);
    ((u64::from(part) + 1) << shift) - 1
}

/// Counts by bucket, each pair as two numbers of as few bytes as they need: the distance from the bucket
/// before, and the count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LatencyCounts(Box<[u8]>);

impl LatencyCounts {
    /// From pairs of bucket and count in any order; `pairs` is left sorted. A bucket may come twice.
    pub fn from_pairs(pairs: &mut [(u32, u32)]) -> LatencyCounts {
        pairs.sort_unstable_by_key(|(bucket, _)| *bucket);
        let mut bytes = Vec::with_capacity(pairs.len() * 3);
        let mut last = 0;
        for same in pairs.chunk_by(|one, next| one.0 == next.0) {
            let Some((bucket, _)) = same.first() else { continue };
            let count = same.iter().map(|(_, count)| u64::from(*count)).sum();
            write_number(&mut bytes, u64::from(bucket - last));
            write_number(&mut bytes, count);
            last = *bucket;
        }
        LatencyCounts(bytes.into())
    }

    /// Pairs of bucket and count, the fastest first.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        let mut rest = &*self.0;
        let mut bucket = 0;
        std::iter::from_fn(move || {
            bucket += read_number(&mut rest)? as u32;
            Some((bucket, read_number(&mut rest)?))
        })
    }

    /// How many were counted up to `threshold_us`. A bucket that holds faster and slower ones than the
    /// threshold counts as slower: what is called good was good.
    pub fn up_to(&self, threshold_us: u64) -> u64 {
        let good = self.iter().take_while(|(bucket, _)| largest_of(*bucket) <= threshold_us);
        good.map(|(_, count)| count).sum()
    }

    /// Memory that it takes, bytes.
    pub fn bytes(&self) -> usize {
        self.0.len()
    }
}

/// Seven bits a byte, the low ones first; the eighth says that more follow.
fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::shard::{LATENCY_US_MAX, latency_histogram};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buckets_are_those_of_the_histograms(value in 1..=LATENCY_US_MAX, shift in 0u32..30) {
            let value = (value >> shift).max(1);
            let histogram = latency_histogram::<u32>();
            let bucket = bucket_of(value);
            prop_assert_eq!(largest_of(bucket), histogram.highest_equivalent(value));
            prop_assert_eq!(bucket_of(largest_of(bucket)), bucket);
            prop_assert_eq!(bucket_of(largest_of(bucket) + 1), bucket + 1);
        }

        #[test]
        fn what_goes_in_comes_out_in_order(
            pairs in prop::collection::vec((0u32..30_000, 1u32..=u32::MAX), 0..50),
        ) {
            let mut expected = std::collections::BTreeMap::new();
            for (bucket, count) in &pairs {
                *expected.entry(*bucket).or_insert(0u64) += u64::from(*count);
            }
            let counts = LatencyCounts::from_pairs(&mut pairs.clone());
            prop_assert_eq!(counts.iter().collect::<Vec<_>>(), expected.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_bucket_of_the_threshold_is_good_only_as_a_whole() {
        // Buckets of 128 microseconds at 250 milliseconds: 249 984 ..= 250 111.
        let bucket = bucket_of(250_000);
        assert_eq!(largest_of(bucket), 250_111);
        let counts = LatencyCounts::from_pairs(&mut [(bucket, 3), (bucket - 1, 4), (7, 5)]);
        assert_eq!(counts.up_to(250_000), 9);
        assert_eq!(counts.up_to(250_111), 12);
        assert_eq!(counts.up_to(6), 0);
    }

    #[test]
    fn damaged_bytes_end_the_list() {
        assert_eq!(LatencyCounts(Box::new([0x80; 12])).iter().count(), 0);
        assert_eq!(LatencyCounts(Box::new([1])).iter().count(), 0);
    }
}
