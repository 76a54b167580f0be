//! What the admin port may change, tied to the workers, the process log and the control loop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::process_log::RunningLog;
use crate::admin::{Controls, Order, ToWorker};
use crate::control::signals::Asked;
use crate::limits::ADMIN_ORDERS_MAX;
use crate::worker::{Command, WorkerHandle};

/// Controls, and the orders that come by them. `drain`: how long a drain may take.
pub(super) fn new(log: RunningLog, drain: Duration) -> (Controls, mpsc::Receiver<Asked>) {
    let (sender, orders) = mpsc::channel(ADMIN_ORDERS_MAX);
    let order = move |order| {
        let asked = match order {
            Order::Quit => Asked::Stop,
            Order::StopListening(end) => Asked::StopListening(end.after(drain)),
        };
        sender.try_send(asked).is_ok()
    };
    let mut controls = Controls::default();
    controls.process_log = Some(Box::new(log));
    controls.orders = Some(Box::new(order));
    (controls, orders)
}

/// The same with the workers, whose requests may be watched.
pub(super) fn connected(controls: Controls, workers: &[WorkerHandle]) -> Arc<Controls> {
    let to_worker = |worker: &WorkerHandle| {
        let worker = worker.clone();
        Box::new(move |order| worker.send(Command::Tap(order))) as ToWorker
    };
    controls.taps.connect(workers.iter().map(to_worker).collect());
    Arc::new(controls)
}
