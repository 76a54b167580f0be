//! Findings that take several objects to see, and the rules that Istio's own tests leave out: the
//! smallest manifests that have each, and those that almost have it.

use super::found;

fn object(kind: &str, name: &str, spec: &str) -> String {
    let version = match kind {
        "Service" => "v1",
        _ => "networking.istio.io/v1",
    };
    format!("apiVersion: {version}\nkind: {kind}\nmetadata: {name}\nspec: {spec}\n---\n")
}

/// `CODE object field` of what is found, fields that are not honoured yet left out.
fn findings(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = found(text)
        .into_iter()
        .filter(|found| found.code != "RNG0100")
        .map(|found| {
            let name = found.resource.map(|key| key.name).unwrap_or_default();
            format!("{} {name} {}", found.code, found.field)
        })
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn assert_found(text: &str, expected: &[&str]) {
    assert_eq!(findings(text), expected, "{text}");
}

/// A Gateway of this gateway with one server.
fn gateway(name: &str, port: &str, rest: &str) -> String {
    let spec =
        format!("{{selector: {{istio: ingressgateway}}, servers: [{{port: {port}, {rest}}}]}}");
    object("Gateway", &format!("{{name: {name}}}"), &spec)
}

const HTTP: &str = "{number: 80, name: http, protocol: HTTP}";
const HTTPS: &str = "{number: 443, name: https, protocol: HTTPS}";

#[test]
fn servers_that_cannot_share_a_port() {
    let one = gateway("a", HTTP, "hosts: [a.com]");
    assert_found(&format!("{one}{}", gateway("b", HTTP, "hosts: [b.com]")), &[]);
    let same = format!("{one}{}", gateway("b", HTTP, "hosts: [\"*/a.com\"]"));
    assert_found(&same, &["IST0145 b spec.servers[0].hosts[0]"]);
    // Another address is another listener, and hosts for different namespaces are different.
    assert_found(&format!("{one}{}", gateway("b", HTTP, "bind: 10.0.0.1, hosts: [a.com]")), &[]);
    assert_found(&format!("{one}{}", gateway("b", HTTP, "hosts: [shop/a.com]")), &[]);
    let tcp = gateway("b", "{number: 80, name: tcp, protocol: TCP}", "hosts: [b.com]");
    assert_found(&format!("{one}{tcp}"), &["IST0145 b spec.servers[0].port"]);
    let another = tcp.replace("name: b", "name: c");
    assert_found(&format!("{tcp}{another}"), &["IST0145 c spec.servers[0].port"]);
    // Of Gateways for different gateways nothing is known.
    let other = tcp.replace("istio: ingressgateway", "istio: other");
    assert_found(&format!("{one}{other}"), &["IST0127 b spec.selector"]);
}

#[test]
fn ports_that_the_service_of_the_gateway_lacks() {
    let service = |namespace: &str, selector: &str| {
        object(
            "Service",
            &format!("{{name: edge, namespace: {namespace}}}"),
            &format!(
                "{{selector: {selector}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}"
            ),
        )
    };
    let ours = service("istio-system", "{istio: ingressgateway}");
    for (port, expected) in
        [(80, &[][..]), (8080, &[]), (8081, &["IST0162 a spec.servers[0].port.number"])]
    {
        let server = format!("{{number: {port}, name: http, protocol: HTTP}}");
        let server = gateway("a", &server, "hosts: [a.com]");
        assert_found(&format!("{ours}{server}"), expected);
        for other in [
            service("elsewhere", "{istio: ingressgateway}"),
            service("istio-system", "{app: other}"),
        ] {
            assert_found(&format!("{other}{server}"), &[]);
        }
    }
}

#[test]
fn secrets_of_servers() {
    let server = |mode: &str| {
        gateway("a", HTTPS, &format!("hosts: [a.com], tls: {{mode: {mode}, credentialName: s}}"))
    };
    let secret = |name: &str, namespace: &str, data: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             stringData: {{{data}}}\n---\n"
        )
    };
    let made = rcgen::generate_simple_self_signed(["a.com".to_owned()]).expect("a certificate");
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let pair = format!("tls.crt: {chain:?}, tls.key: {key:?}");
    let pair = pair.as_str();
    let ca = format!("{chain:?}");
    let credential = "spec.servers[0].tls.credentialName";
    let without_ca = [format!("IST0161 a {credential}")];
    let invalid = |field: &str| [format!("IST0161 a {credential}"), format!("RNG0310 s {field}")];
    let missing = [format!("IST0101 a {credential}")];
    let none: [String; 0] = [];
    let own = "istio-system";
    for (text, expected) in [
        // Without any Secret nothing is known of them.
        (server("SIMPLE"), &none[..]),
        (format!("{}{}", server("SIMPLE"), secret("s", own, pair)), &none),
        (format!("{}{}", server("SIMPLE"), secret("s", "default", pair)), &missing),
        (format!("{}{}", server("PASSTHROUGH"), secret("other", own, pair)), &none),
        (format!("{}{}", server("SIMPLE"), secret("s", own, "a: b")), &invalid("")),
        (
            format!("{}{}", server("SIMPLE"), secret("s", own, &pair.replace(".key", ".x"))),
            &invalid(""),
        ),
        (
            format!("{}{}", server("SIMPLE"), secret("s", own, "cert: a, key: b")),
            &invalid("stringData[cert]"),
        ),
        (format!("{}{}", server("MUTUAL"), secret("s", own, pair)), &without_ca),
        (
            format!("{}{}", server("MUTUAL"), secret("s", own, &format!("{pair}, ca.crt: x"))),
            &invalid("stringData[ca.crt]"),
        ),
        (
            format!("{}{}", server("MUTUAL"), secret("s", own, &format!("{pair}, ca.crt: {ca}"))),
            &none,
        ),
        (
            format!(
                "{}{}{}",
                server("MUTUAL"),
                secret("s", own, pair),
                secret("s-cacert", own, &format!("cacert: {ca}"))
            ),
            &none,
        ),
    ] {
        let found: Vec<String> =
            findings(&text).into_iter().filter(|line| !line.starts_with("IST0133")).collect();
        assert_eq!(found, expected, "{text}");
    }
    let bad = secret("s", own, "cert: very-secret-value, key: b");
    let said = format!("{:?}", found(&format!("{}{bad}", server("SIMPLE"))));
    assert!(!said.contains("very-secret-value"), "{said}");
}

