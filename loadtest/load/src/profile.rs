//! The rate of an open loop over the measured time: one rate, a ramp from one to another, or steps.
//!
//! What matters of it is its curve: how many requests have fallen due up to a time. The request of a number
//! is due where the curve reaches the number, whether numbers are whole, as with constant arrivals, or the
//! sums of exponentially distributed distances, as with Poisson's.

use crate::schedule::{Nanos, Rate, SECOND};

/// The most steps.
const STEPS_MAX: usize = 32;

/// A rate that may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// The same all the time.
    Constant(Rate),
    /// Evenly from the first to the second, over the measured time.
    Ramp(Rate, Rate),
    /// One after the other, each for the same part of the measured time.
    Steps(Vec<Rate>),
}

impl Profile {
    /// `1000`, `1000..50000` or `1000,2000,5000`, requests per second.
    pub(crate) fn parse(text: &str) -> Result<Profile, String> {
        let rate = |text: &str| {
            let rate = text.trim().parse().ok().and_then(Rate::per_second);
            rate.ok_or_else(|| {
                format!("\"{text}\" is no rate from 0.001 to 10,000,000 requests per second")
            })
        };
        if let Some((from, to)) = text.split_once("..") {
            return Ok(Profile::Ramp(rate(from)?, rate(to)?));
        }
        let steps = text.split(',').map(rate).collect::<Result<Vec<_>, _>>()?;
        match steps.as_slice() {
            [only] => Ok(Profile::Constant(*only)),
            many if many.len() > STEPS_MAX => Err(format!("there are at most {STEPS_MAX} steps")),
            _ => Ok(Profile::Steps(steps)),
        }
    }

    /// Over the measured time, requests per second.
    pub(crate) fn mean(&self) -> f64 {
        match self {
            Profile::Constant(rate) => rate.as_f64(),
            Profile::Ramp(from, to) => (from.as_f64() + to.as_f64()) / 2.0,
            Profile::Steps(steps) => {
                let sum: f64 = steps.iter().map(|step| step.as_f64()).sum();
                sum / steps.len().max(1) as f64
            }
        }
    }

    /// As it is parsed; none when it does not change.
    pub(crate) fn changes(&self) -> Option<String> {
        match self {
            Profile::Constant(_) => None,
            Profile::Ramp(from, to) => Some(format!("{}..{}", from.as_f64(), to.as_f64())),
            Profile::Steps(steps) => {
                let steps: Vec<_> = steps.iter().map(|step| step.as_f64().to_string()).collect();
                Some(steps.join(","))
            }
        }
    }

    /// Pieces of equal length of the measured time: the rates at their beginnings and ends.
    fn pieces(&self) -> Vec<(f64, f64)> {
        match self {
            Profile::Constant(rate) => vec![(rate.as_f64(), rate.as_f64())],
            Profile::Ramp(from, to) => vec![(from.as_f64(), to.as_f64())],
            Profile::Steps(steps) => {
                steps.iter().map(|step| (step.as_f64(), step.as_f64())).collect()
            }
        }
    }
}

/// A piece of a curve, in nanoseconds and requests.
#[derive(Clone, Copy, Debug)]
struct Piece {
    start: f64,
    /// Requests due before it.
    before: f64,
    /// Requests per nanosecond at its beginning.
    rate: f64,
    /// By how much the rate grows in a nanosecond.
    growth: f64,
}

/// How many requests have fallen due, by time.
#[derive(Clone, Debug)]
pub(crate) struct Curve {
    pieces: Vec<Piece>,
}

impl Curve {
    /// From `start`, at the first rate up to `measured`, from where on the profile is played until `end`.
    pub(crate) fn new(profile: &Profile, start: Nanos, measured: Nanos, end: Nanos) -> Curve {
        let rates = profile.pieces();
        let second = SECOND as f64;
        let length = end.saturating_sub(measured) as f64 / rates.len().max(1) as f64;
        let first = rates.first().map_or(0.0, |rate| rate.0 / second);
        let mut pieces = vec![Piece { start: start as f64, before: 0.0, rate: first, growth: 0.0 }];
        let mut before = measured.saturating_sub(start) as f64 * first;
        for (index, (from, to)) in rates.into_iter().enumerate() {
            let (from, to) = (from / second, to / second);
            let start = measured as f64 + length * index as f64;
            let growth = (to - from) / length.max(1.0);
            pieces.push(Piece { start, before, rate: from, growth });
            before += (from + to) / 2.0 * length;
        }
        Curve { pieces }
    }

