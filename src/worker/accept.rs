//! Accepting connections on one listening socket.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::limits::ACCEPT_PAUSE;
use crate::net::listener::{Listener, has_waiting, stop};
use crate::proxy::{ListenerSlot, WorkerContext, arrival};

/// How often, a millisecond apart, a listener that is to stop looks for connections that wait.
const BACKLOG_TRIES: usize = 50;

/// A listening socket of this worker that is being served.
pub struct Accepting {
    /// Where, and the routes of its connections.
    pub slot: Rc<ListenerSlot>,
    descriptor: std::os::fd::RawFd,
    stopping: Rc<Cell<bool>>,
}

impl Accepting {
    /// Start accepting.
    pub fn start(
        context: &Rc<WorkerContext>,
        listener: Listener,
        slot: Rc<ListenerSlot>,
        connections_max: usize,
    ) -> Accepting {
        let stopping = Rc::new(Cell::new(false));
        let descriptor = listener.descriptor();
        crate::net::spawn(accept(
            Rc::clone(context),
            listener,
            Rc::clone(&slot),
            connections_max,
            Rc::clone(&stopping),
        ));
        Accepting { slot, descriptor, stopping }
    }

    /// Stop accepting; connections that were accepted stay. Those that the kernel has already
    /// completed are accepted first: closing the socket would reset them.
    pub async fn stop(self) {
        for _ in 0..BACKLOG_TRIES {
            if !has_waiting(self.descriptor) {
                break;
            }
            crate::net::sleep(Duration::from_millis(1)).await;
        }
        if !self.stopping.replace(true) {
            stop(self.descriptor);
        }
    }
}

async fn accept(
    context: Rc<WorkerContext>,
    listener: Listener,
    slot: Rc<ListenerSlot>,
    connections_max: usize,
    stopping: Rc<Cell<bool>>,
) {
    while !stopping.get() {
        if context.downstreams.len() >= connections_max {
            context.count(|counters, _| counters.accept_pauses += 1);
            crate::net::sleep(ACCEPT_PAUSE).await;
            continue;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                arrival::serve(&context, stream, peer, Rc::clone(&slot));
            }
            Err(_) if stopping.get() => break,
            Err(error) if is_transient(&error) => {
                context.count(|counters, _| counters.accept_errors += 1);
            }
            // Out of descriptors or memory: connections wait in the backlog until some are free.
            Err(_) => {
                context.count(|counters, _| {
                    counters.accept_errors += 1;
                    counters.accept_pauses += 1;
                });
                crate::net::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Did only this one connection fail (the client gave up while it waited)?
fn is_transient(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::EPROTO | libc::EINTR | libc::EAGAIN | libc::EPERM)
    )
}