/// A ServiceEntry for `a.com` with endpoints of these versions.
fn entry(versions: &[&str]) -> String {
    let endpoints: Vec<String> = versions
        .iter()
        .enumerate()
        .map(|(index, version)| {
            format!("{{address: 10.0.0.{index}, labels: {{version: {version}}}}}")
        })
        .collect();
    let spec = format!(
        "{{hosts: [a.com], ports: [{{number: 80, name: http, protocol: HTTP}}], \
         resolution: STATIC, endpoints: [{}]}}",
        endpoints.join(", ")
    );
    object("ServiceEntry", "{name: se}", &spec)
}

fn rule(spec: &str) -> String {
    object("DestinationRule", "{name: dr}", &format!("{{host: a.com, {spec}}}"))
}

#[test]
fn subsets_and_ejections_against_the_endpoints_there_are() {
    let subsets = "subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]";
    assert_found(&format!("{}{}", entry(&["v1", "v2"]), rule(subsets)), &[]);
    let text = format!("{}{}", entry(&["v1"]), rule(subsets));
    assert_found(&text, &["IST0173 dr spec.subsets[1].labels"]);
    // Where no endpoints are listed they may be found otherwise.
    assert_found(&format!("{}{}", entry(&[]), rule(subsets)), &[]);

    let ejection = |percent: &str| {
        rule(&format!("trafficPolicy: {{outlierDetection: {{consecutive5xxErrors: 1{percent}}}}}"))
    };
    let nine = entry(&["v1"; 9]);
    let useless = &["RNG0302 dr spec.trafficPolicy.outlierDetection"][..];
    for (endpoints, percent, expected) in [
        (&nine, "", useless),
        (&nine, ", maxEjectionPercent: 0", useless),
        (&nine, ", maxEjectionPercent: 11", useless),
        (&nine, ", maxEjectionPercent: 12", &[]),
        (&entry(&["v1"; 10]), "", &[]),
        (&entry(&["v1"]), ", maxEjectionPercent: 99", useless),
        (&entry(&["v1"]), ", maxEjectionPercent: 100", &[]),
        (&entry(&[]), "", &[]),
    ] {
        assert_found(&format!("{endpoints}{}", ejection(percent)), expected);
    }
    let of_subset = rule(
        "subsets: [{name: v1, labels: {version: v1}, \
         trafficPolicy: {outlierDetection: {maxEjectionPercent: 40}}}]",
    );
    let place = "RNG0302 dr spec.subsets[0].trafficPolicy.outlierDetection";
    assert_found(&format!("{}{of_subset}", entry(&["v1", "v1", "v2"])), &[place]);
    assert_found(&format!("{}{of_subset}", entry(&["v1", "v1", "v1"])), &[]);
}

