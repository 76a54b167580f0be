//! Backend, floor and load generator as real processes on loopback: everything that was asked is
//! answered and counted once. No figure of speed is looked at.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

/// The exit code of a floor that finds no usable io_uring, as in a sandbox that forbids it.
const NO_RING: i32 = 3;

/// A part of the benchmark; killed when dropped.
struct Part {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Part {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_bench-proxy"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("our own program starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, output }
    }

    /// The next line, empty when the output has ended.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("readable output");
        line.trim_end().to_owned()
    }

    /// The port that the part listens on, or how it ended.
    fn port(&mut self) -> Result<String, ExitStatus> {
        match self.line().strip_prefix("listening ") {
            Some(port) => Ok(port.to_owned()),
            None => Err(self.child.wait().expect("it ended")),
        }
    }

    /// Ends the standard input, upon which backend and idle load finish.
    fn end_input(&mut self) {
        drop(self.child.stdin.take());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value(line: &str, key: &str) -> u64 {
    line.split(' ')
        .find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        .and_then(|value| value.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {line:?}"))
}

/// Starts backend and floor, or only the backend where there is no ring; the port to ask.
fn start_for(protocol: &str) -> (Part, Option<Part>, String) {
    let mut backend = Part::start(&["backend", "--protocol", protocol]);
    let backend_port = backend.port().expect("the backend listens");
    let mut floor = Part::start(&["floor", "--upstream", &backend_port]);
    match floor.port() {
        Ok(port) => (backend, Some(floor), port),
        Err(status) => {
            assert_eq!(status.code(), Some(NO_RING), "the floor must say why it cannot run");
            eprintln!("no io_uring here: the floor is left out");
            (backend, None, backend_port)
        }
    }
}

fn start() -> (Part, Option<Part>, String) {
    start_for("http1")
}

/// A run against the backend of a protocol; what the generator says, and how many were served.
fn load(protocol: &str, extra: &[&str]) -> (String, u64) {
    let (mut backend, _floor, port) = start_for(protocol);
    let mut args = vec!["load", "--protocol", protocol, "--port", &port];
    args.extend(["--seconds", "0.2", "--warmup", "0"]);
    args.extend(extra);
    let line = Part::start(&args).line();
    backend.end_input();
    (line, value(&backend.line(), "served"))
}

fn run_for(protocol: &str, extra: &[&str]) {
    let (line, served) = load(protocol, extra);
    assert!(served > 0, "nothing was served: {line}");
    assert_eq!(value(&line, "total"), served, "{line}");
    assert_eq!(value(&line, "errors"), 0, "{line}");
    assert_eq!(value(&line, "non_2xx"), 0, "{line}");
    assert!(value(&line, "requests") <= served, "{line}");
}

fn run(extra: &[&str]) {
    let extra: Vec<&str> =
        ["--connections", "16"].into_iter().chain(extra.iter().copied()).collect();
    run_for("http1", &extra);
}

#[test]
fn every_request_is_answered_and_counted_once() {
    run(&[]);
}

#[test]
fn large_bodies_arrive_whole() {
    run(&["--path", "/1m"]);
}

#[test]
fn a_connection_per_request() {
    run(&["--close"]);
}

#[test]
fn many_hosts_in_turn() {
    run(&["--hosts", "100"]);
}

#[test]
fn streams_of_http2_are_answered_and_counted_once() {
    run_for("http2", &["--connections", "3", "--streams", "7"]);
}

#[test]
fn grpc_calls_are_answered_and_counted_once() {
    run_for("grpc", &["--connections", "3", "--streams", "7"]);
}

#[test]
fn what_is_not_2xx_is_counted_apart() {
    for protocol in ["http1", "http2"] {
        let (line, served) = load(protocol, &["--path", "/none", "--connections", "4"]);
        assert!(served > 0, "{protocol}: nothing was served: {line}");
        assert_eq!(value(&line, "total"), served, "{protocol}: {line}");
        assert_eq!(value(&line, "non_2xx"), served, "{protocol}: {line}");
    }
}

#[test]
fn an_upstream_of_another_protocol_is_an_error_and_the_run_still_ends() {
    for (protocol, other) in [("http1", "grpc"), ("grpc", "http1")] {
        let mut backend = Part::start(&["backend", "--protocol", protocol]);
        let port = backend.port().expect("the backend listens");
        let mut args = vec!["load", "--protocol", other, "--port", &port, "--connections", "2"];
        args.extend(["--seconds", "0.2", "--warmup", "0"]);
        let mut load = Part::start(&args);
        let line = load.line();
        let status = load.child.wait().expect("it ended");
        assert!(!status.success() || value(&line, "errors") > 0, "{protocol}: {line}");
    }
}

#[test]
fn idle_connections_are_held() {
    let (_backend, _floor, port) = start();
    let mut load = Part::start(&["load", "--port", &port, "--idle", "100"]);
    assert_eq!(load.line(), "ready 100");
    load.end_input();
    assert_eq!(load.line(), "held=100");
}

#[test]
fn a_backend_that_is_gone_is_an_error_and_the_run_still_ends() {
    let port = {
        let mut backend = Part::start(&["backend"]);
        backend.port().expect("the backend listens")
    };
    let args = ["load", "--port", &port, "--seconds", "0.2", "--warmup", "0"];
    let mut load = Part::start(&args);
    let line = load.line();
    let status = load.child.wait().expect("it ended");
    assert!(!status.success() || value(&line, "errors") > 0, "{line}");
}
