//! `/tap` and `ringress tap`: requests as they pass.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::gateway::{ringress, wait_until};
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream};

/// Only keeps a hang from blocking the suite.
const PATIENCE: Duration = Duration::from_secs(30);

/// A reader of `/tap`.
struct Tap(BufReader<TcpStream>);

impl Tap {
    /// Open it and wait until the workers have it.
    fn open(admin: SocketAddr, query: &str) -> Tap {
        let mut stream = TcpStream::connect(admin).expect("the admin port");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        // HTTP/1.0: what comes is not in chunks.
        stream.write_all(format!("GET /tap?{query} HTTP/1.0\r\n\r\n").as_bytes()).expect("sent");
        let mut tap = Tap(BufReader::new(stream));
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(tap.0.read_line(&mut head).expect("a head") > 0, "{head}");
        }
        assert!(
            head.starts_with("HTTP/1.0 200") && head.contains("application/x-ndjson"),
            "{head}"
        );
        let begun = tap.next().expect("a line");
        assert_eq!((&begun["tap"], &begun["workers"]), (&"begun".into(), &2.into()), "{begun}");
        tap
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line).expect("a line in time") {
            0 => None,
            _ => Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"))),
        }
    }

    /// The next request.
    fn request(&mut self) -> Value {
        loop {
            let line = self.next().expect("a request");
            if line.get("tap").is_none() {
                return line;
            }
        }
    }

    /// The last line.
    fn ending(&mut self) -> Value {
        loop {
            let line = self.next().expect("an ending");
            if line["tap"] == "ended" {
                assert_eq!(self.next(), None, "nothing comes after it");
                return line;
            }
        }
    }
}

fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start("hello");
    (Gateway::before(&[upstream.address], &[]), upstream)
}

fn ask(gateway: &Gateway, path: &str, fields: &str) -> SocketAddr {
    let mut raw = Raw::connect(gateway.address);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n{fields}\r\n"));
    raw.response();
    raw.local_address()
}

