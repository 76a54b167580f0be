//! `ringress tap` on a worker: which requests somebody watches, and handing them over.
//!
//! While nobody taps, a request pays one branch. While somebody does, the fields that a tap shows are
//! kept as those of the access log are; what matches is copied and offered to the tap's sink, which
//! never waits: what it cannot take is counted.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::context::{Replica, WorkerContext};
use super::downstream::Downstream;
use super::record;
use super::scratch::Scratch;
use crate::access_log::{LineContext, RequestFields};
use crate::http::{RequestHead, authority};
use crate::stream_info::StreamInfo;

/// A sample of everything, in millionths.
pub const SAMPLE_ALL_PPM: u32 = 1_000_000;

/// Which requests a tap shows. Every condition that is there must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapFilter {
    /// The host without its port, in lower case; `*.suffix` takes every host below.
    pub host: Option<String>,
    /// The name of the route, or `namespace/name` of its VirtualService.
    pub route: Option<String>,
    /// The status that the client got.
    pub status: Option<TapStatus>,
    /// Least time from the first byte of the request to the last of the response, microseconds.
    pub duration_us_min: u64,
    /// The method.
    pub method: Option<String>,
    /// How the path begins, before it is made canonical.
    pub path_prefix: Option<String>,
    /// Fields of the request, which are shown too.
    pub headers: Vec<TapHeader>,
    /// How many of a million matching requests are shown.
    pub sample_ppm: u32,
}

impl Default for TapFilter {
    fn default() -> Self {
        TapFilter {
            host: None,
            route: None,
            status: None,
            duration_us_min: 0,
            method: None,
            path_prefix: None,
            headers: Vec::new(),
            sample_ppm: SAMPLE_ALL_PPM,
        }
    }
}

/// The statuses that a tap shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TapStatus {
    /// This one; 0: the client got none.
    Exactly(u16),
    /// All with this first digit.
    Class(u16),
}

/// A field of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapHeader {
    /// Its name, in any case.
    pub name: String,
    /// Its whole value; none: whatever it is.
    pub value: Option<String>,
}

/// A request as a tap shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TapRecord {
    /// When its first byte came, microseconds since the Unix epoch.
    pub started_unix_us: u64,
    /// Host as the client sent it; empty when the head could not be read.
    pub host: String,
    /// Method.
    pub method: String,
    /// Path with query, as the client sent it.
    pub path: String,
    /// `HTTP/1.1`, `HTTP/2`, …
    pub protocol: &'static str,
    /// Status that the client got, 0: none.
    pub status: u16,
    /// Envoy's response flags, `-` for none.
    pub flags: String,
    /// Envoy's response code details.
    pub details: &'static str,
    /// First byte of the request to the last of the response, microseconds.
    pub duration_us: u64,
    /// Request sent upstream to its response head, microseconds; none for answers of the gateway.
    pub upstream_us: Option<u64>,
    /// Attempts made upstream.
    pub attempts: u32,
    /// Name of the route, possibly empty.
    pub route: String,
    /// `namespace/name` of its VirtualService.
    pub virtual_service: String,
    /// Name of the cluster.
    pub cluster: String,
    /// The endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Bytes of the request's body.
    pub bytes_received: u64,
    /// Bytes of the response's body.
    pub bytes_sent: u64,
    /// `x-request-id` as the upstream got it.
    pub request_id: String,
    /// `user-agent`.
    pub user_agent: String,
    /// The client.
    pub client: Option<SocketAddr>,
    /// The fields that the filter names. The values of those that hold secrets are masked.
    pub headers: Vec<(String, String)>,
}

/// What a worker tells a tap.
#[derive(Debug)]
pub enum TapEvent {
    /// Requests that begin from now on are looked at.
    Installed,
    /// A request that matches has ended.
    Request(Box<TapRecord>),
}

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It will be shown.
    Taken,
    /// There is no room: it is lost.
    Full,
    /// Nobody watches any more.
    Gone,
}

/// Where the requests of a tap go. It must not wait.
pub trait TapSink: Send {
    /// Take this, if there is room.
    fn offer(&self, event: TapEvent) -> Offered;
}