#[test]
fn failover_needs_outlier_detection() {
    let locality = "loadBalancer: {localityLbSetting: {failover: [{from: a, to: b}]}}";
    let policy = |more: &str| {
        let rule = rule(&format!("trafficPolicy: {{{locality}{more}}}"));
        format!("{}{rule}", entry(&["v1"; 20]))
    };
    let place = "IST0133 dr spec.trafficPolicy.loadBalancer.localityLbSetting";
    assert_found(&policy(""), &[place]);
    assert_found(&policy(", outlierDetection: {consecutive5xxErrors: 1}"), &[]);
    let distribute = locality.replace("failover: [{from: a, to: b}]", "distribute: []");
    let text = format!("{}{}", entry(&[]), rule(&format!("trafficPolicy: {{{distribute}}}")));
    assert_found(&text, &[]);
}

#[test]
fn hosts_of_several_virtual_services() {
    let routes = |name: &str, host: &str| {
        let spec = format!(
            "{{hosts: [{host}], gateways: [g], http: [{{route: [{{destination: {{host: a.com}}}}]}}]}}"
        );
        object("VirtualService", &format!("{{name: {name}}}"), &spec)
    };
    let base = format!("{}{}", entry(&[]), gateway("g", HTTP, "hosts: [\"*\"]"));
    let text = format!("{base}{}{}", routes("one", "x.com"), routes("two", "x.com"));
    assert_found(&text, &["RNG0210 two spec.hosts[0]"]);
    assert_found(&format!("{base}{}{}", routes("one", "x.com"), routes("two", "y.com")), &[]);
}

#[test]
fn metadata_and_lists_of_all_kinds() {
    let kinds = [
        ("Gateway", "{servers: [{port: {number: 80, name: a, protocol: HTTP}, hosts: [a.com]}]}"),
        ("VirtualService", "{hosts: [a.com], http: [{redirect: {uri: /a}}]}"),
        ("DestinationRule", "{host: a.com}"),
        ("ServiceEntry", "{hosts: [a.com]}"),
    ];
    let errors = |text: &str| -> Vec<String> {
        findings(text).into_iter().filter(|line| line.starts_with("IST0106")).collect()
    };
    for (kind, spec) in kinds {
        for (meta, field) in [
            ("{name: a}", ""),
            ("{name: a, annotations: {istio.io/rev: x}}", ""),
            ("{name: a_b}", "metadata.name"),
            ("{name: a, namespace: b.c}", "metadata.namespace"),
            (
                "{name: a, annotations: {internal.istio.io/parents: x}}",
                "metadata.annotations[internal.istio.io/parents]",
            ),
            (
                "{name: a, annotations: {istio.io/dry-run: \"true\"}}",
                "metadata.annotations[istio.io/dry-run]",
            ),
        ] {
            let name = if meta.contains("a_b") { "a_b" } else { "a" };
            let expected: Vec<String> = match field {
                "" => Vec::new(),
                field => vec![format!("IST0106 {name} {field}")],
            };
            assert_eq!(errors(&object(kind, meta, spec)), expected, "{kind} {meta}");
        }
        if kind == "Gateway" {
            assert_eq!(errors(&object(kind, "{name: a.b}", spec)), ["IST0106 a.b metadata.name"]);
            continue;
        }
        for (scopes, bad) in [
            ("[\"*\"]", None),
            ("[., other]", None),
            ("[\"*\", other]", Some(0)),
            ("[., default]", Some(1)),
            ("[other, other]", Some(1)),
            ("[a_b]", Some(0)),
        ] {
            let spec = format!("{{exportTo: {scopes}, {}", &spec[1..]);
            let expected: Vec<String> =
                bad.iter().map(|index| format!("IST0106 a spec.exportTo[{index}]")).collect();
            assert_eq!(errors(&object(kind, "{name: a}", &spec)), expected, "{kind} {scopes}");
        }
        // Nobody sees it: for a service only.
        let spec = format!("{{exportTo: [\"~\"], {}", &spec[1..]);
        let refused = !errors(&object(kind, "{name: a}", &spec)).is_empty();
        assert_eq!(refused, kind != "ServiceEntry", "{kind}");
    }
}

