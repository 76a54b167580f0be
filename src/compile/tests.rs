//! Manifests in, snapshot out.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::load;
use crate::snapshot::{Forward, RouteAction};

mod first_match;
mod rules;

pub(super) fn resources(text: &str) -> ResourceSet {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("a.yaml"), text).expect("written");
    let loaded = load(&[directory.path().to_owned()]);
    let documents = loaded.files.into_iter().flat_map(|file| file.outcome.expect("YAML"));
    ResourceSet::from_resources(documents.map(|document| document.result.expect("typed")))
}

pub(super) fn options() -> CompileOptions {
    CompileOptions {
        locality: None,
        labels: BTreeMap::from([("istio".to_owned(), "ingressgateway".to_owned())]),
        namespace: "istio-system".to_owned(),
        cluster_domain: "cluster.local".to_owned(),
        port_map: BTreeMap::from([(80, 18080)]),
        bind: IpAddr::from([127, 0, 0, 1]),
        settings: Settings::default(),
    }
}

fn compiled(text: &str) -> Snapshot {
    let compiled = compile(
        &resources(text),
        &options(),
        &DnsAnswers::default(),
        &CredentialFiles::default(),
        &mut LabelTable::new(),
        &mut TlsSides::default(),
    );
    assert_eq!(compiled.diagnostics, []);
    compiled.snapshot
}

const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gw}\n\
    spec:\n  selector: {istio: ingressgateway}\n  servers:\n  \
    - {port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\"]}\n  \
    - {port: {number: 8081, name: more, protocol: HTTP}, hosts: [\"*\"]}\n";

fn own_service(extra_metadata: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: gw, namespace: istio-system{extra_metadata}}}\n\
         spec:\n  selector: {{istio: ingressgateway}}\n  ports:\n  \
         - {{name: http, port: 80, targetPort: 9080}}\n"
    )
}

fn ports(text: &str) -> Vec<u16> {
    compiled(text).listeners.iter().map(|listener| listener.address.port()).collect()
}

#[test]
fn ports_come_from_our_service_then_the_map_then_the_number() {
    assert_eq!(ports(GATEWAY), [8081, 18080]);
    assert_eq!(ports(&format!("{GATEWAY}{}", own_service(""))), [8081, 9080]);
    let opted_out = ", labels: {experimental.istio.io/disable-gateway-port-translation: \"true\"}";
    assert_eq!(ports(&format!("{GATEWAY}{}", own_service(opted_out))), [8081, 18080]);
    let other = own_service("").replace("istio: ingressgateway", "app: other");
    assert_eq!(ports(&format!("{GATEWAY}{other}")), [8081, 18080]);
}

#[test]
fn gateways_of_others_are_not_served() {
    let other = GATEWAY.replace("istio: ingressgateway", "istio: egressgateway");
    assert!(compiled(&other).listeners.is_empty());
    let any = GATEWAY.replace("selector: {istio: ingressgateway}", "selector: {}");
    assert_eq!(compiled(&any).listeners.len(), 2);
}

#[test]
fn a_listener_names_who_asked_for_it() {
    let snapshot = compiled(GATEWAY);
    let gateway = &snapshot.listeners[0].gateways[0];
    assert!(
        gateway.starts_with("Gateway default/gw (") && gateway.contains("a.yaml:1:1"),
        "{gateway}"
    );
}

const ROUTES: &str = "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
    metadata: {name: vs}\nspec:\n  hosts: [a.com]\n  gateways: [gw]\n  http:\n  \
    - name: rule\n    match: [{name: one, uri: {prefix: /a}}, {port: 9999}]\n    \
    route: [{destination: {host: reviews, subset: v1}}]\n  \
    - route: [{destination: {host: reviews}, weight: 3}, {destination: {host: gone}, weight: 1}]\n\
    ---\napiVersion: v1\nkind: Service\nmetadata: {name: reviews}\n\
    spec: {ports: [{name: http, port: 9080}]}\n\
    ---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: reviews-v1\n  \
    labels: {kubernetes.io/service-name: reviews, app: reviews, version: v1}\naddressType: IPv4\n\
    ports: [{name: http, port: 7001}]\nendpoints:\n\
    - addresses: [10.0.0.1]\n  targetRef: {kind: Pod, name: reviews-v1-5d8f8b6f7c-x2k9p}\n\
    - {addresses: [10.0.0.2], conditions: {ready: false}}\n\
    - {addresses: [10.0.0.3], conditions: {ready: true, terminating: true}}\n\
    ---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: dr}\n\
    spec:\n  host: reviews\n  trafficPolicy:\n    loadBalancer: {simple: ROUND_ROBIN}\n    \
    portLevelSettings:\n    - {port: {number: 1}, loadBalancer: {simple: RANDOM}}\n  \
    subsets:\n  - name: v1\n    labels: {version: v1}\n    \
    trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}\n";

#[test]
fn routes_lead_to_clusters_with_policy_and_endpoints() {
    let mut labels = LabelTable::new();
    let set = resources(&format!("{GATEWAY}{ROUTES}"));
    let snapshot = compile(
        &set,
        &options(),
        &DnsAnswers::default(),
        &CredentialFiles::default(),
        &mut labels,
        &mut TlsSides::default(),
    )
    .snapshot;
    let names: Vec<&str> = snapshot.clusters.iter().map(|cluster| cluster.name.as_str()).collect();
    let host = "reviews.default.svc.cluster.local";
    assert_eq!(names, [format!("outbound|9080|v1|{host}"), format!("outbound|9080||{host}")]);
    let subset = &snapshot.clusters[0];
    assert_eq!(subset.connect_timeout.as_secs(), 3);
    assert_eq!(subset.load_balancer, crate::snapshot::LoadBalancerPolicy::RoundRobin);
    let endpoints: Vec<(String, bool)> = subset
        .endpoints
        .iter()
        .map(|endpoint| (endpoint.address.to_string(), endpoint.healthy))
        .collect();
    assert_eq!(endpoints, [("10.0.0.1:7001".into(), true), ("10.0.0.2:7001".into(), false)]);

    // The match for another port is gone; the rule's first match keeps its name.
    let route = &snapshot.routes[0];
    assert_eq!(route.names.route, "rule.one");
    assert_eq!(&*route.operation, format!("{host}:9080/a*"));
    let action = &snapshot.routes[1].action;
    let RouteAction::Forward(Forward::Several { destinations, total_weight }) = action else {
        panic!("two destinations: {action:?}");
    };
    assert_eq!(*total_weight, 4);
    assert_eq!(
        destinations.iter().map(|to| to.cluster.is_some()).collect::<Vec<_>>(),
        [true, false]
    );

    let shown = labels.labels(subset.endpoints[0].metric_slot);
    assert_eq!(shown.destination_workload, "reviews-v1");
    assert_eq!(shown.destination_version, "v1");
    assert_eq!(shown.destination_canonical_service, "reviews");
    assert_eq!(shown.destination_service, host);
}
