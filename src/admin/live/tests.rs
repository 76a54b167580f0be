//! The pages of a history that was made by hand.

use super::*;
use crate::metrics::history::History;

fn key(host: &str, route: &str, destination: &str) -> HistogramKey {
    HistogramKey {
        route: route.to_owned(),
        virtual_service: "default/hello".to_owned(),
        virtual_host: host.to_owned(),
        destination: destination.to_owned(),
    }
}

/// Thirty seconds: each with nine requests of 1 ms to v1, one failed one of 5 ms to v2, one redirect of
/// another host.
fn view() -> LiveView {
    let mut history = History::default();
    for second in 1..=30 {
        for (slot, latency_us, count, class) in [(0, 1000, 9, 2), (1, 5000, 1, 5), (2, 10, 1, 3)] {
            let open = history.open(HistogramSlot(slot));
            open.add_latency(latency_us, count);
            let mut classes = [0; 6];
            classes[class] = count;
            open.add_classes(&classes);
        }
        history.close(second * 1000, Duration::from_secs(1));
    }
    let keys = vec![
        key("hello.com", "main", "outbound|80|v1|hello.svc"),
        key("hello.com", "main", "outbound|80|v2|hello.svc"),
        key("old.com", "moved", "-"),
        key("idle.com", "idle", "-"),
    ];
    LiveView { history: history.view(), keys }
}

#[test]
fn the_live_page_sums_up_by_route_and_host() {
    let asked = Asked { window: Some(10), ..Asked::default() };
    let page = serde_json::to_value(live_page(&view(), &asked, 31, 4)).unwrap();
    assert_eq!(page["window_s"], 10);
    assert_eq!(page["covered_s"], 10.0);
    assert_eq!(page["kept_s"], 30.0);
    assert_eq!((&page["uptime_s"], &page["generation"]), (&31.into(), &4.into()));
    assert_eq!(page["total"]["requests"], 110);
    assert_eq!(page["total"]["rate"], 11.0);
    assert_eq!(page["total"]["classes"]["5xx"], 10);
    let hosts: Vec<_> = page["hosts"].as_array().unwrap().iter().map(|row| &row["host"]).collect();
    assert_eq!(hosts, ["hello.com", "old.com"]);
    assert_eq!(page["hosts"][0]["error_rate"], 0.1);
    let routes = page["routes"].as_array().unwrap();
    assert_eq!(routes.len(), 3);
    assert_eq!((&routes[1]["service"], &routes[1]["subset"]), (&"hello.svc".into(), &"v2".into()));
    assert_eq!((&routes[1]["p50"], &routes[1]["errors"]), (&5003.into(), &10.into()));
    assert_eq!((&routes[2]["destination"], &routes[2]["p99"]), (&"-".into(), &10.into()));
    assert_eq!(page["series"].as_array().unwrap().len(), 10);
    assert_eq!(page["series"][9]["t"], 30_000);
}

#[test]
fn the_series_is_of_what_was_asked_for() {
    let requests = |asked: Asked| {
        let page = live_page(&view(), &asked, 0, 0);
        serde_json::to_value(page.series[0]).unwrap()["requests"].as_u64().unwrap()
    };
    let key = stable_key(&view().keys[1]);
    assert_eq!(requests(Asked { key: Some(key), ..Asked::default() }), 1);
    assert_eq!(requests(Asked { host: Some("hello.com".into()), ..Asked::default() }), 10);
    assert_eq!(requests(Asked { host: Some("nobody".into()), ..Asked::default() }), 0);
}

#[test]
fn windows_have_bounds() {
    let window = |window| Asked { window, ..Asked::default() }.window().as_secs();
    assert_eq!([None, Some(0), Some(100), Some(u64::MAX)].map(window), [60, 5, 100, 3600]);
}

#[test]
fn a_curve_ends_with_the_slowest() {
    let asked = Asked { host: Some("hello.com".into()), window: Some(20), ..Asked::default() };
    let page = curve_page(view(), asked).unwrap();
    assert_eq!(
        (page.count, page.from_unix_ms, page.until_unix_ms),
        (200, Some(10_000), Some(30_000))
    );
    assert_eq!(page.points.last(), Some(&(1.0, 5_003)));
    assert!(page.points.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1));
    let asked = Asked { key: Some("nothing".into()), ..Asked::default() };
    assert!(curve_page(view(), asked).is_err());
    let idle = Asked { host: Some("idle.com".into()), ..Asked::default() };
    assert_eq!(curve_page(view(), idle).unwrap().count, 0);
    let before = Asked { host: Some("hello.com".into()), until: Some(10), ..Asked::default() };
    let page = curve_page(view(), before).unwrap();
    assert_eq!((page.count, page.until_unix_ms), (0, None));
}
