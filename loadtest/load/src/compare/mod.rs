//! `compare`: several runs side by side, and what repeated rounds allow to say about their difference.

mod input;
mod report;

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use self::input::{Group, InputError, Round};
use crate::chart::{self, Series};
use crate::hgrm::Point;
use crate::options::CompareOptions;
use crate::record::Measure;
use crate::result::{BEYOND_ENOUGH, PERCENTILES, mark_explained, values_beyond};

/// Points of a curve for each nine.
const STEPS: u32 = 20;

/// Why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// A run.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The page.
    #[error("{}: {error}", .path.display())]
    Output {
        /// Its file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// A percentile of a group's rounds, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Spread {
    median: f64,
    low: f64,
    high: f64,
    /// Values beyond the percentile, in the round that has the fewest.
    beyond: u64,
}

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
struct Row {
    percentile: f64,
    /// By group.
    spreads: Vec<Spread>,
    /// The group that is lowest in all of its rounds against all rounds of the others.
    best: Option<usize>,
}

/// What is known of a group beside its latencies.
#[derive(Clone, Debug, Serialize)]
struct Head {
    label: String,
    rounds: usize,
    /// How sure it is that the true median lies within the range of the rounds, 0 to 1.
    confidence: f64,
    samples: u64,
    /// Completed per second, median of the rounds that say it.
    completed_rate: Option<f64>,
    failed: Option<u64>,
    /// Rounds that were limited by the generator.
    invalid: usize,
}

/// A comparison.
#[derive(Clone, Debug, Serialize)]
struct Comparison {
    measure: String,
    groups: Vec<Head>,
    rows: Vec<Row>,
    #[serde(skip)]
    series: Vec<Series>,
    #[serde(skip)]
    nines: f64,
    /// What is to be known before anything is concluded.
    remarks: Vec<String>,
}

/// Reads the runs and shows how they compare.
pub(crate) fn run(options: &CompareOptions) -> Result<(), CompareError> {
    let measure = if options.service_time { Measure::Service } else { Measure::Latency };
    let groups = input::read(&options.runs, measure)?;
    let comparison = Comparison::of(&groups, measure);
    if options.json {
        // Keys are strings and numbers are finite: nothing can fail.
        println!("{}", serde_json::to_string_pretty(&comparison).unwrap_or_default());
    } else {
        print!("{}", report::text(&comparison));
    }
    if let Some(path) = &options.out {
        fs::write(path, report::html(&comparison))
            .map_err(|error| CompareError::Output { path: path.clone(), error })?;
        eprintln!("written: {}", path.display());
    }
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => (values[count / 2 - 1] + values[count / 2]) / 2.0,
    }
}

/// The median of what the rounds are a sample of lies below all of them, or above all of them, with a
/// chance of one half each time: it lies between the lowest and the highest with this probability.
fn confidence(rounds: usize) -> f64 {
    if rounds < 2 { 0.0 } else { 1.0 - 0.5_f64.powi(rounds as i32 - 1) }
}

impl Group {
    fn spread(&self, quantile: f64) -> Spread {
        let mut values: Vec<_> = self.rounds.iter().map(|round| round.at(quantile)).collect();
        let median = median(&mut values);
        let beyond = |round: &Round| values_beyond(round.count, quantile * 100.0);
        Spread {
            median,
            low: values.first().copied().unwrap_or(0.0),
            high: values.last().copied().unwrap_or(0.0),
            beyond: self.rounds.iter().map(beyond).min().unwrap_or(0),
        }
    }

    fn series(&self, nines: f64) -> Series {
        let steps = (nines * f64::from(STEPS)) as u32;
        let mut points = Vec::new();
        let mut band = Vec::new();
        for step in 0..=steps {
            let quantile = 1.0 - 10_f64.powf(-f64::from(step) / f64::from(STEPS));
            let spread = self.spread(quantile);
            points.push(Point { quantile, value: spread.median });
            if self.rounds.len() > 1 {
                band.push((quantile, spread.low, spread.high));
            }
        }
        Series { label: self.label.clone(), points, band }
    }

