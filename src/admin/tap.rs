//! `/tap`: requests as they pass, one JSON object a line. It ends at a limit, after a time, or when the
//! client goes; it never holds a request up.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc::Receiver;
use tokio::sync::oneshot;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::parameters::{Parameters, QueryError};
use super::state::AdminState;
use super::taps::OpenTap;
use crate::access_log::timestamp;
use crate::limits::{
    TAP_DURATION, TAP_DURATION_MAX, TAP_HEADERS_MAX, TAP_LINES, TAP_LINES_MAX, TAP_RATE,
    TAP_RATE_MAX, TAP_STATUS_INTERVAL, TAPS_MAX,
};
use crate::proxy::tap::{
    SAMPLE_ALL_PPM, TapCounts, TapEvent, TapFilter, TapHeader, TapRecord, TapStatus,
};

const PARAMETERS: &[&str] = &[
    "duration",
    "header",
    "host",
    "limit",
    "method",
    "min_latency_ms",
    "path_prefix",
    "rate",
    "route",
    "sample",
    "status",
];

/// What a query asks for.
#[derive(Debug, PartialEq)]
struct Asked {
    filter: TapFilter,
    lines_max: u64,
    duration: Duration,
    rate_max: u32,
}

impl Asked {
    fn of(mut query: Parameters) -> Result<Asked, QueryError> {
        let number = |text: &str| text.parse::<u64>().ok();
        let status =
            query.parsed("status", "a status such as 404, or a class such as 5xx", status)?;
        let sample = query.parsed("sample", "a share from 0 to 1, such as 0.1", |text| {
            let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share))?;
            Some((share * f64::from(SAMPLE_ALL_PPM)).round() as u32)
        })?;
        let headers = query.take_all("header").into_iter().map(|text| match text.split_once(':') {
            Some((name, value)) => {
                TapHeader { name: name.trim().to_owned(), value: Some(value.trim().to_owned()) }
            }
            None => TapHeader { name: text.trim().to_owned(), value: None },
        });
        let headers: Vec<TapHeader> = headers.collect();
        if headers.len() > TAP_HEADERS_MAX || headers.iter().any(|header| header.name.is_empty()) {
            let text =
                format!("`header` is `name` or `name:value`, {TAP_HEADERS_MAX} times at most");
            return Err(QueryError(text));
        }
        let milliseconds = query.parsed("min_latency_ms", "a number of milliseconds", |text| {
            text.parse::<f64>().ok().filter(|ms| ms.is_finite() && *ms >= 0.0)
        })?;
        let filter = TapFilter {
            host: query.take("host")?.map(|host| host.to_ascii_lowercase()),
            route: query.take("route")?,
            status,
            duration_us_min: (milliseconds.unwrap_or(0.0) * 1000.0) as u64,
            method: query.take("method")?.map(|method| method.to_ascii_uppercase()),
            path_prefix: query.take("path_prefix")?,
            headers,
            sample_ppm: sample.unwrap_or(SAMPLE_ALL_PPM),
        };
        let wanted = format!("a number from 1 to {TAP_LINES_MAX}");
        let lines_max = query.parsed("limit", &wanted, |text| {
            number(text).filter(|lines| (1..=TAP_LINES_MAX).contains(lines))
        })?;
        let wanted = format!("a number of seconds from 1 to {}", TAP_DURATION_MAX.as_secs());
        let duration = query.parsed("duration", &wanted, |text| {
            let seconds = number(text.strip_suffix('s').unwrap_or(text))?;
            Some(Duration::from_secs(seconds))
                .filter(|time| (Duration::from_secs(1)..=TAP_DURATION_MAX).contains(time))
        })?;
        let wanted = format!("a number from 1 to {TAP_RATE_MAX}");
        let rate_max = query.parsed("rate", &wanted, |text| {
            text.parse().ok().filter(|rate| (1..=TAP_RATE_MAX).contains(rate))
        })?;
        query.end(PARAMETERS)?;
        Ok(Asked {
            filter,
            lines_max: lines_max.unwrap_or(TAP_LINES),
            duration: duration.unwrap_or(TAP_DURATION),
            rate_max: rate_max.unwrap_or(TAP_RATE),
        })
    }
}

fn status(text: &str) -> Option<TapStatus> {
    match text.as_bytes() {
        [digit @ b'1'..=b'5', b'x' | b'X', b'x' | b'X'] => {
            Some(TapStatus::Class(u16::from(digit - b'0')))
        }
        _ => text.parse().ok().filter(|status| *status < 600).map(TapStatus::Exactly),
    }
}

