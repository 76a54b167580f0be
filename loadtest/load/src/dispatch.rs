//! Who sends the next request: the schedule on one side, connections that are free on the other.
//!
//! Nothing here waits or sends. A connection that has its answer takes a request that is due, or goes to
//! the end of the line of idle ones; the pacer gives what falls due to the idle one that waits longest.

use std::collections::VecDeque;

use crate::schedule::{Nanos, Schedule, Taken};

/// A request to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// When it should go out.
    pub(crate) due: Nanos,
    /// Which of the scenario's.
    pub(crate) request: u32,
    /// It found an idle connection: if it goes out late, that is our fault.
    pub(crate) found_idle: bool,
}

/// What comes next when there is nothing to be given out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// This connection is to send this.
    Give(u32, Job),
    /// Nothing is due before this.
    NotBefore(Nanos),
    /// Something may be due, but every connection is busy.
    AllBusy,
    /// Nothing will be due any more.
    Over,
}

/// Chooses among requests by weight.
#[derive(Debug)]
pub(crate) struct Mix {
    /// Sums of the weights up to and with each request.
    bounds: Vec<u64>,
    random: fastrand::Rng,
}

impl Mix {
    /// From the weights, of which at least one is positive.
    pub(crate) fn new(weights: impl Iterator<Item = u32>, seed: u64) -> Mix {
        let mut sum = 0;
        let bounds = weights.map(|weight| {
            sum += u64::from(weight);
            sum
        });
        Mix { bounds: bounds.collect(), random: fastrand::Rng::with_seed(seed) }
    }

    fn choose(&mut self) -> u32 {
        match self.bounds.as_slice() {
            [] | [_] => 0,
            bounds => {
                let total = bounds[bounds.len() - 1];
                let at = self.random.u64(..total.max(1));
                bounds.partition_point(|&bound| bound <= at) as u32
            }
        }
    }
}

/// The requests of one worker and its connections, or streams, that wait for one.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    /// None before the run begins.
    schedule: Option<Schedule>,
    mix: Mix,
    idle: VecDeque<u32>,
}

impl Dispatcher {
    pub(crate) fn new(mix: Mix, slots: usize) -> Dispatcher {
        Dispatcher { schedule: None, mix, idle: VecDeque::with_capacity(slots) }
    }

    /// From now on requests fall due.
    pub(crate) fn begin(&mut self, schedule: Schedule) {
        self.schedule = Some(schedule);
    }

    /// A connection is free. It gets a request that is overdue, or waits in the line of idle ones.
    pub(crate) fn free(&mut self, slot: u32, now: Nanos) -> Option<Job> {
        let taken = self.schedule.as_mut().map(|schedule| schedule.take(now));
        let Some(Taken::Due(due)) = taken else {
            self.idle.push_back(slot);
            return None;
        };
        Some(Job { due, request: self.mix.choose(), found_idle: false })
    }

    /// What falls to an idle connection now.
    pub(crate) fn next(&mut self, now: Nanos) -> Next {
        let Some(schedule) = &mut self.schedule else { return Next::AllBusy };
        let Some(&slot) = self.idle.front() else { return Next::AllBusy };
        match schedule.take(now) {
            Taken::Over => Next::Over,
            Taken::NotBefore(due) => Next::NotBefore(due),
            Taken::Due(due) => {
                self.idle.pop_front();
                Next::Give(slot, Job { due, request: self.mix.choose(), found_idle: true })
            }
        }
    }

    /// Ends the run at `now`.
    pub(crate) fn cut(&mut self, now: Nanos) {
        if let Some(schedule) = &mut self.schedule {
            schedule.cut(now);
        }
    }

    /// The next of the requests that were due and that nobody took.
    pub(crate) fn leave(&mut self) -> Option<Job> {
        let due = self.schedule.as_mut()?.leave()?;
        Some(Job { due, request: self.mix.choose(), found_idle: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Profile;
    use crate::schedule::{Arrivals, Load, Rate, SECOND, Share};

    fn dispatcher() -> Dispatcher {
        let mut dispatcher = Dispatcher::new(Mix::new([1].into_iter(), 0), 2);
        let rate = Rate::per_second(10.0).expect("a rate");
        let rate = Profile::Constant(rate);
        let load = Load::Open { rate, arrivals: Arrivals::Constant };
        let share = Share { worker: 0, workers: 1, seed: 0 };
        dispatcher.begin(Schedule::new(&load, share, 0, 0, SECOND));
        dispatcher
    }

    #[test]
    fn idle_connections_take_turns() {
        let mut dispatcher = dispatcher();
        assert_eq!(dispatcher.next(0), Next::AllBusy, "nobody is there yet");
        let first = dispatcher.free(4, 0).expect("the first is due at once");
        assert_eq!(first, Job { due: 0, request: 0, found_idle: false });
        assert_eq!(dispatcher.free(5, 1), None);
        assert_eq!(dispatcher.free(4, 2), None);
        assert_eq!(dispatcher.next(3), Next::NotBefore(SECOND / 10));
        let second = Job { due: SECOND / 10, request: 0, found_idle: true };
        assert_eq!(dispatcher.next(SECOND / 5), Next::Give(5, second));
        let third = Job { due: SECOND / 5, request: 0, found_idle: true };
        assert_eq!(dispatcher.next(SECOND / 5), Next::Give(4, third));
        assert_eq!(dispatcher.next(SECOND), Next::AllBusy);
    }

    #[test]
    fn what_nobody_took_is_known_in_the_end() {
        let mut dispatcher = dispatcher();
        dispatcher.cut(SECOND / 2 - 1);
        let due = std::iter::from_fn(|| dispatcher.leave()).map(|job| job.due);
        assert!(due.eq([0, 1, 2, 3, 4].map(|step| step * SECOND / 10)));
    }

    #[test]
    fn a_mix_keeps_its_weights() {
        let mut mix = Mix::new([1, 0, 3].into_iter(), 1);
        let mut counts = [0_u32; 3];
        for _ in 0..40_000 {
            counts[mix.choose() as usize] += 1;
        }
        assert_eq!(counts[1], 0);
        assert!((9_500..10_500).contains(&counts[0]), "{counts:?}");
    }
}
