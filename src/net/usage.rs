//! What threads, rings and the process use, asked of the kernel by threads that are not workers: a
//! worker's own clock and ring are read from outside, and it does nothing for it.

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::metrics::{ProcessUsage, RingUsage, WorkerUsage};

/// Only one ring is made at a time, so that the new descriptor is known by the difference.
static MAKING: Mutex<()> = Mutex::new(());

thread_local! {
    static OWN_RING: Cell<Option<RawFd>> = const { Cell::new(None) };
}

/// While a thread makes its ring.
pub(super) struct MakingRing {
    before: Vec<RawFd>,
    _alone: MutexGuard<'static, ()>,
}

impl MakingRing {
    /// Before the ring is made.
    pub(super) fn begin() -> MakingRing {
        let alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        MakingRing { before: rings().unwrap_or_default(), _alone: alone }
    }

    /// The ring was made on this thread. Where that cannot be told for sure, nothing is known of it.
    pub(super) fn end(self) {
        let after = rings().unwrap_or_default();
        let mut new = after.into_iter().filter(|ring| !self.before.contains(ring));
        let ring = match (new.next(), new.next()) {
            (Some(ring), None) => Some(ring),
            _ => None,
        };
        OWN_RING.set(ring);
    }
}

/// Descriptors of this process that are rings.
fn rings() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // A descriptor may be closed meanwhile.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        if target.as_os_str() == "anon_inode:[io_uring]"
            && let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok())
        {
            found.push(number);
        }
    }
    Ok(found)
}

/// A thread that can be asked about from others.
#[derive(Clone, Copy, Debug)]
pub struct ThreadHandle {
    clock: libc::clockid_t,
    ring: Option<RawFd>,
}

impl ThreadHandle {
    /// This thread, with the ring that its runtime was built on. None where its clock cannot be had.
    pub fn current() -> Option<ThreadHandle> {
        let mut clock: libc::clockid_t = 0;
        // SAFETY: asks for a number that belongs to this live thread; `clock` is a valid place for it.
        let failed = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &mut clock) };
        (failed == 0).then(|| ThreadHandle { clock, ring: OWN_RING.get() })
    }
}

/// Follows a thread. Must be asked at least every few minutes: the kernel's counts of a ring have 32 bits.
#[derive(Debug)]
pub struct ThreadProbe {
    thread: ThreadHandle,
    last: Option<(u32, u32)>,
    ring: RingUsage,
}

impl ThreadProbe {
    /// Follow `thread`.
    pub fn new(thread: ThreadHandle) -> ThreadProbe {
        ThreadProbe { thread, last: None, ring: RingUsage::default() }
    }

    /// What it has used since it started. None when it has ended.
    pub fn usage(&mut self) -> Option<WorkerUsage> {
        let cpu = cpu_time(self.thread.clock)?;
        let counts = self.thread.ring.and_then(|ring| {
            let text = fs::read_to_string(format!("/proc/self/fdinfo/{ring}")).ok()?;
            ring_counts(&text)
        });
        let ring = counts.map(|counts| {
            // A ring begins at nought.
            let (submitted, completed) = self.last.replace(counts).unwrap_or((0, 0));
            self.ring.submissions += u64::from(counts.0.wrapping_sub(submitted));
            self.ring.completions += u64::from(counts.1.wrapping_sub(completed));
            self.ring
        });
        Some(WorkerUsage { cpu, ring })
    }
}

fn cpu_time(clock: libc::clockid_t) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a system call that writes to a live structure; a clock whose thread has ended is an error.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) };
    (failed == 0).then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// Submissions and completions that a ring has seen, from its `fdinfo`: the tails only grow.
fn ring_counts(text: &str) -> Option<(u32, u32)> {
    let field = |name: &str| -> Option<u32> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().parse().ok()
    };
    Some((field("SqTail:")?, field("CqTail:")?))
}

/// What this process uses. None where `/proc` is not there.
pub fn process_usage() -> Option<ProcessUsage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let mut usage = from_stat(&stat, page_bytes()?)?;
    usage.cpu = cpu_time(libc::CLOCK_PROCESS_CPUTIME_ID)?;
    usage.started_unix_ms += boot_unix_ms()?;
    usage.open_fds = open_descriptors()?;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a system call that writes to a live structure.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0 {
        usage.max_fds = limit.rlim_cur;
    }
    Some(usage)
}