/// The page.
pub(super) async fn tap(
    State(state): State<AdminState>,
    query: Parameters,
) -> Result<Response, QueryError> {
    let asked = Asked::of(query)?;
    let Some(open) = state.controls.taps.open(asked.filter, asked.rate_max) else {
        let text = format!("{TAPS_MAX} taps are open, which is all there may be: end one\n");
        return Ok((StatusCode::TOO_MANY_REQUESTS, text).into_response());
    };
    let OpenTap { events, counts, workers, guard } = open;
    let (reader, reader_gone) = oneshot::channel::<()>();
    let timed_out = Arc::<AtomicBool>::default();
    let lines = Lines {
        events,
        counts,
        installing: workers,
        workers,
        lines_left: asked.lines_max,
        shown: 0,
        told: 0,
        looks: looks(),
        reader: Some(reader),
        timed_out: Arc::clone(&timed_out),
        ended: false,
    };
    // Not of the answer, which a reader that stalls does not drive: the workers are rid of the tap in time.
    tokio::spawn(async move {
        if tokio::time::timeout(asked.duration, reader_gone).await.is_err() {
            timed_out.store(true, Ordering::Release);
        }
        drop(guard);
    });
    let headers =
        [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::from_stream(lines)).into_response())
}

fn looks() -> Interval {
    let mut looks = interval(TAP_STATUS_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}

/// The answer: lines as they come.
struct Lines {
    events: Receiver<TapEvent>,
    counts: Arc<TapCounts>,
    /// Workers that have yet to say that they have the tap.
    installing: usize,
    workers: usize,
    lines_left: u64,
    shown: u64,
    /// The requests that had matched when it was told last.
    told: u64,
    looks: Interval,
    /// Dropped when no more is wanted, which ends the tap.
    reader: Option<oneshot::Sender<()>>,
    timed_out: Arc<AtomicBool>,
    ended: bool,
}

impl Stream for Lines {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let lines = self.get_mut();
        if lines.ended {
            return Poll::Ready(None);
        }
        loop {
            if lines.lines_left == 0 {
                return lines.end("limit");
            }
            match lines.events.poll_recv(task) {
                Poll::Ready(Some(TapEvent::Installed)) => {
                    lines.installing = lines.installing.saturating_sub(1);
                    if lines.installing == 0 {
                        return line(&lines.summary("begun", None));
                    }
                }
                Poll::Ready(Some(TapEvent::Request(record))) => {
                    lines.lines_left -= 1;
                    lines.shown += 1;
                    return line(&RequestLine::of(&record));
                }
                Poll::Ready(None) => {
                    let timed_out = lines.timed_out.load(Ordering::Acquire);
                    return lines.end(if timed_out { "duration" } else { "gateway" });
                }
                Poll::Pending => match lines.looks.poll_tick(task) {
                    Poll::Ready(_) => {
                        let matched = lines.counts.matched.load(Ordering::Relaxed);
                        if matched != lines.told {
                            lines.told = matched;
                            return line(&lines.summary("going", None));
                        }
                    }
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }
}

impl Lines {
    fn end(&mut self, why: &'static str) -> Poll<Option<<Lines as Stream>::Item>> {
        self.ended = true;
        self.reader = None;
        line(&self.summary("ended", Some(why)))
    }

    fn summary(&self, tap: &'static str, why: Option<&'static str>) -> Summary {
        let counts = &self.counts;
        let over_rate = counts.over_rate.load(Ordering::Relaxed);
        let not_taken = counts.not_taken.load(Ordering::Relaxed);
        Summary {
            tap,
            why,
            workers: self.workers,
            matched: counts.matched.load(Ordering::Relaxed),
            shown: self.shown,
            unsampled: counts.unsampled.load(Ordering::Relaxed),
            dropped: over_rate + not_taken,
            dropped_over_rate: over_rate,
            dropped_slow_reader: not_taken,
        }
    }
}

/// A line about the tap itself: when it begins, about once a second while requests match, when it ends.
#[derive(Serialize)]
struct Summary {
    tap: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    workers: usize,
    matched: u64,
    shown: u64,
    unsampled: u64,
    dropped: u64,
    dropped_over_rate: u64,
    dropped_slow_reader: u64,
}

/// A line about a request. Documented in `docs/admin.md`.
#[derive(Serialize)]
struct RequestLine<'a> {
    time: String,
    host: &'a str,
    method: &'a str,
    path: &'a str,
    protocol: &'a str,
    status: u16,
    flags: &'a str,
    details: &'a str,
    duration_us: u64,
    upstream_us: Option<u64>,
    attempts: u32,
    route: &'a str,
    virtual_service: &'a str,
    cluster: &'a str,
    endpoint: Option<SocketAddr>,
    bytes_received: u64,
    bytes_sent: u64,
    request_id: &'a str,
    user_agent: &'a str,
    client: Option<SocketAddr>,
    headers: Vec<ShownHeader<'a>>,
}

#[derive(Serialize)]
struct ShownHeader<'a> {
    name: &'a str,
    value: &'a str,
}

impl RequestLine<'_> {
    fn of(record: &TapRecord) -> RequestLine<'_> {
        let mut time = Vec::new();
        timestamp::append(&mut time, record.started_unix_us);
        let headers = record.headers.iter().map(|(name, value)| ShownHeader { name, value });
        RequestLine {
            time: String::from_utf8_lossy(&time).into_owned(),
            host: &record.host,
            method: &record.method,
            path: &record.path,
            protocol: record.protocol,
            status: record.status,
            flags: &record.flags,
            details: record.details,
            duration_us: record.duration_us,
            upstream_us: record.upstream_us,
            attempts: record.attempts,
            route: &record.route,
            virtual_service: &record.virtual_service,
            cluster: &record.cluster,
            endpoint: record.endpoint,
            bytes_received: record.bytes_received,
            bytes_sent: record.bytes_sent,
            request_id: &record.request_id,
            user_agent: &record.user_agent,
            client: record.client,
            headers: headers.collect(),
        }
    }
}

