//! Bytes both ways until both sides have finished: after `101 Switching Protocols`, and on connections
//! that are routed as a whole.
//!
//! Between two bare sockets the kernel moves them ([`crate::net::splice`]): a tunnel in which nothing
//! moves holds no buffer at all. Where one side is a layer (TLS) they are copied, and an idle direction
//! holds a small buffer.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::context::WorkerContext;
use super::downstream::{Downstream, Phase};
use crate::ids::MetricSlot;
use crate::limits::TUNNEL_TURN_BYTES;
use crate::metrics::TcpSeries;
use crate::net::splice::{Carrier, Sockets};
use crate::net::{Buffer, Stream};
use crate::stream_info::ResponseFlags;

/// A receive of fewer bytes has emptied the socket: the next waits.
const DRAINED_BYTES: usize = 4096;
/// So often in a row a socket may have bytes that cannot be spliced before they are copied.
const FRUITLESS_MAX: u32 = 1;

/// Bytes that went each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tunnelled {
    /// From the client to the upstream.
    pub up_bytes: u64,
    /// From the upstream to the client.
    pub down_bytes: u64,
    /// A side failed, or took nothing for too long.
    pub failed: bool,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// How long a tunnel may last and what is counted of it.
pub struct Watch<'w> {
    /// The worker.
    pub context: &'w WorkerContext,
    /// The client's connection, whose deadline is the tunnel's.
    pub connection: &'w Downstream,
    /// It ends when no byte moved for this long, ms; none: never.
    pub idle_ms: Option<u64>,
    /// It ends at this worker time, ms; `u64::MAX`: never.
    pub until_ms: u64,
    /// It ends when a side takes nothing for this long; none: never.
    pub stall: Option<Duration>,
    /// Bytes are counted under these labels in Istio's TCP series; none: they are not.
    pub counted: Option<MetricSlot>,
    up_bytes: Cell<u64>,
    down_bytes: Cell<u64>,
}

impl<'w> Watch<'w> {
    /// Without limits; nothing is counted.
    pub fn new(context: &'w WorkerContext, connection: &'w Downstream) -> Watch<'w> {
        Watch {
            context,
            connection,
            idle_ms: None,
            until_ms: u64::MAX,
            stall: None,
            counted: None,
            up_bytes: Cell::new(0),
            down_bytes: Cell::new(0),
        }
    }

    /// The idle time begins anew.
    fn active(&self) {
        let idle_until = match self.idle_ms {
            Some(idle_ms) => self.context.clock.coarse_milliseconds().saturating_add(idle_ms),
            None => u64::MAX,
        };
        self.connection.wait(Phase::Tunnel, idle_until.min(self.until_ms));
    }

    /// These bytes were passed on.
    fn moved(&self, way: Way, bytes: usize) {
        let bytes = bytes as u64;
        let (total, counts) = match way {
            Way::Up => {
                (&self.up_bytes, TcpSeries { received_bytes: bytes, ..TcpSeries::default() })
            }
            Way::Down => {
                (&self.down_bytes, TcpSeries { sent_bytes: bytes, ..TcpSeries::default() })
            }
        };
        total.set(total.get() + bytes);
        if let Some(slot) = self.counted {
            self.context.metrics.record_tcp(slot, ResponseFlags::NONE, &counts);
        }
        self.active();
    }

    /// Wait until a side takes bytes. False: it failed, or took none for too long.
    async fn taken<T>(&self, ready: impl Future<Output = T>) -> Option<T> {
        match self.stall {
            Some(stall) => crate::net::within(stall, ready).await,
            None => Some(ready.await),
        }
    }
}

/// Move bytes both ways. `from_client` and `from_upstream` hold what came already. One side's end of
/// sending is passed on (half-close); an error ends both, and so does the deadline of the connection,
/// which [`Downstream::cut`]s it.
pub async fn run(
    watch: &Watch<'_>,
    upstream: &Stream,
    from_client: Buffer,
    from_upstream: Buffer,
) -> Tunnelled {
    let client = &watch.connection.stream;
    watch.active();
    let finished = match Sockets::of(client, upstream, watch.context.driver) {
        Some(_sockets) => {
            let up = splice(watch, Way::Up, client, upstream, from_client);
            let down = splice(watch, Way::Down, upstream, client, from_upstream);
            both(up, down).await
        }
        None => {
            let up = copy(watch, Way::Up, client, upstream, from_client);
            let down = copy(watch, Way::Down, upstream, client, from_upstream);
            both(up, down).await
        }
    };
    let (up_bytes, down_bytes) = (watch.up_bytes.get(), watch.down_bytes.get());
    Tunnelled { up_bytes, down_bytes, failed: !finished }
}

