use super::*;
use crate::ids::MetricSlot;
use std::net::SocketAddr;

/// Groups of the endpoints, in order.
fn cluster(grouping: Grouping, groups: &[u16]) -> Cluster {
    let endpoints = groups.iter().enumerate().map(|(at, group)| Endpoint {
        address: SocketAddr::from(([127, 0, 0, 1], at as u16 + 1)),
        weight: 1,
        healthy: true,
        group: *group,
        metric_slot: MetricSlot::UNKNOWN,
    });
    Cluster { grouping, endpoints: endpoints.collect(), ..Cluster::default() }
}

fn states(ejected: &[usize]) -> impl Fn(usize) -> EndpointState {
    |position| EndpointState { ejected: ejected.contains(&position), warmth: 1.0 }
}

fn any() -> Pick<'static> {
    Pick { tried: &[], avoid_tried: true, elsewhere: false, hash: None }
}

/// Percent of 10,000 picks that each endpoint got.
fn shares(selection: &mut Selection, endpoints: usize) -> Vec<u32> {
    let mut random = fastrand::Rng::with_seed(3);
    let mut counts = vec![0u32; endpoints];
    for _ in 0..10_000 {
        if let Some(position) = selection.pick(&mut random, &any(), |_| 0, None) {
            counts[position] += 1;
        }
    }
    counts.iter().map(|count| (count + 50) / 100).collect()
}

fn near(got: &[u32], expected: &[u32]) {
    let fits = |(got, expected): (&u32, &u32)| got.abs_diff(*expected) <= 2;
    assert!(got.iter().zip(expected).all(fits), "{got:?}, expected {expected:?}");
}

/// Endpoints, those ejected, the panic threshold → the load of each group, and whether it panics.
fn loads(groups: &[(u64, u64)], panic_percent: u32) -> Vec<(u64, bool)> {
    let healths: Vec<Health> =
        groups.iter().map(|(total, in_use)| Health { total: *total, in_use: *in_use }).collect();
    let loads = loads_by_priority(&healths, panic_percent);
    loads.into_iter().map(|load| (load.load, load.panics)).collect()
}

/// The examples of Envoy's documentation of priority levels.
#[test]
fn load_spills_over_to_the_next_priority() {
    for (in_use, expected) in [
        (100, [100, 0]),
        (72, [100, 0]),
        (71, [99, 1]),
        (50, [70, 30]),
        (25, [35, 65]),
        (0, [0, 100]),
    ] {
        let got: Vec<u64> =
            loads(&[(100, in_use), (100, 100)], 0).iter().map(|(load, _)| *load).collect();
        assert_eq!(got, expected, "{in_use} of 100 are left");
    }
    assert_eq!(loads(&[(100, 25), (100, 25)], 0), [(50, false), (50, false)], "35 and 35 of 70");
    let three = loads(&[(100, 25), (100, 25), (100, 25)], 0);
    assert_eq!(three.iter().map(|(load, _)| *load).collect::<Vec<_>>(), [35, 35, 30]);
}

#[test]
fn below_the_threshold_all_are_used() {
    assert_eq!(loads(&[(10, 4)], 50), [(10, true)]);
    assert_eq!(loads(&[(10, 5)], 50), [(100, false)], "not below");
    assert_eq!(loads(&[(10, 4)], 0), [(100, false)], "Istio's default: never");
    assert_eq!(loads(&[(10, 2), (10, 10)], 50), [(28, false), (72, false)], "another can take it");
    assert_eq!(loads(&[(10, 2), (10, 3)], 50), [(10, true), (10, true)]);
}

#[test]
fn ejected_endpoints_get_nothing_unless_in_panic() {
    let one = cluster(Grouping::One, &[0, 0, 0, 0]);
    let mut selection = Selection::new(&one, states(&[1]), 0, 0);
    near(&shares(&mut selection, 4), &[33, 0, 33, 33]);
    let mut selection = Selection::new(&one, states(&[0, 1, 2, 3]), 0, 0);
    assert_eq!(shares(&mut selection, 4), [0; 4]);
    let mut selection = Selection::new(&one, states(&[0, 1, 2]), 50, 0);
    near(&shares(&mut selection, 4), &[25; 4]);
}

