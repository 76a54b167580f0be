//! What the connections of one worker share: buffers, and slots for operations in flight.

use std::rc::Rc;

use crate::net::{BufferPool, FuturePool};

/// Pools of one worker for its TLS connections. A cheap handle.
#[derive(Clone, Debug)]
pub struct TlsPools {
    /// Buffers for ciphertext, and for plaintext that nobody took yet.
    pub buffers: Rc<BufferPool>,
    /// Slots of receives in flight.
    pub receives: Rc<FuturePool>,
    /// Slots of sends in flight.
    pub sends: Rc<FuturePool>,
}

impl TlsPools {
    /// New slots over the buffers of a worker.
    pub fn new(buffers: Rc<BufferPool>) -> TlsPools {
        TlsPools { buffers, receives: FuturePool::new(), sends: FuturePool::new() }
    }
}
