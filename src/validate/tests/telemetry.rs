//! Telemetries: the rules, what is not honoured, and several where there should be one.

use super::{Severity, found};

fn telemetry(name: &str, namespace: &str, spec: &str) -> String {
    format!(
        "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {spec}\n"
    )
}

/// `CODE field` of what is found in a Telemetry of this gateway's namespace.
fn findings(spec: &str) -> Vec<String> {
    let found = found(&telemetry("a", "istio-system", spec));
    found.iter().map(|found| format!("{} {}", found.code, found.field)).collect()
}

#[test]
fn telemetries_are_judged() {
    for (spec, expected) in [
        ("{}", ""),
        (
            "{accessLogging: [{providers: [{name: envoy}], filter: {expression: response.code >= 400}}]}",
            "",
        ),
        (
            "{accessLogging: [{providers: [{name: \"\"}]}]}",
            "IST0106 spec.accessLogging[0].providers[0]",
        ),
        (
            "{accessLogging: [{filter: {expression: \"response.code >\"}}]}",
            "IST0106 spec.accessLogging[0].filter.expression",
        ),
        ("{accessLogging: [{filter: {}}]}", "IST0106 spec.accessLogging[0].filter.expression"),
        ("{selector: {matchLabels: {a: b}}, targetRef: {kind: Gateway, name: g}}", "IST0106 spec"),
        ("{selector: {matchLabels: {a: \"*\"}}}", "IST0106 spec.selector.matchLabels[a]"),
        ("{targetRefs: [{kind: Gateway}]}", "IST0106 spec.targetRefs[0]"),
        (
            "{targetRef: {kind: Gateway, name: g, namespace: other}}",
            "IST0106 spec.targetRef.namespace",
        ),
        (
            "{tracing: [{randomSamplingPercentage: 100.5}]}",
            "IST0106 spec.tracing[0].randomSamplingPercentage",
        ),
        ("{tracing: [{}, {}]}", "IST0133 spec.tracing"),
        ("{tracing: [{providers: [{name: a}, {name: b}]}]}", "IST0133 spec.tracing[0].providers"),
        ("{tracing: [{customTags: {a: {}}}]}", "IST0106 spec.tracing[0].customTags[a]"),
        (
            "{tracing: [{customTags: {a: {header: {name: \"\"}}}}]}",
            "IST0106 spec.tracing[0].customTags[a].header.name",
        ),
        (
            "{metrics: [{overrides: [{match: {customMetric: \"\"}}]}]}",
            "IST0106 spec.metrics[0].overrides[0].match.customMetric",
        ),
        (
            "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT, customMetric: a}}]}]}",
            "IST0106 spec.metrics[0].overrides[0].match",
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {a: {operation: UPSERT}}}]}]}",
            "IST0106 spec.metrics[0].overrides[0].tagOverrides[a]",
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {a: {operation: REMOVE, value: \"'b'\"}}}]}]}",
            "IST0106 spec.metrics[0].overrides[0].tagOverrides[a]",
        ),
        (
            "{metrics: [{overrides: [{tagOverrides: {\"\": {value: \"'b'\"}}}]}]}",
            "IST0133 spec.metrics[0].overrides[0].tagOverrides[]",
        ),
    ] {
        let found = findings(spec);
        let rules: Vec<&String> = found.iter().filter(|found| !found.contains("RNG0100")).collect();
        let expected: Vec<&str> =
            Some(expected).into_iter().filter(|one| !one.is_empty()).collect();
        assert_eq!(rules, expected, "{spec}: {found:?}");
    }
}

#[test]
fn what_is_not_honoured_is_told_of_this_gateways_telemetries_only() {
    let spec = "{metrics: [{reportingInterval: 5s, overrides: [{tagOverrides: {a: {value: request.host}}}]}]}";
    let expected = [
        "RNG0100 spec.metrics[0].reportingInterval",
        "RNG0100 spec.metrics[0].overrides[0].tagOverrides[a].value",
    ];
    assert_eq!(findings(spec), expected);
    assert!(found(&telemetry("a", "other", spec)).is_empty());
    assert_eq!(
        findings("{accessLogging: [{providers: [{name: otel}, {name: Envoy}]}]}"),
        ["RNG0100 spec.accessLogging[0].providers[0].name"]
    );
}

#[test]
fn a_mistake_in_a_filter_is_told_with_its_column_and_what_is_known() {
    let text = telemetry(
        "a",
        "istio-system",
        "{accessLogging: [{filter: {expression: \"request.path.lower() == 'a'\"}}]}",
    );
    let found = found(&text);
    let [error] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(error.severity, Severity::Error);
    assert!(error.message.starts_with("column "), "{}", error.message);
    assert!(error.place.as_ref().is_some_and(|place| place.position.line == 4), "{error:?}");
}

#[test]
fn several_where_there_should_be_one_are_told() {
    let selects = "{selector: {matchLabels: {istio: ingressgateway}}}";
    let text = format!(
        "{}---\n{}---\n{}---\n{}---\n{}",
        telemetry("a", "istio-system", "{}"),
        telemetry("b", "istio-system", "{}"),
        telemetry("c", "istio-system", selects),
        telemetry("d", "istio-system", selects),
        telemetry("e", "other", "{}"),
    );
    let found = found(&text);
    let told: Vec<String> = found
        .iter()
        .map(|found| {
            let name = found.resource.as_ref().map_or("", |key| &key.name);
            format!("{} {name}", found.code)
        })
        .collect();
    assert_eq!(told, ["IST0159 c", "IST0159 d", "IST0160 a", "IST0160 b"]);
    assert!(found[0].message.contains("c, d") && found[0].message.ends_with("c is used"));
}
