//! When requests are due. The one clock of a run counts nanoseconds from its origin, so that every rule
//! here can be tested with times that are made up.

use std::time::Instant;

use crate::profile::{Curve, Profile};

/// Nanoseconds since the origin of the run's clock.
pub(crate) type Nanos = u64;

/// One second.
pub(crate) const SECOND: Nanos = 1_000_000_000;

/// How long after the end a request that was due before it may still be given out: a worker is never
/// late by nothing.
const SLACK: Nanos = 10_000_000;

/// The clock that all workers of a run share.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { origin: Instant::now() }
    }

    pub(crate) fn now(self) -> Nanos {
        // A run ends long before the 584 years that fit.
        self.origin.elapsed().as_nanos() as Nanos
    }
}

/// Requests per second, exact to a thousandth: a schedule must not drift by rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    per_thousand_seconds: u64,
}

/// The highest rate that is taken, requests per second.
pub(crate) const RATE_MAX: f64 = 10_000_000.0;

impl Rate {
    /// From requests per second; none when it rounds to nothing or is beyond [`RATE_MAX`].
    pub(crate) fn per_second(rate: f64) -> Option<Rate> {
        let thousandths = (rate * 1000.0).round();
        (rate <= RATE_MAX && thousandths >= 1.0)
            .then_some(Rate { per_thousand_seconds: thousandths as u64 })
    }

    pub(crate) fn as_f64(self) -> f64 {
        self.per_thousand_seconds as f64 / 1000.0
    }
}

/// How the requests of an open loop are spread over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Arrivals {
    /// The same time between any two.
    #[default]
    Constant,
    /// Exponentially distributed times between them, as from many users who know nothing of each other.
    Poisson,
}

impl Arrivals {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Arrivals::Constant => "constant",
            Arrivals::Poisson => "poisson",
        }
    }
}

/// What decides when a request goes out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Load {
    /// Requests are due at a rate, whatever became of those before.
    Open {
        /// Of all workers together.
        rate: Profile,
        /// How they are spread.
        arrivals: Arrivals,
    },
    /// Each connection asks again as soon as it has its answer.
    Closed,
}

/// Which part of a run's load one worker makes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// From 0.
    pub(crate) worker: u32,
    /// How many there are.
    pub(crate) workers: u32,
    /// Of the random numbers of the run.
    pub(crate) seed: u64,
}

/// The due times of one worker, one after the other.
#[derive(Debug)]
pub(crate) struct Schedule {
    kind: Kind,
    end: Nanos,
}

#[derive(Debug)]
enum Kind {
    Constant(Steps),
    Poisson { random: fastrand::Rng, mean: f64, next: f64 },
    Changing(Changing),
    Closed,
}

/// Requests at a rate that changes.
#[derive(Debug)]
struct Changing {
    curve: Curve,
    /// Of the next request among those of all workers; a fraction with Poisson arrivals.
    number: f64,
    workers: f64,
    /// Of Poisson arrivals.
    random: Option<fastrand::Rng>,
}

impl Changing {
    /// To the next request of this worker.
    fn advance(&mut self) {
        self.number += match &mut self.random {
            Some(random) => exponential(random, self.workers),
            None => self.workers,
        };
    }
}

/// Multiples of a fraction of nanoseconds, added up without a rounding error.
#[derive(Debug)]
struct Steps {
    next: Nanos,
    whole: Nanos,
    part: u64,
    carried: u64,
    denominator: u64,
}

