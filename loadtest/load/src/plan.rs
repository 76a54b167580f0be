//! A run that can be begun: every setting has its value, every request its bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;

use crate::profile::Profile;
use crate::schedule::{Arrivals, Load};
use crate::settings::{self, Check, Protocol, RequestSettings, Settings};
use crate::target::{Target, TargetError};
use crate::tls::{Tls, TlsError, Trust};

/// The most connections of a run.
const CONNECTIONS_MAX: u32 = 100_000;
/// The most worker threads.
const THREADS_MAX: u32 = 256;
/// The most streams of an HTTP/2 connection.
const STREAMS_MAX: u32 = 1000;
/// The most requests that may be under way together: connections times streams.
const SLOTS_MAX: u64 = 200_000;
const DEFAULT_CONNECTIONS: u32 = 64;
const DEFAULT_STREAMS: u32 = 10;
const DEFAULT_SEED: u64 = 1;
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
const DEFAULT_WARMUP: Duration = Duration::from_secs(1);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that a run waits for responses after its end.
const GRACE_MAX: Duration = Duration::from_secs(5);

/// Why there is no run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// Nowhere to go.
    #[error("no target: give a URL, or `target:` in the scenario file")]
    NoTarget,
    /// Of the target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Of TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A number out of its range.
    #[error("{what} must be between {least} and {most}, not {given}")]
    Range {
        /// Which.
        what: &'static str,
        /// What it is.
        given: u64,
        /// Lower end.
        least: u64,
        /// Upper end.
        most: u64,
    },
    /// A duration of nothing.
    #[error("the {0} must be longer than nothing")]
    NoTime(&'static str),
    /// Settings that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// A path, host or the like.
    #[error("{0}")]
    Value(String),
}

/// A request of the mix, ready to be sent.
#[derive(Debug)]
pub(crate) struct PreparedRequest {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) method: String,
    pub(crate) path: String,
    /// HTTP/1.1: as it goes on the wire.
    ///
    /// It lives as long as the process: sends in flight borrow it, and a process makes few runs.
    pub(crate) wire: &'static [u8],
    /// HTTP/2: the same as a head and a body.
    pub(crate) head: http::Request<()>,
    pub(crate) body: Bytes,
    pub(crate) check: Check,
    /// The response to HEAD has no body.
    pub(crate) bodiless: bool,
}

/// Everything that is decided before a run.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) address: SocketAddr,
    /// None: in clear text.
    pub(crate) tls: Option<Tls>,
    pub(crate) protocol: Protocol,
    pub(crate) load: Load,
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) threads: u32,
    pub(crate) duration: Duration,
    pub(crate) warmup: Duration,
    pub(crate) timeout: Duration,
    pub(crate) keep_alive: bool,
    /// TLS sessions are resumed.
    pub(crate) resume_tls: bool,
    pub(crate) requests: Vec<PreparedRequest>,
    /// Local addresses that connections take in turn; empty: the system's choice.
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) seed: u64,
}

/// What the command line adds to the settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Circumstances {
    /// The target may be anywhere.
    pub(crate) owned: bool,
    pub(crate) sources: Vec<IpAddr>,
}

fn within(what: &'static str, given: u32, most: u32) -> Result<u32, PlanError> {
    if (1..=most).contains(&given) {
        Ok(given)
    } else {
        Err(PlanError::Range { what, given: given.into(), least: 1, most: most.into() })
    }
}

fn some_time(what: &'static str, time: Duration) -> Result<Duration, PlanError> {
    if time.is_zero() { Err(PlanError::NoTime(what)) } else { Ok(time) }
}

