//! The runtime of one worker: an io_uring with the flags that make it cheap, or epoll.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

/// Submission entries of a worker's ring; the completion queue has four times as many.
const RING_ENTRIES: u32 = 4096;

/// What a worker's input and output run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// io_uring with `SINGLE_ISSUER | DEFER_TASKRUN`, since Linux 6.1.
    DeferTaskrun,
    /// io_uring with `COOP_TASKRUN`, since Linux 5.19.
    CoopTaskrun,
    /// io_uring without flags.
    PlainRing,
    /// Readiness by epoll: where io_uring is missing or forbidden.
    Epoll,
}

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DriverChoice {
    /// The cheapest that this machine allows.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    fn ring(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(RING_ENTRIES * 4);
        match self {
            Driver::DeferTaskrun => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            Driver::CoopTaskrun => {
                builder.setup_coop_taskrun();
            }
            Driver::PlainRing | Driver::Epoll => {}
        }
        builder
    }

    /// The cheapest driver that this machine allows.
    pub(crate) fn choose(choice: DriverChoice) -> io::Result<Driver> {
        if choice == DriverChoice::Epoll {
            return Ok(Driver::Epoll);
        }
        let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
        if monoio::utils::detect_uring() {
            for driver in [Driver::DeferTaskrun, Driver::CoopTaskrun, Driver::PlainRing] {
                match driver.ring().build(RING_ENTRIES) {
                    Ok(_) => return Ok(driver),
                    Err(error) => refusal = error,
                }
            }
        }
        if choice == DriverChoice::IoUring { Err(refusal) } else { Ok(Driver::Epoll) }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::DeferTaskrun => "io_uring SINGLE_ISSUER|DEFER_TASKRUN",
            Driver::CoopTaskrun => "io_uring COOP_TASKRUN",
            Driver::PlainRing => "io_uring without flags",
            Driver::Epoll => "epoll",
        })
    }
}

/// Runs `main` on a runtime of this thread, to which the ring belongs. The error is in words.
pub(crate) fn run<T>(driver: Driver, main: impl Future<Output = T>) -> Result<T, String> {
    type Ring = TimeDriver<IoUringDriver>;
    type Epoll = TimeDriver<LegacyDriver>;
    let built: io::Result<FusionRuntime<Ring, Epoll>> = match driver {
        Driver::Epoll => {
            RuntimeBuilder::<LegacyDriver>::new().enable_timer().build().map(Into::into)
        }
        ring => RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(ring.ring())
            .enable_timer()
            .build()
            .map(Into::into),
    };
    let runtime = built.map_err(|error| format!("the runtime could not be built: {error}"))?;
    // Operations may be in flight afterwards whose buffers it owns: it is left as it is.
    let mut runtime = ManuallyDrop::new(runtime);
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(main))).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        format!("a worker panicked: {}", text.unwrap_or_default())
    })
}
