//! What becomes of Services, EndpointSlices and ServiceEntries.

use super::*;
use crate::compile::tests::resources;

const HOST: &str = "db.default.svc.cluster.local";

fn registry_with(text: &str, answers: &[(&str, &[&str])]) -> Registry {
    let parse = |address: &&str| address.parse().expect("an address");
    let answers = answers
        .iter()
        .map(|(name, addresses)| ((*name).to_owned(), addresses.iter().map(parse).collect()));
    Registry::new(&resources(text), "istio-system", "cluster.local", &answers.collect())
}

fn registry(text: &str) -> Registry {
    registry_with(text, &[])
}

/// The endpoints of the first port of a host; those that are not ready with a `!`.
fn endpoints(registry: &Registry, host: &str) -> Vec<String> {
    let service = registry.find(host).expect("it is known");
    let shown = service.ports[0]
        .endpoints
        .iter()
        .map(|endpoint| format!("{}{}", if endpoint.ready { "" } else { "!" }, endpoint.address));
    shown.collect()
}

/// A Service `db` with more in its spec.
fn service(more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\n\
         spec: {{ports: [{{name: http, port: 80}}]{more}}}\n"
    )
}

fn slice(name: &str, kind: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, \
         labels: {{kubernetes.io/service-name: db}}}}\naddressType: {kind}\n\
         ports: [{{name: http, port: 8080}}]\nendpoints: [{endpoints}]\n"
    )
}

fn entry(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
         spec: {{{spec}}}\n"
    )
}

#[test]
fn conditions_decide_what_becomes_of_an_endpoint() {
    for (conditions, usual, published) in [
        // Unset is ready (behaviour 6.7).
        ("", "10.0.0.1:8080", "10.0.0.1:8080"),
        (", conditions: {}", "10.0.0.1:8080", "10.0.0.1:8080"),
        (", conditions: {ready: true}", "10.0.0.1:8080", "10.0.0.1:8080"),
        // Not ready: known, never picked (6.5).
        (", conditions: {ready: false}", "!10.0.0.1:8080", "10.0.0.1:8080"),
        (", conditions: {ready: false, serving: false}", "!10.0.0.1:8080", "10.0.0.1:8080"),
        (", conditions: {ready: false, serving: true}", "!10.0.0.1:8080", "10.0.0.1:8080"),
        // Ending: gone at once, although it still serves.
        (", conditions: {ready: false, terminating: true}", "", "10.0.0.1:8080"),
        (", conditions: {ready: false, serving: true, terminating: true}", "", "10.0.0.1:8080"),
        (", conditions: {ready: true, terminating: true}", "", "10.0.0.1:8080"),
    ] {
        let slice = slice("one", "IPv4", &format!("{{addresses: [10.0.0.1]{conditions}}}"));
        let found = endpoints(&registry(&format!("{}{slice}", service(""))), HOST);
        assert_eq!(found.concat(), usual, "{conditions}");
        let service = service(", publishNotReadyAddresses: true");
        let found = endpoints(&registry(&format!("{service}{slice}")), HOST);
        assert_eq!(found.concat(), published, "{conditions}");
    }
}

#[test]
fn slices_are_put_together_by_address_and_port() {
    let text = service("")
        + &slice("one", "IPv4", "{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}")
        + &slice("two", "IPv4", "{addresses: [10.0.0.2], conditions: {ready: false}}")
        + &slice("three", "IPv6", "{addresses: [\"fd00::1\"]}")
        + &slice("names", "FQDN", "{addresses: [db.example.com, 10.0.0.9]}")
        + &slice("other", "IPv4", "{addresses: [10.0.0.3]}").replace("name: db", "name: other");
    let found = endpoints(&registry(&text), HOST);
    assert_eq!(found, ["10.0.0.1:8080", "10.0.0.2:8080", "[fd00::1]:8080"]);
}

#[test]
fn a_headless_service_has_the_endpoints_of_its_slices() {
    let text = service(", clusterIP: None") + &slice("one", "IPv4", "{addresses: [10.0.0.1]}");
    assert_eq!(endpoints(&registry(&text), HOST), ["10.0.0.1:8080"]);
}

