//! The clusters of a snapshot with one worker's state beside each.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;

use super::load_balancer::LoadBalancer;
use super::pool::EndpointPool;
use crate::ids::ClusterId;
use crate::snapshot::{Cluster, HashTable, Snapshot, consistent_hash};

/// One cluster on one worker.
pub struct ClusterState {
    name: String,
    pools: Vec<Rc<EndpointPool>>,
    balancer: RefCell<LoadBalancer>,
    hash_table: Option<HashTable>,
}

impl ClusterState {
    /// Pick an endpoint: its position in the cluster and its pool. `avoid` holds the positions that
    /// were tried already; `hash` is what a cluster with a consistent hash picks by.
    pub fn pick(
        &self,
        random: &mut fastrand::Rng,
        avoid: &[usize],
        hash: Option<u64>,
    ) -> Option<(usize, &Rc<EndpointPool>)> {
        if let (Some(hash), Some(table)) = (hash, &self.hash_table) {
            // Where one was tried already the next hash of the same row decides (as Envoy re-picks).
            let others = (1..=5).map(|number| consistent_hash::combine(hash, number));
            let mut found = std::iter::once(hash).chain(others).map(|hash| table.find(hash));
            let first = found.next().flatten()?;
            let position = if avoid.contains(&first) {
                found.flatten().find(|position| !avoid.contains(position)).unwrap_or(first)
            } else {
                first
            };
            return self.pools.get(position).map(|pool| (position, pool));
        }
        let position = self.balancer.borrow_mut().pick(
            random,
            |position| self.pools[position].active_requests(),
            |position| avoid.contains(&position),
        )?;
        Some((position, &self.pools[position]))
    }

    /// The pools, in the order of the cluster's endpoints.
    pub fn pools(&self) -> &[Rc<EndpointPool>] {
        &self.pools
    }
}

/// All clusters of a snapshot on one worker; index: [`ClusterId`].
#[derive(Default)]
pub struct ClusterStates(Vec<ClusterState>);

impl ClusterStates {
    /// The states for `snapshot`. Endpoints that `previous` knew in the same cluster keep their
    /// connections; the pools of the others go when the last request that uses them ends.
    pub fn new(
        snapshot: &Snapshot,
        previous: Option<&ClusterStates>,
        random: &mut fastrand::Rng,
    ) -> ClusterStates {
        let mut kept: HashMap<(&str, SocketAddr), &Rc<EndpointPool>> = HashMap::new();
        for cluster in previous.into_iter().flat_map(|states| &states.0) {
            for pool in &cluster.pools {
                kept.insert((&cluster.name, pool.address()), pool);
            }
        }
        let state = |cluster: &Cluster, random: &mut fastrand::Rng| {
            let pools: Vec<Rc<EndpointPool>> = cluster
                .endpoints
                .iter()
                .map(|endpoint| match kept.get(&(cluster.name.as_str(), endpoint.address)) {
                    Some(pool) => Rc::clone(pool),
                    None => Rc::new(EndpointPool::new(endpoint.address)),
                })
                .collect();
            let usable: Vec<(usize, u32)> = cluster
                .endpoints
                .iter()
                .enumerate()
                .filter(|(_, endpoint)| endpoint.healthy)
                .map(|(position, endpoint)| (position, endpoint.weight))
                .collect();
            let start = random.usize(..);
            let balancer = LoadBalancer::new(cluster.load_balancer, &usable, start);
            let hash = cluster.consistent_hash.as_ref();
            ClusterState {
                name: cluster.name.clone(),
                pools,
                balancer: RefCell::new(balancer),
                hash_table: hash.map(|hash| hash.table.clone()),
            }
        };
        ClusterStates(snapshot.clusters.iter().map(|cluster| state(cluster, random)).collect())
    }

    /// Retire the pools that `next`, made from these, does not have. Returns how many idle
    /// connections were closed.
    pub fn retire_all_but(&self, next: &ClusterStates) -> u64 {
        let kept: HashSet<*const EndpointPool> =
            next.0.iter().flat_map(|cluster| &cluster.pools).map(Rc::as_ptr).collect();
        self.0
            .iter()
            .flat_map(|cluster| &cluster.pools)
            .filter(|pool| !kept.contains(&Rc::as_ptr(pool)))
            .map(|pool| pool.retire())
            .sum()
    }

