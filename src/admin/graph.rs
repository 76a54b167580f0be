//! `/api/graph`: the service graph. Gateway → hosts → routes → services → subsets → endpoints, as
//! configured and as requests went in the last seconds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::Response;
use serde::Serialize;

use super::live::{Asked, answer, by_slot};
use super::live_stats::{LiveView, Stats, service_and_subset};
use super::state::AdminState;
use crate::ids::{ClusterId, HistogramSlot};
use crate::limits::{GRAPH_ENDPOINTS_MAX, GRAPH_ROUTES_MAX};
use crate::metrics::history::Summary;
use crate::metrics::labels::{LabelTable, OWN_ANSWER, UNKNOWN};
use crate::snapshot::{RouteAction, Snapshot};

#[derive(Serialize)]
struct GraphPage {
    window_s: u64,
    covered_s: f64,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    /// Paths through routes that were left out because there are too many; those without traffic go first.
    left_out_routes: usize,
    left_out_endpoints: usize,
}

#[derive(Serialize)]
struct Node {
    id: String,
    kind: &'static str,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    virtual_service: Option<String>,
    #[serde(flatten)]
    stats: Option<Stats>,
    #[serde(flatten)]
    endpoint: Option<EndpointState>,
}

#[derive(Clone, Copy, Serialize)]
struct EndpointState {
    /// Ready to serve, by its manifest.
    healthy: bool,
    /// Taken out by outlier detection for a while.
    ejected: bool,
}

#[derive(Serialize)]
struct Edge {
    from: String,
    to: String,
    /// None where it is not counted: between a service and its endpoints.
    rate: Option<f64>,
    error_rate: Option<f64>,
    p99: Option<u64>,
}

pub(super) async fn graph(State(state): State<AdminState>, Query(asked): Query<Asked>) -> Response {
    let snapshot = state.snapshot.load();
    let gateway = state.info.labels.iter().find(|(name, _)| name == "app");
    let gateway = gateway.map_or("istio-ingressgateway", |(_, value)| value).to_owned();
    let clusters = state.clusters.load();
    answer(&state, move |view| {
        let empty = Snapshot::default();
        let snapshot = snapshot.as_deref().unwrap_or(&empty);
        Ok(page(&view, snapshot, asked.window(), gateway, &|cluster, position| {
            clusters.is_ejected(cluster, position)
        }))
    })
    .await
}

/// A way through the gateway, with the place in the history where it is counted.
struct Path<'g> {
    host: &'g str,
    route: &'g str,
    virtual_service: &'g str,
    /// Name of the cluster, or [`OWN_ANSWER`].
    destination: &'g str,
    cluster: Option<ClusterId>,
    /// None when it is counted with others, or twice in the graph.
    slot: Option<HistogramSlot>,
}

fn page(
    view: &LiveView,
    snapshot: &Snapshot,
    asked: Duration,
    gateway: String,
    is_ejected: &dyn Fn(ClusterId, usize) -> bool,
) -> GraphPage {
    let window = view.history.window(asked, None);
    let mut summaries = by_slot(window, view.keys.len());
    let mut paths = paths(view, snapshot, &summaries);
    let busy = |path: &Path<'_>| {
        path.slot
            .and_then(|slot| summaries.get(slot.index())?.as_ref())
            .map_or(0, Summary::requests)
    };
    paths.sort_by_key(|path| std::cmp::Reverse(busy(path)));
    let left_out_routes = paths.len().saturating_sub(GRAPH_ROUTES_MAX);
    paths.truncate(GRAPH_ROUTES_MAX);
    paths.sort_by_key(|path| (path.host, path.virtual_service, path.route, path.destination));

    let mut graph = Graph { covered: window.covered(), ..Graph::default() };
    graph.node("gateway", "gateway", &gateway, None, None);
    let mut with_endpoints = HashSet::new();
    for path in &paths {
        let summary = path.slot.and_then(|slot| summaries.get_mut(slot.index())?.take());
        let summary = summary.as_ref();
        let at = graph.way(path, summary);
        let Some(cluster) = path.cluster.and_then(|id| snapshot.clusters.get(id.index())) else {
            continue;
        };
        let (service, _) = service_and_subset(&cluster.name);
        if let (Some(id), true) = (path.cluster, with_endpoints.insert((path.cluster, at.clone())))
        {
            for (position, endpoint) in cluster.endpoints.iter().enumerate() {
                let state =
                    EndpointState { healthy: endpoint.healthy, ejected: is_ejected(id, position) };
                graph.endpoint(&at, service, &endpoint.address.to_string(), state);
            }
        }
    }
    let (nodes, edges, left_out_endpoints) = graph.finish();
    GraphPage {
        window_s: asked.as_secs(),
        covered_s: window.covered().as_secs_f64(),
        nodes,
        edges,
        left_out_routes,
        left_out_endpoints,
    }
}

