//! The closed-loop generators: a fixed number of requests under way, each answer followed by the
//! next request.
//!
//! They read the proxy's CPU time themselves, at the very moments between which they count
//! responses, so that a late wake-up of the driver cannot blur the quotient.

mod http1;
mod http2;
mod idle;
mod socket;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;

use crate::proc_stat::{CpuTicks, ProcessTree};
use crate::service::Protocol;
use crate::{manifest, sys, tls};

/// Errors after which a run gives up.
const ERROR_LIMIT: u64 = 1000;
/// How long a run waits for the last responses after its window, and for the first connections.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long one trial request may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(2);

/// What to send, how, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Port of the proxy on 127.0.0.1.
    pub(crate) port: u16,
    /// What is spoken.
    pub(crate) protocol: Protocol,
    /// By TLS, with this configuration.
    pub(crate) tls: Option<Arc<ClientConfig>>,
    /// Connections open at a time.
    pub(crate) connections: usize,
    /// Requests under way on each of them; more than one only in HTTP/2.
    pub(crate) streams: usize,
    /// Time before the window.
    pub(crate) warmup: Duration,
    /// Length of the window.
    pub(crate) window: Duration,
    /// Path asked for.
    pub(crate) path: String,
    /// Host headers that the requests take in turn; at least one. Names in TLS are the first.
    pub(crate) hosts: Vec<String>,
    /// A new connection for each request.
    pub(crate) close: bool,
    /// Root of the processes whose CPU time is taken.
    pub(crate) cpu_of: Option<u32>,
}

impl Plan {
    /// Keep-alive connections in clear text that ask for `/` of the one host.
    pub(crate) fn new() -> Self {
        Self {
            port: 0,
            protocol: Protocol::Http1,
            tls: None,
            connections: 64,
            streams: 1,
            warmup: Duration::from_secs(1),
            window: Duration::from_secs(5),
            path: "/".to_owned(),
            hosts: vec![manifest::HELLO.to_owned()],
            close: false,
            cpu_of: None,
        }
    }

    fn first_host(&self) -> &str {
        self.hosts.first().map_or(manifest::HELLO, String::as_str)
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Responses completed within the window.
    pub(crate) requests: u64,
    /// Length of the window, seconds.
    pub(crate) seconds: f64,
    /// CPU time of the watched processes within the window.
    pub(crate) cpu: CpuTicks,
    /// Responses completed in the whole run, with warm-up and rest.
    pub(crate) total: u64,
    /// Connections that failed or ended early, and responses that could not be read.
    pub(crate) errors: u64,
    /// Responses whose status was not 2xx, among the completed; also gRPC calls without a good end.
    pub(crate) non_2xx: u64,
}

impl Outcome {
    /// One line for the driver.
    pub(crate) fn to_line(self) -> String {
        format!(
            "requests={} seconds={} user_ticks={} system_ticks={} total={} errors={} non_2xx={}",
            self.requests,
            self.seconds,
            self.cpu.user,
            self.cpu.system,
            self.total,
            self.errors,
            self.non_2xx
        )
    }

    /// Reads [`Self::to_line`]; `None` when a figure is missing or not a number.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        let value = |key: &str| {
            line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
        };
        let count = |key: &str| value(key)?.parse().ok();
        Some(Self {
            requests: count("requests")?,
            seconds: value("seconds")?.parse().ok()?,
            cpu: CpuTicks { user: count("user_ticks")?, system: count("system_ticks")? },
            total: count("total")?,
            errors: count("errors")?,
            non_2xx: count("non_2xx")?,
        })
    }
}

/// The processes whose CPU time is taken; none at all costs nothing.
struct Watch(Option<ProcessTree>);

impl Watch {
    fn of(plan: &Plan) -> Self {
        Self(plan.cpu_of.map(ProcessTree::of))
    }

    /// One end of a window: the time, the responses so far, the CPU time so far.
    fn mark(&self, total: u64) -> io::Result<Mark> {
        let cpu = match &self.0 {
            None => CpuTicks::default(),
            Some(tree) => {
                tree.cpu().ok_or_else(|| io::Error::other("the proxy ended during the run"))?
            }
        };
        Ok(Mark { at: Instant::now(), total, cpu })
    }
}

/// One end of a window.
struct Mark {
    at: Instant,
    total: u64,
    cpu: CpuTicks,
}

