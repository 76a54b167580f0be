//! Rules one by one: the smallest manifest that breaks each.

use super::{Severity, found};

/// Errors in a spec, as fields.
fn errors(kind: &str, spec: &str) -> Vec<String> {
    let text = format!(
        "apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
    );
    let errors = found(&text).into_iter().filter(|found| found.severity == Severity::Error);
    errors.map(|found| found.field).collect()
}

#[test]
fn destination_rules() {
    let policy = |text: &str| format!("{{host: a.b, trafficPolicy: {{{text}}}}}");
    for good in [
        "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}}",
        "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 40, c: 60}}]}}",
        "loadBalancer: {warmup: {duration: 10s, aggression: 2}}",
        "connectionPool: {http: {http2KeepAlive: {interval: 1s, timeout: 1s}}}",
        "tunnel: {protocol: CONNECT, targetHost: a.com, targetPort: 443}",
    ] {
        assert_eq!(errors("DestinationRule", &policy(good)), [""; 0], "{good}");
    }
    let balancer = "spec.trafficPolicy.loadBalancer";
    let pool = "spec.trafficPolicy.connectionPool";
    for (bad, field) in [
        (
            "loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}",
            balancer.to_owned(),
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 18446744073709551615}}}",
            format!("{balancer}.consistentHash.maglev.tableSize"),
        ),
        (
            "loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 7}, ringHash: {}}}",
            format!("{balancer}.consistentHash"),
        ),
        (
            "loadBalancer: {consistentHash: {httpCookie: {name: a, attributes: [{name: x}, {name: x}]}}}",
            format!("{balancer}.consistentHash.httpCookie.attributes[1]"),
        ),
        ("loadBalancer: {warmup: {}}", format!("{balancer}.warmup")),
        (
            "loadBalancer: {warmup: {duration: 1s, aggression: 0}}",
            format!("{balancer}.warmup.aggression"),
        ),
        ("loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}", balancer.to_owned()),
        (
            "loadBalancer: {localityLbSetting: {distribute: [{from: a, to: {b: 40}}]}}",
            format!("{balancer}.localityLbSetting.distribute[0].to"),
        ),
        (
            "loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}",
            format!("{balancer}.localityLbSetting.failover[0]"),
        ),
        (
            "loadBalancer: {zoneAwareLbSetting: {failover: [{from: a/b, to: c}]}}",
            format!("{balancer}.zoneAwareLbSetting.failover[0].from"),
        ),
        (
            "connectionPool: {http: {useClientProtocol: true, h2UpgradePolicy: UPGRADE}}",
            format!("{pool}.http.useClientProtocol"),
        ),
        (
            "connectionPool: {http: {http2KeepAlive: {interval: 1s}}}",
            format!("{pool}.http.http2KeepAlive"),
        ),
        (
            "connectionPool: {tcp: {tcpKeepalive: {time: 1us}}}",
            format!("{pool}.tcp.tcpKeepalive.time"),
        ),
        (
            "tunnel: {protocol: GET, targetHost: a.com, targetPort: 443}",
            "spec.trafficPolicy.tunnel.protocol".to_owned(),
        ),
        (
            "portLevelSettings: [{port: {number: 80}}]",
            "spec.trafficPolicy.portLevelSettings[0]".to_owned(),
        ),
        (
            "outlierDetection: {interval: 0s}",
            "spec.trafficPolicy.outlierDetection.interval".to_owned(),
        ),
    ] {
        assert_eq!(errors("DestinationRule", &policy(bad)), [field], "{bad}");
    }
    let spec = "{host: a.b, workloadSelector: {matchLabels: {a: b}}, exportTo: [other]}";
    assert_eq!(errors("DestinationRule", spec), ["spec.exportTo"]);
}

