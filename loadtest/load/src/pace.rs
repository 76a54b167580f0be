//! A timer for one waiter: the kernel's, exact to microseconds where the runtime's counts whole
//! milliseconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;

use monoio::net::UnixStream;

use crate::schedule::{Nanos, SECOND};

/// A timer descriptor that the runtime waits for.
pub(crate) struct PaceTimer {
    /// The runtime polls descriptors only through its own types of streams; nothing but readiness is
    /// asked of this one.
    descriptor: UnixStream,
}

impl PaceTimer {
    pub(crate) fn new() -> io::Result<PaceTimer> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers are passed.
        let descriptor = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just made and has no other owner.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let descriptor = UnixStream::from_std(StdUnixStream::from(descriptor))?;
        Ok(PaceTimer { descriptor })
    }

    /// Waits for so long.
    pub(crate) async fn wait(&self, nanos: Nanos) -> io::Result<()> {
        self.set(nanos.max(1))?;
        self.descriptor.readable(false).await
    }

    /// Ends the wait under way at once.
    pub(crate) fn hurry(&self) {
        // It cannot fail where the first setting did not.
        let _ = self.set(1);
    }

    /// Setting it again also takes back an expiry that nobody read.
    fn set(&self, nanos: Nanos) -> io::Result<()> {
        let value = libc::timespec {
            tv_sec: (nanos / SECOND) as libc::time_t,
            tv_nsec: (nanos % SECOND) as libc::c_long,
        };
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let times = libc::itimerspec { it_interval: none, it_value: value };
        // SAFETY: the times outlive the call, and the old ones are not asked for.
        let result = unsafe {
            libc::timerfd_settime(self.descriptor.as_raw_fd(), 0, &times, std::ptr::null_mut())
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
