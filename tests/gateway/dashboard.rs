//! The page for browsers, in a real one: before a gateway with traffic, and before made-up figures for what
//! takes longer than a test.

mod double;

use serde_json::{Value, json};

use crate::support::browser::{Browser, key};
use crate::support::gateway::{wait_for_standstill, wait_until};
use crate::support::manifests::{GATEWAY, service};
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream};
use double::{Double, Figures, Route};

const VIEWS: [&str; 6] = ["overview", "graph", "latency", "slos", "explain", "problems"];

/// A route that is divided between two subsets, and one that leads nowhere.
const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hello}
spec:
  hosts: [hello.com]
  gateways: [gateway]
  http:
  - name: broken
    match: [{uri: {prefix: /broken}}]
    route: [{destination: {host: nobody}}]
  - name: main
    route:
    - {destination: {host: hello, subset: v1}, weight: 50}
    - {destination: {host: hello, subset: v2}, weight: 50}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hello}
spec:
  host: hello
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

/// Two upstreams, each a subset of `hello`, and a gateway before them.
fn canary() -> (Gateway, [Upstream; 2]) {
    let upstreams = [Upstream::start("v1"), Upstream::start("v2")];
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let mut services = service("hello", &addresses);
    for index in 0..2 {
        let name = format!("  name: hello-{index}\n  namespace: default\n  labels: {{");
        let labelled = format!("{name}version: v{}, ", index + 1);
        services = services.replace(&name, &labelled);
    }
    let routes = format!("{GATEWAY}---\n{ROUTES}");
    let gateway = Gateway::start(&[("routes.yaml", &routes), ("services.yaml", &services)]);
    (gateway, upstreams)
}

fn ask(gateway: &Gateway, path: &str, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..times {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        raw.response();
    }
}

fn page(gateway: &Gateway, view: &str) -> String {
    format!("http://{}/dashboard/#{view}", gateway.admin)
}