/// Threads, start (milliseconds since the machine started) and memory from `/proc/self/stat`. Ticks are
/// hundredths of a second on every Linux that this program is built for.
fn from_stat(text: &str, page_bytes: u64) -> Option<ProcessUsage> {
    // The name, in parentheses, may have anything in it.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc(5) counts from 1, and two fields stand before.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(ProcessUsage {
        threads: field(20)?,
        started_unix_ms: field(22)?.saturating_mul(10),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.saturating_mul(page_bytes),
        ..ProcessUsage::default()
    })
}

fn page_bytes() -> Option<u64> {
    // SAFETY: asks for a constant of the system.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).ok()
}

/// When the machine started.
fn boot_unix_ms() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse::<u64>().ok()?.checked_mul(1000)
}

/// The size of the folder is their number since Linux 6.2; before, they are counted.
fn open_descriptors() -> Option<u64> {
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 {
        return Some(size);
    }
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::runtime::{self, Driver, DriverChoice};

    #[test]
    fn a_ring_is_read_from_the_kernels_text() {
        let text = "pos:\t0\nflags:\t02000002\nSqMask:\t0xfff\nSqHead:\t7\nSqTail:\t4294967295\n\
                    CachedSqHead:\t7\nCqMask:\t0x3fff\nCqHead:\t9\nCqTail:\t12\nCachedCqTail:\t12\n";
        assert_eq!(ring_counts(text), Some((u32::MAX, 12)));
        assert_eq!(ring_counts("pos:\t0\n"), None);
    }

    #[test]
    fn a_name_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 44 18 250 9000 3 0\n";
        let usage = from_stat(text, 4096).expect("all fields");
        assert_eq!((usage.threads, usage.started_unix_ms), (44, 2_500));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (9000, 3 * 4096));
        assert_eq!(from_stat("7 (a) S 1", 4096), None);
    }

    #[test]
    fn the_process_knows_itself() {
        let usage = process_usage().expect("there is /proc");
        assert!(usage.threads > 0 && usage.open_fds > 2 && usage.max_fds >= usage.open_fds);
        assert!(usage.resident_bytes > 1 << 20 && usage.virtual_bytes > usage.resident_bytes);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = now.expect("after 1970").as_millis() as u64;
        assert!(usage.started_unix_ms <= now_ms + 1000, "{usage:?}");
        assert!(usage.started_unix_ms > now_ms - 86_400_000, "{usage:?}");
    }

    /// Two workers at once, read from a third thread: each has its own clock and its own ring.
    #[test]
    fn threads_are_followed_from_outside() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        let (sender, receiver) = std::sync::mpsc::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let workers: Vec<_> = [1_u32, 40]
            .map(|connects| {
                let sender = sender.clone();
                let (end, ended) = std::sync::mpsc::channel::<()>();
                let thread = std::thread::spawn(move || {
                    runtime::run(driver, async move {
                        let thread = ThreadHandle::current().expect("its clock");
                        for _ in 0..connects {
                            let limit = Duration::from_secs(10);
                            let connected =
                                crate::net::connect::connect(address, limit, driver, None).await;
                            connected.expect("it listens");
                        }
                        sender.send((connects, thread)).expect("somebody listens");
                        let _ = ended.recv();
                    })
                });
                (end, thread)
            })
            .into_iter()
            .collect();
        let mut seen = [receiver.recv().expect("one"), receiver.recv().expect("the other")];
        seen.sort_by_key(|(connects, _)| *connects);
        let usages = seen.map(|(_, thread)| ThreadProbe::new(thread).usage().expect("it lives"));
        assert!(usages.iter().all(|usage| usage.cpu > Duration::ZERO));
        if matches!(driver, Driver::IoUring(_)) {
            let rings = usages.map(|usage| usage.ring.expect("its ring was found"));
            assert_ne!(seen[0].1.ring, seen[1].1.ring);
            assert!(rings[1].completions >= rings[0].completions + 30, "{rings:?}");
            assert!(rings[1].submissions >= rings[0].submissions + 30, "{rings:?}");
        }
        for (end, thread) in workers {
            drop(end);
            thread.join().expect("no panic").expect("it ran");
        }
    }
}
