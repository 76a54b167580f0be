use super::*;
use crate::compile::tests::resources;

/// The policy of `istio=ingressgateway` in `namespace`, of Telemetries `name namespace created spec`.
fn policy(namespace: &str, telemetries: &[(&str, &str, &str)]) -> TelemetryPolicy {
    let objects = telemetries.iter().enumerate().map(|(index, (name, of, spec))| {
        format!(
            "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata:\n  name: {name}\n  \
             namespace: {of}\n  creationTimestamp: \"2026-01-01T00:00:0{index}Z\"\nspec: {spec}\n"
        )
    });
    let text = objects.collect::<Vec<_>>().join("---\n");
    let labels = BTreeMap::from([
        ("istio".to_owned(), "ingressgateway".to_owned()),
        ("gateway.networking.k8s.io/gateway-name".to_owned(), "edge".to_owned()),
    ]);
    compile(&resources(&text), &labels, namespace, &TelemetryPolicy::default())
}

fn log(namespace: &str, telemetries: &[(&str, &str, &str)]) -> (LogSwitch, Option<String>) {
    let policy = policy(namespace, telemetries).access_log;
    (policy.switch, policy.filter.map(|filter| filter.to_string()))
}

const ROOT: &str = "istio-system";

#[test]
fn nothing_said_changes_nothing() {
    assert_eq!(policy(ROOT, &[]), TelemetryPolicy::default());
    assert_eq!(
        policy(ROOT, &[("a", "other", "{accessLogging: [{disabled: true}]}")]),
        TelemetryPolicy::default()
    );
    let selects = "{selector: {matchLabels: {app: b}}, accessLogging: [{disabled: true}]}";
    assert_eq!(policy(ROOT, &[("a", ROOT, selects)]), TelemetryPolicy::default());
    let server = "{accessLogging: [{match: {mode: SERVER}, disabled: true}], tracing: [{match: {mode: \
                  SERVER}, randomSamplingPercentage: 5}], metrics: [{overrides: [{match: {mode: SERVER}, \
                  disabled: true}]}]}";
    assert_eq!(policy(ROOT, &[("a", ROOT, server)]), TelemetryPolicy::default());
}

#[test]
fn the_narrowest_level_says_whether_requests_are_logged() {
    let (on, off) =
        ("{accessLogging: [{providers: [{name: envoy}]}]}", "{accessLogging: [{disabled: true}]}");
    let other = "{accessLogging: [{providers: [{name: otel}]}]}";
    let filter = "{accessLogging: [{filter: {expression: response.code > 499}}]}";
    let ours =
        "{selector: {matchLabels: {istio: ingressgateway}}, accessLogging: [{disabled: true}]}";
    let target = "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: edge}], \
                  accessLogging: [{disabled: true}]}";
    let text = Some("response.code > 499".to_owned());
    for (telemetries, expected) in [
        (vec![("a", ROOT, on)], (LogSwitch::On, None)),
        (vec![("a", ROOT, off)], (LogSwitch::Off, None)),
        (vec![("a", ROOT, other)], (LogSwitch::Off, None)),
        (vec![("a", ROOT, filter)], (LogSwitch::Unset, text.clone())),
        (vec![("a", ROOT, on), ("b", "edge", filter)], (LogSwitch::On, text.clone())),
        (vec![("a", ROOT, on), ("b", "edge", off)], (LogSwitch::Off, None)),
        (vec![("a", ROOT, off), ("b", "edge", on)], (LogSwitch::On, None)),
        (vec![("a", ROOT, on), ("b", "edge", other)], (LogSwitch::Off, None)),
        (vec![("a", "edge", on), ("b", "edge", ours)], (LogSwitch::Off, None)),
        (vec![("a", "edge", ours), ("b", "edge", on)], (LogSwitch::Off, None)),
        (vec![("a", "edge", on), ("b", "edge", target)], (LogSwitch::Off, None)),
        // The older of two that are for the same workloads.
        (vec![("b", "edge", on), ("a", "edge", off)], (LogSwitch::On, None)),
    ] {
        assert_eq!(log("edge", &telemetries), expected, "{telemetries:?}");
    }
}

