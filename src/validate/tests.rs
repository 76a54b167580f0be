//! Rules by example: a manifest, and what is found in it.

use std::fs;

use tempfile::TempDir;

use super::*;
use crate::config::load;

mod analyses;
mod analyzers;
mod credentials;
mod fields;
mod rules;
mod telemetry;

/// What is found in a text. Whatever it is, it says what to do.
fn found(text: &str) -> Vec<Diagnostic> {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("a.yaml"), text).expect("written");
    let loaded = load(&[directory.path().to_owned()]);
    let documents = loaded.files.into_iter().flat_map(|file| file.outcome.expect("YAML"));
    let resources = documents.map(|document| document.result.expect("typed"));
    let found = validate(&ResourceSet::from_resources(resources), &ValidateOptions::default());
    for finding in &found {
        // The codes of schema and validation stand for many things: each has its own mend.
        let generic = !matches!(finding.code, "IST0106" | "IST0133");
        assert!(finding.help.is_some() || generic, "no help of its own: {finding:?}");
        assert!(finding.mend().is_some() || finding.severity == Severity::Info, "{finding:?}");
    }
    found
}

fn gateway(servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

fn routes(http: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs}}\n\
         spec:\n  hosts: [a.com]\n  gateways: [gw]\n  http:\n{http}"
    )
}

/// Errors as (field, part of the message).
fn assert_errors(text: &str, expected: &[(&str, &str)]) {
    let found = found(text);
    let errors: Vec<&Diagnostic> =
        found.iter().filter(|found| found.severity == Severity::Error).collect();
    for (field, message) in expected {
        assert!(
            errors.iter().any(|error| error.field == *field && error.message.contains(message)),
            "no error at {field} saying {message:?}: {errors:#?}"
        );
    }
    assert_eq!(errors.len(), expected.len(), "{errors:#?}");
}

#[test]
fn gateways_are_judged() {
    let good =
        "  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [\"*\", ns/a.com, ./b.com]}\n";
    assert_errors(&gateway(good), &[]);
    assert_errors(&gateway("    []\n"), &[("spec", "at least one server")]);
    let cases = [
        ("{number: 0, name: http, protocol: HTTP}", "[a.com]", "port.number"),
        ("{number: 70000, name: http, protocol: HTTP}", "[a.com]", "port.number"),
        ("{number: 80, protocol: HTTP}", "[a.com]", "port"),
        ("{number: 80, name: http, protocol: SPDY}", "[a.com]", "port.protocol"),
        (
            "{number: 80, name: http, protocol: HTTP, targetPort: 8080}",
            "[a.com]",
            "port.targetPort",
        ),
        ("{number: 80, name: http, protocol: HTTP}", "[]", ""),
        ("{number: 80, name: http, protocol: HTTP}", "[\"*a.com\"]", "hosts[0]"),
        ("{number: 80, name: http, protocol: HTTP}", "[short]", "hosts[0]"),
        ("{number: 80, name: http, protocol: HTTP}", "[\"n_s/a.com\"]", "hosts[0]"),
        ("{number: 443, name: https, protocol: HTTPS}", "[a.com]", ""),
    ];
    for (port, hosts, field) in cases {
        let text = gateway(&format!("  - {{port: {port}, hosts: {hosts}}}\n"));
        let field = match field {
            "" => "spec.servers[0]".to_owned(),
            field => format!("spec.servers[0].{field}"),
        };
        assert_errors(&text, &[(&field, "")]);
    }
}