#[test]
fn virtual_services() {
    let rule = |text: &str| format!("{{hosts: [a.com], gateways: [g], http: [{{{text}}}]}}");
    let to = "route: [{destination: {host: a.b}}]";
    for good in [
        "directResponse: {status: 200, body: {string: hello}}".to_owned(),
        "match: [{uri: {prefix: /a}}], redirect: {prefixRewrite: /b}".to_owned(),
        format!("{to}, headers: {{request: {{set: {{a: \"%REQ(b)% 5%%\"}}}}}}"),
        format!("{to}, fault: {{abort: {{grpcStatus: NOT_FOUND, percentage: {{value: 0}}}}}}"),
        format!("{to}, corsPolicy: {{allowOrigins: [{{exact: \"*\"}}], maxAge: 24h}}"),
    ] {
        assert_eq!(errors("VirtualService", &rule(&good)), [""; 0], "{good}");
    }
    for (bad, field) in [
        ("directResponse: {status: 200, body: {}}".to_owned(), "directResponse.body"),
        (
            "redirect: {prefixRewrite: /b}, match: [{uri: {exact: /a}}]".to_owned(),
            "redirect.prefixRewrite",
        ),
        ("redirect: {port: 70000}".to_owned(), "redirect.port"),
        ("redirect: {port: 80, derivePort: FROM_REQUEST_PORT}".to_owned(), "redirect"),
        (format!("{to}, headers: {{request: {{set: {{a: 5%}}}}}}"), "headers.request.set[a]"),
        (format!("{to}, fault: {{abort: {{grpcStatus: LOST}}}}"), "fault.abort.grpcStatus"),
        (format!("{to}, fault: {{delay: {{fixedDelay: 0s}}}}"), "fault.delay.fixedDelay"),
        (format!("{to}, mirrorPercentage: {{value: 100.5}}"), "mirrorPercentage"),
        (format!("{to}, corsPolicy: {{allowOrigins: [{{}}]}}"), "corsPolicy.allowOrigins[0]"),
        (format!("{to}, corsPolicy: {{maxAge: 1.5s}}"), "corsPolicy.maxAge"),
    ] {
        assert_eq!(
            errors("VirtualService", &rule(&bad)),
            [format!("spec.http[0].{field}")],
            "{bad}"
        );
    }
    let tls = |name: &str| {
        format!(
            "{{hosts: [\"*.a.com\"], gateways: [g], tls: [{{match: [{{sniHosts: [{name}]}}], {to}}}]}}"
        )
    };
    assert_eq!(errors("VirtualService", &tls("x.a.com")), [""; 0]);
    assert_eq!(errors("VirtualService", &tls("b.com")), ["spec.tls[0].match[0].sniHosts[0]"]);
    let mesh = format!("{{hosts: [\"*\"], http: [{{{to}}}]}}");
    assert_eq!(errors("VirtualService", &mesh), ["spec.hosts[0]"]);
    let body = "x".repeat(1024 * 1024 + 1);
    let large = rule(&format!("directResponse: {{status: 200, body: {{string: {body}}}}}"));
    assert_eq!(errors("VirtualService", &large), ["spec.http[0].directResponse.body"]);
}

#[test]
fn service_entries() {
    let http = "ports: [{number: 80, name: http, protocol: HTTP}]";
    let tcp = "ports: [{number: 80, name: tcp, protocol: TCP}]";
    for good in [
        format!("{{hosts: [a.com, b.com], {http}, resolution: DNS}}"),
        format!("{{hosts: [a.com], addresses: [10.0.0.0/8], {tcp}}}"),
        format!("{{hosts: [\"*.a.com\"], {http}, resolution: DYNAMIC_DNS}}"),
    ] {
        assert_eq!(errors("ServiceEntry", &good), [""; 0], "{good}");
    }
    for (bad, field) in [
        (format!("{{hosts: [a.com, b.com], {tcp}, resolution: DNS}}"), "spec.hosts"),
        (format!("{{hosts: [a.com], {http}, addresses: [x]}}"), "spec.addresses[0]"),
        (format!("{{hosts: [a.com], {http}, addresses: [10.0.0.0/33]}}"), "spec.addresses[0]"),
        (
            format!("{{hosts: [a.com], {http}, addresses: [10.0.0.0/8], resolution: DNS}}"),
            "spec.addresses[0]",
        ),
        (
            "{hosts: [a.com], ports: [{number: 80, name: a, protocol: SPDY}]}".to_owned(),
            "spec.ports[0].protocol",
        ),
        (
            format!(
                "{{hosts: [a.com], {http}, resolution: STATIC, endpoints: [{{address: \"unix:///a\", ports: {{http: 1}}}}]}}"
            ),
            "spec.endpoints[0]",
        ),
        (
            format!(
                "{{hosts: [a.com], {http}, resolution: STATIC, endpoints: [{{address: \"unix://a\"}}]}}"
            ),
            "spec.endpoints[0].address",
        ),
        (format!("{{hosts: [a.com], {http}, resolution: DYNAMIC_DNS}}"), "spec.hosts"),
    ] {
        assert_eq!(errors("ServiceEntry", &bad), [field], "{bad}");
    }
}

