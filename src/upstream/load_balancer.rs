//! Which endpoint serves the next request. Pure: load and randomness are arguments.

use crate::snapshot::LoadBalancerPolicy;

/// Longest schedule that a weighted round robin may need; beyond it the pick is random by weight.
const SCHEDULE_MAX: usize = 1024;

/// The picking state of one cluster on one worker, over the endpoints that may be picked.
#[derive(Debug)]
pub struct LoadBalancer {
    policy: LoadBalancerPolicy,
    /// Positions of the endpoints that may be picked.
    usable: Vec<usize>,
    /// Running sums of their weights; empty when all weights are equal.
    weight_sums: Vec<u64>,
    weights: Vec<u32>,
    /// Positions in `usable` in round-robin order; empty unless the policy needs it.
    schedule: Vec<usize>,
    next: usize,
}

impl LoadBalancer {
    /// For `endpoints` given as (position, weight). `start` is where a round robin begins: workers
    /// should not all begin with the same endpoint.
    pub fn new(
        policy: LoadBalancerPolicy,
        endpoints: &[(usize, u32)],
        start: usize,
    ) -> LoadBalancer {
        let usable: Vec<usize> = endpoints.iter().map(|(position, _)| *position).collect();
        let weights: Vec<u32> = endpoints.iter().map(|(_, weight)| (*weight).max(1)).collect();
        let equal = weights.windows(2).all(|pair| pair[0] == pair[1]);
        let mut weight_sums = Vec::new();
        let mut schedule = Vec::new();
        if !equal {
            let mut sum = 0u64;
            for weight in &weights {
                sum += u64::from(*weight);
                weight_sums.push(sum);
            }
        }
        if policy == LoadBalancerPolicy::RoundRobin {
            schedule = if equal { (0..usable.len()).collect() } else { interleave(&weights) };
        }
        let next = if schedule.is_empty() { 0 } else { start % schedule.len() };
        LoadBalancer { policy, usable, weight_sums, weights, schedule, next }
    }

    /// Pick the position of an endpoint, `None` when there is none. `load` tells the active
    /// requests of a position. Positions for which `avoid` is true are passed over while another
    /// can be found in a few tries (Envoy's `retry_host_predicate`, five re-picks).
    pub fn pick(
        &mut self,
        random: &mut fastrand::Rng,
        load: impl Fn(usize) -> u32,
        avoid: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut picked = self.pick_once(random, &load)?;
        for _ in 0..5 {
            if !avoid(picked) {
                break;
            }
            picked = self.pick_once(random, &load)?;
        }
        if avoid(picked)
            && let Some(other) = self.usable.iter().find(|position| !avoid(**position))
        {
            picked = *other;
        }
        Some(picked)
    }

    fn pick_once(
        &mut self,
        random: &mut fastrand::Rng,
        load: &impl Fn(usize) -> u32,
    ) -> Option<usize> {
        match self.usable.len() {
            0 => return None,
            1 => return self.usable.first().copied(),
            _ => {}
        }
        let index = match self.policy {
            LoadBalancerPolicy::RoundRobin if !self.schedule.is_empty() => {
                let index = self.schedule[self.next];
                self.next = (self.next + 1) % self.schedule.len();
                index
            }
            LoadBalancerPolicy::RoundRobin | LoadBalancerPolicy::Random => {
                self.random_index(random)
            }
            LoadBalancerPolicy::LeastRequest => {
                let first = self.random_index(random);
                let mut second = self.random_index(random);
                if second == first && self.weight_sums.is_empty() {
                    // Two different candidates, still uniformly chosen.
                    second =
                        (first + 1 + random.usize(..self.usable.len() - 1)) % self.usable.len();
                }
                // (active + 1) / weight, compared without division.
                let cost = |index: usize, other: usize| {
                    (u64::from(load(self.usable[index])) + 1) * u64::from(self.weights[other])
                };
                if cost(second, first) < cost(first, second) { second } else { first }
            }
        };
        Some(self.usable[index])
    }