/// The browser complained of nothing: no script failed, and nothing was asked for that the policy forbids.
#[track_caller]
fn is_content(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Text of the first row of a table whose text contains `part`.
fn row(browser: &Browser, view: &str, part: &str) -> String {
    let rows = browser.value(&format!(
        "[...document.querySelectorAll('#view-{view} tbody tr')].map((row) => row.innerText)"
    ));
    let rows: Vec<String> = serde_json::from_value(rows).expect("texts");
    rows.into_iter().find(|row| row.contains(part)).unwrap_or_default()
}

/// The row of the table of curves for a percentile.
fn percentile(browser: &Browser, name: &str) -> String {
    let text = browser.value(&format!(
        "[...document.querySelectorAll('#view-latency tbody tr')]
            .find((row) => row.cells[0].textContent === '{name}\u{a0}%').innerText"
    ));
    text.as_str().expect("a text").to_owned()
}

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
    assert!(browser.text("#explain-answer").is_empty());
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

#[test]
fn many_routes_are_drawn_as_the_busiest_and_the_rest() {
    let Some(browser) = Browser::start() else { return };
    let mut routes: Vec<Route> = (0..200)
        .map(|index| {
            let (host, service) = (index / 5, index / 3);
            Route::new(
                &format!("host{host}.example.com"),
                &format!("route-{index}"),
                &format!("service{service}"),
                "",
            )
        })
        .collect();
    for (index, route) in routes.iter_mut().enumerate() {
        route.rate = index as u64;
    }
    let double = Double::start(Figures { routes, ..Figures::default() });
    browser.open(&double.url("graph"));
    browser.wait_for_text(".graph", "and 188 more");
    assert!(browser.count(".node") <= 1 + 4 * 13, "{}", browser.count(".node"));
    assert!(browser.text(".graph").contains("route-199"));
    browser.click("label:has([name=most][value='100000'])");
    browser.wait_for("document.querySelectorAll('.node').length > 300");
    browser.open(&double.url("overview"));
    browser.wait_for("document.querySelectorAll('#view-overview tbody tr').length === 199");
    is_content(&browser);
}

#[test]
fn names_are_text_and_never_markup() {
    let Some(browser) = Browser::start() else { return };
    let evil = "<img src=x onerror=\"window.ran=1\">";
    let mut figures = Figures {
        routes: vec![
            Route::new(evil, "\"><script>window.ran=1</script>", evil, "<svg onload=window.ran=1>"),
            Route::new(evil, "\"><script>window.ran=1</script>", evil, "v2"),
        ],
        ..Figures::shop()
    };
    for finding in &mut figures.findings {
        finding["message"] = json!(evil);
    }
    figures.slos[0]["name"] = json!(evil);
    let double = Double::start(figures);
    let seen = [
        ("overview", "#view-overview tbody"),
        ("graph", ".graph"),
        ("latency", "#view-latency"),
        ("slos", "#view-slos"),
        ("problems", "#view-problems tbody"),
    ];
    for (view, selector) in seen {
        browser.open(&double.url(view));
        // A node shows as much of a name as it has room for.
        browser.wait_for_text(selector, "<img src=x on");
        browser.value(
            "document.querySelectorAll('.node, button.name').forEach((one) => { one.focus(); })",
        );
        assert_eq!(browser.value("window.ran ?? null"), Value::Null, "{view}");
        assert_eq!(
            browser.count("main img, main script, main [onerror], main [onload]"),
            0,
            "{view}"
        );
    }
    is_content(&browser);
}

#[test]
fn the_keyboard_reaches_everything() {
    let Some(browser) = Browser::start() else { return };
    let double = Double::start(Figures::shop());
    browser.open(&double.url("overview"));
    browser.wait_for("document.querySelectorAll('#view-overview tbody tr').length === 3");
    // Tab by Tab through the page; each stop can be seen.
    let mut stops = Vec::new();
    let stop = "(() => {
        const at = document.activeElement;
        const shown = at.matches('.choice input') ? at.nextElementSibling : at.matches('.node') ? at.querySelector('.box') : at;
        const style = getComputedStyle(shown);
        const visible = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || parseFloat(style.strokeWidth) >= 3;
        return [at.id || at.getAttribute('name') || at.getAttribute('data-id') || at.textContent.trim(), visible];
    })()";
    for _ in 0..60 {
        browser.press(key::TAB);
        let (name, is_visible): (String, bool) =
            serde_json::from_value(browser.value(stop)).expect("a stop");
        if browser.value("document.activeElement === document.body") == json!(true) {
            break;
        }
        assert!(is_visible, "the focus cannot be seen on {name}");
        stops.push(name);
    }
    let place = |name: &str| {
        stops
            .iter()
            .position(|stop| stop == name)
            .unwrap_or_else(|| panic!("{name} not in {stops:?}"))
    };
    assert_eq!(place("Skip to the figures"), 0);
    let order = [
        "window",
        "pause",
        "theme",
        "tab-overview",
        "view-overview",
        "grouping",
        "filter",
        "Rate",
        "cart",
    ];
    let places: Vec<usize> = order
        .iter()
        .map(|name| {
            stops
                .iter()
                .position(|stop| stop.starts_with(name))
                .unwrap_or_else(|| panic!("{name} not in {stops:?}"))
        })
        .collect();
    assert!(places.is_sorted(), "{order:?} {stops:?}");

    // Arrows, Home and End go through the tabs; only the chosen one is a stop of Tab.
    browser.value("document.getElementById('tab-overview').focus()");
    for (key, tab) in [
        (key::RIGHT, "graph"),
        (key::RIGHT, "latency"),
        (key::END, "problems"),
        (key::RIGHT, "overview"),
        (key::LEFT, "problems"),
        (key::HOME, "overview"),
    ] {
        browser.press(key);
        assert_eq!(browser.value("document.activeElement.id"), json!(format!("tab-{tab}")));
        assert_eq!(
            browser.value("document.querySelector('[role=tab][aria-selected=true]').id"),
            json!(format!("tab-{tab}"))
        );
        assert_eq!(browser.count("[role=tab][tabindex='0']"), 1);
        assert_eq!(browser.count("[role=tabpanel]:not([hidden])"), 1);
    }

    // Arrows go through the graph.
    browser.open(&double.url("graph"));
    browser.wait_for("document.querySelectorAll('.node').length > 5");
    browser.value("document.querySelector('.node[data-id=gateway]').focus()");
    browser.press(key::RIGHT);
    let host = browser.value("document.activeElement.dataset.id");
    assert_eq!(host, json!("host:shop.example.com"));
    browser.press(key::RIGHT);
    let route = browser.value("document.activeElement.dataset.id");
    assert!(route.as_str().is_some_and(|id| id.starts_with("route:shop")), "{route}");
    browser.press(key::LEFT);
    assert_eq!(browser.value("document.activeElement.dataset.id"), host);
    browser.press(key::DOWN);
    browser.press(key::ENTER);
    assert_eq!(browser.count(".node[aria-pressed=true]"), 1);
    browser.press(key::ESCAPE);
    assert_eq!(browser.count(".node[aria-pressed=true]"), 0);
    is_content(&browser);
}

