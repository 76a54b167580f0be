//! Orders to a worker, and what it reports.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::time::Duration;

use crate::ids::WorkerId;
use crate::metrics::{ShardSource, SwapRequest};
use crate::net::doorbell::{Bell, Doorbell, doorbell};
use crate::net::runtime::Driver;
use crate::proxy::tap::TapOrder;
use crate::snapshot::Snapshot;
use crate::upstream::SharedClusters;

/// An order to a worker.
pub enum Command {
    /// Route by this snapshot from the next request on.
    Publish {
        /// The worker's own copy.
        snapshot: Box<Snapshot>,
        /// What all workers share of its clusters.
        shared: SharedClusters,
        /// Sockets of listeners that are new in it.
        sockets: Vec<(SocketAddr, TcpListener)>,
    },
    /// Give back what was counted so far.
    SwapMetrics(SwapRequest),
    /// Show requests to somebody, or no longer.
    Tap(TapOrder),
    /// Accept no more, after this time; what was accepted is served on. None: ask clients to leave, but
    /// go on accepting.
    StopListening(Option<Duration>),
    /// Stop accepting, finish what is in flight within this time, then end.
    Drain(Duration),
    /// Panic, to test what a panic does to the process.
    #[cfg(debug_assertions)]
    Panic,
}

/// What a worker reports to the control thread.
#[derive(Debug)]
pub enum WorkerEvent {
    /// It routes by this generation now.
    Published(WorkerId, u64),
    /// It has drained; this many connections had to be cut.
    Drained(WorkerId, usize),
    /// It could not start, or lost its sockets.
    Failed(WorkerId, String),
    /// A task of it panicked with this message: nothing of it can be trusted any more.
    Panicked(WorkerId, String),
}

/// The giving side of a worker's mailbox.
#[derive(Clone)]
pub struct WorkerHandle {
    /// Which worker.
    pub id: WorkerId,
    commands: mpsc::Sender<Command>,
    doorbell: Doorbell,
}

impl WorkerHandle {
    /// Send an order. False: the worker has ended.
    pub fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.doorbell.ring()
    }
}

impl ShardSource for WorkerHandle {
    fn request_swap(&self, request: SwapRequest) {
        // A refused order drops the request, which tells the asker.
        self.send(Command::SwapMetrics(request));
    }
}

/// The worker's side.
pub struct Mailbox {
    commands: mpsc::Receiver<Command>,
    bell: Bell,
}

/// A mailbox and its giving side.
pub fn mailbox(id: WorkerId) -> io::Result<(WorkerHandle, Mailbox)> {
    let (sender, commands) = mpsc::channel();
    let (doorbell, bell) = doorbell()?;
    Ok((WorkerHandle { id, commands: sender, doorbell }, Mailbox { commands, bell }))
}

impl Mailbox {
    /// On the worker's runtime: call `handle` with each order, until every giving side is gone.
    pub async fn serve(self, driver: Driver, mut handle: impl FnMut(Command)) -> io::Result<()> {
        let mut bell = self.bell.hang(driver)?;
        loop {
            let rung = bell.rung().await?;
            while let Ok(command) = self.commands.try_recv() {
                handle(command);
            }
            if !rung {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::pin::pin;
    use std::task::Poll;

    use crate::net::runtime::{self, DriverChoice};

    /// Between two orders the worker must do other things.
    fn waits_without_blocking(driver: Driver) {
        let (handle, mailbox) = mailbox(WorkerId(0)).expect("a pair of sockets");
        // Without this the test would hang instead of fail.
        let (done, is_done) = mpsc::channel::<()>();
        let rescuer = handle.clone();
        let rescue = std::thread::spawn(move || {
            let late = is_done.recv_timeout(Duration::from_secs(10)).is_err();
            if late {
                rescuer.send(Command::Drain(Duration::ZERO));
            }
            late
        });
        assert!(handle.send(Command::Drain(Duration::ZERO)));
        let ended = runtime::run(driver, async {
            let orders = Cell::new(0);
            let mut serving = pin!(mailbox.serve(driver, |_| orders.set(orders.get() + 1)));
            let mut other = pin!(async {
                while orders.get() == 0 {
                    crate::net::sleep(Duration::from_millis(1)).await;
                }
                crate::net::sleep(Duration::from_millis(1)).await;
            });
            std::future::poll_fn(|task| {
                if serving.as_mut().poll(task).is_ready() {
                    return Poll::Ready(false);
                }
                other.as_mut().poll(task).map(|()| true)
            })
            .await
        });
        let _ = done.send(());
        assert!(matches!(ended, Ok(true)));
        assert!(!rescue.join().expect("does not panic"), "the worker was blocked");
    }

    #[test]
    fn epoll_waits_without_blocking() {
        waits_without_blocking(Driver::Epoll);
    }

    #[test]
    fn the_usual_driver_waits_without_blocking() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        waits_without_blocking(driver);
    }
}
