//! After `101 Switching Protocols`: bytes both ways until both sides have finished.

use std::cell::Cell;
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;

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
    let mut buffer = first;
    loop {
        if !buffer.is_empty() {
            bytes.set(bytes.get() + buffer.len() as u64);
            let was_full = buffer.is_full();
            let (outcome, sent) = to.send_buffer(buffer).await;
            if outcome.is_err() {
                return false;
            }
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
