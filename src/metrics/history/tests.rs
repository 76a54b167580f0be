//! Properties of the history: nothing is lost, whatever is put together and when.

use super::*;
use crate::ids::WorkerId;
use crate::metrics::labels::LabelTable;
use crate::metrics::shard::MetricsShard;
use crate::metrics::totals::Totals;
use crate::stream_info::StreamInfo;
use proptest::prelude::*;
use std::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

fn request(slot: u32, status: u16, duration_us: u64) -> StreamInfo {
    let mut info = StreamInfo::new(Instant::now(), 0);
    info.histogram_slot = HistogramSlot(slot);
    info.response_code = status;
    info.duration_us = duration_us;
    info
}

fn sum(steps: &[Arc<Step>], slot: HistogramSlot) -> Summary {
    let mut summary = Summary::default();
    for route in steps.iter().filter_map(|step| step.route(slot)) {
        summary.add(route);
    }
    summary
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The steps add up to the totals, to the last bucket, however many of them were folded.
    #[test]
    fn steps_add_up_to_the_totals(
        requests in prop::collection::vec(
            (0u32..3, 0usize..5, 0u64..2_000_000, 0u32..9), 0..200),
        fine in 1usize..60,
    ) {
        let statuses = [0u16, 101, 200, 404, 503];
        let mut shard = MetricsShard::new(WorkerId(0));
        let mut totals = Totals::new();
        let mut seconds = 0u64;
        let mut end = |totals: &mut Totals| {
            seconds += 1;
            totals.history.close(seconds * 1000, SECOND);
            totals.history.keep_within(fine, 1000, usize::MAX);
        };
        for (slot, status, duration_us, pause) in &requests {
            shard.record_request(&request(*slot, statuses[*status], *duration_us));
            if *pause > 2 {
                totals.absorb(&mut shard);
            }
            for _ in 6..*pause {
                end(&mut totals);
            }
        }
        totals.absorb(&mut shard);
        end(&mut totals);
        let view = totals.history.view();
        prop_assert_eq!(view.kept(), SECOND * seconds as u32);
        prop_assert!(view.steps.is_sorted_by_key(|step| step.number));
        let labels = LabelTable::new();
        let by_slot = totals.merged_histograms(&labels);
        let mut all = Summary::default();
        for slot in 0..3 {
            let of_slot = sum(&view.steps, HistogramSlot(slot));
            let expected = requests.iter().filter(|request| request.0 == slot);
            let mut classes = ClassCounts::default();
            for (_, status, ..) in expected {
                classes[crate::metrics::shard::status_class(statuses[*status])] += 1;
            }
            prop_assert_eq!(of_slot.classes, classes);
            prop_assert_eq!(of_slot.latencies.len(), of_slot.requests());
            all.merge(&of_slot);
        }
        let mut total = latency_histogram::<u64>();
        for (_, histogram) in &by_slot {
            total.add(histogram).unwrap();
        }
        prop_assert_eq!(all.latencies, total);
    }
}

fn filled(steps: u64, latencies: u64) -> History {
    let mut history = History::default();
    for number in 0..steps {
        let open = history.open(HistogramSlot(2));
        for latency in 0..latencies {
            open.add_latency(1000 + 7 * latency + number, 1);
        }
        open.add_classes(&[0, 0, latencies as u32, 0, 0, 0]);
        history.close((number + 1) * 1000, SECOND);
    }
    history
}

#[test]
fn the_time_that_is_kept_is_bounded() {
    let steps = (HISTORY_STEPS_MAX + 10 * HISTORY_COARSE_STEPS_MAX + 500) as u64;
    let history = filled(steps, 1);
    assert!(history.fine.len() <= HISTORY_STEPS_MAX);
    assert!(history.fine.len() as u64 > HISTORY_STEPS_MAX as u64 - STEPS_OF_COARSE);
    assert_eq!(history.coarse.len(), HISTORY_COARSE_STEPS_MAX);
    let view = history.view();
    assert!(view.kept() >= Duration::from_secs(3600 + 590));
    let all: usize = view.steps.iter().map(|step| step.bytes()).sum();
    assert_eq!(history.bytes, all);
}

#[test]
fn without_memory_steps_get_coarser_and_then_old_ones_go() {
    let mut history = filled(100, 50);
    let before = history.bytes;
    history.keep_within(600, 360, before - 1);
    assert_eq!((history.coarse.len(), history.fine.len()), (1, 90));
    assert_eq!(sum(&history.view().steps, HistogramSlot(2)).requests(), 5000);
    let view = history.view();
    assert!(view.window(SECOND * 95, None).coarse);
    assert!(!view.window(SECOND * 90, None).coarse);
    history.keep_within(600, 360, before / 20);
    assert!(history.bytes <= before / 20);
    assert!(history.fine.len() < 2 * STEPS_OF_COARSE as usize, "folded before any went");
    history.keep_within(600, 360, 0);
    assert_eq!((history.view().steps.len(), history.bytes), (0, 0));
}

#[test]
fn a_window_is_what_there_is_of_it() {
    let view = filled(30, 2).view();
    let last = view.window(SECOND * 5, None);
    assert_eq!((last.covered(), last.coarse), (SECOND * 5, false));
    assert_eq!(last.from_unix_ms(), Some(25_000));
    let earlier = view.window(SECOND * 5, Some(10_400));
    assert_eq!(earlier.steps.last().unwrap().end_unix_ms, 10_000);
    assert_eq!(earlier.from_unix_ms(), Some(5_000));
    assert_eq!(view.window(SECOND * 3600, None).covered(), SECOND * 30);
    let none = view.window(SECOND, Some(10));
    assert_eq!((none.covered(), none.from_unix_ms()), (Duration::ZERO, None));
}

#[test]
fn a_step_without_requests_is_a_step() {
    let mut history = History::default();
    history.open(HistogramSlot(3));
    let step = history.close(5, SECOND);
    assert!(step.routes.is_empty());
    assert_eq!(history.view().kept(), SECOND);
}
