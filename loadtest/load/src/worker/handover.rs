//! What workers tell the main thread, and what comes back.

use std::sync::mpsc::{Receiver, Sender};

use crate::record::{Interval, Intervals, Tally};
use crate::schedule::Nanos;

/// A message of a worker.
#[derive(Debug)]
pub(crate) enum Report {
    /// Its connections are open, or cannot be.
    Ready,
    /// An interval is over.
    Interval(usize, Box<Interval>),
    /// It has ended.
    Done(Ended),
    /// It cannot go on; why, in words.
    Failed(String),
}

/// How a worker fared in the measured time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ended {
    /// The core it was bound to.
    pub(crate) core: Option<usize>,
    /// Length of the measured time.
    pub(crate) measured: Nanos,
    /// The time that the following two are parts of.
    pub(crate) wall: Nanos,
    /// On the core.
    pub(crate) cpu: Nanos,
    /// Ready to run, while something else had the core.
    pub(crate) waited: Nanos,
    /// Somebody ended the run before its time, or before its last responses had come.
    pub(crate) interrupted: bool,
}

/// The worker's end of the channels.
#[derive(Debug)]
pub(crate) struct Handover {
    pub(crate) worker: usize,
    pub(crate) requests: usize,
    pub(crate) reports: Sender<Report>,
    /// Tallies that were read and emptied: the worker does not spend its time on that.
    pub(crate) emptied: Receiver<Tally>,
}

impl Intervals for Handover {
    fn empty(&mut self) -> Tally {
        self.emptied.try_recv().unwrap_or_else(|_| Tally::new(self.requests))
    }

    fn give(&mut self, full: Interval) {
        // Without a main thread there is nobody to tell.
        let _ = self.reports.send(Report::Interval(self.worker, Box::new(full)));
    }
}
