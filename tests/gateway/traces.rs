//! Trace contexts that pass, are continued and are begun, and the spans that a collector gets.

use crate::support::collector::{Collector, Received};
use crate::support::gateway::{free_port, ringress, wait_until};
use crate::support::http2::{call, connect, request};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, Seen, read_head};
use crate::support::{Gateway, Upstream, block_on, hello, manifests};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const DROPPED: &str = "ringress_trace_spans_dropped_total";
const EXPORTED: &str = "ringress_trace_spans_exported_total";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A GET of `/a?secret` of the host of the tutorial with these fields.
fn ask(gateway: &Gateway, fields: &str) {
    let mut raw = Raw::connect(gateway.address);
    raw.send(format!("GET /a?secret HTTP/1.1\r\nHost: hello.com\r\n{fields}\r\n"));
    assert_eq!(raw.response().status, 200);
}

/// What the upstream got of a request with these fields.
fn seen_of(gateway: &Gateway, upstream: &Upstream, fields: &str) -> Seen {
    ask(gateway, fields);
    upstream.last()
}

/// The parts of a `traceparent`: trace, span, flags.
fn parts(traceparent: Option<&str>) -> (String, String, String) {
    let text = traceparent.expect("a traceparent");
    let parts: Vec<&str> = text.split('-').collect();
    assert!(parts.len() == 4 && parts[0] == "00", "{text}");
    assert_eq!((parts[1].len(), parts[2].len()), (32, 16), "{text}");
    (parts[1].to_owned(), parts[2].to_owned(), parts[3].to_owned())
}

#[test]
fn without_a_collector_contexts_pass_as_they_came() {
    let (upstream, gateway) = hello(&["--tracing-propagation", "w3c,b3"]);
    let fields =
        [("traceparent", "anything"), ("tracestate", "a=b"), ("b3", "0"), ("x-b3-traceid", "x")];
    let text: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let seen = seen_of(&gateway, &upstream, &text);
    for (name, value) in fields {
        assert_eq!(seen.all(name), [value], "{name}");
    }
    let seen = seen_of(&gateway, &upstream, "");
    assert_eq!((seen.header("traceparent"), seen.header("x-b3-traceid")), (None, None));
}

#[test]
fn a_trace_of_w3c_is_continued() {
    let collector = Collector::start();
    let (upstream, gateway) = hello(&["--tracing-otlp", &collector.url()]);
    let fields = format!(
        "traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: a=b\r\ntracestate: c=d\r\nb3: 0\r\n\
         user-agent: test\r\n"
    );
    let seen = seen_of(&gateway, &upstream, &fields);
    assert_eq!(seen.all("traceparent").len(), 1);
    let (trace, span, flags) = parts(seen.header("traceparent"));
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "01"));
    assert_ne!(span, SPAN);
    assert_eq!(seen.all("tracestate"), ["a=b", "c=d"]);
    // A format that was not chosen is a field like any other.
    assert_eq!(seen.all("b3"), ["0"]);

    let received = collector.wait_for(1).remove(0);
    assert_eq!(received.service, "istio-ingressgateway.istio-system");
    let sent = &received.span;
    assert_eq!((hex(&sent.trace_id), hex(&sent.span_id)), (TRACE.to_owned(), span));
    assert_eq!(hex(&sent.parent_span_id), SPAN);
    assert!(sent.start_time_unix_nano > 0 && sent.end_time_unix_nano >= sent.start_time_unix_nano);
    let request_id = seen.header("x-request-id").map(str::to_owned);
    for (key, value) in [
        ("http.method", Some("GET".to_owned())),
        ("http.url", Some("http://hello.com/a".to_owned())),
        ("http.protocol", Some("HTTP/1.1".to_owned())),
        ("http.status_code", Some("200".to_owned())),
        ("response_flags", Some("-".to_owned())),
        ("response_size", Some("5".to_owned())),
        ("user_agent", Some("test".to_owned())),
        ("guid:x-request-id", request_id),
        ("upstream_address", Some(upstream.address.to_string())),
        ("upstream_cluster", Some("outbound|80||hello.default.svc.cluster.local".to_owned())),
        ("ringress.attempts", Some("1".to_owned())),
        ("peer.address", Some("127.0.0.1".to_owned())),
    ] {
        assert_eq!(received.attribute(key), value, "{key}");
    }
    gateway.wait_for_metrics("a span that is counted", |metrics| metrics.sum(EXPORTED, &[]) == 1.0);
}

