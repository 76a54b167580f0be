//! No field of Istio is ignored in silence: each is honoured, or a manifest that sets it is told.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Diagnostic, found};

/// What the gateway honours, and what has no effect at an ingress gateway of Istio either. A field
/// covers all below it.
const HONOURED: &[&str] = &[
    "Gateway spec.selector",
    "Gateway spec.servers[].bind",
    "Gateway spec.servers[].hosts",
    "Gateway spec.servers[].port",
    "Gateway spec.servers[].tls",
    // No effect in Istio: not used by gateways, a prefix of Envoy's statistics.
    "Gateway spec.servers[].defaultEndpoint",
    "Gateway spec.servers[].name",
    "VirtualService spec.exportTo",
    "VirtualService spec.gateways",
    "VirtualService spec.hosts",
    "VirtualService spec.http[].match",
    "VirtualService spec.http[].delegate",
    "VirtualService spec.http[].directResponse",
    "VirtualService spec.http[].corsPolicy",
    "VirtualService spec.http[].fault",
    "VirtualService spec.http[].headers",
    "VirtualService spec.http[].mirror",
    "VirtualService spec.http[].mirrorPercent",
    "VirtualService spec.http[].mirrorPercentage",
    "VirtualService spec.http[].mirrors",
    "VirtualService spec.http[].name",
    "VirtualService spec.http[].redirect",
    "VirtualService spec.http[].retries",
    "VirtualService spec.http[].rewrite",
    "VirtualService spec.http[].route[].destination",
    "VirtualService spec.http[].route[].headers",
    "VirtualService spec.http[].route[].weight",
    "VirtualService spec.http[].timeout",
    // Of their matches `port`, `gateways` and `sniHosts`: the others have no effect at a gateway of Istio.
    "VirtualService spec.tcp",
    "VirtualService spec.tls",
    "DestinationRule spec.exportTo",
    "DestinationRule spec.host",
    "DestinationRule spec.subsets[].labels",
    "DestinationRule spec.subsets[].name",
    "DestinationRule POLICY.connectionPool.http",
    "DestinationRule POLICY.connectionPool.tcp",
    "DestinationRule POLICY.loadBalancer.consistentHash",
    "DestinationRule POLICY.loadBalancer.localityLbSetting",
    "DestinationRule POLICY.loadBalancer.simple",
    "DestinationRule POLICY.loadBalancer.warmup",
    "DestinationRule POLICY.loadBalancer.warmupDurationSecs",
    "DestinationRule POLICY.outlierDetection",
    "DestinationRule POLICY.port",
    "DestinationRule POLICY.proxyProtocol",
    "DestinationRule POLICY.retryBudget",
    "DestinationRule POLICY.tls",
    "DestinationRule spec.workloadSelector",
    "ServiceEntry spec.endpoints[].address",
    "ServiceEntry spec.endpoints[].labels",
    "ServiceEntry spec.endpoints[].locality",
    "ServiceEntry spec.endpoints[].ports",
    "ServiceEntry spec.endpoints[].weight",
    "ServiceEntry spec.exportTo",
    "ServiceEntry spec.hosts",
    "ServiceEntry spec.location",
    "ServiceEntry spec.ports",
    "ServiceEntry spec.subjectAltNames",
    "ServiceEntry spec.workloadSelector",
    // No effect in Istio: no part in routing at an ingress gateway.
    "ServiceEntry spec.addresses",
    "ServiceEntry spec.endpoints[].network",
    "ServiceEntry spec.endpoints[].serviceAccount",
    "Telemetry spec.selector",
    "Telemetry spec.targetRef",
    "Telemetry spec.targetRefs",
    // Of its providers `envoy`: the test names another one.
    "Telemetry spec.accessLogging[].disabled",
    "Telemetry spec.accessLogging[].filter",
    "Telemetry spec.accessLogging[].match",
    // Of its providers `prometheus`, of its values literals: the test has others.
    "Telemetry spec.metrics[].overrides[].disabled",
    "Telemetry spec.metrics[].overrides[].match.metric",
    "Telemetry spec.metrics[].overrides[].match.mode",
    "Telemetry spec.metrics[].overrides[].tagOverrides{}.operation",
    "Telemetry spec.tracing[].customTags",
    "Telemetry spec.tracing[].disableSpanReporting",
    "Telemetry spec.tracing[].match",
    "Telemetry spec.tracing[].providers",
    "Telemetry spec.tracing[].randomSamplingPercentage",
];
/// Told although the field above them is honoured, with the value that is used here.
const TOLD: &[&str] = &[
    "DestinationRule POLICY.retryBudget.budgetInterval",
    "Gateway spec.servers[].tls.ecdhCurves[]",
    "Telemetry spec.tracing[].customTags{}.formatter.value",
];