#[test]
fn a_phone_shows_everything_without_scrolling_sideways() {
    let Some(browser) = Browser::start() else { return };
    let double = Double::start(Figures::shop());
    for width in [320, 390] {
        browser.viewport(width, 700);
        for view in VIEWS {
            browser.open(&double.url(view));
            browser.wait_for_text("#state", "live");
            let inside = browser.value("document.documentElement.scrollWidth <= innerWidth");
            let wide = browser.value("[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll, .hidden, pre') && one.getBoundingClientRect().right > innerWidth + 1).map((one) => `${one.tagName} ${one.className}`)");
            assert_eq!((inside, wide), (json!(true), json!([])), "{view} at {width}");
            // Fingers need room.
            let small = browser.value("[...document.querySelectorAll('main button, .bar button, [role=tab]')].filter((one) => one.offsetHeight > 0 && one.offsetHeight < 24).map((one) => one.textContent)");
            assert_eq!(small, json!([]), "{view} at {width}");
        }
    }
    // Rows are cards that name their figures.
    browser.open(&double.url("overview"));
    browser.wait_for_text("#view-overview tbody", "checkout");
    let label = browser.value("getComputedStyle(document.querySelector('#view-overview tbody td[data-label=p99]'), '::before').content");
    assert_eq!(label, json!("\"p99\""));
    is_content(&browser);
}

/// Texts that are hard to read, as `text: ratio`, by WCAG 2: 4.5 to one, 3 for large letters.
const FAINT: &str = "(() => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const rgba = (color) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = color;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (color) => {
        const [r, g, b] = color.map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const box = at.matches('.node') ? getComputedStyle(at.querySelector('.box')).fill : getComputedStyle(at).backgroundColor;
            const color = rgba(box);
            if (color[3] === 255) return color;
        }
        return [255, 255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
        if (!own || !element.checkVisibility() || element.closest('.hidden, .skip, noscript, title, option') || element.disabled) continue;
        const style = getComputedStyle(element);
        const color = rgba(element instanceof SVGElement ? style.fill : style.color);
        const [one, other] = [light(color.slice(0, 3)), light(ground(element).slice(0, 3))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
        if (ratio < (large ? 3 : 4.5)) faint.push(`${element.textContent.trim()}: ${ratio.toFixed(2)}`);
    }
    return faint;
})()";