#[test]
fn the_decision_of_the_caller_is_kept() {
    let collector = Collector::start();
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-sampling", "100"];
    let (upstream, gateway) = hello(&arguments);
    let not = format!("traceparent: 00-{TRACE}-{SPAN}-00\r\n");
    let (trace, span, flags) = parts(seen_of(&gateway, &upstream, &not).header("traceparent"));
    assert_eq!((trace.as_str(), flags.as_str()), (TRACE, "00"));
    assert_ne!(span, SPAN);
    // One without a decision is ours to sample: the only span that comes.
    let (trace, span, flags) = parts(seen_of(&gateway, &upstream, "").header("traceparent"));
    assert_eq!(flags, "01");
    let received = collector.wait_for(1).remove(0).span;
    assert_eq!((hex(&received.trace_id), hex(&received.span_id)), (trace, span));
    assert!(received.parent_span_id.is_empty());
}

#[test]
fn a_context_that_is_malformed_is_replaced_with_its_state() {
    let collector = Collector::start();
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-sampling", "0"];
    let (upstream, gateway) = hello(&arguments);
    for traceparent in [
        format!("ff-{TRACE}-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        format!("00-{}-{SPAN}-01", "0".repeat(32)),
        format!("00-{TRACE}-{SPAN}-01-more"),
    ] {
        let fields = format!("Traceparent: {traceparent}\r\ntracestate: a=b\r\n");
        let seen = seen_of(&gateway, &upstream, &fields);
        let (trace, _, flags) = parts(seen.header("traceparent"));
        assert_ne!(trace, TRACE, "{traceparent}");
        assert_eq!(flags, "00", "{traceparent}: nobody who may decide has sampled it");
        assert_eq!(seen.all("traceparent").len(), 1);
        assert_eq!(seen.header("tracestate"), None);
    }
}

#[test]
fn b3_is_continued_in_the_form_that_came() {
    let collector = Collector::start();
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-propagation", "b3"];
    let (upstream, gateway) = hello(&arguments);
    let fields = format!(
        "X-B3-TraceId: {TRACE}\r\nx-b3-spanid: {SPAN}\r\nx-b3-sampled: 1\r\n\
         x-b3-parentspanid: 00000000000000aa\r\ntraceparent: x\r\n"
    );
    let seen = seen_of(&gateway, &upstream, &fields);
    assert_eq!(seen.all("x-b3-traceid"), [TRACE]);
    assert_eq!(seen.all("x-b3-parentspanid"), [SPAN]);
    assert_eq!((seen.all("x-b3-sampled"), seen.header("b3")), (vec!["1"], None));
    assert_eq!(seen.header("traceparent"), Some("x"));
    let own = seen.header("x-b3-spanid").map(str::to_owned);
    let received = collector.wait_for(1).remove(0).span;
    assert_eq!(hex(&received.trace_id), TRACE);
    assert_eq!((Some(hex(&received.span_id)), hex(&received.parent_span_id)), (own, SPAN.into()));

    let seen = seen_of(&gateway, &upstream, &format!("b3: {SPAN}-{SPAN}-0\r\n"));
    let own = seen.header("x-b3-spanid").expect("ours").to_owned();
    assert_eq!(seen.all("b3"), [format!("{SPAN}-{own}-0-{SPAN}")]);
    assert_eq!((seen.header("x-b3-traceid"), seen.header("x-b3-sampled")), (Some(SPAN), Some("0")));
    // Nothing but a decision: a trace begins with it.
    let seen = seen_of(&gateway, &upstream, "b3: 0\r\n");
    assert_eq!(seen.header("x-b3-sampled"), Some("0"));
    assert_eq!(seen.header("x-b3-traceid").map(str::len), Some(32));
}

#[test]
fn streams_of_http2_are_traced_too() {
    let collector = Collector::start();
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-service-name", "edge"];
    let (upstream, gateway) = hello(&arguments);
    block_on(async {
        let client = connect(gateway.address).await;
        let traceparent = format!("00-{TRACE}-{SPAN}-01");
        let get = request("GET", "/a").header("traceparent", traceparent);
        assert_eq!(call(&client, get, "", None).await.expect("an answer").status, 200);
    });
    let (trace, span, _) = parts(upstream.last().header("traceparent"));
    assert_eq!(trace, TRACE);
    let received = collector.wait_for(1).remove(0);
    assert_eq!((received.service.as_str(), hex(&received.span.span_id)), ("edge", span));
    assert_eq!(received.attribute("http.protocol").as_deref(), Some("HTTP/2"));
}

#[test]
fn answers_of_the_gateway_and_retries_have_spans() {
    let collector = Collector::start();
    let upstream = Scripted::start(|number, mut stream| {
        let answer = if number == 0 { "503 No" } else { "200 OK" };
        while read_head(&mut stream).is_some() {
            let text =
                format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            if std::io::Write::write_all(&mut stream, text.as_bytes()).is_err() {
                return;
            }
        }
    });
    let routes = manifests::any_host(
        "  - name: again\n    match: [{uri: {prefix: /again}}]\n    retries: {attempts: 2, retryOn: 5xx}\n    \
         route: [{destination: {host: up}}]\n",
    );
    let service = manifests::service("up", &[upstream.address]);
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-sampling", "100"];
    let files = [("routes.yaml", &*routes), ("service.yaml", &*service)];
    let gateway = Gateway::start_with(&files, &arguments);
    for (path, status) in [("/again", 200), ("/nowhere", 404)] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: a.com\r\n\r\n"));
        assert_eq!(raw.response().status, status);
    }
    let received = collector.wait_for(2);
    let of = |status: &str| -> &Received {
        let found = received
            .iter()
            .find(|span| span.attribute("http.status_code").as_deref() == Some(status));
        found.unwrap_or_else(|| panic!("no span of {status}"))
    };
    let again = of("200");
    assert_eq!(again.attribute("ringress.attempts").as_deref(), Some("2"));
    assert_eq!(again.attribute("ringress.route").as_deref(), Some("again"));
    let nowhere = of("404");
    assert_eq!(nowhere.attribute("response_flags").as_deref(), Some("NR"));
    assert_eq!((nowhere.span.name.as_str(), nowhere.attribute("upstream_address")), ("GET", None));
}