/// Until both have finished, or one has failed (false).
async fn both(up: impl Future<Output = bool>, down: impl Future<Output = bool>) -> bool {
    let (mut up, mut down) = (pin!(up), pin!(down));
    let (mut up_done, mut down_done) = (false, false);
    std::future::poll_fn(|task| {
        if !up_done && let Poll::Ready(finished) = up.as_mut().poll(task) {
            up_done = true;
            if !finished {
                return Poll::Ready(false);
            }
        }
        if !down_done && let Poll::Ready(finished) = down.as_mut().poll(task) {
            down_done = true;
            if !finished {
                return Poll::Ready(false);
            }
        }
        if up_done && down_done { Poll::Ready(true) } else { Poll::Pending }
    })
    .await
}

/// Splice until `from` has finished sending (true) or either side fails (false).
async fn splice(watch: &Watch<'_>, way: Way, from: &Stream, to: &Stream, first: Buffer) -> bool {
    let context = watch.context;
    let mut first = Carrier::Buffer(first);
    if !pass_all_on(watch, way, to, &mut first).await {
        return false;
    }
    if let Carrier::Buffer(buffer) = first {
        context.buffers.give(buffer);
    }
    let mut fruitless = 0;
    loop {
        if from.readable().await.is_err() {
            return false;
        }
        // Urgent data stops a splice and no copy.
        let pipe = if fruitless <= FRUITLESS_MAX { context.pipes.lend() } else { None };
        let mut carrier = match pipe {
            Some(pipe) => Carrier::Pipe(pipe),
            None => Carrier::Buffer(context.buffers.take_large()),
        };
        let moved = turn(watch, way, (from, to), &mut carrier).await;
        if let Carrier::Buffer(buffer) = carrier {
            context.buffers.give(buffer);
        }
        match moved {
            Turn::Moved(0) => fruitless += 1,
            Turn::Moved(_) => fruitless = 0,
            Turn::Finished => {
                to.shutdown(Shutdown::Write);
                return true;
            }
            Turn::Failed => return false,
        }
    }
}

/// What came of a turn.
enum Turn {
    /// So many bytes went over, and no more are there or others have their turn.
    Moved(usize),
    /// `from` has finished sending.
    Finished,
    /// A side failed.
    Failed,
}

/// Move what is there, until nothing is or others must have their turn.
async fn turn(
    watch: &Watch<'_>,
    way: Way,
    (from, to): (&Stream, &Stream),
    carrier: &mut Carrier<'_>,
) -> Turn {
    let mut moved = 0;
    while moved < TUNNEL_TURN_BYTES {
        match carrier.take_in(from) {
            Err(_) => return Turn::Failed,
            Ok(None) => break,
            Ok(Some(0)) => return Turn::Finished,
            Ok(Some(taken)) => {
                if !pass_all_on(watch, way, to, carrier).await {
                    return Turn::Failed;
                }
                moved += taken;
                if taken < DRAINED_BYTES {
                    break;
                }
            }
        }
    }
    Turn::Moved(moved)
}

/// Pass on all that `carrier` holds. False: `to` failed, or took nothing for too long.
async fn pass_all_on(watch: &Watch<'_>, way: Way, to: &Stream, carrier: &mut Carrier<'_>) -> bool {
    while carrier.held() > 0 {
        match carrier.pass_on(to) {
            Ok(Some(0)) | Err(_) => return false,
            Ok(Some(passed)) => watch.moved(way, passed),
            Ok(None) => match watch.taken(to.writable()).await {
                Some(Ok(())) => {}
                _ => return false,
            },
        }
    }
    true
}

/// Copy until `from` has finished sending (true) or either side fails (false). While nothing comes
/// only a small buffer is held; while much comes, a large one.
async fn copy(watch: &Watch<'_>, way: Way, from: &Stream, to: &Stream, first: Buffer) -> bool {
    let context = watch.context;
    let mut buffer = first;
    loop {
        if !buffer.is_empty() {
            let (was_full, bytes) = (buffer.is_full(), buffer.len());
            // A side that takes nothing must not hold both connections for ever.
            let Some((Ok(()), sent)) = watch.taken(to.send_buffer(buffer)).await else {
                return false;
            };
            watch.moved(way, bytes);
            // A full buffer says that more is coming; a small read says that it is not.
            buffer = match (was_full, sent.is_idle_size()) {
                (true, true) => context.buffers.take(),
                (true, false) if sent.capacity() < crate::limits::LARGE_BUFFER_BYTES => {
                    context.buffers.give(sent);
                    context.buffers.take_large()
                }
                (false, false) if bytes < crate::limits::BUFFER_BYTES / 2 => {
                    context.buffers.give(sent);
                    Buffer::idle()
                }
                _ => sent,
            };
        }
        let (outcome, received) = from.receive(buffer).await;
        buffer = received;
        match outcome {
            Ok(count) if count > 0 => {}
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return false,
            // Also the end of a socket that TLS did not announce, which many send: where bytes end is
            // for the two sides to know, and here it is passed on as it came. (So does Envoy.)
            _ => {
                to.shutdown(Shutdown::Write);
                context.buffers.give(buffer);
                return true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
