//! What stands in the access log, and which requests: forms, filters, sampling, outputs that hang.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::gateway::{ringress, wait_until};
use crate::support::http2::{call, connect, request};
use crate::support::manifests::{any_host, hello_service};
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream, block_on};

/// Answers of every status that a path asks for, and an upstream behind all others.
fn manifests(upstream: &Upstream) -> String {
    let http = "  - match: [{uri: {prefix: /missing}}]\n    directResponse: {status: 404}\n  \
                - match: [{uri: {prefix: /broken}}]\n    directResponse: {status: 500}\n  \
                - name: main\n    headers: {response: {set: {x-team: shop}}}\n    \
                route: [{destination: {host: hello}}]\n";
    let service = hello_service(&[upstream.address]);
    format!("{}---\n{service}", any_host(http))
}

fn start(arguments: &[&str]) -> (Gateway, Upstream) {
    let upstream = Upstream::start("hello");
    let text = manifests(&upstream);
    (Gateway::start_with(&[("all.yaml", &text)], arguments), upstream)
}

fn get(raw: &mut Raw, path: &str) -> u16 {
    raw.send(format!(
        "GET {path} HTTP/1.1\r\nHost: hello.com\r\nX-User: me\r\nUser-Agent: a b\r\n\r\n"
    ));
    raw.response().status
}

/// The lines of `file` once `last` is among them.
fn lines_until(file: &Path, last: &str) -> Vec<String> {
    let mut lines = Vec::new();
    wait_until(last, || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        lines = text.lines().map(str::to_owned).collect();
        text.ends_with('\n') && lines.iter().any(|line| line.contains(last))
    });
    lines
}

#[test]
fn a_text_of_the_users_own_shows_request_and_response() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().display().to_string();
    let format = "%REQ(:METHOD)% %REQ(:PATH):4% %RESPONSE_CODE% [%REQ(X-USER)%] [%REQ(X-NONE?USER-AGENT)%] \
                  [%RESP(X-TEAM)%] %RESP(CONTENT-LENGTH)% %ROUTE_NAME% %UPSTREAM_HOST% \
                  %UPSTREAM_REQUEST_ATTEMPT_COUNT% %DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% 100%%";
    let (gateway, upstream) =
        start(&["--access-log", &path, "--access-log-format-string", format, "--workers", "1"]);
    let mut raw = Raw::connect(gateway.address);
    assert_eq!(get(&mut raw, "/abcdef"), 200);
    assert_eq!(get(&mut raw, "/missing"), 404);
    let lines = lines_until(log.path(), " 404 ");
    let expected = [
        format!("GET /abc 200 [me] [a b] [shop] 5 main {} 1 127.0.0.1 100%", upstream.address),
        "GET /mis 404 [me] [a b] [-] 0 - - 0 127.0.0.1 100%".to_owned(),
    ];
    assert_eq!(lines, expected);
    // Over HTTP/2 the same fields are there.
    block_on(async {
        let sender = connect(gateway.address).await;
        let asked = request("GET", "/h2").header("x-user", "you");
        assert_eq!(call(&sender, asked, "", None).await.expect("an answer").status, 200);
    });
    let lines = lines_until(log.path(), "[you]");
    assert!(lines[2].starts_with("GET /h2 200 [you] [-] [shop] 5 main "), "{lines:?}");
}

#[test]
fn a_json_form_has_types_and_a_file_may_hold_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let (log, form) = (directory.path().join("log"), directory.path().join("form.json"));
    let text = r#"{"code": "%RESPONSE_CODE%", "user": "%REQ(X-USER)%", "none": "%RESP(X-NONE)%",
        "text": "%PROTOCOL% \"%REQ(USER-AGENT)%\"", "where": {"route": "%ROUTE_NAME%"}, "v": 1}"#;
    std::fs::write(&form, text).expect("written");
    let (log_path, form) = (log.display().to_string(), form.display().to_string());
    let (gateway, _upstream) = start(&[
        "--access-log",
        &log_path,
        "--access-log-format",
        "json",
        "--access-log-format-file",
        &form,
    ]);
    let mut raw = Raw::connect(gateway.address);
    assert_eq!(get(&mut raw, "/"), 200);
    let line = gateway.wait_for_log(&log, |_| true);
    let expected = json!({
        "code": 200,
        "user": "me",
        "none": Value::Null,
        "text": "HTTP/1.1 \"a b\"",
        "where": {"route": "main"},
        "v": 1,
    });
    assert_eq!(line, expected);
}

#[test]
fn a_filter_and_a_share_choose_the_lines() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().display().to_string();
    let filter = "response.code >= 400 && !request.url_path.startsWith('/missing') || \
                  request.headers['x-user'] == 'me' && request.path == '/last'";
    let (gateway, _upstream) = start(&[
        "--access-log",
        &path,
        "--access-log-format-string",
        "%REQ(:PATH)%",
        "--access-log-filter",
        filter,
        "--workers",
        "1",
    ]);
    let mut raw = Raw::connect(gateway.address);
    for path in ["/", "/missing", "/broken", "/other", "/last"] {
        get(&mut raw, path);
    }
    assert_eq!(lines_until(log.path(), "/last"), ["/broken", "/last"]);

    let sampled = tempfile::NamedTempFile::new().expect("a file");
    let path = sampled.path().display().to_string();
    let (mut gateway, _upstream) =
        start(&["--access-log", &path, "--access-log-sample", "10%", "--workers", "1"]);
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..1000 {
        assert_eq!(get(&mut raw, "/missing"), 404);
    }
    drop(raw);
    gateway.signal(libc::SIGTERM);
    assert!(gateway.wait().success());
    let count = std::fs::read_to_string(sampled.path()).expect("readable").lines().count();
    // 100 expected; the bounds are more than six deviations away.
    assert!((40..=170).contains(&count), "{count} of 1000 lines");
}

#[test]
fn a_form_or_filter_that_is_wrong_ends_the_start_with_its_place() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().display().to_string();
    for (option, value, part) in [
        ("--access-log-format-string", "ok %NOPE%", "column 4: `%NOPE%` is no operator"),
        ("--access-log-format-string", "50% off", "column 3: a `%` without its partner"),
        (
            "--access-log-filter",
            "response.code > '1'",
            "column 15: a number is compared with a text",
        ),
        ("--access-log-filter", "response.code", "expected true or false"),
        ("--access-log-sample", "2", "from 0 to 1"),
        ("--access-log-format-file", "/nonexistent/form", "cannot read the format"),
    ] {
        let output = ringress(&["run", "--config", &config, "--no-admin", option, value]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(part), "{option} {value}: {text}");
    }
}

#[test]
fn a_pipe_that_nobody_reads_stops_no_request() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let path = pipe.display().to_string();
    let long = format!("%REQ(:PATH)% {}", "x".repeat(16_000));
    let (gateway, _upstream) =
        start(&["--access-log", &path, "--access-log-format-string", &long, "--workers", "1"]);
    let mut raw = Raw::connect(gateway.address);
    let dropped = "ringress_access_log_lines_dropped_total";
    let mut asked = 0;
    while gateway.metrics().sum(dropped, &[]) == 0.0 {
        assert!(asked < 100_000, "lines are dropped in the end");
        for _ in 0..200 {
            assert_eq!(get(&mut raw, "/missing"), 404);
        }
        asked += 200;
    }
    assert_eq!(get(&mut raw, "/"), 200);
}