#[test]
fn a_collector_that_is_away_harms_no_request() {
    let away = format!("http://127.0.0.1:{}", free_port());
    let (upstream, mut gateway) = hello(&["--tracing-otlp", &away, "--tracing-sampling", "100"]);
    for _ in 0..100 {
        ask(&gateway, "");
    }
    assert_eq!(upstream.seen().len(), 100);
    gateway.wait_for_metrics("100 spans that were dropped", |metrics| {
        metrics.sum(DROPPED, &[]) == 100.0
            && metrics.sum("ringress_trace_export_failures_total", &[]) > 0.0
    });
    assert_eq!(gateway.metrics().sum(EXPORTED, &[]), 0.0);
    assert!(gateway.log().contains("cannot send spans to"), "{}", gateway.log());
    ask(&gateway, "");
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
}

#[test]
fn the_end_of_the_process_sends_what_waits() {
    let collector = Collector::start();
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-sampling", "100"];
    let (_upstream, mut gateway) = hello(&arguments);
    for _ in 0..20 {
        ask(&gateway, "");
    }
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
    // The process has ended: what is here is all there will be.
    assert_eq!(collector.received().len(), 20);
}

#[test]
fn a_silent_collector_does_not_keep_the_process() {
    // It takes connections and says nothing.
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", socket.local_addr().expect("bound"));
    let (_upstream, mut gateway) = hello(&["--tracing-otlp", &url, "--tracing-sampling", "100"]);
    ask(&gateway, "");
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
}

#[test]
fn a_reload_keeps_the_tracing() {
    let collector = Collector::start();
    let arguments = ["--tracing-otlp", &collector.url(), "--tracing-sampling", "100"];
    let (upstream, gateway) = hello(&arguments);
    ask(&gateway, "");
    let generation = gateway.generation();
    let other = Upstream::start("other");
    gateway.write("service.yaml", &manifests::hello_service(&[other.address]));
    gateway.wait_for_generation(generation + 1);
    ask(&gateway, "");
    assert_eq!((upstream.seen().len(), other.seen().len()), (1, 1));
    wait_until("two spans", || collector.received().len() == 2);
}

#[test]
fn what_is_wrong_with_an_option_is_said() {
    for (arguments, message) in [
        (["--tracing-otlp", "https://collector"], "not by https"),
        (["--tracing-otlp", "collector:4318"], "is not an address such as"),
        (["--tracing-sampling", "101"], "is not a percentage"),
        (["--tracing-propagation", "jaeger"], "possible values: w3c, b3"),
    ] {
        let output = ringress(&[&["run", "--config", "nowhere"], &arguments[..]].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(message), "{arguments:?}: {text}");
    }
}
