//! The HTTP/1 path allocates nothing per request in steady state: a worker runs in this process
//! under an allocator that counts what its thread asks for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use ringress::compile::CompileOptions;
use ringress::control::reload::Reloader;
use ringress::ids::WorkerId;
use ringress::metrics::LabelTable;
use ringress::net::runtime::{Driver, DriverChoice};
use ringress::snapshot::Settings;
use ringress::trace::{Endpoint, Format, Propagation, SpanExporter, Tracer};
use ringress::upstream::SharedClusters;
use ringress::validate::ValidateOptions;
use ringress::worker::{self, Command, WorkerConfig, WorkerEvent};

/// Thread whose allocations count; 0: nobody's.
static COUNTED_THREAD: AtomicI64 = AtomicI64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Set while an allocation is looked at, which allocates itself.
static LOOKING: AtomicBool = AtomicBool::new(false);
/// Where the first ones came from.
static PLACES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    let counted = COUNTED_THREAD.load(Ordering::Relaxed);
    if counted == 0 {
        return;
    }
    // SAFETY: a system call without arguments.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // Only the counted thread gets further, so that looking is no race.
    if thread != counted || LOOKING.load(Ordering::Relaxed) {
        return;
    }
    if ALLOCATIONS.fetch_add(1, Ordering::Relaxed) < 3 {
        LOOKING.store(true, Ordering::Relaxed);
        let place = Backtrace::force_capture().to_string();
        if let Ok(mut places) = PLACES.lock() {
            places.push(place);
        }
        LOOKING.store(false, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Count what the worker allocates during `work`.
fn allocations(worker: i64, work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::Relaxed);
    COUNTED_THREAD.store(worker, Ordering::Relaxed);
    work();
    COUNTED_THREAD.store(0, Ordering::Relaxed);
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// The id of the thread of this name.
fn thread_named(name: &str) -> i64 {
    for entry in std::fs::read_dir("/proc/self/task").expect("threads") {
        let path = entry.expect("a thread").path();
        let own = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        if own.trim_end() == name {
            let id = path.file_name().and_then(|id| id.to_str()).and_then(|id| id.parse().ok());
            return id.expect("a number");
        }
    }
    panic!("no thread {name}");
}

/// Read a head and the body that its `content-length` announces; `None` at the end.
fn read_message(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    buffer.clear();
    let mut bytes = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(buffer).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            let length = text
                .split_once("content-length:")
                .and_then(|(_, rest)| rest.lines().next()?.trim().parse::<usize>().ok())
                .unwrap_or(0);
            if buffer.len() >= end + 4 + length {
                return Some(());
            }
        }
        match stream.read(&mut bytes) {
            Ok(count) if count > 0 => buffer.extend_from_slice(&bytes[..count]),
            _ => return None,
        }
    }
}

