//! What a scrape costs with ten thousand routes: the copy that the stats thread makes, during which it
//! adds nothing up, and the writing of the text, on the thread of the pages and piece by piece.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use ringress::ids::WorkerId;
use ringress::metrics::slo::SloBook;
use ringress::metrics::stats_thread::Collected;
use ringress::metrics::usage::UsageTable;
use ringress::metrics::{
    ControlStats, Exposition, Format, LabelTable, MetricLabels, MetricsShard, Reading,
    SourceLabels, Totals,
};
use ringress::stream_info::StreamInfo;

/// Routes, each with a destination of its own that has answered.
const ROUTES: u32 = 10_000;

fn counted() -> (Totals, LabelTable) {
    let mut labels = LabelTable::new();
    let mut shard = MetricsShard::new(WorkerId(0));
    let mut info = StreamInfo::new(Instant::now(), 0);
    info.response_code = 200;
    for route in 0..ROUTES {
        let service = format!("service-{route}");
        let host = format!("{service}.namespace-{}.svc.cluster.local", route % 100);
        info.metric_slot = labels.metric_slot(&MetricLabels {
            destination_workload: format!("{service}-v1"),
            destination_workload_namespace: format!("namespace-{}", route % 100),
            destination_app: service.clone(),
            destination_version: "v1".to_owned(),
            destination_canonical_service: service.clone(),
            destination_canonical_revision: "v1".to_owned(),
            destination_service_namespace: format!("namespace-{}", route % 100),
            destination_cluster: "Kubernetes".to_owned(),
            ..MetricLabels::of_service(&host, &service)
        });
        info.duration_us = u64::from(route) * 7;
        info.request_bytes = 200 + u64::from(route % 700);
        info.response_bytes = u64::from(route) * 31;
        shard.record_request(&info);
    }
    let mut totals = Totals::new();
    totals.absorb(&mut shard);
    (totals, labels)
}

fn scrape(criterion: &mut Criterion) {
    let (totals, labels) = counted();
    let (source, control) = (SourceLabels::default(), ControlStats::default());
    let (usage, slos) = (UsageTable::default(), SloBook::default());
    let read = || {
        let collected = Collected {
            totals: &totals,
            labels: &labels,
            source: &source,
            control: &control,
            slos: &slos,
            usage: &usage,
            version: "1.0.0",
            workers: 2,
            silent_workers: 0,
        };
        Reading::of(&collected)
    };
    let bytes: usize = Exposition::new(read(), Format::Prometheus).map(|piece| piece.len()).sum();
    println!("{ROUTES} routes: a page of {:.0} MB", bytes as f64 / 1e6);

    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("copy", |bencher| bencher.iter(|| black_box(read())));
    for (name, format) in [("text", Format::Prometheus), ("openmetrics", Format::OpenMetrics)] {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                read,
                |reading| {
                    Exposition::new(reading, format)
                        .map(|piece| black_box(piece).len())
                        .sum::<usize>()
                },
                criterion::BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, scrape);
criterion_main!(benches);
