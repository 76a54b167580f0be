//! `ringress explain`: where a request goes and why, without sending it. The request runs through the
//! code that the workers run: parse, normalise, look up, write the upstream head.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::options::GatewayOptions;
use crate::config::Severity;
use crate::http::{RequestHead, Scheme, path};
use crate::http1::{self, HeaderStorage};
use crate::ids::WorkerId;
use crate::net::runtime::{self, Driver, DriverChoice};
use crate::proxy::downstream::Downstream;
use crate::proxy::error::ProxyError;
use crate::proxy::request::{self, Decision};
use crate::proxy::scratch::Scratch;
use crate::proxy::{ListenerSlot, Replica, WorkerContext};
use crate::snapshot::{Forward, RetryPolicy, Route, RouteAction, Snapshot};
use crate::upstream::{ClusterStates, Pick, SharedClusters};

/// How often chance is asked for an answer that goes upstream.
const CHANCES: usize = 64;

/// Options of `ringress explain`.
#[derive(Clone, Debug, Args)]
pub(super) struct ExplainOptions {
    /// Manifests: a file, or a directory that is searched recursively.
    #[arg(value_name = "PATH", required = true)]
    path: PathBuf,

    /// The request: a method and a URL, such as `GET http://hello.com/a?b=c`.
    #[arg(value_name = "REQUEST", required = true)]
    request: String,

    /// A field of the request, `name: value`. May be given several times.
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,

    /// The port that it comes in on, as the Gateway writes it. Default: that of the URL, or 80.
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,

    /// Address of the client.
    #[arg(long, value_name = "IP", default_value = "192.0.2.1")]
    client: IpAddr,

    #[command(flatten)]
    gateway: GatewayOptions,

