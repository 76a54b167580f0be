//! A worker's tick, kept by a timer descriptor.
//!
//! The runtime's own timers become the time-out of the system call that waits for completions. While one
//! is set, the kernel starts a timer before each wait and takes it back after it, on the way of every
//! request that finds the worker asleep. What ticks for as long as the worker lives must not cost that: a
//! descriptor that becomes readable is one more operation of the ring, at each tick and not at each wait.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use monoio::net::UnixStream;

/// Ticks at equal distances, for one task.
pub struct Ticker {
    period: Duration,
    /// The runtime waits for descriptors only by its own types of streams; nothing but whether it can be
    /// read is asked of this one. None: there is no such timer, and the runtime's is used.
    timer: Option<UnixStream>,
}

impl Ticker {
    /// A tick after every `period`, the first one a period from now, on this thread's runtime. Not zero.
    pub fn new(period: Duration) -> Ticker {
        Ticker { period, timer: timer(period).ok() }
    }

    /// Wait for the next tick. Those that nobody waited for count as one.
    pub async fn tick(&self) {
        if let Some(timer) = &self.timer
            && timer.readable(false).await.is_ok()
            && expired(timer.as_raw_fd())
        {
            return;
        }
        // Without a timer, or with one that fails, time must pass here all the same.
        super::sleep(self.period).await;
    }
}

/// A timer that goes off after every `period`.
fn timer(period: Duration) -> io::Result<UnixStream> {
    // SAFETY: no pointers are passed.
    let made = unsafe {
        libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
    };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it was just made and has no other owner.
    let descriptor = unsafe { OwnedFd::from_raw_fd(made) };
    let distance = libc::timespec {
        tv_sec: libc::time_t::try_from(period.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(period.subsec_nanos()),
    };
    let times = libc::itimerspec { it_interval: distance, it_value: distance };
    // SAFETY: the times outlive the call, and the old ones are not asked for.
    let set =
        unsafe { libc::timerfd_settime(descriptor.as_raw_fd(), 0, &times, std::ptr::null_mut()) };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    UnixStream::from_std(StdUnixStream::from(descriptor))
}

/// Take the expiries of a timer, so that it can be waited for again. False: there were none.
fn expired(timer: libc::c_int) -> bool {
    let mut count = 0u64;
    // SAFETY: a live `u64` of exactly the length given; the descriptor does not block.
    let read = unsafe { libc::read(timer, (&raw mut count).cast(), size_of::<u64>()) };
    read == size_of::<u64>() as isize && count > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::net::runtime::{self, Driver, DriverChoice};

    const PERIOD: Duration = Duration::from_millis(2);

    fn usual() -> Driver {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        driver
    }

    /// The descriptor of a ticker that goes off once more.
    fn once_more(ticker: &Ticker) -> libc::c_int {
        let timer = ticker.timer.as_ref().map(AsRawFd::as_raw_fd).expect("a timer");
        let none = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let soon = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        let times = libc::itimerspec { it_interval: none, it_value: soon };
        // SAFETY: the times outlive the call, and the old ones are not asked for.
        let set = unsafe { libc::timerfd_settime(timer, 0, &times, std::ptr::null_mut()) };
        assert_eq!(set, 0);
        timer
    }

    fn ticks_on(driver: Driver) {
        runtime::run(driver, async {
            let ticker = Ticker::new(PERIOD);
            for _ in 0..3 {
                ticker.tick().await;
            }
            let timer = once_more(&ticker);
            ticker.tick().await;
            assert!(!expired(timer), "the tick was not taken, and would count again");
        })
        .expect("the runtime works");
    }

    #[test]
    fn it_ticks_under_the_usual_driver() {
        ticks_on(usual());
    }

    #[test]
    fn it_ticks_under_epoll() {
        ticks_on(Driver::Epoll);
    }

    #[test]
    fn an_expiry_is_taken_once() {
        runtime::run(usual(), async {
            let ticker = Ticker::new(PERIOD);
            let timer = once_more(&ticker);
            let readable = ticker.timer.as_ref().expect("a timer").readable(false);
            readable.await.expect("it goes off");
            assert!(expired(timer));
            assert!(!expired(timer));
        })
        .expect("the runtime works");
    }

    #[test]
    fn it_ticks_without_a_timer() {
        runtime::run(usual(), async {
            let ticker = Ticker { period: PERIOD, timer: None };
            ticker.tick().await;
            ticker.tick().await;
        })
        .expect("the runtime works");
    }
}
