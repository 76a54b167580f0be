//! Budgets and burn rates of histories that were made by hand.

use super::*;
use crate::metrics::history::History;
use proptest::prelude::*;

fn key(host: &str, virtual_service: &str, route: &str) -> HistogramKey {
    HistogramKey {
        route: route.to_owned(),
        virtual_service: virtual_service.to_owned(),
        virtual_host: host.to_owned(),
        destination: "-".to_owned(),
    }
}

fn availability(percent: f64) -> Objective {
    Objective {
        name: "hello".to_owned(),
        subject: Subject::Host("hello.com".to_owned()),
        measure: Measure::Availability,
        percent,
        window: Duration::from_secs(30 * DAY),
    }
}

/// A step of `seconds` with requests of slot 0.
fn step(seconds: u64, good: u32, bad: u32) -> Step {
    let mut history = History::default();
    if good + bad > 0 {
        let open = history.open(HistogramSlot(0));
        open.add_latency(1_000, good);
        open.add_latency(900_000, bad);
        open.add_classes(&[0, 0, good, 0, 0, bad]);
    }
    (*history.close(0, Duration::from_secs(seconds))).clone()
}

fn keys() -> Vec<HistogramKey> {
    vec![key("hello.com", "default/hello", "main")]
}

#[test]
fn nothing_is_said_without_requests() {
    let mut tracked = Tracked::new(availability(99.0));
    tracked.add(&step(60, 0, 0), &keys());
    assert_eq!(
        (tracked.budget_remaining(), tracked.burn_rate(300), tracked.alert()),
        (None, None, None)
    );
    assert_eq!(tracked.observed(), Duration::from_secs(60));
}

#[test]
fn the_budget_is_used_up_by_bad_requests() {
    let mut tracked = Tracked::new(availability(99.0));
    tracked.add(&step(60, 199, 1), &keys());
    assert!((tracked.budget_remaining().unwrap() - 0.5).abs() < 1e-9);
    assert!((tracked.burn_rate(300).unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(tracked.alert(), None);
    tracked.add(&step(60, 171, 29), &keys());
    assert!(tracked.budget_remaining().unwrap() < 0.0);
    assert_eq!(tracked.alert(), Some(Alert::Page), "7.5 times as fast as it may");
}

#[test]
fn alerts_need_both_windows() {
    let mut tracked = Tracked::new(availability(99.0));
    tracked.add(&step(10, 0, 1000), &keys());
    assert_eq!(tracked.alert(), Some(Alert::Page));
    // Ten minutes later all is well in the short window of the fastest rule, not in the others.
    for _ in 0..60 {
        tracked.add(&step(10, 1, 0), &keys());
    }
    assert_eq!(tracked.burn_rate(300), Some(0.0));
    assert!(tracked.burn_rate(3600).unwrap() > 14.4);
    assert_eq!(tracked.alert(), Some(Alert::Page), "6 hours and 30 minutes");
    for _ in 0..(8 * 360) {
        tracked.add(&step(10, 1, 0), &keys());
    }
    assert_eq!(tracked.alert(), None, "no short window has it");
}

#[test]
fn latencies_are_good_up_to_the_threshold() {
    let measure = Measure::Latency { threshold_us: 250_000 };
    let mut tracked = Tracked::new(Objective { measure, ..availability(90.0) });
    tracked.add(&step(1, 8, 2), &keys());
    assert_eq!((tracked.sums().good, tracked.sums().total), (8, 10));
    assert!((tracked.burn_rate(300).unwrap() - 2.0).abs() < 1e-9);
}

#[test]
fn subjects_name_hosts_routes_and_virtual_services() {
    let keys = [
        key("a.com", "default/a", "main"),
        key("a.com", "unknown", "unknown"),
        key("b.com", "shop/b", "main"),
        key("b.com", "shop/b", "other"),
    ];
    let fits = |subject: Subject| keys.each_ref().map(|key| subject.includes(key));
    assert_eq!(fits(Subject::Host("a.com".into())), [true, true, false, false]);
    assert_eq!(fits(Subject::route("main")), [true, false, true, false]);
    assert_eq!(fits(Subject::route("shop/b")), [false, false, true, true]);
    assert_eq!(fits(Subject::route("shop/b#other")), [false, false, false, true]);
    for written in ["main", "shop/b", "shop/b#other"] {
        assert_eq!(Subject::route(written).to_string(), written);
    }
}

#[test]
fn unchanged_objectives_go_on_over_a_reload() {
    let mut book = SloBook::default();
    let other = Objective { name: "other".to_owned(), ..availability(99.0) };
    book.set(&[availability(99.0), other.clone()]);
    book.add(&step(10, 5, 0), &keys());
    book.set(&[other.clone(), availability(99.5)]);
    let totals: Vec<u64> = book.objectives().iter().map(|one| one.sums().total).collect();
    assert_eq!(totals, [5, 0]);
    // A host that comes with a reload is counted from then on.
    book.set(&[Objective { subject: Subject::Host("new.com".into()), ..other }]);
    let mut more = keys();
    more[0].virtual_host = "x".to_owned();
    book.add(&step(10, 5, 0), &more);
    assert_eq!(book.objectives()[0].sums().total, 0);
}

#[test]
fn memory_is_bounded_over_months() {
    let mut tracked = Tracked::new(availability(99.0));
    for _ in 0..(60 * 24 * 4) {
        tracked.add(&step(900, 1, 0), &keys());
    }
    for (level, (_, kept)) in tracked.levels.iter().zip(LEVELS) {
        assert!(level.len() <= kept);
    }
    let window = tracked.in_window();
    // The window begins at a moment that is kept: at most an hour early.
    assert!((2880..=2884).contains(&window.total), "{window:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A window holds all that came in it, and nothing that is older than the distance of the level.
    #[test]
    fn windows_begin_where_they_say(
        steps in prop::collection::vec((1u64..400, 0u32..5, 0u32..3), 1..300), at in 0usize..7,
    ) {
        let mut tracked = Tracked::new(availability(99.0));
        let mut end = 0;
        let mut moments = Vec::new();
        for (seconds, good, bad) in steps {
            tracked.add(&step(seconds, good, bad), &keys());
            end += seconds;
            moments.push((end, u64::from(good + bad)));
        }
        let (_, window) = BURN_WINDOWS[at];
        let found = tracked.last(window).total;
        let since = |start: u64| -> u64 {
            moments.iter().filter(|(at, _)| *at > start).map(|(_, total)| total).sum()
        };
        let start = end.saturating_sub(window);
        prop_assert!(found >= since(start));
        prop_assert!(found <= since(start.saturating_sub(HOUR + 400)));
    }
}