    /// How to print the answer.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

/// Explain and print. Exit code 1 when there is nothing to explain; 0 whatever the answer is.
pub(super) fn run(options: &ExplainOptions) -> ExitCode {
    match explain(options) {
        Ok(answer) => {
            match options.format {
                Format::Text => print!("{}", to_text(&answer)),
                Format::Json => println!("{answer:#}"),
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("ringress: {message}");
            ExitCode::FAILURE
        }
    }
}

/// A request as it was asked about.
struct Asked {
    port: u16,
    bytes: Vec<u8>,
}

fn explain(options: &ExplainOptions) -> Result<Value, String> {
    let asked = parse(&options.request, &options.headers)?;
    let snapshot = read(options);
    let listener = listener(&snapshot, options.port.unwrap_or(asked.port))?;
    let (driver, _) = Driver::choose(DriverChoice::Epoll).map_err(|error| error.to_string())?;
    let client = SocketAddr::new(options.client, 0);
    runtime::run(driver, answer(snapshot, listener, asked.bytes, client, driver))
        .map_err(|error| error.to_string())?
}

/// `GET http://host:port/path?query` and fields → the bytes of a request.
fn parse(request: &str, headers: &[String]) -> Result<Asked, String> {
    let words: Vec<&str> = request.split_ascii_whitespace().collect();
    let (method, url) = match words[..] {
        [url] => ("GET", url),
        [method, url] => (method, url),
        _ => return Err(format!("`{request}` is not a method and a URL")),
    };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some((scheme, _)) => {
            return Err(format!("`{scheme}` is not served yet: use an `http://` URL"));
        }
        None => url,
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    if authority.is_empty() {
        return Err(format!("`{url}` names no host"));
    }
    let port = match authority.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => {
            port.parse().map_err(|_| format!("`{port}` is not a port"))?
        }
        _ => 80,
    };
    let slash = if target.starts_with('/') { "" } else { "/" };
    let mut text = format!("{method} {slash}{target} HTTP/1.1\r\nhost: {authority}\r\n");
    for field in headers {
        let (name, value) = field
            .split_once(':')
            .ok_or_else(|| format!("`{field}` is not of the form `name: value`"))?;
        text.push_str(&format!("{}: {}\r\n", name.trim(), value.trim()));
    }
    text.push_str("\r\n");
    Ok(Asked { port, bytes: text.into_bytes() })
}

/// The manifests, compiled; problems are told beside the answer.
fn read(options: &ExplainOptions) -> Snapshot {
    let reading = options.gateway.reloader(vec![options.path.clone()]).read();
    let errors = reading.errors();
    for found in reading.diagnostics.iter().filter(|found| found.severity == Severity::Error) {
        eprintln!("{}\n", found.to_text(false));
    }
    if errors > 0 {
        eprintln!("ringress: {errors} error(s): this is the answer of what is left");
    }
    reading.snapshot
}

/// The listener of a port; the only one there is stands for any port (a Service may map it).
fn listener(snapshot: &Snapshot, port: u16) -> Result<usize, String> {
    let at = snapshot.listeners.iter().position(|listener| listener.address.port() == port);
    match (at, snapshot.listeners.len()) {
        (Some(at), _) => Ok(at),
        (None, 0) => Err("no Gateway of this gateway opens a port".to_owned()),
        (None, 1) => Ok(0),
        (None, _) => {
            let open: Vec<String> =
                snapshot.listeners.iter().map(|listener| listener.address.to_string()).collect();
            Err(format!("nothing listens on port {port}; open are {}", open.join(", ")))
        }
    }
}

async fn answer(
    snapshot: Snapshot,
    listener: usize,
    bytes: Vec<u8>,
    client: SocketAddr,
    driver: Driver,
) -> Result<Value, String> {
    let context = WorkerContext::new(WorkerId(0), driver, None);
    let clusters = {
        let shared = SharedClusters::new(&snapshot, &SharedClusters::default());
        let mut random = context.random.borrow_mut();
        ClusterStates::new(&snapshot, &shared, None, &mut random, 0)
    };
    let replica = Rc::new(Replica { snapshot, clusters });
    *context.replica.borrow_mut() = Rc::clone(&replica);
    let opened = &replica.snapshot.listeners[listener];
    // A connection that nothing is sent on: a request has one.
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let address = socket.as_ref().map_err(|error| error.to_string())?.local_addr();
    let address = address.map_err(|error| error.to_string())?;
    let stream = crate::net::connect::connect(address, Duration::from_secs(5), driver, None);
    let stream = stream.await.map_err(|error| error.to_string())?;
    let slot =
        ListenerSlot { address: opened.address, route_table: Cell::new(Some(opened.route_table)) };
    let downstream = Downstream::new(stream, client, Rc::new(slot));
    let mut scratch = context.take_scratch();
    let mut decide =
        || request::prepare(&context, &downstream, &bytes, &mut scratch, Instant::now());
    let mut decision = decide();
    // Chance picks a destination and injects faults: of the answers that may come, one that goes
    // upstream tells most.
    for _ in 0..CHANCES {
        if !matches!(decision, Decision::Reply { plan: Some(_), .. }) {
            break;
        }
        decision = decide();
    }
    let mut answer = json!({
        "listener": {
            "address": opened.address.to_string(),
            "name": opened.name,
            "gateways": opened.gateways,
        },
    });
    look_up(&mut answer, &replica.snapshot, opened.route_table, &bytes);
    match decision {
        Decision::Incomplete => return Err("the request is not complete".to_owned()),
        Decision::Reply { error, .. } => {
            answer["reply"] = reply(error);
            destinations(&mut answer, &replica.snapshot, &scratch);
        }
        Decision::Configured { route, .. } => {
            configured(&mut answer, replica.snapshot.route(route), &scratch);
        }
        Decision::Forward { cluster, .. } => {
            destinations(&mut answer, &replica.snapshot, &scratch);
            let state = replica.clusters.get(cluster);
            let any = Pick { tried: &[], avoid_tried: true, elsewhere: false, hash: scratch.hash };
            let configured = replica.snapshot.cluster(cluster);
            let mut random = context.random.borrow_mut();
            if state.pick(configured, &mut random, &any, 0).is_none() {
                answer["reply"] = reply(ProxyError::NoHealthyUpstream);
            }
            answer["upstreamRequest"] = String::from_utf8_lossy(&scratch.request).into();
        }
    }
    Ok(answer)
}

/// The virtual host, and each of its routes up to the one that matches.
fn look_up(answer: &mut Value, snapshot: &Snapshot, table: usize, bytes: &[u8]) {
    let mut storage = HeaderStorage::new();
    let Ok(Some(parsed)) = http1::parse_request(bytes, &mut storage, Scheme::Http) else { return };
    let mut buffer = Vec::new();
    let mode = snapshot.settings.path_normalization;
    let Ok(path) = path::normalize(parsed.head.path, mode, &mut buffer) else { return };
    let head = RequestHead { path, ..parsed.head };
    let Some(table) = snapshot.route_tables.get(table) else { return };
    let explained = table.find_explained(&head);
    let Some(virtual_host) = explained.virtual_host.and_then(|id| table.virtual_host(id)) else {
        return;
    };
    answer["virtualHost"] = json!({ "name": virtual_host.name, "domains": virtual_host.domains });
    let routes = explained.routes.iter().map(|outcome| {
        let names = &snapshot.route(outcome.route).names;
        json!({
            "name": names.route,
            "virtualService": names.virtual_service,
            "mismatch": outcome.mismatch.map(|mismatch| mismatch.to_string()),
        })
    });
    answer["routes"] = routes.collect();
}

/// What the gateway says itself.
fn reply(error: ProxyError) -> Value {
    let answer = error.answer();
    json!({
        "status": answer.status,
        "flags": answer.flags.to_string(),
        "details": answer.details,
        "body": answer.body,
    })
}

fn configured(answer: &mut Value, route: &Route, scratch: &Scratch) {
    answer["reply"] = match &route.action {
        RouteAction::Redirect(redirect) => json!({
            "status": redirect.status,
            "location": String::from_utf8_lossy(&scratch.location),
            "details": "direct_response",
        }),
        RouteAction::DirectResponse(direct) => json!({
            "status": direct.status,
            "body": String::from_utf8_lossy(&direct.body),
            "details": "direct_response",
        }),
        RouteAction::Forward(_) => json!({ "status": 200, "details": "cors_response" }),
    };
}

/// What the route that was found does with requests, if it sends them on.
fn destinations(answer: &mut Value, snapshot: &Snapshot, scratch: &Scratch) {
    let Some(route) = scratch.info.route.map(|route| snapshot.route(route)) else { return };
    let RouteAction::Forward(forward) = &route.action else { return };
    let total = match forward {
        Forward::One(_) => 1,
        Forward::Several { total_weight, .. } => *total_weight,
    };
    let all = forward.destinations().iter().map(|destination| {
        let cluster = destination.cluster.map(|cluster| snapshot.cluster(cluster));
        let endpoints = cluster.iter().flat_map(|cluster| &cluster.endpoints).map(|endpoint| {
            json!({ "address": endpoint.address.to_string(), "healthy": endpoint.healthy })
        });
        let weight = f64::from(destination.weight);
        json!({
            "cluster": cluster.map(|cluster| &cluster.name),
            "percent": if total == 1 { 100.0 } else { weight * 100.0 / total as f64 },
            "endpoints": endpoints.collect::<Vec<_>>(),
        })
    });
    answer["destinations"] = all.collect();
    answer["timeoutMs"] = scratch.timeout_ms.into();
    let default = &snapshot.settings.default_retries;
    let policy = route.policy.as_deref();
    answer["retries"] = retries(policy.map_or(default, |policy| &policy.retries));
    let percent = |ppm: u32| f64::from(ppm) / 10_000.0;
    let mirrors = policy.iter().flat_map(|policy| &policy.mirrors).map(|mirror| {
        json!({
            "cluster": snapshot.cluster(mirror.cluster).name,
            "percent": percent(mirror.ppm),
        })
    });
    answer["mirrors"] = mirrors.collect();
    if let Some(fault) = policy.and_then(|policy| policy.fault) {
        answer["fault"] = json!({
            "delayPercent": percent(fault.delay_ppm),
            "delayMs": fault.delay_ms,
            "abortPercent": percent(fault.abort_ppm),
            "abortStatus": ProxyError::FaultAbort(fault.abort).answer().status,
        });
    }
}

fn retries(policy: &RetryPolicy) -> Value {
    json!({
        "attempts": policy.attempts,
        "perTryTimeoutMs": policy.per_try_timeout_ms,
        "on": policy.on.names().collect::<Vec<_>>(),
        "statusCodes": policy.status_codes,
    })
}

/// The answer for people.
fn to_text(answer: &Value) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<13} {value}\n"));
    let list = |value: &Value| -> String {
        let parts = value.as_array().into_iter().flatten();
        parts.map(plain).collect::<Vec<_>>().join(", ")
    };
    let listener = &answer["listener"];
    let of = list(&listener["gateways"]);
    line("listener", format!("{} of {of}", plain(&listener["address"])));
    match &answer["virtualHost"] {
        Value::Null => line("virtual host", "none serves this host".to_owned()),
        host => {
            line("virtual host", format!("{} ({})", plain(&host["name"]), list(&host["domains"])))
        }
    }
    for route in answer["routes"].as_array().into_iter().flatten() {
        let name = match plain(&route["name"]) {
            name if name.is_empty() => "unnamed route".to_owned(),
            name => format!("route `{name}`"),
        };
        let outcome = match &route["mismatch"] {
            Value::Null => "matches".to_owned(),
            mismatch => format!("no: {}", plain(mismatch)),
        };
        line("", format!("{name} of {}: {outcome}", plain(&route["virtualService"])));
    }
    for destination in answer["destinations"].as_array().into_iter().flatten() {
        let percent = destination["percent"].as_f64().unwrap_or_default();
        let cluster = match &destination["cluster"] {
            Value::Null => "a destination that does not exist (503 NC)".to_owned(),
            cluster => plain(cluster),
        };
        line("destination", format!("{cluster} ({percent:.4}%)").replace(".0000%", "%"));
        for endpoint in destination["endpoints"].as_array().into_iter().flatten() {
            let state = if endpoint["healthy"] == true { "" } else { " not ready" };
            line("", format!("endpoint {}{state}", plain(&endpoint["address"])));
        }
    }
    for mirror in answer["mirrors"].as_array().into_iter().flatten() {
        line("mirror", format!("{} ({}%)", plain(&mirror["cluster"]), mirror["percent"]));
    }
    if let Some(retries) = answer["retries"].as_object() {
        let time = |value: &Value| match value.as_u64() {
            None => "none".to_owned(),
            Some(milliseconds) => format!("{milliseconds} ms"),
        };
        line("timeout", time(&answer["timeoutMs"]));
        let codes = list(&retries["statusCodes"]);
        let codes = if codes.is_empty() { codes } else { format!(" ({codes})") };
        let each = time(&retries["perTryTimeoutMs"]);
        let on = list(&retries["on"]);
        line("retries", format!("{} on {on}{codes}; each attempt: {each}", retries["attempts"]));
    }
    if let Some(fault) = answer["fault"].as_object() {
        let (delayed, aborted) = (&fault["delayPercent"], &fault["abortPercent"]);
        line(
            "faults",
            format!(
                "{delayed}% wait {} ms, {aborted}% get {}",
                fault["delayMs"], fault["abortStatus"]
            ),
        );
    }
    if let Some(reply) = answer["reply"].as_object() {
        line("answered here", format!("{}", reply["status"]));
        for (name, value) in reply.iter().filter(|(name, _)| *name != "status") {
            line("", format!("{name}: {}", plain(value)));
        }
    }
    if let Some(request) = answer["upstreamRequest"].as_str() {
        text.push_str("upstream request\n");
        for field in request.trim_end().lines() {
            text.push_str(&format!("              {field}\n"));
        }
    }
    text
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(request: &str, headers: &[&str]) -> Result<(u16, String), String> {
        let headers: Vec<String> = headers.iter().map(|field| (*field).to_owned()).collect();
        let asked = parse(request, &headers)?;
        Ok((asked.port, String::from_utf8(asked.bytes).expect("text")))
    }

    #[test]
    fn requests_are_a_method_and_a_url() {
        let (port, text) = bytes("POST http://a.com:81/x?y", &["x-a:1", "x-b: c:d"]).expect("good");
        assert_eq!(port, 81);
        assert_eq!(text, "POST /x?y HTTP/1.1\r\nhost: a.com:81\r\nx-a: 1\r\nx-b: c:d\r\n\r\n");
        let (port, text) = bytes("a.com?q", &[]).expect("good");
        assert_eq!((port, text.as_str()), (80, "GET /?q HTTP/1.1\r\nhost: a.com\r\n\r\n"));
        assert_eq!(bytes("http://[::1]/", &[]).expect("good").0, 80);
        for (bad, part) in [
            ("", "method and a URL"),
            ("GET https://a.com/", "https"),
            ("GET /a", "names no host"),
            ("GET a.com:x/", "not a port"),
        ] {
            let message = bytes(bad, &[]).expect_err(bad);
            assert!(message.contains(part), "{bad}: {message}");
        }
        assert!(bytes("GET a.com", &["x"]).is_err());
    }
}