    fn head(&self) -> Head {
        let mut rates: Vec<_> = self.rounds.iter().filter_map(|round| round.rate).collect();
        let failed: Vec<_> = self.rounds.iter().filter_map(|round| round.failed).collect();
        Head {
            label: self.label.clone(),
            rounds: self.rounds.len(),
            confidence: confidence(self.rounds.len()),
            samples: self.rounds.iter().map(|round| round.count).sum(),
            completed_rate: (!rates.is_empty()).then(|| median(&mut rates)),
            failed: (!failed.is_empty()).then(|| failed.iter().sum()),
            invalid: self.rounds.iter().filter(|round| !round.valid).count(),
        }
    }
}

impl Spread {
    /// Do enough values lie beyond it in every round for it to mean something? Of the maximum nothing is asked.
    fn is_founded(&self, percentile: f64) -> bool {
        percentile >= 100.0 || self.beyond >= BEYOND_ENOUGH
    }
}

/// The group whose highest value lies below the lowest of every other.
fn best(spreads: &[Spread]) -> Option<usize> {
    let (index, lowest) = spreads
        .iter()
        .enumerate()
        .min_by(|(_, one), (_, other)| one.high.total_cmp(&other.high))?;
    let mut others = spreads.iter().enumerate().filter(|(other, _)| *other != index);
    (spreads.len() > 1 && others.all(|(_, other)| lowest.high < other.low)).then_some(index)
}

impl Comparison {
    fn of(groups: &[Group], measure: Measure) -> Comparison {
        let fewest = groups.iter().flat_map(|group| &group.rounds).map(|round| round.count).min();
        let nines = chart::nines_of(fewest.unwrap_or(0));
        let rows = PERCENTILES.into_iter().chain([100.0]).map(|percentile| {
            let spreads: Vec<_> =
                groups.iter().map(|group| group.spread(percentile / 100.0)).collect();
            let best = best(&spreads);
            Row { percentile, spreads, best }
        });
        let rows: Vec<Row> = rows.collect();
        let heads: Vec<_> = groups.iter().map(Group::head).collect();
        let mut remarks = remarks(&heads, groups);
        let is_founded = |row: &Row| row.spreads.iter().all(|one| one.is_founded(row.percentile));
        if !rows.iter().all(is_founded) {
            remarks.push(mark_explained() + " in a round.");
        }
        Comparison {
            measure: measure.name().to_owned(),
            rows,
            series: groups.iter().map(|group| group.series(nines)).collect(),
            nines,
            remarks,
            groups: heads,
        }
    }
}