impl Schedule {
    /// From `start` up to, and without, `end`; a rate that changes begins to do so at `measured`.
    pub(crate) fn new(
        load: &Load,
        share: Share,
        start: Nanos,
        measured: Nanos,
        end: Nanos,
    ) -> Schedule {
        let seed = share.seed.wrapping_add(u64::from(share.worker) << 32);
        let kind = match load {
            Load::Closed => Kind::Closed,
            Load::Open { rate: Profile::Constant(rate), arrivals: Arrivals::Constant } => {
                let denominator = rate.per_thousand_seconds;
                // The workers' requests interleave: each begins one step of the whole load later.
                let offset = 1000 * u128::from(SECOND) * u128::from(share.worker);
                let step = 1000 * u128::from(SECOND) * u128::from(share.workers);
                let split = |value: u128| {
                    let denominator = u128::from(denominator);
                    ((value / denominator) as u64, (value % denominator) as u64)
                };
                let ((late, carried), (whole, part)) = (split(offset), split(step));
                Kind::Constant(Steps { next: start + late, whole, part, carried, denominator })
            }
            Load::Open { rate: Profile::Constant(rate), arrivals: Arrivals::Poisson } => {
                let mut random = fastrand::Rng::with_seed(seed);
                let mean = SECOND as f64 * f64::from(share.workers) / rate.as_f64();
                let next = start as f64 + exponential(&mut random, mean);
                Kind::Poisson { random, mean, next }
            }
            Load::Open { rate, arrivals } => {
                let is_poisson = *arrivals == Arrivals::Poisson;
                let mut changing = Changing {
                    curve: Curve::new(rate, start, measured, end),
                    number: f64::from(share.worker),
                    workers: f64::from(share.workers),
                    random: is_poisson.then(|| fastrand::Rng::with_seed(seed)),
                };
                if is_poisson {
                    changing.number = 0.0;
                    changing.advance();
                }
                Kind::Changing(changing)
            }
        };
        Schedule { kind, end }
    }

    /// When the next request is due; none when there is no other before the end.
    fn peek(&self, now: Nanos) -> Option<Nanos> {
        let next = match &self.kind {
            Kind::Constant(steps) => steps.next,
            Kind::Poisson { next, .. } => *next as Nanos,
            // Rounded: the sums of a curve lie beside whole numbers by less than a nanosecond.
            Kind::Changing(changing) => changing.curve.when(changing.number).round() as Nanos,
            Kind::Closed => now,
        };
        (next < self.end).then_some(next)
    }

    fn advance(&mut self) {
        match &mut self.kind {
            Kind::Constant(steps) => {
                steps.next += steps.whole;
                steps.carried += steps.part;
                if steps.carried >= steps.denominator {
                    steps.carried -= steps.denominator;
                    steps.next += 1;
                }
            }
            Kind::Poisson { random, mean, next } => *next += exponential(random, *mean),
            Kind::Changing(changing) => changing.advance(),
            Kind::Closed => {}
        }
    }

    /// Takes the next request if it is due: the moment at which it should go out.
    pub(crate) fn take(&mut self, now: Nanos) -> Taken {
        match self.peek(now) {
            None => Taken::Over,
            Some(_) if now >= self.end + SLACK => Taken::Over,
            Some(due) if due > now => Taken::NotBefore(due),
            Some(due) => {
                self.advance();
                Taken::Due(due)
            }
        }
    }

    /// Ends the run at `now`, earlier than planned.
    pub(crate) fn cut(&mut self, now: Nanos) {
        self.end = self.end.min(now);
    }

    /// Requests that were due before the end and that nobody took, one after the other.
    pub(crate) fn leave(&mut self) -> Option<Nanos> {
        if matches!(self.kind, Kind::Closed) {
            return None;
        }
        let due = self.peek(0)?;
        self.advance();
        Some(due)
    }
}

/// What [`Schedule::take`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// A request that is due, with the moment since when.
    Due(Nanos),
    /// Nothing before this.
    NotBefore(Nanos),
    /// Nothing any more.
    Over,
}

