//! Consistent hashing: what of a request is hashed, and the table that turns a hash into an endpoint
//! (Istio's `consistentHash`, Envoy's ring hash and Maglev). Built once by the compiler, only read by the
//! workers. The layout is ours: what counts is that a key stays where it is and that few move when an
//! endpoint comes or goes.

use std::net::SocketAddr;
use std::sync::Arc;

/// A cluster's consistent hash.
#[derive(Clone, Debug)]
pub struct ConsistentHash {
    /// What is hashed.
    pub key: HashKey,
    /// Where a hash leads.
    pub table: HashTable,
}

/// What of a request is hashed. A request that lacks it goes anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// The values of a field, in any order; its name in lower case.
    Header(Box<str>),
    /// The value of a cookie.
    Cookie(Box<HashCookie>),
    /// The client's address without its port.
    SourceAddress,
    /// The first value of a query parameter.
    QueryParameter(Box<str>),
}

/// A cookie to hash, and how it is given out when a client has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HashCookie {
    /// Its name.
    pub name: Box<str>,
    /// What follows the value in `set-cookie`; none: it is not given out.
    pub attributes: Option<Box<str>>,
}

/// Where a hash leads: positions of endpoints.
#[derive(Clone, Debug)]
pub enum HashTable {
    /// Points on a ring, ascending, with the endpoint that each belongs to.
    Ring(Arc<[(u64, u32)]>),
    /// One endpoint per slot.
    Maglev(Arc<[u32]>),
}

/// Most points that are asked for (Envoy's `maximum_ring_size` is 8 Mi).
const RING_MAX: usize = 1 << 20;

impl HashTable {
    /// A ring of at least `least` points for `endpoints` given as (position, address, weight).
    pub fn ring(endpoints: &[(u32, SocketAddr, u32)], least: usize) -> HashTable {
        let total: u64 = endpoints.iter().map(|(.., weight)| u64::from((*weight).max(1))).sum();
        let size = least.clamp(endpoints.len(), RING_MAX) as u64;
        // A power of two for each unit of weight: the points of an endpoint stay as they are when
        // others come and go, until their number doubles or halves.
        let unit = size.div_ceil(total.max(1)).next_power_of_two();
        let mut points = Vec::new();
        for (position, address, weight) in endpoints {
            let weight = u64::from((*weight).max(1));
            let share = if total <= RING_MAX as u64 {
                weight * unit
            } else {
                (weight * RING_MAX as u64 / total).max(1)
            };
            let key = hash(address.to_string().as_bytes());
            points.extend((0..share).map(|point| (combine(key, point), *position)));
        }
        points.sort_unstable();
        HashTable::Ring(points.into())
    }

    /// A Maglev table of `size` slots (a prime) for `endpoints` given as (position, address, weight).
    pub fn maglev(endpoints: &[(u32, SocketAddr, u32)], size: usize) -> HashTable {
        let most = endpoints.iter().map(|(.., weight)| (*weight).max(1)).max().unwrap_or(1);
        // Every endpoint walks the slots in an order of its own and takes the next free one.
        let mut walks: Vec<(u64, u64, u64, f64)> = endpoints
            .iter()
            .map(|(_, address, _)| {
                let key = hash(address.to_string().as_bytes());
                let slots = size as u64;
                (key % slots.max(1), combine(key, 1) % slots.saturating_sub(1).max(1) + 1, 0, 0.0)
            })
            .collect();
        let mut slots = vec![u32::MAX; size];
        let mut free = if endpoints.is_empty() { 0 } else { size };
        while free > 0 {
            for ((position, _, weight), walk) in endpoints.iter().zip(&mut walks) {
                // The heaviest takes a slot each turn, the others their share of turns.
                walk.3 += f64::from((*weight).max(1)) / f64::from(most);
                if walk.3 < 1.0 || free == 0 {
                    continue;
                }
                walk.3 -= 1.0;
                let mut slot = None;
                while slot.is_none() && walk.2 < size as u64 {
                    let next = ((walk.0 + walk.2 * walk.1) % size as u64) as usize;
                    walk.2 += 1;
                    slot = Some(next).filter(|next| slots[*next] == u32::MAX);
                }
                // A walk reaches every slot when their number is a prime; else any free one will do.
                let any = || slots.iter().position(|slot| *slot == u32::MAX);
                if let Some(slot) = slot.or_else(any) {
                    slots[slot] = *position;
                    free -= 1;
                }
            }
        }
        if endpoints.is_empty() {
            slots.clear();
        }
        HashTable::Maglev(slots.into())
    }

    /// The endpoint of a hash, of those that are `usable`: the next one behind a place that leads to
    /// one that is not. None when there is none.
    pub fn find_where(&self, hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match self {
            HashTable::Ring(points) => {
                let at = points.partition_point(|(point, _)| *point < hash);
                let (before, behind) = points.split_at_checked(at)?;
                behind
                    .iter()
                    .chain(before)
                    .map(|(_, position)| *position as usize)
                    .find(|position| usable(*position))
            }
            HashTable::Maglev(slots) => {
                let at = (hash % (slots.len() as u64).max(1)) as usize;
                let (before, behind) = slots.split_at_checked(at)?;
                behind
                    .iter()
                    .chain(before)
                    .map(|position| *position as usize)
                    .find(|position| usable(*position))
            }
        }
    }
}

/// 64 bits of `bytes`, the same on every machine: FNV-1a, then mixed.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        state = (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(state)
}

/// Another hash for the `number`-th try with one.
pub fn combine(hash: u64, number: u64) -> u64 {
    mix(hash.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut state: u64) -> u64 {
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^= state >> 33;
    state = state.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<(u32, SocketAddr, u32)> {
        let all = weights.iter().enumerate();
        all.map(|(at, weight)| {
            (at as u32, SocketAddr::from(([10, 0, 0, at as u8 + 1], 80)), *weight)
        })
        .collect()
    }

    fn find(table: &HashTable, hash: u64) -> Option<usize> {
        table.find_where(hash, |_| true)
    }

    fn found(table: &HashTable) -> Vec<usize> {
        (0..10_000_u32).map(|key| find(table, hash(&key.to_le_bytes())).expect("some")).collect()
    }

    fn tables(endpoints: &[(u32, SocketAddr, u32)]) -> [HashTable; 2] {
        [HashTable::ring(endpoints, 1024), HashTable::maglev(endpoints, 65537)]
    }

    #[test]
    fn keys_spread_by_weight() {
        for (table, slack) in tables(&endpoints(&[1, 1, 2])).into_iter().zip([0.25, 0.1]) {
            let found = found(&table);
            for (position, share) in [(0, 0.25), (1, 0.25), (2, 0.5)] {
                let got = found.iter().filter(|at| **at == position).count() as f64 / 10_000.0;
                assert!((got - share).abs() < share * slack, "{position}: {got}");
            }
        }
    }

    #[test]
    fn few_keys_move_when_an_endpoint_goes() {
        let all = endpoints(&[1; 10]);
        for (before, after) in tables(&all).into_iter().zip(tables(&all[..9])) {
            let pairs = found(&before).into_iter().zip(found(&after));
            let moved = pairs.filter(|(before, after)| *before != 9 && before != after).count();
            assert!(moved < 400, "{moved} of 10,000 that had no need to");
        }
    }

    #[test]
    fn no_endpoint_no_answer() {
        for table in tables(&[]) {
            assert_eq!(find(&table, 7), None);
        }
        for size in [1, 2, 4, 100] {
            assert!(find(&HashTable::maglev(&endpoints(&[3, 1]), size), 7).is_some(), "{size}");
        }
    }
}