impl Mark {
    /// Fills in what was done between this mark and a later one.
    fn until(&self, end: &Self, outcome: &mut Outcome) {
        outcome.requests = end.total - self.total;
        outcome.seconds = (end.at - self.at).as_secs_f64();
        outcome.cpu = CpuTicks {
            user: end.cpu.user.saturating_sub(self.cpu.user),
            system: end.cpu.system.saturating_sub(self.cpu.system),
        };
    }
}

/// `load --port N …`: one run, one line. `load --idle N …` is [`idle`].
pub(crate) fn main(mut args: impl Iterator<Item = String>) -> Result<ExitCode, String> {
    let mut plan = Plan::new();
    let mut idle = None;
    let mut trusted: Option<PathBuf> = None;
    while let Some(arg) = args.next() {
        if arg == "--close" {
            plan.close = true;
            continue;
        }
        let value = args.next().ok_or_else(|| format!("load: {arg} needs a value"))?;
        let bad = || format!("load: {arg} cannot be {value:?}");
        match arg.as_str() {
            "--port" => plan.port = value.parse().map_err(|_| bad())?,
            "--protocol" => plan.protocol = Protocol::named(&value).ok_or_else(bad)?,
            "--trust" => trusted = Some(value.into()),
            "--connections" => plan.connections = value.parse().map_err(|_| bad())?,
            "--streams" => plan.streams = value.parse().map_err(|_| bad())?,
            "--warmup" => plan.warmup = seconds(&value).ok_or_else(bad)?,
            "--seconds" => plan.window = seconds(&value).ok_or_else(bad)?,
            "--path" => plan.path = value,
            "--host" => plan.hosts = vec![value],
            "--hosts" => {
                let count = value.parse().map_err(|_| bad())?;
                plan.hosts = (0..count).map(manifest::host).collect();
            }
            "--cpu-of" => plan.cpu_of = Some(value.parse().map_err(|_| bad())?),
            "--idle" => idle = Some(value.parse().map_err(|_| bad())?),
            _ => return Err(format!("load: unknown option {arg}")),
        }
    }
    if plan.hosts.is_empty() || plan.connections == 0 || plan.streams == 0 {
        return Err("load: at least one host, connection and stream are needed".to_owned());
    }
    if plan.protocol == Protocol::Http1 && plan.streams > 1 {
        return Err("load: HTTP/1.1 has one request under way on a connection".to_owned());
    }
    if plan.protocol != Protocol::Http1 && plan.close {
        return Err("load: --close is for HTTP/1.1".to_owned());
    }
    plan.tls = trusted.map(|file| tls::client(&file, plan.protocol)).transpose()?;
    sys::raise_file_limit();
    if let Some(count) = idle {
        return idle::main(&plan, count);
    }
    let outcome = match plan.protocol {
        Protocol::Http1 => http1::run(&plan),
        Protocol::Http2 | Protocol::Grpc => http2::run(&plan),
    };
    println!("{}", outcome.map_err(|error| format!("load: {error}"))?.to_line());
    Ok(ExitCode::SUCCESS)
}

/// One request on a connection of its own; the status, 200 of a gRPC call only when it was good.
pub(crate) fn probe(plan: &Plan) -> io::Result<u16> {
    match plan.protocol {
        Protocol::Http1 => http1::probe(plan),
        Protocol::Http2 | Protocol::Grpc => http2::probe(plan),
    }
}

/// A length of time given in seconds, at most an hour: every run ends.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..=3600.0).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// The request for a host, as it goes on the wire.
pub(crate) fn request(path: &str, host: &str, close: bool) -> Vec<u8> {
    let close = if close { "connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{close}\r\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_survives_its_line() {
        let outcome = Outcome {
            requests: 12,
            seconds: 0.25,
            cpu: CpuTicks { user: 3, system: 4 },
            total: 15,
            errors: 1,
            non_2xx: 2,
        };
        assert_eq!(Outcome::from_line(&outcome.to_line()), Some(outcome));
        assert_eq!(Outcome::from_line("requests=1 seconds=2"), None);
        assert_eq!(Outcome::from_line(&outcome.to_line().replace("12", "many")), None);
    }

    #[test]
    fn every_run_is_bounded() {
        assert_eq!(seconds("0.5"), Some(Duration::from_millis(500)));
        for text in ["-1", "1e9", "inf", "NaN", "soon"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn requests_name_their_host() {
        assert_eq!(request("/10k", "a.b", false), b"GET /10k HTTP/1.1\r\nhost: a.b\r\n\r\n");
        assert!(request("/", "a", true).ends_with(b"connection: close\r\n\r\n"));
    }
}