fn remarks(heads: &[Head], groups: &[Group]) -> Vec<String> {
    let mut remarks = Vec::new();
    let fewest = heads.iter().map(|head| head.rounds).min().unwrap_or(0);
    if fewest < 2 {
        remarks.push(
            "Some have only one round: nothing says how much of a difference is chance. Repeat them, in \
             turns (A B C A B C …)."
                .to_owned(),
        );
    } else {
        remarks.push(format!(
            "With {fewest} rounds the median lies within the range with a probability of {:.1} %; ranges \
             that overlap are no difference.",
            confidence(fewest) * 100.0
        ));
    }
    for head in heads {
        let failed = head.failed.unwrap_or(0);
        if failed > 0 && failed >= head.samples / 1000 {
            remarks.push(format!(
                "{} requests of {} failed: its times are those of the others, and lower ones are no merit.",
                failed, head.label
            ));
        }
    }
    for head in heads.iter().filter(|head| head.invalid > 0) {
        remarks.push(format!(
            "{} of the {} rounds of {} were limited by the generator: see their reports.",
            head.invalid, head.rounds, head.label
        ));
    }
    let rounds = || groups.iter().flat_map(|group| &group.rounds);
    let differences = input::differences(rounds());
    if !differences.is_empty() {
        remarks.push(format!("The runs were not made alike: {}.", differences.join(", ")));
    }
    if rounds().any(|round| round.load.is_empty()) && rounds().any(|round| !round.load.is_empty()) {
        remarks.push(
            "Some are files without a plan: whether those runs were made like the others is not known."
                .to_owned(),
        );
    }
    let closed = rounds().any(|round| round.closed);
    if closed {
        remarks.push(
            "Some runs are closed loops: a slow target was asked less, so that their latencies are not \
             comparable at one rate."
                .to_owned(),
        );
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::new_histogram;

    fn group(label: &str, factors: &[u64]) -> Group {
        let rounds = factors.iter().map(|factor| {
            let mut histogram = new_histogram();
            for value in 1..=10_000_u64 {
                histogram.record(value * factor).expect("in range");
            }
            Round::of_histogram(histogram)
        });
        Group { label: label.to_owned(), rounds: rounds.collect() }
    }

    #[test]
    fn a_difference_is_one_only_beyond_the_ranges() {
        let groups = [
            group("a", &[100, 102, 101]),
            group("b", &[150, 160, 140]),
            group("c", &[103, 130, 90]),
        ];
        let all = Comparison::of(&groups, Measure::Latency);
        assert_eq!(all.rows[0].best, None, "c's range holds a's");
        let two = Comparison::of(&groups[..2], Measure::Latency);
        assert!(two.rows.iter().all(|row| row.best == Some(0)));
        let spread = two.rows[0].spreads[0];
        assert!((spread.median / 505_000.0 - 1.0).abs() < 0.01, "{spread:?}");
        assert!(spread.low < spread.median && spread.median < spread.high);
        assert_eq!(spread.beyond, 5000);
    }

    #[test]
    fn rounds_give_confidence_and_one_gives_none() {
        assert_eq!([0, 1, 2, 5].map(confidence), [0.0, 0.0, 0.5, 0.9375]);
        let alone = Comparison::of(&[group("a", &[1]), group("b", &[2])], Measure::Latency);
        assert!(alone.remarks[0].contains("only one round"), "{:?}", alone.remarks);
        let five = [group("a", &[1; 5]), group("b", &[2; 5])];
        let remarks = Comparison::of(&five, Measure::Latency).remarks;
        assert!(remarks[0].contains("93.8 %"), "{remarks:?}");
    }

    #[test]
    fn a_percentile_of_few_samples_is_marked_and_nobody_wins_by_it() {
        // 10,000 samples in each round: p99.99 has one beyond it.
        let groups = [group("a", &[100; 4]), group("b", &[200; 4])];
        let comparison = Comparison::of(&groups, Measure::Latency);
        let text = report::text(&comparison);
        let row = |name: &str| {
            let found = text.lines().find(|line| line.trim_start().starts_with(name));
            found.expect(name).to_owned()
        };
        assert!(row("p99.9 ").ends_with("A lowest"), "{text}");
        let few = row("p99.99 ");
        assert!(few.ends_with("too few samples") && few.contains("~1000 µs"), "{few}");
        assert!(text.contains("~ too few samples for this percentile"), "{text}");
        let html = report::html(&comparison);
        assert!(html.contains("<td>a lowest") && html.contains("<td>too few samples"), "{html}");
    }

    #[test]
    fn the_report_names_all_in_text_and_html() {
        let groups = [group("alpha", &[100, 110]), group("<beta>", &[200, 210])];
        let comparison = Comparison::of(&groups, Measure::Latency);
        let text = report::text(&comparison);
        assert!(text.contains("A alpha") && text.contains("B <beta>"), "{text}");
        assert!(text.contains("p99.9"), "{text}");
        let html = report::html(&comparison);
        assert!(html.contains("&lt;beta&gt;") && !html.contains("<beta>"));
        assert_eq!(html.matches("class=\"band").count(), 2);
    }
}