    fn random_index(&self, random: &mut fastrand::Rng) -> usize {
        match self.weight_sums.last() {
            None => random.usize(..self.usable.len()),
            Some(total) => {
                let ticket = random.u64(..*total);
                self.weight_sums.partition_point(|sum| *sum <= ticket)
            }
        }
    }
}

/// Smooth weighted order: each index as often as its weight says, spread out. Empty when the order
/// would be longer than [`SCHEDULE_MAX`].
fn interleave(weights: &[u32]) -> Vec<usize> {
    fn common_divisor(a: u64, b: u64) -> u64 {
        if b == 0 { a } else { common_divisor(b, a % b) }
    }
    let divisor = weights.iter().fold(0, |sum, weight| common_divisor(sum, u64::from(*weight)));
    let shares: Vec<i64> =
        weights.iter().map(|weight| (u64::from(*weight) / divisor.max(1)) as i64).collect();
    let total: i64 = shares.iter().sum();
    if total as usize > SCHEDULE_MAX {
        return Vec::new();
    }
    let mut credit = vec![0i64; shares.len()];
    let mut order = Vec::with_capacity(total as usize);
    for _ in 0..total {
        let mut best = 0;
        for (index, share) in shares.iter().enumerate() {
            credit[index] += share;
            if credit[index] > credit[best] {
                best = index;
            }
        }
        credit[best] -= total;
        order.push(best);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(balancer: &mut LoadBalancer, picks: usize, endpoints: usize) -> Vec<usize> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut counts = vec![0; endpoints];
        for _ in 0..picks {
            let position = balancer.pick(&mut random, |_| 0, |_| false).expect("not empty");
            counts[position] += 1;
        }
        counts
    }

    #[test]
    fn nothing_usable_is_none() {
        let mut balancer = LoadBalancer::new(LoadBalancerPolicy::LeastRequest, &[], 0);
        assert_eq!(balancer.pick(&mut fastrand::Rng::new(), |_| 0, |_| false), None);
    }

    #[test]
    fn only_usable_positions_are_picked() {
        for policy in [
            LoadBalancerPolicy::LeastRequest,
            LoadBalancerPolicy::RoundRobin,
            LoadBalancerPolicy::Random,
        ] {
            let mut balancer = LoadBalancer::new(policy, &[(1, 1), (3, 1)], 0);
            let counts = counts(&mut balancer, 1000, 5);
            assert_eq!(counts[0] + counts[2] + counts[4], 0, "{policy:?}");
            assert!(counts[1] > 350 && counts[3] > 350, "{policy:?}: {counts:?}");
        }
    }

    #[test]
    fn round_robin_takes_turns_by_weight() {
        let mut balancer =
            LoadBalancer::new(LoadBalancerPolicy::RoundRobin, &[(0, 2), (1, 4), (2, 6)], 3);
        assert_eq!(counts(&mut balancer, 600, 3), vec![100, 200, 300]);
    }

    #[test]
    fn random_follows_weights() {
        let mut balancer = LoadBalancer::new(LoadBalancerPolicy::Random, &[(0, 1), (1, 9)], 0);
        let counts = counts(&mut balancer, 10_000, 2);
        assert!((800..1200).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn least_request_prefers_the_idle_one() {
        let mut balancer =
            LoadBalancer::new(LoadBalancerPolicy::LeastRequest, &[(0, 1), (1, 1)], 0);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100 {
            let load = |position| if position == 0 { 5 } else { 0 };
            assert_eq!(balancer.pick(&mut random, load, |_| false), Some(1));
        }
    }

    #[test]
    fn avoided_positions_come_only_when_all_are_avoided() {
        let endpoints = [(0, 1), (1, 1), (2, 1)];
        for policy in [LoadBalancerPolicy::LeastRequest, LoadBalancerPolicy::RoundRobin] {
            let mut balancer = LoadBalancer::new(policy, &endpoints, 0);
            let mut random = fastrand::Rng::with_seed(7);
            for _ in 0..100 {
                let picked = balancer.pick(&mut random, |_| 0, |position| position != 2);
                assert_eq!(picked, Some(2));
                assert!(balancer.pick(&mut random, |_| 0, |_| true).is_some());
            }
        }
    }
}
