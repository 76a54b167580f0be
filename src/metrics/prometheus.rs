//! The exposition: Prometheus text format 0.0.4 or OpenMetrics 1.0, in pieces.

mod istio;
mod own;
mod series_labels;

use std::time::Duration;

use self::istio::HttpFamilies;
use self::series_labels::Source;
use super::reading::Reading;
use super::slo_metrics;
use super::text::{Format, Writer};

/// A piece is at least this long, unless it is the last one. It stays in the cache of a core.
const PIECE_BYTES: usize = 64 * 1024;
/// Room for the series that goes over the end of a piece: three histograms' worth of long labels.
const PIECE_SLACK: usize = 32 * 1024;

/// What of a page is written next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Requests,
    Others,
    Own,
    Clusters,
    Over,
}

/// A page in the making. It is an iterator over its pieces.
pub struct Exposition {
    reading: Reading,
    format: Format,
    source: Source,
    requests: HttpFamilies,
    part: Part,
    /// Show Envoy's names too; the time since the process started.
    envoy: Option<Duration>,
}

impl Exposition {
    /// The page of `reading`.
    pub fn new(reading: Reading, format: Format) -> Exposition {
        Exposition {
            source: Source::new(reading.source.clone()),
            reading,
            format,
            requests: HttpFamilies::default(),
            part: Part::Requests,
            envoy: None,
        }
    }

    /// Show what Envoy has a name for under that, too. `uptime`: time since the process started.
    pub fn with_envoy_names(self, uptime: Duration) -> Exposition {
        Exposition { envoy: Some(uptime), ..self }
    }
}

impl Iterator for Exposition {
    type Item = Vec<u8>;

    /// The next piece: whole lines, never empty.
    fn next(&mut self) -> Option<Vec<u8>> {
        let mut writer = Writer::new(self.format, PIECE_BYTES + PIECE_SLACK);
        while self.part != Part::Over && writer.out.len() < PIECE_BYTES {
            self.part = match self.part {
                Part::Requests => {
                    let (reading, source) = (&self.reading, &self.source);
                    let more = self.requests.write(&mut writer, reading, source, PIECE_BYTES);
                    if more { Part::Requests } else { Part::Others }
                }
                Part::Others => {
                    istio::others(&mut writer, &self.reading, &self.source);
                    Part::Own
                }
                Part::Own => {
                    own::workers(&mut writer, &self.reading);
                    own::control(&mut writer, &self.reading);
                    own::process(&mut writer, &self.reading);
                    Part::Clusters
                }
                Part::Clusters | Part::Over => {
                    own::clusters(&mut writer, &self.reading);
                    slo_metrics::write(&mut writer, &self.reading.slos);
                    if let Some(uptime) = self.envoy {
                        own::envoy(&mut writer, &self.reading, uptime.as_secs());
                    }
                    writer.end();
                    Part::Over
                }
            };
        }
        (!writer.out.is_empty()).then_some(writer.out)
    }
}

#[cfg(test)]
mod tests;