impl Plan {
    /// Puts the defaults in, looks whether all fits together, resolves the target and writes the
    /// requests.
    pub(crate) fn new(settings: Settings, given: Circumstances) -> Result<Plan, PlanError> {
        let target = settings.target.clone().ok_or(PlanError::NoTarget)?;
        settings::check_path(&target.path).map_err(PlanError::Value)?;
        let protocol = settings.protocol.unwrap_or_default();
        let keep_alive = settings.keep_alive.unwrap_or(true);
        let streams = match protocol {
            Protocol::Http1 if settings.streams.is_some_and(|streams| streams > 1) => {
                return Err(PlanError::Contradiction(
                    "streams are of HTTP/2: HTTP/1.1 has one request under way on a connection",
                ));
            }
            Protocol::Http1 => 1,
            Protocol::Http2 => settings.streams.unwrap_or(DEFAULT_STREAMS),
        };
        if protocol == Protocol::Http2 && !keep_alive {
            return Err(PlanError::Contradiction(
                "a new connection for each request is for HTTP/1.1: HTTP/2 keeps its connections",
            ));
        }
        let load = match (settings.rate.clone(), settings.arrivals) {
            (Some(rate), arrivals) => Load::Open { rate, arrivals: arrivals.unwrap_or_default() },
            (None, Some(Arrivals::Poisson)) => {
                return Err(PlanError::Contradiction("poisson arrivals need a rate"));
            }
            (None, _) => Load::Closed,
        };
        let connections = settings.connections.unwrap_or(DEFAULT_CONNECTIONS);
        let connections = within("connections", connections, CONNECTIONS_MAX)?;
        let streams = within("streams", streams, STREAMS_MAX)?;
        let slots = u64::from(connections) * u64::from(streams);
        if slots > SLOTS_MAX {
            let what = "connections times streams";
            return Err(PlanError::Range { what, given: slots, least: 1, most: SLOTS_MAX });
        }
        let threads = within("threads", settings.threads.unwrap_or(1), THREADS_MAX)?;
        if threads > connections {
            return Err(PlanError::Contradiction("there are more threads than connections"));
        }
        let insecure = settings.insecure.unwrap_or(false);
        let trust = match settings.trust.clone() {
            Some(_) if insecure => {
                return Err(PlanError::Contradiction(
                    "trust and insecure exclude each other: either the certificate is looked at or not",
                ));
            }
            Some(file) => Trust::File(file),
            None if insecure => Trust::Anyone,
            None => Trust::System,
        };
        let resume_tls = settings.resume_tls.unwrap_or(false);
        let address = target.resolve(given.owned)?;
        if let Some(source) = given.sources.iter().find(|ip| ip.is_ipv4() != address.is_ipv4()) {
            let message = format!("the source address {source} cannot reach {address}");
            return Err(PlanError::Value(message));
        }
        let authority = settings.host.clone().unwrap_or_else(|| target.authority());
        let single = [RequestSettings::default()];
        let requests = if settings.requests.is_empty() { &single[..] } else { &settings.requests };
        let common =
            Common { target: &target, authority: &authority, keep_alive, settings: &settings };
        let requests =
            requests.iter().map(|request| common.prepare(request)).collect::<Result<_, _>>()?;
        let name = authority.rsplit_once(':').map_or(authority.as_str(), |(name, _)| name);
        let name = name.trim_matches(['[', ']']);
        let tls = target.tls.then(|| Tls::new(name, protocol, &trust, resume_tls)).transpose()?;
        Ok(Plan {
            target,
            address,
            tls,
            protocol,
            load,
            connections,
            streams,
            threads,
            duration: some_time("duration", settings.duration.unwrap_or(DEFAULT_DURATION))?,
            warmup: settings.warmup.unwrap_or(DEFAULT_WARMUP),
            timeout: some_time("timeout", settings.timeout.unwrap_or(DEFAULT_TIMEOUT))?,
            keep_alive,
            resume_tls,
            requests,
            sources: given.sources,
            seed: settings.seed.unwrap_or(DEFAULT_SEED),
        })
    }

    /// How long a run waits for its last responses.
    pub(crate) fn grace(&self) -> Duration {
        self.timeout.min(GRACE_MAX)
    }

