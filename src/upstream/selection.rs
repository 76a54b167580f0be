//! Which endpoints of a cluster may be picked at present, and how the load is divided among their
//! groups: localities and priorities (Istio's `localityLbSetting`), ejections, slow start. Made anew when
//! one of these changes; a request only reads it.

use super::load_balancer::LoadBalancer;
use crate::snapshot::{Cluster, Endpoint, Grouping, HashTable, consistent_hash};

/// Envoy's overprovisioning: a group takes its whole load until fewer than 1 / 1.4 of it are healthy.
const OVERPROVISION_PERCENT: u64 = 140;
/// An endpoint that may not be picked.
const NOWHERE: u16 = u16::MAX;

/// What can be told of an endpoint now.
#[derive(Clone, Copy, Debug)]
pub struct EndpointState {
    /// It is out (outlier detection).
    pub ejected: bool,
    /// Share of its weight that it is ready for, above 0, at most 1.
    pub warmth: f64,
}

/// The endpoints of a cluster that may be picked.
#[derive(Debug, Default)]
pub struct Selection {
    /// Groups that may be picked from, in order.
    groups: Vec<Group>,
    total_load: u64,
    /// The group of each endpoint.
    group_of: Vec<u16>,
}

#[derive(Debug)]
struct Group {
    number: u16,
    /// Running sum of the loads.
    load_until: u64,
    balancer: LoadBalancer,
}

/// What a pick depends on.
pub struct Pick<'p> {
    /// Positions that this request has tried.
    pub tried: &'p [usize],
    /// Pass over those while another can be found.
    pub avoid_tried: bool,
    /// Prefer groups that were not tried (`retryRemoteLocalities`).
    pub elsewhere: bool,
    /// The hash of the request's key, if it has one.
    pub hash: Option<u64>,
}

impl Selection {
    /// For the endpoints of `cluster` in these states. `start` is where a round robin begins.
    pub fn new(
        cluster: &Cluster,
        state: impl Fn(usize) -> EndpointState,
        panic_percent: u32,
        start: usize,
    ) -> Selection {
        let states: Vec<EndpointState> = (0..cluster.endpoints.len()).map(state).collect();
        let warming = states.iter().any(|state| state.warmth < 1.0);
        let groups = match &cluster.grouping {
            Grouping::One => 1,
            Grouping::Priorities => {
                cluster.endpoints.iter().map(|endpoint| endpoint.group + 1).max().unwrap_or(0)
            }
            Grouping::Shares(shares) => shares.len() as u16,
        };
        let of_group = |endpoint: &Endpoint, number: u16| {
            endpoint.healthy && (cluster.grouping == Grouping::One || endpoint.group == number)
        };
        let healths: Vec<Health> = (0..groups)
            .map(|number| {
                let members = cluster.endpoints.iter().zip(&states);
                let members = members.filter(|(endpoint, _)| of_group(endpoint, number));
                let mut health = Health::default();
                for (_, state) in members {
                    health.total += 1;
                    health.in_use += u64::from(!state.ejected);
                }
                health
            })
            .collect();
        let loads = match &cluster.grouping {
            Grouping::Shares(shares) => loads_by_share(&healths, shares, panic_percent),
            _ => loads_by_priority(&healths, panic_percent),
        };
        let mut selection =
            Selection { groups: Vec::new(), total_load: 0, group_of: vec![NOWHERE; states.len()] };
        for (number, Load { load, panics }) in loads.into_iter().enumerate() {
            let number = number as u16;
            let members: Vec<(usize, u32)> = cluster
                .endpoints
                .iter()
                .enumerate()
                .filter(|(position, endpoint)| {
                    of_group(endpoint, number) && (panics || !states[*position].ejected)
                })
                .map(|(position, endpoint)| {
                    let weight = f64::from(endpoint.weight) * states[position].warmth * 100.0;
                    (position, if warming { (weight as u32).max(1) } else { endpoint.weight })
                })
                .collect();
            // A priority without load now may still take retries.
            let spare = cluster.grouping == Grouping::Priorities;
            if members.is_empty() || load == 0 && !spare {
                continue;
            }
            selection.total_load += load;
            for (position, _) in &members {
                selection.group_of[*position] = number;
            }
            selection.groups.push(Group {
                number,
                load_until: selection.total_load,
                balancer: LoadBalancer::new(cluster.load_balancer, &members, start),
            });
        }
        selection
    }