/// What a tap has seen, over all workers.
#[derive(Debug, Default)]
pub struct TapCounts {
    /// Requests that matched.
    pub matched: AtomicU64,
    /// Of them, those that were left out of the sample.
    pub unsampled: AtomicU64,
    /// Of them, those that came faster than a worker may pass on.
    pub over_rate: AtomicU64,
    /// Of them, those for which there was no room, because the reader is slow.
    pub not_taken: AtomicU64,
}

/// A tap on its way to a worker.
pub struct Tap {
    /// Its number in the process.
    pub id: u64,
    /// What it shows.
    pub filter: Arc<TapFilter>,
    /// Requests that this worker passes on in a second, at most.
    pub rate_max: u32,
    /// What it has seen.
    pub counts: Arc<TapCounts>,
    /// Where its requests go.
    pub sink: Box<dyn TapSink>,
}

/// An order about taps.
pub enum TapOrder {
    /// Begin with this one.
    Install(Tap),
    /// End the one with this number.
    Remove(u64),
}

struct Installed {
    tap: Tap,
    since: Instant,
    /// The second in which `passed` were passed on.
    second: u64,
    passed: u32,
}

/// The taps of a worker.
#[derive(Default)]
pub struct WorkerTaps {
    any: Cell<bool>,
    installed: RefCell<Vec<Installed>>,
}

impl WorkerTaps {
    /// Does anybody watch?
    #[inline]
    pub fn any(&self) -> bool {
        self.any.get()
    }

    /// Do what is asked.
    pub fn obey(&self, order: TapOrder) {
        let mut installed = self.installed.borrow_mut();
        match order {
            TapOrder::Install(tap) => {
                if tap.sink.offer(TapEvent::Installed) != Offered::Gone {
                    installed.push(Installed { tap, since: Instant::now(), second: 0, passed: 0 });
                }
            }
            TapOrder::Remove(id) => installed.retain(|one| one.tap.id != id),
        }
        self.any.set(!installed.is_empty());
    }

    /// Keep the fields of a request that a tap asks for, as lines: the head is gone when it ends.
    pub(super) fn capture(&self, head: &RequestHead<'_>, lines: &mut Vec<u8>) {
        if !self.any() {
            return;
        }
        let installed = self.installed.borrow();
        for field in head.headers {
            let wanted = |one: &Installed| {
                let mut names = one.tap.filter.headers.iter();
                names.any(|wanted| field.name.eq_ignore_ascii_case(wanted.name.as_bytes()))
            };
            if installed.iter().any(wanted) {
                lines.extend_from_slice(field.name);
                lines.push(b':');
                lines.extend_from_slice(field.value);
                lines.push(b'\n');
            }
        }
    }
}

