use super::*;
use crate::ids::{HistogramSlot, MetricSlot, WorkerId};
use crate::metrics::history::History;
use crate::metrics::labels::{LabelTable, MetricLabels};
use crate::metrics::overrides::{FamilyOverride, MetricOverrides, TagOverride};
use crate::metrics::slo::{Measure, Objective, SloBook, Subject};
use crate::metrics::stats_thread::Collected;
use crate::metrics::usage::UsageTable;
use crate::metrics::{
    ClusterGauges, ClusterTable, ControlStats, HistogramKey, MetricsShard, ProcessUsage, RingUsage,
    SourceLabels, TcpSeries, Totals, WorkerUsage, names,
};
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
            assert!(["counter", "gauge", "histogram", "untyped"].contains(&kind));
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

fn reading() -> Reading {
    reading_with(MetricOverrides::default())
}

fn reading_with(overrides: MetricOverrides) -> Reading {
    let mut table = LabelTable::new();
    table.set_overrides(overrides);
    let mut labels = MetricLabels::of_service("hello.default.svc.cluster.local", "hello");
    labels.destination_app = "a \"quoted\"\n\\app\\".to_owned();
    let hello = table.metric_slot(&labels);
    let mut shard = MetricsShard::new(WorkerId(1));
    let mut info = StreamInfo::new(Instant::now(), 0);
    info.response_code = 404;
    info.flags = ResponseFlags::NO_ROUTE_FOUND;
    shard.record_request(&info);
    info.metric_slot = hello;
    info.trace_id = [0x11; 16];
    info.span_id = [0x22; 8];
    info.started_unix_us = 1_795_000_000_498_000;
    info.flags = ResponseFlags::NONE;
    info.response_code = 200;
    for (duration_us, bytes) in
        [(400, 0), (500, 1), (2_000, 300), (7_200_000_000, u64::from(u32::MAX))]
    {
        info.duration_us = duration_us;
        info.request_bytes = bytes;
        info.response_bytes = bytes;
        // One of them is traced.
        info.trace_sampled = duration_us == 2_000;
        shard.record_request(&info);
    }
    info.trace_sampled = false;
    info.grpc = true;
    info.grpc_status = Some(14);
    shard.record_request(&info);
    let tcp = TcpSeries { opened: 3, closed: 2, received_bytes: 10, sent_bytes: 20 };
    shard.tcp.add(hello, ResponseFlags::NONE, &tcp);
    shard.clusters = ClusterTable {
        generation: 9,
        clusters: vec![ClusterGauges { requests_active: 4, idle: 3, ..ClusterGauges::default() }],
    };
    shard.clusters_are_new = true;
    shard.counters.downstream_idle_timeouts = 3;
    shard.gauges.requests_active = 5;
    let mut totals = Totals::new();
    totals.absorb(&mut shard);
    let control = ControlStats::default();
    control.reload_succeeded(9, 2);
    let mut slos = SloBook::default();
    slos.set(&[Objective {
        name: "hello".to_owned(),
        subject: Subject::Host("hello.com".to_owned()),
        measure: Measure::Availability,
        percent: 99.0,
        window: Duration::from_secs(3600),
    }]);
    let mut history = History::default();
    let open = history.open(HistogramSlot(0));
    open.add_latency(1_000, 10);
    open.add_classes(&[0, 0, 9, 0, 0, 1]);
    let step = history.close(1_795_000_000_000, Duration::from_secs(60));
    slos.add(&step, &[HistogramKey::unrouted_of("hello.com")]);
    let mut usage = UsageTable::default();
    let ring = Some(RingUsage { submissions: 12, completions: 11 });
    let used = WorkerUsage { cpu: Duration::from_millis(1250), ring };
    usage.register(WorkerId(1), Box::new(move || Some(used)), Instant::now());
    let mut reading = Reading::of(&Collected {
        totals: &totals,
        labels: &table,
        source: &SourceLabels::default(),
        control: &control,
        slos: &slos,
        usage: &usage,
        version: "1.2.3",
        workers: 2,
        silent_workers: 1,
    });
    reading.name_clusters(9, ["outbound|80||hello".to_owned()].into_iter());
    reading.set_process(ProcessUsage {
        cpu: Duration::from_micros(1),
        started_unix_ms: 1_795_000_000_125,
        resident_bytes: 1 << 40,
        ..ProcessUsage::default()
    });
    reading
}

fn text_of(exposition: Exposition) -> String {
    let pieces: Vec<Vec<u8>> = exposition.collect();
    assert!(pieces.iter().all(|piece| piece.ends_with(b"\n")));
    String::from_utf8(pieces.concat()).unwrap()
}

