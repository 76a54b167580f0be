//! What each view says.

use serde_json::json;

use super::double::{Double, Figures};
use super::{ask, canary, is_content, page, percentile, row};
use crate::support::browser::{Browser, key};
use crate::support::gateway::wait_until;
use crate::support::raw::Raw;

#[test]
fn browsers_are_led_to_the_page_and_curl_to_the_list() {
    let (gateway, _upstreams) = canary();
    let get = |accept: &str| {
        let mut raw = Raw::connect(gateway.admin);
        raw.send(format!("GET / HTTP/1.1\r\nHost: admin\r\nAccept: {accept}\r\n\r\n"));
        raw.response()
    };
    let page = get("text/html,application/xhtml+xml,*/*;q=0.8");
    assert_eq!((page.status, page.header("location")), (307, Some("/dashboard/")));
    let list = get("*/*");
    assert_eq!(list.status, 200);
    let text = String::from_utf8(list.body).expect("text");
    assert!(text.contains("/dashboard/") && text.contains("/config_dump"), "{text}");
}

#[test]
fn figures_of_traffic_appear() {
    let Some(browser) = Browser::start() else { return };
    let (gateway, _upstreams) = canary();
    browser.open(&page(&gateway, "overview"));
    browser.wait_for_text("#state", "live");
    browser.wait_for_text("#view-overview", "No requests yet");
    ask(&gateway, "/", 40);
    ask(&gateway, "/broken", 10);
    browser.wait_for_text("[data-figure=rate] + dd", "50 in");
    assert_eq!(browser.text("[data-figure=error_rate]"), "20\u{a0}%");
    assert!(
        browser.text("[data-figure=p50]").ends_with('s'),
        "{}",
        browser.text("[data-figure=p50]")
    );
    assert_eq!(browser.text("[data-figure=p999] + dd"), "too few samples");
    let v1 = row(&browser, "overview", "hello.default · v1");
    assert!(v1.contains("main") && v1.contains("hello.com") && v1.contains("0\u{a0}%"), "{v1}");
    let broken = row(&browser, "overview", "broken");
    assert!(broken.contains("failing") && broken.contains("100\u{a0}%"), "{broken}");
    // Lines over time, and one for each row.
    browser.wait_for("document.querySelectorAll('path.line').length >= 2");
    browser.wait_for("document.querySelector('tbody .spark-line[d]') !== null");

    // Sorted by what is clicked, both ways.
    let first = "#view-overview tbody tr:first-child";
    browser.click_button("Errors");
    browser.wait_for_text(first, "broken");
    assert_eq!(browser.count("#view-overview th[aria-sort=descending]"), 1);
    browser.click_button("Errors");
    browser.wait_for("document.querySelector('#view-overview th[aria-sort=ascending]') !== null");
    assert!(!browser.text(first).contains("broken"));

    // Filtered by words.
    browser.fill("#filter", "main v2");
    browser.wait_for("document.querySelectorAll('#view-overview tbody tr').length === 1");
    assert!(browser.text("#view-overview").contains("1 of 3 rows"));
    browser.fill("#filter", " ");

    // A row gives its figures to the whole view; Escape takes them back.
    browser.click("#view-overview tbody tr:first-child .name");
    browser.wait_for("document.querySelector('#scope').textContent.startsWith('hello.com ›')");
    assert_eq!(browser.count("tr.selected .name[aria-pressed=true]"), 1);
    browser.press(key::ESCAPE);
    browser.wait_for_text("#scope", "All traffic");

    for (grouping, part) in [("host", "hello.com"), ("destination", "hello.default.svc")] {
        let label = format!("label:has([name=grouping][value={grouping}])");
        browser.click(&label);
        browser.wait_for_text(first, part);
    }
    is_content(&browser);
}

