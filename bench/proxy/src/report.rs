//! From samples to tables, and to the figures that are required of Ringress.

use crate::distance::Range;
use crate::load::Outcome;
use crate::subject::Subject;
use crate::sys::ticks_per_second;
use crate::table::{Style, Table, median, thousands};

/// One window of load on one subject.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    pub(crate) requests_per_s: f64,
    pub(crate) user_us: f64,
    pub(crate) system_us: f64,
    /// How far the two cores were apart meanwhile, if it could be read.
    pub(crate) distance: Option<Range>,
}

impl Sample {
    /// The figures of an outcome; an error when it is none to be compared.
    pub(crate) fn from_outcome(outcome: &Outcome, distance: Option<Range>) -> Result<Self, String> {
        if outcome.errors > 0 || outcome.non_2xx > 0 {
            return Err(format!(
                "{} errors and {} responses without success (2xx, in gRPC 0 at the end) among {}",
                outcome.errors, outcome.non_2xx, outcome.total
            ));
        }
        if outcome.requests == 0 {
            return Err("no response within the window".to_owned());
        }
        let requests = outcome.requests as f64;
        let us = |ticks: u64| ticks as f64 / ticks_per_second() * 1e6 / requests;
        Ok(Self {
            requests_per_s: requests / outcome.seconds,
            user_us: us(outcome.cpu.user),
            system_us: us(outcome.cpu.system),
            distance,
        })
    }

    fn total_us(&self) -> f64 {
        self.user_us + self.system_us
    }
}

/// The samples of one row, over the rounds.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) label: String,
    /// Those that count.
    pub(crate) samples: Vec<Sample>,
    /// Those taken while the cores were farther apart than for `samples`, all the time.
    pub(crate) far: Vec<Sample>,
    /// Why there are no samples, or fewer than rounds.
    pub(crate) failure: Option<String>,
}

/// The distance at which most samples were taken, ns.
pub(crate) fn usual_distance_ns<'a>(samples: impl Iterator<Item = &'a Sample>) -> Option<f64> {
    let least = samples.filter_map(|sample| sample.distance).map(|range| range.least_ns);
    median(&least.collect::<Vec<_>>())
}

impl Row {
    /// A row for what was measured under one label; `usual_ns` is the table's usual distance.
    pub(crate) fn new(
        label: String,
        measured: &[Sample],
        usual_ns: Option<f64>,
        failure: Option<String>,
    ) -> Self {
        let chosen = |wanted: fn(Range, f64) -> bool, unread: bool| {
            let is_wanted = |sample: &&Sample| match (sample.distance, usual_ns) {
                (Some(range), Some(usual_ns)) => wanted(range, usual_ns),
                _ => unread,
            };
            measured.iter().filter(is_wanted).copied().collect()
        };
        Self {
            label,
            samples: chosen(Range::is_usual, true),
            far: chosen(Range::is_farther, false),
            failure,
        }
    }

    fn median_of(&self, figure: impl Fn(&Sample) -> f64) -> Option<f64> {
        median(&self.samples.iter().map(figure).collect::<Vec<_>>())
    }

    /// Median CPU time per request, µs.
    pub(crate) fn total_us(&self) -> Option<f64> {
        self.median_of(Sample::total_us)
    }
}

/// CPU per request, with the ratio of every row to those whose label is in `against`.
pub(crate) fn cpu_table(rows: &[Row], against: &[String], style: Style) -> String {
    let mut header: Vec<String> =
        ["subject", "windows", "requests/s", "user µs", "system µs", "total µs", "min–max"]
            .map(str::to_owned)
            .to_vec();
    let bases: Vec<&Row> = against
        .iter()
        .filter_map(|label| rows.iter().find(|row| row.label == *label))
        .filter(|row| row.total_us().is_some())
        .collect();
    header.extend(bases.iter().map(|row| format!("/ {}", row.label)));
    let mut table = Table::new(header);
    for row in rows {
        let Some(total) = row.total_us() else {
            table.row(vec![row.label.clone(), "–".to_owned()]);
            continue;
        };
        let totals: Vec<f64> = row.samples.iter().map(Sample::total_us).collect();
        let least = totals.iter().copied().fold(f64::INFINITY, f64::min);
        let most = totals.iter().copied().fold(0.0, f64::max);
        let us = |value: Option<f64>| format!("{:.2}", value.unwrap_or_default());
        let mut cells = vec![
            row.label.clone(),
            row.samples.len().to_string(),
            thousands(row.median_of(|sample| sample.requests_per_s).unwrap_or_default()),
            us(row.median_of(|sample| sample.user_us)),
            us(row.median_of(|sample| sample.system_us)),
            format!("{total:.2}"),
            format!("{least:.2}–{most:.2}"),
        ];
        cells.extend(bases.iter().map(|base| ratio_text(ratio(Some(total), base.total_us()))));
        table.row(cells);
    }
    table.render(style)
        + &distances(rows)
        + &failures(rows.iter().map(|row| (&row.label, &row.failure)))
}

