//! What the tasks of a worker share: who is to send what, what is recorded, who has waited too long.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use super::handover::Handover;
use crate::dispatch::{Dispatcher, Job, Mix, Next};
use crate::failure::Failure;
use crate::pace::PaceTimer;
use crate::plan::Plan;
use crate::record::{Exchange, Opening, Recorder};
use crate::runtime::Driver;
use crate::schedule::{Clock, Nanos, Schedule};

/// The shortest wait for a request that is not due yet. At high rates answers come more often than
/// this, and each gives out what has become due; the timer is only for when none comes.
const SHORTEST_WAIT: Nanos = 20_000;

/// What is awaited of one slot: a connection of HTTP/1.1, a stream of HTTP/2.
#[derive(Default)]
struct Slot {
    job: Cell<Option<Job>>,
    /// Until when its operation must be done; 0: none is under way.
    deadline: Cell<Nanos>,
    /// The operation is given up.
    expired: Cell<bool>,
    waker: Cell<Option<Waker>>,
}

impl Slot {
    fn wait(&self, context: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waker.set(Some(waker));
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// One worker.
pub(super) struct Board {
    pub(super) plan: Arc<Plan>,
    pub(super) clock: Clock,
    pub(super) driver: Driver,
    pub(super) pace: PaceTimer,
    dispatcher: RefCell<Dispatcher>,
    recorder: RefCell<Option<Recorder<Handover>>>,
    slots: Vec<Slot>,
    /// Nothing is sent any more.
    over: Cell<bool>,
    /// What is under way is no longer awaited.
    abandoned: Cell<bool>,
    /// The pacer waits for a slot to become idle.
    pacer: Cell<Option<Waker>>,
    /// Slots that are at work on something, or have not ended.
    running: Cell<usize>,
    next_source: Cell<usize>,
    /// A connection could not be opened before the run: no time is spent on opening others.
    opening_failed: Cell<bool>,
    /// Somebody wants the run to end.
    interrupted: &'static AtomicBool,
    /// Opened before the run, recorded when there is a recorder.
    opened_early: RefCell<Vec<Opening>>,
}

impl Board {
    pub(super) fn new(
        plan: Arc<Plan>,
        clock: Clock,
        driver: Driver,
        slots: usize,
        seed: u64,
        interrupted: &'static AtomicBool,
    ) -> std::io::Result<Board> {
        let mix = Mix::new(plan.requests.iter().map(|request| request.weight), seed);
        Ok(Board {
            plan,
            clock,
            driver,
            pace: PaceTimer::new()?,
            dispatcher: RefCell::new(Dispatcher::new(mix, slots)),
            recorder: RefCell::new(None),
            slots: (0..slots).map(|_| Slot::default()).collect(),
            over: Cell::new(false),
            abandoned: Cell::new(false),
            pacer: Cell::new(None),
            running: Cell::new(slots),
            next_source: Cell::new(0),
            opening_failed: Cell::new(false),
            interrupted,
            opened_early: RefCell::default(),
        })
    }

    /// Is it worth while to open a connection before there is a request for it? With a target that does
    /// not answer each would last for the whole time-out.
    pub(super) fn opens_early(&self) -> bool {
        !self.opening_failed.get() && !self.is_interrupted()
    }

    /// A connection could not be opened early.
    pub(super) fn opening_failed(&self) {
        self.opening_failed.set(true);
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// From now on requests fall due.
    pub(super) fn begin(&self, schedule: Schedule, mut recorder: Recorder<Handover>) {
        for opening in self.opened_early.take() {
            recorder.connected(&opening);
        }
        *self.recorder.borrow_mut() = Some(recorder);
        self.dispatcher.borrow_mut().begin(schedule);
    }

    /// The next request for a slot that is free since `now`, as soon as there is one; none when the run is
    /// over.
    pub(super) async fn next_job(&self, slot: u32, now: Nanos) -> Option<Job> {
        if !self.over.get() {
            let job = self.dispatcher.borrow_mut().free(slot, now);
            // What has become due meanwhile need not wait for the timer.
            let next = self.give_out(now);
            if job.is_some() {
                return job;
            }
            if !matches!(next, Next::AllBusy)
                && let Some(pacer) = self.pacer.take()
            {
                pacer.wake();
            }
        }
        let own = &self.slots[slot as usize];
        poll_fn(|context| {
            if let Some(job) = own.job.take() {
                return Poll::Ready(Some(job));
            }
            if self.over.get() {
                return Poll::Ready(None);
            }
            own.wait(context);
            Poll::Pending
        })
        .await
    }

    /// Gives what is due to idle slots; what comes after that.
    fn give_out(&self, now: Nanos) -> Next {
        let mut dispatcher = self.dispatcher.borrow_mut();
        loop {
            match dispatcher.next(now) {
                Next::Give(slot, job) => {
                    let slot = &self.slots[slot as usize];
                    slot.job.set(Some(job));
                    slot.wake();
                }
                other => return other,
            }
        }
    }

    /// Gives every request to an idle slot when it is due, until the run is over.
    pub(super) async fn run_pacer(&self) -> std::io::Result<()> {
        while !self.over.get() {
            let now = self.clock.now();
            match self.give_out(now) {
                Next::NotBefore(due) => self.pace.wait((due - now).max(SHORTEST_WAIT)).await?,
                Next::Over => break,
                Next::AllBusy | Next::Give(..) => {
                    let mut waited = false;
                    poll_fn(|context| {
                        if waited || self.over.get() {
                            return Poll::Ready(());
                        }
                        waited = true;
                        self.pacer.set(Some(context.waker().clone()));
                        Poll::Pending
                    })
                    .await;
                }
            }
        }
        Ok(())
    }

    /// The value of `operation`; none when it is not there in time.
    ///
    /// There is no timer for it: [`Self::sweep`] looks at all slots from time to time.
    pub(super) async fn in_time<T>(
        &self,
        slot: u32,
        deadline: Nanos,
        operation: impl Future<Output = T>,
    ) -> Option<T> {
        let own = &self.slots[slot as usize];
        own.expired.set(false);
        own.deadline.set(deadline);
        let mut operation = pin!(operation);
        let outcome = poll_fn(|context| {
            if let Poll::Ready(value) = operation.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            if own.expired.get() || self.abandoned.get() {
                return Poll::Ready(None);
            }
            own.wait(context);
            Poll::Pending
        })
        .await;
        own.deadline.set(0);
        outcome
    }

    /// Gives up what has waited too long.
    pub(super) fn sweep(&self, now: Nanos) {
        for slot in &self.slots {
            let deadline = slot.deadline.get();
            if deadline != 0 && now > deadline {
                slot.expired.set(true);
                slot.wake();
            }
        }
    }

    /// The kind of failure of what was given up.
    pub(super) fn given_up(&self, kind: Failure) -> Failure {
        if self.abandoned.get() { Failure::Unfinished } else { kind }
    }

    /// Ends the run early.
    pub(super) fn cut(&self, now: Nanos) {
        self.dispatcher.borrow_mut().cut(now);
        self.pace.hurry();
    }

    /// Nothing is sent any more: idle slots end.
    pub(super) fn stop(&self, now: Nanos) {
        self.over.set(true);
        self.record(Recorder::end);
        let mut dispatcher = self.dispatcher.borrow_mut();
        dispatcher.cut(now);
        while let Some(job) = dispatcher.leave() {
            self.record(|recorder| recorder.unstarted(job.due, job.request, now));
        }
        self.wake_all();
    }

    /// What is under way is not awaited any longer.
    pub(super) fn abandon(&self) {
        self.abandoned.set(true);
        self.wake_all();
    }

    fn wake_all(&self) {
        self.slots.iter().for_each(Slot::wake);
        if let Some(pacer) = self.pacer.take() {
            pacer.wake();
        }
        self.pace.hurry();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// A slot's task has ended.
    pub(super) fn ended(&self) {
        self.running.set(self.running.get().saturating_sub(1));
    }

    /// Slots whose task has not ended.
    pub(super) fn running(&self) -> usize {
        self.running.get()
    }

    fn record(&self, write: impl FnOnce(&mut Recorder<Handover>)) {
        if let Some(recorder) = self.recorder.borrow_mut().as_mut() {
            write(recorder);
        }
    }

    pub(super) fn completed(&self, exchange: &Exchange) {
        self.record(|recorder| recorder.completed(exchange));
    }

    /// Bytes of a connection came, without those of TLS.
    pub(super) fn received(&self, bytes: usize, now: Nanos) {
        self.record(|recorder| recorder.received(bytes, now));
    }

    pub(super) fn failed(&self, job: &Job, now: Nanos, kind: Failure, status: Option<u16>) {
        self.record(|recorder| recorder.failed(job.due, job.request, now, kind, status));
    }

    /// A connection was opened.
    pub(super) fn connected(&self, opening: Opening) {
        match self.recorder.borrow_mut().as_mut() {
            Some(recorder) => recorder.connected(&opening),
            None => self.opened_early.borrow_mut().push(opening),
        }
    }

    /// Hands over intervals that are over, whatever happens in the next.
    pub(super) fn turn(&self, now: Nanos) {
        self.record(|recorder| recorder.turn(now));
    }

    /// Hands over the rest.
    pub(super) fn finish(&self, now: Nanos) -> Option<Handover> {
        self.recorder.borrow_mut().take().map(|recorder| recorder.finish(now))
    }

    /// The local address for the next connection.
    pub(super) fn next_source(&self) -> Option<std::net::IpAddr> {
        let sources = &self.plan.sources;
        let index = self.next_source.get();
        self.next_source.set(index.wrapping_add(1));
        sources.get(index % sources.len().max(1)).copied()
    }

    pub(super) fn timeout(&self) -> Nanos {
        self.plan.timeout.as_nanos() as Nanos
    }
}