#[test]
fn a_request_is_shown_with_everything() {
    let (gateway, upstream) = start();
    let mut tap = Tap::open(gateway.admin, "header=x-user&header=Authorization");
    ask(&gateway, "/without", "");
    let client = ask(&gateway, "/a?b=c", "X-User: jason\r\nAuthorization: Bearer abc\r\n");
    let shown = tap.request();
    assert_eq!(shown["path"], "/a?b=c", "without the fields it is not shown: {shown}");
    for (key, value) in [
        ("host", "hello.com".into()),
        ("method", "GET".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 200.into()),
        ("flags", "-".into()),
        ("details", "via_upstream".into()),
        ("attempts", 1.into()),
        ("cluster", "outbound|80||hello.default.svc.cluster.local".into()),
        ("endpoint", upstream.address.to_string().into()),
        ("bytes_received", 0.into()),
        ("bytes_sent", 5.into()),
        ("client", client.to_string().into()),
        ("request_id", upstream.last().header("x-request-id").expect("an id").into()),
    ] {
        let value: Value = value;
        assert_eq!(shown[key], value, "{key}: {shown}");
    }
    assert!(shown["virtual_service"].as_str().is_some_and(|name| name.starts_with("default/")));
    assert!(shown["duration_us"].as_u64() >= shown["upstream_us"].as_u64(), "{shown}");
    assert!(shown["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{shown}");
    let headers = serde_json::json!([
        {"name": "X-User", "value": "jason"}, {"name": "Authorization", "value": "…"},
    ]);
    assert_eq!(shown["headers"], headers);
    assert!(!shown.to_string().contains("abc"), "{shown}");
}

#[test]
fn filters_choose_and_the_limit_ends() {
    let (gateway, _upstream) = start();
    let mut tap = Tap::open(gateway.admin, "status=4xx&path_prefix=/x&limit=2");
    let mut raw = Raw::connect(gateway.address);
    for (host, path) in
        [("hello.com", "/x1"), ("nobody.com", "/y"), ("nobody.com", "/x2"), ("nobody.com", "/x3")]
    {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        raw.response();
    }
    for path in ["/x2", "/x3"] {
        let shown = tap.request();
        assert_eq!((&shown["path"], &shown["status"]), (&path.into(), &404.into()), "{shown}");
        assert_eq!(shown["flags"], "NR");
    }
    let ending = tap.ending();
    assert_eq!((&ending["why"], &ending["shown"]), (&"limit".into(), &2.into()), "{ending}");
    assert_eq!(ending["dropped"], 0);
}

#[test]
fn what_comes_too_fast_is_counted_not_waited_for() {
    let (gateway, _upstream) = start();
    let mut tap = Tap::open(gateway.admin, "rate=1&duration=5s");
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..50 {
        raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        assert_eq!(raw.response().status, 200);
    }
    let ending = tap.ending();
    assert_eq!((&ending["why"], &ending["matched"]), (&"duration".into(), &50.into()), "{ending}");
    let count = |key: &str| ending[key].as_u64().expect("a number");
    assert!(count("dropped_over_rate") > 0, "{ending}");
    assert_eq!(count("shown") + count("dropped"), 50, "{ending}");
}

#[test]
fn requests_in_http2_are_shown_too() {
    use crate::support::block_on;
    use crate::support::http2::{call, connect, request};

    let (gateway, _upstream) = start();
    let mut tap = Tap::open(gateway.admin, "header=x-user:jason");
    block_on(async {
        let client = connect(gateway.address).await;
        let request = request("GET", "/two").header("x-user", "jason");
        assert_eq!(call(&client, request, "", None).await.expect("an answer").status, 200);
    });
    let shown = tap.request();
    for (key, value) in [("protocol", "HTTP/2"), ("path", "/two"), ("host", "hello.com")] {
        assert_eq!(shown[key], value, "{shown}");
    }
    assert_eq!(shown["headers"], serde_json::json!([{"name": "x-user", "value": "jason"}]));
}

#[test]
fn a_sample_is_a_share() {
    let (gateway, _upstream) = start();
    let mut tap = Tap::open(gateway.admin, "sample=0&duration=3s");
    for _ in 0..5 {
        ask(&gateway, "/", "");
    }
    let ending = tap.ending();
    assert_eq!((&ending["unsampled"], &ending["shown"]), (&5.into(), &0.into()), "{ending}");
    assert_eq!(ending["dropped"], 0, "{ending}");
}

/// Open taps until there is no room; how many there was room for.
fn room(gateway: &Gateway) -> usize {
    let mut open = Vec::new();
    loop {
        let mut stream = TcpStream::connect(gateway.admin).expect("the admin port");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        stream.write_all(b"GET /tap HTTP/1.0\r\n\r\n").expect("sent");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("a status");
        match &status {
            b"HTTP/1.0 200" => open.push(stream),
            b"HTTP/1.0 429" => return open.len(),
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
}

#[test]
fn taps_are_few_and_end_with_their_clients() {
    let (gateway, _upstream) = start();
    assert_eq!(room(&gateway), 4);
    // All of them have gone.
    wait_until("there is room again", || room(&gateway) == 4);
}

#[test]
fn a_reader_that_stalls_holds_nobody_up() {
    let (gateway, _upstream) = start();
    // It reads nothing more from here on; long paths fill what lies between soon.
    let mut tap = Tap::open(gateway.admin, "rate=10000&duration=10s");
    let path = format!("/{}", "x".repeat(12_000));
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..3000 {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        assert_eq!(raw.response().status, 200);
    }
    // The workers are rid of it in time, although nobody reads: there is room for all four.
    wait_until("the tap is removed", || room(&gateway) == 4);
    let ending = tap.ending();
    let count = |key: &str| ending[key].as_u64().expect("a number");
    assert!(count("dropped_slow_reader") > 0, "{ending}");
    assert_eq!(count("shown") + count("dropped"), count("matched"), "{ending}");
}

/// The command, with what it prints.
struct Cli {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    errors: BufReader<std::process::ChildStderr>,
}

impl Cli {
    fn start(gateway: &Gateway, arguments: &[&str]) -> Cli {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ringress"))
            .args(["tap", "--admin", &gateway.admin.to_string()])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        let mut errors = BufReader::new(child.stderr.take().expect("piped"));
        let mut said = String::new();
        errors.read_line(&mut said).expect("text");
        assert_eq!(said, "tapping; end with Ctrl-C\n");
        Cli { child, lines, errors }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line
    }

    /// Its exit code, and the last line of standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        self.errors.read_to_string(&mut said).expect("text");
        let last = said.lines().last().unwrap_or_default().to_owned();
        (self.child.wait().expect("our child").code(), last)
    }
}

#[test]
fn the_command_prints_requests_and_ends_at_its_limit() {
    let (gateway, _upstream) = start();
    let mut tap = Cli::start(&gateway, &["--limit", "1", "--host", "hello.com", "-H", "x-user"]);
    ask(&gateway, "/a", "X-User: jason\r\n");
    let line = tap.line();
    for part in [" 200 ", " GET hello.com /a ", " outbound|80||hello.default.", "X-User=jason"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let (code, last) = tap.end();
    assert_eq!(code, Some(0));
    assert!(last.starts_with("1 matched, 1 shown, 0 dropped"), "{last}");
}

#[test]
fn the_command_ends_with_counts_when_it_is_interrupted() {
    let (gateway, _upstream) = start();
    let mut tap = Cli::start(&gateway, &["--output", "json"]);
    ask(&gateway, "/a", "");
    let shown: Value = serde_json::from_str(&tap.line()).expect("JSON");
    assert_eq!(shown["path"], "/a");
    // SAFETY: a plain system call on our own child.
    unsafe { libc::kill(tap.child.id() as libc::pid_t, libc::SIGINT) };
    let (code, last) = tap.end();
    assert_eq!(code, Some(0));
    assert!(last.contains(" dropped ") && last.ends_with("ended here"), "{last}");
}

#[test]
fn the_command_says_why_there_is_nothing() {
    let (gateway, _upstream) = start();
    let admin = gateway.admin.to_string();
    for (arguments, told) in [
        (["--admin", &admin, "--status", "9xx"], "status=9xx"),
        (["--admin", &gateway.address.to_string(), "--status", "5xx"], "no admin port"),
        (["--admin", "127.0.0.1:1", "--status", "5xx"], "cannot tap the gateway at 127.0.0.1:1"),
    ] {
        let output = ringress(&[&["tap"][..], &arguments[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(told), "{told}: {said}");
    }
}
