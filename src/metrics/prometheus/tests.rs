use super::*;
use crate::ids::WorkerId;
use crate::metrics::labels::{LabelTable, MetricLabels};
use crate::metrics::{ControlStats, MetricsShard, Totals};
use crate::stream_info::{ResponseFlags, StreamInfo};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// One sample: name, labels in order, value.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Sample {
    fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn labels_without(&self, name: &str) -> Vec<(String, String)> {
        self.labels.iter().filter(|(other, _)| other != name).cloned().collect()
    }
}

/// A strict parser of the exposition format: panics at anything out of order.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    let mut kinds = BTreeMap::new();
    let mut samples = Vec::new();
    let mut family = String::new();
    let mut seen = BTreeSet::new();
    assert!(text.ends_with('\n'));
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let name = help.split(' ').next().unwrap();
            let kind = lines.next().unwrap();
            let kind = kind.strip_prefix(&format!("# TYPE {name} ")).expect("TYPE after HELP");
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            assert!(kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            family = name.to_owned();
            continue;
        }
        let sample = parse_sample(line);
        let suffix = sample.name.strip_prefix(&family).expect("a sample stands under its family");
        match kinds[&family].as_str() {
            "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
            _ => assert_eq!(suffix, "", "{line}"),
        }
        assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{line} twice");
        samples.push(sample);
    }
    (kinds, samples)
}

fn parse_sample(line: &str) -> Sample {
    let name_end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(!label.is_empty());
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label:?}");
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                let (at, character) = characters.next().expect("closing quote");
                match character {
                    '"' => break at + 1,
                    '\\' => value.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("unknown escape {other:?}"),
                    }),
                    other => value.push(other),
                }
            };
            assert!(!value.is_empty(), "{label} is empty in {line}");
            assert!(labels.iter().all(|(other, _)| other != label), "{label} twice in {line}");
            labels.push((label.to_owned(), value));
            rest = &after[end..];
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap();
    }
    let value = rest.strip_prefix(' ').unwrap().parse().unwrap();
    Sample { name: name.to_owned(), labels, value }
}

fn rendered() -> String {
    let mut table = LabelTable::new();
    let mut labels = MetricLabels::of_service("hello.default.svc.cluster.local", "hello");
    labels.destination_app = "a \"quoted\"\n\\app\\".to_owned();
    let hello = table.metric_slot(&labels);
    let mut shard = MetricsShard::new(WorkerId(1));
    let mut info = StreamInfo::new(Instant::now(), 0);
    info.response_code = 404;
    info.flags = ResponseFlags::NO_ROUTE_FOUND;
    shard.record_request(&info);
    info.metric_slot = hello;
    info.flags = ResponseFlags::NONE;
    info.response_code = 200;
    for (duration_us, bytes) in
        [(400, 0), (500, 1), (2_000, 300), (7_200_000_000, u64::from(u32::MAX))]
    {
        info.duration_us = duration_us;
        info.request_bytes = bytes;
        info.response_bytes = bytes;
        shard.record_request(&info);
    }
    info.grpc = true;
    info.grpc_status = Some(14);
    shard.record_request(&info);
    let tcp = TcpSeries { opened: 3, closed: 2, received_bytes: 10, sent_bytes: 20 };
    shard.tcp.add(hello, ResponseFlags::NONE, &tcp);
    shard.counters.downstream_idle_timeouts = 3;
    shard.gauges.requests_active = 5;
    let mut totals = Totals::new();
    totals.absorb(&mut shard);
    let control = ControlStats::default();
    control.reload_succeeded(9, 2);
    let mut slos = crate::metrics::slo::SloBook::default();
    slos.set(&[crate::metrics::slo::Objective {
        name: "hello".to_owned(),
        subject: crate::metrics::slo::Subject::Host("hello.com".to_owned()),
        measure: crate::metrics::slo::Measure::Availability,
        percent: 99.0,
        window: std::time::Duration::from_secs(3600),
    }]);
    render(&Collected {
        totals: &totals,
        labels: &table,
        source: &SourceLabels::default(),
        control: &control,
        slos: &slos,
        version: "1.2.3",
        workers: 2,
        silent_workers: 1,
    })
}

