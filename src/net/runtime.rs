//! The runtime of one worker: an io_uring with the set-up flags that decide its cost, or epoll.

use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::usage::MakingRing;

/// Submission entries of a worker's ring; the completion queue has four times as many.
const RING_ENTRIES: u32 = 4096;

/// The flags of a worker's ring, cheapest first (measured: 7.8, 9.1 and 12.7 µs per request).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFlags {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`, since Linux 6.1.
    DeferTaskrun,
    /// `COOP_TASKRUN`, since Linux 5.19.
    CoopTaskrun,
    /// None.
    Plain,
}

impl RingFlags {
    /// Every set, cheapest first.
    pub const ALL: [RingFlags; 3] =
        [RingFlags::DeferTaskrun, RingFlags::CoopTaskrun, RingFlags::Plain];

    fn builder(self) -> io_uring::Builder {
        let mut builder = io_uring::IoUring::builder();
        builder.setup_cqsize(RING_ENTRIES * 4);
        match self {
            RingFlags::DeferTaskrun => {
                builder.setup_single_issuer().setup_defer_taskrun();
            }
            RingFlags::CoopTaskrun => {
                builder.setup_coop_taskrun();
            }
            RingFlags::Plain => {}
        }
        builder
    }

    /// Try to make a ring with these flags as a worker would, and drop it.
    pub fn probe(self) -> io::Result<()> {
        let _alone = MakingRing::begin();
        self.builder().build(RING_ENTRIES).map(drop)
    }
}

impl fmt::Display for RingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingFlags::DeferTaskrun => "SINGLE_ISSUER|DEFER_TASKRUN",
            RingFlags::CoopTaskrun => "COOP_TASKRUN",
            RingFlags::Plain => "none",
        })
    }
}

/// What the workers' I/O runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring with these flags.
    IoUring(RingFlags),
    /// Readiness by epoll: where io_uring is missing or forbidden.
    Epoll,
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Driver::IoUring(flags) => write!(f, "io_uring (flags: {flags})"),
            Driver::Epoll => f.write_str("epoll"),
        }
    }
}

/// Which driver the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DriverChoice {
    /// The cheapest that this machine allows.
    #[default]
    Auto,
    /// io_uring or an error.
    IoUring,
    /// epoll.
    Epoll,
}

impl Driver {
    /// The cheapest driver that this machine allows, and why io_uring was not taken if it was not.
    pub fn choose(choice: DriverChoice) -> Result<(Driver, Option<io::Error>), io::Error> {
        if choice == DriverChoice::Epoll {
            return Ok((Driver::Epoll, None));
        }
        let mut refusal = io::Error::from(io::ErrorKind::Unsupported);
        let detected = {
            let _alone = MakingRing::begin();
            monoio::utils::detect_uring()
        };
        if detected {
            for flags in RingFlags::ALL {
                match flags.probe() {
                    Ok(()) => return Ok((Driver::IoUring(flags), None)),
                    Err(error) => refusal = error,
                }
            }
        } else if let Err(error) = RingFlags::Plain.probe() {
            refusal = error;
        }
        match choice {
            DriverChoice::IoUring => Err(refusal),
            _ => Ok((Driver::Epoll, Some(refusal))),
        }
    }
}

/// Why a worker's runtime ended without its future's value.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// It could not be built.
    #[error("the runtime could not be built: {0}")]
    Build(io::Error),
    /// A task panicked; the text is its message.
    #[error("a task panicked: {0}")]
    Panicked(String),
}

/// Build the runtime on this thread (a ring belongs to the thread that drives it) and run `main` on
/// it. The runtime is left as it is afterwards: operations may still be in flight whose buffers it
/// owns, and the process is about to end.
pub fn run<T>(driver: Driver, main: impl Future<Output = T>) -> Result<T, RuntimeError> {
    type Ring = TimeDriver<IoUringDriver>;
    type Epoll = TimeDriver<LegacyDriver>;
    let making = MakingRing::begin();
    let runtime: FusionRuntime<Ring, Epoll> = match driver {
        Driver::IoUring(flags) => RuntimeBuilder::<IoUringDriver>::new()
            .with_entries(RING_ENTRIES)
            .uring_builder(flags.builder())
            .enable_timer()
            .build()
            .map_err(RuntimeError::Build)?
            .into(),
        Driver::Epoll => RuntimeBuilder::<LegacyDriver>::new()
            .enable_timer()
            .build()
            .map_err(RuntimeError::Build)?
            .into(),
    };
    making.end();
    let mut runtime = ManuallyDrop::new(runtime);
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(main))).map_err(|payload| {
        let message = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "no message".to_owned());
        RuntimeError::Panicked(message)
    })
}