/// Says at what distance the samples of a table were taken, and what those farther apart gave.
fn distances(rows: &[Row]) -> String {
    let ranges = || rows.iter().flat_map(|row| &row.samples).filter_map(|sample| sample.distance);
    let (Some(least), Some(most)) = (
        ranges().map(|range| range.least_ns).reduce(f64::min),
        ranges().map(|range| range.most_ns).reduce(f64::max),
    ) else {
        return "\nThe distance of the two cores could not be read.\n".to_owned();
    };
    let mut text =
        format!("\nA cache line took {least:.0} to {most:.0} ns between the two cores.\n");
    let far: Vec<String> = rows
        .iter()
        .filter(|row| !row.far.is_empty())
        .map(|row| {
            let totals: Vec<f64> = row.far.iter().map(Sample::total_us).collect();
            let median = median(&totals).unwrap_or_default();
            format!("{} {median:.2} µs ({})", row.label, totals.len())
        })
        .collect();
    if !far.is_empty() {
        let distances = rows.iter().flat_map(|row| &row.far).filter_map(|sample| sample.distance);
        let distance_ns = distances.map(|range| range.least_ns).reduce(f64::min);
        text.push_str(&format!(
            "Left out, from {:.0} ns on, with the number of windows: {}.\n",
            distance_ns.unwrap_or_default(),
            far.join(", ")
        ));
    }
    text
}

/// Memory of one subject over the rounds, each before and with the idle connections.
#[derive(Debug, Clone)]
pub(crate) struct IdleRow {
    pub(crate) subject: Subject,
    /// Resident bytes before, and with all connections idle.
    pub(crate) samples: Vec<(u64, u64)>,
    pub(crate) failure: Option<String>,
}

impl IdleRow {
    /// Median growth of resident memory per connection, bytes.
    pub(crate) fn bytes_per_connection(&self, connections: usize) -> Option<f64> {
        let growth: Vec<f64> = self
            .samples
            .iter()
            .map(|&(before, with)| (with as f64 - before as f64) / connections as f64)
            .collect();
        median(&growth)
    }
}

/// Memory per idle connection.
pub(crate) fn idle_table(rows: &[IdleRow], connections: usize, style: Style) -> String {
    let held = format!("with {} idle, KiB", thousands(connections as f64));
    let mut table = Table::new(["subject", "resident before, KiB", &held, "bytes per connection"]);
    for row in rows {
        let label = row.subject.name().to_owned();
        let Some(bytes) = row.bytes_per_connection(connections) else {
            table.row(vec![label, "–".to_owned()]);
            continue;
        };
        let kib = |figure: fn(&(u64, u64)) -> u64| {
            let values: Vec<f64> =
                row.samples.iter().map(|sample| figure(sample) as f64 / 1024.0).collect();
            thousands(median(&values).unwrap_or_default())
        };
        let (before, with) = (kib(|sample| sample.0), kib(|sample| sample.1));
        table.row(vec![label, before, with, thousands(bytes)]);
    }
    let names: Vec<String> = rows.iter().map(|row| row.subject.name().to_owned()).collect();
    table.render(style) + &failures(names.iter().zip(rows.iter().map(|row| &row.failure)))
}

/// A line for each row that lacks samples, after a blank one.
fn failures<'a>(rows: impl Iterator<Item = (&'a String, &'a Option<String>)>) -> String {
    let mut text = String::new();
    for (label, failure) in rows {
        if let Some(failure) = failure {
            text.push_str(&format!("\n{label}: {failure}\n"));
        }
    }
    text
}

/// One over the other; `None` when either is missing.
pub(crate) fn ratio(value: Option<f64>, base: Option<f64>) -> Option<f64> {
    let base = base.filter(|base| *base > 0.0)?;
    Some(value? / base)
}

fn ratio_text(ratio: Option<f64>) -> String {
    ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"))
}

/// A figure that is required of Ringress: what it is, the most it may be, what it was.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Required {
    pub(crate) figure: &'static str,
    pub(crate) limit: f64,
    /// `None`: not measured in this run.
    pub(crate) measured: Option<f64>,
}

