//! The result of a run, as it is stored and read again.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::hlog;
use crate::machine::Machine;
use crate::plan::PlanRecord;
use crate::record::{Measure, Tally};
use crate::units::show_nanos;

/// Layout of the document; it changes when a reader must.
pub(crate) const SCHEMA: u32 = 1;

/// The percentiles that are told.
pub(crate) const PERCENTILES: [f64; 7] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// A percentile is founded on at least so many values beyond it; with fewer its value is chance.
pub(crate) const BEYOND_ENOUGH: u64 = 10;

/// What made the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Git revision of its sources.
    pub(crate) revision: String,
}

impl Tool {
    /// This one.
    pub(crate) fn this() -> Tool {
        Tool {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: env!("LOAD_REVISION").to_owned(),
        }
    }
}

/// A percentile of a measure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentile {
    /// From 0 to 100.
    pub(crate) percentile: f64,
    pub(crate) nanoseconds: u64,
    /// Values beyond it.
    pub(crate) beyond: u64,
    /// Whether these are enough for the figure to mean something.
    pub(crate) founded: bool,
}

/// A value on the screen, marked with a tilde where too few samples lie beyond it to be more than chance.
pub(crate) fn show_founded(nanoseconds: u64, founded: bool) -> String {
    format!("{}{}", if founded { "" } else { "~" }, show_nanos(nanoseconds))
}

/// What the mark of [`show_founded`] means.
pub(crate) fn mark_explained() -> String {
    format!("~ too few samples for this percentile: fewer than {BEYOND_ENOUGH} lie beyond it")
}

impl Percentile {
    /// For people, with the mark of [`show_founded`].
    pub(crate) fn shown(&self) -> String {
        show_founded(self.nanoseconds, self.founded)
    }
}

/// One kind of times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Times {
    pub(crate) count: u64,
    pub(crate) mean_nanoseconds: f64,
    pub(crate) deviation_nanoseconds: f64,
    pub(crate) min_nanoseconds: u64,
    pub(crate) max_nanoseconds: u64,
    pub(crate) percentiles: Vec<Percentile>,
    /// HdrHistogram V2, compressed, base64; values in nanoseconds.
    pub(crate) histogram: String,
}

impl Times {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Times {
        let count = histogram.len();
        let percentiles = PERCENTILES.map(|percentile| {
            let beyond = values_beyond(count, percentile);
            Percentile {
                percentile,
                nanoseconds: histogram.value_at_quantile(percentile / 100.0),
                beyond,
                founded: beyond >= BEYOND_ENOUGH,
            }
        });
        Times {
            count,
            mean_nanoseconds: histogram.mean(),
            deviation_nanoseconds: histogram.stdev(),
            min_nanoseconds: if count == 0 { 0 } else { histogram.min() },
            max_nanoseconds: histogram.max(),
            percentiles: percentiles.to_vec(),
            histogram: hlog::encode(histogram),
        }
    }

    /// One of [`PERCENTILES`].
    pub(crate) fn percentile(&self, percentile: f64) -> Option<&Percentile> {
        self.percentiles.iter().find(|found| found.percentile == percentile)
    }

    /// One of [`PERCENTILES`] for people, with the mark of [`show_founded`].
    pub(crate) fn shown(&self, percentile: f64) -> String {
        self.percentile(percentile).map_or_else(String::new, Percentile::shown)
    }

    /// Is one of the percentiles marked?
    pub(crate) fn has_unfounded(&self) -> bool {
        self.percentiles.iter().any(|found| !found.founded)
    }

    /// The value at one of [`PERCENTILES`].
    pub(crate) fn at(&self, percentile: f64) -> u64 {
        self.percentile(percentile).map_or(0, |found| found.nanoseconds)
    }
}

/// Do so many values found a percentile?
pub(crate) fn is_founded(count: u64, percentile: f64) -> bool {
    values_beyond(count, percentile) >= BEYOND_ENOUGH
}

/// How many of so many values lie beyond a percentile.
pub(crate) fn values_beyond(count: u64, percentile: f64) -> u64 {
    // The small amount makes up for percentiles that binary fractions do not hit.
    (count as f64 * (100.0 - percentile) / 100.0 + 1e-6) as u64
}

/// A second of the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// From the start of the measured time.
    pub(crate) start_seconds: f64,
    pub(crate) length_seconds: f64,
    pub(crate) completed: u64,
    pub(crate) failed: u64,
    /// Latencies that the following are of.
    #[serde(default)]
    pub(crate) samples: u64,
    /// Of the latency, nanoseconds.
    pub(crate) p50: u64,
    /// Whether enough values lie beyond it for the figure to mean something.
    #[serde(default)]
    pub(crate) p50_founded: bool,
    pub(crate) p99: u64,
    /// As of p50.
    #[serde(default)]
    pub(crate) p99_founded: bool,
    pub(crate) max: u64,
}

impl Second {
    /// The second's latencies.
    pub(crate) fn of(
        start_seconds: f64,
        length_seconds: f64,
        (completed, failed): (u64, u64),
        latency: &Histogram<u64>,
    ) -> Second {
        let samples = latency.len();
        Second {
            start_seconds,
            length_seconds,
            completed,
            failed,
            samples,
            p50: latency.value_at_quantile(0.5),
            p50_founded: is_founded(samples, 50.0),
            p99: latency.value_at_quantile(0.99),
            p99_founded: is_founded(samples, 99.0),
            max: latency.max(),
        }
    }
}