fn rendered() -> String {
    let exposition = Exposition::new(reading(), Format::Prometheus);
    text_of(exposition.with_envoy_names(Duration::from_secs(61)))
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
    assert_eq!(value("ringress_worker_cpu_seconds_total", Some(("worker", "1"))), 1.25);
    assert_eq!(value("ringress_worker_io_uring_submissions_total", None), 12.0);
    assert_eq!(value("ringress_cluster_requests_active", None), 4.0);
    assert_eq!(value("process_start_time_seconds", None), 1_795_000_000.125);
    assert_eq!(value("process_cpu_seconds_total", None), 0.000_001);
    assert_eq!(value("process_resident_memory_bytes", None), (1_u64 << 40) as f64);
    let cluster = Some(("envoy_cluster_name", "outbound|80||hello"));
    assert_eq!(value("envoy_cluster_upstream_cx_active", cluster), 7.0);
    assert_eq!(value("envoy_listener_http_downstream_rq", None), 6.0);
    assert_eq!(value("envoy_server_uptime", None), 61.0);
    for metric in names::ALL.iter().chain(names::ENVOY) {
        assert_eq!(kinds.get(metric.name).map(String::as_str), Some(metric.kind.as_str()));
    }
}

#[test]
fn envoys_names_are_not_shown_unless_asked_for() {
    let text = text_of(Exposition::new(reading(), Format::Prometheus));
    assert!(!text.contains("envoy_"), "{text}");
}

/// Both formats say the same: samples and values, but for how bounds are written.
#[test]
fn openmetrics_has_the_same_samples() {
    let exposition = Exposition::new(reading(), Format::OpenMetrics);
    let open = text_of(exposition.with_envoy_names(Duration::from_secs(61)));
    let lines = |text: &str| -> BTreeMap<String, f64> {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples
            .map(|line| {
                let sample = line.split(" # {").next().unwrap();
                let sample = sample.replace(",grpc_response_status=\"\"", "");
                let (series, value) = sample.rsplit_once(' ').unwrap();
                let (name, bound) = match series.split_once(",le=\"") {
                    Some((name, bound)) => (name, bound.trim_end_matches("\"}")),
                    None => (series, ""),
                };
                let bound = bound.parse::<f64>().map(|bound| bound.to_string());
                (format!("{name} {}", bound.unwrap_or_default()), value.parse().unwrap())
            })
            .collect()
    };
    let (open, text) = (lines(&open), lines(&rendered()));
    assert!(text.len() > 250, "{}", text.len());
    assert_eq!(open, text);
}

/// What the specification asks for, read by a parser that was written to it.
#[test]
fn openmetrics_is_clean() {
    let exposition = Exposition::new(reading(), Format::OpenMetrics);
    let text = text_of(exposition.with_envoy_names(Duration::from_secs(61)));
    assert!(text.ends_with("# EOF\n"));
    let parsed = openmetrics_parser::openmetrics::parse_openmetrics(&text)
        .unwrap_or_else(|error| panic!("{error:?} in\n{text}"));
    for metric in names::ALL.iter().chain(names::ENVOY) {
        let family = parsed.families.get(metric.family());
        let family = family.unwrap_or_else(|| panic!("{} is missing", metric.family()));
        assert_eq!(family.unit, metric.unit().unwrap_or_default(), "{}", metric.name);
        assert_eq!(family.help, metric.help);
    }
    let exemplars: Vec<&str> = text.lines().filter(|line| line.contains(" # {")).collect();
    let [line] = exemplars[..] else { panic!("{exemplars:?}") };
    assert!(line.starts_with("istio_request_duration_milliseconds_bucket{"), "{line}");
    let expected = format!(
        ",le=\"5.0\"}} 3 # {{trace_id=\"{}\",span_id=\"{}\"}} 2.000 1795000000.500",
        "11".repeat(16),
        "22".repeat(8)
    );
    assert!(line.ends_with(&expected), "{line}");
    let plain = rendered();
    assert!(!plain.contains(" # {"), "exemplars have no place in the older format");
}

fn changes(family: &str, disabled: bool, tags: &[(&str, TagOverride)]) -> (String, FamilyOverride) {
    let tags = tags.iter().map(|(name, change)| ((*name).to_owned(), change.clone())).collect();
    (family.to_owned(), FamilyOverride { disabled, tags })
}