#[test]
fn spans_are_sampled_and_tagged_as_the_levels_say_together() {
    let mesh = "{tracing: [{randomSamplingPercentage: 12.5, customTags: {a: {literal: {value: x}}, f: \
                {formatter: {value: \"%PROTOCOL%\"}}}}]}";
    let policy_of_mesh = policy("edge", &[("mesh", ROOT, mesh)]).tracing;
    assert_eq!(policy_of_mesh.sampling_ppm, 125_000);
    let tag = |name: &str, value| CustomTag { name: name.into(), value };
    assert_eq!(policy_of_mesh.custom_tags, [tag("a", TagValue::Text("x".into()))]);
    let own = "{tracing: [{disableSpanReporting: true, customTags: {b: {header: {name: X-User, \
               defaultValue: nobody}}, c: {environment: {name: CARGO_PKG_NAME}}, d: {environment: {name: \
               NO_SUCH_VARIABLE}}, e: {environment: {name: NO_SUCH_VARIABLE, defaultValue: y}}}}]}";
    let both = policy("edge", &[("mesh", ROOT, mesh), ("own", "edge", own)]).tracing;
    assert!(both.spans_disabled && both.sampling_ppm == 125_000, "{both:?}");
    let header = TagValue::Header { name: "x-user".into(), default: "nobody".into() };
    assert_eq!(
        both.custom_tags,
        [
            tag("b", header),
            tag("c", TagValue::Text("ringress".into())),
            tag("e", TagValue::Text("y".into())),
        ],
        "tags of the narrower level stand in the place of the wider one's"
    );
}

fn overrides(telemetries: &[(&str, &str, &str)]) -> MetricOverrides {
    policy("edge", telemetries).metrics
}

#[test]
fn changes_of_metrics_are_laid_over_each_other() {
    let mesh = "{metrics: [{providers: [{name: prometheus}], overrides: [{match: {metric: REQUEST_COUNT}, \
                tagOverrides: {a: {value: \"'1'\"}, b: {operation: REMOVE}, c-d: {value: \"'1'\"}, e: \
                {value: request.host}}}, {match: {metric: REQUEST_SIZE, mode: CLIENT}, disabled: true}]}]}";
    let own = "{metrics: [{overrides: [{match: {metric: REQUEST_SIZE}, disabled: false}, {match: {metric: \
               REQUEST_COUNT}, tagOverrides: {a: {operation: UPSERT, value: '\"2\"'}}}]}]}";
    let found = overrides(&[("mesh", ROOT, mesh), ("own", "edge", own)]);
    let requests = &found.0["istio_requests_total"];
    let tags: Vec<_> = requests.tags.iter().map(|(name, tag)| (name.as_str(), tag)).collect();
    assert_eq!(tags, [("a", &TagOverride::Set("2".to_owned())), ("b", &TagOverride::Remove)]);
    assert!(!requests.disabled && !found.0["istio_request_bytes"].disabled);
    assert_eq!(found.0.len(), 2, "{found:?}");
    let mesh_only = overrides(&[("mesh", ROOT, mesh)]);
    assert!(mesh_only.0["istio_request_bytes"].disabled);
}

#[test]
fn all_metrics_go_and_come_back() {
    let none = "{metrics: [{overrides: [{match: {metric: ALL_METRICS}, disabled: true}]}]}";
    let found = overrides(&[("mesh", ROOT, none)]);
    assert!(found.0.len() == 10 && found.0.values().all(|family| family.disabled), "{found:?}");
    let some = "{metrics: [{overrides: [{match: {metric: REQUEST_COUNT}, tagOverrides: {b: {operation: \
                REMOVE}}}]}]}";
    let found = overrides(&[("mesh", ROOT, none), ("own", "edge", some)]);
    assert!(found.0.len() == 1 && !found.0["istio_requests_total"].disabled, "{found:?}");
    let without_match = "{metrics: [{overrides: [{tagOverrides: {b: {operation: REMOVE}}}]}]}";
    assert_eq!(overrides(&[("mesh", ROOT, without_match)]).0.len(), 10);
    let other = "{metrics: [{providers: [{name: stackdriver}]}]}";
    assert!(overrides(&[("mesh", ROOT, other)]).0.values().all(|family| family.disabled));
}