#[test]
fn a_priority_takes_over_from_the_one_before() {
    let cluster = cluster(Grouping::Priorities, &[0, 0, 1, 1]);
    let mut selection = Selection::new(&cluster, states(&[]), 0, 0);
    near(&shares(&mut selection, 4), &[50, 50, 0, 0]);
    let mut selection = Selection::new(&cluster, states(&[0]), 0, 0);
    near(&shares(&mut selection, 4), &[0, 70, 15, 15]);
    let mut selection = Selection::new(&cluster, states(&[0, 1]), 0, 0);
    near(&shares(&mut selection, 4), &[0, 0, 50, 50]);
}

#[test]
fn localities_get_their_shares() {
    let mut cluster = cluster(Grouping::Shares(Box::new([80, 20])), &[0, 0, 1, 2]);
    let mut selection = Selection::new(&cluster, states(&[]), 0, 0);
    near(&shares(&mut selection, 4), &[40, 40, 20, 0]);
    // One of two: 70 % of 80 against 20.
    let mut selection = Selection::new(&cluster, states(&[0]), 0, 0);
    near(&shares(&mut selection, 4), &[0, 74, 26, 0]);
    cluster.grouping = Grouping::Shares(Box::new([0, 20]));
    let mut selection = Selection::new(&cluster, states(&[]), 0, 0);
    near(&shares(&mut selection, 4), &[0, 0, 100, 0]);
}

#[test]
fn what_is_new_gets_its_part_of_the_weight() {
    for policy in [
        crate::snapshot::LoadBalancerPolicy::RoundRobin,
        crate::snapshot::LoadBalancerPolicy::Random,
    ] {
        let mut cluster = cluster(Grouping::One, &[0, 0, 0]);
        cluster.load_balancer = policy;
        let state = |position| EndpointState {
            ejected: false,
            warmth: if position == 2 { 0.1 } else { 1.0 },
        };
        let mut selection = Selection::new(&cluster, state, 0, 0);
        near(&shares(&mut selection, 3), &[48, 48, 5]);
    }
}

#[test]
fn a_hash_stays_where_it_is_and_passes_over_what_is_out() {
    let cluster = cluster(Grouping::Priorities, &[0, 0, 0, 1]);
    let addresses: Vec<_> = cluster
        .endpoints
        .iter()
        .enumerate()
        .map(|(position, endpoint)| (position as u32, endpoint.address, 1))
        .collect();
    let mut random = fastrand::Rng::with_seed(3);
    for table in [HashTable::ring(&addresses, 1024), HashTable::maglev(&addresses, 1009)] {
        let mut all = Selection::new(&cluster, states(&[]), 0, 0);
        // Of three one: what is left, 93 %, is not all; its keys go to the others.
        let mut two = Selection::new(&cluster, states(&[1]), 0, 0);
        let (mut moved, mut spilled) = (0, 0);
        for key in 0..1000u32 {
            let hash = Some(consistent_hash::hash(&key.to_le_bytes()));
            let pick = Pick { hash, ..any() };
            let first = all.pick(&mut random, &pick, |_| 0, Some(&table)).expect("all are in");
            assert!(first != 3, "of the second priority");
            assert_eq!(all.pick(&mut random, &pick, |_| 0, Some(&table)), Some(first));
            let then = two.pick(&mut random, &pick, |_| 0, Some(&table)).expect("two are in");
            assert_ne!(then, 1);
            spilled += u32::from(then == 3);
            moved += u32::from(first != 1 && then != first && then != 3);
        }
        assert_eq!(moved, 0, "keys of endpoints that are in stay");
        assert!((20..150).contains(&spilled), "{spilled} of 1000, expected 70");
    }
}

#[test]
fn a_retry_can_prefer_another_group() {
    let cluster = cluster(Grouping::Priorities, &[0, 0, 1]);
    // The second priority has no load of its own.
    let mut selection = Selection::new(&cluster, states(&[]), 0, 0);
    let mut random = fastrand::Rng::with_seed(3);
    for _ in 0..100 {
        assert_ne!(selection.pick(&mut random, &any(), |_| 0, None), Some(2));
        let pick = Pick { tried: &[1], elsewhere: true, ..any() };
        assert_eq!(selection.pick(&mut random, &pick, |_| 0, None), Some(2));
        let pick = Pick { tried: &[1, 2], elsewhere: true, ..any() };
        assert!(selection.pick(&mut random, &pick, |_| 0, None).is_some(), "all were tried");
    }
}