#[test]
fn virtual_services_are_judged() {
    let to = "route: [{destination: {host: a.b}}]";
    assert_errors(&routes(&format!("  - {to}\n")), &[]);
    let cases = [
        ("{}".to_owned(), "spec.http[0]", "none of"),
        (format!("{{{to}, redirect: {{uri: /a}}}}"), "spec.http[0]", "more than one"),
        (
            format!("{{match: [{{uri: {{regex: \"(?=a)\"}}}}], {to}}}"),
            "spec.http[0].match[0].uri.regex",
            "RE2",
        ),
        (
            format!("{{match: [{{headers: {{x: {{prefix: \"\"}}}}}}], {to}}}"),
            "spec.http[0].match[0].headers[x]",
            "empty prefix",
        ),
        (format!("{{timeout: 0s, {to}}}"), "spec.http[0].timeout", "less than 1ms"),
        (
            format!("{{retries: {{attempts: 1, retryOn: \"5xx, reset\"}}, {to}}}"),
            "spec.http[0].retries.retryOn",
            "unknown condition ` reset`",
        ),
        (
            "{route: [{destination: {host: a.b}, weight: 0}, {destination: {host: c.d}, weight: 0}]}"
                .to_owned(),
            "spec.http[0].route",
            "all 0",
        ),
        (
            "{route: [{destination: {host: \"*\"}}]}".to_owned(),
            "spec.http[0].route[0].destination.host",
            "not the host",
        ),
        ("{redirect: {}}".to_owned(), "spec.http[0].redirect", "changes nothing"),
        (
            "{directResponse: {status: 99}}".to_owned(),
            "spec.http[0].directResponse.status",
            "99",
        ),
    ];
    for (rule, field, message) in cases {
        assert_errors(&routes(&format!("  - {rule}\n")), &[(field, message)]);
    }
    let overlap = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\n\
                   spec:\n  hosts: [\"*.a.com\", x.a.com]\n  http: [{route: [{destination: {host: a}}]}]\n";
    assert_errors(overlap, &[("spec.hosts[1]", "overlaps")]);
}

#[test]
fn destination_rules_and_service_entries_are_judged() {
    let rule = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: dr}}\n\
             spec: {spec}\n"
        )
    };
    assert_errors(&rule("{host: a.b, subsets: [{name: v1, labels: {version: v1}}]}"), &[]);
    assert_errors(
        &rule("{host: a.b, trafficPolicy: {}, subsets: [{name: v1}, {name: v1}]}"),
        &[("spec.trafficPolicy", "empty"), ("spec.subsets[1].name", "second")],
    );
    let entry = |spec: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: se}}\n\
             spec: {spec}\n"
        )
    };
    let ports = "ports: [{number: 80, name: http, protocol: HTTP}]";
    assert_errors(
        &entry(&format!(
            "{{hosts: [a.com], {ports}, resolution: STATIC, endpoints: [{{address: 10.0.0.1}}]}}"
        )),
        &[],
    );
    assert_errors(
        &entry(&format!(
            "{{hosts: [a.com], {ports}, resolution: STATIC, endpoints: [{{address: name}}]}}"
        )),
        &[("spec.endpoints[0].address", "does not fit")],
    );
    assert_errors(
        &entry(&format!("{{hosts: [\"*\"], {ports}}}")),
        &[("spec.hosts[0]", "not the host")],
    );
}

#[test]
fn names_that_point_nowhere_are_warned_about() {
    let text = format!(
        "{}---\n{}",
        gateway("  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [b.com]}\n"),
        routes("  - {route: [{destination: {host: reviews, subset: v9}}]}\n")
    );
    let found = found(&text);
    let codes: Vec<(&str, &str)> =
        found.iter().map(|found| (found.code, found.field.as_str())).collect();
    assert!(codes.contains(&("IST0132", "spec.hosts[0]")), "{codes:?}");
    assert!(codes.contains(&("IST0101", "spec.http[0].route[0].destination.host")), "{codes:?}");
    assert!(found.iter().all(|found| found.severity != Severity::Error));
}

#[test]
fn what_is_not_honoured_says_so_by_name() {
    let text = routes(
        "  - route: [{destination: {host: a.b}}]\n    match: [{headers: {'@request.auth.claims.x': {exact: y}}}]\n    \
         headers: {request: {set: {a: \"%TRACE_ID%\"}}}\n",
    );
    let found = found(&text);
    for (field, line) in [
        ("spec.http[0].match[0].headers[@request.auth.claims.x]", 9),
        ("spec.http[0].headers.request.set[a]", 10),
    ] {
        let finding = found
            .iter()
            .find(|found| found.code == "RNG0100" && found.field == field)
            .unwrap_or_else(|| panic!("{field} is ignored in silence"));
        assert_eq!(finding.place.as_ref().map(|place| place.position.line), Some(line));
    }
}

#[test]
fn unreachable_rules_are_told() {
    let to = "route: [{destination: {host: a.b}}]";
    let found = found(&routes(&format!("  - {to}\n  - {to}\n")));
    assert!(found.iter().any(|found| found.code == "IST0130" && found.field == "spec.http[1]"));
}