#[test]
fn the_graph_shows_every_part_of_the_way() {
    let Some(browser) = Browser::start() else { return };
    let (gateway, upstreams) = canary();
    ask(&gateway, "/", 30);
    browser.open(&page(&gateway, "graph"));
    let v1 = "subset:hello.default.svc.cluster.local|v1";
    let mut wanted: Vec<String> =
        ["gateway", "host:hello.com", "route:hello.com|default/hello|main"]
            .map(str::to_owned)
            .into();
    wanted.extend(["service:hello.default.svc.cluster.local", v1].map(str::to_owned));
    for upstream in &upstreams {
        wanted.push(format!("endpoint:hello.default.svc.cluster.local|{}", upstream.address));
    }
    for id in wanted {
        browser.wait_for(&format!("document.querySelector(`.node[data-id=\"{id}\"]`) !== null"));
    }
    let node = format!("document.querySelector('.node[data-id=\"{v1}\"]')");
    browser.wait_for(&format!("/healthy, rate .*, requests [0-9]+/.test({node}.ariaLabel)"));
    assert!(browser.count(".edge") >= 7, "{}", browser.count(".edge"));
    // The route that nothing was asked of is there, and says so.
    browser.wait_for("[...document.querySelectorAll('.node')].some((node) => /route broken: no traffic/.test(node.ariaLabel))");

    // The figures of a node that has the focus; chosen, it filters the table.
    browser.value(&format!("{node}.focus()"));
    browser.wait_for_text("#view-graph .details", "subset v1");
    browser.press(key::ENTER);
    browser.wait_for_text("#view-graph caption", "Routes through subset v1");
    browser.wait_for("document.querySelectorAll('#view-graph tbody tr').length === 1");
    assert!(browser.text("#view-graph tbody").contains("hello.default · v1"));
    // The next figures leave focus and choice alone.
    let asked = "performance.getEntriesByType('resource').filter((entry) => entry.name.includes('api/graph')).length";
    let before = browser.value(asked).as_u64().expect("a number");
    wait_until("further figures", || browser.value(asked).as_u64().expect("a number") > before + 1);
    assert_eq!(browser.value("document.activeElement.dataset.id"), json!(v1));
    browser.press(key::ESCAPE);
    browser.wait_for_text("#view-graph caption", "All routes");
    is_content(&browser);
}

#[test]
fn curves_of_two_subsets_lie_over_each_other() {
    let Some(browser) = Browser::start() else { return };
    let (gateway, _upstreams) = canary();
    ask(&gateway, "/", 60);
    browser.open(&page(&gateway, "latency"));
    browser.wait_for("document.querySelectorAll('.curve').length > 0");
    browser.click_button("Compare subsets");
    browser.wait_for("document.querySelector('.curve-0') !== null && document.querySelector('.curve-1') !== null");
    let head = browser.text("#view-latency thead");
    assert!(head.contains("main · v1") && head.contains("main · v2"), "{head}");
    assert!(head.contains("Difference"), "{head}");
    let median = percentile(&browser, "50");
    assert_eq!(median.matches("µs").count() + median.matches("ms").count(), 2, "{median}");
    // Sixty requests tell nothing about one in ten thousand.
    assert!(percentile(&browser, "99.99").contains("few"));
    assert!(browser.count(".curve.few-samples") >= 2);

    // The same route up to a picked time, and at one at which there was no gateway.
    browser.click_button("Now against an hour ago");
    browser.wait_for_text("#view-latency [role=status]", "no requests then");
    browser.choose("#view-latency li:nth-child(2) select:nth-of-type(2)", "at");
    browser.wait_for("document.querySelectorAll('.curve-1').length > 0");
    assert_eq!(
        browser.count("#view-latency li:nth-child(2) input[type=datetime-local]:not([hidden])"),
        1
    );

    // Both axes have ticks of latency and of nines.
    for axis in ["linear", "log"] {
        browser.click(&format!("label:has([name=axis][value={axis}])"));
        let ticks = browser.text(".curves");
        for tick in ["0\u{a0}%", "50\u{a0}%", "90\u{a0}%", "99.9\u{a0}%", "99.99\u{a0}%"] {
            assert!(ticks.contains(tick), "{tick} in {ticks}");
        }
    }
    is_content(&browser);
}

#[test]
fn two_time_spans_are_compared() {
    let Some(browser) = Browser::start() else { return };
    let double = Double::start(Figures::shop());
    browser.open(&double.url("latency"));
    browser.wait_for("document.querySelectorAll('.curve').length > 0");
    browser.click_button("Now against an hour ago");
    browser.wait_for("document.querySelector('.curve-0') !== null && document.querySelector('.curve-1') !== null");
    let head = browser.text("#view-latency thead");
    assert!(head.contains("now") && head.contains("an hour ago"), "{head}");
    // An hour ago everything took half as long.
    browser.wait_for_text("#view-latency tbody", "−50\u{a0}%");
    is_content(&browser);
}