const ISTIO_LABELS: [&str; 25] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_workload",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_service",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_service_name",
    "destination_service_namespace",
    "destination_cluster",
    "request_protocol",
    "response_code",
    "grpc_response_status",
    "response_flags",
    "connection_security_policy",
];

#[test]
fn istio_series_have_istios_labels_in_istios_order() {
    let (kinds, samples) = parse(&rendered());
    assert_eq!(kinds["istio_requests_total"], "counter");
    let requests: Vec<_> = samples.iter().filter(|s| s.name == "istio_requests_total").collect();
    assert_eq!(requests.len(), 3);
    for sample in &samples {
        if !sample.name.starts_with("istio_re") || sample.name.ends_with("_messages_total") {
            continue;
        }
        let grpc = sample.label("request_protocol") == Some("grpc");
        let expected: Vec<_> = ISTIO_LABELS
            .iter()
            .filter(|name| grpc || **name != "grpc_response_status")
            .chain(sample.name.ends_with("_bucket").then_some(&"le"))
            .collect();
        let names: Vec<_> = sample.labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
        assert_eq!(sample.label("reporter"), Some("source"));
        assert_eq!(sample.label("source_cluster"), Some("Kubernetes"));
        assert_eq!(sample.label("connection_security_policy"), Some("unknown"));
    }
    let grpc = requests.iter().find(|s| s.label("request_protocol") == Some("grpc")).unwrap();
    assert_eq!(grpc.label("grpc_response_status"), Some("14"));
    let missing = requests.iter().find(|s| s.label("response_code") == Some("404")).unwrap();
    assert_eq!(missing.label("response_flags"), Some("NR"));
    assert_eq!(missing.label("destination_service"), Some("unknown"));
    assert_eq!(missing.label("destination_canonical_revision"), Some("latest"));
    let served = requests.iter().find(|s| s.label("response_code") == Some("200")).unwrap();
    assert_eq!(served.value, 4.0);
    assert_eq!(served.label("response_flags"), Some("-"));
    assert_eq!(served.label("destination_app"), Some("a \"quoted\"\n\\app\\"));
    assert_eq!(served.label("destination_service"), Some("hello.default.svc.cluster.local"));
}

#[test]
fn buckets_are_cumulative_and_end_at_the_count() {
    let (kinds, samples) = parse(&rendered());
    let histograms: Vec<_> = kinds.iter().filter(|(_, kind)| *kind == "histogram").collect();
    assert_eq!(histograms.len(), 3);
    for (name, _) in histograms {
        let buckets = samples.iter().filter(|s| s.name == format!("{name}_bucket"));
        let mut by_series: BTreeMap<_, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in buckets {
            let bound = sample.label("le").unwrap().parse().unwrap();
            by_series.entry(sample.labels_without("le")).or_default().push((bound, sample.value));
        }
        assert_eq!(by_series.len(), 3);
        for (labels, buckets) in by_series {
            assert_eq!(buckets.len(), 20);
            assert!(buckets.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 <= w[1].1));
            let count = samples
                .iter()
                .find(|s| s.name == format!("{name}_count") && s.labels == labels)
                .unwrap();
            assert_eq!(buckets[19], (f64::INFINITY, count.value));
            assert!(samples.iter().any(|s| s.name == format!("{name}_sum") && s.labels == labels));
        }
    }
}