#[test]
fn istios_samples_break_no_rule() {
    let samples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio/samples");
    let mut files = 0;
    for file in crate::config::load(&[samples]).files {
        let text = std::fs::read_to_string(&file.path).expect("a sample");
        let errors: Vec<_> =
            found(&text).into_iter().filter(|found| found.severity == Severity::Error).collect();
        assert_eq!(errors, [], "{}", file.path.display());
        files += 1;
    }
    assert!(files > 30);
}

#[test]
fn workload_entries() {
    for good in [
        "{address: 10.0.0.1, ports: {http: 80}}",
        "{address: db.example.com}",
        "{address: \"unix:///run/db\"}",
        "{network: far}",
    ] {
        assert_eq!(errors("WorkloadEntry", good), [""; 0], "{good}");
    }
    for (bad, field) in [
        ("{}", "spec"),
        ("{address: \"a b\"}", "spec.address"),
        ("{address: \"unix:///run/db\", ports: {http: 80}}", "spec"),
        ("{address: \"unix://run\"}", "spec.address"),
        ("{address: 10.0.0.1, ports: {http: 70000}}", "spec.ports[http]"),
    ] {
        assert_eq!(errors("WorkloadEntry", bad), [field], "{bad}");
    }
}

#[test]
fn what_selects_no_workload_is_told() {
    let entry = |resolution: &str, label: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: a}}\n\
             spec: {{hosts: [a.com], ports: [{{number: 80, name: http, protocol: HTTP}}], \
             resolution: {resolution}, workloadSelector: {{labels: {{app: {label}}}}}}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: named}}\n\
             spec: {{address: db.com, labels: {{app: named}}}}\n---\n\
             apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\n\
             metadata: {{name: far, namespace: far}}\nspec: {{address: 10.0.0.1, labels: {{app: far}}}}\n"
        )
    };
    for (resolution, label, codes) in [
        ("DNS", "named", &[][..]),
        ("DNS", "far", &["RNG0206"]),
        ("STATIC", "named", &["RNG0206"]),
        ("NONE", "named", &["IST0133"]),
        ("NONE", "none", &["IST0133", "RNG0206"]),
    ] {
        let found = found(&entry(resolution, label));
        let about: Vec<&str> = found.iter().map(|found| found.code).collect();
        assert_eq!(about, codes, "{resolution} {label}: {found:#?}");
    }
}

#[test]
fn what_services_and_workloads_say_in_vain_is_told() {
    let object = |head: &str, spec: &str| format!("{head}\nspec: {{{spec}}}\n");
    let service =
        |labels: &str| format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a{labels}}}");
    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: a}";
    let label = ", labels: {istio.io/persistent-session: session}";
    for (text, field) in [
        (object(&service(""), "internalTrafficPolicy: Local"), "spec.internalTrafficPolicy"),
        (object(&service(label), ""), "metadata.labels[istio.io/persistent-session]"),
        (object(workload, "address: \"unix:///run/db\""), "spec.address"),
    ] {
        let found = found(&text);
        let about: Vec<_> = found.iter().map(|found| (found.code, &*found.field)).collect();
        assert_eq!(about, [("RNG0100", field)], "{text}");
    }
    for quiet in ["internalTrafficPolicy: Cluster", ""] {
        assert_eq!(found(&object(&service(""), quiet)), [], "{quiet}");
    }
    let dynamic = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\n\
        spec: {hosts: [\"*.a.com\"], ports: [{number: 80, name: http, protocol: HTTP}], \
        resolution: DYNAMIC_DNS}\n";
    let told = found(dynamic);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!((told[0].code, &*told[0].field), ("RNG0100", "spec.resolution"));
}

#[test]
fn destinations_are_those_that_external_names_stand_for() {
    let text = |port: u16, target: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
             spec:\n  hosts: [a.com]\n  http:\n  \
             - route: [{{destination: {{host: alias, port: {{number: {port}}}}}}}]\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: alias}}\n\
             spec: {{type: ExternalName, externalName: {target}}}\n---\n\
             apiVersion: v1\nkind: Service\nmetadata: {{name: db}}\n\
             spec: {{ports: [{{name: http, port: 80}}]}}\n"
        )
    };
    for (port, target, codes) in [
        (80, "db.default.svc.cluster.local", &[][..]),
        (81, "db.default.svc.cluster.local", &["IST0101"]),
        // A name that is only resolved has the ports of the Service, here none.
        (80, "db.example.com", &["IST0101"]),
    ] {
        let found = found(&text(port, target));
        let about: Vec<&str> = found.iter().map(|found| found.code).collect();
        assert_eq!(about, codes, "{port} {target}: {found:#?}");
    }
}