#[test]
fn a_request_is_explained() {
    let Some(browser) = Browser::start() else { return };
    let (gateway, _upstreams) = canary();
    browser.open(&page(&gateway, "explain"));
    browser.wait_for_text("#state", "live");
    browser.fill("#explain-url", "http://hello.com/broken/a");
    browser.fill("#explain-headers", "x-user: jason");
    browser.press(key::TAB);
    browser.press(key::ENTER);
    browser.wait_for_text("#explain-answer", "route `broken` of default/hello: matches");
    assert!(browser.text("#explain-answer").contains("cluster_not_found"));
    browser.fill("#explain-url", "no address");
    browser.click("#view-explain [type=submit]");
    browser.wait_for("!document.querySelector('#view-explain [role=alert]').hidden");
    browser.wait_for("!document.querySelector('#explain-answer').checkVisibility()");
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|one| one.contains("explain") && one.contains("400")),
        "{complaints:?}"
    );
}

#[test]
fn a_refused_manifest_is_a_problem() {
    let Some(browser) = Browser::start() else { return };
    let (gateway, _upstreams) = canary();
    browser.open(&page(&gateway, "problems"));
    browser.wait_for_text("#view-problems", "live");
    gateway.write(
        "bad.yaml",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad}\nspec:\n  \
         hosts: [bad.com]\n  gateways: [gateway]\n  http:\n  - route:\n    \
         - {destination: {host: hello}, weight: -1}\n",
    );
    browser.wait_for_text("#problem-count", "1");
    browser.wait_for_text("#view-problems tbody", "default/bad");
    let text = row(&browser, "problems", "error");
    assert!(text.contains("IST0106") && text.contains("VirtualService default/bad"), "{text}");
    assert!(text.contains("refused") && text.contains("bad.yaml:"), "{text}");
    gateway.remove("bad.yaml");
    browser.wait_for("document.querySelector('#problem-count').hidden");
    is_content(&browser);
}

#[test]
fn objectives_tell_their_budget_and_alert() {
    let Some(browser) = Browser::start() else { return };
    let (gateway, _upstreams) = canary();
    browser.open(&page(&gateway, "slos"));
    browser.wait_for_text("#view-slos", "No objectives yet");
    // What the page says to write does.
    let example = browser.text("#view-slos .empty pre");
    gateway.write("objectives.yaml", &example);
    browser.wait_for("document.querySelectorAll('[data-slo]').length === 2");
    ask(&gateway, "/broken", 10);
    browser.wait_for("[...document.querySelectorAll('[data-slo]')].some((slo) => /overspent/.test(slo.innerText) && /0 of 10/.test(slo.innerText))");
    is_content(&browser);

    let double = Double::start(Figures::shop());
    browser.open(&double.url("slos"));
    browser.wait_for_text("[data-slo=calm]", "75\u{a0}% left");
    assert!(browser.text("[data-slo=calm]").contains("no alert"));
    assert!(browser.text("[data-slo=burning]").contains("20\u{a0}% overspent"));
    assert!(browser.text("[data-slo=burning] .badge").contains("page"));
    assert!(browser.text("[data-slo=burning] .burns").contains("▲ 20×"));
    assert!(browser.text("[data-slo=smouldering] .badge").contains("ticket"));
    assert!(browser.text("[data-slo=unused]").contains("No requests yet"));
    assert!(browser.text("#view-slos [role=alert]").contains("slos.yaml:2:3"));
    assert_eq!(
        browser.value("document.querySelector('[data-slo=calm] [role=meter]').ariaValueNow"),
        json!("75")
    );
    // What needs somebody stands first.
    let first = browser.value("document.querySelector('[data-slo]').dataset.slo");
    assert_eq!(first, json!("burning"));
    is_content(&browser);

    let empty = Double::start(Figures::default());
    browser.open(&empty.url("slos"));
    browser.wait_for_text("#view-slos", "No objectives yet");
    is_content(&browser);
}