    /// When the request of this number, from 0, is due.
    pub(crate) fn when(&self, number: f64) -> f64 {
        let after = self.pieces.partition_point(|piece| piece.before <= number);
        let Some(piece) = self.pieces.get(after.saturating_sub(1)) else { return f64::MAX };
        let number = number - piece.before;
        // The time t at which rate * t + growth / 2 * t * t is the number. Beyond the end of a falling ramp
        // there may be none: then what comes out lies beyond the end too.
        let root = (piece.rate * piece.rate + 2.0 * piece.growth * number).max(0.0).sqrt();
        piece.start + 2.0 * number / (piece.rate + root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::{Arrivals, Load, Schedule, Share};

    fn due(profile: &str, arrivals: Arrivals, workers: u32, seed: u64) -> Vec<Nanos> {
        let profile = Profile::parse(profile).expect(profile);
        let mut due = Vec::new();
        for worker in 0..workers {
            let load = Load::Open { rate: profile.clone(), arrivals };
            let share = Share { worker, workers, seed };
            // One second of warm-up and ten that are measured.
            let mut schedule = Schedule::new(&load, share, SECOND, 2 * SECOND, 12 * SECOND);
            due.extend(std::iter::from_fn(|| schedule.leave()));
        }
        due.sort_unstable();
        due
    }

    /// Requests of each measured second.
    fn by_second(due: &[Nanos]) -> Vec<usize> {
        let in_second = |second| due.iter().filter(|at| **at / SECOND == second).count();
        (2..12).map(in_second).collect()
    }

    #[test]
    fn a_ramp_grows_and_falls_evenly() {
        let up = due("100..1100", Arrivals::Constant, 3, 0);
        assert_eq!(up.iter().filter(|at| **at < 2 * SECOND).count(), 100, "the warm-up");
        let seconds = by_second(&up);
        assert_eq!(seconds, [150, 250, 350, 450, 550, 650, 750, 850, 950, 1050]);
        let down = by_second(&due("1100..100", Arrivals::Constant, 1, 0));
        assert!(down.iter().eq(seconds.iter().rev()), "{down:?}");
    }

    #[test]
    fn steps_have_equal_parts_of_the_time() {
        let steps = by_second(&due("100,300,200,50,1000", Arrivals::Constant, 2, 0));
        assert_eq!(steps, [100, 100, 300, 300, 200, 200, 50, 50, 1000, 1000]);
    }

    #[test]
    fn poisson_arrivals_follow_the_curve_and_repeat_by_their_seed() {
        let one = due("1000..20000", Arrivals::Poisson, 2, 5);
        assert!((one.len() as f64 / 106_000.0 - 1.0).abs() < 0.02, "{}", one.len());
        let seconds = by_second(&one);
        assert!((seconds[9] as f64 / 19_050.0 - 1.0).abs() < 0.05, "{seconds:?}");
        assert_eq!(one, due("1000..20000", Arrivals::Poisson, 2, 5));
        assert_ne!(one, due("1000..20000", Arrivals::Poisson, 2, 6));
    }

    #[test]
    fn profiles_are_read_and_written() {
        for (text, mean) in [("1000..3000", 2000.0), ("1,2,6", 3.0), ("0.5..1", 0.75)] {
            let profile = Profile::parse(text).expect(text);
            assert_eq!((profile.changes().as_deref(), profile.mean()), (Some(text), mean));
        }
        assert_eq!(Profile::parse("7").map(|profile| profile.changes()), Ok(None));
        let many = ["1"; STEPS_MAX + 1].join(",");
        for text in ["", "..", "1..", "1..0", "1,,2", "a", "1..2..3", "-1", &many] {
            assert!(Profile::parse(text).is_err(), "{text:?}");
        }
    }
}
