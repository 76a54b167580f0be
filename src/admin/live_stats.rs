//! What the live pages say of some requests: counts, rate, errors, percentiles.

use std::time::Duration;

use serde::Serialize;

use crate::metrics::HistogramKey;
use crate::metrics::history::{HistoryView, Step, Summary, Window, errors};
use crate::metrics::latency_counts::largest_of;
use crate::metrics::shard::ClassCounts;

use std::sync::Arc;

/// What the stats thread gives the live pages: the history, and what its slots mean.
pub(super) struct LiveView {
    pub(super) history: HistoryView,
    /// Index: `HistogramSlot`.
    pub(super) keys: Vec<HistogramKey>,
}

/// Requests by class of status.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Classes {
    #[serde(rename = "1xx")]
    informational: u64,
    #[serde(rename = "2xx")]
    success: u64,
    #[serde(rename = "3xx")]
    redirection: u64,
    #[serde(rename = "4xx")]
    client_error: u64,
    #[serde(rename = "5xx")]
    server_error: u64,
    none: u64,
}

impl Classes {
    fn of(counts: &ClassCounts) -> Classes {
        let [none, informational, success, redirection, client_error, server_error] = *counts;
        Classes { informational, success, redirection, client_error, server_error, none }
    }
}

/// Requests of a window. Latencies in microseconds, none without requests.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Stats {
    pub(super) requests: u64,
    /// Per second.
    pub(super) rate: f64,
    pub(super) errors: u64,
    /// 0 to 1.
    pub(super) error_rate: f64,
    classes: Classes,
    p50: Option<u64>,
    p90: Option<u64>,
    pub(super) p99: Option<u64>,
    p999: Option<u64>,
    max: Option<u64>,
    /// The lowest percentile above which not even one request is to be expected.
    too_few_for: Option<&'static str>,
}

impl Stats {
    pub(super) fn of(summary: &Summary, covered: Duration) -> Stats {
        let latencies = &summary.latencies;
        let (requests, errors) = (summary.requests(), summary.errors());
        let at =
            |quantile: f64| (!latencies.is_empty()).then(|| latencies.value_at_quantile(quantile));
        let too_few_for = match requests {
            0..10 => Some("p90"),
            10..100 => Some("p99"),
            100..1000 => Some("p999"),
            _ => None,
        };
        Stats {
            requests,
            rate: ratio(requests as f64, covered.as_secs_f64()),
            errors,
            error_rate: ratio(errors as f64, requests as f64),
            classes: Classes::of(&summary.classes),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: at(1.0),
            too_few_for,
        }
    }
}

/// Zero where there is nothing to divide by.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Requests of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SeriesPoint {
    /// End of the step, milliseconds since the Unix epoch.
    t: u64,
    requests: u64,
    errors: u64,
    p50: Option<u64>,
    p99: Option<u64>,
}

/// A point for each step of `window`, or for each `step_s` seconds of it, of the slots that `picked` is
/// true for. Steps whose time the window does not hold as a whole are left out.
pub(super) fn series(
    window: Window<'_>,
    steps_together: u64,
    picked: &dyn Fn(usize) -> bool,
) -> Vec<SeriesPoint> {
    let mut points = Vec::new();
    let group = |step: &Arc<Step>| step.number / steps_together;
    let mut pairs = Vec::new();
    for steps in window.steps.chunk_by(|one, next| group(one) == group(next)) {
        let Some(last) = steps.last() else { continue };
        if last.number % steps_together != steps_together - 1 {
            continue;
        }
        let mut classes = ClassCounts::default();
        pairs.clear();
        let routes = steps.iter().flat_map(|step| &step.routes);
        for route in routes.filter(|route| picked(route.slot.index())) {
            crate::metrics::history::add_classes(&mut classes, &route.classes);
            pairs.extend(route.latencies.iter());
        }
        let requests: u64 = classes.iter().sum();
        pairs.sort_unstable();
        points.push(SeriesPoint {
            t: last.end_unix_ms,
            requests,
            errors: errors(&classes),
            p50: quantile(&pairs, requests, 0.5),
            p99: quantile(&pairs, requests, 0.99),
        });
    }
    points
}

/// The quantile of sorted pairs of bucket and count.
fn quantile(pairs: &[(u32, u64)], total: u64, quantile: f64) -> Option<u64> {
    let rank = ((total as f64 * quantile).ceil() as u64).max(1);
    let mut below = 0;
    let found = pairs.iter().find(|(_, count)| {
        below += count;
        below >= rank
    });
    found.map(|(bucket, _)| largest_of(*bucket))
}