/// Show a request that has ended to those who watch.
#[inline(never)]
pub(super) fn pass(
    context: &WorkerContext,
    connection: &Downstream,
    scratch: &Scratch,
    replica: &Replica,
) {
    let info = &scratch.info;
    let line = record::line_context(&replica.snapshot, info, connection, "", &scratch.response);
    let virtual_service =
        info.route.map_or("", |route| replica.snapshot.route(route).names.virtual_service.as_str());
    let seen = Seen {
        info,
        fields: &scratch.fields,
        lines: &scratch.tapped_headers,
        line: &line,
        virtual_service,
    };
    let second = context.clock.coarse_milliseconds() / 1000;
    let mut gone = false;
    let mut installed = context.taps.installed.borrow_mut();
    for one in installed.iter_mut() {
        // Of a request that began before the tap nothing was kept.
        if info.started < one.since || !seen.matches(&one.tap.filter) {
            continue;
        }
        let counts = &one.tap.counts;
        counts.matched.fetch_add(1, Ordering::Relaxed);
        let sample_ppm = one.tap.filter.sample_ppm;
        if sample_ppm < SAMPLE_ALL_PPM && !context.chance(sample_ppm) {
            counts.unsampled.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        if one.second != second {
            (one.second, one.passed) = (second, 0);
        }
        if one.passed >= one.tap.rate_max {
            counts.over_rate.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        one.passed += 1;
        let record = Box::new(seen.record(&one.tap.filter));
        match one.tap.sink.offer(TapEvent::Request(record)) {
            Offered::Taken => {}
            Offered::Full => {
                counts.not_taken.fetch_add(1, Ordering::Relaxed);
            }
            Offered::Gone => {
                // It goes below.
                one.passed = u32::MAX;
                gone = true;
            }
        }
    }
    if gone {
        installed.retain(|one| one.passed != u32::MAX);
        context.taps.any.set(!installed.is_empty());
    }
}

/// A request that has ended, where it lies.
struct Seen<'a> {
    info: &'a StreamInfo,
    fields: &'a RequestFields,
    lines: &'a [u8],
    line: &'a LineContext<'a>,
    virtual_service: &'a str,
}

impl Seen<'_> {
    fn matches(&self, filter: &TapFilter) -> bool {
        self.info.duration_us >= filter.duration_us_min
            && filter.status.is_none_or(|wanted| wanted.includes(self.info.response_code))
            && filter.method.as_ref().is_none_or(|wanted| {
                self.fields.method().is_some_and(|method| method == wanted.as_bytes())
            })
            && filter.host.as_ref().is_none_or(|wanted| {
                self.fields.authority().is_some_and(|authority| host_matches(wanted, authority))
            })
            && filter.path_prefix.as_ref().is_none_or(|wanted| {
                self.fields.path().is_some_and(|path| path.starts_with(wanted.as_bytes()))
            })
            && filter.route.as_ref().is_none_or(|wanted| {
                self.line.route_name == wanted || self.virtual_service == wanted
            })
            && filter.headers.iter().all(|wanted| {
                fields_named(self.lines, &wanted.name).any(|(_, value)| {
                    wanted.value.as_ref().is_none_or(|wanted| wanted.as_bytes() == value)
                })
            })
    }

    fn record(&self, filter: &TapFilter) -> TapRecord {
        let info = self.info;
        let text =
            |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let headers = filter.headers.iter().flat_map(|wanted| {
            fields_named(self.lines, &wanted.name).map(|(name, value)| {
                let name = String::from_utf8_lossy(name).into_owned();
                let shown = match is_secret(&name) {
                    true => MASK.to_owned(),
                    false => String::from_utf8_lossy(value).into_owned(),
                };
                (name, shown)
            })
        });
        TapRecord {
            started_unix_us: info.started_unix_us,
            host: text(self.fields.authority()),
            method: text(self.fields.method()),
            path: text(self.fields.path()),
            protocol: info.version.as_str(),
            status: info.response_code,
            flags: info.flags.to_string(),
            details: info.details,
            duration_us: info.duration_us,
            upstream_us: info.upstream_service_time_us,
            attempts: info.attempts,
            route: self.line.route_name.to_owned(),
            virtual_service: self.virtual_service.to_owned(),
            cluster: self.line.cluster_name.to_owned(),
            endpoint: info.upstream_address,
            bytes_received: info.request_body_bytes,
            bytes_sent: info.response_body_bytes,
            request_id: text(self.fields.request_id()),
            user_agent: text(self.fields.user_agent()),
            client: self.line.downstream_remote_address,
            headers: headers.collect(),
        }
    }
}

impl TapStatus {
    fn includes(self, status: u16) -> bool {
        match self {
            TapStatus::Exactly(wanted) => status == wanted,
            TapStatus::Class(digit) => status / 100 == digit,
        }
    }
}

/// What is shown in the place of a secret.
const MASK: &str = "…";

/// Fields whose values let somebody in elsewhere.
const SECRET_FIELDS: &[&str] = &[
    "authorization",
    "cookie",
    "proxy-authorization",
    "set-cookie",
    "x-amz-security-token",
    "x-api-key",
    "x-auth-token",
    "x-csrf-token",
    "x-forwarded-client-cert",
    "x-xsrf-token",
];

fn is_secret(name: &str) -> bool {
    SECRET_FIELDS.iter().any(|secret| secret.eq_ignore_ascii_case(name))
}

fn host_matches(wanted: &str, authority: &[u8]) -> bool {
    let mut buffer = [0; authority::HOST_BYTES_MAX];
    let Some(host) = authority::canonical_host(authority, &mut buffer) else { return false };
    match wanted.strip_prefix('*') {
        // `*` alone takes every host.
        Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_bytes()),
        None => host == wanted.as_bytes(),
    }
}

/// The kept fields of this name with their values.
fn fields_named<'a>(lines: &'a [u8], name: &'a str) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let lines = lines.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((line.get(..colon)?, line.get(colon + 1..)?))
    });
    lines.filter(move |(own, _)| own.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests;
