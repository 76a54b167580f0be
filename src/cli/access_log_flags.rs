//! The options of `ringress run` that say how access log lines look, and which there are.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use crate::access_log::{AccessLogFormat, AccessLogSettings, Filter, Template, TemplateError};
use crate::config::log_template::{self, LogTemplateError};

/// A whole, in the millionths that shares are written in.
const PPM: u32 = 1_000_000;

/// What `ringress run` is told about access log lines.
#[derive(Clone, Debug, Args)]
pub struct AccessLogFlags {
    /// Form of access log lines.
    #[arg(long = "access-log-format", value_enum, default_value_t = LogFormat::Text)]
    format: LogFormat,

    /// Lines of this form, with Envoy's command operators (`meshConfig.accessLogFormat`): a text, or with
    /// `--access-log-format json` a JSON object.
    #[arg(long = "access-log-format-string", value_name = "FORMAT")]
    format_string: Option<String>,

    /// The same from a file.
    #[arg(long = "access-log-format-file", value_name = "FILE", conflicts_with = "format_string")]
    format_file: Option<PathBuf>,

    /// Log only requests for which this is true, an expression in CEL such as `response.code >= 400 ||
    /// request.duration > duration('1s')`. A filter of a Telemetry stands in its place.
    #[arg(long = "access-log-filter", value_name = "EXPRESSION", value_parser = parse_filter)]
    filter: Option<Box<Filter>>,

    /// Log this share of the requests that would be logged: `0.01` or `1%`, drawn for each.
    #[arg(long = "access-log-sample", value_name = "SHARE", default_value = "1",
          value_parser = parse_share)]
    sample: Share,
}

/// `--access-log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Istio's default text line.
    Text,
    /// Istio's JSON object.
    Json,
}

/// A share in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share(u32);

/// Why lines cannot have the form that is asked for.
#[derive(Debug, thiserror::Error)]
pub enum LogFormatError {
    /// The file cannot be read.
    #[error(
        "cannot read the format of the access log, {path}: {error}; check --access-log-format-file"
    )]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no JSON object.
    #[error(
        "the format of the access log is no JSON object: {0}; mend it, or leave out --access-log-format json"
    )]
    Json(#[from] LogTemplateError),
    /// An operator is not known.
    #[error(
        "the format of the access log, {0}; mend --access-log-format-string or --access-log-format-file"
    )]
    Template(#[from] TemplateError),
}

impl AccessLogFlags {
    /// What is logged, and how. `on`: also when no Telemetry asks for it.
    ///
    /// # Errors
    /// See [`LogFormatError`].
    pub fn settings(&self, on: bool) -> Result<AccessLogSettings, LogFormatError> {
        Ok(AccessLogSettings {
            format: self.line_format()?,
            on,
            filter: self.filter.as_deref().cloned(),
            sample_ppm: self.sample.0,
        })
    }

    fn line_format(&self) -> Result<AccessLogFormat, LogFormatError> {
        let text = match (&self.format_string, &self.format_file) {
            (Some(text), _) => Some(text.clone()),
            (None, Some(path)) => Some(read(path)?),
            (None, None) => None,
        };
        let template = match (self.format, text) {
            (LogFormat::Text, None) => return Ok(AccessLogFormat::Text),
            (LogFormat::Json, None) => return Ok(AccessLogFormat::Json),
            (LogFormat::Text, Some(text)) => Template::text(&text)?,
            (LogFormat::Json, Some(text)) => Template::json(&log_template::read(&text)?)?,
        };
        Ok(AccessLogFormat::Custom(Box::new(template)))
    }
}

fn read(path: &Path) -> Result<String, LogFormatError> {
    std::fs::read_to_string(path)
        .map_err(|error| LogFormatError::File { path: path.to_owned(), error })
}

fn parse_filter(text: &str) -> Result<Box<Filter>, String> {
    Filter::parse(text).map(Box::new).map_err(|error| error.to_string())
}

/// `0.01`, `1%`.
fn parse_share(text: &str) -> Result<Share, String> {
    let (number, whole) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| number / whole);
    match share.filter(|share| (0.0..=1.0).contains(share)) {
        Some(share) => Ok(Share((share * f64::from(PPM)).round() as u32)),
        None => Err(format!("`{text}` is no share: from 0 to 1, or from 0% to 100%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_numbers_or_per_cent() {
        for (text, ppm) in
            [("1", 1_000_000), ("0.01", 10_000), ("1%", 10_000), ("0", 0), ("2.5%", 25_000)]
        {
            assert_eq!(parse_share(text), Ok(Share(ppm)), "{text}");
        }
        for bad in ["", "2", "101%", "-1", "NaN", "one", "%"] {
            assert!(parse_share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn formats_are_read_from_text_and_json() {
        let flags = |format, text: &str| AccessLogFlags {
            format,
            format_string: Some(text.to_owned()),
            format_file: None,
            filter: None,
            sample: Share(PPM),
        };
        for (format, text) in
            [(LogFormat::Text, "%PROTOCOL%"), (LogFormat::Json, "{\"p\": \"%PROTOCOL%\"}")]
        {
            let settings = flags(format, text).settings(true).expect("known");
            assert!(matches!(settings.format, AccessLogFormat::Custom(_)));
        }
        for (format, text, part) in [
            (LogFormat::Text, "a %NOPE%", "column 3: `%NOPE%`"),
            (LogFormat::Json, "{\"a\": {\"b\": \"%NOPE%\"}}", "`a.b`, column 1: `%NOPE%`"),
            (LogFormat::Json, "%PROTOCOL%", "no JSON object"),
        ] {
            let error = flags(format, text).settings(true).expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
        let missing = AccessLogFlags {
            format_string: None,
            format_file: Some("/nonexistent/format".into()),
            ..flags(LogFormat::Text, "")
        };
        assert!(
            missing
                .settings(true)
                .expect_err("no file")
                .to_string()
                .contains("/nonexistent/format")
        );
    }
}