/// Every configured way, then what was counted besides: requests without route, routes that are gone.
fn paths<'g>(
    view: &'g LiveView,
    snapshot: &'g Snapshot,
    summaries: &[Option<Summary>],
) -> Vec<Path<'g>> {
    let hosts = hosts_of_routes(snapshot);
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    for (at, route) in snapshot.routes.iter().enumerate() {
        let mut add = |slot: HistogramSlot, destination: &'g str, cluster: Option<ClusterId>| {
            let own = slot != LabelTable::OTHER_ROUTES && slot != HistogramSlot::UNROUTED;
            let key = view.keys.get(slot.index()).filter(|_| own);
            paths.push(Path {
                host: key.map_or_else(
                    || hosts.get(&at).copied().unwrap_or(UNKNOWN),
                    |key| key.virtual_host.as_str(),
                ),
                route: key.map_or(route.names.route.as_str(), |key| key.route.as_str()),
                virtual_service: &route.names.virtual_service,
                destination: key.map_or(destination, |key| key.destination.as_str()),
                cluster,
                // Matches of one rule are counted together: once.
                slot: (own && seen.insert(slot)).then_some(slot),
            });
        };
        match &route.action {
            RouteAction::Forward(forward) => {
                for destination in forward.destinations() {
                    let cluster = destination.cluster;
                    let named = cluster.and_then(|id| snapshot.clusters.get(id.index()));
                    let name = named.map_or(UNKNOWN, |cluster| cluster.name.as_str());
                    add(destination.histogram_slot, name, cluster);
                }
            }
            RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => {
                add(route.names.own_answers, OWN_ANSWER, None);
            }
        }
    }
    for (slot, key) in view.keys.iter().enumerate() {
        let slot = HistogramSlot(slot as u32);
        if summaries.get(slot.index()).is_some_and(Option::is_some) && seen.insert(slot) {
            paths.push(Path {
                host: &key.virtual_host,
                route: &key.route,
                virtual_service: &key.virtual_service,
                destination: &key.destination,
                cluster: None,
                slot: Some(slot),
            });
        }
    }
    paths
}

/// A host of each route, by index.
fn hosts_of_routes(snapshot: &Snapshot) -> HashMap<usize, &str> {
    let mut hosts = HashMap::new();
    for host in snapshot.route_tables.iter().flat_map(|table| table.virtual_hosts()) {
        let Some(domain) = host.domains.first() else { continue };
        for entry in &host.routes {
            hosts.entry(entry.route.index()).or_insert(domain.as_str());
        }
    }
    hosts
}

#[derive(Default)]
struct Graph {
    covered: Duration,
    nodes: Vec<(Node, Option<Summary>)>,
    /// By id.
    at: HashMap<String, usize>,
    edges: BTreeMap<(usize, usize), Option<Summary>>,
    endpoints: usize,
    left_out_endpoints: usize,
}

