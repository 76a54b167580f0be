//! What a manifest does to a request: every file of `tests/conformance` is a set of manifests and
//! requests with what must come of them. A new case needs no Rust.

use std::collections::BTreeMap;
use std::path::Path;

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Deserialize;

use crate::support::gateway::free_port;
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream, block_on, manifests};

mod coverage;
mod explain;

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Suite {
    /// Each becomes an upstream, and a Service `name` in `default` with port 80 and that endpoint.
    #[serde(default)]
    services: Vec<String>,
    /// Each becomes an upstream only; `@name@` in the manifests is its port on 127.0.0.1.
    #[serde(default)]
    upstreams: Vec<String>,
    /// Gateway ports besides 80 that the requests use.
    #[serde(default)]
    ports: Vec<u16>,
    /// Further arguments of `ringress run`.
    #[serde(default)]
    arguments: Vec<String>,
    /// The manifests, multi-document YAML.
    manifests: String,
    /// The requests.
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    request: Asked,
    expect: Expected,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default = "get")]
    method: String,
    host: String,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The Gateway's port number.
    #[serde(default = "port_80")]
    port: u16,
    /// Send it as these bytes stand, without a client's opinion on what a target may hold.
    #[serde(default)]
    raw: bool,
    /// Send it this often over one connection.
    #[serde(default = "once")]
    repeat: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    status: u16,
    /// The upstream that answers.
    upstream: Option<String>,
    /// The target that the upstream sees.
    target: Option<String>,
    /// Fields that the upstream sees.
    #[serde(default)]
    seen: BTreeMap<String, String>,
    /// Fields that the upstream sees several times, with all values in order.
    #[serde(default)]
    seen_all: BTreeMap<String, Vec<String>>,
    /// Fields that the upstream must not see.
    #[serde(default)]
    unseen: Vec<String>,
    body: Option<String>,
    /// Fields of the answer.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Fields that come several times, with all values in order.
    #[serde(default)]
    headers_all: BTreeMap<String, Vec<String>>,
    /// Fields that the answer must not have.
    #[serde(default)]
    absent: Vec<String>,
    /// `%RESPONSE_FLAGS%` of the access log.
    flags: Option<String>,
    /// `%RESPONSE_CODE_DETAILS%`.
    details: Option<String>,
    /// `%ROUTE_NAME%`.
    route: Option<String>,
    /// `%UPSTREAM_CLUSTER_RAW%`.
    cluster: Option<String>,
    /// The status that `explain` tells where it is another: of a gRPC request it tells the HTTP
    /// status, which the gateway turns into a `grpc-status`.
    explained_status: Option<u16>,
    /// Of a repeated request: the upstreams of which one, whichever it is, gives all answers.
    #[serde(default)]
    sticky: Vec<String>,
    /// Of a repeated request: how many of the answers came from each upstream, least and most.
    #[serde(default)]
    shares: BTreeMap<String, (u32, u32)>,
}

impl Expected {
    /// May the answers come from several upstreams?
    fn is_of_several(&self) -> bool {
        !self.shares.is_empty() || !self.sticky.is_empty()
    }
}

fn get() -> String {
    "GET".to_owned()
}

fn root() -> String {
    "/".to_owned()
}

fn port_80() -> u16 {
    80
}

fn once() -> u32 {
    1
}

struct Answer {
    status: u16,
    upstream: Option<String>,
    headers: Vec<(String, String)>,
    body: String,
}