#[test]
fn messages_have_no_label_of_how_a_call_ended() {
    let (kinds, samples) = parse(&rendered());
    let unknown_yet = [
        "request_protocol",
        "response_code",
        "grpc_response_status",
        "response_flags",
        "connection_security_policy",
    ];
    for name in ["istio_request_messages_total", "istio_response_messages_total"] {
        assert_eq!(kinds[name], "counter");
        let found: Vec<_> = samples.iter().filter(|sample| sample.name == name).collect();
        assert_eq!(found.len(), 1, "of the one slot that had gRPC");
        let names: Vec<_> = found[0].labels.iter().map(|(name, _)| name).collect();
        let expected: Vec<_> =
            ISTIO_LABELS.iter().filter(|name| !unknown_yet.contains(name)).collect();
        assert_eq!(names, expected);
    }
}

#[test]
fn tcp_series_have_the_same_labels_without_those_of_requests() {
    let (kinds, samples) = parse(&rendered());
    let expected: Vec<_> = ISTIO_LABELS
        .iter()
        .filter(|name| !["response_code", "grpc_response_status"].contains(name))
        .collect();
    for (name, value) in [
        ("istio_tcp_sent_bytes_total", 20.0),
        ("istio_tcp_received_bytes_total", 10.0),
        ("istio_tcp_connections_opened_total", 3.0),
        ("istio_tcp_connections_closed_total", 2.0),
    ] {
        assert_eq!(kinds[name], "counter");
        let found: Vec<_> = samples.iter().filter(|sample| sample.name == name).collect();
        assert_eq!((found.len(), found[0].value), (1, value), "{name}");
        let names: Vec<_> = found[0].labels.iter().map(|(name, _)| name).collect();
        assert_eq!(names, expected);
        assert_eq!(found[0].label("request_protocol"), Some("tcp"));
        assert_eq!(found[0].label("response_flags"), Some("-"));
        assert_eq!(found[0].label("destination_service_name"), Some("hello"));
    }
}

#[test]
fn durations_are_shown_in_milliseconds() {
    let text = rendered();
    let (_, samples) = parse(&text);
    let of_200 = |name: &str| {
        samples
            .iter()
            .filter(|s| s.name == name && s.label("response_code") == Some("200"))
            .filter(|s| s.label("request_protocol") == Some("http"))
            .collect::<Vec<_>>()
    };
    let sum = of_200("istio_request_duration_milliseconds_sum")[0].value;
    assert!((sum - 7_200_002.9).abs() < 1e-6, "{sum}");
    let buckets = of_200("istio_request_duration_milliseconds_bucket");
    assert_eq!(buckets[0].value, 2.0, "0.4 ms and 0.5 ms are at most 0.5 ms");
    assert_eq!(buckets[1].value, 2.0);
    assert_eq!(buckets[2].value, 3.0, "2 ms is at most 5 ms");
    assert_eq!(buckets[18].value, 3.0);
    assert_eq!(buckets[19].value, 4.0, "two hours are beyond the last bound");
    assert_eq!(of_200("istio_request_bytes_sum")[0].value, 301.0 + f64::from(u32::MAX));
}

#[test]
fn our_own_numbers_are_shown() {
    let (kinds, samples) = parse(&rendered());
    let value = |name: &str, label: Option<(&str, &str)>| {
        samples
            .iter()
            .find(|s| s.name == name && label.is_none_or(|(key, text)| s.label(key) == Some(text)))
            .unwrap_or_else(|| panic!("{name} is missing"))
            .value
    };
    assert_eq!(value("istio_build", Some(("tag", "1.2.3"))), 1.0);
    let errors = "ringress_downstream_connection_errors_total";
    assert_eq!(value(errors, Some(("kind", "idle_timeout"))), 3.0);
    assert_eq!(value("ringress_requests_active", Some(("worker", "1"))), 5.0);
    assert_eq!(value("ringress_config_generation", None), 9.0);
    assert_eq!(value("ringress_config_objects_refused", None), 2.0);
    assert_eq!(value("ringress_config_reloads_total", Some(("result", "success"))), 1.0);
    assert_eq!(value("ringress_workers_silent", None), 1.0);
    for metric in names::ALL {
        assert_eq!(kinds.get(metric.name).map(String::as_str), Some(metric.kind.as_str()));
    }
}
