//! Graphs of a configuration and a history that were made by hand.

use super::*;
use crate::metrics::HistogramKey;
use crate::metrics::history::History;
use crate::snapshot::{Cluster, Destination, Endpoint, Forward, Route, RouteNames};
use serde_json::Value;

const SERVICE: &str = "hello.default.svc.cluster.local";

fn key(host: &str, route: &str, destination: &str) -> HistogramKey {
    HistogramKey {
        route: route.to_owned(),
        virtual_service: "default/hello".to_owned(),
        virtual_host: host.to_owned(),
        destination: destination.to_owned(),
    }
}

fn route(name: &str, action: RouteAction, own_answers: u32) -> Route {
    let names = RouteNames {
        route: name.to_owned(),
        virtual_service: "default/hello".to_owned(),
        own_answers: HistogramSlot(own_answers),
    };
    Route { action, operation: "".into(), names: Box::new(names), policy: None }
}

fn cluster(subset: &str, endpoints: &[&str]) -> Cluster {
    let endpoints = endpoints.iter().map(|address| Endpoint {
        address: address.parse().unwrap(),
        weight: 1,
        healthy: !address.starts_with("10.0.0.9"),
        group: 0,
        metric_slot: Default::default(),
    });
    Cluster {
        name: format!("outbound|80|{subset}|{SERVICE}"),
        endpoints: endpoints.collect(),
        ..Cluster::default()
    }
}

/// A canary of two subsets, a redirect, a route beyond the histograms.
fn snapshot() -> Snapshot {
    let to = |cluster: u32, weight: u32, slot: u32| Destination {
        cluster: Some(ClusterId(cluster)),
        weight,
        histogram_slot: HistogramSlot(slot),
    };
    let canary =
        Forward::Several { destinations: [to(0, 90, 2), to(1, 10, 3)].into(), total_weight: 100 };
    Snapshot {
        routes: vec![
            route("main", RouteAction::Forward(canary), 0),
            route("moved", RouteAction::Redirect(Box::default()), 4),
            route("late", RouteAction::Forward(Forward::One(to(2, 1, 1))), 0),
        ],
        clusters: vec![
            cluster("v1", &["10.0.0.1:80", "10.0.0.2:80"]),
            cluster("v2", &["10.0.0.9:80"]),
            cluster("", &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.9:80"]),
        ],
        ..Snapshot::default()
    }
}

fn view() -> LiveView {
    let mut history = History::default();
    for (slot, requests, class) in [(0, 5, 4), (2, 90, 2), (3, 10, 5), (5, 1, 2)] {
        let open = history.open(HistogramSlot(slot));
        open.add_latency(1000, requests);
        let mut classes = [0; 6];
        classes[class] = requests;
        open.add_classes(&classes);
    }
    history.close(1000, Duration::from_secs(1));
    let keys = vec![
        key("unknown", "unknown", "unknown"),
        key("other", "other", "other"),
        key("hello.com", "main", &format!("outbound|80|v1|{SERVICE}")),
        key("hello.com", "main", &format!("outbound|80|v2|{SERVICE}")),
        key("old.com", "moved", "-"),
        key("gone.com", "gone", "outbound|80||gone"),
    ];
    LiveView { history: history.view(), keys }
}

fn graph() -> Value {
    let ejected = |cluster: ClusterId, position: usize| cluster == ClusterId(0) && position == 1;
    let minute = Duration::from_secs(60);
    serde_json::to_value(page(&view(), &snapshot(), minute, "edge".to_owned(), &ejected)).unwrap()
}

fn node<'g>(graph: &'g Value, id: &str) -> &'g Value {
    let found = graph["nodes"].as_array().unwrap().iter().find(|node| node["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {graph:#}"))
}

fn edge<'g>(graph: &'g Value, from: &str, to: &str) -> &'g Value {
    let mut edges = graph["edges"].as_array().unwrap().iter();
    let found = edges.find(|edge| edge["from"] == from && edge["to"] == to);
    found.unwrap_or_else(|| panic!("no {from} -> {to} in {graph:#}"))
}

#[test]
fn traffic_adds_up_along_the_way() {
    let graph = graph();
    assert_eq!(node(&graph, "gateway")["requests"], 106);
    assert_eq!(node(&graph, "gateway")["label"], "edge");
    assert_eq!(node(&graph, "host:hello.com")["requests"], 100);
    let route = node(&graph, "route:hello.com|default/hello|main");
    assert_eq!((&route["label"], &route["error_rate"]), (&"main".into(), &0.1.into()));
    assert_eq!(node(&graph, &format!("subset:{SERVICE}|v1"))["error_rate"], 0.0);
    let canary = edge(&graph, &format!("service:{SERVICE}"), &format!("subset:{SERVICE}|v2"));
    assert_eq!((&canary["rate"], &canary["error_rate"]), (&10.0.into(), &1.0.into()));
    assert_eq!(edge(&graph, "gateway", "host:unknown")["rate"], 5.0);
}

#[test]
fn what_is_configured_and_what_is_gone_are_both_there() {
    let graph = graph();
    let moved = node(&graph, "route:old.com|default/hello|moved");
    assert_eq!((&moved["requests"], &moved["p99"]), (&0.into(), &Value::Null));
    assert_eq!(node(&graph, "service:gone")["requests"], 1);
    // Counted with others: it is there, without traffic of its own.
    assert_eq!(node(&graph, "route:unknown|default/hello|late")["requests"], 0);
    assert_eq!((&graph["left_out_routes"], &graph["left_out_endpoints"]), (&0.into(), &0.into()));
}

#[test]
fn endpoints_tell_how_they_are_and_not_what_is_not_counted() {
    let graph = graph();
    let out = node(&graph, &format!("endpoint:{SERVICE}|10.0.0.2:80"));
    assert_eq!((&out["healthy"], &out["ejected"]), (&true.into(), &true.into()));
    assert!(out.get("rate").is_none());
    assert_eq!(node(&graph, &format!("endpoint:{SERVICE}|10.0.0.9:80"))["healthy"], false);
    let to = format!("endpoint:{SERVICE}|10.0.0.1:80");
    assert_eq!(edge(&graph, &format!("subset:{SERVICE}|v1"), &to)["rate"], Value::Null);
    edge(&graph, &format!("service:{SERVICE}"), &to);
}

#[test]
fn large_graphs_keep_what_has_traffic() {
    let mut snapshot = snapshot();
    let idle = route("idle", RouteAction::Redirect(Box::default()), 0);
    let idle = (0..GRAPH_ROUTES_MAX).map(|number| {
        let mut route = idle.clone();
        route.names.route = format!("idle-{number}");
        route
    });
    snapshot.routes.splice(0..0, idle);
    let minute = Duration::from_secs(60);
    let graph = page(&view(), &snapshot, minute, String::new(), &|_, _| false);
    let graph = serde_json::to_value(graph).unwrap();
    assert_eq!(graph["left_out_routes"], 6);
    assert_eq!(node(&graph, "gateway")["requests"], 106);
}