#[test]
fn routes_of_connections_are_judged_before_they_are_served() {
    let errors = |routes: &str| -> Vec<String> {
        let spec = format!("{{hosts: [\"*.a.com\"], gateways: [g], {routes}}}");
        findings(&object("VirtualService", "{name: v}", &spec))
            .into_iter()
            .filter_map(|line| Some(line.strip_prefix("IST0106 v spec.")?.to_owned()))
            .collect()
    };
    let to = "route: [{destination: {host: b.com}}]";
    for (routes, field) in [
        (format!("tls: [{{match: [{{sniHosts: [x.a.com], port: 443}}], {to}}}]"), ""),
        (format!("tls: [{{match: [{{sniHosts: [\"*.b.a.com\"]}}], {to}}}]"), ""),
        (format!("tls: [{{{to}}}]"), "tls[0]"),
        (format!("tls: [{{match: [{{}}], {to}}}]"), "tls[0].match[0]"),
        (format!("tls: [{{match: [{{sniHosts: [b.com]}}], {to}}}]"), "tls[0].match[0].sniHosts[0]"),
        ("tls: [{match: [{sniHosts: [x.a.com]}]}]".to_owned(), "tls[0]"),
        (
            format!(
                "tls: [{{match: [{{sniHosts: [x.a.com], destinationSubnets: [10.0.0.0/99]}}], {to}}}]"
            ),
            "tls[0].match[0].destinationSubnets[0]",
        ),
        (
            format!("tls: [{{match: [{{sniHosts: [x.a.com], gateways: [a/b/c]}}], {to}}}]"),
            "tls[0].match[0].gateways[0]",
        ),
        (format!("tcp: [{{{to}}}]"), ""),
        (format!("tcp: [{{match: [{{port: 99999}}], {to}}}]"), "tcp[0].match[0].port"),
        (format!("tcp: [{{match: [{{sourceSubnet: x}}], {to}}}]"), "tcp[0].match[0].sourceSubnet"),
        (
            format!("tcp: [{{match: [{{sourceLabels: {{\"a*\": b}}}}], {to}}}]"),
            "tcp[0].match[0].sourceLabels[a*]",
        ),
        (
            format!("tcp: [{{match: [{{sourceNamespace: a.b}}], {to}}}]"),
            "tcp[0].match[0].sourceNamespace",
        ),
        ("tcp: [{}]".to_owned(), "tcp[0]"),
        ("tcp: [{route: [{weight: 1}]}]".to_owned(), "tcp[0].route[0]"),
        (
            "tcp: [{route: [{destination: {host: \"*\"}}]}]".to_owned(),
            "tcp[0].route[0].destination.host",
        ),
        (
            "tcp: [{route: [{destination: {host: b.com}}, {destination: {host: c.com}}]}]"
                .to_owned(),
            "tcp[0].route",
        ),
    ] {
        let expected: Vec<&str> = [field].into_iter().filter(|field| !field.is_empty()).collect();
        assert_eq!(errors(&routes), expected, "{routes}");
    }
}

#[test]
fn tls_to_services() {
    let errors = |tls: &str| -> Vec<String> {
        findings(&rule(&format!("trafficPolicy: {{tls: {{{tls}}}}}")))
            .into_iter()
            .filter_map(|line| {
                Some(line.strip_prefix("IST0106 dr spec.trafficPolicy.tls")?.to_owned())
            })
            .collect()
    };
    for (tls, expected) in [
        ("mode: DISABLE", &[][..]),
        ("mode: SIMPLE, caCertificates: /ca", &[]),
        ("mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /ca", &[]),
        ("mode: MUTUAL, credentialName: s", &[]),
        ("mode: SIMPLE, credentialName: \"configmap://ca\"", &[]),
        ("mode: SIMPLE, credentialName: \"configmap://default/ca\"", &[]),
        ("mode: SIMPLE, credentialName: \"configmap://other/ca\"", &[".credentialName"]),
        ("mode: MUTUAL, clientCertificate: /c", &[""]),
        ("mode: MUTUAL", &["", ""]),
        ("mode: SIMPLE, credentialName: s, caCertificates: /ca", &[".caCertificates"]),
        ("mode: MUTUAL, credentialName: s, caCrl: /crl", &[".caCrl"]),
        ("mode: SIMPLE, insecureSkipVerify: true", &[]),
        ("mode: SIMPLE, insecureSkipVerify: true, credentialName: s", &[".credentialName"]),
        ("mode: MUTUAL, insecureSkipVerify: true, credentialName: s", &[]),
        ("mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [a]", &[".subjectAltNames"]),
    ] {
        assert_eq!(errors(tls), expected, "{tls}");
    }
}

