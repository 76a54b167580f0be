//! Latency histograms as JSON, as percentile files (`.hgrm`) and as an interval log (`.hlog`): the formats
//! that the tools around HdrHistogram read, `ringress-load compare` among them.

use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use super::live::by_slot;
use super::live_stats::LiveView;
use super::server::json;
use crate::metrics::HistogramKey;
use crate::metrics::shard::{LATENCY_DIGITS, LATENCY_US_MAX, latency_histogram};

/// Steps in each half of the remaining distance to 100 %.
const TICKS_PER_HALF: u32 = 5;
const NANOSECONDS_PER_MICROSECOND: u64 = 1000;

/// What the query may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HistogramQuery {
    #[serde(default)]
    format: HistogramFormat,
    /// Only this route.
    route: Option<String>,
    /// Only this destination: the name of a cluster, or a host.
    destination: Option<String>,
    /// All that is left added up.
    #[serde(default)]
    merge: bool,
    /// Only the last so many seconds, as far as the history reaches; without it, since the start.
    pub(super) window: Option<u64>,
    /// End of the window, milliseconds since the Unix epoch; now without it.
    pub(super) until: Option<u64>,
}

/// Latencies and the time that they are of.
pub(super) struct Counted {
    /// By what they are of.
    pub(super) all: Vec<Keyed>,
    /// When the counting began.
    pub(super) since: SystemTime,
    /// How long it went on.
    pub(super) length: Duration,
}

impl Counted {
    /// All that was counted since the process started.
    pub(super) fn since_start(all: Vec<Keyed>, started: Instant) -> Counted {
        let length = started.elapsed();
        Counted { all, since: SystemTime::now().checked_sub(length).unwrap_or(UNIX_EPOCH), length }
    }

    /// What a window of the history holds.
    pub(super) fn of_window(view: &LiveView, query: &HistogramQuery) -> Counted {
        let length = Duration::from_secs(query.window.unwrap_or(u64::MAX));
        let window = view.history.window(length, query.until);
        let (length, from) = (window.covered(), window.from_unix_ms().unwrap_or_default());
        let slots = view.keys.iter().zip(by_slot(window, view.keys.len()));
        let all = slots.filter_map(|(key, summary)| Some((key.clone(), summary?.latencies)));
        Counted { all: all.collect(), since: UNIX_EPOCH + Duration::from_millis(from), length }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HistogramFormat {
    #[default]
    Json,
    Hgrm,
    Hlog,
}

pub(super) type Keyed = (HistogramKey, Histogram<u64>);

impl HistogramQuery {
    fn fits(&self, key: &HistogramKey) -> bool {
        let host = || key.destination.rsplit('|').next();
        self.route.as_ref().is_none_or(|route| *route == key.route)
            && self
                .destination
                .as_ref()
                .is_none_or(|wanted| *wanted == key.destination || host() == Some(wanted.as_str()))
    }

    fn select(&self, all: &[Keyed]) -> Vec<Keyed> {
        let selected = all.iter().filter(|(key, _)| self.fits(key));
        if !self.merge {
            return selected.cloned().collect();
        }
        let mut sum = latency_histogram();
        for (_, histogram) in selected {
            // Histograms of one shape and less than 2^64 requests: there is nothing to fail.
            let _ = sum.add(histogram);
        }
        let all = || "all".to_owned();
        let key = HistogramKey {
            route: self.route.clone().unwrap_or_else(all),
            virtual_service: all(),
            virtual_host: all(),
            destination: self.destination.clone().unwrap_or_else(all),
        };
        vec![(key, sum)]
    }
}

/// The page.
pub(super) fn page(query: &HistogramQuery, counted: &Counted) -> Response {
    let selected = query.select(&counted.all);
    let text = match query.format {
        HistogramFormat::Json => {
            return json(&HistogramsPage {
                unit: "microseconds",
                histograms: selected.iter().map(HistogramReport::of).collect(),
            });
        }
        HistogramFormat::Hgrm => hgrm(&selected, !query.merge && selected.len() > 1),
        HistogramFormat::Hlog => {
            let since = counted.since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            match hlog(&selected, query.merge, since, counted.length.as_secs_f64()) {
                Ok(text) => text,
                Err(error) => {
                    let text = format!("cannot write a histogram: {error}\n");
                    return (StatusCode::INTERNAL_SERVER_ERROR, text).into_response();
                }
            }
        }
    };
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

#[derive(Serialize)]
struct HistogramsPage<'a> {
    unit: &'static str,
    histograms: Vec<HistogramReport<'a>>,
}

/// Latency of one route and destination, microseconds.
#[derive(Serialize)]
struct HistogramReport<'a> {
    route: &'a str,
    virtual_service: &'a str,
    virtual_host: &'a str,
    destination: &'a str,
    count: u64,
    min: u64,
    mean: f64,
    p50: u64,
    p90: u64,
    p99: u64,
    #[serde(rename = "p99.9")]
    p99_9: u64,
    #[serde(rename = "p99.99")]
    p99_99: u64,
    max: u64,
}

impl HistogramReport<'_> {
    fn of((key, histogram): &Keyed) -> HistogramReport<'_> {
        HistogramReport {
            route: &key.route,
            virtual_service: &key.virtual_service,
            virtual_host: &key.virtual_host,
            destination: &key.destination,
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p99_9: histogram.value_at_quantile(0.999),
            p99_99: histogram.value_at_quantile(0.9999),
            max: histogram.max(),
        }
    }
}