    /// The plan for the record of a run.
    pub(crate) fn record(&self) -> PlanRecord {
        let (model, rate, arrivals) = match &self.load {
            Load::Open { rate, arrivals } => ("open", Some(rate), Some(arrivals.name())),
            Load::Closed => ("closed", None, None),
        };
        PlanRecord {
            target: self.target.origin(),
            address: self.address.to_string(),
            protocol: self.protocol.name().to_owned(),
            model: model.to_owned(),
            rate: rate.map(Profile::mean),
            rates: rate.and_then(Profile::changes),
            arrivals: arrivals.map(str::to_owned),
            connections: self.connections,
            streams: self.streams,
            threads: self.threads,
            duration_seconds: self.duration.as_secs_f64(),
            warmup_seconds: self.warmup.as_secs_f64(),
            timeout_seconds: self.timeout.as_secs_f64(),
            keep_alive: self.keep_alive,
            resume_tls: self.resume_tls,
            seed: self.seed,
            requests: self
                .requests
                .iter()
                .map(|request| RequestRecord {
                    name: request.name.clone(),
                    weight: request.weight,
                    request: format!("{} {}", request.method, request.path),
                })
                .collect(),
        }
    }
}

/// A plan as it stands in results.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub(crate) struct PlanRecord {
    pub(crate) target: String,
    pub(crate) address: String,
    pub(crate) protocol: String,
    /// `open` or `closed`.
    pub(crate) model: String,
    /// Requests per second; their mean where they change.
    pub(crate) rate: Option<f64>,
    /// How they change: `1000..5000`, or steps.
    #[serde(default)]
    pub(crate) rates: Option<String>,
    pub(crate) arrivals: Option<String>,
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) threads: u32,
    pub(crate) duration_seconds: f64,
    pub(crate) warmup_seconds: f64,
    pub(crate) timeout_seconds: f64,
    pub(crate) keep_alive: bool,
    #[serde(default)]
    pub(crate) resume_tls: bool,
    pub(crate) seed: u64,
    pub(crate) requests: Vec<RequestRecord>,
}

/// One request of the mix.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub(crate) struct RequestRecord {
    pub(crate) name: String,
    pub(crate) weight: u32,
    pub(crate) request: String,
}

/// What all requests share.
struct Common<'s> {
    target: &'s Target,
    authority: &'s str,
    keep_alive: bool,
    settings: &'s Settings,
}

