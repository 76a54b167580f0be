//! After `101 Switching Protocols`: bytes both ways until both sides have finished.

use std::cell::Cell;
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::context::WorkerContext;
use crate::net::{Buffer, Stream};

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tunnelled {
    /// From the client to the upstream.
    pub up_bytes: u64,
    /// From the upstream to the client.
    pub down_bytes: u64,
}

/// Move bytes both ways. `from_client` and `from_upstream` hold what came behind the heads. One
/// side's end of sending is passed on (half-close); an error ends both.
pub async fn run(
    context: &WorkerContext,
    client: &Stream,
    upstream: &Stream,
    from_client: Buffer,
    from_upstream: Buffer,
) -> Tunnelled {
    let up_bytes = Cell::new(0);
    let down_bytes = Cell::new(0);
    {
        let mut up = pin!(copy(context, client, upstream, from_client, &up_bytes));
        let mut down = pin!(copy(context, upstream, client, from_upstream, &down_bytes));
        let (mut up_done, mut down_done) = (false, false);
        std::future::poll_fn(|task| {
            if !up_done && let Poll::Ready(finished) = up.as_mut().poll(task) {
                up_done = true;
                if !finished {
                    return Poll::Ready(());
                }
            }
            if !down_done && let Poll::Ready(finished) = down.as_mut().poll(task) {
                down_done = true;
                if !finished {
                    return Poll::Ready(());
                }
            }
            if up_done && down_done { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
    Tunnelled { up_bytes: up_bytes.get(), down_bytes: down_bytes.get() }
}

/// Copy until `from` has finished sending (true) or either side fails (false). While nothing comes
/// only a small buffer is held.
async fn copy(
    context: &WorkerContext,
    from: &Stream,
    to: &Stream,
    first: Buffer,
    bytes: &Cell<u64>,
) -> bool {
    let timeout = Duration::from_millis(context.progress_timeout_ms());
    let mut buffer = first;
    loop {
        if !buffer.is_empty() {
            bytes.set(bytes.get() + buffer.len() as u64);
            let was_full = buffer.is_full();
            let sending = to.send_buffer(buffer);
            // A side that takes nothing must not hold both connections for ever.
            let Some((Ok(()), sent)) = crate::net::within(timeout, sending).await else {
                return false;
            };
            // A full buffer says that more is coming; a small read says that it is not.
            buffer = match (was_full, sent.is_idle_size()) {
                (true, true) => context.buffers.take(),
                (false, false) => {
                    context.buffers.give(sent);
                    Buffer::idle()
                }
                _ => sent,
            };
        }
        let (outcome, received) = from.receive(buffer).await;
        buffer = received;
        match outcome {
            Ok(0) => {
                to.shutdown(Shutdown::Write);
                context.buffers.give(buffer);
                return true;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    use crate::ids::WorkerId;
    use crate::net::connect::loopback_pair;
    use crate::net::runtime::{self, Driver, DriverChoice};
    use crate::proxy::context::Replica;
    use crate::snapshot::{Settings, Snapshot};

    #[test]
    fn a_side_that_takes_nothing_ends_the_tunnel() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        let moved = runtime::run(driver, async {
            let context = crate::proxy::WorkerContext::new(WorkerId(0), driver, None);
            let settings =
                Settings { progress_timeout: Duration::from_millis(20), ..Settings::default() };
            *context.replica.borrow_mut() = Rc::new(Replica {
                snapshot: Snapshot { settings, ..Snapshot::default() },
                ..Replica::default()
            });
            let (client, client_end) = loopback_pair(driver, Some(4096)).await;
            let (upstream, mut upstream_end) = loopback_pair(driver, Some(4096)).await;
            let writer = std::thread::spawn(move || {
                use std::io::Write;
                // Until the tunnel ends.
                while upstream_end.write_all(&[1; 64 * 1024]).is_ok() {}
            });
            let moved =
                run(&context, &client, &upstream, Buffer::idle(), context.buffers.take()).await;
            upstream.shutdown(Shutdown::Both);
            drop((client, upstream, client_end));
            (moved, writer)
        })
        .expect("the runtime works");
        assert_eq!(moved.0.up_bytes, 0);
        assert!(moved.0.down_bytes > 0);
    }
}