/// The policies of a DestinationRule, its subsets and ports have the same blocks.
fn folded(field: &str) -> String {
    field
        .replace("spec.subsets[].trafficPolicy", "POLICY")
        .replace("spec.trafficPolicy", "POLICY")
        .replace("POLICY.portLevelSettings[]", "POLICY")
}

fn covers(prefix: &str, field: &str) -> bool {
    field
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[', '{']))
}

fn honoured(field: &str) -> bool {
    let field = folded(field);
    HONOURED.iter().any(|prefix| covers(prefix, &field)) && !TOLD.contains(&field.as_str())
}

/// `spec.a[].b{}` with a value → `{a: [{b: {key: value}}]}`.
fn nested(path: &str, value: &str) -> String {
    let end = path.find(['.', '[', '{']).unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let below = match rest {
        "" => return format!("{{{name}: {value}}}"),
        _ => rest,
    };
    format!("{{{name}: {}}}", containers(below, value))
}

fn containers(rest: &str, value: &str) -> String {
    if rest.is_empty() {
        value.to_owned()
    } else if let Some(rest) = rest.strip_prefix("[]") {
        format!("[{}]", containers(rest, value))
    } else if let Some(rest) = rest.strip_prefix("{}") {
        format!("{{key: {}}}", containers(rest, value))
    } else {
        nested(rest.trim_start_matches('.'), value)
    }
}

/// What is found in a manifest that sets one field.
fn findings(kind: &str, path: &str, value: &str) -> Vec<Diagnostic> {
    let spec = nested(path.trim_start_matches("spec."), value);
    let inner = spec.trim_start_matches('{').trim_end_matches('}');
    let bound = kind == "VirtualService" && !path.starts_with("spec.gateways");
    let gateways = if bound { "gateways: [g], " } else { "" };
    // TLS settings only say something on a server that has TLS.
    let tls = path.starts_with("spec.servers[].tls.") && !path.ends_with("httpsRedirect");
    let spec = match tls {
        true => spec.replacen("[{", "[{port: {number: 443, name: a, protocol: HTTPS}, ", 1),
        false if path.starts_with("spec.servers[]") && !path.contains(".port") => {
            spec.replacen("[{", "[{port: {number: 80, name: a, protocol: HTTP}, ", 1)
        }
        false => format!("{{{gateways}{inner}{}", &spec[1 + inner.len()..]),
    };
    // A Telemetry says nothing to a gateway of another namespace.
    let (group, namespace) = match kind {
        "Telemetry" => ("telemetry", "istio-system"),
        _ => ("networking", "default"),
    };
    found(&format!(
        "apiVersion: {group}.istio.io/v1\nkind: {kind}\nmetadata: {{name: a, namespace: \
         {namespace}}}\nspec: {spec}\n"
    ))
}

#[test]
fn every_field_is_honoured_or_told() {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/istio/fields.txt");
    let list = std::fs::read_to_string(list).expect("the list of fields");
    let (mut silent, mut wrong, mut leaves) = (BTreeSet::new(), BTreeSet::new(), 0);
    for line in list.lines() {
        let mut words = line.split(' ');
        let (Some(kind), Some(path), Some(what)) = (words.next(), words.next(), words.next())
        else {
            panic!("{line}");
        };
        let value = match what {
            "object" | "array" => continue,
            "boolean" => "true",
            "integer" | "number" => "1",
            // Of several values the last is never the default.
            _ => words.next().and_then(|values| values.rsplit('|').next()).unwrap_or("1s"),
        };
        // A port's protocol decides what is served at all; it has tests of its own.
        if path == "spec.servers[].port.protocol" || path == "spec.servers[].port.targetPort" {
            continue;
        }
        leaves += 1;
        let told = findings(kind, path, value).iter().any(|found| found.code == "RNG0100");
        let field = format!("{kind} {path}");
        // Without a protocol a server is not served, whatever its other fields are.
        if honoured(&field) != told || kind == "Gateway" && path.contains(".port.") {
            continue;
        }
        if told {
            wrong.insert(field)
        } else {
            silent.insert(field)
        };
    }
    assert!(leaves > 400, "{leaves}");
    assert!(
        silent.is_empty() && wrong.is_empty(),
        "silent: {silent:#?}\nhonoured, but told: {wrong:#?}"
    );
}
