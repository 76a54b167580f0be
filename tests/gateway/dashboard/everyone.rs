//! That everybody can use the page and nobody can misuse it: keyboard, phone, contrast, names for screen
//! readers, hostile names, many routes, a hidden tab, a gateway that is gone.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::double::{Double, Figures, Route};
use super::{VIEWS, ask, canary, is_content, page};
use crate::support::browser::{Browser, key};
use crate::support::gateway::{wait_for_standstill, wait_until};

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
    let asked = || double.asked.load(Ordering::SeqCst);
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