/// A text that names what a histogram measures, the same in every process.
pub(super) fn stable_key(key: &HistogramKey) -> String {
    // FNV-1a: short, and fixed for ever.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for text in [&key.virtual_host, &key.virtual_service, &key.route, &key.destination] {
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

/// Service and subset of a cluster's name, `outbound|80|v1|hello.default.svc.cluster.local`; empty for the
/// gateway's own answers.
pub(super) fn service_and_subset(cluster: &str) -> (&str, &str) {
    let mut parts = cluster.splitn(4, '|').skip(2);
    match (parts.next(), parts.next()) {
        (Some(subset), Some(host)) => (host, subset),
        _ => ("", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HistogramSlot;
    use crate::metrics::history::History;
    use crate::metrics::latency_counts::LatencyCounts;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn quantiles_are_those_of_a_histogram(
            values in prop::collection::vec(1u64..10_000_000, 1..200), at in 0.0f64..=1.0,
        ) {
            let mut histogram = crate::metrics::shard::latency_histogram::<u64>();
            let mut pairs = Vec::new();
            for value in &values {
                histogram.record(*value).unwrap();
                pairs.push((crate::metrics::latency_counts::bucket_of(*value), 1));
            }
            let counts = LatencyCounts::from_pairs(&mut pairs);
            let pairs: Vec<_> = counts.iter().collect();
            let found = quantile(&pairs, values.len() as u64, at);
            prop_assert_eq!(found, Some(histogram.value_at_quantile(at)));
        }
    }

    #[test]
    fn names_of_clusters_are_taken_apart() {
        assert_eq!(service_and_subset("outbound|80|v1|hello.svc"), ("hello.svc", "v1"));
        assert_eq!(service_and_subset("outbound|80||hello.svc"), ("hello.svc", ""));
        assert_eq!(service_and_subset("-"), ("", ""));
    }

    #[test]
    fn keys_differ_by_what_belongs_to_which_name() {
        let key = |host: &str, route: &str| HistogramKey {
            virtual_host: host.to_owned(),
            route: route.to_owned(),
            virtual_service: "default/a".to_owned(),
            destination: "-".to_owned(),
        };
        assert_eq!(stable_key(&key("a", "b")), stable_key(&key("a", "b")));
        assert_ne!(stable_key(&key("ab", "")), stable_key(&key("a", "b")));
        assert_eq!(stable_key(&key("a", "b")).len(), 16);
    }

    fn window_of(steps: u64) -> HistoryView {
        let mut history = History::default();
        for number in 0..steps {
            let open = history.open(HistogramSlot((number % 2) as u32));
            open.add_latency(1000 * (number + 1), 1);
            open.add_classes(&[0, 0, 0, 0, 0, 1]);
            history.close(1000 * (number + 1), Duration::from_secs(1));
        }
        history.view()
    }

    #[test]
    fn a_series_has_a_point_for_each_whole_step() {
        let view = window_of(25);
        let window = view.window(Duration::from_secs(60), None);
        let fine = series(window, 1, &|slot| slot == 0);
        assert_eq!(fine.len(), 25);
        assert_eq!((fine[0].t, fine[0].requests, fine[0].errors), (1000, 1, 1));
        assert_eq!((fine[1].requests, fine[1].p50), (0, None));
        let together = series(window, 10, &|_| true);
        assert_eq!(
            together.iter().map(|p| (p.t, p.requests)).collect::<Vec<_>>(),
            [(10_000, 10), (20_000, 10)]
        );
        assert_eq!(together[0].p50, Some(5_003));
    }

    #[test]
    fn too_few_requests_are_told() {
        let mut summary = Summary::default();
        assert_eq!(Stats::of(&summary, Duration::ZERO).too_few_for, Some("p90"));
        summary.classes[2] = 99;
        assert_eq!(Stats::of(&summary, Duration::from_secs(9)).too_few_for, Some("p99"));
        summary.classes[2] = 999;
        assert_eq!(Stats::of(&summary, Duration::from_secs(9)).too_few_for, Some("p999"));
        summary.classes[0] = 1;
        let stats = Stats::of(&summary, Duration::from_secs(10));
        assert_eq!((stats.too_few_for, stats.rate, stats.error_rate), (None, 100.0, 0.001));
    }
}