#[test]
fn what_is_said_of_localities() {
    let errors = |setting: &str| -> Vec<String> {
        let policy =
            format!("trafficPolicy: {{loadBalancer: {{localityLbSetting: {{{setting}}}}}}}");
        let prefix = "IST0106 dr spec.trafficPolicy.loadBalancer.localityLbSetting.distribute";
        findings(&rule(&policy))
            .into_iter()
            .filter_map(|line| Some(line.strip_prefix(prefix)?.to_owned()))
            .collect()
    };
    for (distribute, expected) in [
        ("{from: a/*, to: {a/b/*: 70, b: 30}}", &[][..]),
        ("{from: a/b, to: {c: 100}}, {from: a/c, to: {c: 100}}", &[]),
        ("{from: a/*, to: {c: 100}}, {from: a/b, to: {c: 100}}", &["[1].from"]),
        ("{from: a, to: {c: 50, c/d: 50}}", &["[0].to[c/d]"]),
        ("{from: \"*/a\", to: {c: 100}}", &["[0].from"]),
        ("{from: a//b, to: {c: 100}}", &["[0].from"]),
        ("{from: a, to: {c: 0, d: 100}}", &["[0].to"]),
    ] {
        assert_eq!(errors(&format!("distribute: [{distribute}]")), expected, "{distribute}");
    }
}

#[test]
fn matches_for_gateways_that_it_is_not_bound_to() {
    let base = format!("{}{}", entry(&[]), gateway("g", HTTP, "hosts: [\"*\"]"));
    let routes = |bound: &str, of_match: &str| {
        let spec = format!(
            "{{hosts: [a.com], gateways: {bound}, \
             http: [{{match: [{{gateways: {of_match}}}], redirect: {{uri: /a}}}}]}}"
        );
        format!("{base}{}", object("VirtualService", "{name: v}", &spec))
    };
    let never = &["IST0131 v spec.http[0].match[0].gateways"][..];
    for (bound, of_match, expected) in [
        ("[g]", "[default/g]", &[][..]),
        ("[g, mesh]", "[mesh]", &[]),
        ("[]", "[mesh]", &[]),
        ("[g]", "[mesh]", never),
        ("[g]", "[other/g]", never),
        ("[]", "[g]", never),
    ] {
        assert_found(&routes(bound, of_match), expected);
    }
}

#[test]
fn weights_are_relative() {
    let said = |weights: &[&str]| -> Vec<(String, String)> {
        let route: Vec<String> = weights
            .iter()
            .map(|weight| format!("{{destination: {{host: a.com}}{weight}}}"))
            .collect();
        let spec = format!("{{hosts: [a.com], http: [{{route: [{}]}}]}}", route.join(", "));
        found(&format!("{}{}", entry(&[]), object("VirtualService", "{name: v}", &spec)))
            .into_iter()
            .filter(|found| found.code == "RNG0211")
            .map(|found| (found.field, found.message))
            .collect()
    };
    for fine in [&[""][..], &[", weight: 7"], &[", weight: 99", ", weight: 1"]] {
        assert_eq!(said(fine), [], "{fine:?}");
    }
    let shares = said(&[", weight: 1", ", weight: 2", ", weight: 0"]);
    let message = "the weights add up to 3: 33.3 %, 66.6 %, 0.0 %";
    assert_eq!(shares, [("spec.http[0].route".to_owned(), message.to_owned())]);
    let without = said(&[", weight: 100", ""]);
    assert_eq!(without[0].0, "spec.http[0].route[1]");
}
