//! Waking a worker from another thread: a byte through a pipe that its runtime reads.

use std::io::{self, Write};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::sync::Arc;

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

use super::runtime::Driver;

/// Rings taken at once.
const RINGS_MAX: usize = 64;

/// The button, for any thread.
#[derive(Clone)]
pub struct Doorbell(Arc<StdUnixStream>);

/// The bell, on its way to the worker.
pub struct Bell(StdUnixStream);

/// The bell on the worker's runtime.
pub struct HungBell {
    rings: UnixStream,
    bytes: Vec<u8>,
}

/// A button and its bell.
pub fn doorbell() -> io::Result<(Doorbell, Bell)> {
    let (button, bell) = StdUnixStream::pair()?;
    button.set_nonblocking(true)?;
    Ok((Doorbell(Arc::new(button)), Bell(bell)))
}

impl Doorbell {
    /// Ring. False: nobody is there to hear it.
    pub fn ring(&self) -> bool {
        // A full pipe is as good as a written byte: the worker is going to look.
        match (&*self.0).write_all(&[1]) {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

impl Bell {
    /// Hang it up on this thread's runtime.
    pub fn hang(self, driver: Driver) -> io::Result<HungBell> {
        // A ring waits for a blocking descriptor itself; under epoll a blocking read would stop the
        // whole worker.
        self.0.set_nonblocking(driver == Driver::Epoll)?;
        Ok(HungBell { rings: UnixStream::from_std(self.0)?, bytes: vec![0; RINGS_MAX] })
    }
}

impl HungBell {
    /// Wait until somebody rings; false when every button is gone.
    pub async fn rung(&mut self) -> io::Result<bool> {
        let (outcome, bytes) = self.rings.read(std::mem::take(&mut self.bytes)).await;
        self.bytes = bytes;
        Ok(outcome? > 0)
    }
}