fn line(value: &impl Serialize) -> Poll<Option<<Lines as Stream>::Item>> {
    // Plain data with text keys: it cannot fail; an empty line would be passed over.
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    Poll::Ready(Some(Ok(text.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::FromRequestParts;
    use axum::http::Request;

    async fn asked(query: &str) -> Result<Asked, QueryError> {
        let request = Request::get(format!("/tap?{query}")).body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        Asked::of(Parameters::from_request_parts(&mut parts, &()).await?)
    }

    #[tokio::test]
    async fn a_query_says_what_is_shown() {
        let all = asked("").await.unwrap();
        assert_eq!(all.filter, TapFilter::default());
        assert_eq!(
            (all.lines_max, all.duration, all.rate_max),
            (TAP_LINES, TAP_DURATION, TAP_RATE)
        );
        let some = asked(
            "host=Hello.com&route=main&status=5xx&min_latency_ms=1.5&method=get&path_prefix=/a%20b\
             &header=x-user:jason&header=Cookie&sample=0.1&limit=7&duration=60s&rate=10",
        )
        .await
        .unwrap();
        let header = |name: &str, value: Option<&str>| TapHeader {
            name: name.to_owned(),
            value: value.map(str::to_owned),
        };
        let filter = TapFilter {
            host: Some("hello.com".to_owned()),
            route: Some("main".to_owned()),
            status: Some(TapStatus::Class(5)),
            duration_us_min: 1500,
            method: Some("GET".to_owned()),
            path_prefix: Some("/a b".to_owned()),
            headers: vec![header("x-user", Some("jason")), header("Cookie", None)],
            sample_ppm: 100_000,
        };
        let duration = Duration::from_secs(60);
        assert_eq!(some, Asked { filter, lines_max: 7, duration, rate_max: 10 });
    }

    #[tokio::test]
    async fn what_cannot_be_is_refused_by_name() {
        for query in [
            "status=6xx",
            "status=x",
            "sample=2",
            "sample=-1",
            "limit=0",
            "limit=x",
            "duration=0",
            "duration=1d",
            "duration=3601",
            "rate=0",
            "rate=x",
            "min_latency_ms=-1",
            "header=:x",
            "min_latency_ms=NaN",
            "hosts=a",
            "host=a&host=b",
        ] {
            let error = asked(query).await.unwrap_err();
            let name = query.split('=').next().unwrap();
            assert!(error.0.contains(name), "{query}: {error}");
        }
    }

    #[test]
    fn the_shape_of_a_line_is_kept() {
        let record = TapRecord {
            started_unix_us: 1_577_836_800_123_456,
            host: "hello.com".to_owned(),
            protocol: "HTTP/1.1",
            flags: "-".to_owned(),
            headers: vec![("x-user".to_owned(), "jason".to_owned())],
            ..TapRecord::default()
        };
        let text = serde_json::to_string(&RequestLine::of(&record)).unwrap();
        assert_eq!(
            text,
            "{\"time\":\"2020-01-01T00:00:00.123Z\",\"host\":\"hello.com\",\"method\":\"\",\
             \"path\":\"\",\"protocol\":\"HTTP/1.1\",\"status\":0,\"flags\":\"-\",\"details\":\"\",\
             \"duration_us\":0,\"upstream_us\":null,\"attempts\":0,\"route\":\"\",\
             \"virtual_service\":\"\",\"cluster\":\"\",\"endpoint\":null,\"bytes_received\":0,\
             \"bytes_sent\":0,\"request_id\":\"\",\"user_agent\":\"\",\"client\":null,\
             \"headers\":[{\"name\":\"x-user\",\"value\":\"jason\"}]}"
        );
    }
}
