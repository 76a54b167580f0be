//! Retries, timeouts and injected faults, as a client and an upstream see them. The upstreams answer by
//! script; no test asserts a time.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::raw::{Raw, Response};
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

/// What an upstream does with a request.
#[derive(Clone, Copy)]
enum Act {
    Say(&'static str),
    /// Close without a word.
    Close,
    /// Keep it waiting.
    Hang,
    /// Say this, then keep it waiting.
    SayAndHang(&'static str),
}

/// An upstream that does these one after the other, over all its connections; the last one for ever.
struct Steps {
    upstream: Scripted,
    heads: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Steps {
    fn start(acts: &'static [Act]) -> Steps {
        let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
        let next = AtomicUsize::new(0);
        let seen = Arc::clone(&heads);
        let upstream = Scripted::start(move |_, mut stream: TcpStream| {
            while let Some(head) = read_head(&mut stream) {
                seen.lock().expect("no panic").push(head);
                let at = next.fetch_add(1, Ordering::SeqCst).min(acts.len() - 1);
                match acts[at] {
                    Act::Say(answer) => {
                        if stream.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                    Act::Close => return,
                    Act::Hang => {}
                    Act::SayAndHang(answer) => {
                        let _ = stream.write_all(answer.as_bytes());
                    }
                }
            }
        });
        Steps { upstream, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }
}

/// A gateway whose only rule has these fields, before `steps`.
fn before(steps: &Steps, fields: &str) -> (Gateway, tempfile::NamedTempFile) {
    let routes = manifests::any_host(&format!(
        "  - name: only\n    {fields}\n    route: [{{destination: {{host: up}}}}]\n"
    ));
    let service = manifests::service("up", &[steps.upstream.address]);
    let log = tempfile::NamedTempFile::new().expect("a file");
    let argument = format!("--access-log={}", log.path().display());
    let gateway = Gateway::start_with(
        &[("routes.yaml", &routes), ("service.yaml", &service)],
        &[&argument, "--access-log-format=json"],
    );
    (gateway, log)
}

#[track_caller]
fn ask(gateway: &Gateway, request: &str) -> Response {
    let mut raw = Raw::connect(gateway.address);
    raw.send(request);
    raw.response()
}

/// Flags and details of the only request.
#[track_caller]
fn logged(gateway: &Gateway, log: &tempfile::NamedTempFile) -> (String, String) {
    let line = gateway.wait_for_log(log.path(), |line| line["route_name"] == "only");
    let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
    (text("response_flags"), text("response_code_details"))
}

#[test]
fn a_status_is_tried_again() {
    use Act::Say;
    for (fields, acts, status, attempts) in [
        ("retries: {attempts: 2, retryOn: 5xx}", &[Say(BUSY), Say(OK)][..], 200, 2),
        (
            "retries: {attempts: 2, retryOn: gateway-error}",
            &[Say(BUSY), Say(BUSY), Say(OK)],
            200,
            3,
        ),
        ("retries: {attempts: 2, retryOn: \"503\"}", &[Say(BUSY), Say(OK)], 200, 2),
        ("retries: {attempts: 2, retryOn: \"reset,503\"}", &[Say(BUSY), Say(OK)], 200, 2),
        ("retries: {attempts: 1, retryOn: \"502\"}", &[Say(BUSY), Say(OK)], 503, 1),
        ("retries: {attempts: 2}", &[Say(BUSY), Say(OK)], 503, 1),
        ("retries: {attempts: 0}", &[Say(BUSY), Say(OK)], 503, 1),
    ] {
        let steps = Steps::start(acts);
        let (gateway, log) = before(&steps, fields);
        let response = ask(&gateway, GET);
        assert_eq!(response.status, status, "{fields}");
        let heads = steps.heads();
        assert_eq!(heads.len(), attempts, "{fields}");
        let counted = format!("x-envoy-attempt-count: {attempts}\r\n");
        assert!(heads.last().is_some_and(|head| head.contains(&counted)), "{fields}: {heads:?}");
        assert_eq!(logged(&gateway, &log).0, "-", "{fields}");
    }
}

#[test]
fn the_last_response_goes_to_the_client_when_retries_are_used_up() {
    let steps = Steps::start(&[Act::Say(BUSY)]);
    let (gateway, log) = before(&steps, "retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}");
    let response = ask(&gateway, GET);
    assert_eq!((response.status, &response.body[..]), (503, &b"busy"[..]));
    assert_eq!(steps.heads().len(), 4);
    assert_eq!(logged(&gateway, &log), ("URX".into(), "via_upstream".into()));
}

#[test]
fn a_rate_limit_is_not_tried_again() {
    const LIMITED: &str =
        "HTTP/1.1 503 Busy\r\nX-Envoy-RateLimited: true\r\nContent-Length: 0\r\n\r\n";
    for (on, attempts) in [("5xx", 1), ("envoy-ratelimited", 2)] {
        let steps = Steps::start(&[Act::Say(LIMITED), Act::Say(OK)]);
        let (gateway, _log) = before(&steps, &format!("retries: {{attempts: 2, retryOn: {on}}}"));
        ask(&gateway, GET);
        assert_eq!(steps.heads().len(), attempts, "{on}");
    }
}

#[test]
fn a_grpc_status_is_tried_again_by_default() {
    const UNAVAILABLE: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\n\
         grpc-status: 14\r\nContent-Length: 0\r\n\r\n";
    const GRPC: &str = "POST /s/m HTTP/1.1\r\nHost: a.com\r\nContent-Type: application/grpc\r\n\
         Content-Length: 2\r\n\r\nhi";
    let steps = Steps::start(&[Act::Say(UNAVAILABLE), Act::Say(OK)]);
    let (gateway, _log) = before(&steps, "retries: {attempts: 2}");
    assert_eq!(ask(&gateway, GRPC).body, b"ok");
    assert_eq!(steps.heads().len(), 2);
}

#[test]
fn a_connection_that_ends_is_tried_again_when_the_policy_says_so() {
    const POST: &str = "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 2\r\n\r\nhi";
    for (fields, request, status, attempts) in [
        ("retries: {attempts: 2, retryOn: reset}", GET, 200, 2),
        ("retries: {attempts: 2, retryOn: gateway-error}", GET, 200, 2),
        ("retries: {attempts: 2, retryOn: 5xx}", POST, 200, 2),
        ("retries: {attempts: 2, retryOn: connect-failure}", GET, 503, 1),
        ("retries: {attempts: 2, retryOn: reset-before-request}", GET, 503, 1),
        ("retries: {attempts: 2, retryOn: \"503\"}", GET, 503, 1),
    ] {
        let steps = Steps::start(&[Act::Close, Act::Say(OK)]);
        let (gateway, log) = before(&steps, fields);
        assert_eq!(ask(&gateway, request).status, status, "{fields}");
        assert_eq!(steps.heads().len(), attempts, "{fields}");
        let flags = if status == 200 { "-" } else { "UC" };
        assert_eq!(logged(&gateway, &log).0, flags, "{fields}");
    }
}

#[test]
fn an_attempt_that_takes_too_long_is_tried_again() {
    let steps = Steps::start(&[Act::Hang, Act::Say(OK)]);
    let fields = "retries: {attempts: 1, retryOn: reset, perTryTimeout: 500ms}";
    let (gateway, _log) = before(&steps, fields);
    assert_eq!(ask(&gateway, GET).status, 200);
    let heads = steps.heads();
    assert_eq!(heads.len(), 2);
    assert!(heads[0].contains("x-envoy-expected-rq-timeout-ms: 500\r\n"), "{heads:?}");
}

#[test]
fn attempts_that_all_take_too_long_end_in_504() {
    let steps = Steps::start(&[Act::Hang]);
    let fields = "retries: {attempts: 1, retryOn: 5xx, perTryTimeout: 50ms}";
    let (gateway, log) = before(&steps, fields);
    let response = ask(&gateway, GET);
    assert_eq!((response.status, &response.body[..]), (504, &b"upstream request timeout"[..]));
    assert_eq!(steps.heads().len(), 2);
    assert_eq!(logged(&gateway, &log), ("URX,UT".into(), "upstream_per_try_timeout".into()));
}

#[test]
fn a_request_that_takes_too_long_ends_in_504_and_the_connection_lives() {
    let steps = Steps::start(&[Act::Hang, Act::Say(OK)]);
    let (gateway, log) = before(&steps, "timeout: 500ms");
    let mut raw = Raw::connect(gateway.address);
    raw.send(GET);
    let response = raw.response();
    assert_eq!((response.status, &response.body[..]), (504, &b"upstream request timeout"[..]));
    assert_eq!(logged(&gateway, &log), ("UT".into(), "response_timeout".into()));
    assert!(steps.heads()[0].contains("x-envoy-expected-rq-timeout-ms: 500\r\n"));
    // The time of the first request is not that of the second.
    std::thread::sleep(Duration::from_millis(600));
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
}

#[test]
fn the_time_covers_all_attempts() {
    let steps = Steps::start(&[Act::Say(BUSY), Act::Say(BUSY), Act::Hang]);
    let fields = "timeout: 1s\n    retries: {attempts: 9, retryOn: 5xx, backoff: 1ms}";
    let (gateway, log) = before(&steps, fields);
    assert_eq!(ask(&gateway, GET).status, 504);
    assert_eq!(steps.heads().len(), 3);
    assert_eq!(logged(&gateway, &log), ("UT".into(), "response_timeout".into()));
}

#[test]
fn a_response_that_has_begun_is_cut_when_the_time_is_up() {
    for part in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        "HTTP/1.1 200 OK\r\n\r\npart",
    ] {
        let acts: &'static [Act] = Box::leak(Box::new([Act::SayAndHang(part)]));
        let steps = Steps::start(acts);
        // An attempt that has brought its head may take longer than an attempt may.
        let fields = "timeout: 1s\n    retries: {attempts: 1, perTryTimeout: 500ms}";
        let (gateway, log) = before(&steps, fields);
        let mut raw = Raw::connect(gateway.address);
        raw.send(GET);
        let received = String::from_utf8(raw.read_to_end()).expect("text");
        assert!(received.starts_with("HTTP/1.1 200 OK\r\n"), "{received}");
        assert!(!received.ends_with("0\r\n\r\n"), "it must not look complete: {received}");
        assert_eq!(logged(&gateway, &log).0, "UT", "{part}");
        assert_eq!(steps.heads().len(), 1);
    }
}

#[test]
fn the_clock_starts_when_the_request_is_complete() {
    let steps = Steps::start(&[Act::Say(OK)]);
    let (gateway, _log) = before(&steps, "timeout: 500ms");
    let mut raw = Raw::connect(gateway.address);
    raw.send("POST / HTTP/1.1\r\nHost: a.com\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n");
    std::thread::sleep(Duration::from_millis(1000));
    raw.send("body");
    let head = raw.response_head();
    let status = if head.status == 100 { raw.response().status } else { head.status };
    assert_eq!(status, 200);
}

#[test]
fn a_grpc_client_may_ask_for_less_time() {
    let steps = Steps::start(&[Act::Hang]);
    let (gateway, log) = before(&steps, "timeout: 60s");
    let response = ask(
        &gateway,
        "POST /s/m HTTP/1.1\r\nHost: a.com\r\nContent-Type: application/grpc\r\n\
         grpc-timeout: 100m\r\nContent-Length: 2\r\n\r\nhi",
    );
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("4")));
    assert_eq!(logged(&gateway, &log).0, "UT");
}

#[test]
fn faults_are_injected() {
    const GRPC: &str = "POST /s/m HTTP/1.1\r\nHost: a.com\r\nContent-Type: application/grpc\r\n\
         Content-Length: 0\r\n\r\n";
    let abort = |what: &str| format!("fault: {{abort: {{{what}, percentage: {{value: 100}}}}}}");
    for (fields, request, status, grpc_status) in [
        (abort("httpStatus: 418"), GET, 418, None),
        (abort("httpStatus: 503"), GRPC, 200, Some("14")),
        (abort("grpcStatus: NOT_FOUND"), GRPC, 200, Some("5")),
        (abort("grpcStatus: NOT_FOUND"), GET, 404, None),
    ] {
        let steps = Steps::start(&[Act::Say(OK)]);
        let fields = format!("{fields}\n    headers: {{response: {{set: {{x-route: \"1\"}}}}}}");
        let (gateway, log) = before(&steps, &fields);
        let response = ask(&gateway, request);
        assert_eq!(response.status, status, "{fields}");
        assert_eq!(response.header("grpc-status"), grpc_status, "{fields}");
        assert_eq!(response.header("x-route"), Some("1"), "{fields}");
        if grpc_status.is_none() {
            assert_eq!(response.body, b"fault filter abort", "{fields}");
        }
        assert_eq!(steps.heads().len(), 0, "{fields}");
        assert_eq!(logged(&gateway, &log), ("FI".into(), "fault_filter_abort".into()));
    }
}

#[test]
fn faults_without_a_percentage_do_nothing() {
    let steps = Steps::start(&[Act::Say(OK)]);
    let (gateway, log) =
        before(&steps, "fault: {delay: {fixedDelay: 60s}, abort: {httpStatus: 500}}");
    assert_eq!(ask(&gateway, GET).status, 200);
    assert_eq!(logged(&gateway, &log).0, "-");
}

#[test]
fn a_delay_comes_before_an_abort_and_does_not_count_as_the_routes_time() {
    let all = "percentage: {value: 100}";
    let delay = format!("delay: {{fixedDelay: 1s, {all}}}");
    let steps = Steps::start(&[Act::Say(OK)]);
    let (gateway, log) = before(&steps, &format!("timeout: 500ms\n    fault: {{{delay}}}"));
    assert_eq!(ask(&gateway, GET).status, 200);
    assert_eq!(logged(&gateway, &log).0, "DI");
    let fields = format!("fault: {{{delay}, abort: {{httpStatus: 500, {all}}}}}");
    let (gateway, log) = before(&steps, &fields);
    assert_eq!(ask(&gateway, GET).status, 500);
    assert_eq!(logged(&gateway, &log).0, "DI,FI");
}

#[test]
fn a_share_of_requests_fails() {
    let steps = Steps::start(&[Act::Say(OK)]);
    let fields = "fault: {abort: {httpStatus: 500, percentage: {value: 50}}}";
    let (gateway, _log) = before(&steps, fields);
    let mut raw = Raw::connect(gateway.address);
    let failed = (0..200)
        .filter(|_| {
            raw.send(GET);
            raw.response().status == 500
        })
        .count();
    // Six standard deviations to either side.
    assert!((58..=142).contains(&failed), "{failed} of 200");
}
