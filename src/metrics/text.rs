//! The two text formats of an exposition and what they share: heads of families, samples, labels.

use super::names::{Kind, Metric};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0, the one that has exemplars.
    OpenMetrics,
}

impl Format {
    /// The `Content-Type` of a page in this format.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The format that a client with this `Accept` field wants most; Prometheus's without one.
    /// A client that likes both as much gets OpenMetrics when it names that.
    pub fn negotiate(accept: &str) -> Format {
        let (mut open_metrics, mut text) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media_type = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1.0_f32, None);
            for part in parts {
                match part.split_once('=') {
                    Some((name, value)) if name.eq_ignore_ascii_case("q") => {
                        quality = value.parse().unwrap_or(0.0);
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("version") => {
                        version = Some(value.trim_matches('"'));
                    }
                    _ => {}
                }
            }
            if media_type.eq_ignore_ascii_case("application/openmetrics-text") {
                if matches!(version, None | Some("1.0.0" | "0.0.1")) {
                    open_metrics = quality.max(open_metrics);
                }
            } else if media_type.eq_ignore_ascii_case("text/plain") {
                text = quality.max(text);
            }
        }
        if open_metrics > 0.0 && open_metrics >= text {
            Format::OpenMetrics
        } else {
            Format::Prometheus
        }
    }
}

/// Text of an exposition in the making.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) format: Format,
    pub(super) out: Vec<u8>,
}

impl Writer {
    pub(super) fn new(format: Format, capacity: usize) -> Writer {
        Writer { format, out: Vec::with_capacity(capacity) }
    }

    /// The lines before the samples of a family.
    pub(super) fn head(&mut self, metric: Metric) {
        let (name, kind) = match self.format {
            Format::Prometheus => (metric.name, metric.kind.as_str()),
            Format::OpenMetrics if metric.kind == Kind::Untyped => (metric.name, "unknown"),
            Format::OpenMetrics => (metric.family(), metric.kind.as_str()),
        };
        self.line(&["# HELP ", name, " ", metric.help]);
        self.line(&["# TYPE ", name, " ", kind]);
        if let (Format::OpenMetrics, Some(unit)) = (self.format, metric.unit()) {
            self.line(&["# UNIT ", name, " ", unit]);
        }
    }

    fn line(&mut self, parts: &[&str]) {
        for part in parts {
            self.out.extend_from_slice(part.as_bytes());
        }
        self.out.push(b'\n');
    }

    /// A sample with a whole number. `labels` is what [`label`] wrote, possibly nothing.
    pub(super) fn sample(&mut self, name: &str, labels: &[u8], value: u64) {
        self.series(name, labels);
        self.whole(value);
        self.out.push(b'\n');
    }

    /// A sample with a fraction.
    pub(super) fn fraction(&mut self, name: &str, labels: &[u8], value: f64) {
        self.series(name, labels);
        // Never in scientific notation, and with a point only where there is a fraction: both formats
        // take that.
        self.out.extend_from_slice(value.to_string().as_bytes());
        self.out.push(b'\n');
    }

    /// Name and labels, up to the value.
    pub(super) fn series(&mut self, name: &str, labels: &[u8]) {
        self.out.extend_from_slice(name.as_bytes());
        if !labels.is_empty() {
            self.out.push(b'{');
            self.out.extend_from_slice(labels);
            self.out.push(b'}');
        }
        self.out.push(b' ');
    }

    pub(super) fn whole(&mut self, value: u64) {
        self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// What ends a page.
    pub(super) fn end(&mut self) {
        if self.format == Format::OpenMetrics {
            self.out.extend_from_slice(b"# EOF\n");
        }
    }
}

/// Append `name="value"`, with a comma before it unless it is the first.
pub(super) fn label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// May a label have this name? Names with two underscores in front belong to Prometheus, `le` to
/// histograms.
pub(super) fn is_label_name(name: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_letter)
        && name.bytes().all(|byte| is_letter(byte) || byte.is_ascii_digit())
        && !name.starts_with("__")
        && name != "le"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_format_that_they_prefer() {
        for (accept, wanted) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/plain", Format::Prometheus),
            ("text/html,*/*;q=0.8", Format::Prometheus),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.2,text/plain;q=0.5", Format::Prometheus),
            ("application/openmetrics-text;q=x", Format::Prometheus),
            // As Prometheus 2.42 and 3 ask.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::negotiate(accept), wanted, "{accept}");
        }
    }

    #[test]
    fn names_of_labels_are_checked() {
        for good in ["a", "_a", "request_host", "A1"] {
            assert!(is_label_name(good), "{good}");
        }
        for bad in ["", "1a", "a-b", "a\"", "__name__", "le", "ä"] {
            assert!(!is_label_name(bad), "{bad}");
        }
    }
}