#[test]
fn telemetry_resources_disable_families_and_change_labels() {
    let set = |value: &str| TagOverride::Set(value.to_owned());
    let gone = ["response_code", "response_flags", "grpc_response_status", "request_protocol"];
    let mut fewer: Vec<_> = gone.iter().map(|name| (*name, TagOverride::Remove)).collect();
    // Of one value now, too: the series of all services become one.
    fewer.extend(
        LabelTable::new()
            .labels(MetricSlot::UNKNOWN)
            .pairs()
            .iter()
            .map(|(name, _)| (*name, TagOverride::Remove)),
    );
    let overrides = MetricOverrides(BTreeMap::from([
        changes("istio_requests_total", false, &fewer),
        changes("istio_request_duration_milliseconds", false, &fewer),
        changes("istio_request_bytes", true, &[]),
        changes(
            "istio_response_bytes",
            false,
            &[
                ("source_app", set("")),
                ("destination_app", set("mine")),
                ("team", set("a \"b\"")),
                ("no-name", set("x")),
                ("le", set("7")),
            ],
        ),
        changes("istio_tcp_sent_bytes_total", true, &[]),
        changes("istio_tcp_received_bytes_total", false, &[("reporter", TagOverride::Remove)]),
        changes("istio_request_messages_total", false, &[("reporter", set("gateway"))]),
    ]));
    let text = text_of(Exposition::new(reading_with(overrides), Format::Prometheus));
    let (kinds, samples) = parse(&text);
    assert!(!kinds.contains_key("istio_request_bytes"));
    assert!(!kinds.contains_key("istio_tcp_sent_bytes_total"));
    assert!(kinds.contains_key("istio_tcp_connections_opened_total"));
    let of = |name: &str| samples.iter().filter(|s| s.name == name).collect::<Vec<_>>();

    let requests = of("istio_requests_total");
    let [all] = requests[..] else { panic!("series that became equal are one: {requests:?}") };
    assert_eq!(all.value, 6.0);
    assert!(all.label("destination_service").is_none() && all.label("reporter").is_some());
    let buckets = of("istio_request_duration_milliseconds_bucket");
    assert_eq!(buckets.len(), 20);
    // The 404 took no time; of hello's, 0.4 ms and 0.5 ms, 2 ms, and two hours twice.
    let counts: Vec<f64> = buckets.iter().map(|bucket| bucket.value).collect();
    assert_eq!((counts[0], counts[2], counts[18], counts[19]), (3.0, 4.0, 4.0, 6.0));
    assert_eq!(of("istio_request_duration_milliseconds_count")[0].value, 6.0);

    for sample in of("istio_response_bytes_bucket") {
        assert_eq!(sample.label("source_app"), None);
        assert_eq!(sample.label("destination_app"), Some("mine"));
        assert_eq!(sample.label("team"), Some("a \"b\""));
        assert_ne!(sample.label("le"), Some("7"));
    }
    assert!(!text.contains("no-name"));
    assert_eq!(of("istio_tcp_received_bytes_total")[0].label("reporter"), None);
    assert_eq!(of("istio_request_messages_total")[0].label("reporter"), Some("gateway"));
}

/// The labels of a family that nothing changes are written by other code than those of one with changes.
#[test]
fn a_change_of_nothing_changes_nothing() {
    let plain = text_of(Exposition::new(reading(), Format::Prometheus));
    let families = [
        "istio_requests_total",
        "istio_request_duration_milliseconds",
        "istio_request_messages_total",
        "istio_tcp_connections_closed_total",
    ];
    let no_such = [("nothing", TagOverride::Remove)];
    let overrides = families.iter().map(|name| changes(name, false, &no_such)).collect();
    let changed =
        text_of(Exposition::new(reading_with(MetricOverrides(overrides)), Format::Prometheus));
    let sorted = |text: &str| -> Vec<String> {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&changed), sorted(&plain));
}

#[test]
fn a_long_page_comes_in_pieces_and_loses_nothing() {
    let mut reading = reading();
    let one = reading.http[0].clone();
    reading.http = vec![one; 100];
    let pieces: Vec<Vec<u8>> = Exposition::new(reading, Format::Prometheus).collect();
    assert!(pieces.len() > 20, "{}", pieces.len());
    let (last, others) = pieces.split_last().unwrap();
    assert!(!last.is_empty());
    assert!(others.iter().all(|piece| piece.len() >= PIECE_BYTES && piece.ends_with(b"\n")));
    assert!(others.iter().all(|piece| piece.len() <= PIECE_BYTES + PIECE_SLACK));
    let text = String::from_utf8(pieces.concat()).unwrap();
    let lines = |start: &str| text.lines().filter(|line| line.starts_with(start)).count();
    assert_eq!(lines("istio_requests_total{"), 100);
    assert_eq!(lines("istio_response_bytes_bucket{"), 2000);
    assert_eq!(lines("# TYPE"), lines("# HELP"));
    assert_eq!(lines("# TYPE istio_request_bytes "), 1);
}