/// Required figures against measured ones.
pub(crate) fn required_table(figures: &[Required], style: Style) -> String {
    let mut table = Table::new(["required of ringress", "must be", "measured", ""]);
    for figure in figures {
        let number = |value: f64| {
            if figure.limit >= 100.0 { thousands(value) } else { format!("{value:.2}") }
        };
        let (measured, verdict) = match figure.measured {
            None => ("not measured".to_owned(), ""),
            Some(value) if value <= figure.limit => (number(value), "met"),
            Some(value) => (number(value), "**missed**"),
        };
        table.row(vec![
            figure.figure.to_owned(),
            format!("≤ {}", number(figure.limit)),
            measured,
            verdict.to_owned(),
        ]);
    }
    table.render(style)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc_stat::CpuTicks;

    fn sample(total: f64, distance: Option<(f64, f64)>) -> Sample {
        let distance = distance.map(|(least_ns, most_ns)| Range { least_ns, most_ns });
        Sample { requests_per_s: 1000.0, user_us: 1.0, system_us: total - 1.0, distance }
    }

    fn row(label: &str, totals: &[f64]) -> Row {
        let samples = totals.iter().map(|&total| sample(total, None)).collect::<Vec<_>>();
        Row::new(label.to_owned(), &samples, None, None)
    }

    #[test]
    fn a_sample_divides_ticks_by_requests() {
        let ticks = ticks_per_second() as u64;
        let outcome = Outcome {
            requests: 1_000_000,
            seconds: 4.0,
            cpu: CpuTicks { user: ticks, system: 3 * ticks },
            total: 1_000_064,
            ..Outcome::default()
        };
        let sample = Sample::from_outcome(&outcome, None).expect("good");
        let (user_us, system_us) = (1.0, 3.0);
        let expected = Sample { requests_per_s: 250_000.0, user_us, system_us, distance: None };
        assert_eq!(sample, expected);
        for bad in [
            Outcome { errors: 1, ..outcome },
            Outcome { non_2xx: 1, ..outcome },
            Outcome { requests: 0, ..outcome },
        ] {
            assert!(Sample::from_outcome(&bad, None).is_err());
        }
    }

    #[test]
    fn ratios_are_those_of_the_medians() {
        let rows = [row("floor", &[4.0, 100.0, 5.0]), row("nginx", &[10.0, 1.0, 99.0])];
        let text = cpu_table(&rows, &["floor".into(), "envoy".into()], Style::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("/ floor"), "an absent base has no column: {text}");
        assert!(lines[1].ends_with("5.00  4.00–100.00     1.00"), "{text}");
        assert!(lines[2].ends_with("2.00"), "{text}");
    }

    #[test]
    fn windows_count_when_the_cores_stayed_where_they_mostly_are() {
        let measured = [
            sample(10.0, Some((32.0, 40.0))),
            sample(14.0, Some((164.0, 170.0))),
            sample(12.0, Some((33.0, 165.0))),
        ];
        let usual_ns = usual_distance_ns(measured.iter());
        assert_eq!(usual_ns, Some(33.0));
        let row = Row::new("floor".into(), &measured, usual_ns, None);
        assert_eq!((row.samples.len(), row.far.len()), (1, 1), "one moved and is neither");
        let text = cpu_table(&[row], &[], Style::Plain);
        assert!(text.contains("took 32 to 40 ns"), "{text}");
        assert!(text.contains("from 164 ns on, with the number of windows: floor 14.00 µs (1)."));
    }

    #[test]
    fn a_row_without_samples_says_why() {
        let mut missing = row("envoy", &[]);
        missing.failure = Some("not installed".to_owned());
        let text = cpu_table(&[missing], &[], Style::Markdown);
        assert!(text.contains("| envoy   |       – |"), "{text}");
        assert!(text.contains("\nenvoy: not installed\n"), "{text}");
    }

    #[test]
    fn idle_memory_is_growth_per_connection() {
        let row = IdleRow {
            subject: Subject::Nginx,
            samples: vec![(1000, 3000), (1000, 2000), (1000, 9000)],
            failure: None,
        };
        assert_eq!(row.bytes_per_connection(10), Some(200.0));
        assert!(idle_table(&[row], 10, Style::Plain).contains("200"));
    }

    #[test]
    fn verdicts_follow_the_limit() {
        let figure = |measured| Required { figure: "x", limit: 1.25, measured };
        let text =
            required_table(&[figure(Some(1.25)), figure(Some(1.26)), figure(None)], Style::Plain);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("met") && lines[2].ends_with("missed**"), "{text}");
        assert!(lines[3].ends_with("not measured"), "{text}");
        assert_eq!(ratio(Some(3.0), Some(0.0)), None);
        assert_eq!(ratio(Some(3.0), Some(2.0)), Some(1.5));
    }
}
