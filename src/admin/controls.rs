//! What the admin port may change: who watches requests, what is logged, whether we say that we are
//! ready, and orders to the control loop. The process fills it in; the pages know no more than this.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::taps::Taps;

/// An order to the control loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Drain and end, as SIGTERM asks for.
    Quit,
    /// Accept no more connections.
    StopListening(ListenersEnd),
}

/// How listeners end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenersEnd {
    /// At once.
    Now,
    /// After the time of a drain, in which clients are asked to leave.
    AfterDrain,
    /// Not at all: clients are only asked to leave.
    Never,
}

/// The process log, as far as the admin port sees it.
pub trait ProcessLog: Send + Sync {
    /// What is logged now, as `RUST_LOG` is written.
    fn directives(&self) -> String;

    /// Log this from now on.
    ///
    /// # Errors
    /// Says what cannot be understood; then everything stays as it was.
    fn set(&self, directives: &str) -> Result<(), String>;
}

/// Takes orders; false: it cannot take this one now.
pub type Orders = Box<dyn Fn(Order) -> bool + Send + Sync>;

/// Everything that the admin port may change.
#[derive(Default)]
pub struct Controls {
    /// Who watches requests.
    pub taps: Arc<Taps>,
    /// The process log; none when it is not ours.
    pub process_log: Option<Box<dyn ProcessLog>>,
    /// The way to the control loop; none when there is none.
    pub orders: Option<Orders>,
    /// Does an operator want us to say that we are not ready?
    failed: AtomicBool,
}

impl Controls {
    /// Give an order. False: nobody takes it.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.as_ref().is_some_and(|orders| orders(order))
    }

    /// Say from now on that we are not ready, or what is true again.
    pub(super) fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Release);
    }

    /// Did an operator ask to say that we are not ready?
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }
}

impl std::fmt::Debug for Controls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Controls")
    }
}

impl ListenersEnd {
    /// How long listeners go on accepting, when a drain takes `drain`; none: for ever.
    pub fn after(self, drain: Duration) -> Option<Duration> {
        match self {
            ListenersEnd::Now => Some(Duration::ZERO),
            ListenersEnd::AfterDrain => Some(drain),
            ListenersEnd::Never => None,
        }
    }
}