#[test]
fn the_port_of_a_slice_is_found_by_its_name() {
    // Behaviour 6.8: what the Service says of the target does not matter.
    let service = service("").replace("port: 80", "port: 80, targetPort: web");
    let slice = slice("one", "IPv4", "{addresses: [10.0.0.1]}");
    let ports = "ports: [{name: other, port: 1}, {name: http, port: 9090}]";
    let text = service.clone() + &slice.replace("ports: [{name: http, port: 8080}]", ports);
    assert_eq!(endpoints(&registry(&text), HOST), ["10.0.0.1:9090"]);
    let text = service + &slice.replace("name: http", "name: web");
    assert_eq!(endpoints(&registry(&text), HOST), [""; 0]);
    let unnamed =
        "apiVersion: v1\nkind: Service\nmetadata: {name: db}\nspec: {ports: [{port: 80}]}\n";
    let text = unnamed.to_owned() + &slice.replace("name: http, ", "");
    assert_eq!(endpoints(&registry(&text), HOST), ["10.0.0.1:8080"]);
}

#[test]
fn localities_come_from_labels_zones_and_entries() {
    let endpoints = "{addresses: [10.0.0.1], zone: a}, {addresses: [10.0.0.2]}";
    let text = service("") + &slice("one", "IPv4", endpoints);
    let labelled = text.replace("name: db}}", "name: db, istio-locality: r.z}}");
    let spec = "hosts: [a.com], ports: [{number: 80, name: http}], resolution: STATIC, endpoints: \
        [{address: 10.0.0.1, locality: r/z/s}, {address: 10.0.0.2, labels: {istio-locality: r.z}}, \
        {address: 10.0.0.3}]";
    for (text, host, expected) in [
        (text, HOST, &[Some("/a"), None][..]),
        (labelled, HOST, &[Some("r/z"), Some("r/z")]),
        (entry("a", spec), "a.com", &[Some("r/z/s"), Some("r/z"), None]),
    ] {
        let registry = registry(&text);
        let endpoints = registry.find(host).expect("it is known").ports[0].endpoints.iter();
        let found: Vec<_> = endpoints.map(|endpoint| endpoint.locality.as_deref()).collect();
        assert_eq!(found, expected, "{host}");
    }
}

const PORT: &str = "ports: [{number: 80, name: http, targetPort: 8080}]";

#[test]
fn names_become_the_endpoints_that_they_are_resolved_to() {
    let answers: &[(&str, &[&str])] =
        &[("a.com", &["10.0.0.1", "10.0.0.2"]), ("b.com", &["10.0.0.2", "10.0.0.3"])];
    let both = "endpoints: [{address: A.com, labels: {v: a}, weight: 2}, {address: b.com}]";
    for (spec, expected, names) in [
        ("resolution: DNS", &["10.0.0.1:8080", "10.0.0.2:8080"][..], &["a.com"][..]),
        ("resolution: DNS_ROUND_ROBIN", &["10.0.0.1:8080"], &["a.com"]),
        (
            &format!("resolution: DNS, {both}"),
            // An address stands once, as the first name that has it says.
            &["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"],
            &["a.com", "b.com"],
        ),
        ("resolution: DNS, endpoints: [{address: 10.0.0.9}]", &["10.0.0.9:8080"], &[]),
        ("resolution: DNS, endpoints: [{address: c.com}]", &[], &["c.com"]),
        ("resolution: NONE", &[], &[]),
        ("location: MESH_INTERNAL", &[], &[]),
        ("resolution: STATIC", &[], &[]),
        (&format!("resolution: STATIC, {both}"), &[], &[]),
    ] {
        let text = entry("a", &format!("hosts: [a.com], {PORT}, {spec}"));
        let registry = registry_with(&text, answers);
        assert_eq!(endpoints(&registry, "a.com"), expected, "{spec}");
        let port = &registry.find("a.com").expect("it is known").ports[0];
        let found: Vec<&str> = port.names.iter().map(|name| name.name.as_str()).collect();
        assert_eq!(found, names, "{spec}");
    }
}

#[test]
fn each_address_of_a_name_has_what_its_endpoint_says() {
    let spec = "hosts: [a.com], ports: [{number: 80, name: http}], resolution: DNS, endpoints: \
        [{address: b.com, labels: {v: b}, weight: 2, locality: r/z}, {address: c.com}]";
    let answers: &[(&str, &[&str])] =
        &[("b.com", &["10.0.0.1", "10.0.0.2"]), ("c.com", &["10.0.0.3"])];
    let registry = registry_with(&entry("a", spec), answers);
    let endpoints = registry.find("a.com").expect("it is known").ports[0].endpoints.iter();
    let found: Vec<_> = endpoints
        .map(|endpoint| (endpoint.weight, endpoint.labels.len(), endpoint.locality.as_deref()))
        .collect();
    assert_eq!(found, [(2, 1, Some("r/z")), (2, 1, Some("r/z")), (1, 0, None)]);
}