#[test]
fn texts_can_be_read_in_light_and_dark() {
    let Some(browser) = Browser::start() else { return };
    let double = Double::start(Figures::shop());
    for (scheme, ground) in [("light", "rgb(244, 246, 248)"), ("dark", "rgb(14, 18, 23)")] {
        browser.prefer("prefers-color-scheme", scheme);
        for view in VIEWS {
            browser.open(&double.url(view));
            browser.wait_for_text("#state", "live");
            assert_eq!(
                browser.value("getComputedStyle(document.body).backgroundColor"),
                json!(ground)
            );
            assert_eq!(browser.value(FAINT), json!([]), "{view}, {scheme}");
        }
    }
    // The check finds what is faint.
    browser.value("document.querySelector('h1').style.color = '#333'");
    assert_eq!(browser.value(FAINT).as_array().map(Vec::len), Some(1));
    // The switch has the last word, also after the page is loaded again.
    browser.click("#theme");
    browser.wait_for_text("#theme", "light");
    browser.open(&double.url("overview"));
    assert_eq!(
        browser.value("getComputedStyle(document.body).backgroundColor"),
        json!("rgb(244, 246, 248)")
    );
    browser.prefer("prefers-reduced-motion", "reduce");
    browser.open(&double.url("graph"));
    browser.wait_for("document.querySelectorAll('.node').length > 5");
    assert_eq!(
        browser.value("getComputedStyle(document.querySelector('.node')).transitionDuration"),
        json!("0s")
    );
    is_content(&browser);
}

#[test]
fn everything_has_a_name() {
    let Some(browser) = Browser::start() else { return };
    let double = Double::start(Figures::shop());
    let nameless = "[...document.querySelectorAll('button, input, select, textarea, a, [role=region], [role=tabpanel], [role=img], [role=meter], svg:not([aria-hidden]), img, table, section')]
        .filter((one) => one.checkVisibility() && !one.closest('svg svg'))
        .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.length || one.hasAttribute('aria-labelledby') || one.hasAttribute('alt')))
        .map((one) => one.outerHTML)";
    let doubled = "[...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, index, all) => all.indexOf(id) !== index)";
    for view in VIEWS {
        browser.open(&double.url(view));
        browser.wait_for_text("#state", "live");
        assert_eq!(browser.value(nameless), json!([]), "{view}");
        assert_eq!(browser.value(doubled), json!([]), "{view}");
        assert_eq!(browser.count("table:not(:has(caption))"), 0, "{view}");
        assert_eq!(browser.count("th:not([scope])"), 0, "{view}");
        assert_eq!(
            (browser.count("h1"), browser.count("html[lang=en]"), browser.count("main")),
            (1, 1, 1)
        );
        // What a reference names is there.
        assert_eq!(browser.value("[...document.querySelectorAll('[aria-controls], [aria-labelledby], label[for]')].filter((one) => !document.getElementById(one.getAttribute('aria-controls') ?? one.getAttribute('aria-labelledby') ?? one.htmlFor)).length"), json!(0));
    }
    is_content(&browser);
}

#[test]
fn nobody_who_looks_away_is_told_and_a_lost_gateway_is() {
    let Some(browser) = Browser::start() else { return };
    let double = Double::start(Figures::shop());
    browser.open(&double.url("overview"));
    browser.wait_for_text("#state", "live");
    let hide = |is_hidden: bool| {
        browser.value(&format!("Object.defineProperty(document, 'hidden', {{ value: {is_hidden}, configurable: true }}) && document.dispatchEvent(new Event('visibilitychange'))"));
    };
    let asked = || double.asked.load(std::sync::atomic::Ordering::SeqCst);
    hide(true);
    // What was on the way when the tab was hidden may still be counted: two beats must be quiet.
    let quiet = wait_for_standstill(&double.asked);
    let beats = "new Promise((done) => setTimeout(() => done(true), 4500))";
    browser.value(beats);
    assert_eq!(asked(), quiet);
    hide(false);
    wait_until("figures again", || asked() > quiet);
    browser.click("#pause");
    browser.wait_for_text("#state", "paused");
    let quiet = wait_for_standstill(&double.asked);
    browser.value(beats);
    assert_eq!(asked(), quiet);

    let (mut gateway, _upstreams) = canary();
    ask(&gateway, "/", 20);
    browser.open(&page(&gateway, "overview"));
    browser.wait_for_text("[data-figure=rate] + dd", "20 in");
    gateway.signal(libc::SIGKILL);
    gateway.wait();
    browser.wait_for_text("#lost", "Connection lost");
    assert!(browser.text("#state").contains("connection lost"));
    // The last figures stay, and are said to be old.
    assert!(browser.text("[data-figure=rate] + dd").contains("20 in"));
    assert!(browser.text("#lost").contains("The figures are those of"));
}