impl Graph {
    /// The node with this id, with the requests of `summary` more.
    fn node(
        &mut self,
        id: &str,
        kind: &'static str,
        label: &str,
        virtual_service: Option<&str>,
        summary: Option<&Summary>,
    ) -> usize {
        let at = *self.at.entry(id.to_owned()).or_insert_with(|| {
            let node = Node {
                id: id.to_owned(),
                kind,
                label: label.to_owned(),
                virtual_service: virtual_service.map(str::to_owned),
                stats: None,
                endpoint: None,
            };
            self.nodes.push((node, None));
            self.nodes.len() - 1
        });
        add(&mut self.nodes[at].1, summary);
        at
    }

    fn edge(&mut self, from: usize, to: usize, summary: Option<&Summary>) {
        add(self.edges.entry((from, to)).or_default(), summary);
    }

    /// The nodes and edges of a way. Returns the id of the last node.
    fn way(&mut self, path: &Path<'_>, summary: Option<&Summary>) -> String {
        let gateway = self.node("gateway", "gateway", "", None, summary);
        let Path { host, route, virtual_service, .. } = *path;
        let of_host = self.node(&format!("host:{host}"), "host", host, None, summary);
        self.edge(gateway, of_host, summary);
        let label = if route.is_empty() { virtual_service } else { route };
        let id = format!("route:{host}|{virtual_service}|{route}");
        let of_route = self.node(&id, "route", label, Some(virtual_service), summary);
        self.edge(of_host, of_route, summary);
        let (service, subset) = service_and_subset(path.destination);
        if service.is_empty() {
            return id;
        }
        let id = format!("service:{service}");
        let of_service = self.node(&id, "service", service, None, summary);
        self.edge(of_route, of_service, summary);
        if subset.is_empty() {
            return id;
        }
        let id = format!("subset:{service}|{subset}");
        let of_subset = self.node(&id, "subset", subset, None, summary);
        self.edge(of_service, of_subset, summary);
        id
    }

    fn endpoint(&mut self, behind: &str, service: &str, address: &str, state: EndpointState) {
        let id = format!("endpoint:{service}|{address}");
        if !self.at.contains_key(&id) {
            if self.endpoints >= GRAPH_ENDPOINTS_MAX {
                self.left_out_endpoints += 1;
                return;
            }
            self.endpoints += 1;
        }
        let to = self.node(&id, "endpoint", address, None, None);
        let shown = &mut self.nodes[to].0.endpoint;
        // Several clusters may have it: it is as well as in the one that thinks least of it.
        let before = shown.unwrap_or(EndpointState { healthy: true, ejected: false });
        *shown = Some(EndpointState {
            healthy: before.healthy && state.healthy,
            ejected: before.ejected || state.ejected,
        });
        if let Some(from) = self.at.get(behind).copied() {
            self.edge(from, to, None);
        }
    }

    fn finish(self) -> (Vec<Node>, Vec<Edge>, usize) {
        let covered = self.covered;
        let idle = Stats::of(&Summary::default(), covered);
        let stats = |summary: &Option<Summary>| {
            summary.as_ref().map_or(idle, |summary| Stats::of(summary, covered))
        };
        let edges = self.edges.iter().map(|((from, to), summary)| {
            let (from, to) = (&self.nodes[*from].0, &self.nodes[*to].0);
            let stats = (to.kind != "endpoint").then(|| stats(summary));
            Edge {
                from: from.id.clone(),
                to: to.id.clone(),
                rate: stats.map(|stats| stats.rate),
                error_rate: stats.map(|stats| stats.error_rate),
                p99: stats.and_then(|stats| stats.p99),
            }
        });
        let edges = edges.collect();
        let nodes = self.nodes.into_iter().map(|(mut node, summary)| {
            node.stats = (node.kind != "endpoint").then(|| stats(&summary));
            node
        });
        (nodes.collect(), edges, self.left_out_endpoints)
    }
}

/// Add `more`, in memory only where there is some.
fn add(sum: &mut Option<Summary>, more: Option<&Summary>) {
    if let Some(more) = more {
        sum.get_or_insert_default().merge(more);
    }
}

#[cfg(test)]
mod tests;