/// Percentiles in milliseconds; with `titles` a comment and an empty line part one from the next.
fn hgrm(selected: &[Keyed], titles: bool) -> String {
    let mut text = String::new();
    for (index, (key, histogram)) in selected.iter().enumerate() {
        if titles {
            let between = if index > 0 { "\n" } else { "" };
            let _ = writeln!(text, "{between}#[{}]", tag(key));
        }
        percentiles(&mut text, histogram);
    }
    text
}

fn percentiles(text: &mut String, histogram: &Histogram<u64>) {
    let digits = usize::from(LATENCY_DIGITS);
    let milliseconds = |microseconds: f64| microseconds / 1000.0;
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let total = histogram.len();
    for step in histogram.iter_quantiles(TICKS_PER_HALF) {
        let value = milliseconds(step.value_iterated_to() as f64);
        let quantile = step.quantile_iterated_to();
        let count = (step.quantile() * total as f64).round() as u64;
        let _ = write!(text, "{value:12.digits$} {quantile:2.12} {count:10}");
        // The last row has no fourth column.
        if quantile < 1.0 {
            let _ = write!(text, " {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let (mean, deviation) = (milliseconds(histogram.mean()), milliseconds(histogram.stdev()));
    let max = milliseconds(histogram.max() as f64);
    let _ =
        writeln!(text, "#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]");
    let _ = writeln!(text, "#[Max     = {max:12.digits$}, Total count    = {total:12}]");
    // The first bucket has all its cells, every further one half as many.
    let cells = (2 * 10_u64.pow(LATENCY_DIGITS.into())).next_power_of_two();
    let buckets = (histogram.distinct_values() as u64 * 2 / cells).saturating_sub(1);
    let _ = writeln!(text, "#[Buckets = {buckets:12}, SubBuckets     = {cells:12}]");
}

/// A log of one interval: from the start of the process, `since` (seconds since the Unix epoch), `length`
/// seconds long. Values are in nanoseconds, as the readers of such logs take them to be; merged they have
/// the tag that load testers give to latency.
fn hlog(
    selected: &[Keyed],
    merged: bool,
    since: f64,
    length: f64,
) -> Result<String, Box<dyn std::error::Error>> {
    let mut text = String::from("#[Histogram log format version 1.3]\n");
    // Both, as readers differ in what they take a row's time to be relative to.
    writeln!(text, "#[BaseTime: {since:.3} (seconds since epoch)]")?;
    writeln!(text, "#[StartTime: {since:.3} (seconds since epoch), {}]", httpdate(since))?;
    text.push_str(
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    let mut serializer = V2DeflateSerializer::new();
    let mut bytes = Vec::new();
    for (key, histogram) in selected {
        let tag = if merged { "latency".to_owned() } else { tag(key) };
        let histogram = in_nanoseconds(histogram)?;
        bytes.clear();
        serializer.serialize(&histogram, &mut bytes)?;
        let (max, histogram) = (histogram.max() as f64 / 1e6, BASE64.encode(&bytes));
        writeln!(text, "Tag={tag},0.000,{length:.3},{max:.3},{histogram}")?;
    }
    Ok(text)
}

fn httpdate(unix_seconds: f64) -> String {
    let time = UNIX_EPOCH + std::time::Duration::from_secs_f64(unix_seconds.max(0.0));
    httpdate::fmt_http_date(time).replace(',', "")
}

/// The same to three digits, in nanoseconds.
fn in_nanoseconds(
    histogram: &Histogram<u64>,
) -> Result<Histogram<u64>, hdrhistogram::CreationError> {
    let most = LATENCY_US_MAX * NANOSECONDS_PER_MICROSECOND;
    let mut converted = Histogram::new_with_bounds(1, most, LATENCY_DIGITS)?;
    for recorded in histogram.iter_recorded() {
        let value = recorded.value_iterated_to().saturating_mul(NANOSECONDS_PER_MICROSECOND);
        converted.saturating_record_n(value, recorded.count_at_value());
    }
    Ok(converted)
}

/// What a histogram is of, in one word: a tag has no comma, no space and no end of line.
fn tag(key: &HistogramKey) -> String {
    let text = format!("{}/{}@{}", key.virtual_service, key.route, key.destination);
    text.replace(|letter: char| letter == ',' || letter.is_whitespace() || letter.is_control(), "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    fn keyed(route: &str, destination: &str, values: impl Iterator<Item = u64>) -> Keyed {
        let mut histogram = latency_histogram();
        values.for_each(|value| histogram.saturating_record(value));
        let key = HistogramKey {
            route: route.to_owned(),
            virtual_service: "default/hello".to_owned(),
            virtual_host: "hello.com".to_owned(),
            destination: destination.to_owned(),
        };
        (key, histogram)
    }

    fn all() -> [Keyed; 3] {
        [
            keyed("main", "outbound|80|v1|a.default", (1..=1000).map(|ms| ms * 1000)),
            keyed("main", "outbound|80|v2|a.default", 1..=9),
            keyed("two words, two", "outbound|80||b.default", [600_000_000].into_iter()),
        ]
    }

    fn query(text: &str) -> HistogramQuery {
        let uri = format!("http://admin/?{text}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    #[test]
    fn queries_select_by_route_and_destination_and_merge() {
        let counts = |text: &str| -> Vec<u64> {
            query(text).select(&all()).iter().map(|(_, histogram)| histogram.len()).collect()
        };
        assert_eq!(counts(""), [1000, 9, 1]);
        assert_eq!(counts("route=main"), [1000, 9]);
        assert_eq!(counts("destination=a.default"), [1000, 9]);
        assert_eq!(counts("destination=outbound|80|v2|a.default"), [9]);
        assert_eq!(counts("route=main&destination=b.default"), Vec::<u64>::new());
        assert_eq!(counts("merge=true"), [1010]);
        assert_eq!(counts("merge=true&destination=a.default"), [1009]);
        assert_eq!(counts("merge=true&route=none"), [0]);
        let bad = "http://admin/?format=xml".parse().unwrap();
        assert!(axum::extract::Query::<HistogramQuery>::try_from_uri(&bad).is_err());
    }

    #[test]
    fn a_percentile_file_has_the_layout_that_plotters_read() {
        let text = hgrm(&all()[..1], false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        let median = lines.iter().find(|line| line.contains(" 0.500000000000 ")).unwrap();
        assert_eq!(*median, "     500.223 0.500000000000        500           2.00");
        let rows: Vec<&&str> = lines[2..].iter().filter(|line| !line.starts_with('#')).collect();
        assert!(rows.last().unwrap().ends_with(" 1.000000000000       1000"), "{rows:?}");
        let counts = rows.iter().map(|row| row.split_ascii_whitespace().nth(2).unwrap());
        assert!(counts.map(|count| count.parse::<u64>().unwrap()).is_sorted());
        assert!(lines[lines.len() - 2].contains("Total count    =         1000]"), "{text}");
        assert!(lines[lines.len() - 1].contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn several_percentile_files_are_told_apart() {
        let text = hgrm(&all(), true);
        assert!(text.starts_with("#[default/hello/main@outbound|80|v1|a.default]\n"), "{text}");
        assert!(text.contains("]\n\n#[default/hello/two_words__two@outbound|80||b.default]\n"));
        assert_eq!(text.matches("Total count").count(), 3);
    }

    #[test]
    fn an_interval_log_is_read_by_the_library_of_others() {
        let text = hlog(&all(), false, 1_795_000_000.25, 60.5).unwrap();
        assert!(text.contains("#[StartTime: 1795000000.250 (seconds since epoch), "), "{text}");
        let mut rows = Vec::new();
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            if let LogEntry::Interval(interval) = entry.unwrap() {
                let bytes = BASE64.decode(interval.encoded_histogram().as_bytes()).unwrap();
                let histogram: Histogram<u64> =
                    Deserializer::new().deserialize(&mut bytes.as_slice()).unwrap();
                assert_eq!(interval.duration().as_millis(), 60_500);
                let tag = interval.tag().unwrap().as_str().to_owned();
                rows.push((tag, interval.max(), histogram));
            }
        }
        assert_eq!(rows.len(), 3);
        let (tag, max, histogram) = &rows[0];
        assert_eq!(tag, "default/hello/main@outbound|80|v1|a.default");
        assert!((max / 1000.0 - 1.0).abs() < 0.001, "milliseconds: {max}");
        assert_eq!(histogram.len(), 1000);
        for quantile in [0.1, 0.5, 0.9, 0.99, 1.0] {
            let (ours, theirs) =
                (all()[0].1.value_at_quantile(quantile), histogram.value_at_quantile(quantile));
            let ratio = theirs as f64 / (ours as f64 * 1000.0);
            assert!((ratio - 1.0).abs() < 0.001, "{quantile}: {ours} µs, {theirs} ns");
        }
        assert_eq!(rows[1].2.max(), 9_000 | 7, "nanoseconds, to three digits");
        assert!(rows[2].2.max() >= 600_000_000_000);
        let merged = hlog(&query("merge=true").select(&all()), true, 0.0, 1.0).unwrap();
        assert!(merged.lines().last().unwrap().starts_with("Tag=latency,0.000,1.000,600"));
    }
}