impl Common<'_> {
    fn prepare(&self, request: &RequestSettings) -> Result<PreparedRequest, PlanError> {
        let path = request.path.as_deref().unwrap_or(&self.target.path);
        let host = request.host.as_deref().unwrap_or(self.authority);
        settings::check_path(path).map_err(PlanError::Value)?;
        settings::check_host(host).map_err(PlanError::Value)?;
        settings::check_method(&request.method).map_err(PlanError::Value)?;
        let own = |name: &str| request.headers.iter().any(|(other, _)| other == name);
        let common = self.settings.headers.iter().filter(|(name, _)| !own(name));
        let fields: Vec<_> = common.chain(&request.headers).collect();
        let named = |name: &str| fields.iter().any(|(other, _)| other == name);

        let mut wire = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\n", request.method);
        let scheme = if self.target.tls { "https" } else { "http" };
        let mut head = http::Request::builder()
            .method(request.method.as_str())
            .uri(format!("{scheme}://{host}{}", if path == "*" { "/" } else { path }));
        if !named("user-agent") {
            let agent = concat!("ringress-load/", env!("CARGO_PKG_VERSION"));
            wire += &format!("user-agent: {agent}\r\n");
            head = head.header("user-agent", agent);
        }
        for (name, value) in fields {
            wire += &format!("{name}: {value}\r\n");
            head = head.header(name.as_str(), value.as_str());
        }
        if !request.body.is_empty() || matches!(request.method.as_str(), "POST" | "PUT" | "PATCH") {
            wire += &format!("content-length: {}\r\n", request.body.len());
            head = head.header("content-length", request.body.len());
        }
        if !self.keep_alive {
            wire += "connection: close\r\n";
        }
        wire += "\r\n";
        let mut wire = wire.into_bytes();
        wire.extend_from_slice(&request.body);
        let head = head.version(http::Version::HTTP_2).body(());
        let head = head.map_err(|error| PlanError::Value(error.to_string()))?;
        Ok(PreparedRequest {
            name: request.name.clone(),
            weight: request.weight,
            method: request.method.clone(),
            path: path.to_owned(),
            wire: Vec::leak(wire),
            head,
            body: Bytes::from(request.body.clone()),
            check: request.check.clone(),
            bodiless: request.method == "HEAD",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Rate;

    fn settings(url: &str) -> Settings {
        Settings { target: Some(Target::parse(url).expect("a URL")), ..Settings::default() }
    }

    fn plan(settings: Settings) -> Result<Plan, PlanError> {
        Plan::new(settings, Circumstances::default())
    }

    #[test]
    fn a_url_alone_is_a_bounded_run() {
        let plan = plan(settings("http://127.0.0.1:8080/x")).expect("a plan");
        assert_eq!(plan.load, Load::Closed);
        assert_eq!((plan.connections, plan.threads, plan.streams), (64, 1, 1));
        assert_eq!(plan.duration, DEFAULT_DURATION);
        let expected = concat!(
            "GET /x HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nuser-agent: ringress-load/",
            env!("CARGO_PKG_VERSION"),
            "\r\n\r\n"
        );
        assert_eq!(plan.requests[0].wire, expected.as_bytes());
    }

    #[test]
    fn requests_have_what_the_settings_say() {
        let mut settings = settings("https://127.0.0.1/");
        settings.host = Some("hello.com:443".to_owned());
        settings.keep_alive = Some(false);
        settings.insecure = Some(true);
        settings.headers =
            vec![("user-agent".to_owned(), "me".to_owned()), ("x-a".to_owned(), "1".to_owned())];
        settings.requests = vec![RequestSettings {
            method: "POST".to_owned(),
            path: Some("/p".to_owned()),
            headers: vec![("x-a".to_owned(), "2".to_owned())],
            body: b"hi".to_vec(),
            ..RequestSettings::default()
        }];
        let plan = plan(settings).expect("a plan");
        let name = plan.tls.as_ref().map(|tls| tls.name.to_str().into_owned());
        assert_eq!(name.as_deref(), Some("hello.com"));
        let request = &plan.requests[0];
        assert_eq!(
            request.wire,
            b"POST /p HTTP/1.1\r\nhost: hello.com:443\r\nuser-agent: me\r\nx-a: 2\r\n\
              content-length: 2\r\nconnection: close\r\n\r\nhi"
        );
        assert_eq!(request.head.uri(), "https://hello.com:443/p");
        assert_eq!(request.head.headers()["x-a"], "2");
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        let url = "http://127.0.0.1:1/";
        let change = |change: fn(&mut Settings)| {
            let mut settings = settings(url);
            change(&mut settings);
            plan(settings).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(change(|_| ()), Ok(()));
        assert!(plan(Settings::default()).is_err_and(|error| error.to_string().contains("target")));
        for (broken, part) in [
            (change(|settings| settings.connections = Some(0)), "between 1"),
            (change(|settings| settings.connections = Some(1_000_000)), "100000"),
            (change(|settings| settings.threads = Some(65)), "more threads"),
            (change(|settings| settings.duration = Some(Duration::ZERO)), "duration"),
            (change(|settings| settings.timeout = Some(Duration::ZERO)), "timeout"),
            (change(|settings| settings.streams = Some(2)), "HTTP/2"),
            (change(|settings| settings.arrivals = Some(Arrivals::Poisson)), "rate"),
            (change(|settings| settings.host = Some("a b".to_owned())), "host name"),
            (
                change(|settings| {
                    settings.protocol = Some(Protocol::Http2);
                    settings.keep_alive = Some(false);
                }),
                "HTTP/2",
            ),
        ] {
            let error = broken.expect_err(part);
            assert!(error.contains(part), "{part}: {error}");
        }
        let given = Circumstances { sources: vec![[127, 0, 0, 2].into()], ..Default::default() };
        let mut six = settings("http://[::1]:1/");
        six.rate = Rate::per_second(1.0).map(Profile::Constant);
        assert!(Plan::new(six, given).is_err(), "an IPv4 source cannot reach IPv6");
    }
}
