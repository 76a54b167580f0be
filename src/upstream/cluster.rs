//! The clusters of a snapshot with one worker's state beside each.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::pool::EndpointPool;
use super::selection::{EndpointState, Pick, Selection};
use super::shared::{SharedCluster, SharedClusters};
use crate::ids::ClusterId;
use crate::metrics::ClusterGauges;
use crate::snapshot::{Cluster, HashTable, Snapshot, Warmup};

/// One cluster on one worker.
pub struct ClusterState {
    name: String,
    pools: Vec<Rc<EndpointPool>>,
    selection: RefCell<Selection>,
    hash_table: Option<HashTable>,
    shared: Option<Arc<SharedCluster>>,
    /// Changes of the outlier detection that the selection knows.
    seen_changes: Cell<u64>,
    /// Some endpoint is in its slow start: the selection changes with time.
    warming: Cell<bool>,
}

impl ClusterState {
    fn new(
        cluster: &Cluster,
        shared: Option<&Arc<SharedCluster>>,
        pools: Vec<Rc<EndpointPool>>,
        now_ms: u64,
        start: usize,
    ) -> ClusterState {
        let state = ClusterState {
            name: cluster.name.clone(),
            pools,
            selection: RefCell::default(),
            hash_table: cluster.consistent_hash.as_ref().map(|hash| hash.table.clone()),
            shared: shared.map(Arc::clone),
            seen_changes: Cell::new(0),
            warming: Cell::new(false),
        };
        state.select(cluster, now_ms, start);
        state
    }

    /// Look anew at which endpoints may be picked.
    fn select(&self, cluster: &Cluster, now_ms: u64, start: usize) {
        let detector = self.shared.as_ref().and_then(|shared| shared.detector.as_ref());
        if let Some(detector) = detector {
            // Before the look: a change meanwhile is seen by the next.
            self.seen_changes.set(detector.changes());
        }
        self.warming.set(false);
        let state = |position: usize| EndpointState {
            ejected: detector.is_some_and(|detector| detector.is_ejected(position)),
            warmth: match (&cluster.warmup, self.pools.get(position)) {
                (Some(warmup), Some(pool)) => {
                    let warmth = warmth(warmup, pool.age_ms(now_ms));
                    if warmth < 1.0 {
                        self.warming.set(true);
                    }
                    warmth
                }
                _ => 1.0,
            },
        };
        let panic_percent =
            cluster.outlier_detection.as_ref().map_or(0, |settings| settings.panic_percent);
        let selection = Selection::new(cluster, state, panic_percent, start);
        *self.selection.borrow_mut() = selection;
    }

    /// Pick an endpoint of `cluster`, which this is the state of: its position and its pool.
    pub fn pick(
        &self,
        cluster: &Cluster,
        random: &mut fastrand::Rng,
        pick: &Pick<'_>,
        now_ms: u64,
    ) -> Option<(usize, &Rc<EndpointPool>)> {
        if let Some(detector) = self.shared.as_ref().and_then(|shared| shared.detector.as_ref())
            && detector.changes() != self.seen_changes.get()
        {
            self.select(cluster, now_ms, random.usize(..));
        }
        let position = self.selection.borrow_mut().pick(
            random,
            pick,
            |position| self.pools[position].active_requests(),
            self.hash_table.as_ref(),
        )?;
        Some((position, &self.pools[position]))
    }

    /// Called every now and then: endpoints that are new get more of their weight.
    pub fn warm(&self, cluster: &Cluster, now_ms: u64, random: &mut fastrand::Rng) {
        if self.warming.get() {
            self.select(cluster, now_ms, random.usize(..));
        }
    }

    /// What it shares with the other workers, if it has limits or outlier detection.
    #[inline]
    pub fn shared(&self) -> Option<&Arc<SharedCluster>> {
        self.shared.as_ref()
    }

    /// What is open to it now, on this worker.
    pub fn gauges(&self) -> ClusterGauges {
        let mut gauges = ClusterGauges::default();
        for pool in &self.pools {
            let active = u64::from(pool.active_requests());
            let http2 = pool.http2().open_count() as u64;
            gauges.requests_active += active;
            gauges.idle += pool.idle_connections() as u64;
            gauges.http2 += http2;
            if http2 > 0 {
                gauges.http2_requests += active;
            }
        }
        if let Some(detector) = self.shared.as_ref().and_then(|shared| shared.detector.as_ref()) {
            let positions = 0..self.pools.len();
            gauges.ejected = positions.filter(|at| detector.is_ejected(*at)).count() as u64;
        }
        gauges
    }

