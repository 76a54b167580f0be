//! Interval logs, version 1.3: every interval's histograms, without loss, for any tool that reads them.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

use crate::machine::show_utc;
use crate::record::new_histogram;

/// Divides the maximum in each row, which is only for people: nanoseconds to milliseconds.
const MAX_UNIT: f64 = 1e6;

/// A row of the log.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) tag: String,
    /// Since the start of the measured time.
    pub(crate) start: Duration,
    pub(crate) length: Duration,
    /// Nanoseconds.
    pub(crate) max: u64,
    /// [`encode`]d.
    pub(crate) histogram: String,
}

/// A histogram as compressed V2 in base64.
pub(crate) fn encode(histogram: &Histogram<u64>) -> String {
    let mut bytes = Vec::new();
    match V2DeflateSerializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => BASE64.encode(&bytes),
        // Writing to memory and counts below 2^63 leave nothing that could fail.
        Err(_) => String::new(),
    }
}

/// The reverse of [`encode`]; the error is in words.
pub(crate) fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|error| error.to_string())?;
    Deserializer::new()
        .deserialize(&mut bytes.as_slice())
        .map_err(|error| format!("no histogram: {error}"))
}

/// Writes a log of rows that are in the order of time; `comments` stand at its head.
pub(crate) fn write(start: SystemTime, comments: &[String], rows: &[Row]) -> String {
    let seconds = start.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut text = String::new();
    for comment in comments {
        let _ = writeln!(text, "#[{comment}]");
    }
    text.push_str("#[Histogram log format version 1.3]\n");
    // Both, as readers differ in what they take a row's time to be relative to.
    let _ = writeln!(text, "#[BaseTime: {seconds:.3} (seconds since epoch)]");
    let date = show_utc(start);
    let _ = writeln!(text, "#[StartTime: {seconds:.3} (seconds since epoch), {date}]");
    text.push_str(
        "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "Tag={},{:.3},{:.3},{:.3},{}",
            row.tag,
            row.start.as_secs_f64(),
            row.length.as_secs_f64(),
            row.max as f64 / MAX_UNIT,
            row.histogram
        );
    }
    text
}

/// What a log holds of one tag.
#[derive(Debug)]
pub(crate) struct Logged {
    /// The sum of all rows.
    pub(crate) histogram: Histogram<u64>,
    /// How many there were.
    pub(crate) rows: usize,
}

/// Reads the rows of a log that have the tag, or those without a tag where none has it. The error is in
/// words.
pub(crate) fn read(text: &str, tag: &str) -> Result<Logged, String> {
    let mut tagged = Logged { histogram: new_histogram(), rows: 0 };
    let mut untagged = Logged { histogram: new_histogram(), rows: 0 };
    for entry in IntervalLogIterator::new(text.as_bytes()) {
        let entry = entry.map_err(|_| "it is no interval log (version 1.3)".to_owned())?;
        let LogEntry::Interval(interval) = entry else { continue };
        let into = match interval.tag() {
            Some(found) if found.as_str() == tag => &mut tagged,
            None => &mut untagged,
            Some(_) => continue,
        };
        let row = decode(interval.encoded_histogram())?;
        into.histogram
            .add(&row)
            .map_err(|error| format!("its histograms do not fit together: {error}"))?;
        into.rows += 1;
    }
    let found = if tagged.rows > 0 { tagged } else { untagged };
    if found.rows == 0 { Err(format!("it has no row of \"{tag}\"")) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(seed: u64) -> Histogram<u64> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut histogram = new_histogram();
        for _ in 0..5000 {
            histogram.record(random.u64(1..3_000_000_000)).expect("in range");
        }
        histogram
    }

    fn row(tag: &str, second: u64, histogram: &Histogram<u64>) -> Row {
        Row {
            tag: tag.to_owned(),
            start: Duration::from_secs(second),
            length: Duration::from_secs(1),
            max: histogram.max(),
            histogram: encode(histogram),
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way_through_a_log() {
        let parts = [1, 2, 3].map(histogram);
        let mut rows: Vec<_> =
            (0..).zip(&parts).map(|(second, part)| row("latency", second, part)).collect();
        rows.push(row("service_time", 0, &histogram(9)));
        let comments = ["a run".to_owned()];
        let text = write(UNIX_EPOCH + Duration::from_secs(1_700_000_000), &comments, &rows);
        let logged = read(&text, "latency").expect("good");
        let mut sum = new_histogram();
        parts.iter().for_each(|part| sum.add(part).expect("one shape"));
        assert_eq!((logged.rows, &logged.histogram), (3, &sum));
        assert_eq!(read(&text, "service_time").expect("good").histogram, histogram(9));
        assert!(read(&text, "other").is_err());
        assert!(text.contains("#[BaseTime: 1700000000.000 (seconds since epoch)]\n"), "{text}");
    }

    #[test]
    fn logs_without_tags_are_read_and_rubbish_is_not() {
        let text = format!("0.000,1.000,1.0,{}\n", encode(&histogram(1)));
        assert_eq!(read(&text, "latency").expect("good").histogram, histogram(1));
        for text in ["", "rubbish", "0.0,1.0,1.0,!!!\n", "0.0,1.0,1.0,AAAA\n"] {
            assert!(read(text, "latency").is_err(), "{text:?}");
        }
    }
}
