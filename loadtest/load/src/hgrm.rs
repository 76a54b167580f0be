//! The text form of a percentile distribution that the tools around HdrHistogram read and plot.

use std::fmt::Write;

use hdrhistogram::Histogram;

use crate::record::DIGITS;

/// Nanoseconds in a unit of the file: milliseconds, as its readers expect.
const UNIT: f64 = 1e6;
/// Steps in each half of the remaining distance to 100 %.
const TICKS: u32 = 5;

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    /// From 0 to 1.
    pub(crate) quantile: f64,
    /// Nanoseconds.
    pub(crate) value: f64,
}

/// The points of a distribution that are worth drawing.
pub(crate) fn points(histogram: &Histogram<u64>) -> Vec<Point> {
    histogram
        .iter_quantiles(TICKS)
        .map(|step| Point {
            quantile: step.quantile_iterated_to(),
            value: step.value_iterated_to() as f64,
        })
        .collect()
}

/// Writes a distribution, values in milliseconds.
pub(crate) fn write(histogram: &Histogram<u64>) -> String {
    let digits = usize::from(DIGITS);
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| {
        // A string takes all that is written into it.
        let _ = text.write_fmt(line);
        text.push('\n');
    };
    line(format_args!(
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    ));
    for step in histogram.iter_quantiles(TICKS) {
        let value = step.value_iterated_to() as f64 / UNIT;
        let (quantile, count) = (step.quantile_iterated_to(), step.count_at_value_sum(histogram));
        if quantile < 1.0 {
            let odds = 1.0 / (1.0 - quantile);
            line(format_args!("{value:12.digits$} {quantile:2.12} {count:10} {odds:14.2}"));
        } else {
            line(format_args!("{value:12.digits$} {quantile:2.12} {count:10}"));
        }
    }
    let (mean, deviation) = (histogram.mean() / UNIT, histogram.stdev() / UNIT);
    line(format_args!("#[Mean    = {mean:12.digits$}, StdDeviation   = {deviation:12.digits$}]"));
    let (max, count) = (histogram.max() as f64 / UNIT, histogram.len());
    line(format_args!("#[Max     = {max:12.digits$}, Total count    = {count:12}]"));
    // Buckets of a half each beyond the first, every one with so many cells.
    let cells = 2 * 10_u64.pow(DIGITS.into());
    let cells = cells.next_power_of_two();
    let buckets = (histogram.distinct_values() as u64 * 2 / cells).saturating_sub(1);
    line(format_args!("#[Buckets = {buckets:12}, SubBuckets     = {cells:12}]"));
    text
}

/// The number of values up to and with a step's.
trait CountSum {
    fn count_at_value_sum(&self, histogram: &Histogram<u64>) -> u64;
}

impl CountSum for hdrhistogram::iterators::IterationValue<u64> {
    fn count_at_value_sum(&self, histogram: &Histogram<u64>) -> u64 {
        (self.quantile() * histogram.len() as f64).round() as u64
    }
}

/// Reads a distribution that this or another tool has written: its points, and the number of values, from the
/// comment at its end or else from the column of counts. The error is in words.
pub(crate) fn read(text: &str) -> Result<(Vec<Point>, u64), String> {
    let mut points = Vec::new();
    let (mut total, mut highest) = (None, None);
    for (index, line) in text.lines().enumerate() {
        let wrong = || format!("line {}: \"{line}\" is no row of a percentile file", index + 1);
        let trimmed = line.trim();
        if let Some((_, count)) = trimmed.split_once("Total count") {
            let digits = count.trim_matches(|letter: char| !letter.is_ascii_digit());
            total = Some(digits.parse().map_err(|_| wrong())?);
        }
        if trimmed.is_empty() || trimmed.starts_with('#') || trimmed.starts_with("Value") {
            continue;
        }
        let mut words = trimmed.split_ascii_whitespace();
        let mut number =
            || words.next().and_then(|word| word.parse::<f64>().ok()).filter(|n| n.is_finite());
        let (Some(value), Some(quantile)) = (number(), number()) else { return Err(wrong()) };
        if !(0.0..=1.0).contains(&quantile) || value < 0.0 {
            return Err(wrong());
        }
        points.push(Point { quantile, value: value * UNIT });
        // A whole number that some tools write with a point.
        let count = number().filter(|count| (0.0..9e15).contains(count)).map(|count| count as u64);
        highest = highest.max(count);
    }
    if points.is_empty() {
        return Err("it has no row of values".to_owned());
    }
    if points.windows(2).any(|pair| pair[0].quantile > pair[1].quantile) {
        return Err("its percentiles do not ascend".to_owned());
    }
    let counted =
        total.or(highest.filter(|_| points.last().is_some_and(|last| last.quantile == 1.0)));
    let total = counted.ok_or(
        "it does not say of how many values it is: it has no \"Total count\", and no count in a last row \
         at percentile 1",
    )?;
    Ok((points, total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::new_histogram;

    #[test]
    fn the_file_has_the_layout_that_plotters_read() {
        let mut histogram = new_histogram();
        for value in 1..=1000_u64 {
            histogram.record(value * 1_000_000).expect("in range");
        }
        let text = write(&histogram);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        assert_eq!(lines[2], "       1.000 0.000000000000          1           1.00");
        let median = lines.iter().find(|line| line.contains(" 0.500000000000 ")).expect("a row");
        assert_eq!(*median, "     500.171 0.500000000000        500           2.00");
        let last = lines.iter().rfind(|line| !line.starts_with('#')).expect("a row");
        assert!(last.ends_with(" 1.000000000000       1000"), "{last}");
        let (points, total) = read(&text).expect("it reads what it writes");
        assert_eq!(total, 1000);
        assert_eq!(points.len(), histogram.iter_quantiles(TICKS).count());
    }

    #[test]
    fn the_last_lines_say_the_shape() {
        let text = write(&new_histogram());
        assert!(text.contains("SubBuckets     =         2048]"), "{text}");
    }

    #[test]
    fn files_of_other_tools_are_read_and_rubbish_is_not() {
        let wrk2 = "       Value   Percentile   TotalCount 1/(1-Percentile)\n\n\
                    \u{20}      0.100     0.000000            1         1.00\n\
                    \u{20}      5.000     1.000000           10          inf\n\
                    #[Max     =        5.000, Total count    =           10]\n";
        let (points, total) = read(wrk2).expect("good");
        assert_eq!((points.len(), total), (2, 10));
        assert_eq!(points[1], Point { quantile: 1.0, value: 5e6 });
        // What a plotter made of it, without the comments.
        let bare = &wrk2[..wrk2.find('#').expect("a comment")];
        assert_eq!(read(bare).map(|(points, total)| (points.len(), total)), Ok((2, 10)));
        for part in ["1.0 0.5 7\n", "1.0 0.5\n2.0 1.0\n"] {
            assert!(read(part).is_err_and(|error| error.contains("Total count")), "{part:?}");
        }
        for text in ["", "a b c", "1.0 2.0", "NaN 0.5", "1 0.9\n2 0.5\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