#[test]
fn target_ports_are_the_endpoints_then_the_ports_then_the_number() {
    for (port, endpoint, expected) in [
        ("", "", 80),
        (", targetPort: 0", ", ports: {http: 0}", 80),
        (", targetPort: 8080", "", 8080),
        (", targetPort: 8080", ", ports: {http: 9090}", 9090),
        (", targetPort: 8080", ", ports: {other: 9090}", 8080),
    ] {
        for resolution in ["STATIC", "DNS", "DNS_ROUND_ROBIN"] {
            let spec = format!(
                "hosts: [a.com], resolution: {resolution}, ports: [{{number: 80, name: http{port}}}], \
                 endpoints: [{{address: 10.0.0.1{endpoint}}}]"
            );
            let found = endpoints(&registry(&entry("a", &spec)), "a.com");
            assert_eq!(found, [format!("10.0.0.1:{expected}")], "{spec}");
        }
    }
}

#[test]
fn workloads_are_selected_by_their_labels_in_their_namespace() {
    let workload = |name: &str, more: &str, spec: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: {name}{more}}}\nspec: {{{spec}}}\n"
        )
    };
    let workloads = workload("one", "", "address: 10.0.0.1, labels: {app: db}, weight: 3")
        + &workload("two", ", labels: {app: db, v: b}", "address: db.com, ports: {http: 9090}")
        + &workload("web", "", "address: 10.0.0.3, labels: {app: web}")
        + &workload("far", ", namespace: far", "address: 10.0.0.4, labels: {app: db}");
    let spec = |selector: &str, resolution: &str| {
        let selector = format!("workloadSelector: {{labels: {{{selector}}}}}");
        entry("a", &format!("hosts: [a.com], {PORT}, resolution: {resolution}, {selector}"))
    };
    let answers: &[(&str, &[&str])] = &[("db.com", &["10.0.0.2"])];
    for (selector, resolution, expected) in [
        ("app: db", "STATIC", &["10.0.0.1:8080"][..]),
        ("app: db", "DNS", &["10.0.0.1:8080", "10.0.0.2:9090"]),
        ("app: db, v: b", "DNS", &["10.0.0.2:9090"]),
        ("app: none", "STATIC", &[]),
        ("app: none", "DNS", &[]),
        ("", "STATIC", &["10.0.0.1:8080", "10.0.0.3:8080"]),
        ("app: db", "NONE", &[]),
    ] {
        let registry = registry_with(&(spec(selector, resolution) + &workloads), answers);
        assert_eq!(endpoints(&registry, "a.com"), expected, "{selector} {resolution}");
    }
    let registry = registry_with(&(spec("app: db", "STATIC") + &workloads), answers);
    let endpoint = &registry.find("a.com").expect("it is known").ports[0].endpoints[0];
    assert_eq!((endpoint.weight, endpoint.workload.as_deref()), (3, Some("one")));
}

#[test]
fn services_select_workloads_too() {
    let workload = "---\napiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
        metadata: {name: vm}\nspec: {address: 10.0.0.2, labels: {app: db}, ports: PORTS}\n";
    let selecting = service(", selector: {app: db}");
    for (target, ports, expected) in [
        ("", "{}", &["10.0.0.1:8080", "10.0.0.2:80"][..]),
        ("", "{http: 9090}", &["10.0.0.1:8080", "10.0.0.2:9090"]),
        (", targetPort: 8080", "{}", &["10.0.0.1:8080", "10.0.0.2:8080"]),
        (", targetPort: 8080", "{http: 9090}", &["10.0.0.1:8080", "10.0.0.2:9090"]),
        (", targetPort: web", "{web: 9090}", &["10.0.0.1:8080", "10.0.0.2:9090"]),
        // A name that it does not know leaves it out.
        (", targetPort: web", "{http: 9090}", &["10.0.0.1:8080"]),
    ] {
        let text = selecting.replace("port: 80", &format!("port: 80{target}"))
            + &slice("one", "IPv4", "{addresses: [10.0.0.1]}")
            + &workload.replace("PORTS", ports);
        assert_eq!(endpoints(&registry(&text), HOST), expected, "{target} {ports}");
    }
    for other in [service(""), service(", selector: {app: web}")] {
        let text = other + &workload.replace("PORTS", "{}");
        assert_eq!(endpoints(&registry(&text), HOST), [""; 0]);
    }
}

