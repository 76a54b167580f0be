//! Orders to a worker, and what it reports.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use monoio::io::AsyncReadRent;

use crate::ids::WorkerId;
use crate::metrics::{ShardSource, SwapRequest};
use crate::snapshot::Snapshot;

/// An order to a worker.
pub enum Command {
    /// Route by this snapshot from the next request on.
    Publish {
        /// The worker's own copy.
        snapshot: Box<Snapshot>,
        /// Sockets of listeners that are new in it.
        sockets: Vec<(SocketAddr, TcpListener)>,
    },
    /// Give back what was counted so far.
    SwapMetrics(SwapRequest),
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
    wake: Arc<UnixStream>,
}

impl WorkerHandle {
    /// Send an order. False: the worker has ended.
    pub fn send(&self, command: Command) -> bool {
        if self.commands.send(command).is_err() {
            return false;
        }
        // A full pipe is as good as a written byte: the worker is going to look.
        match (&*self.wake).write_all(&[1]) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
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
    wake: UnixStream,
}

/// A mailbox and its giving side.
pub fn mailbox(id: WorkerId) -> io::Result<(WorkerHandle, Mailbox)> {
    let (sender, commands) = mpsc::channel();
    let (giving, waiting) = UnixStream::pair()?;
    giving.set_nonblocking(true)?;
    let handle = WorkerHandle { id, commands: sender, wake: Arc::new(giving) };
    Ok((handle, Mailbox { commands, wake: waiting }))
}

impl Mailbox {
    /// On the worker's runtime: call `handle` with each order, until every giving side is gone.
    pub async fn serve(self, mut handle: impl FnMut(Command)) -> io::Result<()> {
        let mut wake = monoio::net::UnixStream::from_std(self.wake)?;
        let mut bytes = vec![0u8; 64];
        loop {
            let (outcome, back) = wake.read(bytes).await;
            bytes = back;
            let closed = outcome? == 0;
            while let Ok(command) = self.commands.try_recv() {
                handle(command);
            }
            if closed {
                return Ok(());
            }
        }
    }
}
