//! Choosing among weighted destinations, given a random number.

/// The index chosen from `weights`, whose sum is `total`. `ticket` is uniform over all of u64; the
/// share of an index differs from its weight's by less than `total / 2^64`. An index of weight 0 is
/// never chosen. `None` when the sum is 0.
pub fn pick(weights: impl IntoIterator<Item = u32>, total: u64, ticket: u64) -> Option<usize> {
    let mut point = ((u128::from(ticket) * u128::from(total)) >> 64) as u64;
    for (index, weight) in weights.into_iter().enumerate() {
        let weight = u64::from(weight);
        if point < weight {
            return Some(index);
        }
        point -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_weights() {
        let weights = [0, 90, 0, 10];
        let mut counts = [0usize; 4];
        for step in 0..1000u64 {
            let ticket = step * (u64::MAX / 1000);
            counts[pick(weights, 100, ticket).expect("the sum is positive")] += 1;
        }
        assert_eq!((counts[0], counts[2]), (0, 0));
        assert!((899..=901).contains(&counts[1]), "{counts:?}");
        assert_eq!(pick([0, 0], 0, 5), None);
        assert_eq!(pick([1], 1, u64::MAX), Some(0));
    }
}
