//! From samples to tables, and to the figures that are required of Ringress.

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
}

impl Sample {
    /// The figures of an outcome; an error when it is none to be compared.
    pub(crate) fn from_outcome(outcome: &Outcome) -> Result<Self, String> {
        if outcome.errors > 0 || outcome.non_2xx > 0 {
            return Err(format!(
                "{} errors and {} responses other than 2xx among {}",
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
    pub(crate) samples: Vec<Sample>,
    /// Why there are no samples, or fewer than rounds.
    pub(crate) failure: Option<String>,
}

impl Row {
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
        ["subject", "requests/s", "user µs", "system µs", "total µs", "min–max"]
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
            thousands(row.median_of(|sample| sample.requests_per_s).unwrap_or_default()),
            us(row.median_of(|sample| sample.user_us)),
            us(row.median_of(|sample| sample.system_us)),
            format!("{total:.2}"),
            format!("{least:.2}–{most:.2}"),
        ];
        cells.extend(bases.iter().map(|base| ratio_text(ratio(Some(total), base.total_us()))));
        table.row(cells);
    }
    table.render(style) + &failures(rows.iter().map(|row| (&row.label, &row.failure)))
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

    fn row(label: &str, totals: &[f64]) -> Row {
        let samples = totals
            .iter()
            .map(|&total| Sample { requests_per_s: 1000.0, user_us: 1.0, system_us: total - 1.0 })
            .collect();
        Row { label: label.to_owned(), samples, failure: None }
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
        let sample = Sample::from_outcome(&outcome).expect("good");
        assert_eq!(sample, Sample { requests_per_s: 250_000.0, user_us: 1.0, system_us: 3.0 });
        for bad in [
            Outcome { errors: 1, ..outcome },
            Outcome { non_2xx: 1, ..outcome },
            Outcome { requests: 0, ..outcome },
        ] {
            assert!(Sample::from_outcome(&bad).is_err());
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
    fn a_row_without_samples_says_why() {
        let mut missing = row("envoy", &[]);
        missing.failure = Some("not installed".to_owned());
        let text = cpu_table(&[missing], &[], Style::Markdown);
        assert!(text.contains("| envoy   |          – |"), "{text}");
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