#[test]
fn external_names_stand_for_services_or_for_names() {
    let external = |name: &str, target: &str| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: \
             ExternalName, externalName: {target}, ports: [{{name: http, port: 80, targetPort: 1}}]}}\n"
        )
    };
    let host = |name: &str| format!("{name}.default.svc.cluster.local");
    let text = service("")
        + &slice("one", "IPv4", "{addresses: [10.0.0.1]}")
        + &external("alias", &host("db"))
        + &external("second", &format!("{}.", host("alias").to_uppercase()))
        + &external("out", "out.example.com")
        + &external("ip", "10.0.0.9")
        + &external("left", &host("right"))
        + &external("right", &host("left"));
    let registry = registry_with(&text, &[("out.example.com", &["10.0.0.7"])]);
    for (name, target) in [
        ("db", "db"),
        ("alias", "db"),
        ("second", "db"),
        ("out", "out"),
        ("left", "left"),
        ("right", "right"),
    ] {
        assert_eq!(registry.target(&host(name)), host(target));
    }
    assert_eq!(endpoints(&registry, &host("out")), ["10.0.0.7:80"]);
    assert_eq!(endpoints(&registry, &host("ip")), ["10.0.0.9:80"]);
    assert_eq!(registry.target("other.com"), "other.com");
    // A Service of another type only mentions the name.
    let other = service(", externalName: out.example.com");
    assert_eq!(registry_with(&other, &[]).find(HOST).expect("known").alias_of, None);
}

#[test]
fn the_oldest_of_a_host_is_served_and_one_namespace_adds_up() {
    let spec = |address: &str| {
        format!("hosts: [{HOST}], {PORT}, resolution: STATIC, endpoints: [{{address: {address}}}]")
    };
    let made = |text: String, when: &str, namespace: &str| {
        let at = format!("name: x, namespace: {namespace}, creationTimestamp: \"{when}\"");
        text.replace("name: x", &at)
    };
    let (old, new) = ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z");
    let service =
        |when| service("").replace("name: db", &format!("name: db, creationTimestamp: \"{when}\""));
    let slice = slice("one", "IPv4", "{addresses: [10.0.0.1]}");
    let entry_at = |when, namespace| made(entry("x", &spec("10.0.0.2")), when, namespace);
    let first = registry(&(service(old) + &slice + &entry_at(new, "far")));
    assert_eq!(endpoints(&first, HOST), ["10.0.0.1:8080"]);
    let first = registry(&(service(new) + &slice + &entry_at(old, "far")));
    assert_eq!(endpoints(&first, HOST), ["10.0.0.2:8080"]);
    let both = registry(&(service(new) + &slice + &entry_at(old, "default")));
    assert_eq!(endpoints(&both, HOST), ["10.0.0.2:8080", "10.0.0.1:8080"]);
}

#[test]
fn the_protocol_of_a_port_is_its_app_protocol_or_its_name() {
    for (name, app_protocol, http2) in [
        ("http", None, false),
        ("", None, false),
        ("http2", None, true),
        ("http2-api", None, true),
        ("grpc", None, true),
        ("grpc-web", None, true),
        ("grpcx", None, false),
        ("http", Some("grpc"), true),
        ("", Some("HTTP2"), true),
        ("http", Some("kubernetes.io/h2c"), true),
        ("grpc", Some("http"), false),
        ("grpc", Some("kubernetes.io/ws"), false),
        ("grpc", Some(""), true),
    ] {
        assert_eq!(is_http2_port(name, app_protocol), http2, "{name} {app_protocol:?}");
    }
    let entry = |protocol: &str| {
        let text = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\n\
             spec: {{hosts: [a.com], resolution: STATIC, ports: [{{number: 80, name: a, protocol: {protocol}}}], \
             endpoints: [{{address: 1.2.3.4}}]}}\n"
        );
        registry(&text).find("a.com").expect("it is known").ports[0].http2
    };
    assert!(entry("HTTP2") && entry("grpc") && entry("GRPC-Web"));
    assert!(!entry("HTTP"));
}