/// How a worker fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerShare {
    /// The core that it was bound to.
    pub(crate) core: Option<usize>,
    /// Part of the measured time that it ran, 0 to 1.
    pub(crate) busy: f64,
    /// Part of the measured time that it wanted to run while something else did.
    pub(crate) waited: f64,
}

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Requests that fell due.
    pub(crate) offered: u64,
    /// Responses that passed their checks.
    pub(crate) completed: u64,
    /// By kind, those that happened.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Due, but never sent: all connections were busy to the end.
    pub(crate) unstarted: u64,
    /// Latencies that are at least what was recorded: unstarted, unfinished, timed out.
    pub(crate) lower_bounds: u64,
    /// Connections opened.
    pub(crate) connections: u64,
    /// Of these, by resuming a TLS session.
    #[serde(default)]
    pub(crate) resumed: u64,
    /// Bytes that came on the connections in the measured time, with heads and framing, without those of TLS.
    pub(crate) bytes: u64,
    /// Bytes of the bodies of completed responses.
    #[serde(default)]
    pub(crate) body_bytes: u64,
    /// How often each status came.
    pub(crate) statuses: BTreeMap<u16, u64>,
}

impl Counts {
    pub(crate) fn of(tally: &Tally) -> Counts {
        let failed = Failure::ALL.into_iter().map(|kind| (kind.name(), tally.failed(kind)));
        Counts {
            offered: tally.offered(),
            completed: tally.completed,
            failed: failed
                .filter(|&(_, count)| count > 0)
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            unstarted: tally.unstarted,
            lower_bounds: tally.lower_bounds,
            connections: tally.connections,
            resumed: tally.resumed,
            bytes: tally.bytes,
            body_bytes: tally.body_bytes,
            statuses: tally.statuses.iter().copied().collect(),
        }
    }

    /// Failures of all kinds.
    pub(crate) fn all_failed(&self) -> u64 {
        self.failed.values().sum()
    }
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Gravity {
    /// Good to know.
    Note,
    /// The figures say less than they seem to.
    Warning,
    /// The figures are those of the generator, not of the target.
    Invalid,
}

/// Something to know about a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) gravity: Gravity,
    pub(crate) text: String,
}

/// A run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunResult {
    pub(crate) schema: u32,
    pub(crate) tool: Tool,
    pub(crate) machine: Machine,
    /// What the run is called in comparisons.
    pub(crate) label: String,
    /// UTC.
    pub(crate) started: String,
    pub(crate) command: Vec<String>,
    /// What the workers' input and output ran on.
    pub(crate) driver: String,
    pub(crate) plan: PlanRecord,
    /// Somebody ended it early.
    pub(crate) interrupted: bool,
    /// Length of the measured time.
    pub(crate) measured_seconds: f64,
    pub(crate) counts: Counts,
    /// Responses per second that were complete before the end.
    pub(crate) completed_rate: f64,
    /// By [`Measure::name`].
    pub(crate) times: BTreeMap<String, Times>,
    /// Latency by the name of the request, when there are several.
    pub(crate) by_request: BTreeMap<String, Times>,
    pub(crate) seconds: Vec<Second>,
    pub(crate) workers: Vec<WorkerShare>,
    pub(crate) findings: Vec<Finding>,
}

impl RunResult {
    pub(crate) fn times(&self, measure: Measure) -> Option<&Times> {
        self.times.get(measure.name())
    }

    /// Nothing speaks against the figures being the target's.
    pub(crate) fn is_valid(&self) -> bool {
        self.findings.iter().all(|finding| finding.gravity != Gravity::Invalid)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::plan::{Circumstances, Plan};
    use crate::profile::Profile;
    use crate::record::new_histogram;
    use crate::schedule::Rate;
    use crate::settings::Settings;
    use crate::target::Target;

    /// A made-up open-loop run whose latencies spread evenly up to `longest` nanoseconds.
    pub(crate) fn run(count: u64, longest: u64) -> RunResult {
        let settings = Settings {
            target: Target::parse("http://127.0.0.1:8080/").ok(),
            rate: Rate::per_second(1000.0).map(Profile::Constant),
            ..Settings::default()
        };
        let plan = Plan::new(settings, Circumstances::default()).expect("a plan");
        let mut histogram = new_histogram();
        for step in 1..=count {
            histogram.record((longest * step / count).max(1)).expect("in range");
        }
        let latency = Times::of(&histogram);
        let second = Second::of(0.0, 1.0, (count, 0), &histogram);
        RunResult {
            schema: SCHEMA,
            tool: Tool::this(),
            machine: Machine::default(),
            label: "a run".to_owned(),
            started: "2026-01-01T00:00:00Z".to_owned(),
            command: vec!["ringress-load".to_owned()],
            driver: "epoll".to_owned(),
            plan: plan.record(),
            interrupted: false,
            measured_seconds: 1.0,
            counts: Counts { offered: count, completed: count, ..Counts::default() },
            completed_rate: count as f64,
            times: [("latency".to_owned(), latency)].into(),
            by_request: BTreeMap::new(),
            seconds: vec![second],
            workers: vec![WorkerShare { core: Some(0), busy: 0.1, waited: 0.0 }],
            findings: Vec::new(),
        }
    }

    #[test]
    fn percentiles_know_how_well_founded_they_are() {
        assert_eq!(values_beyond(1000, 99.9), 1);
        assert_eq!(values_beyond(1_000_000, 99.999), 10);
        assert_eq!(values_beyond(0, 50.0), 0);
        let mut histogram = new_histogram();
        for value in 1..=1000_u64 {
            histogram.record(value).expect("in range");
        }
        let times = Times::of(&histogram);
        assert_eq!((times.at(50.0), times.at(99.0)), (500, 990));
        let founded: Vec<_> = times.percentiles.iter().map(|found| found.founded).collect();
        assert_eq!(founded, [true, true, true, true, false, false, false]);
        assert_eq!(hlog::decode(&times.histogram), Ok(histogram));
    }
}