/// An upstream that keeps its connections.
fn upstream() -> SocketAddr {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        for mut stream in socket.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut buffer = Vec::new();
                while read_message(&mut stream, &mut buffer).is_some() {
                    let answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
                                  Content-Length: 5\r\n\r\nhello";
                    if stream.write_all(answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A route with everything that is done to a request.
const POLICY: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: policy}
spec:
  hosts: [hello.com]
  gateways: [hello-gateway]
  http:
  - match: [{uri: {prefix: /regex}}]
    rewrite: {uriRegexRewrite: {match: '^/regex/([^/]+)(/.*)$', rewrite: '\\2/of/\\1'}}
    route: [{destination: {host: hello.default.svc.cluster.local, port: {number: 80}}}]
  - match: [{uri: {prefix: /policy}, headers: {x-user: {regex: 'j.*n'}}}]
    rewrite: {uri: /rewritten, authority: inner.example}
    timeout: 15s
    retries: {attempts: 3, retryOn: 5xx, perTryTimeout: 5s}
    corsPolicy: {allowOrigins: [{prefix: 'https://'}], exposeHeaders: [x-one]}
    headers:
      request: {set: {x-peer: '%DOWNSTREAM_REMOTE_ADDRESS%'}, remove: [x-gone]}
      response: {set: {x-asked: '%REQ(:path)%'}, add: {x-code: '%RESPONSE_CODE%'}}
    route: [{destination: {host: hello.default.svc.cluster.local, port: {number: 80}, subset: all}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: limits, namespace: default}
spec:
  host: hello
  trafficPolicy:
    connectionPool:
      tcp: {maxConnections: 10}
      http: {http1MaxPendingRequests: 10, http2MaxRequests: 10}
    outlierDetection: {consecutive5xxErrors: 3}
    retryBudget: {percent: 20}
  subsets: [{name: all}]
";

fn manifests(upstream: SocketAddr) -> String {
    format!(
        "{}---\n{POLICY}---\napiVersion: v1\nkind: Service\nmetadata: {{name: hello, namespace: default}}\n\
         spec: {{ports: [{{name: http, port: 80}}]}}\n---\napiVersion: discovery.k8s.io/v1\n\
         kind: EndpointSlice\nmetadata:\n  name: hello-1\n  namespace: default\n  \
         labels: {{kubernetes.io/service-name: hello}}\naddressType: IPv4\n\
         ports: [{{name: http, port: {}}}]\nendpoints: [{{addresses: [127.0.0.1]}}]\n",
        include_str!("../config/hello/gateway.yaml"),
        upstream.port()
    )
}

/// Start one worker with these manifests; where it listens.
fn start_worker(
    id: WorkerId,
    driver: Driver,
    directory: &std::path::Path,
    tracer: Option<Tracer>,
) -> SocketAddr {
    let namespace = "istio-system".to_owned();
    let cluster_domain = "cluster.local".to_owned();
    let labels: BTreeMap<String, String> =
        [("istio".to_owned(), "ingressgateway".to_owned())].into();
    let socket = ringress::net::listener::bind((Ipv4Addr::LOCALHOST, 0).into()).expect("free");
    let address = socket.local_addr().expect("bound");
    // None of the requests without a decision of their client is sampled.
    let mut settings = Settings::default();
    settings.telemetry.tracing.sampling_ppm = 0;
    let reloader = Reloader::new(
        vec![directory.to_owned()],
        ValidateOptions {
            labels: labels.clone(),
            namespace: namespace.clone(),
            cluster_domain: cluster_domain.clone(),
        },
        CompileOptions {
            labels,
            namespace,
            locality: None,
            cluster_domain,
            port_map: [(80, address.port())].into(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            settings,
        },
        LabelTable::shared(),
    );
    let reading = reloader.read();
    assert_eq!(reading.errors(), 0, "{:?}", reading.diagnostics);
    let (events, reports) = mpsc::channel();
    let config = WorkerConfig {
        id,
        core: None,
        driver,
        connections_max: 100,
        access_log: None,
        tracer,
        events,
        thread: std::sync::Arc::default(),
    };
    let (handle, _) = worker::spawn(config).expect("a thread");
    let snapshot = Box::new(reading.snapshot);
    let shared = SharedClusters::new(&snapshot, &SharedClusters::default());
    assert!(handle.send(Command::Publish { snapshot, shared, sockets: vec![(address, socket)] }));
    match reports.recv_timeout(Duration::from_secs(20)) {
        Ok(WorkerEvent::Published(..)) => {}
        other => panic!("it does not serve: {other:?}"),
    }
    // The worker ends when nobody can order anything any more.
    std::mem::forget(handle);
    address
}

/// Requests with what they are called and how often they are sent.
type Cases<'c> = [(&'c str, &'c str, usize)];

/// Serve `cases` by a worker of this number in steady state: none of them may allocate.
fn none_allocates(id: u32, tracer: Option<Tracer>, cases: &Cases<'_>) {
    let directory = tempfile::TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("all.yaml"), manifests(upstream())).expect("written");
    let (driver, _) = Driver::choose(DriverChoice::Auto).expect("one of them");
    let address = start_worker(WorkerId(id), driver, directory.path(), tracer);
    let worker = thread_named(&format!("worker-{id}"));
    let mut client = TcpStream::connect(address).expect("it listens");
    client.set_nodelay(true).expect("settable");
    let mut buffer = Vec::new();
    let mut ask = |request: &str, times: usize| {
        for _ in 0..times {
            client.write_all(request.as_bytes()).expect("taken");
            read_message(&mut client, &mut buffer).expect("answered");
            assert!(buffer.starts_with(b"HTTP/1.1 200 OK\r\n") && buffer.ends_with(b"hello"));
        }
    };
    // The counter counts: the first requests fill the pools.
    let first = cases.first().expect("a case").1;
    assert_ne!(allocations(worker, || ask(first, 1)), 0, "the first request allocates");
    PLACES.lock().expect("not poisoned").clear();
    for (_, request, _) in cases {
        ask(request, 250);
    }
    for (what, request, times) in cases {
        let count = allocations(worker, || {
            ask(request, *times);
            // What the worker does by the clock, once a second at most, is in it.
            std::thread::sleep(Duration::from_millis(1200));
            ask(request, 1);
        });
        let places = PLACES.lock().expect("not poisoned").join("\n");
        assert_eq!(count, 0, "{count} allocations in {times} {what} requests:\n{places}");
    }
}

/// What contexts are read and written with, before a collector that is not there.
fn tracer() -> Tracer {
    let endpoint = Endpoint::parse("http://127.0.0.1:9").expect("an address");
    let exporter = SpanExporter::start(endpoint, "test".to_owned(), Arc::default());
    let sink = exporter.expect("a thread").sink();
    Tracer { propagation: Propagation::new(&[Format::W3c, Format::B3]), sink }
}

/// One test, for what it counts is of the process.
#[test]
fn a_request_allocates_nothing() {
    let get = "GET /some/path?with=query HTTP/1.1\r\nHost: hello.com\r\nUser-Agent: test\r\n\
               Accept: */*\r\nCookie: a=b\r\n\r\n";
    let post = format!(
        "POST /some/path HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 100\r\n\r\n{}",
        "x".repeat(100)
    );
    let policy = "GET /policy/x?y HTTP/1.1\r\nHost: hello.com\r\nX-User: jason\r\nX-Gone: 1\r\n\
                  Origin: https://a.com\r\n\r\n";
    let regex = "GET /regex/a/b?c HTTP/1.1\r\nHost: hello.com\r\n\r\n";
    none_allocates(
        0,
        None,
        &[("GET", get, 2000), ("POST", &post, 500), ("policy", policy, 500), ("regex", regex, 500)],
    );

    let traced = "GET /a HTTP/1.1\r\nHost: hello.com\r\ntracestate: a=b\r\n\
                  traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n\r\n";
    let by_b3 = "GET /a HTTP/1.1\r\nHost: hello.com\r\nx-b3-sampled: 0\r\n\
                 x-b3-traceid: b7ad6b7169203331\r\nx-b3-spanid: b7ad6b7169203331\r\n\r\n";
    none_allocates(
        1,
        Some(tracer()),
        &[
            ("untraced GET", get, 500),
            ("traced GET", traced, 500),
            ("GET traced by B3", by_b3, 500),
        ],
    );
}
