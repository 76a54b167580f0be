//! Objectives: what a run's figures have to be for the command to succeed, such as `p99<5ms`.

use std::str::FromStr;

use crate::record::Measure;
use crate::result::{PERCENTILES, RunResult};
use crate::units::{parse_duration, show_nanos};

/// One bound.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Objective {
    /// A percentile of the latency, or its maximum at 100, lies below so many nanoseconds.
    Latency {
        /// From 0 to 100.
        percentile: f64,
        /// Nanoseconds.
        below: u64,
    },
    /// Less than this part of the requests fails or is never sent, 0 to 1.
    Errors(f64),
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Objective, String> {
        let wrong = || format!("\"{text}\" is no objective such as p99<5ms, max<1s or errors<0.1%");
        let (what, bound) = text.split_once('<').ok_or_else(wrong)?;
        let (what, bound) = (what.trim(), bound.trim());
        if what == "errors" {
            let percent = bound.strip_suffix('%').ok_or_else(wrong)?.trim();
            let percent: f64 = percent.parse().map_err(|_| wrong())?;
            let in_range = (0.0..=100.0).contains(&percent);
            return in_range.then_some(Objective::Errors(percent / 100.0)).ok_or_else(wrong);
        }
        let percentile = match what {
            "max" => 100.0,
            _ => {
                let number = what.strip_prefix('p').and_then(|number| number.parse().ok());
                let known = number.filter(|number| PERCENTILES.contains(number));
                known.ok_or_else(|| format!("{}; the percentiles are {PERCENTILES:?}", wrong()))?
            }
        };
        let below = parse_duration(bound)?.as_nanos() as u64;
        Ok(Objective::Latency { percentile, below })
    }
}

impl Objective {
    /// In words, if it is missed.
    pub(crate) fn missed(&self, run: &RunResult) -> Option<String> {
        match *self {
            Objective::Latency { percentile, below } => {
                let Some(times) = run.times(Measure::Latency) else {
                    return Some("objective missed: nothing was measured".to_owned());
                };
                let is_max = percentile >= 100.0;
                let value = if is_max { times.max_nanoseconds } else { times.at(percentile) };
                let name = if is_max { "max".to_owned() } else { format!("p{percentile}") };
                let shown = if is_max { show_nanos(value) } else { times.shown(percentile) };
                let bound = show_nanos(below);
                (value >= below)
                    .then(|| format!("objective missed: {name} is {shown}, not below {bound}"))
            }
            Objective::Errors(below) => {
                let counts = &run.counts;
                let bad = counts.all_failed() + counts.unstarted;
                let part = bad as f64 / counts.offered.max(1) as f64;
                (part > 0.0 && part >= below).then(|| {
                    let (part, below) = (part * 100.0, below * 100.0);
                    format!(
                        "objective missed: {part:.3} % failed or were not sent, not below {below} %"
                    )
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::run;

    #[test]
    fn objectives_are_read_and_judged() {
        let mut run = run(10_000, 2_000_000);
        for (text, is_missed) in [
            ("p99<2ms", false),
            ("p99 < 1.9ms", true),
            ("p50<900us", true),
            ("max<3ms", false),
            ("max<1ms", true),
            ("errors<0.1%", false),
            ("errors<0%", false),
        ] {
            let objective: Objective = text.parse().expect(text);
            assert_eq!(objective.missed(&run).is_some(), is_missed, "{text}");
        }
        run.counts.failed.insert("timeout".to_owned(), 10);
        for (text, is_missed) in [("errors<0.1%", true), ("errors<1%", false), ("errors<0%", true)]
        {
            let objective: Objective = text.parse().expect(text);
            assert_eq!(objective.missed(&run).is_some(), is_missed, "{text}");
        }
        for text in ["p99", "p98<1ms", "p99<", "errors<5", "errors<101%", "mean<1ms", "p99<1 year"]
        {
            assert!(text.parse::<Objective>().is_err(), "{text}");
        }
    }
}