    /// The pools, in the order of the cluster's endpoints.
    pub fn pools(&self) -> &[Rc<EndpointPool>] {
        &self.pools
    }
}

/// Share of its weight that an endpoint of this age gets (Envoy's slow start).
fn warmth(warmup: &Warmup, age_ms: u64) -> f64 {
    if age_ms >= warmup.duration_ms {
        return 1.0;
    }
    let elapsed = age_ms.max(1) as f64 / warmup.duration_ms as f64;
    elapsed.powf(1.0 / warmup.aggression).max(warmup.minimum).min(1.0)
}

/// All clusters of a snapshot on one worker; index: [`ClusterId`].
#[derive(Default)]
pub struct ClusterStates(Vec<ClusterState>);

impl ClusterStates {
    /// The states for `snapshot` at worker time `now_ms`. Endpoints that `previous` knew in the same
    /// cluster keep their connections, if these are in the TLS that is asked for now, or in clear text as
    /// before; the pools of the others go when the last request that uses them ends.
    pub fn new(
        snapshot: &Snapshot,
        shared: &SharedClusters,
        previous: Option<&ClusterStates>,
        random: &mut fastrand::Rng,
        now_ms: u64,
    ) -> ClusterStates {
        let mut kept: HashMap<(&str, SocketAddr), &Rc<EndpointPool>> = HashMap::new();
        for cluster in previous.into_iter().flat_map(|states| &states.0) {
            for pool in &cluster.pools {
                kept.insert((&cluster.name, pool.address()), pool);
            }
        }
        let state = |(index, cluster): (usize, &Cluster)| {
            let pools: Vec<Rc<EndpointPool>> = cluster
                .endpoints
                .iter()
                .map(|endpoint| {
                    let tls = cluster.tls.as_ref().map(|tls| &tls.side);
                    match kept.get(&(cluster.name.as_str(), endpoint.address)) {
                        Some(pool) if pool.is_of(tls) => Rc::clone(pool),
                        Some(pool) => Rc::new(pool.successor().with_tls(tls)),
                        None => Rc::new(EndpointPool::new(endpoint.address, now_ms).with_tls(tls)),
                    }
                })
                .collect();
            let shared = shared.get(ClusterId(index as u32));
            ClusterState::new(cluster, shared, pools, now_ms, random.usize(..))
        };
        ClusterStates(snapshot.clusters.iter().enumerate().map(state).collect())
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
                group: 0,
                metric_slot: MetricSlot::UNKNOWN,
            })
            .collect();
        let cluster = Cluster {
            name: "outbound|80||hello.default.svc.cluster.local".into(),
            connect_timeout: Duration::from_secs(10),
            load_balancer: LoadBalancerPolicy::RoundRobin,
            endpoints,
            ..Cluster::default()
        };
        Snapshot { clusters: vec![cluster], ..Snapshot::default() }
    }

    fn states(snapshot: &Snapshot, previous: Option<&ClusterStates>, now_ms: u64) -> ClusterStates {
        let mut random = fastrand::Rng::with_seed(1);
        ClusterStates::new(snapshot, &SharedClusters::default(), previous, &mut random, now_ms)
    }

    fn pick(states: &ClusterStates, snapshot: &Snapshot) -> Option<(usize, u16)> {
        let mut random = fastrand::Rng::with_seed(1);
        let any = Pick { tried: &[], avoid_tried: true, elsewhere: false, hash: None };
        let picked = states.get(ClusterId(0)).pick(&snapshot.clusters[0], &mut random, &any, 0);
        picked.map(|(position, pool)| (position, pool.address().port()))
    }

    #[test]
    fn new_endpoints_warm_up() {
        let warmup = |minimum, aggression| Warmup { duration_ms: 1000, minimum, aggression };
        for (warmup, age_ms, expected) in [
            (warmup(0.1, 1.0), 0, 0.1),
            (warmup(0.1, 1.0), 500, 0.5),
            (warmup(0.1, 1.0), 1000, 1.0),
            (warmup(0.0, 2.0), 250, 0.5),
            (warmup(0.0, 0.5), 500, 0.25),
            (warmup(1.0, 1.0), 0, 1.0),
        ] {
            assert!((warmth(&warmup, age_ms) - expected).abs() < 1e-9, "{warmup:?} {age_ms}");
        }
        let mut before = snapshot(&[(1, true)]);
        before.clusters[0].warmup = Some(Box::new(warmup(0.1, 1.0)));
        let first = states(&before, None, 0);
        let mut snapshot = snapshot(&[(1, true), (2, true)]);
        snapshot.clusters[0].warmup = before.clusters[0].warmup.clone();
        let second = states(&snapshot, Some(&first), 5000);
        let cluster = second.get(ClusterId(0));
        let mut random = fastrand::Rng::with_seed(1);
        let any = Pick { tried: &[], avoid_tried: true, elsewhere: false, hash: None };
        let mut share = |now_ms| {
            cluster.warm(&snapshot.clusters[0], now_ms, &mut random);
            let pick = |_| cluster.pick(&snapshot.clusters[0], &mut random, &any, now_ms);
            (0..1100).map(pick).filter(|picked| picked.is_some_and(|(at, _)| at == 1)).count()
        };
        assert_eq!([share(5000), share(5500), share(7000)], [100, 367, 550]);
    }

    #[test]
    fn pools_survive_a_reload_that_keeps_the_endpoint() {
        let first = states(&snapshot(&[(1, true), (2, true)]), None, 0);
        let second = states(&snapshot(&[(2, true), (3, true)]), Some(&first), 0);
        let old = &first.get(ClusterId(0)).pools()[1];
        assert!(Rc::ptr_eq(old, &second.get(ClusterId(0)).pools()[0]));
        assert_eq!(second.get(ClusterId(0)).pools()[1].address().port(), 3);
    }

    #[test]
    fn the_idle_connections_of_an_endpoint_that_goes_are_closed_and_counted() {
        use crate::net::runtime::{self, DriverChoice};
        use crate::net::{BufferPool, FuturePool};
        use crate::upstream::{CheckedIn, Connection};
        let (driver, _) = runtime::Driver::choose(DriverChoice::Auto).expect("epoll at least");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let port = address.port();
        let closed = runtime::run(driver, async {
            let (receives, buffers) = (FuturePool::new(), BufferPool::default());
            let mut connections = Vec::new();
            for _ in 0..2 {
                let stream =
                    crate::net::connect::connect(address, Duration::from_secs(10), driver, None)
                        .await
                        .expect("it listens");
                connections.push(Connection::new(stream, &receives, buffers.take(), 0));
            }
            let first = states(&snapshot(&[(port, true), (1, true)]), None, 0);
            let pool = Rc::clone(&first.get(ClusterId(0)).pools()[0]);
            let mut connections = connections.into_iter();
            let kept = pool.check_in(connections.next().expect("two were made"), 0);
            assert_eq!(kept, CheckedIn::Idle);
            let same = states(&snapshot(&[(port, true)]), Some(&first), 0);
            let kept = (first.retire_all_but(&same), pool.idle_connections());
            let other = states(&snapshot(&[(1, true)]), Some(&same), 0);
            let gone = (same.retire_all_but(&other), pool.idle_connections());
            // A request that was under way brings its connection back: it is not kept.
            let late = pool.check_in(connections.next().expect("two were made"), 0);
            (kept, gone, late)
        })
        .expect("the runtime works");
        assert_eq!(closed, ((0, 1), (1, 0), CheckedIn::Closed));
    }

    #[test]
    fn unhealthy_endpoints_are_known_but_not_picked() {
        let some = snapshot(&[(1, false), (2, true)]);
        let known = states(&some, None, 0);
        assert_eq!(known.get(ClusterId(0)).pools().len(), 2);
        for _ in 0..10 {
            assert_eq!(pick(&known, &some), Some((1, 2)));
        }
        let none = snapshot(&[(1, false)]);
        assert_eq!(pick(&states(&none, None, 0), &none), None);
    }

    #[test]
    fn ejected_endpoints_are_passed_over_at_once() {
        use crate::snapshot::OutlierDetection;
        use crate::upstream::Outcome;
        let mut snapshot = snapshot(&[(1, true), (2, true)]);
        snapshot.clusters[0].outlier_detection = Some(Box::new(OutlierDetection {
            consecutive_5xx: 1,
            ejected_percent_max: 100,
            ..OutlierDetection::default()
        }));
        let shared = SharedClusters::new(&snapshot, &SharedClusters::default());
        let mut random = fastrand::Rng::with_seed(1);
        let states = ClusterStates::new(&snapshot, &shared, None, &mut random, 0);
        let shared = shared.get(ClusterId(0)).expect("outlier detection is shared");
        let detector = shared.detector.as_ref().expect("it has one");
        assert!(detector.report(0, Outcome::Failed, || 0));
        for _ in 0..10 {
            assert_eq!(pick(&states, &snapshot), Some((1, 2)));
        }
        assert!(detector.report(1, Outcome::Response(500), || 0));
        assert_eq!(pick(&states, &snapshot), None, "both are out");
        assert_eq!(detector.sweep(0), 2);
        assert!(pick(&states, &snapshot).is_some());
    }
}
