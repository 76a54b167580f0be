//! The only module that names the runtime: sockets, buffers, timers, and the ring's set-up.
//!
//! The I/O contract. A buffer is given away by value for the time of an operation and comes back
//! with its result, because the kernel writes to it meanwhile. Dropping a future of an operation in
//! flight cancels it; the runtime keeps the buffer until the kernel is done. Futures that *make* a
//! descriptor (accept) are never dropped while in flight: the runtime would leak the descriptor.
//!
//! Nothing here knows HTTP.

pub mod buffer;
pub mod connect;
pub mod doorbell;
mod hostname;
pub mod listener;
pub mod oneshot;
pub mod pooled_future;
pub mod runtime;
pub mod splice;
pub mod stream;
pub mod ticker;
pub mod usage;

pub use buffer::{Buffer, BufferPool};
pub use connect::TcpKeepalive;
pub use hostname::hostname;
pub use pooled_future::{FuturePool, PooledFuture};
pub use splice::PipePool;
pub use stream::{Layer, Stream};

use std::time::Duration;

/// Start a task on this worker.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(future));
}

/// Wait for `duration` (granularity 1 ms).
pub async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// Run `future` for at most `duration`; `None` when the time ran out. Only for futures that own no
/// descriptor in the making (see the module comment).
pub async fn within<T>(duration: Duration, future: impl Future<Output = T>) -> Option<T> {
    monoio::time::timeout(duration, future).await.ok()
}