fn run(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(file);
    let text = std::fs::read_to_string(&path).expect("the file is there");
    let suite: Suite = match serde_saphyr::from_str(&text) {
        Ok(suite) => suite,
        Err(error) => panic!("{file}: {error}"),
    };
    let upstreams: BTreeMap<&str, Upstream> = suite
        .services
        .iter()
        .chain(&suite.upstreams)
        .map(|name| (name.as_str(), Upstream::start(name)))
        .collect();
    let mut config = suite.manifests.clone();
    for (name, upstream) in &upstreams {
        config = config.replace(&format!("@{name}@"), &upstream.address.port().to_string());
    }
    let mut files = vec![("manifests.yaml".to_owned(), config)];
    for name in &suite.services {
        let endpoints = [upstreams[name.as_str()].address];
        files.push((format!("service-{name}.yaml"), manifests::service(name, &endpoints)));
    }
    let files: Vec<(&str, &str)> =
        files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut arguments = suite.arguments.clone();
    arguments.push(format!("--access-log={}", log.path().display()));
    arguments.push("--access-log-format=json".to_owned());
    let mut ports = BTreeMap::new();
    for number in &suite.ports {
        let port = free_port();
        arguments.push(format!("--port-map={number}={port}"));
        ports.insert(*number, port);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let gateway = Gateway::start_with(&files, &arguments);
    ports.insert(80, gateway.address.port());

    let mut failures = Vec::new();
    for (index, case) in suite.cases.iter().enumerate() {
        let before = upstreams.values().map(|upstream| upstream.seen().len()).collect::<Vec<_>>();
        let answers = block_on(ask(&case.request, ports[&case.request.port], index));
        let problem = judge(case, &answers, &upstreams)
            .or_else(|| unexpected(case, &upstreams, &before))
            .or_else(|| logged(case, &gateway, log.path(), index));
        if let Some(problem) = problem {
            failures.push(format!("{file}: {}: {problem}", case.name));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(!suite.cases.is_empty(), "{file} has no case");
}

/// The mark by which the access log line of a case is found.
fn mark(index: usize) -> String {
    format!("case-{index}")
}

async fn ask(request: &Asked, port: u16, index: usize) -> Vec<Answer> {
    if request.raw {
        return vec![ask_raw(request, port, index)];
    }
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("it listens");
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..request.repeat {
        let mut built = Request::builder()
            .method(request.method.as_str())
            .uri(request.path.as_str())
            .header("host", &request.host)
            .header("user-agent", mark(index));
        for (name, value) in &request.headers {
            built = built.header(name.as_str(), value.as_str());
        }
        let built = built.body(Empty::<Bytes>::new()).expect("a request");
        sender.ready().await.expect("kept alive");
        let response = sender.send_request(built).await.expect("an answer");
        let status = response.status().as_u16();
        let upstream = response
            .headers()
            .get("x-upstream")
            .map(|value| value.to_str().expect("text").to_owned());
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        let body = String::from_utf8_lossy(&body).into_owned();
        answers.push(Answer { status, upstream, headers, body });
    }
    answers
}

fn ask_raw(request: &Asked, port: u16, index: usize) -> Answer {
    let mut raw = Raw::connect(([127, 0, 0, 1], port).into());
    let mut text = format!(
        "{} {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: {}\r\n",
        request.method,
        request.path,
        request.host,
        mark(index)
    );
    for (name, value) in &request.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    raw.send(text + "\r\n");
    let response = raw.response();
    Answer {
        status: response.status,
        upstream: response.header("x-upstream").map(str::to_owned),
        headers: response
            .head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect(),
        body: String::from_utf8_lossy(&response.body).into_owned(),
    }
}

fn judge(case: &Case, answers: &[Answer], upstreams: &BTreeMap<&str, Upstream>) -> Option<String> {
    let expect = &case.expect;
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for answer in answers {
        if answer.status != expect.status {
            return Some(format!("status {} instead of {}", answer.status, expect.status));
        }
        if let Some(upstream) = &answer.upstream {
            *counts.entry(upstream).or_default() += 1;
        }
        if !expect.is_of_several() && answer.upstream != expect.upstream {
            return Some(format!("from {:?} instead of {:?}", answer.upstream, expect.upstream));
        }
        for (name, value) in &expect.headers {
            let got = answer.headers.iter().find(|(field, _)| field == name);
            if got.is_none_or(|(_, got)| got != value) {
                return Some(format!("{name}: {got:?} instead of {value:?}"));
            }
        }
        for (name, values) in &expect.headers_all {
            let fields = answer.headers.iter().filter(|(field, _)| field == name);
            let got: Vec<&String> = fields.map(|(_, value)| value).collect();
            if got != values.iter().collect::<Vec<_>>() {
                return Some(format!("{name}: {got:?} instead of {values:?}"));
            }
        }
        for name in &expect.absent {
            if let Some(got) = answer.headers.iter().find(|(field, _)| field == name) {
                return Some(format!("{got:?}, which was to be absent"));
            }
        }
        if let Some(body) = &expect.body
            && *body != answer.body
        {
            return Some(format!("body {:?} instead of {body:?}", answer.body));
        }
    }
    if !expect.sticky.is_empty() {
        let one = counts.len() == 1;
        let known = counts.keys().all(|name| expect.sticky.iter().any(|other| other == name));
        return (!one || !known).then(|| format!("not all answers from one upstream: {counts:?}"));
    }
    for (name, (least, most)) in &expect.shares {
        let count = counts.remove(name.as_str()).unwrap_or(0);
        if count < *least || count > *most {
            return Some(format!("{count} answers from {name} instead of {least} to {most}"));
        }
    }
    if !expect.shares.is_empty() && !counts.is_empty() {
        return Some(format!("answers from others: {counts:?}"));
    }
    if let Some(name) = &expect.upstream {
        let seen = upstreams[name.as_str()].last();
        if let Some(target) = &expect.target
            && *target != seen.target
        {
            return Some(format!("the upstream saw {:?} instead of {target:?}", seen.target));
        }
        for (field, value) in &expect.seen {
            if seen.header(field) != Some(value) {
                let got = seen.header(field);
                return Some(format!("the upstream saw {field}: {got:?} instead of {value:?}"));
            }
        }
        for (field, values) in &expect.seen_all {
            let got = seen.all(field);
            if got != *values {
                return Some(format!("the upstream saw {field}: {got:?} instead of {values:?}"));
            }
        }
        for field in &expect.unseen {
            if let Some(got) = seen.header(field) {
                return Some(format!("the upstream saw {field}: {got:?}"));
            }
        }
    }
    None
}

/// Did an upstream get a request that no upstream was to get?
fn unexpected(
    case: &Case,
    upstreams: &BTreeMap<&str, Upstream>,
    before: &[usize],
) -> Option<String> {
    if case.expect.upstream.is_some() || case.expect.is_of_several() {
        return None;
    }
    let got = upstreams
        .iter()
        .zip(before)
        .find(|((_, upstream), before)| upstream.seen().len() != **before);
    got.map(|((name, _), _)| format!("{name} got a request"))
}

/// Is the access log line as expected?
fn logged(case: &Case, gateway: &Gateway, log: &Path, index: usize) -> Option<String> {
    let expect = &case.expect;
    let wanted = [
        ("response_flags", &expect.flags),
        ("response_code_details", &expect.details),
        ("route_name", &expect.route),
        ("upstream_cluster", &expect.cluster),
    ];
    if wanted.iter().all(|(_, value)| value.is_none()) {
        return None;
    }
    let line = gateway.wait_for_log(log, |line| line["user_agent"] == mark(index).as_str());
    wanted.iter().find_map(|(key, value)| {
        let value = value.as_ref()?;
        let got = line[key].as_str().unwrap_or("-");
        (got != value).then(|| format!("{key} {got:?} instead of {value:?}"))
    })
}

macro_rules! conformance {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(concat!(stringify!($name), ".yaml"));
            }
        )*

        mod explained {
            $(
                #[test]
                fn $name() {
                    super::explain::run(concat!(stringify!($name), ".yaml"));
                }
            )*
        }

        #[test]
        fn every_file_has_a_test() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
            for entry in std::fs::read_dir(folder).expect("the folder") {
                let name = entry.expect("an entry").file_name().into_string().expect("text");
                if name == "COVERAGE.md" {
                    continue;
                }
                let known = [$(concat!(stringify!($name), ".yaml")),*];
                assert!(known.contains(&name.as_str()), "{name} is run by no test");
            }
        }
    };
}

conformance! {
    balancing
    catch_alls
    cors
    delegate_conflicts
    delegates
    destination_rules
    destinations
    direct_responses
    endpoints
    faults
    forwarded
    gateway_names
    gateways
    header_operations
    header_orders
    headers
    hello
    host_edges
    hosts
    https_redirects
    https_redirects_trusted
    local_replies
    match_edges
    matches
    merging
    normalization
    ordering
    paths
    query
    redirect_ports
    redirects
    rewrites
    server_protocols
    service_entries
    service_hosts
    subsets
    targets
    trusted_proxies
    weights
    wildcard_servers
}