    /// Pick the position of an endpoint, `None` when there is none. `load` tells the active requests
    /// of a position; `table` is where a hash leads.
    pub fn pick(
        &mut self,
        random: &mut fastrand::Rng,
        pick: &Pick<'_>,
        load: impl Fn(usize) -> u32,
        table: Option<&HashTable>,
    ) -> Option<usize> {
        let index = self.group(random, pick)?;
        let avoid = |position| pick.avoid_tried && pick.tried.contains(&position);
        if let (Some(hash), Some(table)) = (pick.hash, table) {
            let number = self.groups[index].number;
            let usable = |position: usize| self.group_of.get(position) == Some(&number);
            // Where one was tried already the next hash of the same row decides (as Envoy re-picks).
            let others = (1..=5).map(|number| consistent_hash::combine(hash, number));
            let mut found =
                std::iter::once(hash).chain(others).map(|hash| table.find_where(hash, usable));
            let first = found.next().flatten()?;
            if !avoid(first) {
                return Some(first);
            }
            return Some(found.flatten().find(|position| !avoid(*position)).unwrap_or(first));
        }
        self.groups[index].balancer.pick(random, load, avoid)
    }

    /// Which of `groups` gets the request.
    fn group(&self, random: &mut fastrand::Rng, pick: &Pick<'_>) -> Option<usize> {
        if self.groups.len() < 2 || self.total_load == 0 {
            return if self.total_load == 0 { None } else { Some(0) };
        }
        if pick.elsewhere && !pick.tried.is_empty() {
            let tried = |group: &Group| {
                pick.tried
                    .iter()
                    .any(|position| self.group_of.get(*position) == Some(&group.number))
            };
            if let Some(index) = self.groups.iter().position(|group| !tried(group)) {
                return Some(index);
            }
        }
        let ticket = match pick.hash {
            Some(hash) => hash % self.total_load,
            None => random.u64(..self.total_load),
        };
        Some(self.groups.partition_point(|group| group.load_until <= ticket))
    }
}

/// The endpoints of a group: those that are ready, and those of them that are not ejected.
#[derive(Clone, Copy, Debug, Default)]
struct Health {
    total: u64,
    in_use: u64,
}

impl Health {
    /// Percent of its load that the group can take.
    fn capacity(self) -> u64 {
        (self.in_use * OVERPROVISION_PERCENT).checked_div(self.total).unwrap_or(0).min(100)
    }

    /// Are so few left that all are used (Envoy's panic)?
    fn panics(self, panic_percent: u32) -> bool {
        self.total > 0 && self.in_use * 100 < self.total * u64::from(panic_percent)
    }
}

/// The load of a group; with `panics`, its ejected endpoints are used too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Load {
    load: u64,
    panics: bool,
}

/// Each priority gets what those before it cannot take (Envoy's priority levels).
fn loads_by_priority(healths: &[Health], panic_percent: u32) -> Vec<Load> {
    let together: u64 = healths.iter().map(|health| health.capacity()).sum::<u64>().min(100);
    if together == 100 {
        let mut left = 100;
        return healths
            .iter()
            .map(|health| {
                let load = health.capacity().min(left);
                left -= load;
                Load { load, panics: false }
            })
            .collect();
    }
    // They cannot take all of it: what they can is scaled up. Those that panic use all they have.
    let panics: Vec<bool> = healths.iter().map(|health| health.panics(panic_percent)).collect();
    if panics.iter().all(|panics| *panics) || together == 0 {
        // Envoy divides by the number of endpoints then.
        let by_number =
            |(health, panics): (&Health, &bool)| Load { load: health.total, panics: *panics };
        return healths.iter().zip(&panics).map(by_number).collect();
    }
    let scaled = |(health, panics): (&Health, &bool)| Load {
        load: health.capacity() * 100 / together,
        panics: *panics,
    };
    healths.iter().zip(&panics).map(scaled).collect()
}

/// Each locality gets its share, less what its ejected endpoints cannot take (Envoy's locality weights).
fn loads_by_share(healths: &[Health], shares: &[u32], panic_percent: u32) -> Vec<Load> {
    let mut all = Health::default();
    for health in healths {
        all.total += health.total;
        all.in_use += health.in_use;
    }
    let panics = all.capacity() < 100 && all.panics(panic_percent);
    let load = |(health, share): (&Health, &u32)| {
        let capacity = if panics { 100 } else { health.capacity() };
        Load { load: u64::from(*share) * capacity, panics }
    };
    healths.iter().zip(shares).map(load).collect()
}

#[cfg(test)]
mod tests;