fn exponential(random: &mut fastrand::Rng, mean: f64) -> f64 {
    // From 0 to 1 without 1: the logarithm is finite.
    -mean * (1.0 - random.f64()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(rate: f64, arrivals: Arrivals) -> Load {
        let rate = Rate::per_second(rate).expect("a rate");
        Load::Open { rate: Profile::Constant(rate), arrivals }
    }

    fn all(load: &Load, workers: u32, seconds: u64) -> Vec<Nanos> {
        let mut due = Vec::new();
        for worker in 0..workers {
            let share = Share { worker, workers, seed: 7 };
            let mut schedule = Schedule::new(load, share, SECOND, SECOND, SECOND * (1 + seconds));
            while let Some(next) = schedule.leave() {
                due.push(next);
            }
        }
        due.sort_unstable();
        due
    }

    #[test]
    fn a_constant_rate_is_exact_however_many_workers_share_it() {
        for (rate, workers, seconds) in
            [(1000.0, 1, 3), (1000.0, 3, 3), (7.0, 2, 60), (99_991.0, 4, 2), (100_000.0, 1, 1)]
        {
            let due = all(&open(rate, Arrivals::Constant), workers, seconds);
            assert_eq!(due.len() as f64, rate * seconds as f64, "{rate}/s of {workers}");
            for (index, &at) in due.iter().enumerate() {
                let expected = SECOND as f64 + index as f64 * SECOND as f64 / rate;
                assert!((at as f64 - expected).abs() <= 1.0, "{rate}/s: request {index} at {at}");
            }
        }
    }

    #[test]
    fn a_rate_below_one_a_second_is_kept() {
        let due = all(&open(0.25, Arrivals::Constant), 1, 20);
        assert_eq!(due, [1, 5, 9, 13, 17].map(|second| second * SECOND));
    }

    #[test]
    fn poisson_arrivals_have_the_mean_and_the_variance_of_the_name() {
        let due = all(&open(50_000.0, Arrivals::Poisson), 2, 4);
        let count = due.len() as f64;
        assert!((count / 200_000.0 - 1.0).abs() < 0.01, "{count} of 200,000");
        // Numbers per millisecond: the variance is the mean, 50.
        let mut bins = vec![0_f64; 4000];
        for at in due {
            bins[((at - SECOND) / 1_000_000) as usize] += 1.0;
        }
        let mean = bins.iter().sum::<f64>() / 4000.0;
        let variance = bins.iter().map(|bin| (bin - mean).powi(2)).sum::<f64>() / 4000.0;
        assert!((variance / mean - 1.0).abs() < 0.1, "variance {variance}, mean {mean}");
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let load = open(1000.0, Arrivals::Poisson);
        assert_eq!(all(&load, 2, 1), all(&load, 2, 1));
    }

    #[test]
    fn requests_are_given_when_they_are_due_and_not_after_the_end() {
        let share = Share { worker: 0, workers: 1, seed: 0 };
        let mut schedule = Schedule::new(&open(10.0, Arrivals::Constant), share, 0, 0, SECOND / 2);
        assert_eq!(schedule.take(0), Taken::Due(0));
        assert_eq!(schedule.take(1), Taken::NotBefore(SECOND / 10));
        assert_eq!(schedule.take(SECOND / 4), Taken::Due(SECOND / 10));
        assert_eq!(schedule.take(SECOND / 4), Taken::Due(SECOND / 5));
        assert_eq!(schedule.take(SECOND / 2 + 1), Taken::Due(3 * SECOND / 10), "a little late");
        assert_eq!(schedule.take(SECOND), Taken::Over, "much too late");
        assert_eq!(schedule.leave(), Some(4 * SECOND / 10), "and so it is known as never begun");
        assert_eq!(schedule.leave(), None);
    }

    #[test]
    fn a_closed_loop_is_always_due_until_it_is_cut() {
        let share = Share { worker: 0, workers: 1, seed: 0 };
        let mut schedule = Schedule::new(&Load::Closed, share, 0, 0, SECOND);
        assert_eq!(schedule.take(5), Taken::Due(5));
        assert_eq!(schedule.take(6), Taken::Due(6));
        schedule.cut(100);
        assert_eq!(schedule.take(100), Taken::Over);
        assert_eq!(schedule.leave(), None, "nothing waits in a closed loop");
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        for rate in [0.0, -1.0, 0.0004, f64::NAN, f64::INFINITY, 1e9] {
            assert_eq!(Rate::per_second(rate), None, "{rate}");
        }
    }
}