    /// The state of a cluster.
    pub fn get(&self, id: ClusterId) -> &ClusterState {
        &self.0[id.index()]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &ClusterState> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MetricSlot;
    use crate::snapshot::{Endpoint, LoadBalancerPolicy};
    use std::time::Duration;

    fn snapshot(ports: &[(u16, bool)]) -> Snapshot {
        let endpoints = ports
            .iter()
            .map(|(port, healthy)| Endpoint {
                address: SocketAddr::from(([127, 0, 0, 1], *port)),
                weight: 1,
                healthy: *healthy,
                metric_slot: MetricSlot::UNKNOWN,
            })
            .collect();
        let cluster = Cluster {
            name: "outbound|80||hello.default.svc.cluster.local".into(),
            connect_timeout: Duration::from_secs(10),
            idle_timeout_ms: None,
            requests_per_connection_max: 0,
            load_balancer: LoadBalancerPolicy::RoundRobin,
            consistent_hash: None,
            endpoints,
            resolved: None,
            metric_slot: MetricSlot::UNKNOWN,
        };
        Snapshot { clusters: vec![cluster], ..Snapshot::default() }
    }

    #[test]
    fn pools_survive_a_reload_that_keeps_the_endpoint() {
        let mut random = fastrand::Rng::with_seed(1);
        let first = ClusterStates::new(&snapshot(&[(1, true), (2, true)]), None, &mut random);
        let second =
            ClusterStates::new(&snapshot(&[(2, true), (3, true)]), Some(&first), &mut random);
        let old = &first.get(ClusterId(0)).pools()[1];
        assert!(Rc::ptr_eq(old, &second.get(ClusterId(0)).pools()[0]));
        assert_eq!(second.get(ClusterId(0)).pools()[1].address().port(), 3);
    }

    #[test]
    fn the_idle_connections_of_an_endpoint_that_goes_are_closed_and_counted() {
        use crate::net::runtime::{self, DriverChoice};
        use crate::net::{BufferPool, FuturePool};
        use crate::upstream::Connection;
        let (driver, _) = runtime::Driver::choose(DriverChoice::Auto).expect("epoll at least");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let port = address.port();
        let closed = runtime::run(driver, async {
            let (receives, buffers) = (FuturePool::new(), BufferPool::default());
            let mut connections = Vec::new();
            for _ in 0..2 {
                let stream = crate::net::connect::connect(address, Duration::from_secs(10), driver)
                    .await
                    .expect("it listens");
                connections.push(Connection::new(stream, &receives, buffers.take()));
            }
            let mut random = fastrand::Rng::with_seed(1);
            let first =
                ClusterStates::new(&snapshot(&[(port, true), (1, true)]), None, &mut random);
            let pool = Rc::clone(&first.get(ClusterId(0)).pools()[0]);
            let mut connections = connections.into_iter();
            assert!(pool.check_in(connections.next().expect("two were made"), 0));
            let same = ClusterStates::new(&snapshot(&[(port, true)]), Some(&first), &mut random);
            let kept = (first.retire_all_but(&same), pool.idle_connections());
            let other = ClusterStates::new(&snapshot(&[(1, true)]), Some(&same), &mut random);
            let gone = (same.retire_all_but(&other), pool.idle_connections());
            // A request that was under way brings its connection back: it is not kept.
            let late = pool.check_in(connections.next().expect("two were made"), 0);
            (kept, gone, late)
        })
        .expect("the runtime works");
        assert_eq!(closed, ((0, 1), (1, 0), false));
    }

    #[test]
    fn unhealthy_endpoints_are_known_but_not_picked() {
        let mut random = fastrand::Rng::with_seed(1);
        let states = ClusterStates::new(&snapshot(&[(1, false), (2, true)]), None, &mut random);
        let cluster = states.get(ClusterId(0));
        assert_eq!(cluster.pools().len(), 2);
        for _ in 0..10 {
            let (position, pool) = cluster.pick(&mut random, &[], None).expect("one is healthy");
            assert_eq!((position, pool.address().port()), (1, 2));
        }
        let states = ClusterStates::new(&snapshot(&[(1, false)]), None, &mut random);
        assert!(states.get(ClusterId(0)).pick(&mut random, &[], None).is_none());
    }
}
